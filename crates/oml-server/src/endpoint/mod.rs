//! The client of an OpenAI-compatible endpoint, as a writer of natural queries.
//!
//! ```text
//! POST {url}   Authorization: Bearer {key}   Content-Type: application/json
//! …/chat/completions   {"model","messages":[{"role":"user","content"}],"max_tokens","temperature","seed","stream":false}
//! …/completions        {"model","prompt","stop":["\n"],"max_tokens","temperature","seed","stream":false}
//! ```
//!
//! A URL that ends otherwise is a base, as in OpenAI's own clients: `/chat/completions` is added, after `/v1` where there is no
//! path. Plain HTTP goes to loopback alone, unless it is allowed. Redirects are not followed, and no proxy is used: the key and
//! the request go to the host that was named or nowhere. Requests that may succeed later are sent again, after a wait that
//! doubles or that the endpoint names.
//!
//! Answers are strangers' bytes: their size is capped before they are parsed, and nothing of them is shown but a short printable
//! part of an error's text, without the key.
//!
//! Source: OpenAI API reference, "Create chat completion" and "Create completion".

mod error;
mod wire;

use std::fmt;
use std::io::Read as _;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use oml_core::model::ModelError;
use oml_core::strategy::GenerateError;
use oml_core::strategy::writer::{Request, Writer};
use ureq::Agent;
use ureq::http::Uri;
use zeroize::Zeroizing;

pub use error::EndpointError;

/// Most bytes of an answer.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// Most bytes of a text in an answer that are looked at.
const MAX_TEXT_BYTES: usize = 1 << 14;
/// Longest wait before a request is sent again.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Requests under way at the same time.
const PARALLEL: usize = 4;
/// Tokens for what an answer may hold besides the line: quotes, a space.
const MARGIN: usize = 8;

/// The key of an endpoint; `Debug` shows nothing, memory is zeroised on drop.
#[derive(Clone)]
pub struct ApiKey(Zeroizing<String>);

impl ApiKey {
    /// Takes the key, without white space around it.
    ///
    /// # Errors
    /// [`EndpointError::Key`] for anything that cannot be part of a header.
    pub fn new(key: &str) -> Result<Self, EndpointError> {
        let key = key.trim();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(EndpointError::Key);
        }
        Ok(Self(Zeroizing::new(key.to_owned())))
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(secret)")
    }
}

/// Which endpoint, and how patiently it is asked.
#[derive(Debug, Clone)]
pub struct EndpointOptions {
    /// Where requests go.
    pub url: String,
    /// The model that the endpoint shall use.
    pub model: String,
    /// Its key, where it wants one.
    pub key: Option<ApiKey>,
    /// Time for one request with its answer.
    pub timeout: Duration,
    /// How often a request is sent at most; at least once.
    pub attempts: u32,
    /// Wait before a request is sent for the second time; it doubles from there.
    pub backoff: Duration,
    /// Whether plain HTTP may leave this machine.
    pub allow_http: bool,
}

impl EndpointOptions {
    /// The defaults for the model `model` at `url`.
    #[must_use]
    pub fn new(url: &str, model: &str) -> Self {
        Self {
            url: url.to_owned(),
            model: model.to_owned(),
            key: None,
            timeout: Duration::from_secs(60),
            attempts: 5,
            backoff: Duration::from_secs(1),
            allow_http: false,
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Chat,
    Completion,
}

/// An endpoint that writes text.
pub struct Endpoint {
    agent: Agent,
    url: String,
    kind: Kind,
    options: EndpointOptions,
}

impl Endpoint {
    /// Judges the options; nothing is sent yet.
    ///
    /// # Errors
    /// [`EndpointError::Url`] or [`EndpointError::PlainHttp`].
    pub fn new(options: EndpointOptions) -> Result<Self, EndpointError> {
        let (url, kind) = resolve(&options.url, options.allow_http)?;
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .timeout_global(Some(options.timeout))
            .user_agent(concat!("oml/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Self {
            agent,
            url,
            kind,
            options,
        })
    }

    /// Where requests go.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The line that the endpoint writes for one request; `None` where its answer holds no such line.
    fn line(
        &self,
        request: &Request,
        temperature: f32,
        max_tokens: usize,
    ) -> Result<Option<String>, EndpointError> {
        let common = wire::Common {
            model: &self.options.model,
            max_tokens,
            temperature,
            // Servers differ in how many bits they take.
            seed: request.seed & 0x7fff_ffff,
            stream: false,
        };
        Ok(match self.kind {
            Kind::Chat => {
                let answer = self.send(&wire::chat(&common, &request.instruction())?)?;
                request.line(&head(wire::chat_text(&answer)?))
            }
            Kind::Completion => {
                let answer = self.send(&wire::completion(&common, &request.list())?)?;
                request.continued(&head(wire::completion_text(&answer)?))
            }
        })
    }

    /// Sends a request until it is answered, or cannot be.
    fn send(&self, body: &[u8]) -> Result<Vec<u8>, EndpointError> {
        let mut wait = self.options.backoff;
        let mut attempt = 1;
        loop {
            let fault = match self.send_once(body) {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            if !fault.may_pass() || attempt >= self.options.attempts {
                return Err(fault);
            }
            thread::sleep(fault.retry_after().unwrap_or(wait).min(MAX_WAIT));
            wait = (wait * 2).min(MAX_WAIT);
            attempt += 1;
        }
    }

    fn send_once(&self, body: &[u8]) -> Result<Vec<u8>, EndpointError> {
        let mut request = self
            .agent
            .post(&self.url)
            .header("content-type", "application/json");
        if let Some(key) = &self.options.key {
            let value = Zeroizing::new(format!("Bearer {}", key.0.as_str()));
            request = request.header("authorization", value.as_str());
        }
        let mut response = request.send(body)?;
        let status = response.status();
        let retry_after = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let mut answer = Vec::new();
        // One byte more than allowed tells a longer answer, packed or not.
        response
            .body_mut()
            .as_reader()
            .take(MAX_ANSWER_BYTES as u64 + 1)
            .read_to_end(&mut answer)
            .map_err(ureq::Error::from)?;
        if answer.len() > MAX_ANSWER_BYTES {
            return Err(EndpointError::TooLarge {
                limit: MAX_ANSWER_BYTES,
            });
        }
        if !status.is_success() {
            return Err(EndpointError::Status {
                status: status.as_u16(),
                message: error::message(
                    &answer,
                    self.options.key.as_ref().map(|key| key.0.as_str()),
                ),
                retry_after,
            });
        }
        Ok(answer)
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

/// Where requests go, and what is asked for there.
fn resolve(text: &str, allow_http: bool) -> Result<(String, Kind), EndpointError> {
    let fault = |expected| EndpointError::Url { expected };
    let url: Uri = text.parse().map_err(|_| fault("an http or https URL"))?;
    let (Some(host), Some(authority)) = (url.host(), url.authority()) else {
        return Err(fault("an http or https URL"));
    };
    if authority.as_str().contains('@') {
        return Err(fault("no user name or password in it"));
    }
    if url.query().is_some() {
        return Err(fault("no query in it"));
    }
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let is_loopback = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    match url.scheme_str() {
        Some("https") => {}
        Some("http") if is_loopback || allow_http => {}
        Some("http") => return Err(EndpointError::PlainHttp),
        _ => return Err(fault("an http or https URL")),
    }
    let text = text.trim_end_matches('/');
    let path = url.path().trim_end_matches('/');
    Ok(if path.ends_with("/chat/completions") {
        (text.to_owned(), Kind::Chat)
    } else if path.ends_with("/completions") {
        (text.to_owned(), Kind::Completion)
    } else if path.is_empty() {
        (format!("{text}/v1/chat/completions"), Kind::Chat)
    } else {
        (format!("{text}/chat/completions"), Kind::Chat)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_completed_and_a_whole_url_kept() {
        let table = [
            (
                "http://127.0.0.1:8000",
                "http://127.0.0.1:8000/v1/chat/completions",
                Kind::Chat,
            ),
            (
                "http://[::1]:8000/v1/",
                "http://[::1]:8000/v1/chat/completions",
                Kind::Chat,
            ),
            (
                "https://host/api/v1/completions",
                "https://host/api/v1/completions",
                Kind::Completion,
            ),
            (
                "https://host/v1/chat/completions/",
                "https://host/v1/chat/completions",
                Kind::Chat,
            ),
        ];
        for (given, url, kind) in table {
            assert_eq!(resolve(given, false).unwrap(), (url.to_owned(), kind));
        }
    }

    #[test]
    fn plain_http_stays_on_this_machine_unless_it_is_allowed() {
        for url in [
            "http://example.org/v1",
            "http://127.0.0.1.example.org",
            "http://10.0.0.1",
        ] {
            assert!(
                matches!(resolve(url, false), Err(EndpointError::PlainHttp)),
                "{url}"
            );
            assert!(resolve(url, true).is_ok());
        }
        assert!(resolve("http://localhost:8000", false).is_ok());
    }

    #[test]
    fn urls_that_hide_something_are_refused() {
        for url in [
            "https://key@host/v1",
            "https://host/v1?key=1",
            "ftp://host",
            "host/v1",
            "",
        ] {
            assert!(
                matches!(resolve(url, true), Err(EndpointError::Url { .. })),
                "{url}"
            );
        }
    }

    #[test]
    fn a_key_shows_nothing_and_fits_a_header() {
        let key = ApiKey::new(" sk-123\n").unwrap();
        assert_eq!(
            (format!("{key:?}").as_str(), key.0.as_str()),
            ("ApiKey(secret)", "sk-123")
        );
        for bad in ["", " ", "a\r\nHost: b", "ä"] {
            assert!(matches!(ApiKey::new(bad), Err(EndpointError::Key)));
        }
    }
}
