"""Serves a Hugging Face folder with `transformers serve` on a free port of this machine: python transformers_serve.py MODEL

The model's name in the API is the folder's name, and no other is served. Prints `listening URL` once the model is loaded, and
ends when its standard input does, so that no server outlives whoever started it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

# The folder is all there is: nothing is looked up elsewhere.
os.environ["HF_HUB_OFFLINE"] = "1"

from transformers.cli.serve import Serve  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="a folder with config.json")
    arguments = parser.parse_args()
    model = arguments.model.resolve(strict=True)
    # The server takes a name and a path alike, and wants to hear the same one from its clients.
    os.chdir(model.parent)
    serve = Serve(
        force_model=model.name,
        device="cpu",
        host="127.0.0.1",
        port=0,
        non_blocking=True,
    )
    while not serve.server.started:
        time.sleep(0.05)
    port = serve.server.servers[0].sockets[0].getsockname()[1]
    print(f"listening http://127.0.0.1:{port}", flush=True)
    sys.stdin.read()
    serve.kill_server()


if __name__ == "__main__":
    main()
