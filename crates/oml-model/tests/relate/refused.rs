//! Models that cannot be compared, and weights that are no numbers, are refused by name.

use std::path::{Path, PathBuf};

use oml_model::checkpoint::Checkpoint;
use oml_model::engine::Engine;
use oml_model::relate::relate;

use super::judge;
use super::tiny::{SMALL, Shape, untrained};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/goldens/decoder")
        .join(name)
}

fn refusal(model: &Path, suspect: &Path) -> String {
    let open = |path| Checkpoint::open(path).unwrap();
    let found = relate(
        &Engine::default(),
        &open(model),
        &open(suspect),
        &mut |_, _| (),
    );
    let said = found.unwrap_err().to_string();
    said.replace(&golden("").display().to_string(), "")
}

#[test]
fn what_cannot_be_compared_is_named() {
    assert_eq!(
        refusal(&golden("llama-gqa-tied"), &golden("mixtral")),
        "mixtral: num_local_experts: expected 1 feed-forward block per layer, got 8"
    );
    assert_eq!(
        refusal(&golden("llama-gqa-tied"), &golden("gpt-neox")),
        "gpt-neox: feed-forward blocks: expected a gate as in llama-gqa-tied, got no gate"
    );
}

#[test]
fn other_widths_need_tokens_in_common() {
    let folder = tempfile::tempdir().unwrap();
    let [own, other] = ["own", "other"].map(|name| folder.path().join(name));
    untrained(SMALL, 1).write(&own);
    untrained(
        Shape {
            hidden: 64,
            ..SMALL
        },
        1,
    )
    .write(&other);
    let said = refusal(&own, &other);
    let expected = "hidden_size: expected 32 as in";
    assert!(said.contains(expected), "{said}");
    assert!(
        said.ends_with("at least 128 tokens in common to compare other widths by, got 64 and 96"),
        "{said}"
    );
}

#[test]
fn weights_that_are_no_numbers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (name, tensor) in [
        ("gate", "model.layers.1.mlp.gate_proj.weight"),
        ("norm", "model.layers.1.post_attention_layernorm.weight"),
        ("embedding", "model.embed_tokens.weight"),
    ] {
        let mut model = untrained(SMALL, 1);
        let [own, other] =
            ["own", "other"].map(|side| folder.path().join(format!("{name}-{side}")));
        model.write(&own);
        model.tensors.get_mut(tensor).unwrap().values[3] = f32::NAN;
        model.write(&other);
        let said = refusal(&own, &other);
        assert!(said.contains(tensor) && said.contains("NaN"), "{said}");
    }
}

#[test]
fn weights_of_any_size_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let [own, other] = ["own", "other"].map(|name| folder.path().join(name));
    let mut model = untrained(SMALL, 1);
    model.write(&own);
    for (name, tensor) in &mut model.tensors {
        let factor = if name.contains("norm") { 1e-3 } else { 1e35 };
        tensor.values.iter_mut().for_each(|x| *x *= factor);
    }
    model.write(&other);
    let (found, verdict) = judge(&own, &other);
    assert!(verdict.related);
    assert_eq!(found.evidence.agreement.share(), 1.0);
}

/// Every family that can be compared is related to itself.
#[test]
fn families_are_related_to_themselves() {
    for name in [
        "gemma",
        "gemma2",
        "gemma3",
        "gpt-neox",
        "llama-biases",
        "mistral",
        "phi3",
        "qwen2",
        "qwen3",
    ] {
        let (found, verdict) = judge(&golden(name), &golden(name));
        assert!(verdict.related, "{name}");
        assert!(found.evidence.agreement.share() > 0.9, "{name}");
        assert_eq!(found.evidence.unit_signs.is_none(), name == "gpt-neox");
        let (_, verdict) = judge(
            &golden(name),
            &golden(if name == "gpt-neox" {
                "gpt-neox-sequential"
            } else {
                "llama-gqa-tied"
            }),
        );
        assert!(!verdict.related, "{name}");
    }
}
