"""Compares `oml bench` with PyTorch doing the same work, pairwise in one run.

  python scripts/bench_pytorch.py MODEL [--only full lora …] [--rounds 3] [--json FILE]

Each round runs PyTorch (torch_workloads.py), then oml, each in a fresh process after the other has ended, so neither
competes for cores and a busy or slow moment of the machine falls on both. The ratio is taken per round; its median and
range are printed. Peak memory is the process's greatest resident set, loading included, read the same way for both.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GIB = 1 << 30


@dataclass(frozen=True)
class Workload:
    title: str
    torch: list[str]  # arguments of torch_workloads.py after the workload's name
    oml: list[str]  # arguments of `oml bench`


def workloads(tokens: int) -> dict[str, Workload]:
    return {
        "full": Workload("W1 full step, 16 × 48 tokens, bf16", [], ["step"]),
        "lora": Workload("W1 LoRA r=16 step, bf16", [], ["step", "--lora"]),
        "packed": Workload(
            f"full step on {tokens:,} tokens of short sequences, bf16",
            ["--tokens", str(tokens), "--warm-up", "1", "--repeats", "2"],
            ["step", "--tokens", str(tokens)],
        ),
        "fp32": Workload("W1 full step, fp32 (oml: AVX-512, no AMX)", ["--warm-up", "1"], ["step", "--isa", "avx512"]),
        "decode": Workload("W2 decode, 16 × (32 + 16) tokens, bf16", [], ["decode"]),
    }


@dataclass
class Measurement:
    seconds: float
    peak_bytes: int
    report: dict


def measure(command: list[str]) -> Measurement:
    """Runs to the end, and returns the JSON object printed on stdout with the process's peak resident set."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(command, stdout=stdout, stderr=stderr)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        stdout.seek(0)
        stderr.seek(0)
        if process.returncode != 0:
            sys.exit(f"{' '.join(command)}: exit {process.returncode}\n{stderr.read().decode(errors='replace')}")
        report = json.load(stdout)
    return Measurement(report["seconds"], usage.ru_maxrss * 1024, report)


def compare(name: str, workload: Workload, model: str, oml: str, rounds: int) -> dict:
    torch_command = [sys.executable, str(ROOT / "scripts" / "torch_workloads.py"), name, model, *workload.torch]
    oml_command = [oml, "bench", *workload.oml, "--model", model, "--json"]
    pairs = []
    for index in range(rounds):
        pair = (measure(torch_command), measure(oml_command))
        pairs.append(pair)
        shown = " ".join(f"{side} {one.seconds:.3f} s" for side, one in zip(("pytorch", "oml"), pair, strict=True))
        print(f"{name} {index + 1}/{rounds}: {shown}", file=sys.stderr, flush=True)
    ratios = [torch.seconds / own.seconds for torch, own in pairs]
    return {
        "workload": name,
        "title": workload.title,
        "oml_command": " ".join(["oml", *oml_command[1:]]),
        "pytorch_seconds": statistics.median(torch.seconds for torch, _ in pairs),
        "oml_seconds": statistics.median(own.seconds for _, own in pairs),
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        "pytorch_peak_bytes": max(torch.peak_bytes for torch, _ in pairs),
        "oml_peak_bytes": max(own.peak_bytes for _, own in pairs),
        "pairs": [{"pytorch": torch.report, "oml": own.report} for torch, own in pairs],
    }


def table(results: list[dict]) -> str:
    lines = [
        "| workload | PyTorch s | oml s | times as fast (range) | PyTorch peak GiB | oml peak GiB |",
        "|---|---|---|---|---|---|",
    ]
    for row in results:
        lines.append(
            f"| {row['title']} | {row['pytorch_seconds']:.3f} | {row['oml_seconds']:.3f} "
            f"| {row['ratio']:.2f} ({row['ratio_low']:.2f}–{row['ratio_high']:.2f}) "
            f"| {row['pytorch_peak_bytes'] / GIB:.2f} | {row['oml_peak_bytes'] / GIB:.2f} |"
        )
    return "\n".join(lines)


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="Hugging Face model folder")
    parser.add_argument("--oml", default=str(ROOT / "target/release/oml"), help="the oml binary (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=list(workloads(0)), metavar="WORKLOAD", help="of %(choices)s")
    parser.add_argument("--rounds", type=int, default=3, help="pairs per workload (%(default)s)")
    parser.add_argument("--tokens", type=int, default=8192, help="tokens of the packed workload (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement here")
    arguments = parser.parse_args()

    results = [
        compare(name, workload, arguments.model, arguments.oml, arguments.rounds)
        for name, workload in workloads(arguments.tokens).items()
        if arguments.only is None or name in arguments.only
    ]
    machine = f"{len(os.sched_getaffinity(0))} cores, {processor()}"
    versions = f"PyTorch {results[0]['pairs'][0]['pytorch']['torch']}, {arguments.rounds} rounds, medians"
    print(f"{table(results)}\n\n{machine}; {versions}.")
    if arguments.json:
        report = {"machine": machine, "basis": versions, "results": results}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
