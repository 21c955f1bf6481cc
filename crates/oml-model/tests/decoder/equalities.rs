//! Two ways to the same numbers: packed or alone, cached or not, merged or beside, in one micro-batch or several.

use std::sync::Mutex;

use oml_core::model::{Continuation, LanguageModel, Sampling};
use oml_kernels::Isa;
use oml_model::{
    backend::{Cpu, Directions},
    checkpoint::{Checkpoint, DType, write_expanded},
    config::MlpPart,
    decoder::{ALL_LINEAR, AdapterSpec, Adapters, Cache, Decoder, Mode, TrainingSequence, Weights},
    engine::Engine,
    sampler::SequenceRandom,
    train::{AdamWOptions, Pull, Trainer},
};

use crate::model::{
    FOLDERS, available, bits, causal, checkpoint, distance, engine, exact, ids, language, logits,
    texts, trainable,
};

/// How far rounding alone may take two orders of the same sums apart.
fn rounding(isa: Isa) -> f32 {
    if isa == Isa::Amx { 2e-2 } else { 1e-5 }
}

#[test]
fn packed_is_alone() {
    for isa in available() {
        for name in FOLDERS {
            let (mut decoder, texts) = (trainable(&checkpoint(name), isa), texts(20));
            let together = logits(&mut decoder, &texts);
            let mut alone = Vec::new();
            for text in &texts {
                alone.extend(logits(&mut decoder, std::slice::from_ref(text)));
            }
            assert!(
                together
                    .iter()
                    .map(|r| bits(r))
                    .eq(alone.iter().map(|r| bits(r))),
                "{name} {isa}: off by {}",
                distance(&alone, &together)
            );
        }
    }
}

#[test]
fn a_larger_model_computes_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for name in FOLDERS {
        let path = folder.path().join(name);
        write_expanded(&path, &checkpoint(name), 7, 1, DType::F32).unwrap();
        let larger = Checkpoint::open(&path).unwrap();
        let texts = texts(22);
        let expected = logits(&mut trainable(&checkpoint(name), Isa::Portable), &texts);
        let got = logits(&mut trainable(&larger, Isa::Portable), &texts);
        assert!(distance(&expected, &got) <= 1e-6, "{name}");
        for info in larger.tensors() {
            let mut values = vec![0.0; info.elements()];
            larger.read_f32(&info.name, &mut values).unwrap();
            if larger.config().family.mlp_part(&info.name) == Some(MlpPart::Up) {
                let zeros = values.iter().filter(|v| **v == 0.0).count();
                let biases = if info.shape.len() == 1 { 14 } else { 0 };
                assert!(zeros <= biases, "{name} {}", info.name);
            }
        }
    }
}

#[test]
fn frozen_is_trainable() {
    for isa in available() {
        let texts = texts(21);
        let whole = logits(&mut trainable(&checkpoint("qwen2"), isa), &texts);
        let frozen = logits(causal("qwen2", isa).decoder(), &texts);
        // Frozen embeddings are bf16 where products are.
        let error = distance(&whole, &frozen);
        assert!(error <= 2.0 * rounding(isa), "{isa}: {error}");
    }
}

/// Reads a text in parts through the cache, beside another text, and compares the logits after each part.
fn check_cache(name: &str, isa: Isa, parts: &[usize]) {
    let mut decoder = trainable(&checkpoint(name), isa);
    let text = ids(parts.iter().sum(), 31);
    let other = ids(text.len(), 32);
    let expected = logits(&mut decoder, &[text.clone(), other.clone()]);
    let mut cache = Cache::new(&decoder.backend, decoder.sizes(), 3, text.len());
    let mut read = 0;
    for part in parts {
        let rows = Mutex::new(vec![Vec::new(); 2]);
        let range = read..read + part;
        // Slots out of order, one of the three unused.
        let new = [(2, &text[range.clone()]), (0, &other[range])];
        decoder.extend(&new, &mut cache, &|row, logits| {
            rows.lock().unwrap()[row] = logits.to_vec();
        });
        read += part;
        assert_eq!(
            [cache.past(0), cache.past(1), cache.past(2)],
            [read, 0, read]
        );
        let wanted = [read - 1, text.len() + read - 1].map(|row| expected[row].clone());
        let error = distance(&wanted, &rows.into_inner().unwrap());
        assert!(error <= rounding(isa), "{name} {isa} at {read}: {error}");
    }
}

#[test]
fn cached_is_uncached() {
    for isa in available() {
        for name in FOLDERS {
            check_cache(name, isa, &[1; 8]);
            check_cache(name, isa, &[5, 1, 1, 33, 2, 1]);
        }
    }
}

#[test]
fn merged_adapters_are_adapters() {
    for isa in exact() {
        for (name, modules) in [
            ("gemma3", &[ALL_LINEAR][..]),
            ("gpt-neox", &[ALL_LINEAR]),
            ("llama-biases", &[ALL_LINEAR]),
            ("phi3", &["qkv_proj", "gate_up_proj"]),
            ("qwen2", &["q_proj", "v_proj"]),
        ] {
            let (checkpoint, texts) = (checkpoint(name), texts(40));
            let mut merged = trainable(&checkpoint, isa);
            let plain = logits(&mut merged, &texts);
            let mut beside = adapted(name, isa, modules);
            assert!(distance(&plain, &logits(&mut beside, &texts)) <= rounding(isa));
            let adapters = beside.adapters.as_mut().unwrap();
            let mut random = SequenceRandom::new(41);
            for value in adapters.flat.iter_mut() {
                *value += 0.2 * (random.uniform() as f32 - 0.5);
            }
            for entry in &merged.weights.map.entries {
                let tensor = &mut merged.weights.flat[entry.range()];
                adapters.merge(&adapters.flat, &entry.name, tensor);
            }
            let expected = logits(&mut beside, &texts);
            assert!(
                distance(&plain, &expected) > 1e-3,
                "{name}: adapters do nothing"
            );
            let error = distance(&expected, &logits(&mut merged, &texts));
            assert!(error <= 1e-4, "{name} {isa}: {error}");
        }
    }
}

pub(crate) fn adapted(name: &str, isa: Isa, modules: &[&str]) -> Decoder<Cpu> {
    adapted_for(Directions::Forward, name, isa, modules)
}

fn adapted_for(directions: Directions, name: &str, isa: Isa, modules: &[&str]) -> Decoder<Cpu> {
    let (checkpoint, mut backend) = (checkpoint(name), engine(isa).cpu());
    let mode = Mode::Frozen(directions);
    let weights = Weights::load(&mut backend, &checkpoint, mode).unwrap();
    let mut decoder = Decoder::new(backend, checkpoint.config(), weights);
    let sizes = *decoder.sizes();
    let spec = AdapterSpec {
        rank: 4,
        alpha: 8.0,
        target_modules: modules.iter().map(|m| (*m).to_owned()).collect(),
        layers: None,
        use_dora: false,
    };
    let mut random = SequenceRandom::new(42);
    let mut uniform = || random.uniform() as f32;
    let adapters = Adapters::new(&mut decoder.backend, &sizes, &spec, &mut uniform);
    decoder.adapters = Some(adapters);
    decoder
}

#[test]
fn a_generated_text_does_not_depend_on_its_batch() {
    let prompts: Vec<Vec<u32>> = (0..70).map(|i| ids(1 + i % 9, 50 + i as u64)).collect();
    let views: Vec<&[u32]> = prompts.iter().map(|p| &p[..]).collect();
    let seeds: Vec<u64> = (0..70).map(|i| 1000 + 7 * i).collect();
    let sampling = Sampling {
        max_tokens: 12,
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        stop: vec![3, 5, 8],
    };
    for isa in available() {
        let mut model = causal("llama-gqa-tied", isa);
        let together = model.generate(&views, &seeds, &sampling).unwrap();
        for i in [0, 1, 8, 33, 63, 64, 69] {
            let alone = model
                .generate(&views[i..=i], &seeds[i..=i], &sampling)
                .unwrap();
            assert_eq!(alone[0], together[i], "{isa}: prompt {i}");
        }
        let lengths: Vec<usize> = together.iter().map(Vec::len).collect();
        assert!(
            lengths.iter().any(|l| *l < 12) && lengths.contains(&12),
            "{lengths:?}"
        );
        assert!(
            !together
                .concat()
                .iter()
                .any(|id| sampling.stop.contains(id))
        );
        let mut others = seeds.clone();
        others[0] += 1;
        let again = model.generate(&views, &others, &sampling).unwrap();
        assert!(again[0] != together[0] && again[1..] == together[1..]);
    }
}

#[test]
fn scores_are_read_off_the_logits() {
    let (context, continuation) = (ids(7, 60), ids(6, 61));
    let whole = [&context[..], &continuation[..]].concat();
    for isa in available() {
        let mut model = causal("llama-wide-heads", isa);
        let rows = Mutex::new(vec![Vec::new(); whole.len()]);
        let positions = (0..whole.len()).collect();
        model
            .visit_logits(&[(whole.clone(), positions)], &|_, p, logits| {
                rows.lock().unwrap()[p] = logits.to_vec();
            })
            .unwrap();
        let rows = rows.into_inner().unwrap();
        let items: Vec<Continuation<'_>> = (0..3)
            .map(|extra| Continuation {
                context: &whole[..context.len() + extra],
                continuation: &continuation[extra..],
            })
            .collect();
        let scores = model.score(&items).unwrap();
        for (extra, scores) in scores.iter().enumerate() {
            assert_eq!(scores.len(), continuation.len() - extra);
            for (i, score) in scores.iter().enumerate() {
                let at = context.len() + extra + i;
                let (logits, id) = (&rows[at - 1], whole[at] as usize);
                let total: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
                let expected = f64::from(logits[id]) - total.ln();
                assert!(
                    (f64::from(score.log_probability) - expected).abs() < 1e-5,
                    "{isa}"
                );
                let rank = logits.iter().filter(|l| **l > logits[id]).count();
                assert_eq!(score.rank as usize, rank, "{isa}");
            }
        }
        let mut sums = Vec::new();
        model
            .next_distributions(&[&context, &whole], &mut |i, p| {
                assert_eq!(i, sums.len());
                let total: f64 = rows[[context.len(), whole.len()][i] - 1]
                    .iter()
                    .map(|l| f64::from(*l).exp())
                    .sum();
                let first = f64::from(rows[[context.len(), whole.len()][i] - 1][0]).exp() / total;
                assert!((f64::from(p[0]) - first).abs() < 1e-6);
                sums.push(p.iter().map(|p| f64::from(*p)).sum::<f64>());
            })
            .unwrap();
        assert!(sums.len() == 2 && sums.iter().all(|s| (s - 1.0).abs() < 1e-5));
    }
}

#[test]
fn requests_that_do_not_fit_are_refused() {
    // beyond the original context its frequencies are others
    assert_eq!(
        causal("phi3-longrope", Isa::Portable).longest_sequence(),
        48
    );
    let mut model = causal("mistral", Isa::Portable);
    let limit = model.longest_sequence();
    let long = vec![1; limit + 1];
    for (context, continuation, wanted) in [
        (
            &[][..],
            &[1][..],
            "sequence 0: expected at least one token, got none",
        ),
        (
            &[1][..],
            &[][..],
            "sequence 0: expected at least one token, got none",
        ),
        (
            &[97][..],
            &[1][..],
            "token id 97: expected below the vocabulary size 97",
        ),
        (&long[..], &[1][..], "tokens, the model takes at most"),
    ] {
        let items = [Continuation {
            context,
            continuation,
        }];
        let error = model.score(&items).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn micro_batches_add_up() {
    for isa in exact() {
        let (checkpoint, sequences) = (checkpoint("llama-biases"), language(&texts(70)));
        let views: Vec<&TrainingSequence> = sequences.iter().collect();
        let run = |limit| {
            let mut trainer =
                Trainer::new(trainable(&checkpoint, isa), AdamWOptions::default(), limit);
            let loss = trainer.accumulate(&views, None, false).loss;
            (loss, trainer.gradients().to_vec())
        };
        let (loss, gradients) = run(4096);
        for limit in [1, 41, 60] {
            let (split_loss, split) = run(limit);
            assert!((loss - split_loss).abs() < 1e-6 * loss, "{isa} {limit}");
            let error = distance(std::slice::from_ref(&gradients), &[split]);
            assert!(error < 1e-5, "{isa} {limit}: {error}");
        }
    }
}

#[test]
fn threads_and_repetition_change_no_bit() {
    for isa in available() {
        let (checkpoint, sequences) = (checkpoint("llama-gqa-tied"), language(&texts(80)));
        let views: Vec<&TrainingSequence> = sequences.iter().collect();
        let run = |threads| {
            let engine = Engine {
                isa: Some(isa),
                threads: Some(threads),
            };
            let mut backend = engine.cpu();
            let weights = Weights::load(&mut backend, &checkpoint, Mode::Trainable).unwrap();
            let decoder = Decoder::new(backend, checkpoint.config(), weights);
            let options = AdamWOptions {
                max_grad_norm: Some(0.5),
                ..AdamWOptions::default()
            };
            let mut trainer = Trainer::new(decoder, options, 48);
            for _ in 0..3 {
                trainer.step(&views, None, 1e-3, Pull::default());
            }
            bits(trainer.parameters())
        };
        let first = run(2);
        for threads in [1, 2, 3, 5] {
            assert!(run(threads) == first, "{isa}: {threads} threads");
        }
    }
}

/// An expert that no token of a batch goes through must not keep the gradients of the batch before.
#[test]
fn experts_forget_the_batch_before() {
    let sequences = language(&[ids(2, 62)]);
    let views: Vec<&TrainingSequence> = sequences.iter().collect();
    let many = language(&texts(63));
    let many: Vec<&TrainingSequence> = many.iter().collect();
    for isa in available() {
        let new = || crate::model::trainer(&checkpoint("mixtral"), isa, AdamWOptions::default());
        let (mut fresh, mut used) = (new(), new());
        fresh.accumulate(&views, None, false);
        let zeros = |gradients: &[f32]| gradients.iter().filter(|g| **g == 0.0).count();
        used.accumulate(&many, None, false);
        assert!(zeros(used.gradients()) < zeros(fresh.gradients()));
        used.accumulate(&views, None, false);
        assert!(bits(used.gradients()) == bits(fresh.gradients()), "{isa}");
    }
}

#[test]
fn layers_that_are_computed_again_give_the_same_gradients() {
    let (first, second) = (language(&texts(60)), language(&texts(61)[..3]));
    for isa in available() {
        for name in FOLDERS {
            let gradients = |checkpoints: bool, mut trainer: Trainer<Cpu>| {
                trainer.decoder.checkpoints = checkpoints;
                let mut all = Vec::new();
                for sequences in [&first, &second] {
                    let views: Vec<&TrainingSequence> = sequences.iter().collect();
                    trainer.step(&views, None, 1e-3, Pull::default());
                    all.extend(bits(trainer.gradients()));
                }
                all
            };
            let all = || crate::model::trainer(&checkpoint(name), isa, AdamWOptions::default());
            assert!(
                gradients(true, all()) == gradients(false, all()),
                "{name} {isa}"
            );
            let beside = || {
                let decoder = adapted_for(Directions::Both, name, isa, &[ALL_LINEAR]);
                Trainer::new(decoder, AdamWOptions::default(), 40)
            };
            assert!(
                gradients(true, beside()) == gradients(false, beside()),
                "{name} {isa}: adapters"
            );
        }
    }
}
