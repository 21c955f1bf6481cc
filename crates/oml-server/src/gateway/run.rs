//! A gateway from its plan to its end, on a runtime of its own: what a program without one calls.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::interval;

use super::{
    EmbeddedStore, Gateway, ListenError, Listening, PostgresStore, Record, ReplayStore, StoreError,
    Tls, Usage, UsageKey, serve, serve_admin,
};

/// How often it is asked whether to stop.
const ASK: Duration = Duration::from_millis(50);

/// Where used permissions are kept.
#[derive(Clone, PartialEq, Eq)]
pub enum StorePlace {
    /// A file of this gateway alone.
    File(PathBuf),
    /// A PostgreSQL database, by its URL.
    Postgres(String),
}

impl StorePlace {
    /// A URL of PostgreSQL, or else a file.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let schemes = ["postgres://", "postgresql://"];
        match schemes.iter().any(|scheme| text.starts_with(scheme)) {
            true => Self::Postgres(text.to_owned()),
            false => Self::File(PathBuf::from(text)),
        }
    }
}

impl std::fmt::Debug for StorePlace {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Postgres(_) => f.write_str("Postgres(…)"),
        }
    }
}

/// What is to run.
pub struct Plan {
    /// The public address, `HOST:PORT`.
    pub public: String,
    /// Its certificate.
    pub tls: Option<Tls>,
    /// The operator's address.
    pub admin: Option<String>,
    /// Threads of the server; the model has its own.
    pub threads: usize,
    /// Where used permissions are kept.
    pub store: StorePlace,
}

/// Where a running gateway listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// What clients call.
    pub url: String,
    /// The operator's address.
    pub admin: Option<SocketAddr>,
}

/// Why a gateway does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An address cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The system gives no threads or does not say where it listens.
    #[error("the server cannot start: {0}")]
    System(#[from] std::io::Error),
}

/// Runs a gateway until `stopped` says so. `build` gets the store; `ready` hears where it listens.
///
/// # Errors
/// When it cannot start.
pub fn run<E: From<RunError>>(
    plan: Plan,
    build: impl FnOnce(Arc<dyn ReplayStore>) -> Result<Arc<Gateway>, E>,
    ready: impl FnOnce(&Ready),
    stopped: impl Fn() -> bool + Send + Sync,
) -> Result<(), E> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(plan.threads)
        .enable_all()
        .build()
        .map_err(RunError::from)?;
    runtime.block_on(async {
        let store = plan.store.open().await.map_err(RunError::from)?;
        let gateway = build(store)?;
        let bind = async {
            let public = Listening::bind(&plan.public, plan.tls).await?;
            let admin = match &plan.admin {
                Some(address) => Some(Listening::bind(address, None).await?),
                None => None,
            };
            let ready = Ready {
                url: public.url()?,
                admin: admin.as_ref().map(Listening::address).transpose()?,
            };
            Ok::<_, RunError>((public, admin, ready))
        };
        let (public, admin, at) = bind.await?;
        ready(&at);
        let admin = admin
            .map(|admin| tokio::spawn(serve_admin(gateway.clone(), admin, std::future::pending())));
        serve(gateway, public, asking(&stopped)).await;
        if let Some(admin) = admin {
            admin.abort();
        }
        Ok(())
    })
}

/// Ready when `stopped` says so.
pub(crate) async fn asking(stopped: &(impl Fn() -> bool + Send + Sync)) {
    let mut ask = interval(ASK);
    while !stopped() {
        ask.tick().await;
    }
}

/// What a store holds: sums, and the calls of the evidence window.
pub type Contents = (Vec<(UsageKey, Usage)>, Vec<Record>);

impl StorePlace {
    /// Reads a store that no gateway has open, or a database whether or not.
    ///
    /// # Errors
    /// When there is none, it is in use, or it cannot be read.
    pub fn read(&self) -> Result<Contents, RunError> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let store = self.open().await?;
            Ok((store.usage().await?, store.records().await?))
        })
    }

    async fn open(&self) -> Result<Arc<dyn ReplayStore>, StoreError> {
        Ok(match self {
            Self::File(path) => Arc::new(EmbeddedStore::open(path)?),
            Self::Postgres(url) => Arc::new(PostgresStore::connect(url).await?),
        })
    }
}
