//! What a family's models are called on disk: adapters as PEFT names them, weights as transformers does.

use std::collections::BTreeMap;

use oml_kernels::Isa;
use oml_model::{
    checkpoint::{Checkpoint, DType, write_model},
    decoder::{ALL_LINEAR, AdapterSpec, TrainingSequence},
    train::{AdamWOptions, Pull},
};
use serde_json::json;

use crate::equalities::adapted;
use crate::model::{FOLDERS, bits, checkpoint, folder, language, logits, texts, trainer};

#[test]
fn adapters_have_pefts_names() {
    let golden = std::fs::read(folder("peft.json")).unwrap();
    let golden: BTreeMap<String, BTreeMap<String, Vec<usize>>> =
        serde_json::from_slice(&golden).unwrap();
    assert!(FOLDERS.iter().all(|name| golden.contains_key(*name)));
    for (name, expected) in golden {
        let adapters = adapted(&name, Isa::Portable, &[ALL_LINEAR]).adapters;
        let entries = adapters.unwrap().map.entries.into_iter();
        let got: BTreeMap<_, _> = entries.map(|e| (e.name, e.shape)).collect();
        assert_eq!(got, expected, "{name}");
    }
}

#[test]
fn a_map_that_a_family_does_not_have_gets_no_adapter() {
    let spec = |module: &str| AdapterSpec {
        rank: 1,
        alpha: 1.0,
        target_modules: vec![module.to_owned()],
        layers: None,
        use_dora: false,
    };
    let family = checkpoint("phi3").config().family;
    for module in family.target_modules().into_iter().chain([ALL_LINEAR]) {
        spec(module).check(family).unwrap();
    }
    assert_eq!(
        spec("q_proj").check(family).unwrap_err().to_string(),
        "target_modules: expected names out of qkv_proj, o_proj, gate_up_proj, down_proj, got q_proj"
    );
}

/// Trains a step, writes the model and reads it back. With `OML_WRITE_FAMILIES=DIR` the folders stay in DIR, each with the
/// logits that are expected of it, for `reload.py` beside the goldens.
#[test]
fn a_trained_model_of_every_family_is_read_back() {
    let temporary = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("OML_WRITE_FAMILIES").map(std::path::PathBuf::from);
    let out = kept.clone().unwrap_or(temporary.path().to_owned());
    for name in FOLDERS {
        let (checkpoint, texts) = (checkpoint(name), texts(90));
        let mut trainer = trainer(&checkpoint, Isa::Portable, AdamWOptions::default());
        let sequences = language(&texts);
        let views: Vec<&TrainingSequence> = sequences.iter().collect();
        trainer.step(&views, None, 1e-2, Pull::default());
        let weights = &trainer.decoder.weights;
        let mut supply = |name: &str, out: &mut [f32]| {
            let entry = weights.map.get(name).ok_or("no such weight")?;
            out.copy_from_slice(&weights.flat[entry.range()]);
            Ok(())
        };
        let path = out.join(name);
        write_model(&path, &checkpoint, DType::F32, &mut supply, &[]).unwrap();
        let written = Checkpoint::open(&path).unwrap();
        assert_eq!(written.config(), checkpoint.config(), "{name}");
        let expected = logits(&mut trainer.decoder, &texts);
        let got = logits(
            &mut crate::model::trainable(&written, Isa::Portable),
            &texts,
        );
        let same = expected
            .iter()
            .map(|r| bits(r))
            .eq(got.iter().map(|r| bits(r)));
        assert!(same, "{name}");
        if kept.is_some() {
            let content = json!({"sequences": texts, "logits": expected}).to_string();
            std::fs::write(path.join("expected.json"), content).unwrap();
        }
    }
}
