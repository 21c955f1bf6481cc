//! The transcript of an audit: one JSON object per line, each bound to the line before, appended before a query leaves and after an answer came.
//!
//! ```text
//! {"format":"oml-transcript","version":1,"previous":hex,"time":ms,"terms":{…}}             the first line; previous is 64 zeros
//! {"format":"oml-transcript","version":1,"previous":hex,"time":ms,"ask":{"number":0,"fingerprint":17,"wrap":0,"system":text?,"text":text,
//!                                                                        "answer":text?,"request":text}}
//!                                                               "ask":{"number":1,"decoy":0,…,"responses":[text,…]}
//!                                                               "answer":{"number":0,"status":200,"body":text,"text":text,"elapsed":ms}
//! previous     SHA-256 of the line before, without its end
//! time         milliseconds since 1970
//! body         the answer as it came; "body_base64" where it is not UTF-8; "cut":true where it goes on
//! ```
//!
//! So lines cannot be left out, exchanged or changed behind one that somebody else has seen. Times do not fall. A torn last line is what a
//! killed run leaves: [`recover`] says how much of the file is whole.

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::field::{Hex, List, Text};
use super::{FileError, Kind};
use crate::audit::{Answer, Ask, Entry, Event, Mode, Put, Rule, Subject, Suspect, Terms};
use crate::check::Null;
use crate::fingerprint::{MAX_COUNT, MAX_RESPONSES, MAX_TEXT_BYTES};
use crate::merkle::Hash;
use crate::prompt::{Prompt, Template};

/// Most bytes of a transcript.
pub const MAX_BYTES: usize = 512 << 20;
/// Most bytes of an answer's body that are kept.
pub const MAX_BODY_BYTES: usize = 1 << 20;
const MAX_NAME: usize = 4096;
const MAX_PUT: usize = 1 << 18;
const KIND: Kind = Kind {
    format: "oml-transcript",
    version: 1,
    max_bytes: MAX_BYTES,
};

/// A transcript in memory: what it says, and the hash that the next line is bound to.
#[derive(Debug, Clone)]
pub struct Transcript {
    /// What was fixed before the first query.
    pub terms: Terms,
    /// What happened, in order.
    pub entries: Vec<Entry>,
    head: Hash,
    time: u64,
}

impl Transcript {
    /// A transcript that begins with `terms`, and its first line.
    ///
    /// # Errors
    /// Terms that make no sense.
    pub fn begin(terms: Terms) -> Result<(Self, Vec<u8>), FileError> {
        terms.validate().map_err(field)?;
        let line = Line {
            terms: Some(TermsLine::from(&terms)),
            ..Line::new([0; 32], terms.time)
        };
        let bytes = line.render()?;
        let transcript = Self {
            time: terms.time,
            head: hash_of(&bytes),
            terms,
            entries: Vec::new(),
        };
        Ok((transcript, bytes))
    }

    /// Adds what happened at `time`, or at the time of the entry before where the clock went back, and gives the line to append.
    ///
    /// # Errors
    /// [`FileError::Json`], which a correct serialiser never gives.
    pub fn push(&mut self, time: u64, event: Event) -> Result<Vec<u8>, FileError> {
        let time = time.max(self.time);
        let line = Line::of(self.head, time, &event);
        let bytes = line.render()?;
        self.head = hash_of(&bytes);
        self.time = time;
        self.entries.push(Entry { time, event });
        Ok(bytes)
    }

    /// SHA-256 of the last line: who has published it has published the whole transcript.
    #[must_use]
    pub const fn head(&self) -> &Hash {
        &self.head
    }
}

/// Reads a whole transcript.
///
/// # Errors
/// Any fault of any line, one that is torn among them, or a line that is not bound to the one before.
pub fn parse(bytes: &[u8]) -> Result<Transcript, FileError> {
    let (transcript, whole) = recover(bytes)?;
    if whole == bytes.len() {
        return Ok(transcript);
    }
    Err(entry(
        transcript.entries.len() + 1,
        "line",
        "an end of line".into(),
        "an early end".into(),
    ))
}

/// Reads a transcript whose last line may be torn; also the bytes that are whole.
///
/// # Errors
/// As [`parse`], except that what follows the last end of line is passed over.
pub fn recover(bytes: &[u8]) -> Result<(Transcript, usize), FileError> {
    KIND.judge_size(bytes.len())?;
    let whole = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |end| end + 1);
    let mut lines = bytes[..whole]
        .split_inclusive(|byte| *byte == b'\n')
        .enumerate();
    let (_, first) = lines.next().ok_or(FileError::Json {
        file: KIND.format,
        fault: "an early end",
        line: 1,
        column: 0,
    })?;
    let line = Line::parse(0, first)?;
    let (None, None, Some(terms)) = (line.ask, line.answer, line.terms) else {
        return Err(entry(0, "terms", "the terms".into(), "none".into()));
    };
    let mut transcript = Transcript {
        terms: terms.into_terms(line.time)?,
        entries: Vec::new(),
        head: hash_of(first),
        time: line.time,
    };
    bound(0, &line.previous.0, &[0; 32])?;
    for (place, bytes) in lines {
        let line = Line::parse(place, bytes)?;
        bound(place, &line.previous.0, &transcript.head)?;
        if line.time < transcript.time {
            let expected = format!("at least {}", transcript.time);
            return Err(entry(place, "time", expected, line.time.to_string()));
        }
        transcript.head = hash_of(bytes);
        transcript.time = line.time;
        transcript.entries.push(Entry {
            time: line.time,
            event: line.into_event(place)?,
        });
    }
    Ok((transcript, whole))
}

fn bound(place: usize, got: &Hash, expected: &Hash) -> Result<(), FileError> {
    if got == expected {
        return Ok(());
    }
    Err(entry(
        place,
        "previous",
        "the hash of the line before".into(),
        "another".into(),
    ))
}

fn hash_of(line: &[u8]) -> Hash {
    Sha256::digest(line.strip_suffix(b"\n").unwrap_or(line)).into()
}

fn entry(entry: usize, field: &'static str, expected: String, got: String) -> FileError {
    FileError::Entry {
        file: KIND.format,
        entry,
        field,
        expected,
        got,
    }
}

fn field(error: crate::audit::TermsError) -> FileError {
    FileError::Field {
        file: KIND.format,
        field: error.field,
        expected: error.expected,
        got: error.got,
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    format: Text<64>,
    version: u32,
    previous: Hex<32>,
    time: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    terms: Option<TermsLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ask: Option<AskLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<AnswerLine>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TermsLine {
    tool: Text<MAX_NAME>,
    root: Hex<32>,
    leaves: u64,
    strategy: Text<64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<Text<MAX_NAME>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api: Option<Text<64>>,
    model: Text<MAX_NAME>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Hex<32>>,
    seed: Hex<32>,
    pairs: List<(usize, usize), MAX_COUNT>,
    most: u64,
    mode: Text<64>,
    tokens: u32,
    wraps: List<WrapLine, 64>,
    decoys: usize,
    decoy_basis: Text<MAX_NAME>,
    null: f64,
    null_basis: Text<MAX_NAME>,
    alpha: f64,
    least_recall: f64,
    futility: f64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrapLine {
    /// A text around the query; without it, turns of a conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Text<MAX_PUT>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<Text<MAX_PUT>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Text<MAX_PUT>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<Text<MAX_PUT>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskLine {
    number: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decoy: Option<u64>,
    wrap: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<Text<MAX_PUT>>,
    text: Text<MAX_PUT>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<Text<MAX_PUT>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    responses: Option<List<Text<MAX_TEXT_BYTES>, MAX_RESPONSES>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<Text<{ 4 * MAX_PUT }>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerLine {
    number: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Text<MAX_BODY_BYTES>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<Text<{ 2 * MAX_BODY_BYTES }>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<Text<MAX_NAME>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Text<MAX_BODY_BYTES>>,
    elapsed: u64,
}

impl Line {
    fn new(previous: Hash, time: u64) -> Self {
        Self {
            format: Text(KIND.format.into()),
            version: KIND.version,
            previous: Hex(previous),
            time,
            terms: None,
            ask: None,
            answer: None,
        }
    }

    fn of(previous: Hash, time: u64, event: &Event) -> Self {
        let line = Self::new(previous, time);
        match event {
            Event::Ask(ask) => Self {
                ask: Some(AskLine::from(ask)),
                ..line
            },
            Event::Answer(answer) => Self {
                answer: Some(AnswerLine::from(answer)),
                ..line
            },
        }
    }

    fn render(&self) -> Result<Vec<u8>, FileError> {
        let mut bytes =
            serde_json::to_vec(self).map_err(|error| FileError::json(KIND.format, &error))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The line at `place`, from 0; a fault in its JSON is named by that.
    fn parse(place: usize, bytes: &[u8]) -> Result<Self, FileError> {
        KIND.parse(bytes).map_err(|error| match error {
            FileError::Json {
                file,
                fault,
                column,
                ..
            } => FileError::Json {
                file,
                fault,
                line: place + 1,
                column,
            },
            other => other,
        })
    }

    fn into_event(self, place: usize) -> Result<Event, FileError> {
        match (self.terms, self.ask, self.answer) {
            (None, Some(ask), None) => ask.into_ask(place).map(Event::Ask),
            (None, None, Some(answer)) => answer.into_answer(place).map(Event::Answer),
            _ => Err(entry(
                place,
                "ask",
                "either a request or an answer".into(),
                "another".into(),
            )),
        }
    }
}

impl From<&Terms> for TermsLine {
    fn from(terms: &Terms) -> Self {
        let (url, api, model, digest) = match &terms.suspect {
            Suspect::Endpoint { url, api, model } => (Some(url), Some(api), model, None),
            Suspect::Checkpoint { name, digest } => (None, None, name, Some(*digest)),
        };
        Self {
            tool: Text(terms.tool.clone()),
            root: Hex(terms.root),
            leaves: terms.leaves,
            strategy: Text(terms.strategy.clone()),
            url: url.cloned().map(Text),
            api: api.cloned().map(Text),
            model: Text(model.clone()),
            digest: digest.map(Hex),
            seed: Hex(terms.seed),
            pairs: List(terms.pairs.clone()),
            most: terms.most,
            mode: Text(terms.rule.mode.name().into()),
            tokens: terms.rule.tokens,
            wraps: List(terms.wraps.iter().map(WrapLine::from).collect()),
            decoys: terms.decoys,
            decoy_basis: Text(terms.decoy_basis.clone()),
            null: terms.null.rate,
            null_basis: Text(terms.null.basis.clone()),
            alpha: terms.alpha,
            least_recall: terms.least_recall,
            futility: terms.futility,
        }
    }
}

impl TermsLine {
    fn into_terms(self, time: u64) -> Result<Terms, FileError> {
        let suspect = match (self.url, self.api, self.digest) {
            (Some(url), Some(api), None) => Suspect::Endpoint {
                url: url.0,
                api: api.0,
                model: self.model.0,
            },
            (None, None, Some(digest)) => Suspect::Checkpoint {
                name: self.model.0,
                digest: digest.0,
            },
            _ => {
                return Err(entry(
                    0,
                    "url",
                    "url and api, or digest".into(),
                    "another".into(),
                ));
            }
        };
        let mode: Mode = self
            .mode
            .0
            .parse()
            .map_err(|expected| entry(0, "mode", expected, "another".into()))?;
        let wraps = self.wraps.0.into_iter().map(WrapLine::into_prompt);
        let terms = Terms {
            time,
            tool: self.tool.0,
            root: self.root.0,
            leaves: self.leaves,
            strategy: self.strategy.0,
            suspect,
            seed: self.seed.0,
            pairs: self.pairs.0,
            most: self.most,
            rule: Rule {
                mode,
                tokens: self.tokens,
            },
            wraps: wraps.collect::<Result<_, _>>()?,
            decoys: self.decoys,
            decoy_basis: self.decoy_basis.0,
            null: Null {
                rate: self.null,
                basis: self.null_basis.0,
            },
            alpha: self.alpha,
            least_recall: self.least_recall,
            futility: self.futility,
        };
        terms.validate().map_err(field)?;
        Ok(terms)
    }
}

impl From<&Prompt> for WrapLine {
    fn from(prompt: &Prompt) -> Self {
        match prompt {
            Prompt::Text(template) => Self {
                text: Some(Text(template.to_string())),
                system: None,
                user: None,
                answer: None,
            },
            Prompt::Chat {
                system,
                user,
                answer,
            } => Self {
                text: None,
                system: system.clone().map(Text),
                user: Some(Text(user.to_string())),
                answer: Some(Text(answer.clone())),
            },
        }
    }
}

impl WrapLine {
    fn into_prompt(self) -> Result<Prompt, FileError> {
        let fault = || {
            entry(
                0,
                "wraps",
                "a text or a user's turn, with exactly one {}".into(),
                "another".into(),
            )
        };
        let template = |text: Text<MAX_PUT>| Template::new(&text.0).map_err(|_| fault());
        match (self.text, self.system, self.user, self.answer) {
            (Some(text), None, None, None) => template(text).map(Prompt::Text),
            (None, system, Some(user), Some(answer)) => Ok(Prompt::Chat {
                system: system.map(|text| text.0),
                user: template(user)?,
                answer: answer.0,
            }),
            _ => Err(fault()),
        }
    }
}

impl From<&Ask> for AskLine {
    fn from(ask: &Ask) -> Self {
        let (fingerprint, decoy) = match ask.subject {
            Subject::Fingerprint(index) => (Some(index), None),
            Subject::Decoy(number) => (None, Some(number)),
        };
        let responses = || List(ask.responses.iter().cloned().map(Text).collect());
        let some = |text: &String| (!text.is_empty()).then(|| text.clone());
        Self {
            number: ask.number,
            fingerprint,
            decoy,
            wrap: ask.wrap,
            system: ask.put.system.clone().map(Text),
            text: Text(ask.put.text.clone()),
            answer: some(&ask.put.answer).map(Text),
            responses: decoy.is_some().then(responses),
            request: some(&ask.request).map(Text),
        }
    }
}

impl AskLine {
    fn into_ask(self, place: usize) -> Result<Ask, FileError> {
        let (subject, responses) = match (self.fingerprint, self.decoy, self.responses) {
            (Some(index), None, None) => (Subject::Fingerprint(index), Vec::new()),
            (None, Some(number), Some(responses)) => (
                Subject::Decoy(number),
                responses.0.into_iter().map(|text| text.0).collect(),
            ),
            _ => {
                return Err(entry(
                    place,
                    "fingerprint",
                    "a fingerprint, or a decoy with its responses".into(),
                    "another".into(),
                ));
            }
        };
        Ok(Ask {
            number: self.number,
            subject,
            wrap: self.wrap,
            put: Put {
                system: self.system.map(|text| text.0),
                text: self.text.0,
                answer: self.answer.map(|text| text.0).unwrap_or_default(),
            },
            responses,
            request: self.request.map(|text| text.0).unwrap_or_default(),
        })
    }
}

impl From<&Answer> for AnswerLine {
    fn from(answer: &Answer) -> Self {
        let kept = &answer.body[..answer.body.len().min(MAX_BODY_BYTES)];
        let (body, body_base64) = match std::str::from_utf8(kept) {
            _ if kept.is_empty() => (None, None),
            Ok(text) => (Some(Text(text.to_owned())), None),
            Err(_) => (None, Some(Text(BASE64.encode(kept)))),
        };
        let cut = |text: &String, most: usize| text[..text.floor_char_boundary(most)].to_owned();
        Self {
            number: answer.number,
            status: answer.status,
            body,
            body_base64,
            cut: answer.cut || kept.len() < answer.body.len(),
            fault: answer.fault.as_ref().map(|text| Text(cut(text, MAX_NAME))),
            text: answer
                .text
                .as_ref()
                .map(|text| Text(cut(text, MAX_BODY_BYTES))),
            elapsed: answer.elapsed,
        }
    }
}

impl AnswerLine {
    fn into_answer(self, place: usize) -> Result<Answer, FileError> {
        let body = match (self.body, self.body_base64) {
            (None, None) => Vec::new(),
            (Some(text), None) => text.0.into_bytes(),
            (None, Some(text)) => BASE64
                .decode(text.0.as_bytes())
                .map_err(|_| entry(place, "body_base64", "base64".into(), "another text".into()))?,
            _ => {
                return Err(entry(
                    place,
                    "body",
                    "body or body_base64".into(),
                    "both".into(),
                ));
            }
        };
        Ok(Answer {
            number: self.number,
            status: self.status,
            body,
            cut: self.cut,
            fault: self.fault.map(|text| text.0),
            text: self.text.map(|text| text.0),
            elapsed: self.elapsed,
        })
    }
}
