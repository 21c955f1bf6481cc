//! GGUF files: a small model read back, and headers that lie.

use std::fs;
use std::path::Path;

use half::{bf16, f16};
use oml_model::checkpoint::gguf::read_header;
use oml_model::checkpoint::{Checkpoint, DType, write_model};
use oml_model::config::{ModelConfig, RopeScaling};

use crate::support::{
    Field, Gguf, config, f32_bytes, gguf_metadata, gguf_name, tensors, text_bytes,
};

/// Files that the package `gguf` wrote of the decoder's tiny models: the same tensors, the same configuration, and a `config.json` that says
/// it, but for what GGUF does not carry.
#[test]
fn families_are_those_of_their_folders() {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let temporary = tempfile::tempdir().unwrap();
    for name in ["qwen3", "gemma2", "gemma3", "phi3-longrope", "mixtral"] {
        let file = Checkpoint::open(&goldens.join("gguf").join(format!("{name}.gguf"))).unwrap();
        let folder = Checkpoint::open(&goldens.join("decoder").join(name)).unwrap();
        let names =
            |model: &Checkpoint| model.tensors().map(|t| t.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&file), names(&folder), "{name}");
        for tensor in folder.tensors() {
            let [mut expected, mut got] = [(); 2].map(|()| vec![0.0; tensor.elements()]);
            folder.read_f32(&tensor.name, &mut expected).unwrap();
            file.read_f32(&tensor.name, &mut got).unwrap();
            let off = expected.iter().zip(&got).map(|(e, g)| (e - g).abs());
            // Gemma's norms have lost what one more took from them.
            assert!(off.fold(0.0, f32::max) < 3e-7, "{name} {}", tensor.name);
        }
        let mut expected = folder.config().clone();
        let got = file.config();
        match name {
            // llama.cpp knows it by the size of the model
            "gemma2" => expected.query_pre_attn_scalar = 8.0,
            // and the windows, which are those of the published models
            "gemma3" => {
                expected.query_pre_attn_scalar = 8.0;
                expected.windows = vec![Some(4); 3];
                expected.rope_local_base_freq = Some(10_000.0);
            }
            _ => {}
        }
        if let (Some(wanted), Some(had)) = (&mut expected.rope_scaling, &got.rope_scaling)
            && let (
                RopeScaling::Long {
                    attention_factor: wanted,
                    ..
                },
                RopeScaling::Long {
                    attention_factor: had,
                    ..
                },
            ) = (wanted, had)
        {
            assert!((*wanted - had).abs() < 1e-6);
            *wanted = *had;
        }
        assert_eq!(*got, expected, "{name}");

        let out = temporary.path().join(name);
        let mut supply = |tensor: &str, out: &mut [f32]| Ok(file.read_f32(tensor, out)?);
        write_model(&out, &file, DType::F32, &mut supply, &[]).unwrap();
        assert_eq!(Checkpoint::open(&out).unwrap().config(), got, "{name}");
    }
}

/// llama.cpp's order of rows: row `half · d/2 + i` of a head becomes row `2 i + half`.
fn interleave(values: &[f32], heads: usize, columns: usize) -> Vec<f32> {
    let rows = values.len() / columns / heads;
    let source = |head, row: usize| head * rows + row % 2 * (rows / 2) + row / 2;
    (0..heads)
        .flat_map(|head| (0..rows).map(move |row| source(head, row)))
        .flat_map(|row| values[row * columns..][..columns].to_vec())
        .collect()
}

#[test]
fn weights_come_back_under_hugging_face_names_and_in_its_order() {
    let fields = config();
    let expected = ModelConfig::from_json(&fields).unwrap();
    let mut file = gguf_metadata(&expected);
    let all = tensors(&fields);
    for (index, tensor) in all.iter().enumerate() {
        let columns = tensor.shape.get(1).copied().unwrap_or(1);
        let values = match tensor.name.as_str() {
            name if name.contains("q_proj") => interleave(&tensor.values, 2, columns),
            name if name.contains("k_proj") => interleave(&tensor.values, 1, columns),
            _ => tensor.values.clone(),
        };
        let (kind, bytes) = match index % 3 {
            0 => (0, f32_bytes(&values)),
            1 => (
                1,
                values
                    .iter()
                    .flat_map(|value| f16::from_f32(*value).to_le_bytes())
                    .collect(),
            ),
            _ => (
                30,
                values
                    .iter()
                    .flat_map(|value| bf16::from_f32(*value).to_le_bytes())
                    .collect(),
            ),
        };
        file.tensor(&gguf_name(&tensor.name), &tensor.shape, kind, &bytes);
    }
    file.field("tokenizer.ggml.bos_token_id", Field::U32(1))
        .field("tokenizer.ggml.eos_token_id", Field::U32(2));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.gguf");
    fs::write(&path, file.bytes()).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!(*checkpoint.config(), expected);
    for tensor in all {
        let mut out = vec![0.0; tensor.values.len()];
        checkpoint.read_f32(&tensor.name, &mut out).unwrap();
        assert_eq!(out, tensor.values, "{}", tensor.name);
    }
    let message = checkpoint.tokenizer().err().unwrap().to_string();
    assert!(
        message.ends_with("small.gguf: expected tokenizer.json, got none"),
        "{message}"
    );
}

#[test]
fn llama_3_scaling_is_found_in_its_factors() {
    let mut fields = config();
    fields.insert("head_dim".into(), 128.into());
    fields.insert("rope_theta".into(), 5e5.into());
    let plain = ModelConfig::from_json(&fields).unwrap();
    let scaling = RopeScaling::Llama3 {
        factor: 32.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };
    let scaled = ModelConfig {
        rope_scaling: Some(scaling),
        ..plain.clone()
    };
    let ratio = |(plain, scaled): (&f32, &f32)| plain / scaled;
    let factors: Vec<f32> = plain
        .inverse_frequencies()
        .0
        .iter()
        .zip(&scaled.inverse_frequencies().0)
        .map(ratio)
        .collect();
    let open = |factors: &[f32]| {
        let mut file = gguf_metadata(&plain);
        file.field("llama.attention.key_length", Field::U32(128))
            .field("llama.rope.freq_base", Field::F32(5e5))
            .field("tokenizer.ggml.bos_token_id", Field::U32(1))
            .field("tokenizer.ggml.eos_token_id", Field::U32(2))
            .tensor(
                "rope_freqs.weight",
                &[factors.len()],
                0,
                &f32_bytes(factors),
            );
        for tensor in tensors(&fields) {
            file.tensor(
                &gguf_name(&tensor.name),
                &tensor.shape,
                0,
                &f32_bytes(&tensor.values),
            );
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.gguf");
        fs::write(&path, file.bytes()).unwrap();
        Checkpoint::open(&path).map(|checkpoint| checkpoint.config().clone())
    };
    assert_eq!(open(&factors).unwrap(), scaled);
    let others: Vec<f32> = factors.iter().map(|factor| factor * 0.5 + 1.0).collect();
    let message = open(&others).unwrap_err().to_string();
    assert!(
        message.contains("rope_freqs.weight: expected the factors of Llama 3's rope scaling"),
        "{message}"
    );
}

/// The error of a file's header.
fn fault(file: &[u8]) -> String {
    read_header(file, file.len() as u64, Path::new("x.gguf"))
        .unwrap_err()
        .to_string()
}

#[test]
fn every_lie_has_its_message() {
    let start = |version: u32, tensors: u64, fields: u64| {
        let counts = [tensors.to_le_bytes(), fields.to_le_bytes()].concat();
        [&b"GGUF"[..], &version.to_le_bytes(), &counts].concat()
    };
    let field = |value: Field<'_>| Gguf::default().field("k", value).bytes();
    let tensor = |shape: &[u64], kind, offset| {
        let mut file = Gguf::default();
        file.placed("w", shape, kind, offset).bytes()
    };
    let array = |kind: u32, count: u64| {
        Field::Raw(9, [&kind.to_le_bytes()[..], &count.to_le_bytes()].concat())
    };
    let alignment = |value| Gguf::default().field("general.alignment", value).bytes();
    let bad_text = [&1u64.to_le_bytes()[..], &[0xff]].concat();
    let mut shared = Gguf::default();
    shared
        .tensor("a", &[16], 0, &[0; 64])
        .placed("b", &[8], 0, 32);
    let mut twice = Gguf::default();
    twice
        .tensor("a", &[8], 0, &[0; 32])
        .tensor("a", &[8], 0, &[0; 32]);
    let mut key_twice = Gguf::default();
    key_twice
        .field("k", Field::U32(1))
        .field("k", Field::U32(2));
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "magic: expected 4 more bytes, got 0"),
        (
            b"GGML\x03\0\0\0".to_vec(),
            r#"magic: expected "GGUF", got "GGML""#,
        ),
        (start(1, 0, 0), "version: expected 2 or 3, got 1"),
        (
            start(3u32.swap_bytes(), 0, 0),
            "version: expected 2 or 3, got 50331648",
        ),
        (
            start(3, u64::MAX, 0),
            "tensor count: expected at most 262144, got 18446744073709551615",
        ),
        (
            start(3, 0, u64::MAX),
            "metadata count: expected at most 16384, got 18446744073709551615",
        ),
        (start(3, 0, 1), "metadata key: expected 8 more bytes, got 0"),
        (start(3, 1, 0), "tensor name: expected 8 more bytes, got 0"),
        (
            [start(3, 0, 1), u64::MAX.to_le_bytes().to_vec()].concat(),
            "metadata key: expected at most 4096, got 18446744073709551615",
        ),
        (
            [start(3, 0, 1), 100u64.to_le_bytes().to_vec()].concat(),
            "metadata key: expected 100 more bytes, got 0",
        ),
        (
            field(Field::Raw(13, vec![])),
            "k: expected a metadata type from 0 to 12, not nested, got type 13",
        ),
        (
            field(Field::Raw(8, bad_text)),
            "k: expected UTF-8, got invalid utf-8 sequence of 1 bytes from index 0",
        ),
        (
            field(array(9, 1)),
            "k: expected a metadata type from 0 to 12, not nested, got type 9",
        ),
        (
            field(array(8, u64::MAX)),
            "k: expected at most 4194304, got 18446744073709551615",
        ),
        (
            field(array(8, 4_000_000)),
            "k: expected 32000000 more bytes, got 15",
        ),
        (
            field(array(10, 1000)),
            "k: expected 8000 more bytes, got 15",
        ),
        (key_twice.bytes(), "k: named twice"),
        (
            alignment(Field::U32(0)),
            "general.alignment: expected a power of two up to 1048576, got 0",
        ),
        (
            alignment(Field::U32(48)),
            "general.alignment: expected a power of two up to 1048576, got 48",
        ),
        (
            alignment(Field::Flag(true)),
            "general.alignment: expected a power of two up to 1048576, got a truth value",
        ),
        (
            tensor(&[1, 1, 1, 1, 1], 0, 0),
            "w: dimensions: expected at most 4, got 5",
        ),
        (
            tensor(&[1], 9, 0),
            "w: dtype: expected one of F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, got ggml type 9",
        ),
        (
            tensor(&[2, 33], 8, 0),
            "w: shape: expected rows of a multiple of 32 for Q8_0, got [2, 33]",
        ),
        (
            tensor(&[128], 12, 0),
            "w: shape: expected rows of a multiple of 256 for Q4_K, got [128]",
        ),
        (
            tensor(&[u64::MAX, 2], 0, 0),
            "w: shape: expected a product within 64 bits, got [18446744073709551615, 2]",
        ),
        (
            tensor(&[1], 0, 8),
            "w: offset: expected a multiple of 32, got 8",
        ),
        (tensor(&[1], 0, 0), "w: end: expected at most 0, got 4"),
        (
            tensor(&[1], 0, u64::MAX - 31),
            "w: end: expected at most 0, got 18446744073709551588",
        ),
        (shared.bytes(), "b: overlaps a"),
        (twice.bytes(), "a: named twice"),
    ];
    for (file, message) in cases {
        assert_eq!(fault(&file), format!("x.gguf: {message}"));
    }
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let mut file = Gguf::default();
    file.field("a", Field::Text("text"))
        .field("b", Field::Texts(&["x".into(), "y".into()]))
        .field("c", Field::F32s(&[1.0, 2.0]))
        .tensor("w", &[2, 4], 0, &[1; 32]);
    let file = file.bytes();
    read_header(&file[..], file.len() as u64, Path::new("x")).unwrap();
    for length in 0..file.len() {
        fault(&file[..length]);
    }
}

#[test]
fn metadata_that_makes_no_model_is_refused() {
    let open = |file: &Gguf| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.gguf");
        fs::write(&path, file.bytes()).unwrap();
        let message = Checkpoint::open(&path).err().unwrap().to_string();
        message.split_once("x.gguf: ").unwrap().1.to_owned()
    };
    let good = || gguf_metadata(&ModelConfig::from_json(&config()).unwrap());
    let embedding = [0; 16 * 8 * 4];
    let cases: Vec<(Gguf, &str)> = vec![
        (Gguf::default(), "general.architecture: missing"),
        (
            {
                let mut file = Gguf::default();
                file.field("general.architecture", Field::Text("mamba"));
                file
            },
            "general.architecture: expected one of gemma, gemma2, gemma3, llama, phi3, qwen2, qwen3, got mamba",
        ),
        (
            {
                let mut file = Gguf::default();
                file.field("general.architecture", Field::U32(1));
                file
            },
            "general.architecture: expected a text, got a whole number",
        ),
        (
            {
                let mut file = Gguf::default();
                file.field("general.architecture", Field::Text("llama"));
                file
            },
            "llama.embedding_length: missing",
        ),
        (good(), "token_embd.weight: missing"),
        (
            {
                let mut file = good();
                file.tensor("token_embd.weight", &[16, 8], 0, &embedding);
                file
            },
            "model.layers.0.input_layernorm.weight: missing",
        ),
        (
            {
                let mut file = good();
                file.tensor("token_embd.weight", &[8, 16], 0, &embedding);
                file
            },
            "model.embed_tokens.weight: shape: expected [8, 8], got [8, 16]",
        ),
        (
            {
                let mut file = good();
                file.tensor("token_embd.weight", &[16, 8], 0, &embedding)
                    .field("llama.attention.key_length", Field::U32(6));
                file
            },
            "rope.dimension_count: expected 6, got 4",
        ),
        (
            {
                let mut file = good();
                file.tensor("token_embd.weight", &[16, 8], 0, &embedding)
                    .field(
                        "llama.rope.scaling.type",
                        Field::Raw(8, text_bytes("longrope")),
                    );
                file
            },
            "short_factor: missing",
        ),
        (
            {
                let mut file = good();
                file.field("llama.rope.freq_base", Field::F32(f32::INFINITY));
                file
            },
            "llama.rope.freq_base: expected a finite number, got inf",
        ),
        (
            {
                let mut file = good();
                file.field("llama.rope.scaling.type", Field::Text("linear"))
                    .field("llama.rope.scaling.factor", Field::F32(f32::NAN))
                    .tensor("token_embd.weight", &[16, 8], 0, &embedding);
                file
            },
            "llama.rope.scaling.factor: expected a finite number, got NaN",
        ),
        (
            {
                let mut file = good();
                file.tensor("token_embd.weight", &[16, 8], 0, &embedding)
                    .field("llama.expert_count", Field::U32(2))
                    .placed("blk.0.ffn_gate_exps.weight", &[1 << 40, 0, 32], 0, 0);
                file
            },
            "model.layers.0.input_layernorm.weight: missing",
        ),
        (
            {
                let mut file = good();
                file.tensor("token_embd.weight", &[16, 8], 0, &embedding)
                    .field("llama.expert_count", Field::U32(4096));
                file
            },
            "num_local_experts: expected a whole number from 1 to 128, got 4096",
        ),
    ];
    for (file, message) in cases {
        assert_eq!(open(&file), message);
    }
}
