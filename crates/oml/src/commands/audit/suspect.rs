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

use super::desk::Desk;
use super::endpoint_args::EndpointArgs;
use crate::commands::workbench::{self, BaseArgs, Opened};
use crate::printer::Printer;
use crate::{interrupt, random};

/// Queries that weights at hand are asked side by side.
const LOCAL_ROUND: usize = 16;

/// Who is asked.
pub(super) enum Suspect {
    Endpoint(Box<Endpoint>),
    Local(Box<Opened>),
}

/// A live endpoint.
pub(super) struct Endpoint {
    asker: Asker,
    model: String,
    concurrency: usize,
    /// Mean wait before a request, in seconds.
    spacing: f64,
    /// Whether requests have to wait before they leave.
    is_paced: bool,
    log_probabilities: bool,
}

impl Suspect {
    /// The endpoint at `url`.
    ///
    /// # Errors
    /// When a flag about it cannot be used.
    pub(super) fn endpoint(url: &str, args: &EndpointArgs) -> anyhow::Result<Self> {
        let (asker, model) = args.asker(url)?;
        Ok(Self::Endpoint(Box::new(Endpoint {
            asker,
            model,
            concurrency: args.concurrency.into(),
            spacing: args.spacing,
            is_paced: args.spacing > 0.0 || args.per_minute.is_some(),
            log_probabilities: !args.no_log_probabilities,
        })))
    }

    /// The weights in `path`.
    ///
    /// # Errors
    /// Whatever is wrong with them.
    pub(super) fn local(
        engine: &Engine,
        path: &Path,
        base: &BaseArgs,
        printer: &Printer,
    ) -> anyhow::Result<Self> {
        let opened = workbench::open_suspect(engine, path, base, printer)?;
        Ok(Self::Local(Box::new(opened)))
    }

    /// As the terms name it.
    ///
    /// # Errors
    /// When a model's files cannot be read.
    pub(super) fn identity(&self) -> anyhow::Result<audit::Suspect> {
        Ok(match self {
            Self::Endpoint(endpoint) => audit::Suspect::Endpoint {
                url: endpoint.asker.url().to_owned(),
                api: endpoint.asker.api().to_string(),
                model: endpoint.model.clone(),
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
            Self::Endpoint(endpoint) => endpoint.concurrency,
            Self::Local(_) => LOCAL_ROUND,
        }
    }

    /// Whether a query can be put inside `wrap`.
    pub(super) fn takes(&self, wrap: &Prompt) -> bool {
        match self {
            Self::Endpoint(_) => true,
            Self::Local(opened) => opened.tokenizer.takes(wrap),
        }
    }

    /// Asks what is due, `count` requests, and writes down every attempt at an answer: each request's one after the other, and the one that
    /// counts last. After Ctrl-C nothing leaves that was not written down before.
    ///
    /// # Errors
    /// When weights cannot be asked, or `desk` cannot write.
    pub(super) fn ask(
        &mut self,
        count: usize,
        terms: &Terms,
        desk: &mut Desk<'_>,
    ) -> anyhow::Result<()> {
        match self {
            Self::Local(opened) => {
                let started = Instant::now();
                let mut asks = Vec::with_capacity(count);
                while let Some(ask) = desk.next(true, &|_, _| Ok(String::new()))? {
                    asks.push(ask);
                }
                let puts = asks.iter().map(|ask| (&terms.wraps[ask.wrap], &ask.put));
                let texts = texts(opened, &puts.collect::<Vec<_>>(), terms.rule.tokens)?;
                for (ask, text) in asks.iter().zip(texts) {
                    desk.answer(Answer {
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
            Self::Endpoint(endpoint) => endpoint.ask(count, desk),
        }
    }
}

impl Endpoint {
    /// The body of the request that puts `put`, as it will leave.
    fn request(&self, put: &Put, tokens: u32) -> anyhow::Result<String> {
        let flat = put.flat();
        let has_roles = self.asker.api().has_roles();
        let question = Question {
            system: put.system.as_deref().filter(|_| has_roles),
            text: if has_roles { &put.text } else { &flat },
            answer: if has_roles { &put.answer } else { "" },
            max_tokens: tokens,
            log_probabilities: self.log_probabilities,
            seed: 0,
        };
        let body = self.asker.request(&question).context("--endpoint")?;
        String::from_utf8(body).context("--endpoint")
    }

    fn ask(&self, count: usize, desk: &mut Desk<'_>) -> anyhow::Result<()> {
        let taken = AtomicUsize::new(0);
        let desk = Mutex::new(desk);
        let fault = Mutex::new(None);
        let work = || {
            while taken.fetch_add(1, Ordering::Relaxed) < count && lock(&fault).is_none() {
                // What has to wait is written down after that, alone: until then it may be given up.
                if self.is_paced && !self.wait() {
                    return;
                }
                let next =
                    lock(&desk).next(!self.is_paced, &|put, tokens| self.request(put, tokens));
                let done = next.and_then(|ask| match ask {
                    Some(ask) => self.send(&ask, &desk),
                    None => Ok(()),
                });
                if let Err(error) = done {
                    lock(&fault).get_or_insert(error);
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..self.concurrency.min(count) {
                scope.spawn(work);
            }
            work();
        });
        lock(&fault).take().map_or(Ok(()), Err)
    }

    /// Sends a request, and writes down what comes back.
    fn send(&self, ask: &Ask, desk: &Mutex<&mut Desk<'_>>) -> anyhow::Result<()> {
        let mut attempts = Vec::new();
        let reply = self.asker.send(ask.request.as_bytes(), &mut |attempt| {
            attempts.push(attempt.clone());
        });
        let (text, refusal) = match reply {
            Ok(reply) => (Some(reply.text), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let last = attempts.len().saturating_sub(1);
        for (place, attempt) in attempts.into_iter().enumerate() {
            let is_last = place == last;
            lock(desk).answer(answer(
                ask.number,
                attempt,
                text.clone().filter(|_| is_last),
                refusal.clone().filter(|_| is_last),
            ))?;
        }
        Ok(())
    }

    /// Waits until a request may leave: for a time drawn from the exponential distribution, which has no beat, and for the rate limit. False
    /// after Ctrl-C.
    fn wait(&self) -> bool {
        if self.spacing > 0.0 {
            let uniform =
                random::number().map_or(0.5, |bits| (bits >> 11) as f64 / (1u64 << 53) as f64);
            let seconds = -self.spacing * (-uniform).ln_1p();
            let until = Instant::now() + Duration::from_secs_f64(seconds.min(10.0 * self.spacing));
            while Instant::now() < until && !interrupt::requested() {
                thread::sleep(Duration::from_millis(20).min(until - Instant::now()));
            }
        }
        self.asker.turn().is_ok()
    }
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
