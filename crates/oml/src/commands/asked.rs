//! The pairs a command works with: a whole set with its owner's file, or a prover's slice with the prover's identity.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use oml_core::commitment::{Commitment, Opening};
use oml_core::fingerprint::FingerprintSet;
use oml_core::manifest::{fingerprint_file, slice_file};
use oml_core::merkle::Hash;
use oml_core::slice::Slice;

use super::{copies, workbench};
use crate::cli::OwnerArgs;
use crate::error::WithHint as _;
use crate::{files, sealed};

/// Most bytes of a set or slice; encryption adds little to the contents of a slice.
const FILE_LIMIT: usize = fingerprint_file::MAX_BYTES + (1 << 20);

/// Which pairs, and the secret that opens them.
#[derive(Debug, Clone, Args)]
pub(crate) struct AskedArgs {
    /// Fingerprints file made by `oml generate`, or a slice made by `oml fingerprints split`
    #[arg(long, value_name = "FILE")]
    pub(crate) fingerprints: PathBuf,
    #[command(flatten)]
    pub(crate) owner: OwnerArgs,
    /// Prover's identity file, for a slice
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
}

/// The pairs, and their place in the set that was committed to.
pub(super) enum Asked {
    /// All of a set, or what one licensee's copy holds of it.
    Whole {
        set: FingerprintSet,
        commitment: Commitment,
        /// Pairs of the whole set.
        count: usize,
    },
    /// A prover's part of one.
    Part(Slice),
}

/// Reads the pairs, with `copy` those of a licensee's copy.
///
/// # Errors
/// When a file is missing, damaged, or somebody else's, or there is no such copy.
pub(super) fn read(args: &AskedArgs, copy: Option<u32>) -> anyhow::Result<Asked> {
    let path = &args.fingerprints;
    let reading = || format!("cannot read {}", path.display());
    let bytes = files::read(path, FILE_LIMIT)?;
    match (&args.identity, sealed::is_sealed(&bytes)) {
        (None, false) => {
            let owner = workbench::owner(&workbench::owner_path(&args.owner)?)?;
            let mut set = fingerprint_file::open(&bytes, &owner).with_context(reading)?;
            let (commitment, count) = (Commitment::new(&set), set.count());
            if let Some(copy) = copy {
                set = copies::part(&set, &owner, copy, path)?;
            }
            Ok(Asked::Whole {
                set,
                commitment,
                count,
            })
        }
        (Some(_), true) if copy.is_some() => Err(anyhow!(
            "{}: expected a whole set for --copy, got a slice",
            path.display()
        )),
        (Some(identity), true) => {
            let identities = sealed::identities(identity)?;
            let contents = sealed::open(&bytes, &identities, fingerprint_file::MAX_BYTES);
            let slice = slice_file::parse(&contents.with_context(reading)?);
            Ok(Asked::Part(slice.with_context(reading)?))
        }
        (None, true) => Err(anyhow!(
            "{}: expected a whole set, got a slice",
            path.display()
        ))
        .hint("Name the prover's identity file with --identity FILE."),
        (Some(_), false) => Err(anyhow!(
            "{}: expected a slice, got another file",
            path.display()
        ))
        .hint("Leave --identity away: it opens slices only."),
    }
}

impl Asked {
    /// All pairs of a set.
    pub(super) fn whole(set: FingerprintSet) -> Self {
        Self::Whole {
            commitment: Commitment::new(&set),
            count: set.count(),
            set,
        }
    }

    /// The pairs, numbered from 0.
    pub(super) const fn set(&self) -> &FingerprintSet {
        match self {
            Self::Whole { set, .. } => set,
            Self::Part(slice) => slice.set(),
        }
    }

    /// Merkle root of the whole set.
    pub(super) fn root(&self) -> Hash {
        match self {
            Self::Whole { commitment, .. } => commitment.root(),
            Self::Part(slice) => slice.root,
        }
    }

    /// Number of pairs in the whole set.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Whole { count, .. } => *count,
            Self::Part(slice) => slice.count,
        }
    }

    /// The pairs' numbers in the whole set, rising.
    pub(super) fn indices(&self) -> Vec<usize> {
        match self {
            Self::Whole { set, .. } => set.fingerprints().iter().map(|f| f.index).collect(),
            Self::Part(slice) => slice.indices().to_vec(),
        }
    }

    /// The pair with number `index` in the whole set as evidence, with its proof; `None` where it is not here.
    pub(super) fn opening(&self, index: usize) -> Option<(Opening, Vec<Hash>)> {
        match self {
            Self::Whole {
                set, commitment, ..
            } => {
                let held = set.fingerprints().iter().find(|f| f.index == index)?;
                let opening = Opening::from(held);
                Some((opening, commitment.proof(index)?))
            }
            Self::Part(slice) => {
                let (opening, proof) = slice.opening(index)?;
                Some((opening, proof.to_vec()))
            }
        }
    }
}

/// The usage log beside a file of pairs.
pub(super) fn log_path(fingerprints: &Path) -> PathBuf {
    let mut name = fingerprints.as_os_str().to_owned();
    name.push(".usage.jsonl");
    PathBuf::from(name)
}
