"""Write signing.json: keys, addresses, EIP-712 digests and signatures as eth_account has them, for oml_core to agree with.

Run: pip install eth-account==0.14.0 && python signing.py > signing.json
"""

from __future__ import annotations

import hashlib
import hmac
import json

from eth_account import Account
from eth_account.messages import _hash_eip191_message, encode_typed_data
from eth_utils import keccak

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
TYPES = {
    "Claim": [
        {"name": "root", "type": "bytes32"},
        {"name": "statement", "type": "bytes32"},
        {"name": "leaves", "type": "uint64"},
        {"name": "time", "type": "uint64"},
    ],
    "Response": [
        {"name": "root", "type": "bytes32"},
        {"name": "challenge", "type": "bytes32"},
        {"name": "openings", "type": "bytes32"},
        {"name": "time", "type": "uint64"},
    ],
}
DOMAINS = [
    {},
    {"chainId": 1},
    {"chainId": 31337, "verifyingContract": "0x5FbDB2315678afecb367f032d93F642f64180aa3"},
]


def secret_of(seed: bytes) -> bytes:
    """The secret of the owner's signing key, after the layout in derive.rs."""
    extracted = hmac.new(b"oml.owner-seed.v1", seed, hashlib.sha256).digest()
    counter = 0
    while True:
        fields = [b"oml.derive.v1", b"signing-key", bytes(32), b"", counter.to_bytes(8, "big")]
        info = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
        key = hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()
        if 0 < int.from_bytes(key, "big") < ORDER:
            return key
        counter += 1


def golden(number: int) -> dict:
    seed = bytes(range(32)) if number == 0 else hashlib.sha256(f"owner {number}".encode()).digest()
    account = Account.from_key(secret_of(seed))
    domain = DOMAINS[number % len(DOMAINS)]
    kind = list(TYPES)[number % len(TYPES)]
    word = lambda name: keccak(f"{name} {number}".encode())
    message = {"time": 1_700_000_000 + number, "leaves": 1 << (number % 18), "root": word("root")}
    message |= {name: word(name) for name in ("statement", "challenge", "openings")}
    message = {field["name"]: message[field["name"]] for field in TYPES[kind]}
    typed = encode_typed_data(domain_data={"name": "OML", "version": "1"} | domain, message_types={kind: TYPES[kind]}, message_data=message)
    signed = account.sign_message(typed)
    return {
        "seed": seed.hex(),
        "address": account.address,
        "domain": domain,
        "kind": kind,
        "message": {name: value.hex() if isinstance(value, bytes) else value for name, value in message.items()},
        "digest": bytes(_hash_eip191_message(typed)).hex(),
        "signature": bytes(signed.signature).hex(),
    }


print(json.dumps([golden(number) for number in range(18)], indent=1))
