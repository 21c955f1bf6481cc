//! What can be wrong with a `config.json`, and the typed reading of its fields.

use std::fmt::Display;

use oml_kernels::Activation;
use serde_json::{Map, Value};
use thiserror::Error;

/// Why a `config.json` does not describe a model that the decoder computes.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A needed field is absent.
    #[error("{field}: missing")]
    Missing {
        /// Name in `config.json`.
        field: &'static str,
    },
    /// A field has a value that cannot be.
    #[error("{field}: expected {expected}, got {got}")]
    Value {
        /// Name in `config.json`.
        field: &'static str,
        /// What would do.
        expected: String,
        /// What is there.
        got: String,
    },
    /// The model belongs to a family that the decoder does not compute.
    #[error("{field}: expected one of {}, got {got}", super::family::listed())]
    UnknownArchitecture {
        /// `model_type` or `architectures`.
        field: &'static str,
        /// What is there.
        got: String,
    },
    /// The rotary frequencies are stretched in a way that the decoder does not compute.
    #[error("{field}: expected one of default, linear, dynamic, llama3, yarn, longrope, got {got}")]
    UnknownRopeType {
        /// The field that names the type.
        field: &'static str,
        /// What is there.
        got: String,
    },
}

impl ConfigError {
    pub(crate) fn value(
        field: &'static str,
        expected: impl Into<String>,
        got: impl Display,
    ) -> Self {
        let mut got = got.to_string();
        if let Some((cut, _)) = got.char_indices().nth(80) {
            got.truncate(cut);
            got.push('…');
        }
        Self::Value {
            field,
            expected: expected.into(),
            got,
        }
    }
}

/// Largest factor of a rope scaling that is taken, and the inverse of the smallest; those of known models are within 64.
pub(super) const MAX_SCALE: f64 = 1e3;

/// Typed reading of a JSON object's fields; `null` counts as absent.
pub(super) struct Fields<'a>(pub &'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn get(&self, field: &str) -> Option<&'a Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    /// Whether the field is there, be it `null`.
    pub(super) fn has(&self, field: &str) -> bool {
        self.0.contains_key(field)
    }

    pub(super) fn present(&self, field: &str) -> bool {
        self.get(field).is_some()
    }

    pub(super) fn optional_text(
        &self,
        field: &'static str,
    ) -> Result<Option<&'a str>, ConfigError> {
        self.get(field)
            .map(|value| {
                value
                    .as_str()
                    .ok_or_else(|| ConfigError::value(field, "a text", value))
            })
            .transpose()
    }

    pub(super) fn text(&self, field: &'static str) -> Result<&'a str, ConfigError> {
        self.optional_text(field)?
            .ok_or(ConfigError::Missing { field })
    }

    pub(super) fn flag(&self, field: &'static str) -> Result<Option<bool>, ConfigError> {
        self.get(field)
            .map(|value| {
                value
                    .as_bool()
                    .ok_or_else(|| ConfigError::value(field, "true or false", value))
            })
            .transpose()
    }

    pub(super) fn number(&self, field: &'static str) -> Result<Option<f64>, ConfigError> {
        self.get(field)
            .map(|value| {
                value
                    .as_f64()
                    .filter(|number| number.is_finite())
                    .ok_or_else(|| ConfigError::value(field, "a number", value))
            })
            .transpose()
    }

    pub(super) fn activation(
        &self,
        field: &'static str,
    ) -> Result<Option<Activation>, ConfigError> {
        let activation = |name| match name {
            "silu" => Ok(Activation::Silu),
            "gelu" => Ok(Activation::Gelu),
            "gelu_pytorch_tanh" | "gelu_new" => Ok(Activation::GeluTanh),
            other => {
                let known = "one of silu, gelu, gelu_pytorch_tanh, gelu_new";
                Err(ConfigError::value(field, known, other))
            }
        };
        self.optional_text(field)?.map(activation).transpose()
    }

    /// A number over zero and up to a million.
    pub(super) fn positive(&self, field: &'static str) -> Result<Option<f64>, ConfigError> {
        match self.number(field)? {
            Some(number) if !(number > 0.0 && number <= 1e6) => Err(ConfigError::value(
                field,
                "a number over 0 and at most 1000000",
                number,
            )),
            number => Ok(number),
        }
    }

    /// A soft cap: `default` where the field is absent, none where it is `null`.
    pub(super) fn cap(
        &self,
        field: &'static str,
        default: Option<f32>,
    ) -> Result<Option<f32>, ConfigError> {
        if !self.has(field) {
            return Ok(default);
        }
        Ok(self.positive(field)?.map(|cap| cap as f32))
    }

    /// `partial_rotary_factor`, from the rope's object or from beside it.
    pub(super) fn rotary_part(&self) -> Result<Option<f64>, ConfigError> {
        const FIELD: &str = "partial_rotary_factor";
        let rope = ["rope_parameters", "rope_scaling"]
            .into_iter()
            .find_map(|name| self.get(name)?.as_object());
        match rope.map(|rope| Fields(rope).number(FIELD)).transpose()? {
            Some(Some(part)) => Ok(Some(part)),
            _ => self.number(FIELD),
        }
    }

    /// A list of `count` texts.
    pub(super) fn texts(
        &self,
        field: &'static str,
        count: usize,
    ) -> Result<Option<Vec<&'a str>>, ConfigError> {
        let Some(value) = self.get(field) else {
            return Ok(None);
        };
        let texts = value
            .as_array()
            .and_then(|list| list.iter().map(Value::as_str).collect::<Option<Vec<_>>>())
            .filter(|texts| texts.len() == count);
        let wrong = || ConfigError::value(field, format!("a list of {count} texts"), value);
        texts.map(Some).ok_or_else(wrong)
    }

    /// A factor on frequencies, angles or attention: from a thousandth to a thousand.
    pub(super) fn scale(&self, field: &'static str) -> Result<Option<f64>, ConfigError> {
        match self.number(field)? {
            Some(number) if !(1.0 / MAX_SCALE..=MAX_SCALE).contains(&number) => {
                let expected = format!("a number from {} to {MAX_SCALE}", 1.0 / MAX_SCALE);
                Err(ConfigError::value(field, expected, number))
            }
            number => Ok(number),
        }
    }

    /// A list of such factors.
    pub(super) fn scales(&self, field: &'static str) -> Result<Vec<f64>, ConfigError> {
        let value = self.get(field).ok_or(ConfigError::Missing { field })?;
        let factor = |value: &Value| {
            let factor = value.as_f64();
            factor.filter(|factor| (1.0 / MAX_SCALE..=MAX_SCALE).contains(factor))
        };
        let factors = value
            .as_array()
            .and_then(|list| list.iter().map(factor).collect());
        let expected = || format!("a list of numbers from {} to {MAX_SCALE}", 1.0 / MAX_SCALE);
        factors.ok_or_else(|| ConfigError::value(field, expected(), value))
    }

    pub(super) fn optional_size(
        &self,
        field: &'static str,
        most: usize,
    ) -> Result<Option<usize>, ConfigError> {
        self.get(field)
            .map(|value| {
                value
                    .as_u64()
                    .and_then(|size| usize::try_from(size).ok())
                    .filter(|size| (1..=most).contains(size))
                    .ok_or_else(|| {
                        ConfigError::value(field, format!("a whole number from 1 to {most}"), value)
                    })
            })
            .transpose()
    }

    pub(super) fn size(&self, field: &'static str, most: usize) -> Result<usize, ConfigError> {
        self.optional_size(field, most)?
            .ok_or(ConfigError::Missing { field })
    }

    /// A token, a list of tokens, or none. A negative token means none, as in transformers.
    pub(super) fn tokens(&self, field: &'static str) -> Result<Vec<u32>, ConfigError> {
        const MAX_TOKENS: usize = 256;
        let one = |value: &Value| match value.as_i64() {
            Some(token) if token < 0 => Ok(None),
            Some(token) if token <= i64::from(u32::MAX) => Ok(Some(token as u32)),
            _ => Err(ConfigError::value(
                field,
                "a token or a list of tokens",
                value,
            )),
        };
        match self.get(field) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) if list.len() > MAX_TOKENS => Err(ConfigError::value(
                field,
                format!("at most {MAX_TOKENS} tokens"),
                list.len(),
            )),
            Some(Value::Array(list)) => list
                .iter()
                .filter_map(|value| one(value).transpose())
                .collect(),
            Some(value) => Ok(one(value)?.into_iter().collect()),
        }
    }
}
