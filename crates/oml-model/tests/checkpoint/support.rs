//! Small models, and the bytes of their files.

use std::fs;
use std::path::Path;

use oml_model::config::ModelConfig;
use serde_json::{Map, Value, json};

/// A two-layer model of every tensor kind, biases included.
pub(crate) fn config() -> Map<String, Value> {
    let fields = json!({
        "model_type": "llama",
        "hidden_size": 8,
        "intermediate_size": 12,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 16,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "attention_bias": true,
        "mlp_bias": true,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_to_us": {"kept": true},
    });
    fields.as_object().unwrap().clone()
}

pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// Numbers that all stored types hold exactly, different at every place.
pub(crate) fn tensors(config: &Map<String, Value>) -> Vec<Tensor> {
    let mut next = 0;
    let mut value = || {
        next += 1;
        (next % 255 - 127) as f32 / 64.0
    };
    let shapes = ModelConfig::from_json(config).unwrap().tensor_shapes();
    let fill = |(name, shape): (String, Vec<usize>)| Tensor {
        values: (0..shape.iter().product()).map(|_| value()).collect(),
        name,
        shape,
    };
    shapes.into_iter().map(fill).collect()
}

pub(crate) fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// A safetensors file of a header and data.
pub(crate) fn safetensors_file(header: &str, data: &[u8]) -> Vec<u8> {
    [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        data,
    ]
    .concat()
}

/// A safetensors file of whole tensors with their types' names and bytes.
pub(crate) fn safetensors_of(tensors: &[(&str, &str, &[usize], Vec<u8>)]) -> Vec<u8> {
    let mut header = Map::new();
    let mut data = Vec::new();
    for (name, dtype, shape, bytes) in tensors {
        let begin = data.len();
        data.extend_from_slice(bytes);
        header.insert(
            (*name).into(),
            json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, data.len()]}),
        );
    }
    safetensors_file(&Value::Object(header).to_string(), &data)
}

/// The files of a folder that holds the small model in F32, without a tokenizer.
pub(crate) fn write_folder(folder: &Path, config: &Map<String, Value>, tensors: &[Tensor]) {
    fs::create_dir_all(folder).unwrap();
    fs::write(
        folder.join("config.json"),
        Value::Object(config.clone()).to_string(),
    )
    .unwrap();
    let entries: Vec<_> = tensors
        .iter()
        .map(|tensor| {
            (
                tensor.name.as_str(),
                "F32",
                tensor.shape.as_slice(),
                f32_bytes(&tensor.values),
            )
        })
        .collect();
    fs::write(folder.join("model.safetensors"), safetensors_of(&entries)).unwrap();
}

/// A value of GGUF metadata.
pub(crate) enum Field<'a> {
    U32(u32),
    F32(f32),
    Flag(bool),
    Text(&'a str),
    Texts(&'a [String]),
    I32s(&'a [i32]),
    F32s(&'a [f32]),
    /// A type and bytes as they are.
    Raw(u32, Vec<u8>),
}

/// A GGUF file in the making.
#[derive(Default)]
pub(crate) struct Gguf {
    fields: Vec<(String, Vec<u8>)>,
    tensors: Vec<(String, Vec<u64>, u32, u64)>,
    data: Vec<u8>,
}

pub(crate) fn text_bytes(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

impl Gguf {
    pub(crate) fn field(&mut self, key: &str, value: Field<'_>) -> &mut Self {
        let array = |kind: u32, count: usize, bytes: Vec<u8>| {
            (
                9,
                [
                    &kind.to_le_bytes()[..],
                    &(count as u64).to_le_bytes(),
                    &bytes,
                ]
                .concat(),
            )
        };
        let (kind, bytes) = match value {
            Field::U32(value) => (4, value.to_le_bytes().to_vec()),
            Field::F32(value) => (6, value.to_le_bytes().to_vec()),
            Field::Flag(value) => (7, vec![u8::from(value)]),
            Field::Text(text) => (8, text_bytes(text)),
            Field::Texts(texts) => array(
                8,
                texts.len(),
                texts.iter().flat_map(|text| text_bytes(text)).collect(),
            ),
            Field::I32s(values) => array(
                5,
                values.len(),
                values
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect(),
            ),
            Field::F32s(values) => array(6, values.len(), f32_bytes(values)),
            Field::Raw(kind, bytes) => (kind, bytes),
        };
        self.fields
            .push((key.into(), [&kind.to_le_bytes()[..], &bytes].concat()));
        self
    }

    /// Adds a tensor at the next multiple of 32.
    pub(crate) fn tensor(
        &mut self,
        name: &str,
        shape: &[usize],
        kind: u32,
        bytes: &[u8],
    ) -> &mut Self {
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        let offset = self.data.len() as u64;
        self.data.extend_from_slice(bytes);
        self.placed(
            name,
            &shape.iter().map(|size| *size as u64).collect::<Vec<_>>(),
            kind,
            offset,
        )
    }

    /// Adds a tensor's description only.
    pub(crate) fn placed(
        &mut self,
        name: &str,
        shape: &[u64],
        kind: u32,
        offset: u64,
    ) -> &mut Self {
        self.tensors
            .push((name.into(), shape.to_vec(), kind, offset));
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(3u32.to_le_bytes());
        file.extend((self.tensors.len() as u64).to_le_bytes());
        file.extend((self.fields.len() as u64).to_le_bytes());
        for (key, value) in &self.fields {
            file.extend(text_bytes(key));
            file.extend(value);
        }
        for (name, shape, kind, offset) in &self.tensors {
            file.extend(text_bytes(name));
            file.extend((shape.len() as u32).to_le_bytes());
            shape
                .iter()
                .rev()
                .for_each(|size| file.extend(size.to_le_bytes()));
            file.extend(kind.to_le_bytes());
            file.extend(offset.to_le_bytes());
        }
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend(&self.data);
        file
    }
}

/// The small model's metadata, without a tokenizer.
pub(crate) fn gguf_metadata(config: &ModelConfig) -> Gguf {
    let mut file = Gguf::default();
    file.field("general.architecture", Field::Text("llama"))
        .field(
            "llama.embedding_length",
            Field::U32(config.hidden_size as u32),
        )
        .field(
            "llama.feed_forward_length",
            Field::U32(config.intermediate_size as u32),
        )
        .field(
            "llama.block_count",
            Field::U32(config.num_hidden_layers as u32),
        )
        .field(
            "llama.attention.head_count",
            Field::U32(config.num_attention_heads as u32),
        )
        .field(
            "llama.attention.head_count_kv",
            Field::U32(config.num_key_value_heads as u32),
        )
        .field(
            "llama.context_length",
            Field::U32(config.max_position_embeddings as u32),
        )
        .field(
            "llama.attention.layer_norm_rms_epsilon",
            Field::F32(config.rms_norm_eps),
        )
        .field(
            "llama.rope.dimension_count",
            Field::U32(config.head_dim as u32),
        );
    file
}

/// GGUF's name of a tensor.
pub(crate) fn gguf_name(name: &str) -> String {
    let parts = [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("model.layers.", "blk."),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    parts
        .iter()
        .fold(name.to_owned(), |name, (from, to)| name.replace(from, to))
}
