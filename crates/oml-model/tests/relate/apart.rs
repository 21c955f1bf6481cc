//! Models that have nothing in common are never related: trained apart on the same text, or not trained.

use super::changes::Model;
use super::judge;
use super::tiny::{SMALL, Shape, train, untrained};

/// The smallest of a pair's p-values by symmetry (not agreement's), and the share of agreement.
fn compared(models: &[Model]) -> Vec<(f64, f64)> {
    let folder = tempfile::tempdir().unwrap();
    let path = |i: usize| folder.path().join(i.to_string());
    for (i, model) in models.iter().enumerate() {
        model.write(&path(i));
    }
    let mut found = Vec::new();
    for i in 0..models.len() {
        for j in 0..i {
            let (comparison, verdict) = judge(&path(i), &path(j));
            assert!(!verdict.related, "{i} and {j}: {verdict:?}");
            let smallest = verdict.tests[..3]
                .iter()
                .filter_map(|test| test.ln_p_value)
                .fold(0.0, f64::min);
            found.push((smallest.exp(), comparison.evidence.agreement.share()));
        }
    }
    found
}

#[test]
fn models_trained_apart_on_one_text_are_not_related() {
    let models: Vec<Model> = (0..4)
        .map(|seed| train(&untrained(SMALL, 100 + seed), 120, 3e-3, 1).0)
        .collect();
    for (smallest, share) in compared(&models) {
        // three p-values of each of six pairs: below this only once in a thousand runs
        assert!(smallest > 1e-3 / 18.0, "{smallest}");
        assert!(share < 0.1, "{share}");
    }
}

#[test]
fn models_of_other_widths_and_depths_are_not_related() {
    let shapes = [
        SMALL,
        Shape {
            hidden: 24,
            ..SMALL
        },
        Shape { units: 64, ..SMALL },
        Shape { layers: 5, ..SMALL },
    ];
    let models: Vec<Model> = (0..)
        .zip(shapes)
        .map(|(seed, shape)| untrained(shape, 200 + seed))
        .collect();
    for (smallest, share) in compared(&models) {
        assert!(smallest > 1e-3 / 18.0 && share < 0.1, "{smallest}, {share}");
    }
}

/// Zeros, constants and copies of one unit, in both models, are ties and no evidence.
#[test]
fn units_without_a_character_are_no_evidence() {
    let mut models = [1, 2].map(|seed| untrained(SMALL, 300 + seed));
    for model in &mut models {
        for layer in 0..SMALL.layers {
            for part in ["mlp.gate_proj", "mlp.up_proj"] {
                let tensor = model.map(layer, part);
                let row: Vec<f32> = tensor.values[..SMALL.hidden].to_vec();
                for (unit, values) in tensor.values.chunks_exact_mut(SMALL.hidden).enumerate() {
                    match unit % 4 {
                        0 => values.fill(0.0),
                        1 => values.fill(0.5),
                        2 => values.copy_from_slice(&row),
                        _ => {}
                    }
                }
            }
        }
    }
    for (smallest, share) in compared(&models) {
        assert!(smallest > 1e-3 / 3.0 && share < 0.1, "{smallest}, {share}");
    }
    for model in &mut models {
        for tensor in model.tensors.values_mut() {
            tensor.values.fill(0.0);
        }
    }
    assert_eq!(compared(&models), [(1.0, 0.0)]);
}
