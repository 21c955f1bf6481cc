//! Issuers and revocations from files, read again when they change: revoking is writing a file.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use oml_core::eip712::Domain;
use oml_core::manifest::{issuers_file, revocations_file};
use oml_core::merkle::Hash;
use oml_core::permission::{
    Authority, FileAuthority, Issuer, Issuers, ModelId, SignedRevocations, Tenure, View,
};
use oml_core::signing::Address;

use crate::files;

/// How often the files are looked at.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// Where issuers and revocations come from.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    pub(super) model: ModelId,
    /// Issuers named on the command line, who may always sign.
    pub(super) named: Vec<Address>,
    pub(super) issuers: Option<PathBuf>,
    pub(super) revocations: Vec<PathBuf>,
}

/// What the files say now.
pub(super) struct Watched {
    sources: Sources,
    known: RwLock<Arc<FileAuthority>>,
}

impl Watched {
    /// Reads the files.
    ///
    /// # Errors
    /// Whatever is wrong with them.
    pub(super) fn new(sources: Sources) -> anyhow::Result<Self> {
        let known = RwLock::new(Arc::new(sources.read()?));
        Ok(Self { sources, known })
    }

    /// Looks at the files from time to time for as long as anybody holds `this`; `complain` hears why a change is not taken.
    pub(super) fn watch(this: &Arc<Self>, complain: impl Fn(&anyhow::Error) + Send + 'static) {
        let weak = Arc::downgrade(this);
        let mut seen = this.sources.stamps();
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(LOOK);
                let Some(this) = weak.upgrade() else { return };
                let stamps = this.sources.stamps();
                if stamps == seen {
                    continue;
                }
                seen = stamps;
                match this.sources.read() {
                    // What was known goes on to count, until it is too old.
                    Err(error) => complain(&error),
                    Ok(read) => {
                        *this.known.write().unwrap_or_else(PoisonError::into_inner) = read.into();
                    }
                }
            }
        });
    }

    fn known(&self) -> Arc<FileAuthority> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Sources {
    fn read(&self) -> anyhow::Result<FileAuthority> {
        let mut issuers = match &self.issuers {
            None => Issuers {
                domain: Domain::OFF_CHAIN,
                max_age: None,
                issuers: Vec::new(),
            },
            Some(path) => {
                let bytes = files::read(path, issuers_file::MAX_BYTES)?;
                issuers_file::parse(&bytes)
                    .with_context(|| format!("cannot read {}", path.display()))?
            }
        };
        issuers
            .issuers
            .extend(self.named.iter().map(|address| Issuer {
                model: self.model,
                address: *address,
                tenure: Tenure {
                    from: 0,
                    revoked_at: None,
                },
            }));
        let lists = self.revocations.iter().map(|path| read_list(path));
        let lists = lists.collect::<anyhow::Result<Vec<_>>>()?;
        Ok(FileAuthority::new(&issuers, &lists)?)
    }

    /// When the files changed, and how long they are; a file that is gone has neither.
    fn stamps(&self) -> Vec<Option<(SystemTime, u64)>> {
        let watched = self.issuers.iter().chain(&self.revocations);
        watched.map(|path| files::stamp(path)).collect()
    }
}

fn read_list(path: &Path) -> anyhow::Result<SignedRevocations> {
    let bytes = files::read(path, revocations_file::MAX_BYTES)?;
    revocations_file::parse(&bytes).with_context(|| format!("cannot read {}", path.display()))
}

impl Authority for Watched {
    fn domain(&self) -> Domain {
        self.known().domain()
    }

    fn issuer(&self, model: &ModelId, signer: &Address) -> Option<Tenure> {
        self.known().issuer(model, signer)
    }

    fn revoked_at(&self, model: &ModelId, id: &Hash) -> Option<u64> {
        self.known().revoked_at(model, id)
    }

    fn view(&self, model: &ModelId, now: u64) -> View {
        self.known().view(model, now)
    }
}
