//! Who is asked: a live endpoint, or weights at hand that are made to write like one.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use oml_core::audit::{self, Answer, Ask, Put, Terms};
use oml_core::model::{LanguageModel as _, Sampling};
use oml_core::prompt::{Prompt, Template};
use oml_model::engine::Engine;
use oml_server::endpoint::{Asker, Attempt, Question};

use super::endpoint_args::EndpointArgs;
use crate::commands::workbench::{self, Opened};
use crate::printer::Printer;
use crate::{interrupt, random};

/// Queries that weights at hand are asked side by side.
const LOCAL_ROUND: usize = 16;

/// Who is asked.
pub(super) enum Suspect {
    Endpoint {
        asker: Box<Asker>,
        model: String,
        concurrency: usize,
        spacing: f64,
        log_probabilities: bool,
    },
    Local(Box<Opened>),
}

impl Suspect {
    /// The endpoint at `url`.
    ///
    /// # Errors
    /// When a flag about it cannot be used.
    pub(super) fn endpoint(url: &str, args: &EndpointArgs) -> anyhow::Result<Self> {
        let (asker, model) = args.asker(url)?;
        Ok(Self::Endpoint {
            asker: Box::new(asker),
            model,
            concurrency: args.concurrency.into(),
            spacing: args.spacing,
            log_probabilities: !args.no_log_probabilities,
        })
    }

    /// The weights in `path`.
    ///
    /// # Errors
    /// Whatever is wrong with them.
    pub(super) fn local(engine: &Engine, path: &Path, printer: &Printer) -> anyhow::Result<Self> {
        Ok(Self::Local(Box::new(workbench::open(
            engine, path, printer,
        )?)))
    }

    /// As the terms name it.
    ///
    /// # Errors
    /// When a model's files cannot be read.
    pub(super) fn identity(&self) -> anyhow::Result<audit::Suspect> {
        Ok(match self {
            Self::Endpoint { asker, model, .. } => audit::Suspect::Endpoint {
                url: asker.url().to_owned(),
                api: asker.api().to_string(),
                model: model.clone(),
            },
            Self::Local(opened) => audit::Suspect::Checkpoint {
                name: opened.name.clone(),
                digest: opened.checkpoint.digest()?,
            },
        })
    }

    /// Queries that may be under way at the same time.
    pub(super) const fn round(&self) -> usize {
        match self {
            Self::Endpoint { concurrency, .. } => *concurrency,
            Self::Local(_) => LOCAL_ROUND,
        }
    }

    /// Whether a query can be put inside `wrap`.
    pub(super) fn takes(&self, wrap: &Prompt) -> bool {
        match self {
            Self::Endpoint { .. } => true,
            Self::Local(opened) => opened.tokenizer.takes(wrap),
        }
    }

    /// The body of the request that puts `put`, as it will leave; empty for weights.
    ///
    /// # Errors
    /// When the endpoint's interface has no place for it.
    pub(super) fn request(&self, put: &Put, tokens: u32) -> anyhow::Result<String> {
        let Self::Endpoint {
            asker,
            log_probabilities,
            ..
        } = self
        else {
            return Ok(String::new());
        };
        let flat = put.flat();
        let has_roles = asker.api().has_roles();
        let question = Question {
            system: put.system.as_deref().filter(|_| has_roles),
            text: if has_roles { &put.text } else { &flat },
            answer: if has_roles { &put.answer } else { "" },
            max_tokens: tokens,
            log_probabilities: *log_probabilities,
            seed: 0,
        };
        let body = asker.request(&question).context("--endpoint")?;
        String::from_utf8(body).context("--endpoint")
    }

    /// Asks, and hands every attempt at an answer to `log`, each request's one after the other and the one that counts last. Stops early,
    /// between requests, when `log` fails or Ctrl-C was pressed.
    ///
    /// # Errors
    /// When weights cannot be asked, or `log` fails.
    pub(super) fn ask(
        &mut self,
        asks: &[Ask],
        terms: &Terms,
        log: &mut (dyn FnMut(Answer) -> anyhow::Result<()> + Send),
    ) -> anyhow::Result<()> {
        match self {
            Self::Local(opened) => {
                let started = Instant::now();
                let puts = asks.iter().map(|ask| (&terms.wraps[ask.wrap], &ask.put));
                let texts = texts(opened, &puts.collect::<Vec<_>>(), terms.rule.tokens)?;
                for (ask, text) in asks.iter().zip(texts) {
                    log(Answer {
                        number: ask.number,
                        status: None,
                        body: Vec::new(),
                        cut: false,
                        fault: None,
                        text: Some(text),
                        elapsed: millis(started.elapsed()),
                    })?;
                }
                Ok(())
            }
            Self::Endpoint {
                asker,
                concurrency,
                spacing,
                ..
            } => ask_endpoint(asker, *concurrency, *spacing, asks, log),
        }
    }
}

fn ask_endpoint(
    asker: &Asker,
    concurrency: usize,
    spacing: f64,
    asks: &[Ask],
    log: &mut (dyn FnMut(Answer) -> anyhow::Result<()> + Send),
) -> anyhow::Result<()> {
    let next = AtomicUsize::new(0);
    let log = Mutex::new(log);
    let fault = Mutex::new(None);
    let work = || {
        while let Some(ask) = asks.get(next.fetch_add(1, Ordering::Relaxed)) {
            if lock(&fault).is_some() || interrupt::requested() {
                return;
            }
            wait(spacing);
            let mut attempts = Vec::new();
            let reply = asker.send(ask.request.as_bytes(), &mut |attempt| {
                attempts.push(attempt.clone());
            });
            let (text, refusal) = match reply {
                Ok(reply) => (Some(reply.text), None),
                Err(error) => (None, Some(error.to_string())),
            };
            // A request that was stopped before it left has no attempt to show.
            let last = attempts.len().saturating_sub(1);
            for (place, attempt) in attempts.into_iter().enumerate() {
                let is_last = place == last;
                let answer = answer(
                    ask.number,
                    attempt,
                    text.clone().filter(|_| is_last),
                    refusal.clone().filter(|_| is_last),
                );
                if let Err(error) = lock(&log)(answer) {
                    lock(&fault).get_or_insert(error);
                    return;
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..concurrency.min(asks.len()) {
            scope.spawn(work);
        }
        work();
    });
    lock(&fault).take().map_or(Ok(()), Err)
}

fn answer(number: u64, attempt: Attempt, text: Option<String>, refusal: Option<String>) -> Answer {
    Answer {
        number,
        status: attempt.status,
        body: attempt.body,
        cut: attempt.cut,
        fault: attempt.fault.or(refusal),
        text,
        elapsed: millis(attempt.elapsed),
    }
}

/// Waits for a time drawn from the exponential distribution with this mean, which has no beat.
fn wait(mean: f64) {
    if mean <= 0.0 {
        return;
    }
    let uniform = random::number().map_or(0.5, |bits| (bits >> 11) as f64 / (1u64 << 53) as f64);
    let seconds = -mean * (-uniform).ln_1p();
    let until = Instant::now() + Duration::from_secs_f64(seconds.min(10.0 * mean));
    while Instant::now() < until && !interrupt::requested() {
        thread::sleep(Duration::from_millis(20).min(until - Instant::now()));
    }
}

/// What weights at hand write, greedily, after each query inside its wrap.
///
/// # Errors
/// When the tokenizer or the model fails.
pub(in crate::commands) fn texts(
    opened: &mut Opened,
    puts: &[(&Prompt, &Put)],
    tokens: u32,
) -> anyhow::Result<Vec<String>> {
    let whole = Template::new("{}")?;
    let mut prompts = Vec::with_capacity(puts.len());
    for (wrap, put) in puts {
        // The query is in the text already.
        let prompt = match wrap {
            Prompt::Text(_) => Prompt::Text(whole.clone()),
            Prompt::Chat { .. } => Prompt::Chat {
                system: put.system.clone(),
                user: whole.clone(),
                answer: put.answer.clone(),
            },
        };
        prompts.push(opened.tokenizer.prompted(&prompt, &put.text)?);
    }
    let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    let sampling = Sampling {
        max_tokens: tokens as usize,
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        stop: opened.checkpoint.config().eos_token_ids.clone(),
    };
    let seeds = vec![0; prompts.len()];
    let generated = opened.model.generate(&prompts, &seeds, &sampling)?;
    let texts = generated.iter().map(|ids| opened.tokenizer.decode(ids));
    Ok(texts.collect::<Result<_, _>>()?)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
