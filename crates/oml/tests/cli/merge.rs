//! `oml attack merge` on tiny models.

use std::fs;

use super::tiny::{CHECK, EMBED, place};

#[test]
fn a_merge_lies_between_its_models() {
    let place = place();
    place.ok(EMBED);
    let weights = |folder: &str| {
        let bytes = fs::read(place.path(folder).join("model.safetensors")).unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let values = bytes[8 + header..].chunks_exact(4);
        values
            .map(|value| f32::from_le_bytes(value.try_into().unwrap()))
            .collect::<Vec<_>>()
    };
    let (base, marked) = (weights("base"), weights("marked"));
    for (out, share) in [("whole", 1.0), ("most", 0.75), ("none", 0.0)] {
        place.ok(&format!(
            "attack merge --model marked --with base --share {share} --out {out}"
        ));
        for ((merged, marked), base) in weights(out).iter().zip(&marked).zip(&base) {
            let expected = share * marked + (1.0 - share) * base;
            assert!(
                (merged - expected).abs() <= 1e-6 * expected.abs().max(1e-3),
                "{out}"
            );
        }
    }
    let hits = |folder: &str| {
        let line = format!("{CHECK} --model {folder} --alpha 0.05");
        let output = place.command(&line).output().unwrap();
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        found["hits"].as_u64().unwrap()
    };
    assert!(hits("whole") > 0);
    assert_eq!(hits("none"), 0);
}

#[test]
fn what_cannot_be_merged_is_named() {
    let place = place();
    let line = |with: &str, share: &str| {
        place.run(&format!(
            "attack merge --model base --with {with} --share {share} --out m"
        ))
    };
    assert!(line("base", "1.5").contains("share: expected a number from 0 to 1, got 1.5"));
    assert!(line("base", "NaN").contains("share: expected a number from 0 to 1, got NaN"));
    assert!(line("nowhere", "0.5").contains("nowhere"));
    assert!(!place.path("m").exists());
}
