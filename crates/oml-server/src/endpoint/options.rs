//! Which endpoint is asked, by which way, and how patiently.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ureq::tls::{Certificate, PemItem, parse_pem};

use super::{ApiKey, EndpointError, Header, Proxy};

/// Root certificates that are trusted in place of the public ones.
#[derive(Debug, Clone)]
pub struct Roots(Arc<Vec<Certificate<'static>>>);

impl Roots {
    /// Reads the certificates of a PEM file; other things in it are passed over.
    ///
    /// # Errors
    /// [`EndpointError::Roots`] where there is none, or the PEM is broken.
    pub fn from_pem(pem: &[u8]) -> Result<Self, EndpointError> {
        let mut certificates = Vec::new();
        for item in parse_pem(pem) {
            match item {
                Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
                Ok(_) => {}
                Err(fault) => {
                    let got = super::error::words(&fault);
                    return Err(EndpointError::Roots { got });
                }
            }
        }
        if certificates.is_empty() {
            let got = "none".to_owned();
            return Err(EndpointError::Roots { got });
        }
        Ok(Self(Arc::new(certificates)))
    }

    pub(super) fn certificates(&self) -> Arc<Vec<Certificate<'static>>> {
        Arc::clone(&self.0)
    }
}

/// Which endpoint, by which way, and how patiently it is asked.
#[derive(Debug, Clone)]
pub struct EndpointOptions {
    /// Where requests go.
    pub url: String,
    /// The model that the endpoint shall use.
    pub model: String,
    /// Its key, where it wants one.
    pub key: Option<ApiKey>,
    /// Headers besides those that the client sets.
    pub headers: Vec<Header>,
    /// The proxy that connects to the endpoint; none without it, whatever the environment says.
    pub proxy: Option<Proxy>,
    /// Root certificates that are trusted in place of the public ones.
    pub roots: Option<Roots>,
    /// Time to connect.
    pub connect_timeout: Duration,
    /// Time for one request with its answer.
    pub timeout: Duration,
    /// How often a request is sent at most; at least once.
    pub attempts: u32,
    /// Wait before a request is sent for the second time; it doubles from there.
    pub backoff: Duration,
    /// Longest wait before a request is sent again, whatever the endpoint asks for.
    pub longest_wait: Duration,
    /// Requests that leave in a minute at most, evenly spaced, those that are sent again among them; no limit without it.
    pub per_minute: Option<NonZeroU32>,
    /// Drives the random part of waits.
    pub seed: u64,
    /// Once set, no request gets its turn, and one that waits for it or to be sent again ends at once; one under way ends with
    /// its answer or its time.
    pub stop: Arc<AtomicBool>,
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
            headers: Vec::new(),
            proxy: None,
            roots: None,
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(60),
            attempts: 5,
            backoff: Duration::from_secs(1),
            longest_wait: Duration::from_secs(60),
            per_minute: None,
            seed: 0,
            stop: Arc::default(),
            allow_http: false,
        }
    }
}
