"""Write real proofs of transactions in blocks for oml_core's tests: anvil is the chain (npm @foundry-rs/anvil 1.7.1).

Run in an empty folder beside the committed files: python generate_ledger.py ANVIL

  ledger.json          a transaction of 20 in its block, with fees by EIP-1559 and the line of root.txt as its input
  ledger_legacy.json   the only transaction of its block, of the old form, with root and address as a contract's arguments
  ledger_access.json   one of 3 with an access list, and the line with another root after it
  ledger_other.json    one with the line of another root alone
  ledger_claim.json    for the root of the set in tests/core/bundle.rs
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCRIPT = HERE.parents[4] / "scripts" / "make_ledger_proof.py"
OWNER = "0x621c3C8731ca4f23faF67033A024f5482c3D9Cc3"
ROOT = "5a" * 32
LINE = f"oml root 0x{ROOT} owner {OWNER}\n"
OTHER = f"oml root 0x{'5b' * 32} owner {OWNER}\n"
CLAIM = f"oml root 0x73f0dd8ad7d1b3461a8c926faf1fa3888f71f6ff8bba1c382387013096819f41 owner {OWNER}\n"
# 2026-01-01, before the audit of tests/core/bundle.rs.
BEGIN = 1_767_225_600


def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    anvil = subprocess.Popen(
        [sys.argv[1], "--port", str(port), "--no-mining", "--timestamp", str(BEGIN), "--silent", "--chain-id", "31337"]
    )
    url = f"http://127.0.0.1:{port}"

    def ask(method: str, *params: object) -> object:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        with urllib.request.urlopen(urllib.request.Request(url, body, {"content-type": "application/json"})) as answer:
            said = json.load(answer)
        return said["result"]

    def mine(*sent: dict) -> list[str]:
        hashes = [ask("eth_sendTransaction", transaction) for transaction in sent]
        ask("evm_mine", {"timestamp": ask_time() + 12})
        return hashes

    def ask_time() -> int:
        return int(ask("eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    try:
        for _ in range(100):
            try:
                accounts = ask("eth_accounts")
                break
            except OSError:
                time.sleep(0.1)
        sender, to = accounts[0], accounts[1]
        plain = {"from": sender, "to": to, "value": "0x1", "gas": "0x30000", "maxFeePerGas": "0x77359400", "maxPriorityFeePerGas": "0x1"}
        text = {**plain, "value": "0x0", "input": "0x" + LINE.encode().hex()}
        many = mine(*[text if place == 17 else plain for place in range(20)])
        old = {"from": sender, "to": to, "gas": "0x30000", "gasPrice": "0x77359400", "type": "0x0"}
        arguments = "0x12345678" + ROOT + OWNER[2:].lower().rjust(64, "0")
        legacy = mine({**old, "input": arguments})
        slots = [{"address": to, "storageKeys": ["0x" + "01" * 32]}]
        both = "0x" + (OTHER + LINE).encode().hex()
        access = mine(plain, {**old, "type": "0x1", "accessList": slots, "input": both}, plain)
        other = mine({**text, "input": "0x" + OTHER.encode().hex()})
        claim = mine({**text, "input": "0x" + CLAIM.encode().hex()})
        for name, sent in [
            ("ledger.json", many[17]),
            ("ledger_legacy.json", legacy[0]),
            ("ledger_access.json", access[1]),
            ("ledger_other.json", other[0]),
            ("ledger_claim.json", claim[0]),
        ]:
            subprocess.run([sys.executable, SCRIPT, url, sent, name], check=True)
    finally:
        anvil.kill()


main()
