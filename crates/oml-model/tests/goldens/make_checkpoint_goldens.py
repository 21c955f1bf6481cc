"""Makes the golden values that the tests of checkpoint, tokenizer and chat template compare with.

    python make_checkpoint_goldens.py [SmolLM2-135M-Instruct.Q4_1.gguf]

Needs numpy, torch, transformers, tokenizers, gguf, sentencepiece and regex. Without the GGUF file the goldens of
SmolLM2 stay as they are. Everything is seeded: the same versions give the same files.
"""

import base64
import json
import random
import sys
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
import regex

HERE = Path(__file__).parent

TEXTS = [
    "",
    " ",
    "Hello, world!",
    "The year 2024 had 366 days; 1,234,567.89 is a number, and so is 0x1F.",
    "it's we'll THEY'RE I'd don't 'S",
    "tabs\tand\r\nnew lines\n\n\n  indented   by   three \n",
    "def f(x):\n    return [i ** 2 for i in range(x)]  # squares\n",
    "Grüße aus Köln — naïve café, 北京 東京 서울, Москва, שלום, مرحبا",
    "e\u0301 is é in two parts; ½ ² Ⅷ ٣ are numbers too",
    "emoji 👩\u200d🚀🇩🇪 and \u00a0odd\u2003spaces",
    "a" * 40 + "   " + "ab" * 20,
    "http://example.org/path?q=1&r=%20#end CamelCaseWords HTTPServer snake_case",
    "$5 + 7 <= 12 ~ ^|^ >>> ... !!! ?!",
]


def write(name, value):
    (HERE / name).write_text(json.dumps(value, ensure_ascii=True, indent=1) + "\n")


# Rotary frequencies

FACTORS = {"short": 0.125, "long": 0.5}  # what each pair's divisor adds to that of the one before


def rope():
    import torch
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    scalings = [
        None,
        {"rope_type": "linear", "factor": 4.0},
        {"rope_type": "dynamic", "factor": 2.0},
        {
            "rope_type": "llama3",
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
        {
            "rope_type": "yarn",
            "factor": 40.0,
            "original_max_position_embeddings": 4096,
            "beta_fast": 16,
            "beta_slow": 2,
            "mscale": 1.0,
            "mscale_all_dim": 0.5,
            "truncate": False,
        },
        {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 2048, "attention_factor": 1.25},
    ]
    cases = []
    for theta, head_dim, positions in [(10000.0, 64, 2048), (500000.0, 128, 131072)]:
        factors = {f"{kind}_factor": [1 + step * pair for pair in range(head_dim // 2)] for kind, step in FACTORS.items()}
        longrope = {"rope_type": "longrope", "original_max_position_embeddings": 1024} | factors
        for scaling in [*scalings, longrope]:
            kind = scaling and scaling["rope_type"]
            for length in {"dynamic": [None, 2 * positions], "longrope": [1024, positions]}.get(kind, [None]):
                fields = {
                    "model_type": "llama",
                    "hidden_size": 2 * head_dim,
                    "intermediate_size": 8,
                    "num_hidden_layers": 1,
                    "num_attention_heads": 2,
                    "vocab_size": 16,
                    "max_position_embeddings": positions,
                    "rope_theta": theta,
                    "rope_scaling": scaling,
                    "bos_token_id": 1,
                    "eos_token_id": 2,
                }
                config = LlamaConfig(**json.loads(json.dumps(fields)))
                if scaling is None:
                    module = LlamaRotaryEmbedding(config)
                    frequencies, attention = module.inv_freq, module.attention_scaling
                else:
                    function = ROPE_INIT_FUNCTIONS[scaling["rope_type"]]
                    frequencies, attention = function(config, torch.device("cpu"), seq_len=length)
                cases.append(
                    {
                        "config": fields,
                        "tokens": length or positions,
                        "frequencies": [float(f) for f in frequencies.float()],
                        "attention": float(attention),
                    }
                )
    write("rope.json", cases)


# Dequantisation


def dequantisation():
    import gguf
    from gguf.quants import dequantize

    random_bytes = np.random.default_rng(7)
    # byte offsets of the binary16 scales in a block
    scales = {"Q4_0": [0], "Q4_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}
    scales |= {"Q5_0": [0], "Q5_1": [0, 2], "Q2_K": [80, 82], "Q3_K": [108], "IQ4_NL": [0], "IQ4_XS": [0]}
    cases = {}
    for name, offsets in scales.items():
        kind = gguf.GGMLQuantizationType[name]
        _, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = random_bytes.integers(0, 256, (3, size), dtype=np.uint8)
        for offset in offsets:
            scale = random_bytes.normal(0, 0.05, 3).astype(np.float16)
            blocks[:, offset : offset + 2] = scale.view(np.uint8).reshape(3, 2)
        values = dequantize(blocks, kind).reshape(-1).astype("<f4")
        cases[name] = {
            "stored": base64.b64encode(blocks.tobytes()).decode(),
            "values": base64.b64encode(values.tobytes()).decode(),
        }
    write("dequantise.json", cases)


# Byte-level BPE, written from the definition: cut, map bytes to characters, merge the earliest pair of the list

CONTRACTIONS = r"'s|'t|'re|'ve|'m|'ll|'d"
GPT2 = CONTRACTIONS + r"| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def llama3(numbers):
    return (
        rf"(?i:{CONTRACTIONS})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{numbers}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CUTS = {
    "default": [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
    "gpt-2": [GPT2],
    "smollm": [r"\p{N}", GPT2],
    "llama-bpe": [llama3(r"\p{N}{1,3}")],
    "qwen2": [llama3(r"\p{N}")],
    "tekken": [
        rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*|\p{{N}}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ],
}
WHOLE_FIRST = {"llama-bpe", "tekken"}


def byte_characters():
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


class ByteLevel:
    def __init__(self, cut, tokens, merges, special):
        self.expressions = [regex.compile(expression) for expression in CUTS[cut]]
        self.whole_first, self.composed = cut in WHOLE_FIRST, cut == "qwen2"
        self.ids = {token: id for id, token in enumerate(tokens)}
        self.ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(merges)}
        self.characters = byte_characters()
        names = sorted(special, key=len, reverse=True)
        self.special = regex.compile("(" + "|".join(map(regex.escape, names)) + ")") if names else None

    def pieces(self, text):
        pieces = [text]
        for expression in self.expressions:
            cut = []
            for piece in pieces:
                end = 0
                for match in expression.finditer(piece):
                    cut += [piece[end : match.start()], match.group()]
                    end = match.end()
                cut.append(piece[end:])
            pieces = [piece for piece in cut if piece]
        return pieces

    def encode(self, text):
        parts = self.special.split(text) if self.special else [text]
        ids = []
        for index, part in enumerate(parts):
            if index % 2 == 1:
                ids.append(self.ids[part])
                continue
            part = unicodedata.normalize("NFC", part) if self.composed else part
            for piece in self.pieces(part):
                ids += self.merge("".join(self.characters[byte] for byte in piece.encode()))
        return ids

    def merge(self, piece):
        if self.whole_first and piece in self.ids:
            return [self.ids[piece]]
        symbols = list(piece)
        while len(symbols) > 1:
            pairs = list(zip(symbols, symbols[1:]))
            best = min(pairs, key=lambda pair: self.ranks.get(pair, len(self.ranks)))
            if best not in self.ranks:
                break
            merged, at = [], 0
            while at < len(symbols):
                if at + 1 < len(symbols) and (symbols[at], symbols[at + 1]) == best:
                    merged.append(symbols[at] + symbols[at + 1])
                    at += 2
                else:
                    merged.append(symbols[at])
                    at += 1
            symbols = merged
        return [self.ids[symbol] for symbol in symbols]


def corpus():
    words = "the cat sat on a mat and 2024 people're running in 1234 HTTP servers; naïve café Köln 北京 x = y + 1\n".split(" ")
    choose = random.Random(3)
    return [" ".join(choose.choices(words, k=12)) for _ in range(200)] + TEXTS


def byte_level():
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<|end|>", "<|im_start|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    merges = [" ".join(merge) for merge in model["merges"]]
    texts = TEXTS + ["<|im_start|>user\nHi<|end|> there"]
    ids = {}
    for cut in CUTS:
        encoder = ByteLevel(cut, tokens, merges, ["<|end|>", "<|im_start|>"])
        ids[cut] = [encoder.encode(text) for text in texts]
    write("byte_level.json", {"tokens": tokens, "merges": merges, "texts": texts, "ids": ids})


# SentencePiece's own BPE


def sentence_piece():
    import sentencepiece

    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text"
        text.write_text("\n".join(line.replace("\n", " ") for line in corpus()))
        sentencepiece.SentencePieceTrainer.train(
            input=str(text),
            model_prefix=str(Path(folder) / "model"),
            vocab_size=420,
            model_type="bpe",
            byte_fallback=True,
            character_coverage=0.98,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            hard_vocab_limit=False,
            num_threads=1,
            minloglevel=2,
        )
        processor = sentencepiece.SentencePieceProcessor(model_file=str(Path(folder) / "model.model"))
    tokens = range(processor.get_piece_size())

    def kind(id):
        if processor.is_unknown(id):
            return 2
        if processor.is_control(id):
            return 3
        return 6 if processor.is_byte(id) else 1

    texts = [text for text in TEXTS if text]
    write(
        "sentence_piece.json",
        {
            "tokens": [processor.id_to_piece(id) for id in tokens],
            "scores": [processor.get_score(id) for id in tokens],
            "types": [kind(id) for id in tokens],
            "texts": texts,
            "ids": [processor.encode(text) for text in texts],
            "decoded": [processor.decode(processor.encode(text)) for text in texts],
        },
    )


# Chat templates, as transformers renders them

TEMPLATES = {
    "turns": "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message.content + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}",
    "blocks": """{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] | trim %}
    {%- set rest = messages[1:] %}
{%- else %}
    {%- set system = 'none' %}
    {%- set rest = messages %}
{%- endif %}
{{- bos_token }}[{{ system }}]
{% for message in rest %}
    {% if message.role == 'user' %}
Q: {{ message.content.strip() }}
    {% elif message.role == 'assistant' %}
        {%- generation -%}
A: {{ message.content.strip().upper() }}{{ eos_token }}
        {%- endgeneration %}
    {% endif %}
{% endfor %}
{% if add_generation_prompt %}
A:{% endif %}
""",
    "python": "{% set ns = namespace(n=0) %}{% for m in messages %}{% if m.role not in ['user', 'assistant', 'system'] %}"
    "{{ raise_exception('odd role ' + m.role) }}{% endif %}{% set ns.n = ns.n + m.content|length %}"
    "{% if not loop.last %}{% continue %}{% endif %}{{ m | tojson }}|{{ m.content.split(' ') | join('_') }}|"
    "{{ m.get('name', 'nobody') }}|{{ m.content.startswith('Hi') }}|{{ m.content[::-1] }}{% endfor %}{{ ns.n }}"
    "{{ '' if tools is none else 'tools' }}{{ 'date' if strftime_now is defined }}",
}
CONVERSATIONS = [
    [{"role": "user", "content": "Hi there"}],
    [
        {"role": "system", "content": "  Be brief. "},
        {"role": "user", "content": "What is \"<b>\" & 'é'?\n"},
        {"role": "assistant", "content": "A tag."},
        {"role": "user", "content": "Hi again "},
    ],
]


def chat_templates():
    from transformers.utils.chat_template_utils import render_jinja_template

    cases = []
    for name, template in TEMPLATES.items():
        for conversation in CONVERSATIONS:
            for answer_next in [False, True]:
                rendered, _ = render_jinja_template(
                    conversations=[conversation],
                    chat_template=template,
                    add_generation_prompt=answer_next,
                    bos_token="<s>",
                    eos_token="</s>",
                )
                cases.append(
                    {
                        "name": name,
                        "template": template,
                        "messages": conversation,
                        "answer_next": answer_next,
                        "text": rendered[0],
                    }
                )
    write("chat_templates.json", cases)


# The real model


def smollm2(path):
    from gguf import GGUFReader
    from transformers.utils.chat_template_utils import render_jinja_template

    fields = GGUFReader(path).fields

    def contents(name):
        return fields[f"tokenizer.{name}"].contents()

    tokens, merges = contents("ggml.tokens"), contents("ggml.merges")
    special = [token for token, kind in zip(tokens, contents("ggml.token_type")) if kind == 3]
    encoder = ByteLevel("smollm", tokens, merges, special)
    texts = TEXTS + ["<|im_start|>user\nWhat is 17 * 23?<|im_end|>\n", "<repo_name>x<|endoftext|>y <jupyter_code>"]
    chats = []
    for conversation in CONVERSATIONS:
        rendered, _ = render_jinja_template(
            conversations=[conversation],
            chat_template=contents("chat_template"),
            add_generation_prompt=True,
            bos_token=tokens[contents("ggml.bos_token_id")],
            eos_token=tokens[contents("ggml.eos_token_id")],
        )
        chats.append({"messages": conversation, "ids": encoder.encode(rendered[0])})
    write("smollm2_tokens.json", {"texts": texts, "ids": [encoder.encode(text) for text in texts], "chats": chats})


# GGUF files of the decoder's tiny models

FAMILIES = {"qwen3": "QWEN3", "gemma2": "GEMMA2", "gemma3": "GEMMA3", "phi3-longrope": "PHI3", "mixtral": "LLAMA"}


def gguf_families():
    """One file per family, names from the package `gguf`, numbers in llama.cpp's order; transformers must read the same weights from it."""
    import gguf
    import torch
    from safetensors.numpy import load_file
    from transformers import AutoModelForCausalLM

    out = HERE / "gguf"
    out.mkdir(exist_ok=True)
    for name, architecture in FAMILIES.items():
        folder = HERE / "decoder" / name
        config = json.loads((folder / "config.json").read_text())
        kind = gguf.MODEL_ARCH[architecture]
        names = gguf.get_tensor_name_map(kind, config["num_hidden_layers"])
        writer = gguf.GGUFWriter(out / f"{name}.gguf", gguf.MODEL_ARCH_NAMES[kind])
        writer.add_context_length(config["max_position_embeddings"])
        writer.add_embedding_length(config["hidden_size"])
        writer.add_block_count(config["num_hidden_layers"])
        writer.add_feed_forward_length(config["intermediate_size"])
        heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        width = config.get("head_dim", config["hidden_size"] // heads)
        writer.add_head_count(heads)
        writer.add_head_count_kv(kv_heads)
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        writer.add_vocab_size(config["vocab_size"])
        writer.add_rope_freq_base(config["rope_theta"])
        writer.add_bos_token_id(config["bos_token_id"])
        writer.add_eos_token_id(config["eos_token_id"])
        if "pad_token_id" in config:
            writer.add_pad_token_id(config["pad_token_id"])
        if "head_dim" in config:
            writer.add_key_length(width)
            writer.add_value_length(width)
        if "sliding_window" in config and name != "mixtral":
            writer.add_sliding_window(config["sliding_window"] or 0)  # as the converter writes none
        if name == "gemma2":
            writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
            writer.add_final_logit_softcapping(config["final_logit_softcapping"])
        if name == "gemma3":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(config["rope_scaling"]["factor"])
        if name == "mixtral":
            writer.add_expert_count(config["num_local_experts"])
            writer.add_expert_used_count(config["num_experts_per_tok"])
            writer.add_rope_dimension_count(width)
        if name == "phi3-longrope":
            original = config["original_max_position_embeddings"]
            writer.add_rope_dimension_count(int(width * config["partial_rotary_factor"]))
            writer.add_rope_scaling_orig_ctx_len(original)
            ratio = config["max_position_embeddings"] / original
            writer.add_rope_scaling_attn_factors(float(np.sqrt(1 + np.log(ratio) / np.log(original))))
            for length in ("long", "short"):
                factors = np.array(config["rope_scaling"][f"{length}_factor"], dtype=np.float32)
                writer.add_tensor(f"rope_factors_{length}.weight", factors)
        experts = {}
        for tensor, values in load_file(folder / "model.safetensors").items():
            if "gemma" in name and tensor.endswith("norm.weight"):
                values = values + 1
            if name == "mixtral" and (".q_proj." in tensor or ".k_proj." in tensor):
                own = heads if ".q_proj." in tensor else kv_heads
                halves = values.reshape(own, 2, len(values) // own // 2, *values.shape[1:])
                values = halves.swapaxes(1, 2).reshape(values.shape)
            if ".experts." in tensor:
                prefix, rest = tensor.split(".experts.")
                number, which, _ = rest.split(".")
                experts.setdefault(f"{prefix}.experts.{which}.weight", {})[int(number)] = values
                continue
            writer.add_tensor(names.get_name(tensor, try_suffixes=(".weight", ".bias")), np.ascontiguousarray(values))
        for tensor, parts in experts.items():
            stacked = np.stack([parts[number] for number in sorted(parts)])
            writer.add_tensor(names.get_name(tensor, try_suffixes=(".weight",)), stacked)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        if name in ("mixtral", "phi3-longrope"):
            continue  # transformers reads neither Mixtral's experts nor Phi-3's factors
        whole = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        read = AutoModelForCausalLM.from_pretrained(
            out, gguf_file=f"{name}.gguf", config=whole.config, dtype=torch.float32
        )
        for (key, a), (_, b) in zip(whole.state_dict().items(), read.state_dict().items(), strict=True):
            assert (a - b).abs().max() < 1e-6, (name, key)
        print(name, "is what transformers reads", file=sys.stderr)


if __name__ == "__main__":
    gguf_families()
    rope()
    dequantisation()
    byte_level()
    sentence_piece()
    chat_templates()
    if len(sys.argv) > 1:
        smollm2(sys.argv[1])
