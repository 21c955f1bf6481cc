"""Write permission.json: typed data of permissions as eth_account hashes and signs it, for oml_core to agree with.

Run: pip install eth-account==0.14.0
     python scripts/make_permission_vectors.py > crates/oml-core/tests/goldens/permission.json
"""

from __future__ import annotations

import hashlib
import hmac
import json

from eth_account import Account
from eth_account._utils.encode_typed_data.encoding_and_hashing import encode_type, hash_struct
from eth_account.messages import _hash_eip191_message, encode_typed_data
from eth_utils import keccak, to_checksum_address

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
FIELDS = {
    "Grant": "bytes32 modelId,bytes32 parent,address licensee,address delegate,address host,uint64 maxCalls,uint128 maxSpend,"
    "bytes32 scopeHash,uint64 notBefore,uint64 notAfter,uint128 nonce",
    "Permission": "bytes32 modelId,bytes32 grantId,address licensee,address host,bytes32 inputHash,uint128 nonce,uint128 cumulative,"
    "uint64 issuedAt,uint64 deadline",
    "InferenceReceipt": "bytes32 modelId,address host,bytes32 inputHash,bytes32 outputHash,bytes32 permissionId,uint64 issuedAt",
    "RevocationList": "bytes32 modelId,uint64 issuedAt,bytes32[] ids,uint64[] times",
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


def value(kind: str, name: str, number: int):
    """Some value of a type; every third vector has the ends of its range."""
    digest = keccak(f"{name} {number}".encode())
    if kind.endswith("[]"):
        # Ids rise, each once; as many as the vector's round of the types.
        items = [value(kind[:-2], f"{name} {item}", 3 * number) for item in range(number // len(FIELDS))]
        return sorted(items) if kind == "bytes32[]" else items
    if kind == "bytes32":
        return bytes(32) if number % 3 == 1 else digest
    if kind == "address":
        return to_checksum_address(bytes(20) if number % 3 == 1 else digest[:20])
    bits = int(kind.removeprefix("uint"))
    return {1: 0, 2: 2**bits - 1}.get(number % 3, int.from_bytes(digest, "big") % 2**bits)


def plain(item):
    """Bytes as hexadecimal, and numbers as text, which JSON readers keep."""
    if isinstance(item, list):
        return [plain(one) for one in item]
    return item.hex() if isinstance(item, bytes) else str(item)


def golden(number: int) -> dict:
    seed = hashlib.sha256(f"signer {number}".encode()).digest()
    account = Account.from_key(secret_of(seed))
    kind = list(FIELDS)[number % len(FIELDS)]
    fields = [dict(zip(("type", "name"), field.split(" "))) for field in FIELDS[kind].split(",")]
    message = {field["name"]: value(field["type"], field["name"], number) for field in fields}
    domain = DOMAINS[number // len(FIELDS) % len(DOMAINS)]
    full = {"name": "OML", "version": "1"} | domain
    typed = encode_typed_data(domain_data=full, message_types={kind: fields}, message_data=message)
    signature = bytes(account.sign_message(typed).signature)
    assert Account.recover_message(typed, signature=signature) == account.address
    return {
        "seed": seed.hex(),
        "address": account.address,
        "domain": domain,
        "kind": kind,
        "type": encode_type(kind, {kind: fields}),
        "type_hash": keccak(encode_type(kind, {kind: fields}).encode()).hex(),
        "message": {name: plain(item) for name, item in message.items()},
        "struct_hash": hash_struct(kind, {kind: fields}, message).hex(),
        "digest": bytes(_hash_eip191_message(typed)).hex(),
        "signature": signature.hex(),
    }


print(json.dumps([golden(number) for number in range(24)], indent=1))
