use serde_json::{Value, json};

use super::*;

fn tiny() -> Value {
    json!({
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 100,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "bos_token_id": 1,
        "eos_token_id": [2, 3],
    })
}

fn read(fields: &Value) -> Result<ModelConfig, ConfigError> {
    ModelConfig::from_json(fields.as_object().unwrap())
}

/// Reads the tiny configuration with fields replaced.
fn with(changes: Value) -> Result<ModelConfig, ConfigError> {
    let mut fields = tiny();
    for (name, value) in changes.as_object().unwrap() {
        fields[name] = value.clone();
    }
    read(&fields)
}

#[test]
fn frequencies_are_those_of_transformers() {
    let goldens: Value =
        serde_json::from_str(include_str!("../../tests/goldens/rope.json")).unwrap();
    for case in goldens.as_array().unwrap() {
        let config = read(&case["config"]).unwrap();
        let (frequencies, attention) =
            config.inverse_frequencies_at(case["tokens"].as_u64().unwrap() as usize);
        let expected = case["frequencies"].as_array().unwrap();
        assert_eq!(frequencies.len(), expected.len());
        for (got, expected) in frequencies.iter().zip(expected) {
            let expected = expected.as_f64().unwrap();
            let error = (f64::from(*got) / expected - 1.0).abs();
            assert!(error < 5e-7, "{}: {got} {expected}", case["config"]);
        }
        assert!((f64::from(attention) - case["attention"].as_f64().unwrap()).abs() < 1e-6);
    }
}

#[test]
fn a_written_scaling_reads_the_same() {
    for scaling in [
        json!({"type": "linear", "factor": 2.0}),
        json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 128}),
        json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128, "mscale": 0.7}),
        json!({"type": "longrope", "short_factor": [1, 2, 3, 4], "long_factor": [2, 3, 4, 5],
            "original_max_position_embeddings": 128}),
    ] {
        let config = with(json!({"rope_scaling": scaling})).unwrap();
        let written = config.rope_scaling.as_ref().unwrap().to_json();
        assert_eq!(with(json!({"rope_scaling": written})).unwrap(), config);
    }
}

#[test]
fn transformers_5_keeps_rope_in_one_object() {
    let old = with(json!({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}}))
        .unwrap();
    let new = with(json!({"rope_theta": null,
        "rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 2.0}}));
    assert_eq!(new.unwrap(), old);
}

#[test]
fn families_differ_in_their_biases() {
    let biases = |changes| {
        let config = with(changes).unwrap();
        (
            config.attention_bias,
            config.attention_out_bias,
            config.mlp_bias,
        )
    };
    assert_eq!(biases(json!({})), (false, false, false));
    assert_eq!(
        biases(json!({"attention_bias": true, "mlp_bias": true})),
        (true, true, true)
    );
    assert_eq!(
        biases(json!({"model_type": "mistral", "architectures": null})),
        (false, false, false)
    );
    assert_eq!(
        biases(json!({"model_type": "qwen2", "architectures": null})),
        (true, false, false)
    );
}

fn windows(changes: Value) -> Vec<Option<usize>> {
    with(changes).unwrap().windows
}

#[test]
fn families_differ_in_their_windows() {
    let of = |family: &str, mut changes: Value| {
        changes["model_type"] = json!(family);
        changes["architectures"] = json!(null);
        changes["num_hidden_layers"] = json!(4);
        windows(changes)
    };
    let seven = json!({"sliding_window": 7});
    assert_eq!(of("llama", seven.clone()), [None; 4]);
    assert_eq!(of("mistral", seven.clone()), [Some(7); 4]);
    assert_eq!(of("mistral", json!({})), [Some(4096); 4]);
    assert_eq!(of("mistral", json!({"sliding_window": null})), [None; 4]);
    assert_eq!(of("qwen2", seven.clone()), [None; 4]);
    let upper = json!({"use_sliding_window": true, "sliding_window": 7, "max_window_layers": 3});
    assert_eq!(of("qwen2", upper), [None, None, None, Some(7)]);
    let listed = json!({"use_sliding_window": true, "sliding_window": 7, "layer_types":
        ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]});
    assert_eq!(of("qwen3", listed), [Some(7), None, None, Some(7)]);
    assert_eq!(of("phi3", json!({})), [None; 4]);
    assert_eq!(of("phi3", seven.clone()), [Some(7); 4]);
    assert_eq!(of("gemma2", seven.clone()), [Some(7), None, Some(7), None]);
    let third = json!({"sliding_window": 7, "sliding_window_pattern": 3});
    assert_eq!(of("gemma3_text", third), [Some(7), Some(7), None, Some(7)]);
    assert_eq!(of("gpt_neox", seven), [None; 4]);
}

#[test]
fn gemma_3_has_two_sets_of_frequencies() {
    let gemma = |mut changes: Value| {
        changes["model_type"] = json!("gemma3_text");
        changes["architectures"] = json!(null);
        with(changes).unwrap()
    };
    let old = gemma(json!({"rope_theta": 5e5, "rope_local_base_freq": 200.0,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0}}));
    let new = gemma(json!({"rope_theta": null, "rope_parameters": {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5e5},
        "sliding_attention": {"rope_type": "default", "rope_theta": 200.0}}}));
    assert_eq!(old, new);
    assert_eq!(
        (old.rope_theta, old.rope_local_base_freq),
        (5e5, Some(200.0))
    );
    let local = old.local_inverse_frequencies().unwrap();
    assert_eq!(local.len(), 128);
    assert_eq!(local[64], 1.0 / 200f32.sqrt());
    let default = gemma(json!({"rope_theta": null}));
    assert_eq!(
        (default.rope_theta, default.rope_local_base_freq),
        (1e6, Some(1e4))
    );
}

const FAMILIES: &str =
    "gemma, gemma2, gemma3_text, gpt_neox, llama, mistral, mixtral, phi3, qwen2, qwen3";

#[test]
fn every_fault_has_its_message() {
    let faults = [
        (json!({"hidden_size": null}), "hidden_size: missing"),
        (
            json!({"hidden_size": "32"}),
            "hidden_size: expected a whole number from 1 to 1048576, got \"32\"",
        ),
        (
            json!({"hidden_size": 30}),
            "hidden_size: expected a multiple of num_attention_heads 4, got 30",
        ),
        (
            json!({"hidden_size": 4}),
            "head_dim: expected an even number, got 1",
        ),
        (
            json!({"num_hidden_layers": 0}),
            "num_hidden_layers: expected a whole number from 1 to 1024, got 0",
        ),
        (
            json!({"vocab_size": 1u64 << 60}),
            "vocab_size: expected a whole number from 1 to 4194304, got 1152921504606846976",
        ),
        (
            json!({"num_key_value_heads": 3}),
            "num_key_value_heads: expected a divisor of num_attention_heads 4, got 3",
        ),
        (
            json!({"model_type": "gpt2"}),
            "model_type: expected one of {FAMILIES}, got gpt2",
        ),
        (
            json!({"architectures": ["LlamaForSequenceClassification"]}),
            "architectures: expected one of {FAMILIES}, got LlamaForSequenceClassification",
        ),
        (
            json!({"hidden_act": "relu"}),
            "hidden_act: expected one of silu, gelu, gelu_pytorch_tanh, gelu_new, got relu",
        ),
        (
            json!({"quantization_config": {}}),
            "quantization_config: expected none, got quantised weights",
        ),
        (
            json!({"rms_norm_eps": -1}),
            "rms_norm_eps: expected a number between 0 and 1, got -1",
        ),
        (
            json!({"eos_token_id": 100}),
            "eos_token_id: expected a token below vocab_size 100, got 100",
        ),
        (
            json!({"eos_token_id": "</s>"}),
            "eos_token_id: expected a token or a list of tokens, got \"</s>\"",
        ),
        (
            json!({"rope_scaling": {"rope_type": "proportional"}}),
            "rope_type: expected one of default, linear, dynamic, llama3, yarn, longrope, got proportional",
        ),
        (
            json!({"rope_scaling": {"type": "ntk"}}),
            "type: expected one of default, linear, dynamic, llama3, yarn, longrope, got ntk",
        ),
        (
            json!({"rope_scaling": {"type": "linear"}}),
            "factor: missing",
        ),
        (
            json!({"rope_scaling": [1]}),
            "rope_scaling: expected an object, got [1]",
        ),
        (
            json!({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 1}}),
            "high_freq_factor: expected over low_freq_factor 4, got 1",
        ),
        (
            json!({"rope_parameters": {"rope_type": "yarn", "factor": 2, "attention_factor": 1e6}}),
            "attention_factor: expected a number from 0.001 to 1000, got 1000000",
        ),
        (
            json!({"rope_scaling": {"rope_type": "yarn", "factor": 2, "mscale": -1}}),
            "mscale: expected a number from 0.001 to 1000, got -1",
        ),
        (
            json!({"rope_scaling": {"rope_type": "yarn", "factor": 2, "beta_fast": 0}}),
            "beta_fast: expected a number from 0.001 to 1000, got 0",
        ),
        (
            json!({"rope_scaling": {"rope_type": "yarn", "original_max_position_embeddings": 1024}}),
            "factor: expected a number from 1 to 1000, got 0.5",
        ),
        (
            json!({"rope_scaling": {"type": "linear", "factor": 1001}}),
            "factor: expected a number from 1 to 1000, got 1001",
        ),
        (
            json!({"partial_rotary_factor": 0.5}),
            "partial_rotary_factor: expected 1, got 0.5",
        ),
        (
            json!({"model_type": "mamba"}),
            "model_type: expected one of {FAMILIES}, got mamba",
        ),
        (
            json!({"model_type": "gemma2", "architectures": null, "layer_types": ["full_attention"]}),
            "layer_types: expected a list of 2 texts, got [\"full_attention\"]",
        ),
        (
            json!({"model_type": "qwen3", "architectures": null, "use_sliding_window": true,
                "layer_types": ["full_attention", "chunked_attention"]}),
            "layer_types: expected full_attention or sliding_attention, got chunked_attention",
        ),
        (
            json!({"model_type": "gemma2", "architectures": null, "attn_logit_softcapping": 0}),
            "attn_logit_softcapping: expected a number over 0 and at most 1000000, got 0",
        ),
        (
            json!({"model_type": "gemma3_text", "architectures": null, "use_bidirectional_attention": true}),
            "use_bidirectional_attention: expected false, got true",
        ),
        (
            json!({"model_type": "gemma3_text", "architectures": null, "rope_parameters": {
                "sliding_attention": {"rope_type": "linear", "factor": 2}}}),
            "rope_parameters.sliding_attention: expected the default type, got another",
        ),
        (
            json!({"model_type": "mixtral", "architectures": null, "num_local_experts": 4, "num_experts_per_tok": 5}),
            "num_experts_per_tok: expected a whole number from 1 to 4, got 5",
        ),
        (
            json!({"model_type": "phi3", "architectures": null, "partial_rotary_factor": 0.4}),
            "partial_rotary_factor: expected an even part of head_dim 8, got 0.4",
        ),
        (
            json!({"model_type": "phi3", "architectures": null, "rope_scaling": {"type": "longrope"}}),
            "short_factor: missing",
        ),
        (
            json!({"model_type": "phi3", "architectures": null, "rope_scaling": {"type": "longrope",
                "short_factor": [1, 1, 1, 1], "long_factor": [1, 0]}}),
            "long_factor: expected a list of numbers from 0.001 to 1000, got [1,0]",
        ),
        (
            json!({"model_type": "phi3", "architectures": null, "rope_scaling": {"type": "longrope",
                "original_max_position_embeddings": 64, "short_factor": [1, 1, 1, 1], "long_factor": [1, 2]}}),
            "long_factor: expected 4 numbers, one per rotary pair, got 2",
        ),
        (
            json!({"model_type": "phi3", "architectures": null, "rope_scaling": {"type": "longrope",
                "short_factor": [1, 1, 1, 1], "long_factor": [1, 1, 1, 1]}}),
            "original_max_position_embeddings: missing",
        ),
        (
            json!({"rope_scaling": {"type": "longrope", "short_factor": [1, 1, 1, 1], "long_factor": [1, 1, 1, 1],
                "original_max_position_embeddings": 1}}),
            "original_max_position_embeddings: expected at least 2, got 1",
        ),
        (
            json!({"model_type": "phi3", "architectures": null, "rope_scaling": {"type": "yarn", "factor": 2}}),
            "rope_type: expected default or longrope for phi3, got \"yarn\"",
        ),
    ];
    for (changes, message) in faults {
        let message = message.replace("{FAMILIES}", FAMILIES);
        assert_eq!(with(changes).unwrap_err().to_string(), message);
    }
}
