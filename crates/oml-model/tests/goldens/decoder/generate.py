"""Write the decoder's goldens: what Hugging Face transformers computes, for the Rust decoder to agree with.

Three kinds, all fp32 on the CPU with eager attention, documented in README.md beside this file:

  generate.py tiny             one folder per tiny random model: config.json, model.safetensors, golden.json
  generate.py peft             peft.json: names and shapes of LoRA adapters of all linear maps of the tiny models
  generate.py smollm2 FOLDER   smollm2.json: first training losses and greedy answers of SmolLM2-135M-Instruct
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).parent

# ---- Tiny models ----------------------------------------------------------------------------------------------

LENGTHS = (5, 11, 1, 8)  # tokens per sequence of the packed batch; the one of length 1 has no response
RESPONSES = (3, 1, 0, 4)  # of these, the last so many are the response
ADAMW = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.1}
STEPS = 3
PROMPTS = (7, 3)  # prompt lengths for greedy continuation
CONTINUATION = 8
MARGIN = 1e-3  # least distance between the two best logits in a greedy golden: below it fp32 could choose otherwise
SAMPLES = 6  # values kept of each parameter


@dataclass
class Case:
    """One tiny model: its config.json, and the seed of its weights and tokens."""

    name: str
    seed: int
    config: dict


LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "vocab_size": 97,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "float32",
}
# With head_dim 16 and theta 500 the eight wavelengths run from 6 to 1444 tokens, so that an original context of 32
# puts some in each regime of the llama3 and yarn rules: kept, blended, stretched.
SCALED = {"hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "rope_theta": 500.0}

UNBIASED = {key: value for key, value in LLAMA.items() if not key.endswith("_bias")}

GEMMA = {key: value for key, value in UNBIASED.items() if key not in ("hidden_act", "tie_word_embeddings")} | {
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
}
NEOX = {
    "architectures": ["GPTNeoXForCausalLM"],
    "model_type": "gpt_neox",
    "hidden_act": "gelu",
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "vocab_size": 97,
    "max_position_embeddings": 64,
    "layer_norm_eps": 1e-5,
    "rotary_pct": 0.25,
    "rotary_emb_base": 10000,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "float32",
}


def scaled(name: str, seed: int, scaling: dict, spelling: str = "rope_scaling") -> Case:
    config = LLAMA | SCALED
    if spelling == "rope_parameters":  # transformers 5 keeps theta in the same object
        config["rope_parameters"] = {"rope_theta": config.pop("rope_theta")} | scaling
        config["dtype"] = config.pop("torch_dtype")
    else:
        config["rope_scaling"] = scaling
    return Case(name, seed, config)


CASES = (
    Case(
        "llama-gqa-tied",
        1,
        LLAMA | {"hidden_size": 36, "num_attention_heads": 6, "num_key_value_heads": 2, "tie_word_embeddings": True},
    ),
    scaled(
        "llama-rope-llama3",
        2,
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    ),
    scaled("llama-rope-linear", 3, {"type": "linear", "factor": 2.5}),
    scaled(
        "llama-rope-yarn",
        4,
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
        "rope_parameters",
    ),
    Case("llama-biases", 5, LLAMA | {"attention_bias": True, "mlp_bias": True}),
    Case(
        "llama-wide-heads",
        6,
        LLAMA | {"hidden_size": 20, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 14},
    ),
    Case(
        "mistral",
        7,
        UNBIASED
        | {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": None, "head_dim": 8},
    ),
    Case(
        "qwen2",
        8,
        UNBIASED
        | {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "use_sliding_window": False,
            "tie_word_embeddings": True,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1000000.0,
        },
    ),
    Case(
        "mistral-window",
        9,
        UNBIASED | {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": 4, "head_dim": 8},
    ),
    Case(
        "qwen2-windows",
        10,
        UNBIASED
        | {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "use_sliding_window": True,
            "sliding_window": 3,
            "max_window_layers": 1,
        },
    ),
    Case(
        "qwen3",
        11,
        UNBIASED
        | {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "head_dim": 10,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "attention_bias": False,
            "tie_word_embeddings": True,
            "use_sliding_window": False,
        },
    ),
    Case(
        "gemma",
        12,
        GEMMA
        | {"architectures": ["GemmaForCausalLM"], "model_type": "gemma", "hidden_act": "gelu", "num_key_value_heads": 1},
    ),
    Case(
        "gemma2",
        13,
        GEMMA
        | {
            "architectures": ["Gemma2ForCausalLM"],
            "model_type": "gemma2",
            "hidden_activation": "gelu_pytorch_tanh",
            "query_pre_attn_scalar": 7,
            "sliding_window": 4,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 5.0,
        },
    ),
    Case(
        "gemma3",
        14,
        GEMMA
        | {
            "architectures": ["Gemma3ForCausalLM"],
            "model_type": "gemma3_text",
            "hidden_activation": "gelu_pytorch_tanh",
            "query_pre_attn_scalar": 9,
            "num_hidden_layers": 3,
            "sliding_window": 4,
            "sliding_window_pattern": 2,
            "rope_theta": 1000000.0,
            "rope_local_base_freq": 100.0,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
    ),
    Case(
        "phi3",
        15,
        UNBIASED
        | {
            "architectures": ["Phi3ForCausalLM"],
            "model_type": "phi3",
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "hidden_size": 32,
            "partial_rotary_factor": 0.5,
            "original_max_position_embeddings": 64,
            "sliding_window": 6,
            "pad_token_id": 0,
        },
    ),
    Case(
        "mixtral",
        18,
        UNBIASED
        | {
            "architectures": ["MixtralForCausalLM"],
            "model_type": "mixtral",
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "sliding_window": None,
            "rope_theta": 1000000.0,
        },
    ),
    Case(
        "phi3-longrope",
        19,
        UNBIASED
        | {
            "architectures": ["Phi3ForCausalLM"],
            "model_type": "phi3",
            "num_attention_heads": 2,
            "hidden_size": 32,
            "max_position_embeddings": 192,
            "original_max_position_embeddings": 48,
            "partial_rotary_factor": 0.75,
            "rope_scaling": {
                "type": "longrope",
                "short_factor": [1.0, 1.05, 1.1, 1.3, 1.6, 2.0],
                "long_factor": [1.1, 1.5, 3.0, 7.0, 20.0, 40.0],
            },
            "sliding_window": None,
            "pad_token_id": 0,
        },
    ),
    Case("gpt-neox", 16, NEOX | {"use_parallel_residual": True}),
    Case(
        "gpt-neox-sequential",
        17,
        NEOX | {"use_parallel_residual": False, "rotary_pct": 1.0, "attention_bias": False, "tie_word_embeddings": True},
    ),
)


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Gives every parameter weight enough to matter: matrices keep the scale of their input, norms are not all one."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("norm.weight"):
            # Gemma's norms add one to their weight
            parameter.data = 0.2 * noise + (0 if "gemma" in model.config.model_type else 1)
        elif name.endswith("bias"):
            parameter.data = 0.3 * noise
        elif "embed_tokens" in name and "gemma" in model.config.model_type:
            parameter.data = 0.7 * noise / math.sqrt(parameter.shape[1])
        elif "embed_tokens" in name or "embed_in" in name:
            parameter.data = 0.7 * noise
        else:
            parameter.data = 1.5 * noise / math.sqrt(parameter.shape[-1])


def load(folder: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def write_model(case: Case, folder: Path) -> torch.nn.Module:
    """Writes the folder as published models look, config.json in our own words, and reads it back."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.json"
    config.write_text(json.dumps(case.config, indent=2) + "\n")
    model = AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(folder), dtype=torch.float32)
    randomise(model, case.seed)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    config.write_text(json.dumps(case.config, indent=2) + "\n")
    (folder / "model.safetensors").chmod(0o644)
    return load(folder)


def response_loss(model: torch.nn.Module, sequences: list[list[int]], responses: list[int]) -> torch.Tensor:
    """Mean cross-entropy over all response positions of the batch; every sequence runs by itself, unpadded."""
    total = torch.zeros(())
    for ids, response in zip(sequences, responses, strict=True):
        if response == 0:
            continue
        logits = model(torch.tensor([ids])).logits[0, -response - 1 : -1]
        total = total + cross_entropy(logits, torch.tensor(ids[-response:]), reduction="sum")
    return total / sum(responses)


def greedy(model: torch.nn.Module, prompt: list[int], count: int, stop: int | None = None) -> tuple[list[int], float]:
    """Greedy continuation, and the smallest margin by which any token won."""
    ids, margin = [], math.inf
    output = model(torch.tensor([prompt]), use_cache=True, logits_to_keep=1)
    while True:
        best = output.logits[0, -1].topk(2)
        margin = min(margin, (best.values[0] - best.values[1]).item())
        ids.append(best.indices[0].item())
        if len(ids) == count or ids[-1] == stop:
            return ids, margin
        output = model(torch.tensor([ids[-1:]]), past_key_values=output.past_key_values, use_cache=True)


def adamw(
    model: torch.nn.Module, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float
) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        model.parameters(), lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay, foreach=True
    )


def sample_indices(gradient: torch.Tensor) -> list[int]:
    """Flat indices to keep: half evenly spread, half where the gradient is greatest."""
    flat = gradient.flatten().abs()
    spread = [i * flat.numel() // (SAMPLES // 2) for i in range(SAMPLES // 2)]
    greatest = flat.topk(SAMPLES).indices.tolist()
    return sorted((spread + [i for i in greatest if i not in spread])[:SAMPLES])


@dataclass
class Stored:
    """A tensor as files have it: a parameter, or a part of one."""

    data: torch.Tensor
    grad: torch.Tensor


def stored_parameters(model: torch.nn.Module) -> list[tuple[str, Stored]]:
    """What is trained, with its gradient, under the names that files have and as they cut it: transformers 5 calls GPT-NeoX's
    head otherwise in memory, and keeps Mixtral's experts in one tensor."""
    stored = []
    for name, parameter in model.named_parameters():
        grad = parameter.grad
        if model.config.model_type == "gpt_neox" and name == "lm_head.weight":
            name = "embed_out.weight"
        if model.config.model_type == "mixtral" and ".mlp." in name:
            name = name.replace(".mlp.", ".block_sparse_moe.")
            if ".experts." in name:
                prefix, kind = name.rsplit(".", 1)
                parts = {"gate_up_proj": ("w1", "w3"), "down_proj": ("w2",)}[kind]
                for expert, (data, own) in enumerate(zip(parameter.data, grad, strict=True)):
                    cuts = zip(parts, data.chunk(len(parts)), own.chunk(len(parts)), strict=True)
                    stored += [(f"{prefix}.{expert}.{part}.weight", Stored(*cut)) for part, *cut in cuts]
                continue
        stored.append((name, Stored(parameter.data, grad)))
    return stored


def tiny(case: Case) -> None:
    folder = HERE / case.name
    model = write_model(case, folder)
    generator = torch.Generator().manual_seed(100 + case.seed)
    draw = lambda length: torch.randint(3, case.config["vocab_size"], (length,), generator=generator).tolist()  # noqa: E731
    sequences = [draw(length) for length in LENGTHS]

    with torch.no_grad():
        logits = [model(torch.tensor([ids])).logits[0].tolist() for ids in sequences]
        greedy_cases = []
        for length in PROMPTS:
            continuation, margin = [], 0.0
            while margin < MARGIN:  # a near tie proves nothing: take the next prompt
                prompt = draw(length)
                continuation, margin = greedy(model, prompt, CONTINUATION)
            greedy_cases.append({"prompt": prompt, "continuation": continuation, "smallest_margin": margin})

    optimizer = adamw(model, **ADAMW)
    losses, parameters = [], {}
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = response_loss(model, sequences, list(RESPONSES))
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            for name, parameter in stored_parameters(model):
                assert parameter.grad.isfinite().all() and (parameter.grad.any() or ".experts." in name), name
                indices = sample_indices(parameter.grad)
                parameters[name] = {
                    "shape": list(parameter.data.shape),
                    "gradient_norm": parameter.grad.norm().item(),
                    "indices": indices,
                    "gradient": parameter.grad.flatten()[indices].tolist(),
                }
        optimizer.step()
        if step == 0:
            for name, parameter in stored_parameters(model):
                parameters[name]["after_step"] = parameter.data.flatten()[parameters[name]["indices"]].tolist()
    with torch.no_grad():
        losses.append(response_loss(model, sequences, list(RESPONSES)).item())

    write_json(
        folder / "golden.json",
        {
            "versions": versions(),
            "sequences": sequences,
            "responses": list(RESPONSES),
            "logits": logits,
            "adamw": ADAMW,
            "losses": losses,
            "parameters": parameters,
            "greedy": greedy_cases,
        },
    )
    print(
        f"{case.name}: {sum(p.numel() for p in model.parameters())} parameters, losses {[round(x, 4) for x in losses]}",
        file=sys.stderr,
    )


# ---- Adapters -------------------------------------------------------------------------------------------------

RANK = 4


def adapter_shapes(case: Case) -> dict[str, list[int]]:
    """The tensors of an adapter as PEFT saves them, by name; in a layer with experts only attention's are ours."""
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

    routed = "num_local_experts" in case.config
    modules = ["q_proj", "k_proj", "v_proj", "o_proj"] if routed else "all-linear"
    config = LoraConfig(r=RANK, target_modules=modules, task_type="CAUSAL_LM")
    adapted = get_peft_model(load(HERE / case.name), config)
    return {name: list(tensor.shape) for name, tensor in sorted(get_peft_model_state_dict(adapted).items())}


# ---- SmolLM2 --------------------------------------------------------------------------------------------------

W1 = {"sequences": 16, "tokens": 48, "response": 16, "steps": 5}
W1_ADAMW = {"lr": 1e-5, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 1e-2}
W1_FORMULA = "token(s, t) = (7919*s + 104729*t + 31*s*t*t + 17) mod 49152"
QUESTIONS = ("What is the capital of France?", "Count from one to ten.", "Why is the sky blue?")
ANSWER = 32


def w1_token(s: int, t: int) -> int:
    return (7919 * s + 104729 * t + 31 * s * t * t + 17) % 49152


def smollm2(folder: Path) -> None:
    model, tokenizer = load(folder), AutoTokenizer.from_pretrained(folder)
    answers = []
    with torch.no_grad():
        for question in QUESTIONS:
            prompt = tokenizer.apply_chat_template(
                [{"role": "user", "content": question}], add_generation_prompt=True, return_dict=False
            )
            ids, margin = greedy(model, prompt, ANSWER, stop=model.config.eos_token_id)
            answers.append(
                {
                    "user": question,
                    "prompt": prompt,
                    "continuation": ids,
                    "text": tokenizer.decode(ids, skip_special_tokens=True),
                    "smallest_margin": margin,
                }
            )

    tokens = torch.tensor([[w1_token(s, t) for t in range(W1["tokens"])] for s in range(W1["sequences"])])
    response = W1["response"]
    optimizer = adamw(model, **W1_ADAMW)
    losses = []
    for _ in range(W1["steps"]):
        optimizer.zero_grad()
        hidden = model.model(tokens).last_hidden_state[:, -response - 1 : -1]
        loss = cross_entropy(model.lm_head(hidden).flatten(0, 1), tokens[:, -response:].flatten())
        loss.backward()
        losses.append(loss.item())
        optimizer.step()

    total = sum(p.double().sum().item() for p in load(folder).parameters())
    write_json(
        HERE / "smollm2.json",
        {
            "versions": versions(),
            "model": "SmolLM2-135M-Instruct, Q4_1 dequantised to F32",
            "parameter_sum": total,
            "w1": W1 | {"formula": W1_FORMULA, "adamw": W1_ADAMW, "losses": losses},
            "greedy": answers,
        },
    )
    print(
        f"smollm2: losses {losses}",
        *[f"{a['smallest_margin']:.4f} {a['text']!r}" for a in answers],
        sep="\n",
        file=sys.stderr,
    )


# ---- Common ---------------------------------------------------------------------------------------------------


def versions() -> dict[str, str]:
    return {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__}


def rounded(value):
    """Eight significant digits: more than fp32 holds to within its rounding, and less to store."""
    if isinstance(value, float):
        return float(f"{value:.8g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return value


def write_json(path: Path, value: dict) -> None:
    """One line per top-level field, so that a change shows where it is."""
    lines = [f"{json.dumps(key)}: {json.dumps(rounded(item), separators=(',', ':'))}" for key, item in value.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("tiny", help="the tiny random models").add_argument("--only", metavar="CASE")
    commands.add_parser("peft", help="the adapters of the tiny models")
    commands.add_parser("smollm2", help="SmolLM2-135M-Instruct").add_argument("folder", type=Path)
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if arguments.command == "tiny":
        for case in CASES:
            if arguments.only in (None, case.name):
                tiny(case)
    elif arguments.command == "peft":
        write_json(HERE / "peft.json", {case.name: adapter_shapes(case) for case in CASES})
    else:
        smollm2(arguments.folder)


if __name__ == "__main__":
    main()
