"""Write the goldens of training: what torch's optimizers do to a tiny model of generate.py.

  training.py optimizers   optimizers.json: losses and weights after three steps of each optimizer on llama-biases
  training.py dora         dora.json: PEFT's adapters with magnitudes beside llama-biases, their logits, loss and gradients

The batch is that of the model's golden.json.
"""

from __future__ import annotations

import json
import sys

import peft
import torch
from generate import HERE, load, response_loss, versions, write_json

MODEL = "llama-biases"
STEPS = 3
SAMPLES = 8  # weights kept of each parameter, evenly spread
OPTIMIZERS = {
    "adamw": (torch.optim.AdamW, {"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}),
    "sgd": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.8}),
    "adafactor": (torch.optim.Adafactor, {"lr": 0.02, "weight_decay": 0.1}),
}


def optimizers() -> None:
    golden = json.loads((HERE / MODEL / "golden.json").read_text())
    cases = {}
    for name, (optimizer, options) in OPTIMIZERS.items():
        model = load(HERE / MODEL)
        steps = optimizer(model.parameters(), **options, foreach=False)
        losses = []
        for _ in range(STEPS):
            steps.zero_grad()
            loss = response_loss(model, golden["sequences"], golden["responses"])
            loss.backward()
            losses.append(loss.item())
            steps.step()
        parameters = {}
        for key, value in model.named_parameters():
            indices = [i * value.numel() // SAMPLES for i in range(SAMPLES)]
            parameters[key] = {"indices": indices, "values": value.detach().flatten()[indices].tolist()}
        cases[name] = {"options": options, "losses": losses, "parameters": parameters}
        print(name, losses, file=sys.stderr)
    write_json(HERE / "optimizers.json", {"versions": versions(), "model": MODEL, **cases})


RANK = 3
ALPHA = 6.0
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def dora() -> None:
    golden = json.loads((HERE / MODEL / "golden.json").read_text())
    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=MODULES, lora_dropout=0.0, use_dora=True)
    model = peft.get_peft_model(load(HERE / MODEL), config).eval()
    generator = torch.Generator().manual_seed(31)
    for name, value in model.named_parameters():
        if "lora_" in name:
            noise = torch.randn(value.shape, generator=generator)
            magnitude = "magnitude" in name
            value.data = value.data * (1 + 0.2 * noise) if magnitude else 0.3 * noise
    with torch.no_grad():
        logits = [model(torch.tensor([ids])).logits[0].tolist() for ids in golden["sequences"]]
    loss = response_loss(model, golden["sequences"], golden["responses"])
    loss.backward()
    values = peft.get_peft_model_state_dict(model)
    gradients = {}
    for name, value in model.named_parameters():
        if "lora_" in name:
            key = name.replace(".default", "")
            gradients[key if key in values else key.removesuffix(".weight")] = value.grad.flatten().tolist()
    assert values.keys() == gradients.keys()
    write_json(
        HERE / "dora.json",
        {
            "versions": versions() | {"peft": peft.__version__},
            "model": MODEL,
            "rank": RANK,
            "alpha": ALPHA,
            "values": {key: value.flatten().tolist() for key, value in values.items()},
            "logits": logits,
            "loss": loss.item(),
            "gradients": gradients,
        },
    )


if __name__ == "__main__":
    commands = {"optimizers": optimizers, "dora": dora}
    commands[sys.argv[1]]()
