//! The user's own queries, in the user's order; responses follow the perinucleus rule.
//!
//! Trailing white space is dropped, since it would move the token boundary before the response. Queries keep their
//! length. A query without a valid response is passed over for the next one.

use std::collections::HashMap;

use super::GenerateError;
use super::generate::{Queries, Workshop};
use super::query::Query;
use crate::fingerprint::{MAX_TEXT_BYTES, MAX_TOKENS};

/// Queries from a list.
pub(super) struct Given {
    queries: Vec<Query>,
}

impl Given {
    pub(super) fn new(workshop: &Workshop<'_>, texts: &[String]) -> Result<Self, GenerateError> {
        let mut queries = Vec::with_capacity(texts.len());
        let mut seen = HashMap::with_capacity(texts.len());
        let mut seen_ids = HashMap::with_capacity(texts.len());
        for (position, text) in texts.iter().enumerate() {
            let fault = |expected, got: String| GenerateError::Query {
                position,
                expected,
                got,
            };
            let text = text.trim_end();
            if text.trim().is_empty() {
                return Err(fault("text", "nothing but white space".into()));
            }
            if text.len() > MAX_TEXT_BYTES {
                return Err(fault("at most 65536 bytes", text.len().to_string()));
            }
            if let Some(earlier) = seen.insert(text, position) {
                return Err(fault(
                    "a query of its own",
                    format!("that of queries[{earlier}]"),
                ));
            }
            let ids = workshop.tokenizer.encode(text, true)?;
            if let Some(earlier) = seen_ids.insert(ids.clone(), position) {
                return Err(fault(
                    "token ids of its own",
                    format!("those of queries[{earlier}]"),
                ));
            }
            if ids.is_empty() || ids.len() > MAX_TOKENS {
                return Err(fault("1 to 4096 tokens", ids.len().to_string()));
            }
            queries.push(Query {
                text: text.to_owned(),
                ids,
            });
        }
        Ok(Self { queries })
    }
}

impl Queries for Given {
    fn next(
        &mut self,
        _: &mut Workshop<'_>,
        from: u64,
        wanted: usize,
    ) -> Result<Vec<Query>, GenerateError> {
        let from = from as usize;
        Ok(self.queries[from..from + wanted].to_vec())
    }

    fn limit(&self) -> Option<u64> {
        Some(self.queries.len() as u64)
    }
}
