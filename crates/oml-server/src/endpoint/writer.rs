//! An endpoint as a writer of natural queries.
//!
//! A chat is told what to write, a completion continues the beginning to the end of its line.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use oml_core::model::ModelError;
use oml_core::strategy::GenerateError;
use oml_core::strategy::writer::{Request, Writer};

use super::question::{Manner, render};
use super::transport::Transport;
use super::{Api, EndpointError, EndpointOptions, Question, read_reply};

/// Most bytes of a text in an answer that are looked at.
const MAX_TEXT_BYTES: usize = 1 << 14;
/// Requests under way at the same time.
const PARALLEL: usize = 4;
/// Tokens for what an answer may hold besides the line: quotes, a space.
const MARGIN: usize = 8;

/// An endpoint that writes text.
pub struct Endpoint {
    transport: Transport,
    api: Api,
    model: String,
}

impl Endpoint {
    /// Judges the options; nothing is sent yet.
    ///
    /// # Errors
    /// [`EndpointError::Url`] or [`EndpointError::PlainHttp`].
    pub fn new(options: EndpointOptions) -> Result<Self, EndpointError> {
        let api = match Api::of_url(&options.url) {
            Some(Api::Completions) => Api::Completions,
            _ => Api::Chat,
        };
        Ok(Self {
            transport: Transport::new(&options, api)?,
            api,
            model: options.model,
        })
    }

    /// Where requests go.
    #[must_use]
    pub fn url(&self) -> &str {
        self.transport.url()
    }

    /// The line that the endpoint writes for one request; `None` where its answer holds no such line.
    fn line(
        &self,
        request: &Request,
        temperature: f32,
        max_tokens: usize,
    ) -> Result<Option<String>, EndpointError> {
        let is_chat = self.api.has_roles();
        let text = match is_chat {
            true => request.instruction(),
            false => request.list(),
        };
        let question = Question {
            system: None,
            text: &text,
            answer: "",
            max_tokens: u32::try_from(max_tokens).unwrap_or(u32::MAX),
            log_probabilities: false,
            seed: request.seed,
        };
        let manner = Manner {
            temperature,
            to_line_end: !is_chat,
        };
        let body = render(self.api, &self.model, &question, manner)?;
        self.transport.turn()?;
        let reply = self
            .transport
            .send(&body, &mut |_| {}, |answer| read_reply(self.api, answer));
        let text = match reply {
            Ok(reply) => head(reply.text),
            // The model said nothing.
            Err(EndpointError::NoText) => String::new(),
            Err(fault) => return Err(fault),
        };
        Ok(match is_chat {
            true => request.line(&text),
            false => request.continued(&text),
        })
    }
}

impl Writer for Endpoint {
    fn lines(
        &mut self,
        requests: &[Request],
        temperature: f32,
        length: usize,
    ) -> Result<Vec<Option<String>>, GenerateError> {
        let next = AtomicUsize::new(0);
        let lines: Vec<Mutex<Option<String>>> = requests.iter().map(|_| Mutex::default()).collect();
        let fault = Mutex::new(None);
        let work = || {
            while let Some((place, request)) = {
                let place = next.fetch_add(1, Ordering::Relaxed);
                requests.get(place).map(|request| (place, request))
            } {
                match self.line(request, temperature, length + MARGIN) {
                    Ok(line) => *lock(&lines[place]) = line,
                    Err(error) => {
                        lock(&fault).get_or_insert(error);
                        next.store(requests.len(), Ordering::Relaxed);
                    }
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..PARALLEL.min(requests.len()) {
                scope.spawn(work);
            }
        });
        match lock(&fault).take() {
            Some(error) => Err(GenerateError::Model(ModelError(Box::new(error)))),
            None => Ok(lines.iter().map(|line| lock(line).take()).collect()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The beginning of a text.
fn head(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
    text
}
