//! Listening: connections up to a number, each with little time for its head, with TLS where there is a certificate, until told to stop.
//!
//! HTTP/1.1 alone: its clients are everywhere, a connection is one call at a time, and the time for a head counts from a connection's
//! first moment, so that one that says nothing is let go.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::{Gateway, Limits, MAX_HEADER_BYTES, admin, routes};

/// Bytes of all headers together at most.
const HEADERS: usize = 32 << 10;
/// How long accepting waits after the system gave no connection.
const RECOVER: Duration = Duration::from_millis(100);

/// A certificate with its key.
#[derive(Clone)]
pub struct Tls(Arc<ServerConfig>);

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be had.
    #[error("{address}: {source}")]
    Address {
        /// The address.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The certificate or its key is none.
    #[error("TLS: {0}")]
    Tls(String),
}

impl Tls {
    /// Reads a chain of certificates and a private key in PEM.
    ///
    /// # Errors
    /// When either is missing or does not fit the other.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, ListenError> {
        let wrong = |what: &str, error: String| ListenError::Tls(format!("{what}: {error}"));
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(|error| wrong("certificate", error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| wrong("private key", error.to_string()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong("versions", error.to_string()))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| wrong("certificate and key", error.to_string()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }
}

/// An address that listens.
pub struct Listening {
    listener: TcpListener,
    tls: Option<Tls>,
}

impl Listening {
    /// Takes an address.
    ///
    /// # Errors
    /// When it cannot be had.
    pub async fn bind(address: &str, tls: Option<Tls>) -> Result<Self, ListenError> {
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| ListenError::Address {
            address: address.to_owned(),
            source,
        })?;
        Ok(Self { listener, tls })
    }

    /// The address, with the port that the system chose for port 0.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Where clients reach it.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn url(&self) -> io::Result<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Ok(format!("{scheme}://{}", self.address()?))
    }
}

/// Serves in public until `stop` is ready and the calls that go on have ended or their grace has.
pub async fn serve(
    gateway: Arc<Gateway>,
    listening: Listening,
    stop: impl Future<Output = ()> + Send,
) {
    let limits = gateway.limits;
    let forgetting = tokio::spawn(forget(gateway.clone()));
    run(routes::public(gateway), listening, &limits, stop).await;
    forgetting.abort();
}

/// Serves the operator until `stop` is ready.
pub async fn serve_admin(
    gateway: Arc<Gateway>,
    listening: Listening,
    stop: impl Future<Output = ()> + Send,
) {
    let limits = gateway.limits;
    run(admin::admin(gateway), listening, &limits, stop).await;
}

/// Drops what is kept no longer, every few minutes.
async fn forget(gateway: Arc<Gateway>) {
    loop {
        // A store that fails refuses calls, which says so.
        let _ = gateway.gate.forget(gateway.limits.window).await;
        sleep(Duration::from_secs(300)).await;
    }
}

/// Serves `router` until `stop` is ready and what goes on has ended or its grace has.
pub(crate) async fn run(
    router: Router,
    listening: Listening,
    limits: &Limits,
    stop: impl Future<Output = ()> + Send,
) {
    let Listening { listener, tls } = listening;
    let tls = tls.map(|Tls(config)| TlsAcceptor::from(config));
    let places = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    let mut builder = Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.patience)
        .max_buf_size(HEADERS.max(MAX_HEADER_BYTES));
    let builder = Arc::new(builder);
    tokio::pin!(stop);
    loop {
        let accepted = async {
            // Whoever finds no place waits in the system's queue.
            let place = places.clone().acquire_owned().await.ok()?;
            Some((place, listener.accept().await))
        };
        let (place, stream) = tokio::select! {
            () = &mut stop => break,
            accepted = accepted => match accepted {
                None => break,
                Some((place, Ok((stream, _)))) => (place, stream),
                // Out of file descriptors, or a client that left at once.
                Some((_, Err(_))) => {
                    sleep(RECOVER).await;
                    continue;
                }
            },
        };
        let _ = stream.set_nodelay(true);
        let (tls, router, builder) = (tls.clone(), router.clone(), builder.clone());
        let watcher = graceful.watcher();
        let patience = limits.patience;
        tokio::spawn(async move {
            let service = TowerToHyperService::new(router);
            match tls {
                None => {
                    let connection = builder.serve_connection(TokioIo::new(stream), service);
                    let _ = watcher.watch(connection).await;
                }
                Some(tls) => {
                    if let Some(stream) = handshake(&tls, stream, patience).await {
                        let connection = builder.serve_connection(TokioIo::new(stream), service);
                        let _ = watcher.watch(connection).await;
                    }
                }
            }
            drop(place);
        });
    }
    drop(listener);
    let _ = timeout(limits.grace, graceful.shutdown()).await;
}

async fn handshake(
    tls: &TlsAcceptor,
    stream: TcpStream,
    patience: Duration,
) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    timeout(patience, tls.accept(stream)).await.ok()?.ok()
}
