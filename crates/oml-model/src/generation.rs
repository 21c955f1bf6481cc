//! Sequences that are generated side by side: each enters and leaves between two steps of the model, so that short answers do not wait
//! for long ones.
//!
//! A step reads one token of every sequence that is being answered and pieces of the prompts that are not read yet. A long prompt is
//! read in pieces, so that the others' tokens do not stop for it. What a sequence gets depends on its prompt, seed and sampling alone.

use std::sync::{Arc, Mutex};

use oml_core::model::Sampling;
use oml_core::watermark::{Contexts, Watermark};

use crate::backend::Cpu;
use crate::causal::{CausalModel, are_finite};
use crate::decoder::Cache;
use crate::sampler::{Mark, SequenceRandom, sample};

/// Tokens of one step, while any sequence is being answered and while none is.
const STEP_TOKENS: usize = 512;
const PROMPT_TOKENS: usize = 2048;

/// A place in a [`Generation`].
pub type Slot = usize;

/// One sequence to generate. Its tokens were checked against the model's vocabulary.
#[derive(Debug, Clone)]
pub struct Sequence {
    /// At least one token.
    pub prompt: Vec<u32>,
    /// Drives this sequence alone.
    pub seed: u64,
    /// How its tokens are drawn; `max_tokens` is at least 1.
    pub sampling: Sampling,
    /// Marks what is generated; the prompt is nothing to it.
    pub watermark: Option<Arc<Watermark>>,
}

/// What a step gave a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The next token.
    Token(u32),
    /// The next token, and `max_tokens` are reached.
    Last(u32),
    /// One of `stop` came.
    Stopped,
    /// The model computes NaN or infinity here.
    NotFinite,
}

impl Step {
    /// Whether the sequence goes on.
    pub fn goes_on(self) -> bool {
        matches!(self, Self::Token(_))
    }
}

/// The sequences and the keys and values of what they have read.
pub struct Generation {
    cache: Cache<Cpu>,
    places: Vec<Option<Place>>,
    /// Whose prompt is read next: they take turns.
    turn: Slot,
}

struct Place {
    /// What is not read yet: the rest of the prompt, or the last token.
    unread: Vec<u32>,
    generated: usize,
    random: SequenceRandom,
    sampling: Sampling,
    marked: Option<(Arc<Watermark>, Contexts)>,
}

impl Generation {
    /// Room for `slots` sequences of at most `capacity` tokens, those generated included.
    pub fn new(model: &CausalModel, slots: usize, capacity: usize) -> Self {
        Self {
            cache: model.cache(slots, capacity),
            places: (0..slots).map(|_| None).collect(),
            turn: 0,
        }
    }

    /// Whether there is a sequence.
    pub fn is_empty(&self) -> bool {
        self.places.iter().all(Option::is_none)
    }

    /// Takes a sequence in, which needs `prompt + max_tokens` of the capacity; `None` when all slots are taken.
    pub fn add(&mut self, sequence: Sequence) -> Option<Slot> {
        let slot = self.places.iter().position(Option::is_none)?;
        self.cache.reset(slot);
        let marked = sequence.watermark.map(|watermark| {
            let contexts = watermark.contexts();
            (watermark, contexts)
        });
        self.places[slot] = Some(Place {
            unread: sequence.prompt,
            generated: 0,
            random: SequenceRandom::new(sequence.seed),
            sampling: sequence.sampling,
            marked,
        });
        Some(slot)
    }

    /// Ends a sequence whose answer nobody waits for.
    pub fn remove(&mut self, slot: Slot) {
        self.places[slot] = None;
    }

    /// One step of the model; `visit` hears what came, and a sequence that does not go on has left its slot.
    pub fn step(&mut self, model: &mut CausalModel, visit: &mut dyn FnMut(Slot, Step)) {
        let chosen = self.choose();
        if chosen.is_empty() {
            return;
        }
        self.turn = chosen.last().map_or(0, |(slot, _)| slot + 1);
        let isa = model.isa();
        let drawn: Vec<Mutex<Option<(SequenceRandom, u32)>>> =
            chosen.iter().map(|_| Mutex::new(None)).collect();
        {
            let place = |slot: Slot| self.places[slot].as_ref();
            let rows: Vec<(Slot, &[u32])> = chosen
                .iter()
                .filter_map(|(slot, count)| Some((*slot, &place(*slot)?.unread[..*count])))
                .collect();
            model
                .decoder()
                .extend(&rows, &mut self.cache, &|row, logits| {
                    let (slot, count) = chosen[row];
                    let Some(place) = place(slot).filter(|place| place.unread.len() == count)
                    else {
                        return;
                    };
                    if are_finite(logits) {
                        let mut random = place.random.clone();
                        let token = sample(isa, logits, &place.sampling, &mut random, place.mark());
                        *drawn[row].lock().unwrap_or_else(|e| e.into_inner()) =
                            Some((random, token));
                    }
                });
        }
        for ((slot, count), drawn) in chosen.into_iter().zip(drawn) {
            let Some(place) = &mut self.places[slot] else {
                continue;
            };
            place.unread.drain(..count);
            if !place.unread.is_empty() {
                continue;
            }
            let step = match drawn.into_inner().unwrap_or_else(|e| e.into_inner()) {
                None => Step::NotFinite,
                Some((random, token)) => place.take(random, token),
            };
            if !step.goes_on() {
                self.places[slot] = None;
            }
            visit(slot, step);
        }
    }

    /// How many tokens of which sequences are read next: all that are being answered, then prompts in turn.
    fn choose(&self) -> Vec<(Slot, usize)> {
        let slots = self.places.len();
        let unread = |slot: Slot| self.places[slot].as_ref().map_or(0, |p| p.unread.len());
        let mut chosen: Vec<(Slot, usize)> = (0..slots)
            .filter(|slot| unread(*slot) == 1)
            .map(|slot| (slot, 1))
            .collect();
        let room = if chosen.is_empty() {
            PROMPT_TOKENS
        } else {
            STEP_TOKENS
        };
        let mut left = room.saturating_sub(chosen.len());
        for slot in (self.turn..slots).chain(0..self.turn.min(slots)) {
            let count = match unread(slot) {
                0 | 1 => continue,
                count => count.min(left),
            };
            if count == 0 {
                break;
            }
            chosen.push((slot, count));
            left -= count;
        }
        chosen
    }
}

impl Place {
    /// How the next token is marked.
    fn mark(&self) -> Option<Mark<'_>> {
        let (watermark, contexts) = self.marked.as_ref()?;
        Some((watermark, watermark.marked(contexts)?))
    }

    fn take(&mut self, random: SequenceRandom, token: u32) -> Step {
        if self.sampling.stop.contains(&token) {
            return Step::Stopped;
        }
        self.random = random;
        self.generated += 1;
        if let Some((_, contexts)) = &mut self.marked {
            contexts.push(token);
        }
        self.unread.push(token);
        match self.generated < self.sampling.max_tokens {
            true => Step::Token(token),
            false => Step::Last(token),
        }
    }
}
