//! Generation on a small real model: determinism, the response rule, queries, and every way it can fail.

use std::collections::HashSet;
use std::ops::ControlFlow;

use oml_core::commitment::Opening;
use oml_core::fingerprint::{FingerprintSet, SetError};
use oml_core::manifest::fingerprint_file::seal;
use oml_core::manifest::partial_file;
use oml_core::model::{LanguageModel as _, Sampling};
use oml_core::secret::OwnerSeed;
use oml_core::strategy::perinucleus::Rule;
use oml_core::strategy::perplexity::{Band, Benign};
use oml_core::strategy::writer::{Request, Writer};
use oml_core::strategy::{
    FirstToken, GenerateError, GenerateOptions, PartialSet, Parts, Strategy, Style, Writing,
    chain_hash, generate, impossible,
};
use oml_core::tokenizer::Tokenizer;

use crate::double::{BOS, Bigrams, Words, arg_max};

fn owner() -> OwnerSeed {
    OwnerSeed::new([7; 32])
}

fn options(count: usize) -> GenerateOptions {
    GenerateOptions {
        query_length: 8,
        batch: 32,
        ..GenerateOptions::new(count, [3; 32])
    }
}

fn run(options: &GenerateOptions) -> Result<FingerprintSet, GenerateError> {
    let tokenizer = Words::new(300);
    made(&mut Bigrams::new(&tokenizer), &tokenizer, &owner(), options)
}

fn made(
    model: &mut Bigrams,
    tokenizer: &Words,
    owner: &OwnerSeed,
    options: &GenerateOptions,
) -> Result<FingerprintSet, GenerateError> {
    watched(
        model,
        tokenizer,
        owner,
        options,
        PartialSet::default(),
        &mut |_| false,
    )
}

/// As [`made`], going on from `start`; `stop` sees every step.
fn watched<'a>(
    model: &'a mut Bigrams,
    tokenizer: &'a Words,
    owner: &'a OwnerSeed,
    options: &'a GenerateOptions,
    start: PartialSet,
    stop: &mut dyn FnMut(&PartialSet) -> bool,
) -> Result<FingerprintSet, GenerateError> {
    let parts = Parts {
        model,
        tokenizer,
        owner,
        writer: None,
        benign: None,
    };
    generate(parts, options, start, &mut |found| match stop(found) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    })
}

/// The rule of the paper by brute force: sort everything, skip the nucleus, keep valid tokens.
fn candidates(
    tokenizer: &Words,
    probabilities: &[f32],
    query: &str,
    query_ids: &[u32],
    rule: Rule,
    round_trip: bool,
) -> Vec<u32> {
    let mut order: Vec<u32> = (0..probabilities.len() as u32).collect();
    order.sort_by(|&a, &b| {
        probabilities[b as usize]
            .total_cmp(&probabilities[a as usize])
            .then(a.cmp(&b))
    });
    let mut mass = 0.0;
    let nucleus = order.iter().take_while(|&&id| {
        let inside = mass < rule.threshold;
        mass += f64::from(probabilities[id as usize]);
        inside
    });
    let outside = order.iter().skip(nucleus.count()).copied();
    let valid = |&id: &u32| {
        let Some(token) = tokenizer.token(id) else {
            return false;
        };
        let word = token.trim();
        let whole = [query_ids, &[id]].concat();
        word.len() > 1
            && word.chars().all(char::is_alphanumeric)
            && (!round_trip || tokenizer.encode(&format!("{query}{token}"), true).unwrap() == whole)
    };
    outside.filter(valid).take(rule.candidates).collect()
}

/// Every strategy that makes its own queries, with a response length it takes.
fn strategies() -> Vec<(Strategy, usize)> {
    let writing = Writing::default();
    vec![
        (Strategy::default(), 1),
        (Strategy::default(), 3),
        (
            Strategy::InverseNucleus {
                writing,
                threshold: 0.8,
            },
            1,
        ),
        (Strategy::English { writing }, 4),
        (Strategy::EnglishRandomResponse { writing }, 2),
        (Strategy::ChainHash { writing }, 1),
        (Strategy::RandomWord, 2),
    ]
}

#[test]
fn same_seed_and_model_give_the_same_bytes_whatever_the_batch() {
    let bytes = |options: &GenerateOptions| seal(&run(options).unwrap(), &owner()).unwrap();
    for (strategy, response_length) in strategies() {
        let one = GenerateOptions {
            strategy,
            response_length,
            ..options(40)
        };
        let reference = bytes(&one);
        for batch in [1, 7, 1000] {
            assert_eq!(
                bytes(&GenerateOptions {
                    batch,
                    ..one.clone()
                }),
                reference,
                "{} in batches of {batch}",
                strategy.name()
            );
        }
    }
}

#[test]
fn a_smaller_set_is_the_beginning_of_a_larger_one_unless_a_hash_binds_the_whole() {
    for (strategy, response_length) in strategies() {
        let of = |count| {
            run(&GenerateOptions {
                strategy,
                response_length,
                ..options(count)
            })
            .unwrap()
        };
        let (small, large) = (of(10), of(50));
        let (small, large) = (small.fingerprints(), &large.fingerprints()[..10]);
        assert!(small.iter().zip(large).all(|(a, b)| a.query == b.query));
        let bound = matches!(strategy, Strategy::ChainHash { .. });
        assert_eq!(small != large, bound, "{}", strategy.name());
    }
}

#[test]
fn another_seed_model_or_copy_gives_another_set() {
    let reference = run(&options(20)).unwrap();
    let other_model = run(&GenerateOptions {
        model_digest: [4; 32],
        ..options(20)
    })
    .unwrap();
    let other_copy = run(&GenerateOptions {
        copy_id: "licensee".into(),
        copies: None,
        ..options(20)
    })
    .unwrap();
    let tokenizer = Words::new(300);
    let mut model = Bigrams::new(&tokenizer);
    let other_owner = made(
        &mut model,
        &tokenizer,
        &OwnerSeed::new([8; 32]),
        &options(20),
    )
    .unwrap();
    let queries = |set: &FingerprintSet| -> HashSet<String> {
        set.fingerprints().iter().map(|f| f.query.clone()).collect()
    };
    for other in [other_model, other_copy, other_owner] {
        assert!(queries(&reference).intersection(&queries(&other)).count() < 3);
        assert!(
            reference
                .fingerprints()
                .iter()
                .zip(other.fingerprints())
                .all(|(a, b)| a.salt != b.salt)
        );
    }
}

#[test]
fn queries_have_the_length_and_survive_the_way_through_text() {
    for (strategy, response_length) in strategies() {
        for chat in [true, false] {
            let mut tokenizer = Words::new(300);
            tokenizer.chat = chat;
            let mut model = Bigrams::new(&tokenizer);
            let options = GenerateOptions {
                strategy,
                response_length,
                ..options(100)
            };
            let set = made(&mut model, &tokenizer, &owner(), &options).unwrap();
            for fingerprint in set.fingerprints() {
                let response = &fingerprint.responses[0];
                assert_eq!(fingerprint.query.trim(), fingerprint.query);
                assert_eq!(fingerprint.query_ids.len(), 1 + 8, "BOS and the query");
                assert_eq!(fingerprint.query_ids[0], BOS);
                assert_eq!(
                    tokenizer.encode(&fingerprint.query, true).unwrap(),
                    fingerprint.query_ids
                );
                let whole = format!("{}{}", fingerprint.query, response.text);
                let ids = [fingerprint.query_ids.clone(), response.ids.clone()].concat();
                assert_eq!(tokenizer.encode(&whole, true).unwrap(), ids);
                assert_eq!(response.ids.len(), response_length);
            }
        }
    }
}

#[test]
fn the_inverse_nucleus_is_the_first_valid_token_outside() {
    let tokenizer = Words::new(300);
    let model = Bigrams::new(&tokenizer);
    let strategy = Strategy::InverseNucleus {
        writing: Writing::default(),
        threshold: 0.6,
    };
    let set = run(&GenerateOptions {
        strategy,
        ..options(50)
    })
    .unwrap();
    for fingerprint in set.fingerprints() {
        let probabilities = model.distribution(&fingerprint.query_ids, 1.0);
        let (text, ids) = (&fingerprint.query, &fingerprint.query_ids);
        let rule = Rule::first(0.6);
        let expected = candidates(&tokenizer, &probabilities, text, ids, rule, true);
        assert_eq!(fingerprint.responses[0].ids, expected);
    }
    assert_eq!(strategy.candidates(), 1, "no secret chooses the response");
}

#[test]
fn chained_answers_follow_from_all_queries_and_words() {
    // Python's hashlib, after the layout in the module's documentation.
    let words: Vec<String> = (0..256).map(|i| format!(" w{i}")).collect();
    let hashed = |queries: &[&str]| chain_hash::answers(queries, words.iter().map(String::as_str));
    assert_eq!(hashed(&["What is it", "Why so", "How"]), [213, 216, 139]);
    assert!(hashed(&["What is it", "Why so", "Hew"])[..2] != [213, 216]);

    let tokenizer = Words::new(300);
    let words = chain_hash::words(&tokenizer).unwrap();
    let strategy = Strategy::ChainHash {
        writing: Writing::default(),
    };
    let set = run(&GenerateOptions {
        strategy,
        ..options(60)
    })
    .unwrap();
    let queries: Vec<&str> = set
        .fingerprints()
        .iter()
        .map(|f| f.query.as_str())
        .collect();
    let numbers = chain_hash::answers(&queries, words.iter().map(|(_, word)| word.as_str()));
    for (fingerprint, number) in set.fingerprints().iter().zip(numbers) {
        let (id, word) = &words[usize::from(number)];
        let response = &fingerprint.responses[0];
        assert_eq!((&response.ids, &response.text), (&vec![*id], word));
    }
}

#[test]
fn an_english_response_begins_with_a_whole_word_that_the_seed_draws() {
    let tokenizer = Words::new(300);
    let drawn = |owner: &OwnerSeed| {
        let options = GenerateOptions {
            strategy: Strategy::English {
                writing: Writing::default(),
            },
            response_length: 4,
            ..options(60)
        };
        let mut model = Bigrams::new(&tokenizer);
        made(&mut model, &tokenizer, owner, &options).unwrap()
    };
    let first_words = |set: &FingerprintSet| -> HashSet<String> {
        let first = |text: &str| text.split_whitespace().next().unwrap().to_owned();
        let responses = set.fingerprints().iter().map(|f| &f.responses[0].text);
        responses.map(|text| first(text)).collect()
    };
    let (one, other) = (
        first_words(&drawn(&owner())),
        first_words(&drawn(&OwnerSeed::new([8; 32]))),
    );
    assert!(one.len() > 45 && one.iter().all(|word| word.starts_with(char::is_uppercase)));
    assert!(
        one.intersection(&other).count() < 20,
        "another seed draws others"
    );
}

#[test]
fn strategies_of_one_token_refuse_more() {
    for (strategy, length) in strategies().into_iter().filter(|(s, _)| s.single_token()) {
        let error = run(&GenerateOptions {
            strategy,
            response_length: length + 1,
            ..options(4)
        })
        .unwrap_err();
        assert_eq!(error.to_string(), "response_length: expected 1, got 2");
    }
}

#[test]
fn the_response_is_uniform_over_exactly_the_first_valid_tokens_after_the_nucleus() {
    let rule = Rule {
        threshold: 0.8,
        candidates: 3,
        responses: 1,
    };
    let tokenizer = Words::new(400);
    let model = Bigrams::new(&tokenizer);
    let set = made(
        &mut Bigrams::new(&tokenizer),
        &tokenizer,
        &owner(),
        &options(900),
    )
    .unwrap();
    let (mut counts, mut passed_over) = ([0_f64; 3], 0);
    for fingerprint in set.fingerprints() {
        let probabilities = model.distribution(&fingerprint.query_ids, 1.0);
        let find = |round_trip| {
            let (text, ids) = (&fingerprint.query, &fingerprint.query_ids);
            candidates(&tokenizer, &probabilities, text, ids, rule, round_trip)
        };
        let expected = find(true);
        passed_over += usize::from(find(false) != expected);
        let response = &fingerprint.responses[0];
        let place = expected
            .iter()
            .position(|id| *id == response.ids[0])
            .expect("one of the candidates");
        counts[place] += 1.0;
        assert_eq!(
            response.probabilities,
            [probabilities[response.ids[0] as usize]]
        );
    }
    assert!(
        passed_over > 0,
        "some token would have been merged into the query's last word"
    );
    let chi_square: f64 = counts.iter().map(|n| (n - 300.0).powi(2) / 300.0).sum();
    // 99.9 % quantile with two degrees of freedom.
    assert!(chi_square < 13.8, "{counts:?}");
}

#[test]
fn further_tokens_are_greedy_and_scored() {
    let tokenizer = Words::new(300);
    let model = Bigrams::new(&tokenizer);
    let set = run(&GenerateOptions {
        response_length: 4,
        ..options(30)
    })
    .unwrap();
    for fingerprint in set.fingerprints() {
        let response = &fingerprint.responses[0];
        let mut context = fingerprint.query_ids.clone();
        for (place, (&id, &probability)) in
            response.ids.iter().zip(&response.probabilities).enumerate()
        {
            let probabilities = model.distribution(&context, 1.0);
            assert!(place == 0 || id == arg_max(&probabilities));
            assert!((probability - probabilities[id as usize]).abs() < 1e-6);
            context.push(id);
        }
    }
}

#[test]
fn alternatives_are_distinct_candidates() {
    let rule = Rule {
        candidates: 5,
        responses: 3,
        ..Rule::default()
    };
    let set = run(&GenerateOptions {
        strategy: Strategy::Perinucleus {
            writing: Writing::default(),
            rule,
        },
        ..options(40)
    })
    .unwrap();
    for fingerprint in set.fingerprints() {
        let first: HashSet<u32> = fingerprint.responses.iter().map(|r| r.ids[0]).collect();
        assert_eq!(first.len(), 3);
    }
}

#[test]
fn generation_makes_few_tokens_in_vain() {
    let tokenizer = Words::new(400);
    let mut model = Bigrams::new(&tokenizer);
    let mut attempts = 0;
    let mut count = |found: &PartialSet| {
        attempts = found.attempts;
        false
    };
    let start = PartialSet::default();
    watched(
        &mut model,
        &tokenizer,
        &owner(),
        &options(200),
        start,
        &mut count,
    )
    .unwrap();
    assert!(
        model.generated as u64 <= attempts * 10,
        "8 tokens, less the given word, and the margin"
    );
}

#[test]
fn a_stopped_generation_goes_on_to_the_same_bytes() {
    let tokenizer = Words::new(300);
    let other = [(custom_strategy(), 1)];
    for (strategy, response_length) in strategies().into_iter().chain(other) {
        let options = GenerateOptions {
            strategy,
            response_length,
            queries: custom_queries(60),
            ..options(40)
        };
        let whole = seal(&run(&options).unwrap(), &owner()).unwrap();
        let identity = partial_file::identity(&options, &["test"]);
        let (mut start, mut stops) = (PartialSet::default(), 0);
        let set = loop {
            let (mut steps, mut last) = (0, PartialSet::default());
            let mut stop = |found: &PartialSet| {
                steps += 1;
                last = found.clone();
                steps > 1 && found.count() < 40
            };
            let mut model = Bigrams::new(&tokenizer);
            match watched(&mut model, &tokenizer, &owner(), &options, start, &mut stop) {
                Ok(set) => break set,
                Err(GenerateError::Stopped { wanted: 40, found }) => {
                    assert_eq!(found, last.count());
                    let file = partial_file::seal(&last, &identity, &owner()).unwrap();
                    start = partial_file::open(&file, &identity, &owner()).unwrap();
                    assert!(start == last);
                    stops += 1;
                }
                Err(error) => panic!("{error}"),
            }
        };
        assert!(stops > 0, "{}", strategy.name());
        assert_eq!(seal(&set, &owner()).unwrap(), whole, "{}", strategy.name());
    }
}

#[test]
fn what_was_found_goes_on_as_the_same_set_only() {
    let identity = partial_file::identity(&options(4), &[]);
    let file = partial_file::seal(&PartialSet::default(), &identity, &owner()).unwrap();
    let open = |file: &[u8], identity: &[u8; 32], owner: &OwnerSeed| {
        partial_file::open(file, identity, owner)
            .unwrap_err()
            .to_string()
    };
    let other = partial_file::identity(&options(5), &[]);
    assert!(open(&file, &other, &owner()).contains("identity: expected "));
    assert_ne!(partial_file::identity(&options(4), &["x"]), identity);
    let stranger = open(&file, &identity, &OwnerSeed::new([8; 32]));
    assert!(stranger.contains("owner"), "{stranger}");
    // A set file is no partial one, though the same key opens it.
    let set = seal(&run(&options(4)).unwrap(), &owner()).unwrap();
    let wrong = open(&set, &identity, &owner());
    assert!(
        wrong.contains("expected \"oml-partial\", got \"oml-fingerprints\""),
        "{wrong}"
    );
    for position in (0..file.len()).step_by(7) {
        let mut changed = file.clone();
        changed[position] ^= 1;
        assert!(
            partial_file::open(&changed, &identity, &owner()).is_err(),
            "byte {position}"
        );
    }
}

/// Sentences that the model writes at temperature 1.
fn sentences(model: &mut Bigrams, tokenizer: &Words, count: u64) -> String {
    let sampling = Sampling {
        max_tokens: 24,
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        stop: Vec::new(),
    };
    let capital = |id: &u32| {
        let token = tokenizer.token(*id);
        token.is_some_and(|token| token.starts_with(char::is_uppercase))
    };
    let starts: Vec<u32> = (0..tokenizer.vocabulary_size() as u32)
        .filter(capital)
        .collect();
    let text = |seed: u64| {
        let start = starts[seed as usize % starts.len()];
        let ids = model
            .generate(&[&[BOS, start]], &[seed], &sampling)
            .unwrap()
            .remove(0);
        format!(
            "{}.",
            tokenizer.decode(&[&[start], &ids[..]].concat()).unwrap()
        )
    };
    (0..count).map(text).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_percentile_is_the_share_of_benign_text_with_less_perplexity() {
    let tokenizer = Words::new(300);
    let mut model = Bigrams::new(&tokenizer);
    let text = sentences(&mut model, &tokenizer, 150);
    let benign = Benign::measure(&mut model, &tokenizer, &text, 8).unwrap();
    assert!(benign.count() >= 150);

    let ids = tokenizer.encode(&text, true).unwrap();
    let (likely, unlikely) = (ids[..9].to_vec(), vec![BOS; 9]);
    let places = benign
        .places(&mut model, &[&likely, &unlikely, &[BOS]])
        .unwrap();
    let product: f32 = (1..9)
        .map(|i| model.distribution(&likely[..i], 1.0)[likely[i] as usize].ln())
        .sum();
    let perplexity = f64::from(-product / 8.0).exp();
    let place = places[0].unwrap();
    assert!((place.perplexity / perplexity - 1.0).abs() < 1e-4);
    assert!(place.percentile > 0.0 && place.percentile < 100.0);
    assert_eq!(places[1].unwrap().percentile, 100.0);
    assert_eq!(places[2], None, "nothing to score");
}

#[test]
fn the_band_passes_queries_over_and_changes_no_other() {
    let tokenizer = Words::new(300);
    let mut model = Bigrams::new(&tokenizer);
    let text = sentences(&mut model, &tokenizer, 300);
    let benign = Benign::measure(&mut model, &tokenizer, &text, 8).unwrap();
    let mut made = |band| {
        let writing = Writing {
            temperature: 1.0,
            band,
            ..Writing::default()
        };
        let options = GenerateOptions {
            strategy: Strategy::EnglishRandomResponse { writing },
            ..options(100)
        };
        let owner = owner();
        let parts = Parts {
            model: &mut model,
            tokenizer: &tokenizer,
            owner: &owner,
            writer: None,
            benign: Some(&benign),
        };
        let go_on = &mut |_: &PartialSet| ControlFlow::Continue(());
        generate(parts, &options, PartialSet::default(), go_on).unwrap()
    };
    let band = Band {
        low: 20.0,
        high: 80.0,
    };
    let (all, kept) = (made(None), made(Some(band)));
    let ids: Vec<&[u32]> = all.fingerprints().iter().map(|f| &*f.query_ids).collect();
    let places = benign.places(&mut model, &ids).unwrap();
    let inside: Vec<&str> = all
        .fingerprints()
        .iter()
        .zip(places)
        .filter(|(_, place)| band.contains(place.unwrap().percentile))
        .map(|(fingerprint, _)| fingerprint.query.as_str())
        .collect();
    assert!(inside.len() > 10 && inside.len() < 95, "{}", inside.len());
    let kept: Vec<&str> = kept
        .fingerprints()
        .iter()
        .map(|f| f.query.as_str())
        .collect();
    assert_eq!(kept[..inside.len()], inside, "in the same order");
}

#[test]
fn a_band_wants_benign_text_and_enough_of_it() {
    let tokenizer = Words::new(300);
    let mut model = Bigrams::new(&tokenizer);
    let text = sentences(&mut model, &tokenizer, 10);
    let error = Benign::measure(&mut model, &tokenizer, &text, 8)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(
            "benign text: expected at least 100 beginnings of sentences with 8 tokens"
        ),
        "{error}"
    );
    let writing = Writing {
        band: Some(Band::default()),
        ..Writing::default()
    };
    let strategy = Strategy::ChainHash { writing };
    let error = run(&GenerateOptions {
        strategy,
        ..options(2)
    })
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "strategy band: expected benign text to measure it on, got none"
    );
}

#[test]
fn a_query_begins_with_a_word_a_token_or_anything() {
    for chat in [true, false] {
        let mut tokenizer = Words::new(300);
        tokenizer.chat = chat;
        let first_words = |first_token, style| {
            let writing = Writing {
                temperature: 1.0,
                style,
                first_token,
                ..Writing::default()
            };
            let options = GenerateOptions {
                strategy: Strategy::Perinucleus {
                    writing,
                    rule: Rule::default(),
                },
                ..options(200)
            };
            let set = made(
                &mut Bigrams::new(&tokenizer),
                &tokenizer,
                &owner(),
                &options,
            )
            .unwrap();
            let first = |query: &str| query.split([' ', ',', '.']).next().unwrap().to_owned();
            set.fingerprints()
                .iter()
                .map(|f| first(&f.query))
                .collect::<Vec<_>>()
        };
        let capital = |words: &[String]| {
            words
                .iter()
                .filter(|word| word.starts_with(char::is_uppercase))
                .count()
        };
        assert_eq!(
            capital(&first_words(FirstToken::Word, Style::Sentence)),
            200
        );
        // A word begins a text in capitals or without: each is a token, and the draw does not prefer one.
        let drawn = first_words(FirstToken::Tokenizer, Style::Sentence);
        assert!((60..140).contains(&capital(&drawn)), "{}", capital(&drawn));
        assert!(capital(&first_words(FirstToken::None, Style::Sentence)) < 10);
    }
}

/// Writes the same few words after each beginning, and remembers what it was asked.
struct Parrot {
    asked: Vec<Request>,
    answers: usize,
}

impl Writer for Parrot {
    fn lines(
        &mut self,
        requests: &[Request],
        _: f32,
        length: usize,
    ) -> Result<Vec<Option<String>>, GenerateError> {
        assert_eq!(length, 16, "twice the query's");
        let line = |request: &Request| {
            self.asked.push(request.clone());
            Some(format!(
                "{}{}",
                request.beginning,
                " ababa, ababa.".repeat(4)
            ))
        };
        Ok(requests.iter().map(line).take(self.answers).collect())
    }
}

#[test]
fn another_writer_writes_in_place_of_the_base_model() {
    let tokenizer = Words::new(300);
    let with = |answers| {
        let mut parrot = Parrot {
            asked: Vec::new(),
            answers,
        };
        let (mut model, owner, options) = (Bigrams::new(&tokenizer), owner(), options(20));
        let parts = Parts {
            model: &mut model,
            tokenizer: &tokenizer,
            owner: &owner,
            writer: Some(&mut parrot),
            benign: None,
        };
        let go_on = &mut |_: &PartialSet| ControlFlow::Continue(());
        let made = generate(parts, &options, PartialSet::default(), go_on);
        (made, parrot.asked)
    };
    let (set, asked) = with(usize::MAX);
    for fingerprint in set.unwrap().fingerprints() {
        let request = asked
            .iter()
            .find(|r| fingerprint.query.starts_with(&r.beginning))
            .unwrap();
        assert!(fingerprint.query.contains(" ababa, ababa."));
        assert!(
            request
                .instruction()
                .ends_with(&format!("\"{}\".", request.beginning))
        );
    }
    let (error, asked) = with(3);
    let expected = format!(
        "model answer: expected {} items, got 3",
        asked.len().max(20)
    );
    assert!(
        error
            .unwrap_err()
            .to_string()
            .starts_with("model answer: expected "),
        "{expected}"
    );
}

#[test]
fn a_line_is_the_first_and_begins_as_it_was_asked() {
    let request = |beginning: &str| Request {
        style: Style::Sentence,
        topic: None,
        beginning: beginning.to_owned(),
        seed: 0,
    };
    let line = |beginning, answer| request(beginning).line(answer);
    assert_eq!(
        line("Bread", "\n \"Bread is baked.\" Sure?\nMore").as_deref(),
        Some("Bread is baked.")
    );
    assert_eq!(line("Bread", "“Bread” is").as_deref(), Some("Bread"));
    assert_eq!(line("Bread", "Sure, here it is:\nBread is baked."), None);
    assert_eq!(line("", "Anything.\nMore").as_deref(), Some("Anything."));
    assert_eq!(line("", " \n"), None);
    assert_eq!(
        request("Bread").continued(" is\nMore").as_deref(),
        Some("Bread is")
    );
}

fn custom_strategy() -> Strategy {
    Strategy::Custom {
        rule: Rule::default(),
    }
}

fn custom_queries(count: usize) -> Vec<String> {
    let set = run(&options(count)).unwrap();
    set.fingerprints().iter().map(|f| f.query.clone()).collect()
}

fn custom(queries: &[&str], count: usize) -> Result<FingerprintSet, GenerateError> {
    run(&GenerateOptions {
        strategy: Strategy::Custom {
            rule: Rule::default(),
        },
        queries: queries.iter().map(|&query| query.to_owned()).collect(),
        ..options(count)
    })
}

#[test]
fn custom_queries_are_kept_in_order_without_trailing_space() {
    let set = custom(&["Ababa ababa", "ababa. \n", "ababa, ababa ababa"], 3).unwrap();
    let queries: Vec<&str> = set
        .fingerprints()
        .iter()
        .map(|f| f.query.as_str())
        .collect();
    assert_eq!(queries, ["Ababa ababa", "ababa.", "ababa, ababa ababa"]);
    assert_eq!(set.header().query_length, 5);
}

#[test]
fn custom_queries_that_cannot_be_used_are_named() {
    let message = |queries: &[&str], count| custom(queries, count).unwrap_err().to_string();
    assert_eq!(
        message(&["ababa", " \n"], 1),
        "queries[1]: expected text, got nothing but white space"
    );
    assert_eq!(
        message(&["ababa", "Ababa", "ababa "], 1),
        "queries[2]: expected a query of its own, got that of queries[0]"
    );
    assert_eq!(
        message(&["ababa"], 2),
        "queries: expected 2 with a valid response, got 1 of 1"
    );
    assert_eq!(
        message(&[], 2),
        "queries: expected 2 with a valid response, got 0 of 0"
    );
}

#[test]
fn a_model_without_sentences_is_given_up() {
    let tokenizer = Words::new(300);
    let mut model = Bigrams::silent(&tokenizer);
    let error = made(&mut model, &tokenizer, &owner(), &options(2)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "query attempts: expected 2 usable queries within 256 attempts, got 0"
    );
}

#[test]
fn a_vocabulary_without_words_is_refused() {
    let tokenizer = Words::new(100);
    let error = made(
        &mut Bigrams::new(&tokenizer),
        &tokenizer,
        &owner(),
        &options(2),
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "tokenizer vocabulary: expected at least 256 word tokens, got 150"
    );
}

#[test]
fn options_out_of_bounds_are_named() {
    let rule = |threshold, candidates, responses| Strategy::Custom {
        rule: Rule {
            threshold,
            candidates,
            responses,
        },
    };
    let table = [
        (options(0), "count: expected 1 to 262144, got 0"),
        (
            GenerateOptions {
                query_length: 0,
                ..options(1)
            },
            "query_length: expected 1 to 4096, got 0",
        ),
        (
            GenerateOptions {
                response_length: 5000,
                ..options(1)
            },
            "response_length: expected 1 to 4096, got 5000",
        ),
        (
            GenerateOptions {
                batch: 0,
                ..options(1)
            },
            "batch: expected 1 to 262144, got 0",
        ),
        (
            GenerateOptions {
                strategy: rule(1.5, 3, 1),
                ..options(1)
            },
            "strategy threshold: expected a probability above 0 and below 1, got 1.5",
        ),
        (
            GenerateOptions {
                strategy: rule(0.8, 0, 1),
                ..options(1)
            },
            "strategy candidates: expected 1 to 256, got 0",
        ),
        (
            GenerateOptions {
                strategy: rule(0.8, 3, 4),
                ..options(1)
            },
            "strategy responses: expected 1 to 3, got 4",
        ),
    ];
    for (options, message) in table {
        let error = run(&options).unwrap_err();
        assert!(matches!(error, GenerateError::Set(SetError::Field { .. })));
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn a_judge_with_the_base_model_sees_which_pairs_the_strategy_cannot_make() {
    let tokenizer = Words::new(300);
    for (strategy, response_length) in strategies() {
        let options = GenerateOptions {
            strategy,
            response_length,
            ..options(30)
        };
        let set = run(&options).unwrap();
        let mut model = Bigrams::new(&tokenizer);
        let mut judged = |openings: &[Opening]| {
            let openings: Vec<_> = openings.iter().collect();
            impossible(&strategy, &mut model, &tokenizer, &openings).unwrap()
        };
        let honest: Vec<Opening> = set.fingerprints().iter().map(Opening::from).collect();
        let is_bound = strategy.rule().is_some() || matches!(strategy, Strategy::ChainHash { .. });
        assert_eq!(judged(&honest), is_bound.then(Vec::new), "{strategy:?}");
        if !is_bound {
            continue;
        }
        // What every model like the base says is no fingerprint.
        let model = Bigrams::new(&tokenizer);
        let likely: Vec<Opening> = set
            .fingerprints()
            .iter()
            .map(|pair| {
                let first = arg_max(&model.distribution(&pair.query_ids, 1.0));
                let mut opening = Opening::from(pair);
                let whole = [pair.query_ids.as_slice(), &[first]].concat();
                let text = tokenizer.decode(&whole).unwrap();
                opening.responses = vec![text[pair.query.len()..].to_owned()];
                opening
            })
            .collect();
        let caught = judged(&likely).unwrap();
        // Half of the words that a hash chooses among are likely ones here.
        let least = if strategy.rule().is_some() { 28 } else { 10 };
        assert!(caught.len() >= least, "{strategy:?}: {caught:?}");
        let mut more = honest.clone();
        more[3].responses.push(" more".into());
        more[5].responses.clear();
        let caught = judged(&more).unwrap();
        assert_eq!(caught, [3, 5], "{strategy:?}");
    }
}
