//! Flags of a scope, for a new grant and for one that narrows another.

use clap::Args;
use oml_core::permission::{Replay, Scope};

/// What is allowed; what is not named is not limited, or as in the grant above.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Scope")]
pub(super) struct ScopeArgs {
    /// Purpose that a call may have (repeatable) [default: any]
    #[arg(long, value_name = "TEXT")]
    purpose: Vec<String>,
    /// Region where a host may stand (repeatable) [default: any]
    #[arg(long, value_name = "TEXT")]
    region: Vec<String>,
    /// Version of the model that may answer (repeatable) [default: any]
    #[arg(long, value_name = "TEXT")]
    model_version: Vec<String>,
    /// Most tokens of an answer [default: any number]
    #[arg(long, value_name = "N")]
    max_tokens: Option<u32>,
    /// Most calls in a minute [default: any number]
    #[arg(long, value_name = "N")]
    calls_per_minute: Option<u32>,
}

impl ScopeArgs {
    /// The scope of a new grant.
    pub(super) fn scope(&self, any_input: bool, replay: Replay) -> Scope {
        let scope = Scope {
            any_input,
            replay,
            ..Scope::default()
        };
        self.within(&scope)
    }

    /// The scope above, with what was named in its place.
    pub(super) fn within(&self, above: &Scope) -> Scope {
        let words =
            |own: &[String], above: &[String]| if own.is_empty() { above } else { own }.to_vec();
        let scope = Scope {
            purposes: words(&self.purpose, &above.purposes),
            regions: words(&self.region, &above.regions),
            model_versions: words(&self.model_version, &above.model_versions),
            max_tokens: self.max_tokens.or(above.max_tokens),
            calls_per_minute: self.calls_per_minute.or(above.calls_per_minute),
            any_input: above.any_input,
            replay: above.replay,
        };
        scope.sorted()
    }
}
