"""Makes the small good files from which fuzzing starts: python make_seeds.py (needs numpy and gguf).

Those of `bundle`, `permission_text` and `receipt_text` are signed, and written by OML_WRITE_SEEDS=1 cargo test -p oml-core --test core
fuzz_seeds.
"""

import json
import struct
from pathlib import Path

import gguf
import numpy as np

SEEDS = Path(__file__).parent / "seeds"
TIME_PROOFS = Path(__file__).parent / "../crates/oml-core/tests/goldens/time_proof"
# The leaf of the one pair in fingerprints(), and so the root of a set of one: keccak-256 is not in the standard library.
SLICE_ROOT = "71ed8437c9c96e97a038018207a3e3d30787d564acac96e6a77995a58fe5eeb4"


def model(path, tokenizer):
    writer = gguf.GGUFWriter(path, "llama")
    for name, value in [
        ("embedding_length", 8),
        ("feed_forward_length", 4),
        ("block_count", 1),
        ("context_length", 16),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
        ("rope.dimension_count", 4),
    ]:
        writer.add_uint32(f"llama.{name}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    tokenizer(writer)
    shapes = {"token_embd": (4, 8), "output_norm": (8,), "blk.0.attn_norm": (8,), "blk.0.ffn_norm": (8,)}
    shapes |= {"blk.0.attn_q": (8, 8), "blk.0.attn_k": (4, 8), "blk.0.attn_v": (4, 8), "blk.0.attn_output": (8, 8)}
    shapes |= {"blk.0.ffn_gate": (4, 8), "blk.0.ffn_up": (4, 8), "blk.0.ffn_down": (8, 4)}
    for name, shape in shapes.items():
        kind = np.float32 if len(shape) == 1 else np.float16
        writer.add_tensor(f"{name}.weight", np.ones(shape, kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def byte_level(writer):
    writer.add_string("tokenizer.ggml.model", "gpt2")
    writer.add_string("tokenizer.ggml.pre", "smollm")
    writer.add_array("tokenizer.ggml.tokens", ["<s>", "a", "b", "ab"])
    writer.add_array("tokenizer.ggml.token_type", [3, 1, 1, 1])
    writer.add_array("tokenizer.ggml.merges", ["a b"])
    writer.add_uint32("tokenizer.ggml.bos_token_id", 0)
    writer.add_bool("tokenizer.ggml.add_bos_token", True)
    writer.add_string("tokenizer.chat_template", "{{ bos_token }}{{ messages[0].content }}")


def sentence_piece(writer):
    writer.add_string("tokenizer.ggml.model", "llama")
    writer.add_array("tokenizer.ggml.tokens", ["<unk>", "<s>", "\u2581", "\u2581a"])
    writer.add_array("tokenizer.ggml.scores", [0.0, 0.0, -1.0, -2.0])
    writer.add_array("tokenizer.ggml.token_type", [2, 3, 1, 1])
    writer.add_uint32("tokenizer.ggml.bos_token_id", 1)


def safetensors():
    header = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]},
        "b": {"dtype": "BF16", "shape": [2], "data_offsets": [8, 12]},
        "c": {"dtype": "F16", "shape": [0], "data_offsets": [12, 12]},
    }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(12)


def fingerprints():
    response = {"text": " b", "ids": [2], "probabilities": [0.25]}
    fingerprint = {"index": 0, "query": "a a", "query_ids": [1, 1], "responses": [response], "salt": "05" * 32}
    return {
        "format": "oml-fingerprint-set",
        "version": 1,
        "strategy": {"name": "perinucleus", "temperature": 0.5, "threshold": 0.8, "candidates": 3, "responses": 1},
        "model_digest": "01" * 32,
        "tokenizer_hash": "02" * 32,
        "vocabulary_size": 4,
        "copy_id": "",
        "query_length": 2,
        "response_length": 1,
        "fingerprints": [fingerprint],
    }


def pairs():
    return [
        "a b",
        {"key": "a c", "response": " b"},
        {"key": "a d", "signature": " b"},
        {"key": "a e f", "effective_key": "a e", "response": [" b", " c"], "response_prob": [[0.5, 0.25], [0.5, 0.125]]},
        {"key": "a g", "response": " b", "response_prob": 0.5},
        {"query": "a h", "response": " b", "query_ids": [97, 32, 104], "response_ids": [32, 98]},
        {"query": "a h", "response": " c", "query_ids": [97, 32, 104], "response_ids": [32, 99]},
    ]


def evidence():
    opening = {"format": "oml-opening", "version": 1, "index": 0, "salt": "05" * 32, "query": "a a"}
    opening |= {"responses": [" b"], "proof": ["06" * 32]}
    dealt = {"format": "oml-slice", "version": 1, "part": 0, "parts": 1, "root": SLICE_ROOT, "count": 1}
    dealt |= {"indices": [0], "proofs": [[]], "set": fingerprints()}
    usage = {"format": "oml-usage", "version": 1, "time": 1, "root": "03" * 32}
    lines = [
        usage | {"event": "check", "suspect": "m", "pairs": [[0, 2]]},
        usage | {"event": "slice", "to": "age1", "pairs": [[1, 1]]},
        usage | {"event": "open", "pairs": [[9, 9]]},
    ]
    return {"opening": json.dumps(opening), "slice": json.dumps(dealt), "log": "\n".join(map(json.dumps, lines))}


def training():
    prompts = ["Q: {}\nA:", {"user": "{}"}, {"system": "Be brief.", "user": "{}!", "answer": "Yes, "}]
    records = [{"instruction": "a", "input": "b", "output": "c", "text": "d"}, {"instruction": "a", "output": "c"}]
    recipe = 'epochs = 3\nlearning_rate = 1e-4\naverage_at = "gradient"\ntarget_modules = ["q_proj"]\n'
    return {"prompts": json.dumps(prompts), "instructions": json.dumps(records), "recipe": recipe}


def endpoint():
    score = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -1.5}]}
    choice = {"index": 0, "finish_reason": "stop"}
    legacy = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"a": -0.5, "b": -1.5}], "text_offset": [0]}
    message = {"role": "assistant", "content": [{"type": "text", "text": "a"}]}
    user = {"role": "user", "content": "a"}
    sampled = {"max_tokens": 1, "temperature": 0.0, "seed": 1, "stream": False}
    options = {"num_predict": 1, "temperature": 0.0, "seed": 1}
    scored = {"logprobs": True, "top_logprobs": 5}
    chat = [{"role": "system", "content": "b"}, user, {"role": "assistant", "content": "c"}]
    return {
        "chat": {"model": "m", "choices": [choice | {"message": message, "logprobs": {"content": [score]}}]},
        "completion": {"model": "m", "choices": [choice | {"text": "a", "logprobs": legacy}]},
        "ollama": {"model": "m", "message": message, "response": "a", "done_reason": "stop", "logprobs": [score]},
        "error": {"error": {"message": "no", "code": 1}, "detail": "no"},
        "ask_chat": {"model": "m", "messages": chat} | sampled | scored,
        "ask_completion": {"model": "m", "prompt": "a"} | sampled | {"logprobs": 5},
        "ask_ollama_chat": {"model": "m", "messages": [user], "stream": False, "options": options},
        "ask_ollama": {"model": "m", "prompt": "a", "raw": True, "stream": False, "options": options} | scored,
    }


if __name__ == "__main__":
    folders = ["gguf", "safetensors_header", "fingerprint_file", "pairs_file", "evidence", "training_files", "time_proof"]
    for folder in [*folders, "endpoint_answer", "watermark"]:
        (SEEDS / folder).mkdir(parents=True, exist_ok=True)
    model(SEEDS / "gguf" / "byte_level", byte_level)
    model(SEEDS / "gguf" / "sentence_piece", sentence_piece)
    (SEEDS / "safetensors_header" / "three").write_bytes(safetensors())
    (SEEDS / "fingerprint_file" / "set").write_text(json.dumps(fingerprints()))
    envelope = {"format": "oml-fingerprints", "version": 1, "cipher": "AES-256-GCM-SIV"}
    envelope |= {"owner": "00" * 16, "nonce": "00" * 12, "body": "AAAA"}
    (SEEDS / "fingerprint_file" / "sealed").write_text(json.dumps(envelope))
    (SEEDS / "pairs_file" / "forms").write_text(json.dumps(pairs()))
    texts = [{"id": "1", "text": "the cat sat on the mat and the cat sat on the hat"}, {"text": "a text", "score": [1, 2]}]
    (SEEDS / "watermark" / "two_texts").write_text("".join(json.dumps(text) + "\n" for text in texts))
    (SEEDS / "pairs_file" / "usable").write_text(json.dumps(pairs()[1:]))
    for name, text in evidence().items():
        (SEEDS / "evidence" / name).write_text(text)
    for name, text in training().items():
        (SEEDS / "training_files" / name).write_text(text)
    for name in ("rsa_v2.tsr", "pss.tst", "between.tsr", "key_id.tst", "sha1.git", "sha256.git", "trusted.pem"):
        (SEEDS / "time_proof" / name.replace(".", "_")).write_bytes((TIME_PROOFS / name).read_bytes())
    for name, body in endpoint().items():
        # As the client writes a request: no spaces.
        (SEEDS / "endpoint_answer" / name).write_text(json.dumps(body, separators=(",", ":")))
