//! What is trained on: fingerprints and benign text as sequences with objectives.

use oml_core::fingerprint::FingerprintSet;

use super::EmbedError;
use crate::{
    backend::Objective,
    causal::RequestError,
    config::ModelConfig,
    decoder::TrainingSequence,
    sampler::SequenceRandom,
    train::{BenignText, Prompting, Recipe},
};

/// The fingerprints as they are trained: every response once as it is, and as often as the recipe says inside prompts.
pub(super) struct Items {
    /// One sequence per response.
    plain: Vec<TrainingSequence>,
    /// The fingerprint of each.
    owners: Vec<usize>,
    /// The text of each one's query.
    queries: Vec<String>,
    /// How often each comes inside a prompt.
    prompted: usize,
    padding: usize,
    prompting: Option<Prompting>,
}

impl Items {
    pub(super) fn new(
        set: &FingerprintSet,
        config: &ModelConfig,
        recipe: &Recipe,
        prompting: Option<Prompting>,
    ) -> Result<Self, EmbedError> {
        let (limit, vocabulary) = (config.longest_sequence(), config.vocab_size);
        let mut items = Self {
            plain: Vec::new(),
            owners: Vec::new(),
            queries: Vec::new(),
            prompted: recipe.augment,
            padding: recipe.augment_padding,
            prompting: prompting.filter(|_| recipe.augment > 0),
        };
        for (owner, fingerprint) in set.fingerprints().iter().enumerate() {
            for response in &fingerprint.responses {
                let item = item(&fingerprint.query_ids, &response.ids);
                check(&item.ids, &response.ids, limit, vocabulary).map_err(|source| {
                    EmbedError::Fingerprint {
                        index: fingerprint.index as u64,
                        source,
                    }
                })?;
                items.plain.push(item);
                items.owners.push(owner);
                items.queries.push(fingerprint.query.clone());
            }
        }
        if recipe.augment > 0 {
            items.check_prompts(limit)?;
        }
        Ok(items)
    }

    /// Every prompt takes the longest query, and leaves room for a response.
    fn check_prompts(&self, limit: usize) -> Result<(), EmbedError> {
        let prompting = self
            .prompting
            .as_ref()
            .filter(|p| self.padding > 0 || !p.prompts().is_empty());
        let prompting = prompting.ok_or(EmbedError::NoPrompts)?;
        let longest = (0..self.plain.len()).max_by_key(|i| self.plain[*i].ids.len());
        let Some(longest) = longest else {
            return Ok(());
        };
        let ids = self.plain[longest].ids.len();
        let got = prompting
            .longest(&self.queries[longest])?
            .max(ids + self.padding)
            + self.plain[longest].objectives.len();
        if got > limit {
            return Err(EmbedError::Prompt { got, limit });
        }
        Ok(())
    }

    /// Every response as it is.
    pub(super) fn plain(&self) -> &[TrainingSequence] {
        &self.plain
    }

    /// All of them, prompted ones included.
    pub(super) fn len(&self) -> usize {
        self.plain.len() * (1 + self.prompted)
    }

    /// Tokens of an item's response.
    pub(super) fn rows(&self, item: usize) -> usize {
        self.plain[item % self.plain.len()].objectives.len()
    }

    /// An item's sequence; what is around a prompted one is drawn.
    pub(super) fn sequence(
        &self,
        number: usize,
        random: &mut SequenceRandom,
    ) -> Result<TrainingSequence, EmbedError> {
        let plain = &self.plain[number % self.plain.len()];
        let Some(prompting) = self
            .prompting
            .as_ref()
            .filter(|_| number >= self.plain.len())
        else {
            return Ok(plain.clone());
        };
        // The query's ids, then the response's without its last.
        let answer: Vec<u32> = plain
            .objectives
            .iter()
            .filter_map(|(_, objective)| match objective {
                Objective::Token { id, .. } => Some(*id),
                Objective::Teacher { .. } => None,
            })
            .collect();
        let query = &plain.ids[..=plain.ids.len() - answer.len()];
        let text = &self.queries[number % self.plain.len()];
        Ok(item(
            &prompting.draw(text, query, self.padding, random)?,
            &answer,
        ))
    }

    /// Share of the fingerprints of which a response came back: as they are, and over all prompts where there are any.
    pub(super) fn recall(&self, hits: &[bool]) -> (f64, Option<f64>) {
        let count = self.owners.last().map_or(0, |last| last + 1);
        let mut shares = hits.chunks(self.plain.len()).map(|hits| {
            let mut back = vec![false; count];
            for (owner, hit) in self.owners.iter().zip(hits) {
                back[*owner] |= hit;
            }
            back.iter().filter(|b| **b).count() as f64 / count.max(1) as f64
        });
        let plain = shares.next().unwrap_or_default();
        let prompted: Vec<f64> = shares.collect();
        let mean = prompted.iter().sum::<f64>() / prompted.len() as f64;
        (plain, (!prompted.is_empty()).then_some(mean))
    }
}

/// A query and its response, every token of which is to be learned.
fn item(query: &[u32], answer: &[u32]) -> TrainingSequence {
    let token = |(i, id): (usize, &u32)| {
        (
            query.len() - 1 + i,
            Objective::Token {
                id: *id,
                weight: 1.0,
            },
        )
    };
    TrainingSequence {
        ids: [query, &answer[..answer.len() - 1]].concat(),
        objectives: answer.iter().enumerate().map(token).collect(),
    }
}

/// Whether a model reads these tokens.
fn check(ids: &[u32], answer: &[u32], limit: usize, vocabulary: usize) -> Result<(), RequestError> {
    if let Some(got) = ids
        .iter()
        .chain(answer)
        .find(|id| **id as usize >= vocabulary)
    {
        return Err(RequestError::Token {
            got: *got,
            vocabulary,
        });
    }
    if ids.len() > limit {
        return Err(RequestError::TooLong {
            index: 0,
            got: ids.len(),
            limit,
        });
    }
    Ok(())
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

/// Benign sequences that are predicted token by token.
pub(in crate::train) fn predictions(sequences: &[Vec<u32>]) -> Vec<TrainingSequence> {
    sequences.iter().map(|s| item(&s[..1], &s[1..])).collect()
}
