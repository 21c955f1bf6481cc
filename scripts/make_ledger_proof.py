"""Writes the proof that a transaction stands in a block of an Ethereum chain, for `oml claim make --time-proof`.

    python scripts/make_ledger_proof.py RPC_URL TRANSACTION_HASH root.ledger.json

The transaction's input has to hold the line that `oml claim line` prints, or the root's 32 bytes and the owner's 20. Any JSON-RPC endpoint
will do and none is trusted: the block's header and every transaction are encoded again from what it says, and their hashes have to come out.
Standard library alone. The format is described in crates/oml-core/src/time_proof/ledger.rs.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.request
from pathlib import Path

MASK = (1 << 64) - 1


def rotate(value: int, by: int) -> int:
    by %= 64
    return ((value << by) | (value >> (64 - by))) & MASK


def permute(lanes: list[list[int]]) -> None:
    """Keccak-f[1600] in place (FIPS 202, section 3.3)."""
    register = 1
    for _ in range(24):
        parity = [lanes[x][0] ^ lanes[x][1] ^ lanes[x][2] ^ lanes[x][3] ^ lanes[x][4] for x in range(5)]
        for x in range(5):
            change = parity[(x + 4) % 5] ^ rotate(parity[(x + 1) % 5], 1)
            for y in range(5):
                lanes[x][y] ^= change
        x, y, current = 1, 0, lanes[1][0]
        for step in range(24):
            x, y = y, (2 * x + 3 * y) % 5
            current, lanes[x][y] = lanes[x][y], rotate(current, (step + 1) * (step + 2) // 2)
        for y in range(5):
            row = [lanes[x][y] for x in range(5)]
            for x in range(5):
                lanes[x][y] = row[x] ^ (~row[(x + 1) % 5] & row[(x + 2) % 5] & MASK)
        for bit in range(7):
            register = ((register << 1) ^ ((register >> 7) * 0x71)) % 256
            if register & 2:
                lanes[0][0] ^= 1 << ((1 << bit) - 1)


def keccak(data: bytes) -> bytes:
    """Keccak-256 as Ethereum has it: the padding is that before FIPS 202."""
    rate = 136
    padded = bytearray(data + b"\x01" + b"\x00" * (-(len(data) + 1) % rate))
    padded[-1] |= 0x80
    lanes = [[0] * 5 for _ in range(5)]
    for start in range(0, len(padded), rate):
        for lane in range(rate // 8):
            word = int.from_bytes(padded[start + 8 * lane : start + 8 * lane + 8], "little")
            lanes[lane % 5][lane // 5] ^= word
        permute(lanes)
    return b"".join(lanes[lane][0].to_bytes(8, "little") for lane in range(4))


def rlp(value: object) -> bytes:
    """RLP of bytes, of numbers and of lists of these."""
    if isinstance(value, int):
        value = value.to_bytes((value.bit_length() + 7) // 8, "big")
    if isinstance(value, list):
        return prefixed(b"".join(rlp(item) for item in value), 0xC0)
    if len(value) == 1 and value[0] < 0x80:
        return value
    return prefixed(value, 0x80)


def prefixed(payload: bytes, offset: int) -> bytes:
    if len(payload) < 56:
        return bytes([offset + len(payload)]) + payload
    length = len(payload).to_bytes((len(payload).bit_length() + 7) // 8, "big")
    return bytes([offset + 55 + len(length)]) + length + payload


def raw(text: str | None) -> bytes:
    return bytes.fromhex((text or "0x").removeprefix("0x"))


def number(text: str) -> int:
    return int(text, 16)


def encode_header(block: dict) -> bytes:
    """The header's fields in their order; the later ones are those of later forks."""
    hashes = ["parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot", "logsBloom"]
    fields: list[object] = [raw(block[name]) for name in hashes]
    fields += [number(block[name]) for name in ["difficulty", "number", "gasLimit", "gasUsed", "timestamp"]]
    fields += [raw(block["extraData"]), raw(block["mixHash"]), raw(block["nonce"])]
    later = [
        ("baseFeePerGas", number),
        ("withdrawalsRoot", raw),
        ("blobGasUsed", number),
        ("excessBlobGas", number),
        ("parentBeaconBlockRoot", raw),
        ("requestsHash", raw),
        ("blockAccessListHash", raw),
        ("slotNumber", number),
    ]
    for name, read in later:
        if block.get(name) is None:
            break
        fields.append(read(block[name]))
    return rlp(fields)


def encode_transaction(sent: dict) -> bytes:
    """A transaction as a block holds it (EIP-2718)."""
    kind = number(sent.get("type", "0x0"))
    access = [[raw(item["address"]), [raw(key) for key in item["storageKeys"]]] for item in sent.get("accessList") or []]
    ends = [raw(sent["to"]), number(sent["value"]), raw(sent["input"])]
    nonce, gas = number(sent["nonce"]), number(sent["gas"])
    signature = [number(sent["r"]), number(sent["s"])]
    if kind == 0:
        return rlp([nonce, number(sent["gasPrice"]), gas, *ends, number(sent["v"]), *signature])
    signature = [number(sent.get("yParity") or sent["v"]), *signature]
    chain = number(sent["chainId"])
    if kind == 1:
        return b"\x01" + rlp([chain, nonce, number(sent["gasPrice"]), gas, *ends, access, *signature])
    fields = [chain, nonce, number(sent["maxPriorityFeePerGas"]), number(sent["maxFeePerGas"]), gas, *ends, access]
    if kind == 3:
        fields += [number(sent["maxFeePerBlobGas"]), [raw(blob) for blob in sent["blobVersionedHashes"]]]
    elif kind == 4:
        fields.append(
            [
                [
                    number(one["chainId"]),
                    raw(one["address"]),
                    number(one["nonce"]),
                    number(one.get("yParity") or one["v"]),
                    number(one["r"]),
                    number(one["s"]),
                ]
                for one in sent["authorizationList"]
            ]
        )
    elif kind != 2:
        sys.exit(f"make_ledger_proof.py: expected a transaction of type 0 to 4 in the block, got {kind}")
    return bytes([kind]) + rlp(fields + signature)


def compact(nibbles: list[int], is_leaf: bool) -> bytes:
    """The hexadecimal prefix encoding of a path (Yellow Paper, appendix C)."""
    flag = 2 * is_leaf + len(nibbles) % 2
    whole = [flag, *nibbles] if len(nibbles) % 2 else [flag, 0, *nibbles]
    return bytes(16 * high + low for high, low in zip(whole[::2], whole[1::2]))


def build(entries: list[tuple[list[int], bytes]], wanted: list[int] | None, proof: list[bytes]) -> bytes:
    """Encodes the trie of `entries`; the nodes on the way to `wanted` are put before those in `proof`."""
    if len(entries) == 1:
        path, value = entries[0]
        node = rlp([compact(path, True), value])
    else:
        first = entries[0][0]
        shared = next(
            (depth for depth in range(len(first)) if any(path[depth : depth + 1] != first[depth : depth + 1] for path, _ in entries)),
            len(first),
        )
        if shared:
            below = wanted[shared:] if wanted is not None and wanted[:shared] == first[:shared] else None
            rest = [(path[shared:], value) for path, value in entries]
            node = rlp([compact(first[:shared], False), reference(build(rest, below, proof))])
        else:
            children: list[bytes] = []
            for nibble in range(16):
                under = [(path[1:], value) for path, value in entries if path and path[0] == nibble]
                below = wanted[1:] if wanted and wanted[0] == nibble else None
                children.append(reference(build(under, below, proof)) if under else b"")
            value = next((value for path, value in entries if not path), b"")
            node = rlp([*children, value])
    if wanted is not None:
        proof.insert(0, node)
    return node


def reference(node: bytes) -> bytes:
    # A transaction is longer than a hash, so no node above one is ever written in place.
    if len(node) < 32:
        sys.exit("make_ledger_proof.py: expected nodes of at least 32 bytes")
    return keccak(node)


def nibbles_of(index: int) -> list[int]:
    return [half for byte in rlp(index) for half in (byte >> 4, byte & 15)]


def expect(what: str, expected: str, got: bytes) -> None:
    if raw(expected) != got:
        sys.exit(f"make_ledger_proof.py: {what}: expected {expected}, got 0x{got.hex()}; is it a chain with other fields?")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="a JSON-RPC endpoint of the chain")
    parser.add_argument("hash", help="the transaction's hash, 0x…")
    parser.add_argument("out", type=Path, help="file to write; never replaces one")
    arguments = parser.parse_args()

    def ask(method: str, *params: object) -> dict | str:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        request = urllib.request.Request(arguments.url, body, {"content-type": "application/json", "user-agent": "oml"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            said = json.load(answer)
        if said.get("result") is None:
            sys.exit(f"make_ledger_proof.py: {method}: {said.get('error', 'expected a result, got none')}")
        return said["result"]

    sent = ask("eth_getTransactionByHash", arguments.hash)
    if sent.get("blockHash") is None:
        sys.exit("make_ledger_proof.py: the transaction is in no block yet")
    block = ask("eth_getBlockByHash", sent["blockHash"], True)
    header = encode_header(block)
    expect("hash of the header", sent["blockHash"], keccak(header))
    encoded = [encode_transaction(each) for each in block["transactions"]]
    for each, bytes_ in zip(block["transactions"], encoded):
        expect("hash of a transaction", each["hash"], keccak(bytes_))
    index = number(sent["transactionIndex"])
    proof: list[bytes] = []
    entries = [(nibbles_of(place), value) for place, value in enumerate(encoded)]
    root = keccak(build(entries, nibbles_of(index), proof))
    expect("root of the transactions", block["transactionsRoot"], root)
    file = {
        "format": "oml-ledger-proof",
        "version": 1,
        "chain_id": number(ask("eth_chainId")),
        "header": header.hex(),
        "index": index,
        "proof": [node.hex() for node in proof],
        "transaction": encoded[index].hex(),
    }
    with arguments.out.open("x") as out:
        out.write(json.dumps(file, separators=(",", ":")) + "\n")
    print(f"block {sent['blockHash']} of chain {file['chain_id']}, timestamp {number(block['timestamp'])}, in {arguments.out}")


if __name__ == "__main__":
    main()
