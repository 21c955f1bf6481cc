//! The way to an endpoint and back: one connection pool, one URL, requests as bytes, answers as capped bytes, tries until one counts.
//!
//! ```text
//! POST {url}   Authorization: Bearer {key}   Content-Type: application/json   Accept-Encoding: identity   {the user's headers}
//! ```
//!
//! Redirects are not followed, and no proxy is used but the one that is named: the key and the request go to the host that was
//! named or nowhere.

use std::io::Read as _;
use std::time::{Duration, Instant};

use ureq::Agent;
use ureq::http::{HeaderMap, Response, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;
use zeroize::Zeroizing;

use super::api::resolve;
use super::error::{message, words};
use super::patience::{Patience, retry_after};
use super::resolver::Addresses;
use super::secret::Secrets;
use super::{Api, ApiKey, EndpointError, EndpointOptions, Header};

/// Most bytes of an answer.
pub const MAX_ANSWER_BYTES: usize = 1 << 20;
/// Connections that are kept open between requests.
const IDLE_CONNECTIONS: usize = 64;

/// One try of a request: what came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// The answer's body, byte by byte, up to [`MAX_ANSWER_BYTES`]. It is an answer to parse where the status is 200, and it is
    /// neither `cut` nor has a `fault`.
    pub body: Vec<u8>,
    /// Whether the answer has more than `body`: it was too long, or the connection broke.
    pub cut: bool,
    /// Whether the answer held the key or a header's value: each is replaced by `…` in `body`.
    pub hidden: bool,
    /// What kept the request or the answer from arriving.
    pub fault: Option<String>,
    /// From before the request left until the answer was there.
    pub elapsed: Duration,
}

/// The way to one endpoint.
pub(super) struct Transport {
    agent: Agent,
    url: String,
    key: Option<ApiKey>,
    headers: Vec<Header>,
    secrets: Secrets,
    attempts: u32,
    patience: Patience,
}

impl Transport {
    /// Judges the options; nothing is sent yet.
    pub(super) fn new(options: &EndpointOptions, api: Api) -> Result<Self, EndpointError> {
        let url = resolve(&options.url, api, options.allow_http)?;
        let mut tls = TlsConfig::builder();
        if let Some(roots) = &options.roots {
            tls = tls.root_certs(RootCerts::Specific(roots.certificates()));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(options.proxy.as_ref().map(super::Proxy::to_ureq))
            .tls_config(tls.build())
            .timeout_connect(Some(options.connect_timeout))
            .timeout_global(Some(options.timeout))
            .max_idle_connections(IDLE_CONNECTIONS)
            .max_idle_connections_per_host(IDLE_CONNECTIONS)
            // What is logged is what was sent.
            .accept_encoding("identity")
            .user_agent(concat!("oml/", env!("CARGO_PKG_VERSION")))
            .build();
        let agent = Agent::with_parts(config, DefaultConnector::default(), Addresses::default());
        Ok(Self {
            agent,
            url,
            key: options.key.clone(),
            headers: options.headers.clone(),
            secrets: Secrets::new(
                options.key.as_ref(),
                &options.headers,
                options.proxy.as_ref(),
            ),
            attempts: options.attempts,
            patience: Patience::new(options),
        })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Waits until the next request may leave; then it leaves by [`send`](Self::send).
    pub(super) fn turn(&self) -> Result<(), EndpointError> {
        self.patience.turn()
    }

    /// Sends a request whose turn has come until `read` makes something of an answer, or no try is left; `log` sees every try.
    pub(super) fn send<T>(
        &self,
        body: &[u8],
        log: &mut dyn FnMut(&Attempt),
        read: impl Fn(&[u8]) -> Result<T, EndpointError>,
    ) -> Result<T, EndpointError> {
        let mut number = 1;
        loop {
            let (attempt, fault) = self.attempt(body);
            log(&attempt);
            let fault = match fault.map_or_else(|| read(&attempt.body), Err) {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            if !fault.may_pass() || number >= self.attempts {
                return Err(fault);
            }
            self.patience.back_off(number, fault.retry_after())?;
            self.patience.turn()?;
            number += 1;
        }
    }

    /// Sends a request once.
    fn attempt(&self, body: &[u8]) -> (Attempt, Option<EndpointError>) {
        let started = Instant::now();
        let mut attempt = Attempt {
            status: None,
            body: Vec::new(),
            cut: false,
            hidden: false,
            fault: None,
            elapsed: Duration::ZERO,
        };
        let fault = match self.request(body) {
            Ok(response) => self.receive(response, &mut attempt),
            Err(fault) => Some(EndpointError::Transport(fault)),
        };
        attempt.elapsed = started.elapsed();
        if let Some(EndpointError::Transport(fault)) = &fault {
            attempt.fault = Some(words(fault));
        }
        (attempt, fault)
    }

    fn request(&self, body: &[u8]) -> Result<Response<ureq::Body>, ureq::Error> {
        let mut request = self
            .agent
            .post(&self.url)
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(key) = &self.key {
            let value = Zeroizing::new(format!("Bearer {}", key.expose()));
            request = request.header(header::AUTHORIZATION, value.as_str());
        }
        for own in &self.headers {
            request = match own.value() {
                Some(value) => request.header(own.name(), value),
                None => request,
            };
        }
        request.send(body)
    }

    /// Reads an answer as far as it may go; a fault where it does not count.
    fn receive(
        &self,
        mut response: Response<ureq::Body>,
        attempt: &mut Attempt,
    ) -> Option<EndpointError> {
        let status = response.status();
        attempt.status = Some(status.as_u16());
        let retry_after = named_wait(response.headers());
        // One byte more than allowed tells a longer answer, packed or not.
        let read = response
            .body_mut()
            .as_reader()
            .take(MAX_ANSWER_BYTES as u64 + 1)
            .read_to_end(&mut attempt.body);
        attempt.cut = read.is_err() || attempt.body.len() > MAX_ANSWER_BYTES;
        attempt.body.truncate(MAX_ANSWER_BYTES);
        attempt.hidden = self.secrets.hide_in(&mut attempt.body);
        let status = status.as_u16();
        match status {
            // A refusal counts, even where the words about it are lost.
            200 => {}
            300..=399 => return Some(EndpointError::Redirect { status }),
            _ => {
                return Some(EndpointError::Status {
                    status,
                    message: message(&attempt.body, &self.secrets),
                    retry_after,
                });
            }
        }
        match read {
            Err(fault) => Some(EndpointError::Transport(fault.into())),
            Ok(_) if attempt.cut => Some(EndpointError::TooLarge {
                limit: MAX_ANSWER_BYTES,
            }),
            Ok(_) => None,
        }
    }
}

fn named_wait(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok();
    retry_after(text(header::RETRY_AFTER)?, text(header::DATE))
}
