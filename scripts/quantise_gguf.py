"""Quantises a GGUF file as llama-quantize does, with llama.cpp's own library out of an npm package.

    npm install --ignore-scripts @node-llama-cpp/linux-x64@3.21.1
    python scripts/quantise_gguf.py node_modules/@node-llama-cpp/linux-x64/bins/linux-x64 IN-f16.gguf OUT.gguf Q4_K_M

The types are mixes of others, as llama.cpp chooses: rows that are no multiple of 256 get a type without super-blocks, so that most of
SmolLM2-135M is Q5_0 in its Q4_K_M. IN.gguf is what make_gguf.py writes in f16.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
from pathlib import Path

# llama.h, enum llama_ftype
TYPES = {
    "Q4_0": 2,
    "Q8_0": 7,
    "Q2_K": 10,
    "Q3_K_M": 12,
    "Q4_K_S": 14,
    "Q4_K_M": 15,
    "Q5_K_M": 17,
    "Q6_K": 18,
    "IQ4_NL": 25,
    "IQ4_XS": 30,
}


class Parameters(ctypes.Structure):
    """llama_model_quantize_params: its first two fields, and room for the rest, which keeps its defaults."""

    _fields_ = [("threads", ctypes.c_int32), ("type", ctypes.c_int32), ("rest", ctypes.c_uint8 * 248)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("libraries", type=Path, help="folder with libllama and libggml")
    parser.add_argument("model", type=Path, help="a GGUF file in F16 or F32")
    parser.add_argument("out", type=Path, help="file to write")
    parser.add_argument("type", choices=TYPES)
    arguments = parser.parse_args()
    # Each needs those before it, and the loader looks for none in the folder.
    libraries = {}
    for name in ["libggml-base", "libggml", "libllama"]:
        path = next(path for path in arguments.libraries.glob(f"{name}.*so") if "-cpu" not in path.name)
        libraries[name] = ctypes.CDLL(str(path.resolve()), mode=ctypes.RTLD_GLOBAL)
    libraries["libggml"].ggml_backend_load_all_from_path(str(arguments.libraries.resolve()).encode())
    llama = libraries["libllama"]
    llama.llama_backend_init()
    llama.llama_model_quantize_default_params.restype = Parameters
    llama.llama_model_quantize.restype = ctypes.c_uint32
    llama.llama_model_quantize.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(Parameters)]
    parameters = llama.llama_model_quantize_default_params()
    parameters.type = TYPES[arguments.type]
    if llama.llama_model_quantize(str(arguments.model).encode(), str(arguments.out).encode(), ctypes.byref(parameters)):
        sys.exit(f"quantise_gguf.py: llama.cpp cannot quantise {arguments.model}")


main()
