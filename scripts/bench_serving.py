"""Times `oml serve` against llama.cpp's server on the same model: tokens a second of many clients, and the gate's share of the time.

    target/servers/llama/bin/python scripts/bench_serving.py DIR MODEL.gguf [--clients 16] [--tokens 64] [--rounds 5] [--json FILE]

DIR is a Hugging Face folder, MODEL.gguf the same weights (scripts/make_gguf.py). Both servers run all the time and are asked in turn, in
an order that alternates from round to round, with the same prompts, greedily. The gate verifies, admits on disk and signs receipts on
disk; its share comes from the server's own counters.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
MODEL_ID = "0x" + "01" * 32
TOPICS = ["rivers", "bread", "the moon", "chess", "trains", "honey", "glass", "winter", "maps", "clocks", "wool", "ships",
          "salt", "bridges", "paper", "birds", "tea", "stones", "gardens", "music", "shoes", "fire", "milk", "wind"]


def ask(url: str, model: str, prompt: str, tokens: int, token: str | None) -> tuple[int, str]:
    at = urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname, at.port, timeout=600)
    headers = {"content-type": "application/json"} | ({"OML-Permission": token} if token else {})
    body = {"model": model, "prompt": prompt, "temperature": 0, "max_tokens": tokens}
    connection.request("POST", f"{at.path}/completions", json.dumps(body), headers)
    answer = connection.getresponse()
    said = json.loads(answer.read())
    if answer.status != 200:
        sys.exit(f"{url}: {answer.status} {said}")
    return said["usage"]["completion_tokens"], said["choices"][0]["text"]


def load(url: str, model: str, prompts: list[str], clients: int, tokens: int, permits: list[str] | None) -> tuple[float, list[str]]:
    """Tokens a second, and the answers in the order of their prompts."""
    waiting, lock, answers = list(enumerate(prompts)), threading.Lock(), [""] * len(prompts)
    counted = 0

    def client() -> None:
        nonlocal counted
        while True:
            with lock:
                if not waiting:
                    return
                number, prompt = waiting.pop(0)
                permit = permits.pop() if permits is not None else None
            count, answers[number] = ask(url, model, prompt, tokens, permit)
            with lock:
                counted += count

    threads = [threading.Thread(target=client) for _ in range(clients)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return counted / (time.perf_counter() - begin), answers


def counters(admin: str) -> dict[str, float]:
    at = urlsplit(admin)
    connection = http.client.HTTPConnection(at.hostname, at.port, timeout=60)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    return {name: float(value) for name, value in (line.split() for line in lines if not line.startswith("#"))}


def peak(process: subprocess.Popen[str]) -> float:
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 2**20
    return float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--oml", type=Path, default=Path("target/release/oml"))
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--requests", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    oml = str(arguments.oml.resolve())

    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stack:
        def address(name: str) -> str:
            made = subprocess.run([oml, "keygen", "--out", f"{name}.json", "--json"], cwd=place, check=True, capture_output=True)
            return json.loads(made.stdout)["address"]

        addresses = {name: address(name) for name in ("issuer", "host")}
        ours = subprocess.Popen(
            [oml, "serve", "--model", str(arguments.model.resolve()), "--name", "m", "--key", "host.json", "--issuer", addresses["issuer"],
             "--model-id", MODEL_ID, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--slots", str(arguments.clients),
             "--context", "1024", "--json", "-q"],
            cwd=place, stdout=subprocess.PIPE, text=True)
        stack.callback(ours.kill)
        text = ""
        while True:
            text += ours.stdout.readline()
            try:
                serving = json.loads(text)
                break
            except json.JSONDecodeError:
                continue
        theirs = subprocess.Popen(
            [sys.executable, str(HERE / "servers" / "llama.py"), str(arguments.gguf.resolve()), "--name", "m", "--parallel", str(arguments.clients)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        stack.callback(theirs.kill)
        line = ""
        while not line.startswith("listening "):
            line = theirs.stdout.readline()
        llama = line.split()[1] + "/v1"
        prompts = [f"Here is what everybody should know about {TOPICS[i % len(TOPICS)]}, part {i // len(TOPICS) + 1}:" for i in range(arguments.requests)]
        count = (arguments.rounds + 1) * arguments.requests + arguments.rounds * 2
        permits = subprocess.run(
            [oml, "permit", "issue", "--key", "issuer.json", "--model-id", MODEL_ID, "--licensee", addresses["issuer"],
             "--host", addresses["host"], "--count", str(count), "--deadline", "12h", "-q"],
            cwd=place, check=True, capture_output=True, text=True).stdout.splitlines()

        sides = {
            "oml": lambda: load(serving["url"], "m", prompts, arguments.clients, arguments.tokens, permits),
            "llama": lambda: load(llama, "m", prompts, arguments.clients, arguments.tokens, None),
        }
        answers = {name: side()[1] for name, side in sides.items()}
        same = sum(a == b for a, b in zip(answers["oml"], answers["llama"]))
        rates: dict[str, list[float]] = {"oml": [], "llama": []}
        for number in range(arguments.rounds):
            for name in sorted(sides, reverse=number % 2 == 1):
                rates[name].append(sides[name]()[0])
        ratios = [ours_ / theirs_ for ours_, theirs_ in zip(rates["oml"], rates["llama"])]
        memory = {"oml": peak(ours), "llama": peak(theirs)}

        # One client, answers of 16 tokens: the gate's share.
        before = counters(serving["admin"])
        for prompt in prompts[: arguments.rounds * 2]:
            ask(serving["url"], "m", prompt, 16, permits.pop())
        after = counters(serving["admin"])
        grown = {name: after[f"oml_{name}_seconds_sum"] - before[f"oml_{name}_seconds_sum"] for name in ("gate", "answer")}
        result = {
            "clients": arguments.clients, "tokens": arguments.tokens, "requests": arguments.requests, "rounds": arguments.rounds,
            "tokens_per_second": rates, "ratio_median": statistics.median(ratios), "ratios": ratios,
            "same_answers": f"{same} of {len(prompts)}", "peak_gib": memory,
            "gate_share_of_16_tokens": grown["gate"] / grown["answer"],
            "gate_ms": 1e3 * grown["gate"] / (arguments.rounds * 2), "answer_ms": 1e3 * grown["answer"] / (arguments.rounds * 2),
        }
        theirs.stdin.close()
        ours.terminate()
        ours.wait()
        theirs.wait()
    print(json.dumps(result, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
