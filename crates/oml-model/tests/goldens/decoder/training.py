"""Write the goldens of training: what torch's optimizers do to a tiny model of generate.py.

  training.py optimizers   optimizers.json: losses and weights after three steps of each optimizer on llama-biases

The batch is that of the model's golden.json.
"""

from __future__ import annotations

import json
import sys

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


if __name__ == "__main__":
    commands = {"optimizers": optimizers}
    commands[sys.argv[1]]()
