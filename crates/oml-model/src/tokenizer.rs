//! Text to token ids and back, with the model's own `tokenizer.json` and chat template.
//!
//! The algorithm is that of the `tokenizers` crate, so ids are those of transformers. The hash that names a tokenizer
//! is SHA-256 over `tokenizer.json` in one form: keys sorted, no spaces, merges as pairs, null for affixes that are empty and
//! for a post-processor that adds nothing, and without `truncation` and `padding`, which are settings of a run. Copies of a model that were saved by different programs agree on it.

mod definition;
mod prompt;

use std::panic::{AssertUnwindSafe, catch_unwind};

use oml_core::model::ModelError;
use oml_core::tokenizer::Tokenizer;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokenizers::Tokenizer as HuggingFaceTokenizer;

use crate::chat_template::{ChatTemplate, Message, TemplateError};

/// Bytes of a tokenizer's file at most.
pub const MAX_TOKENIZER_BYTES: u64 = 128 << 20;

/// Why a tokenizer cannot be made or used.
#[derive(Debug, Error)]
pub enum TokenizerError {
    /// A file is not JSON.
    #[error("{file}: {source}")]
    Json {
        /// Its name in the model folder.
        file: &'static str,
        /// Where and why.
        source: serde_json::Error,
    },
    /// `tokenizer.json` describes no tokenizer.
    #[error("tokenizer.json: {0}")]
    Definition(String),
    /// A part of `tokenizer.json` cannot work.
    #[error("tokenizer.json: {part}: expected {expected}, got {got:?}")]
    Part {
        /// The part.
        part: &'static str,
        /// What would do.
        expected: &'static str,
        /// What is there.
        got: String,
    },
    /// A kind of tokenizer that is not read here.
    #[error("{field}: expected one of {expected}, got {got}")]
    Unsupported {
        /// The field that names it.
        field: &'static str,
        /// What is read.
        expected: &'static str,
        /// What is there.
        got: String,
    },
    /// A field has another type.
    #[error("tokenizer_config.json: {field}: expected {expected}")]
    Field {
        /// The field.
        field: String,
        /// What would do.
        expected: &'static str,
    },
    /// The chat template is bad, or does not take a conversation.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The conversation needs a chat template and there is none.
    #[error("tokenizer_config.json: chat_template: missing")]
    NoTemplate,
    /// An id that the vocabulary does not have.
    #[error("tokenizer: expected an id below {expected}, got {got}")]
    UnknownId {
        /// Size of the vocabulary.
        expected: usize,
        /// The id.
        got: u32,
    },
    /// The text cannot be encoded, or the ids cannot be decoded.
    #[error("tokenizer: {0}")]
    Run(String),
}

/// The files that define a tokenizer.
#[derive(Debug, Clone, Copy)]
pub struct TokenizerFiles<'a> {
    /// `tokenizer.json`.
    pub tokenizer: &'a [u8],
    /// `tokenizer_config.json`.
    pub settings: Option<&'a [u8]>,
    /// `chat_template.jinja`, which goes before the template in the settings.
    pub template: Option<&'a [u8]>,
}

impl<'a> TokenizerFiles<'a> {
    /// Finds them among named files; `None` without `tokenizer.json`.
    pub fn new(files: &'a [(String, Vec<u8>)]) -> Option<Self> {
        let find = |name: &str| {
            let named = files.iter().find(|(file, _)| file == name);
            named.map(|(_, bytes)| bytes.as_slice())
        };
        Some(Self {
            tokenizer: find("tokenizer.json")?,
            settings: find("tokenizer_config.json"),
            template: find("chat_template.jinja"),
        })
    }
}

/// A model's tokenizer.
pub struct TextTokenizer {
    tokenizer: HuggingFaceTokenizer,
    special: Vec<u32>,
    /// A plain token and its text, before which single tokens are decoded.
    anchor: Option<(u32, String)>,
    size: usize,
    template: Option<ChatTemplate>,
    hash: [u8; 32],
}

impl TextTokenizer {
    /// Builds the tokenizer from its files.
    ///
    /// # Errors
    /// A file that is not of its form.
    pub fn new(files: TokenizerFiles<'_>) -> Result<Self, TokenizerError> {
        let definition: Value = parse("tokenizer.json", files.tokenizer)?;
        definition::check(&definition)?;
        let hash = hash(definition);
        let tokenizer = guarded(|| {
            let mut tokenizer = HuggingFaceTokenizer::from_bytes(files.tokenizer)?;
            tokenizer.with_padding(None);
            tokenizer.with_truncation(None)?;
            Ok(tokenizer)
        })
        .map_err(TokenizerError::Definition)?;
        let settings = match files.settings {
            Some(bytes) => parse("tokenizer_config.json", bytes)?,
            None => Map::new(),
        };
        let template = match files.template {
            Some(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            None => settings_template(&settings)?,
        };
        let template = template
            .map(|source| ChatTemplate::new(&source, special_texts(&settings)))
            .transpose()?;
        let added = tokenizer.get_added_tokens_decoder();
        let mut special: Vec<u32> = added
            .iter()
            .filter(|(_, token)| token.special)
            .map(|(id, _)| *id)
            .collect();
        special.sort_unstable();
        let size = tokenizer
            .get_vocab(true)
            .into_values()
            .max()
            .map_or(0, |id| id as usize + 1);
        let anchor = tokenizer
            .token_to_id("a")
            .or_else(|| tokenizer.token_to_id("▁a"))
            .and_then(|id| Some((id, guarded(|| tokenizer.decode(&[id], false)).ok()?)));
        Ok(Self {
            tokenizer,
            special,
            anchor,
            size,
            template,
            hash,
        })
    }

    /// One more than the highest id.
    pub fn vocabulary_size(&self) -> usize {
        self.size
    }

    /// The ids of a text. With `special` the tokenizer adds what it adds by default, such as BOS.
    ///
    /// # Errors
    /// The tokenizer has no ids for the text.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, TokenizerError> {
        let encoding = guarded(|| self.tokenizer.encode_fast(text, special));
        let encoding = encoding.map_err(TokenizerError::Run)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of ids, special tokens left out.
    ///
    /// # Errors
    /// An id outside the vocabulary, or a decoder that fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.size) {
            return Err(TokenizerError::UnknownId {
                expected: self.size,
                got: *id,
            });
        }
        guarded(|| self.tokenizer.decode(ids, true)).map_err(TokenizerError::Run)
    }

    /// The text that one token adds inside a text; `None` for special and unused ids and for parts of a character.
    pub fn token(&self, id: u32) -> Option<String> {
        if self.is_special(id) {
            return None;
        }
        self.tokenizer.id_to_token(id)?;
        let text = match &self.anchor {
            Some((anchor, before)) => {
                let both = guarded(|| self.tokenizer.decode(&[*anchor, id], false)).ok()?;
                both.strip_prefix(before)?.to_owned()
            }
            None => guarded(|| self.tokenizer.decode(&[id], false)).ok()?,
        };
        (!text.contains('\u{fffd}')).then_some(text)
    }

    /// The id of a token as the vocabulary spells it.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// The text of a conversation; `answer_next` ends it where the assistant begins to speak.
    ///
    /// # Errors
    /// There is no chat template, or it does not take the conversation.
    pub fn render(
        &self,
        messages: &[Message<'_>],
        answer_next: bool,
    ) -> Result<String, TokenizerError> {
        let template = self.template.as_ref().ok_or(TokenizerError::NoTemplate)?;
        Ok(template.render(messages, answer_next)?)
    }

    /// The ids of a conversation of one question, ending where the assistant begins to speak. `None` without a chat
    /// template.
    ///
    /// # Errors
    /// The chat template does not take the question.
    pub fn chat_prompt(&self, user: &str) -> Result<Option<Vec<u32>>, TokenizerError> {
        if self.template.is_none() {
            return Ok(None);
        }
        let text = self.render(&[Message::user(user)], true)?;
        Ok(Some(self.encode(&text, false)?))
    }

    /// The hash that names this tokenizer.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }
}

/// Runs the `tokenizers` crate, which panics on some definitions that it has read.
fn guarded<T>(run: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the definition and this text do not go together".into()),
    }
}

fn parse<T: serde::de::DeserializeOwned>(
    file: &'static str,
    bytes: &[u8],
) -> Result<T, TokenizerError> {
    serde_json::from_slice(bytes).map_err(|source| TokenizerError::Json { file, source })
}

/// The template in the settings: one text, or several by name, of which `default` is for conversations.
fn settings_template(settings: &Map<String, Value>) -> Result<Option<String>, TokenizerError> {
    let wrong = || TokenizerError::Field {
        field: "chat_template".into(),
        expected: "a text or a list with one named default",
    };
    match settings.get("chat_template") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(template)) => Ok(Some(template.clone())),
        Some(Value::Array(several)) => {
            let default = several.iter().find(|one| one["name"] == "default");
            let template = default.and_then(|one| one["template"].as_str());
            Ok(Some(template.ok_or_else(wrong)?.to_owned()))
        }
        Some(_) => Err(wrong()),
    }
}

/// `bos_token` and the like: texts, or objects with the text in `content`.
fn special_texts(settings: &Map<String, Value>) -> Vec<(String, String)> {
    let texts = settings.iter().filter(|(name, _)| name.ends_with("_token"));
    texts
        .filter_map(|(name, value)| {
            let text = value.as_str().or_else(|| value["content"].as_str())?;
            Some((name.clone(), text.to_owned()))
        })
        .collect()
}

/// A template that gives one text as it is and two texts one after the other, as where there is none.
fn adds_nothing(post_processor: &Value) -> bool {
    let ids = |form: &str| -> Option<Vec<&str>> {
        let pieces = post_processor[form].as_array()?.iter();
        pieces
            .map(|piece| piece["Sequence"]["id"].as_str())
            .collect()
    };
    post_processor["type"] == "TemplateProcessing"
        && ids("single").is_some_and(|ids| ids == ["A"])
        && ids("pair").is_some_and(|ids| ids == ["A", "B"])
}

fn hash(mut definition: Value) -> [u8; 32] {
    if let Value::Object(fields) = &mut definition {
        fields.remove("truncation");
        fields.remove("padding");
    }
    if let Some(Value::Object(model)) = definition.get_mut("model") {
        for affix in ["continuing_subword_prefix", "end_of_word_suffix"] {
            if model.get(affix) == Some(&json!("")) {
                model.insert(affix.into(), Value::Null);
            }
        }
    }
    if adds_nothing(&definition["post_processor"]) {
        definition["post_processor"] = Value::Null;
    }
    if let Some(Value::Array(merges)) = definition.pointer_mut("/model/merges") {
        for merge in merges {
            if let Some((left, right)) = merge.as_str().and_then(|merge| merge.split_once(' ')) {
                *merge = json!([left, right]);
            }
        }
    }
    definition.sort_all_objects();
    Sha256::digest(definition.to_string()).into()
}

impl Tokenizer for TextTokenizer {
    fn vocabulary_size(&self) -> usize {
        self.size
    }

    fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, ModelError> {
        Self::encode(self, text, special).map_err(opaque)
    }

    fn decode(&self, ids: &[u32]) -> Result<String, ModelError> {
        Self::decode(self, ids).map_err(opaque)
    }

    fn token(&self, id: u32) -> Option<String> {
        Self::token(self, id)
    }

    fn chat_prompt(&self, user: &str) -> Result<Option<Vec<u32>>, ModelError> {
        Self::chat_prompt(self, user).map_err(opaque)
    }

    fn hash(&self) -> [u8; 32] {
        self.hash
    }
}

fn opaque(error: TokenizerError) -> ModelError {
    ModelError(Box::new(error))
}
