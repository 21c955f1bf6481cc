"""The workloads of `oml bench`, done in PyTorch the best plain way, one measurement per process.

  python scripts/torch_workloads.py WORKLOAD MODEL [--repeats N]      prints one JSON object

Plain means: Hugging Face transformers with SDPA attention, bf16 autocast over fp32 masters (or fp32), fused AdamW, all
cores, logits only at the positions that enter the loss, short sequences sorted and padded within micro-batches.
Normally started by bench_pytorch.py, which alternates it with `oml bench`.

Shapes: B sequences, T tokens (longest of the micro-batch), H hidden, V vocabulary, P response positions.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from torch import nn
from torch.nn.functional import cross_entropy, linear
from transformers import AutoModelForCausalLM

LORA_RANK, LORA_ALPHA = 16, 32


@dataclass(frozen=True)
class Sequence:
    """Token count, and how many of the last tokens are the response."""

    tokens: int
    response: int


W1 = [Sequence(48, 16)] * 16


def packed(tokens: int) -> list[Sequence]:
    """An embedding batch: lengths 17 to 48 in a fixed shuffle, one response token each, `tokens` in all."""
    sequences, left, index = [], tokens, 0
    while left > 0:
        length = 17 + 13 * index % 32
        if left - length < 17:  # a rest too short for a sequence of its own goes to the last one
            length = left
        sequences.append(Sequence(length, 1))
        left, index = left - length, index + 1
    return sequences


def token(s: int, t: int, vocabulary: int) -> int:
    return (7919 * s + 104729 * t + 31 * s * t * t + 17) % vocabulary


@dataclass
class MicroBatch:
    ids: torch.Tensor  # [B, T], right-padded: under a causal mask padding changes nothing before it
    rows: torch.Tensor  # [P]
    columns: torch.Tensor  # [P], positions whose next token is a response token
    targets: torch.Tensor  # [P]


def micro_batches(sequences: list[Sequence], vocabulary: int, tokens_each: int) -> list[MicroBatch]:
    """Sorts by length, then fills micro-batches of at most `tokens_each` padded tokens."""
    ordered = sorted(sequences, key=lambda sequence: sequence.tokens)
    groups: list[list[Sequence]] = [[]]
    for sequence in ordered:
        if groups[-1] and (len(groups[-1]) + 1) * sequence.tokens > tokens_each:
            groups.append([])
        groups[-1].append(sequence)
    batches, seen = [], 0
    for group in groups:
        ids = torch.zeros(len(group), group[-1].tokens, dtype=torch.long)
        rows, columns = [], []
        for row, sequence in enumerate(group):
            ids[row, : sequence.tokens] = torch.tensor([token(seen, t, vocabulary) for t in range(sequence.tokens)])
            rows += [row] * sequence.response
            columns += range(sequence.tokens - sequence.response - 1, sequence.tokens - 1)
            seen += 1
        rows, columns = torch.tensor(rows), torch.tensor(columns)
        batches.append(MicroBatch(ids, rows, columns, ids[rows, columns + 1]))
    return batches


class LoraLinear(nn.Module):
    """y = W x + b + (alpha / r) B A x, with W and b frozen and A [r, in], B [out, r] trained in fp32."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(LORA_RANK, base.in_features) / base.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(base.out_features, LORA_RANK))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + linear(linear(x, self.down), self.up) * (LORA_ALPHA / LORA_RANK)


def add_lora(model: nn.Module) -> None:
    """Freezes the model and puts LoRA on every linear layer but the head."""
    model.requires_grad_(False)
    for module in list(model.model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                setattr(module, name, LoraLinear(child))


def load(folder: Path, dtype: torch.dtype) -> nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")


def training(
    folder: Path, sequences: list[Sequence], *, lora: bool, bf16: bool, micro_tokens: int
) -> Callable[[], None]:
    # A frozen base needs no fp32 masters, so LoRA keeps it in bf16 and saves the cast of every step.
    model = load(folder, torch.bfloat16 if lora and bf16 else torch.float32).train()
    if lora:
        add_lora(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, weight_decay=1e-2, fused=True)
    batches = micro_batches(sequences, model.config.vocab_size, micro_tokens)
    responses = sum(sequence.response for sequence in sequences)

    def precision() -> AbstractContextManager:
        return torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        for batch in batches:
            with precision():
                hidden = model.model(batch.ids, use_cache=False).last_hidden_state  # [B, T, H]
                logits = model.lm_head(hidden[batch.rows, batch.columns])  # [P, V]
                loss = cross_entropy(logits.float(), batch.targets, reduction="sum") / responses
            loss.backward()
        optimizer.step()

    return step


BATCH, PROMPT, NEW = 16, 32, 16  # W2


def decoding(folder: Path) -> Callable[[], None]:
    model = load(folder, torch.bfloat16).eval()
    prompt = torch.tensor([[token(s, t, model.config.vocab_size) for t in range(PROMPT)] for s in range(BATCH)])

    @torch.inference_mode()
    def step() -> None:
        output = model(prompt, use_cache=True, logits_to_keep=1)
        for _ in range(NEW - 1):
            best = output.logits[:, -1:].argmax(-1)  # [B, 1]
            output = model(best, past_key_values=output.past_key_values, use_cache=True)
        output.logits[:, -1].argmax(-1)

    return step


def workload(name: str, folder: Path, tokens: int, micro_tokens: int) -> tuple[Callable[[], None], int]:
    """The thing to time, and how many tokens it processes (decode: generates)."""
    if name == "decode":
        return decoding(folder), BATCH * NEW
    sequences = packed(tokens) if name == "packed" else W1
    step = training(folder, sequences, lora=name == "lora", bf16=name != "fp32", micro_tokens=micro_tokens)
    return step, sum(sequence.tokens for sequence in sequences)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", choices=["full", "lora", "packed", "fp32", "decode"])
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=8192, help="size of the batch of `packed` (%(default)s)")
    parser.add_argument("--micro-tokens", type=int, default=2048, help="padded tokens per micro-batch (%(default)s)")
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.manual_seed(0)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    step, tokens = workload(arguments.workload, arguments.model, arguments.tokens, arguments.micro_tokens)
    seconds = []
    for index in range(arguments.warm_up + arguments.repeats):
        start = time.perf_counter()
        step()
        if index >= arguments.warm_up:
            seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    json.dump(
        {"seconds": median, "all_seconds": seconds, "tokens_per_second": tokens / median, "torch": torch.__version__},
        sys.stdout,
    )


if __name__ == "__main__":
    main()
