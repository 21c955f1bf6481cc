//! Sub-networks: which tensors are trained (`train_layers`, `train_modules`), and which elements of these (`train_units`, `mask_share`).
//!
//! Gradients exist for whole trained tensors, one after the other in the order of the weights; optimizer state, base and best state for the
//! trained elements alone.

use std::ops::Range;

use super::{Recipe, RecipeError};
use crate::{
    config::{MlpPart, ModelConfig},
    decoder::{ParameterMap, Trained},
};

/// The part of a model's weights that is trained.
#[derive(Clone, Debug)]
pub struct Subset {
    /// The trained tensors; their offsets are those of their gradients.
    map: ParameterMap,
    /// First element of each among all weights.
    flat: Vec<usize>,
    /// The trained elements as indices among the gradients, ascending; all where there is none.
    mask: Option<Vec<usize>>,
}

impl Subset {
    /// The tensors of `weights` that a recipe trains; `None` where these are all, and no mask is wanted.
    ///
    /// # Errors
    /// A layer or a unit that the model does not have, a pattern that matches no tensor, or nothing left to train.
    pub fn choose(
        recipe: &Recipe,
        weights: &ParameterMap,
        config: &ModelConfig,
    ) -> Result<Option<Self>, RecipeError> {
        let layers = config.num_hidden_layers;
        if recipe.train_units > 0 {
            return Self::of_units(recipe, weights, config).map(Some);
        }
        if recipe.train_layers.is_empty() && recipe.train_modules.is_empty() {
            let all = recipe.mask_share == 0.0;
            return Ok((!all).then(|| Self::new(weights, &|_| true)));
        }
        let chosen = chosen_layers(recipe, layers)?;
        for pattern in &recipe.train_modules {
            if !weights.entries.iter().any(|e| matches(pattern, &e.name)) {
                return Err(RecipeError::Value {
                    key: "train_modules",
                    expected: "names of tensors or modules of the model",
                    got: pattern.clone(),
                });
            }
        }
        let trained = |name: &str| {
            let in_layer = chosen
                .as_ref()
                .is_none_or(|chosen| layer(name).is_some_and(|n| chosen[n]));
            let patterns = &recipe.train_modules;
            in_layer && (patterns.is_empty() || patterns.iter().any(|p| matches(p, name)))
        };
        let subset = Self::new(weights, &|name| {
            trained(name) || partner(name).is_some_and(|other| trained(&other))
        });
        if subset.map.entries.is_empty() {
            return Err(RecipeError::Value {
                key: "train_modules",
                expected: "at least one tensor of train_layers",
                got: recipe.train_modules.join(", "),
            });
        }
        Ok(Some(subset))
    }

    /// The last units of the feed-forward blocks: rows of gate and up with their biases, columns of down.
    fn of_units(
        recipe: &Recipe,
        weights: &ParameterMap,
        config: &ModelConfig,
    ) -> Result<Self, RecipeError> {
        let (units, all) = (recipe.train_units, config.intermediate_size);
        if units > all {
            return Err(RecipeError::Value {
                key: "train_units",
                expected: "at most the model's intermediate_size",
                got: units.to_string(),
            });
        }
        let chosen = chosen_layers(recipe, config.num_hidden_layers)?;
        let is_chosen = |n: usize| chosen.as_ref().is_none_or(|chosen| chosen[n]);
        let kind = |name: &str| match layer(name) {
            Some(n) if is_chosen(n) => config.family.mlp_part(name),
            _ => None,
        };
        let mut subset = Self::new(weights, &|name| match kind(name) {
            Some(MlpPart::Up) => true,
            Some(MlpPart::Down) => name.ends_with(".weight"),
            None => false,
        });
        let mut mask = Vec::new();
        for entry in &subset.map.entries {
            let (rows, width) = (entry.shape[0], entry.shape.get(1).copied().unwrap_or(1));
            for row in 0..rows {
                let start = entry.offset + row * width;
                let columns = match kind(&entry.name) {
                    Some(MlpPart::Up) if row % all < all - units => continue,
                    Some(MlpPart::Up) => start..start + width,
                    _ => start + all - units..start + all,
                };
                mask.extend(columns);
            }
        }
        subset.mask = Some(mask);
        Ok(subset)
    }

    fn new(weights: &ParameterMap, trained: &dyn Fn(&str) -> bool) -> Self {
        let (mut map, mut flat) = (ParameterMap::default(), Vec::new());
        for entry in weights.entries.iter().filter(|e| trained(&e.name)) {
            map.push(entry.name.clone(), entry.shape.clone());
            flat.push(entry.offset);
        }
        Self {
            map,
            flat,
            mask: None,
        }
    }

    /// The trained tensors, in the order of their gradients.
    pub fn map(&self) -> &ParameterMap {
        &self.map
    }

    /// The trained elements as indices among the gradients, ascending, where not all are trained.
    pub fn mask(&self) -> Option<&[usize]> {
        self.mask.as_deref()
    }

    /// Number of trained elements.
    pub fn length(&self) -> usize {
        self.mask.as_ref().map_or(self.map.length(), Vec::len)
    }

    /// What the backward pass is told.
    pub(super) fn trained(&self) -> Trained {
        let tensors = self.map.entries.iter().zip(&self.flat);
        // The embedding is the first of all weights.
        let first_layer = |(name, flat): (&str, usize)| match layer(name) {
            Some(n) => n,
            None if flat == 0 => 0,
            None => usize::MAX,
        };
        let named = self.map.entries.iter().map(|e| e.name.as_str());
        let lowest = named.zip(self.flat.iter().copied()).map(first_layer).min();
        Trained::new(
            tensors.map(|(entry, flat)| (*flat, entry.range())),
            lowest.unwrap_or(usize::MAX),
        )
    }

    /// The tensors as the optimizer sees them: under a mask, one vector.
    pub(super) fn optimized(&self) -> ParameterMap {
        match &self.mask {
            None => self.map.clone(),
            Some(mask) => {
                let mut map = ParameterMap::default();
                map.push("masked weights".into(), vec![mask.len()]);
                map
            }
        }
    }

    /// Keeps these elements alone.
    pub(super) fn set_mask(&mut self, mask: Vec<usize>) {
        self.mask = Some(mask);
    }

    /// Trained values `start..start + count` as runs: where each run begins among all weights, and which values it is.
    pub(super) fn runs(
        &self,
        start: usize,
        count: usize,
    ) -> impl Iterator<Item = (usize, Range<usize>)> + '_ {
        let tensors = self.map.entries.iter().zip(&self.flat);
        tensors.flat_map(move |(entry, flat)| {
            let own = self.values_of(entry.range());
            let own = own.start.max(start)..own.end.min(start + count);
            let step = if self.mask.is_some() {
                1
            } else {
                own.len().max(1)
            };
            own.clone().step_by(step).map(move |value| {
                let place = flat + self.element(value) - entry.offset;
                (place, value..(value + step).min(own.end))
            })
        })
    }

    /// Copies the trained values of a tensor into it; other tensors stay.
    pub fn overlay(&self, values: &[f32], name: &str, tensor: &mut [f32]) {
        if let Some(entry) = self.map.get(name) {
            for value in self.values_of(entry.range()) {
                tensor[self.element(value) - entry.offset] = values[value];
            }
        }
    }

    /// Takes the trained values out of a tensor; other tensors give none.
    pub fn extract(&self, name: &str, tensor: &[f32], values: &mut [f32]) {
        if let Some(entry) = self.map.get(name) {
            for value in self.values_of(entry.range()) {
                values[value] = tensor[self.element(value) - entry.offset];
            }
        }
    }

    /// Index among the gradients of a trained value.
    fn element(&self, value: usize) -> usize {
        self.mask.as_ref().map_or(value, |mask| mask[value])
    }

    /// The trained values among the elements of a range of the gradients.
    fn values_of(&self, range: Range<usize>) -> Range<usize> {
        match &self.mask {
            None => range,
            Some(mask) => {
                let below = |limit| mask.partition_point(|element| *element < limit);
                below(range.start)..below(range.end)
            }
        }
    }
}

/// Indices of the `share` of all elements with the largest magnitudes, ascending; of equal ones the first.
pub(super) fn largest(gradients: &[f32], share: f64) -> Vec<usize> {
    let count = ((gradients.len() as f64 * share).round() as usize).clamp(1, gradients.len());
    let mut magnitudes: Vec<f32> = gradients.iter().map(|g| g.abs()).collect();
    let place = magnitudes.len() - count;
    let (_, least, above) = magnitudes.select_nth_unstable_by(place, f32::total_cmp);
    let least = *least;
    let mut equal = count - above.iter().filter(|m| **m > least).count();
    let mut taken = |magnitude: f32| {
        let first_equal = magnitude == least && equal > 0;
        equal -= usize::from(first_equal);
        magnitude > least || first_equal
    };
    let mut chosen = Vec::with_capacity(count);
    chosen.extend((0..gradients.len()).filter(|i| taken(gradients[*i].abs())));
    chosen
}

/// Which layers a recipe names; `None` where it names none.
pub(super) fn chosen_layers(
    recipe: &Recipe,
    layers: usize,
) -> Result<Option<Vec<bool>>, RecipeError> {
    if recipe.train_layers.is_empty() {
        return Ok(None);
    }
    let mut chosen = vec![false; layers];
    for item in &recipe.train_layers {
        let range = layer_range(item).filter(|range| *range.end() < layers);
        let range = range.ok_or_else(|| RecipeError::Layer {
            last: layers.saturating_sub(1),
            got: item.clone(),
        })?;
        chosen[range].fill(true);
    }
    Ok(Some(chosen))
}

/// `7` or `20-29`, both ends included.
pub(super) fn layer_range(item: &str) -> Option<std::ops::RangeInclusive<usize>> {
    let (first, last) = item.split_once('-').unwrap_or((item, item));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first <= last).then_some(first..=last)
}

/// The tensor that a norm's tensor is trained together with: weight and bias, the norms of queries and of keys.
fn partner(name: &str) -> Option<String> {
    let (module, kind) = name.rsplit_once('.')?;
    let norm = module.rsplit('.').next()?;
    if norm == "q_norm" || norm == "k_norm" {
        let other = if norm == "q_norm" { "k_norm" } else { "q_norm" };
        return Some(format!("{}{other}.{kind}", module.strip_suffix(norm)?));
    }
    let other = if kind == "weight" { "bias" } else { "weight" };
    norm.contains("norm").then(|| format!("{module}.{other}"))
}

/// The layer that a tensor belongs to.
pub(super) fn layer(name: &str) -> Option<usize> {
    let (_, inside) = name.split_once(".layers.")?;
    let (number, _) = inside.split_once('.')?;
    number.parse().ok()
}

/// Whether a pattern is the name of a tensor or of its module, or the end of either from a dot on; `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    let module = name.rsplit_once('.').map_or(name, |(module, _)| module);
    [name, module].iter().any(|whole| {
        let after_dots = whole.match_indices('.').map(|(dot, _)| &whole[dot + 1..]);
        std::iter::once(*whole)
            .chain(after_dots)
            .any(|end| fits(pattern, end))
    })
}

/// Whether a text is what a pattern with `*` describes.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_tensors_and_modules() {
        let down = "model.layers.11.mlp.down_proj.weight";
        for pattern in [
            down,
            "model.layers.11.mlp.down_proj",
            "down_proj",
            "mlp.*",
            "model.layers.1*.mlp.*_proj.weight",
            "*",
            "layers.11.*",
            "*down*",
        ] {
            assert!(matches(pattern, down), "{pattern}");
        }
        for pattern in ["", "proj", "down", "layers.1.*", "mlp", "weights", "*up*"] {
            assert!(!matches(pattern, down), "{pattern}");
        }
        assert!(matches("norm", "model.norm.weight"));
        assert!(!matches("norm", "model.layers.0.input_layernorm.weight"));
    }

    #[test]
    fn layers_are_numbers_and_ranges() {
        assert_eq!(layer_range("7"), Some(7..=7));
        assert_eq!(layer_range("20-29"), Some(20..=29));
        for bad in ["", "-", "a", "3-1", "1-2-3", "-1", "1.5"] {
            assert_eq!(layer_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_largest_magnitudes_are_taken() {
        let gradients = [0.5, -3.0, 0.0, 2.0, -2.0, 2.0, 1.0, 0.0];
        assert_eq!(largest(&gradients, 0.125), [1]);
        assert_eq!(largest(&gradients, 0.25), [1, 3]);
        assert_eq!(largest(&gradients, 0.5), [1, 3, 4, 5]);
        assert_eq!(largest(&gradients, 1e-9), [1]);
        assert_eq!(largest(&gradients, 1.0).len(), 8);
        assert_eq!(largest(&[0.0; 4], 0.5), [0, 1]);
    }
}
