"""Reload models that OML wrote, in transformers, and compare logits; give each a random adapter, through PEFT.

  OML_WRITE_FAMILIES=DIR cargo test -p oml-model --test decoder a_trained_model_of_every_family_is_read_back
  reload.py DIR

Every folder in DIR must load without a missing or unexpected tensor, compute the logits in its expected.json, and load
an adapter whose tensors have the names and shapes in peft.json.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from peft import LoraConfig, PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
TOLERANCE = 1e-5  # of the largest logit


def check(folder: Path, adapter: dict[str, list[int]]) -> None:
    model, report = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    strays = {kind: names for kind, names in report.items() if names}
    assert not strays, strays
    expected = json.loads((folder / "expected.json").read_text())
    with torch.no_grad():
        got = torch.cat([model.eval()(torch.tensor([ids])).logits[0] for ids in expected["sequences"]])
    wanted = torch.tensor(expected["logits"])
    distance = ((got - wanted).abs().max() / wanted.abs().max()).item()
    assert distance <= TOLERANCE, distance

    generator = torch.Generator().manual_seed(1)
    tensors = {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in adapter.items()}
    rank = next(shape[0] for name, shape in adapter.items() if "lora_A" in name)
    with tempfile.TemporaryDirectory() as path:
        save_file(tensors, Path(path) / "adapter_model.safetensors")
        modules = sorted({name.split(".")[-3] for name in adapter})
        LoraConfig(r=rank, target_modules=modules, task_type="CAUSAL_LM").save_pretrained(path)
        adapted = PeftModel.from_pretrained(model, path)
        loaded = dict(adapted.named_parameters())
        for name, tensor in tensors.items():
            assert torch.equal(loaded[name.replace(".weight", ".default.weight")], tensor), name
        with torch.no_grad():
            moved = adapted(torch.tensor(expected["sequences"][:1])).logits[0] - got[: len(expected["sequences"][0])]
    assert moved.abs().max() > 1e-3
    print(f"{folder.name}: logits within {distance:.1e}, {len(tensors)} adapter tensors loaded")


def main() -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    shapes = json.loads((HERE / "peft.json").read_text())
    for folder in sorted(Path(sys.argv[1]).iterdir()):
        check(folder, shapes[folder.name])


if __name__ == "__main__":
    main()
