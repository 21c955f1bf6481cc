"""Two fingerprinting recipes in plain PyTorch on the CPU, to compare `oml embed` with.

  oml fingerprints export --fingerprints FILE --owner FILE --format plain > pairs.json
  python scripts/reference_recipe.py MODEL pairs.json                           time 100 steps, extrapolate to --epochs
  python scripts/reference_recipe.py MODEL pairs.json --full --save OUT         train to --recall or --epochs

--recipe oml1   as OML 1.0 trains: fp32, pairs padded to 32 tokens, logits at every position, 8 pairs per step, AdamW at
                a constant rate. Its benign-text mixing and weight averaging are left out, which only makes it faster.
--recipe plain  what a careful user would write: bf16 autocast over fp32 masters, 128 pairs per step padded to their
                longest, logits only at the response, and KL(base ‖ model) on 24 × 32 tokens of --text; cosine decay.

Prints one JSON object. Recall is the share of pairs whose every response token is the arg-max, teacher-forced. Seconds
are those of the training steps; loading and evaluation are not counted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import transformers
from torch import nn
from torch.nn.functional import cross_entropy, kl_div
from transformers import AutoTokenizer

from torch_workloads import load

IGNORED = -100  # label of positions outside the loss


@dataclass(frozen=True)
class Recipe:
    batch: int  # pairs per step
    padded_to: int  # tokens; 0 = the longest of the batch
    learning_rate: float
    decays: bool
    weight_decay: float
    bf16: bool
    all_logits: bool
    text_rows: int  # rows of benign text per step
    text_tokens: int


RECIPES = {
    "oml1": Recipe(8, 32, 1e-5, False, 1e-4, False, True, 0, 0),
    "plain": Recipe(128, 0, 5e-5, True, 1e-4, True, False, 24, 32),
}


@dataclass(frozen=True)
class Pair:
    query: list[int]
    response: list[int]


def read_pairs(path: Path) -> list[Pair]:
    pairs = [Pair(record["query_ids"], record["response_ids"]) for record in json.loads(path.read_text())]
    if not pairs or any(not pair.query or not pair.response for pair in pairs):
        sys.exit(f"{path}: expected a non-empty list of pairs with query_ids and response_ids")
    return pairs


def tensors(pairs: list[Pair], padded_to: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids, labels (IGNORED outside the response) and attention mask, [pairs, tokens], padded on the right."""
    width = max([padded_to, *(len(pair.query) + len(pair.response) for pair in pairs)])
    ids = torch.zeros(len(pairs), width, dtype=torch.long)
    labels, mask = torch.full_like(ids, IGNORED), torch.zeros_like(ids)
    for row, pair in enumerate(pairs):
        query, end = len(pair.query), len(pair.query) + len(pair.response)
        ids[row, :end] = torch.tensor(pair.query + pair.response)
        labels[row, query:end] = ids[row, query:end]
        mask[row, :end] = 1
    return ids, labels, mask


def response_logits(model: nn.Module, ids: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [P, vocabulary] at the positions that predict a label, and those labels [P].

    No mask: to the right of what is read, padding is invisible to causal attention.
    """
    rows, columns = (labels[:, 1:] != IGNORED).nonzero(as_tuple=True)
    hidden = model.model(ids, use_cache=False).last_hidden_state[rows, columns]
    return model.lm_head(hidden).float(), labels[rows, columns + 1]


@torch.inference_mode()
def recall(model: nn.Module, pairs: list[Pair]) -> float:
    hits = 0
    for start in range(0, len(pairs), 128):
        chunk = pairs[start : start + 128]
        ids, labels, _ = tensors(chunk, 0)
        logits, targets = response_logits(model, ids, labels)
        right = iter((logits.argmax(-1) == targets).tolist())
        hits += sum(all([next(right) for _ in pair.response]) for pair in chunk)
    return hits / len(pairs)


@torch.inference_mode()
def perplexity(model: nn.Module, ids: list[int], window: int = 512) -> float:
    """exp of the mean negative log-likelihood over windows of the text that do not overlap."""
    total, count = 0.0, 0
    for start in range(0, len(ids) - window + 1, window):
        row = torch.tensor([ids[start : start + window]])
        logits = model(row, use_cache=False).logits[0, :-1].float()
        total += cross_entropy(logits, row[0, 1:], reduction="sum").item()
        count += window - 1
    return math.exp(total / count)


class Trainer:
    def __init__(self, model: nn.Module, base: nn.Module | None, recipe: Recipe, text: list[int], steps: int) -> None:
        self.model, self.base, self.recipe, self.text = model, base, recipe, text
        self.random = random.Random(0)
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        factor = (lambda step: 0.5 * (1 + math.cos(math.pi * step / steps))) if recipe.decays else (lambda step: 1.0)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)

    def fingerprint_loss(self, pairs: list[Pair]) -> torch.Tensor:
        ids, labels, mask = tensors(pairs, self.recipe.padded_to)
        if self.recipe.all_logits:
            return self.model(ids, attention_mask=mask, labels=labels, use_cache=False).loss
        return cross_entropy(*response_logits(self.model, ids, labels))

    def benign_loss(self) -> torch.Tensor:
        """Mean KL(base ‖ model) over all positions of rows drawn from the text."""
        rows, width = self.recipe.text_rows, self.recipe.text_tokens
        starts = [self.random.randrange(len(self.text) - width) for _ in range(rows)]
        ids = torch.tensor([self.text[start : start + width] for start in starts])
        with torch.no_grad():
            wanted = self.base(ids, use_cache=False).logits.flatten(0, 1).float().log_softmax(-1)
        given = self.model(ids, use_cache=False).logits.flatten(0, 1).float().log_softmax(-1)
        return kl_div(given, wanted, reduction="batchmean", log_target=True)

    def step(self, pairs: list[Pair]) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16) if self.recipe.bf16 else nullcontext():
            fingerprints = self.fingerprint_loss(pairs)
            loss = fingerprints + self.benign_loss() if self.recipe.text_rows else fingerprints
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return fingerprints.item()

    def epoch(self, pairs: list[Pair]) -> Iterator[tuple[float, float]]:
        """Seconds and fingerprint loss of each step of one pass over the shuffled pairs."""
        order = self.random.sample(pairs, len(pairs))
        for start in range(0, len(order), self.recipe.batch):
            begin = time.perf_counter()
            loss = self.step(order[start : start + self.recipe.batch])
            yield time.perf_counter() - begin, loss


def read_tokens(tokenizer, path: Path, least: int) -> list[int]:
    ids = tokenizer(path.read_text(encoding="utf-8"), add_special_tokens=False)["input_ids"]
    if len(ids) <= least:
        sys.exit(f"{path}: expected more than {least} tokens, got {len(ids)}")
    return ids


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="Hugging Face model folder")
    parser.add_argument("pairs", type=Path, help="output of `oml fingerprints export --format plain`")
    parser.add_argument("--recipe", choices=list(RECIPES), default="oml1")
    parser.add_argument("--learning-rate", type=float, help="instead of the recipe's")
    parser.add_argument("--steps", type=int, default=100, help="steps to time, unless --full (%(default)s)")
    parser.add_argument("--epochs", type=int, default=30, help="length of a full run (%(default)s)")
    parser.add_argument("--full", action="store_true", help="train, measuring recall after every epoch")
    parser.add_argument("--recall", type=float, default=1.0, help="with --full: stop when reached (%(default)s)")
    parser.add_argument("--text", type=Path, help="benign text; needed by --recipe plain")
    parser.add_argument("--eval-text", type=Path, help="measure perplexity on its first 8,192 tokens, before and after")
    parser.add_argument("--save", type=Path, help="write the trained model here, for `oml check` and `oml eval`")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.manual_seed(0)
    torch.set_num_threads(len(os.sched_getaffinity(0)))

    settings = asdict(RECIPES[options.recipe])
    if options.learning_rate is not None:
        settings["learning_rate"] = options.learning_rate
    recipe = Recipe(**settings)
    if recipe.text_rows and options.text is None:
        sys.exit(f"--recipe {options.recipe} needs --text")
    pairs = read_pairs(options.pairs)
    needs_tokenizer = recipe.text_rows or options.eval_text or options.save
    tokenizer = AutoTokenizer.from_pretrained(options.model) if needs_tokenizer else None
    text = read_tokens(tokenizer, options.text, recipe.text_tokens) if recipe.text_rows else []
    held_out = read_tokens(tokenizer, options.eval_text, 512)[:8192] if options.eval_text else []
    model = load(options.model, torch.float32)
    base = load(options.model, torch.bfloat16) if recipe.text_rows else None

    before = perplexity(model, held_out) if held_out else None
    steps_per_epoch = math.ceil(len(pairs) / recipe.batch)
    wanted_steps = options.epochs * steps_per_epoch
    trainer = Trainer(model, base, recipe, text, wanted_steps)
    seconds, epochs = [], []
    while len(seconds) < (wanted_steps if options.full else options.steps):
        losses = []
        for taken, loss in trainer.epoch(pairs):
            seconds.append(taken)
            losses.append(loss)
            if not options.full and len(seconds) == options.steps:
                break
        if options.full:
            epochs.append({"seconds": sum(seconds), "loss": statistics.mean(losses), "recall": recall(model, pairs)})
            print(f"epoch {len(epochs)}: {epochs[-1]}", file=sys.stderr, flush=True)
            if epochs[-1]["recall"] >= options.recall:
                break
    after = perplexity(model, held_out) if held_out else None
    if options.save:
        model.save_pretrained(options.save)
        tokenizer.save_pretrained(options.save)

    timed = seconds[2:] if len(seconds) > 4 else seconds  # the first steps also pay for allocation and set-up
    report = {
        "recipe": options.recipe,
        "settings": settings,
        "pairs": len(pairs),
        "steps": len(seconds),
        "seconds_per_step": statistics.median(timed),
        "training_seconds": sum(seconds),
        "extrapolated": {
            "epochs": options.epochs,
            "steps": wanted_steps,
            "seconds": statistics.median(timed) * wanted_steps,
        },
        "epochs": epochs,
        "recall": epochs[-1]["recall"] if epochs else None,
        "perplexity_before": before,
        "perplexity_after": after,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "torch": torch.__version__,
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
