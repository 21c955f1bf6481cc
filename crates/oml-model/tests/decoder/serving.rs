//! SmolLM2-135M-Instruct answering many at once: what each listener hears.

use std::num::NonZeroUsize;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use oml_core::model::{LanguageModel as _, Sampling};
use oml_core::serving::{Asked, Ending, Event, Question, QuestionError, TextModel, Turn};
use oml_model::causal::CausalModel;
use oml_model::checkpoint::Checkpoint;
use oml_model::engine::Engine;
use oml_model::serving::{ServedModel, ServingOptions};

use crate::smollm2::real;

fn served(checkpoint: &Checkpoint, slots: usize, waiting: usize, context: usize) -> ServedModel {
    let model = CausalModel::load(&Engine::default(), checkpoint).unwrap();
    let tokenizer = Arc::new(checkpoint.tokenizer().unwrap());
    let end = checkpoint.config().eos_token_ids.clone();
    let options = ServingOptions {
        slots: NonZeroUsize::new(slots).unwrap(),
        waiting,
        context,
    };
    ServedModel::start(model, tokenizer, end, options)
}

fn question(text: &str, max_tokens: usize) -> Question {
    Question {
        asked: Asked::Text(text.to_owned()),
        max_tokens: NonZeroUsize::new(max_tokens),
        temperature: 0.0,
        top_p: 1.0,
        top_k: 0,
        seed: 0,
        stop: Vec::new(),
    }
}

fn start(served: &ServedModel, question: Question) -> Result<mpsc::Receiver<Event>, QuestionError> {
    let (sender, events) = mpsc::channel();
    let prepared = served.prepare(question)?;
    prepared.start(Box::new(move |event| sender.send(event).is_ok()))?;
    Ok(events)
}

/// The pieces of an answer, why it ended and its tokens.
fn heard(events: &mpsc::Receiver<Event>) -> (Vec<String>, Ending, usize) {
    let mut pieces = Vec::new();
    loop {
        match events.recv_timeout(Duration::from_secs(120)).unwrap() {
            Event::Text(text) => pieces.push(text),
            Event::Ended { ending, tokens } => return (pieces, ending, tokens),
            Event::Failed(error) => panic!("{error}"),
        }
    }
}

#[test]
fn each_gets_what_it_would_get_alone() {
    let Some(checkpoint) = real() else { return };
    let tokenizer = checkpoint.tokenizer().unwrap();
    // Of different lengths, one of them longer than a step reads beside others.
    let prompts: Vec<String> = (0..7)
        .map(|i| {
            format!(
                "{}Once upon a time, number {i},",
                "The sun is warm. ".repeat(25 * i)
            )
        })
        .collect();
    let mut alone = CausalModel::load(&Engine::default(), &checkpoint).unwrap();
    let expected: Vec<String> = prompts
        .iter()
        .map(|prompt| {
            let sampling = Sampling {
                max_tokens: 12,
                temperature: 0.0,
                top_k: 0,
                top_p: 1.0,
                stop: checkpoint.config().eos_token_ids.clone(),
            };
            let ids = tokenizer.encode(prompt, true).unwrap();
            let answer = alone.generate(&[&ids], &[0], &sampling).unwrap();
            tokenizer.decode(&answer[0]).unwrap()
        })
        .collect();
    // Fewer slots than questions, and questions that come while others are answered.
    let served = served(&checkpoint, 3, 8, 2048);
    let events: Vec<_> = prompts
        .iter()
        .map(|prompt| {
            std::thread::sleep(Duration::from_millis(60));
            start(&served, question(prompt, 12)).unwrap()
        })
        .collect();
    for (events, expected) in events.iter().zip(expected) {
        assert_eq!(heard(events).0.concat(), expected);
    }
}

#[test]
fn characters_are_whole_and_stop_texts_are_not_told() {
    let Some(checkpoint) = real() else { return };
    let served = served(&checkpoint, 2, 4, 512);
    let chat = |text: &str| Question {
        asked: Asked::Chat(vec![Turn {
            role: "user".to_owned(),
            content: text.to_owned(),
        }]),
        ..question("", 40)
    };
    let (pieces, _, tokens) = heard(&start(&served, chat("Repeat this: 🦀 é 漢字 🦀")).unwrap());
    let text = pieces.concat();
    assert!(!text.contains('\u{fffd}') && !text.is_ascii(), "{text}");
    assert!(pieces.len() <= tokens);
    let whole = heard(&start(&served, question("One, two, three,", 24)).unwrap())
        .0
        .concat();
    // A stop text in the middle of a token and over several of them.
    for stop in [&whole[6..9], &whole[5..14]] {
        let question = Question {
            stop: vec!["never there".to_owned(), stop.to_owned()],
            ..question("One, two, three,", 24)
        };
        let (pieces, ending, _) = heard(&start(&served, question).unwrap());
        let expected = &whole[..whole.find(stop).unwrap()];
        assert_eq!(
            (pieces.concat().as_str(), ending),
            (expected, Ending::Stop),
            "{stop:?}"
        );
    }
}

#[test]
fn what_cannot_be_answered_is_refused_and_who_leaves_is_forgotten() {
    let Some(checkpoint) = real() else { return };
    let served = served(&checkpoint, 1, 1, 64);
    let long = "word ".repeat(100);
    for asked in [question(&long, 1), question("word", 64)] {
        let refused = served.prepare(asked).err().unwrap();
        assert!(
            matches!(refused, QuestionError::TooLong { limit: 64, .. }),
            "{refused}"
        );
    }
    let refused = served.prepare(question("", 1)).err().unwrap();
    assert!(matches!(refused, QuestionError::Empty), "{refused}");
    let shouting = Question {
        asked: Asked::Chat(Vec::new()),
        ..question("", 1)
    };
    let _ = served.prepare(shouting);
    // Without a length, whatever the context leaves.
    let open = Question {
        max_tokens: None,
        ..question("One, two,", 1)
    };
    let first = start(&served, open.clone()).unwrap();
    // One is answered, one waits at most, and the rest are told so at once.
    let mut taken = Vec::new();
    let busy = loop {
        match start(&served, open.clone()) {
            Ok(events) => taken.push(events),
            Err(error) => break error,
        }
        assert!(taken.len() < 4);
    };
    assert!(matches!(busy, QuestionError::Busy { waiting: 1 }), "{busy}");
    // Nobody waits for these any more, so that the next comes at once.
    drop((first, taken));
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let events = loop {
        match start(&served, question("One, two,", 4)) {
            Ok(events) => break events,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(heard(&events).2, 4);
}
