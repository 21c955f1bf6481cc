//! Which models are found related: copies after everything that is done to copies, and never models that were trained apart.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]
#![allow(clippy::print_stderr, reason = "a skipped test says why")]

mod apart;
mod changes;
mod copies;
mod refused;
mod smollm2;
mod tiny;

use std::path::Path;

use oml_core::relatedness::{DEFAULT_ALPHA, Verdict, assess};
use oml_model::checkpoint::Checkpoint;
use oml_model::engine::Engine;
use oml_model::relate::{Relatedness, relate};

/// Both models' comparison and the verdict on it.
fn judge(model: &Path, suspect: &Path) -> (Relatedness, Verdict) {
    let engine = Engine {
        isa: None,
        threads: Some(2),
    };
    let open = |path| Checkpoint::open(path).unwrap();
    let found = relate(&engine, &open(model), &open(suspect), &mut |_, _| ()).unwrap();
    let verdict = assess(&found.evidence, DEFAULT_ALPHA).unwrap();
    (found, verdict)
}
