//! What is trained on: fingerprints and benign text as sequences with objectives.

use oml_core::fingerprint::FingerprintSet;

use super::EmbedError;
use crate::{
    backend::Objective, causal::RequestError, decoder::TrainingSequence, train::BenignText,
};

/// One training item per response.
pub(super) fn items(
    set: &FingerprintSet,
    limit: usize,
    vocabulary: usize,
) -> Result<(Vec<TrainingSequence>, Vec<usize>), EmbedError> {
    let (mut items, mut owners) = (Vec::new(), Vec::new());
    for (owner, fingerprint) in set.fingerprints().iter().enumerate() {
        for response in &fingerprint.responses {
            let (query, answer) = (&fingerprint.query_ids, &response.ids);
            let ids: Vec<u32> = query
                .iter()
                .chain(&answer[..answer.len() - 1])
                .copied()
                .collect();
            let error = |source| EmbedError::Fingerprint {
                index: fingerprint.index as u64,
                source,
            };
            if let Some(got) = ids
                .iter()
                .chain(answer)
                .find(|id| **id as usize >= vocabulary)
            {
                return Err(error(RequestError::Token {
                    got: *got,
                    vocabulary,
                }));
            }
            if ids.len() > limit {
                return Err(error(RequestError::TooLong {
                    index: owner,
                    got: ids.len(),
                    limit,
                }));
            }
            let objectives = answer
                .iter()
                .enumerate()
                .map(|(i, id)| {
                    (
                        query.len() - 1 + i,
                        Objective::Token {
                            id: *id,
                            weight: 1.0,
                        },
                    )
                })
                .collect();
            items.push(TrainingSequence { ids, objectives });
            owners.push(owner);
        }
    }
    Ok((items, owners))
}

/// Every benign sequence has a token that another follows, and fits the model.
pub(super) fn ensure_readable(
    benign: &BenignText,
    limit: usize,
    vocabulary: usize,
) -> Result<(), EmbedError> {
    for (index, ids) in benign.sequences.iter().enumerate() {
        let unknown = ids.iter().find(|id| **id as usize >= vocabulary);
        let source = match unknown {
            Some(got) => RequestError::Token {
                got: *got,
                vocabulary,
            },
            None if ids.len() < 2 => RequestError::Empty { index },
            None if ids.len() > limit => RequestError::TooLong {
                index,
                got: ids.len(),
                limit,
            },
            None => continue,
        };
        return Err(EmbedError::Benign { source });
    }
    Ok(())
}

/// Benign sequences whose every position follows the base model.
pub(super) fn followers(benign: &BenignText) -> Vec<TrainingSequence> {
    let mut row = 0;
    benign
        .sequences
        .iter()
        .map(|s| {
            let ids = s[..s.len() - 1].to_vec();
            let objectives = (0..ids.len())
                .map(|p| {
                    (
                        p,
                        Objective::Teacher {
                            row: row + p,
                            weight: 1.0,
                        },
                    )
                })
                .collect();
            row += ids.len();
            TrainingSequence { ids, objectives }
        })
        .collect()
}
