//! Rotary position frequencies and the ways in which models stretch them to longer contexts.
//!
//! Plain: `f_i = theta^(-2i/d)`, `i = 0..d/2`, `d = rotary_dim`, in radians per position. Scaled: `linear` divides every
//! `f_i` by a factor; `dynamic` raises theta once a sequence is longer than the model was made for (NTK-aware);
//! `llama3` divides only long wavelengths, with a ramp between two bounds; `yarn` (Peng et al., 2023, arXiv:2309.00071)
//! blends plain and divided frequencies along a ramp and scales cosine and sine by an attention factor; `longrope` (Ding
//! et al., 2024, arXiv:2402.13753) divides each frequency by a factor of its own, by others in sequences over the original
//! context. Steps and rounding to f32 follow transformers, whose values are the goldens.

use std::f64::consts::PI;

use serde_json::{Map, Value, json};

use super::error::{Fields, MAX_SCALE};
use super::{ConfigError, MAX_POSITIONS, ModelConfig};

/// How rotary frequencies are stretched. Fields carry the names of `rope_scaling` in `config.json`.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Every frequency divided by `factor`.
    Linear {
        /// Divisor.
        factor: f64,
    },
    /// Theta raised for sequences over `max_position_embeddings`.
    Dynamic {
        /// Strength of the raise.
        factor: f64,
    },
    /// Long wavelengths divided by `factor`, short ones kept, a ramp between.
    Llama3 {
        /// Divisor of the long wavelengths.
        factor: f64,
        /// Wavelengths over `original_max_position_embeddings / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths under `original_max_position_embeddings / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context length before stretching.
        original_max_position_embeddings: usize,
    },
    /// Plain and divided frequencies blended along a ramp.
    Yarn {
        /// Divisor.
        factor: f64,
        /// Context length before stretching.
        original_max_position_embeddings: usize,
        /// Rotations at which the ramp begins.
        beta_fast: f64,
        /// Rotations at which the ramp ends.
        beta_slow: f64,
        /// Factor on cosine and sine where given, else derived from `factor`.
        attention_factor: Option<f64>,
        /// Weight of the derived attention factor, with `mscale_all_dim`.
        mscale: Option<f64>,
        /// See `mscale`.
        mscale_all_dim: Option<f64>,
        /// The ramp's bounds are whole dimensions.
        truncate: bool,
    },
    /// Every frequency divided by its own factor.
    Long {
        /// Divisors, one per rotary pair, in sequences within `original_max_position_embeddings`.
        short_factor: Vec<f64>,
        /// Divisors in longer ones.
        long_factor: Vec<f64>,
        /// Context length before stretching.
        original_max_position_embeddings: usize,
        /// Factor on cosine and sine.
        attention_factor: f64,
    },
}

impl RopeScaling {
    /// The `rope_scaling` object of `config.json`.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
            Self::Dynamic { factor } => json!({"rope_type": "dynamic", "factor": factor}),
            Self::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            } => json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": original_max_position_embeddings,
            }),
            Self::Yarn {
                factor,
                original_max_position_embeddings,
                beta_fast,
                beta_slow,
                attention_factor,
                mscale,
                mscale_all_dim,
                truncate,
            } => {
                let mut fields = Map::new();
                fields.insert("rope_type".into(), json!("yarn"));
                fields.insert("factor".into(), json!(factor));
                fields.insert(
                    "original_max_position_embeddings".into(),
                    json!(original_max_position_embeddings),
                );
                fields.insert("beta_fast".into(), json!(beta_fast));
                fields.insert("beta_slow".into(), json!(beta_slow));
                fields.insert("truncate".into(), json!(truncate));
                let given = [
                    ("attention_factor", attention_factor),
                    ("mscale", mscale),
                    ("mscale_all_dim", mscale_all_dim),
                ];
                for (name, value) in given {
                    if let Some(value) = value {
                        fields.insert(name.into(), json!(value));
                    }
                }
                Value::Object(fields)
            }
            Self::Long {
                short_factor,
                long_factor,
                original_max_position_embeddings,
                attention_factor,
            } => json!({
                "rope_type": "longrope",
                "short_factor": short_factor,
                "long_factor": long_factor,
                "original_max_position_embeddings": original_max_position_embeddings,
                "attention_factor": attention_factor,
            }),
        }
    }
}

/// `rope_theta` and the scaling, from `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling`.
pub(super) fn from_json(
    json: &Map<String, Value>,
    max_position_embeddings: usize,
    default_theta: f64,
) -> Result<(f64, Option<RopeScaling>), ConfigError> {
    let object = |field: &'static str| match json.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(other) => Err(ConfigError::value(field, "an object", other)),
    };
    let theta = Fields(json).number("rope_theta")?;
    let Some(rope) = object("rope_parameters")?.or(object("rope_scaling")?) else {
        return Ok((theta.unwrap_or(default_theta), None));
    };
    let fields = Fields(rope);
    let theta = fields
        .number("rope_theta")?
        .or(theta)
        .unwrap_or(default_theta);
    let (field, kind) = match fields.optional_text("rope_type")? {
        Some(kind) => ("rope_type", kind),
        None => ("type", fields.optional_text("type")?.unwrap_or("default")),
    };
    let factor = || {
        let factor = fields
            .number("factor")?
            .ok_or(ConfigError::Missing { field: "factor" })?;
        stretch(factor)
    };
    let needed = |field: &'static str| fields.scale(field)?.ok_or(ConfigError::Missing { field });
    // 0 leaves the weight out
    let weight = |field: &'static str| match fields.number(field)? {
        Some(0.0) => Ok(Some(0.0)),
        _ => fields.scale(field),
    };
    let original = || {
        let field = "original_max_position_embeddings";
        let beside = Fields(json).optional_size(field, MAX_POSITIONS)?;
        let inside = fields.optional_size(field, MAX_POSITIONS)?;
        Ok(beside.or(inside).unwrap_or(max_position_embeddings))
    };
    let scaling = match kind {
        "default" => None,
        "linear" => Some(RopeScaling::Linear { factor: factor()? }),
        "dynamic" => Some(RopeScaling::Dynamic { factor: factor()? }),
        "llama3" => {
            let (low, high) = (needed("low_freq_factor")?, needed("high_freq_factor")?);
            if low >= high {
                return Err(ConfigError::value(
                    "high_freq_factor",
                    format!("over low_freq_factor {low}"),
                    high,
                ));
            }
            Some(RopeScaling::Llama3 {
                factor: factor()?,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings: original()?,
            })
        }
        "yarn" => {
            let original: usize = original()?;
            let ratio = max_position_embeddings as f64 / original as f64;
            Some(RopeScaling::Yarn {
                factor: if fields.present("factor") {
                    factor()?
                } else {
                    stretch(ratio)?
                },
                original_max_position_embeddings: original,
                beta_fast: fields.scale("beta_fast")?.unwrap_or(32.0),
                beta_slow: fields.scale("beta_slow")?.unwrap_or(1.0),
                attention_factor: fields.scale("attention_factor")?,
                mscale: weight("mscale")?,
                mscale_all_dim: weight("mscale_all_dim")?,
                truncate: fields.flag("truncate")?.unwrap_or(true),
            })
        }
        // as the first models with it call it
        "longrope" | "su" => {
            let original: usize = original()?;
            if original < 2 {
                let field = "original_max_position_embeddings";
                return Err(ConfigError::value(field, "at least 2", original));
            }
            let ratio = max_position_embeddings as f64 / original as f64;
            let factor = fields.scale("factor")?.unwrap_or(ratio);
            let derived = match factor <= 1.0 {
                true => 1.0,
                false => (1.0 + factor.ln() / (original as f64).ln()).sqrt(),
            };
            Some(RopeScaling::Long {
                short_factor: fields.scales("short_factor")?,
                long_factor: fields.scales("long_factor")?,
                original_max_position_embeddings: original,
                attention_factor: fields.scale("attention_factor")?.unwrap_or(derived),
            })
        }
        other => {
            return Err(ConfigError::UnknownRopeType {
                field,
                got: other.to_owned(),
            });
        }
    };
    Ok((theta, scaling))
}

/// A factor that stretches, within what any model has.
fn stretch(factor: f64) -> Result<f64, ConfigError> {
    if (1.0..=MAX_SCALE).contains(&factor) {
        return Ok(factor);
    }
    let expected = format!("a number from 1 to {MAX_SCALE}");
    Err(ConfigError::value("factor", expected, factor))
}

impl ModelConfig {
    /// The rotary frequencies of a family whose base is another where none is given.
    pub(super) fn set_rope(
        &mut self,
        fields: &Fields<'_>,
        default_theta: f64,
    ) -> Result<(), ConfigError> {
        let read = from_json(fields.0, self.max_position_embeddings, default_theta);
        (self.rope_theta, self.rope_scaling) = read?;
        Ok(())
    }

    /// The rotary frequencies of Gemma 3: those of the layers without a window, and those of the layers with one.
    pub(super) fn set_two_ropes(
        &mut self,
        fields: &Fields<'_>,
        default_theta: f64,
        default_local: f64,
    ) -> Result<(), ConfigError> {
        let positions = self.max_position_embeddings;
        let both = fields.0.get("rope_parameters").and_then(Value::as_object);
        // transformers 5 keeps one object per type of layer
        let of = |kind: &str| {
            let object = both.and_then(|both| both.get(kind))?;
            Some(Map::from_iter([(
                "rope_parameters".to_owned(),
                object.clone(),
            )]))
        };
        let whole = of("full_attention");
        let whole = whole.as_ref().unwrap_or(fields.0);
        self.set_rope(&Fields(whole), default_theta)?;
        let local = match of("sliding_attention") {
            None => fields.number("rope_local_base_freq")?,
            Some(local) => {
                let (theta, scaling) = from_json(&local, positions, default_local)?;
                if scaling.is_some() {
                    let field = "rope_parameters.sliding_attention";
                    return Err(ConfigError::value(field, "the default type", "another"));
                }
                Some(theta)
            }
        };
        self.rope_local_base_freq = Some(local.unwrap_or(default_local));
        Ok(())
    }

    /// [`ModelConfig::inverse_frequencies`] of the layers with a window, where these have their own.
    pub fn local_inverse_frequencies(&self) -> Option<Vec<f32>> {
        let theta = self.rope_local_base_freq?;
        Some(frequencies(theta, self.rotary_dim))
    }

    /// Angle per position of each rotary pair (`rotary_dim / 2` values, radians) and the factor on cosine and sine,
    /// for sequences within [`ModelConfig::longest_sequence`].
    pub fn inverse_frequencies(&self) -> (Vec<f32>, f32) {
        self.inverse_frequencies_at(self.longest_sequence())
    }

    /// Tokens of a sequence at most. With `longrope` that is the original context: longer sequences have other frequencies from
    /// the first token on.
    pub fn longest_sequence(&self) -> usize {
        let most = self.max_position_embeddings;
        match &self.rope_scaling {
            Some(RopeScaling::Long {
                original_max_position_embeddings: original,
                ..
            }) => most.min(*original),
            _ => most,
        }
    }

    /// [`ModelConfig::inverse_frequencies`] for a sequence of `tokens` positions; `dynamic` scaling and `longrope` depend on it.
    pub fn inverse_frequencies_at(&self, tokens: usize) -> (Vec<f32>, f32) {
        let plain = || frequencies(self.rope_theta, self.rotary_dim);
        match &self.rope_scaling {
            None => (plain(), 1.0),
            Some(RopeScaling::Linear { factor }) => {
                (plain().iter().map(|f| f / *factor as f32).collect(), 1.0)
            }
            Some(RopeScaling::Dynamic { factor }) => {
                let most = self.max_position_embeddings as f64;
                let length = (tokens as f64).max(most);
                let width = self.rotary_dim as f64;
                let raise = (factor * length / most - (factor - 1.0)).powf(width / (width - 2.0));
                (frequencies(self.rope_theta * raise, self.rotary_dim), 1.0)
            }
            Some(RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            }) => {
                let context = *original_max_position_embeddings as f32;
                let (low, high, factor) = (
                    *low_freq_factor as f32,
                    *high_freq_factor as f32,
                    *factor as f32,
                );
                let stretch = |f: f32| {
                    let wavelength = (2.0 * PI) as f32 / f;
                    if wavelength < context / high {
                        return f;
                    }
                    if wavelength > context / low {
                        return f / factor;
                    }
                    let smooth = (context / wavelength - low) / (high - low);
                    (1.0 - smooth) * f / factor + smooth * f
                };
                (plain().into_iter().map(stretch).collect(), 1.0)
            }
            Some(yarn @ RopeScaling::Yarn { .. }) => self.yarn(yarn),
            Some(RopeScaling::Long {
                short_factor,
                long_factor,
                original_max_position_embeddings,
                attention_factor,
            }) => {
                let is_short = tokens <= *original_max_position_embeddings;
                let factors = if is_short { short_factor } else { long_factor };
                let periods = periods(self.rope_theta, self.rotary_dim).zip(factors);
                let stretched = periods.map(|(period, factor)| 1.0 / (*factor as f32 * period));
                (stretched.collect(), *attention_factor as f32)
            }
        }
    }

    fn yarn(&self, scaling: &RopeScaling) -> (Vec<f32>, f32) {
        let RopeScaling::Yarn {
            factor,
            original_max_position_embeddings,
            beta_fast,
            beta_slow,
            attention_factor,
            mscale,
            mscale_all_dim,
            truncate,
        } = scaling
        else {
            return (frequencies(self.rope_theta, self.rotary_dim), 1.0);
        };
        let scale = |weight: f64| {
            if *factor <= 1.0 {
                1.0
            } else {
                0.1 * weight * factor.ln() + 1.0
            }
        };
        let attention = attention_factor.unwrap_or_else(|| match (mscale, mscale_all_dim) {
            (Some(some), Some(all)) if *some != 0.0 && *all != 0.0 => scale(*some) / scale(*all),
            _ => scale(1.0),
        });
        let width = self.rotary_dim as f64;
        let context = *original_max_position_embeddings as f64;
        let dimension = |rotations: f64| {
            width * (context / (rotations * 2.0 * PI)).ln() / (2.0 * self.rope_theta.ln())
        };
        let (mut low, mut high) = (dimension(*beta_fast), dimension(*beta_slow));
        if *truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, mut high) = (low.max(0.0), high.min(width - 1.0));
        if low == high {
            high += 0.001;
        }
        let blend = |(pair, period): (usize, f32)| {
            let ramp = ((pair as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
            let keep = 1.0 - ramp;
            1.0 / (*factor as f32 * period) * (1.0 - keep) + 1.0 / period * keep
        };
        let pairs = periods(self.rope_theta, self.rotary_dim).enumerate();
        (pairs.map(blend).collect(), attention as f32)
    }
}

/// `theta^(2i/d)`: positions per radian.
fn periods(theta: f64, rotary_dim: usize) -> impl Iterator<Item = f32> {
    let exponent = move |pair: usize| (2 * pair) as f32 / rotary_dim as f32;
    (0..rotary_dim / 2).map(move |pair| theta.powf(f64::from(exponent(pair))) as f32)
}

fn frequencies(theta: f64, rotary_dim: usize) -> Vec<f32> {
    periods(theta, rotary_dim)
        .map(|period| 1.0 / period)
        .collect()
}
