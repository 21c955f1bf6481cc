//! Low-rank adapters (LoRA, arXiv 2106.09685) beside the linear maps: `y += scale · B·(A·x)`, `scale = alpha / rank`.
//!
//! A of the maps that share an input lie adjacent, so that one product serves Q, K and V (or gate and up). B starts at zero.

use super::{LoadError, ParameterMap, Sizes, dora::Magnitudes, forward::ensure};
use crate::{
    backend::{Backend, Columns},
    config::Family,
};

/// All linear maps of a layer, whatever the family calls them; PEFT's name.
pub const ALL_LINEAR: &str = "all-linear";

/// Which maps get an adapter, and how large it is; PEFT's names.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterSpec {
    /// Inner dimension.
    pub rank: usize,
    /// Numerator of the scale.
    pub alpha: f32,
    /// Names out of [`Family::target_modules`], or [`ALL_LINEAR`].
    pub target_modules: Vec<String>,
    /// Layers that get adapters (PEFT's `layers_to_transform`); all where there is none.
    pub layers: Option<Vec<usize>>,
    /// Whether each output has a magnitude of its own (DoRA).
    pub use_dora: bool,
}

impl AdapterSpec {
    /// `alpha / rank`.
    pub fn scale(&self) -> f32 {
        self.alpha / self.rank as f32
    }

    /// Holds the target modules against a family's.
    ///
    /// # Errors
    /// A name that the family does not have.
    pub fn check(&self, family: &Family) -> Result<(), LoadError> {
        let modules = family.target_modules();
        let known = |name: &&String| *name == ALL_LINEAR || modules.contains(&name.as_str());
        match self.target_modules.iter().find(|name| !known(name)) {
            None => Ok(()),
            Some(got) => Err(LoadError::TargetModule {
                expected: modules.join(", "),
                got: got.clone(),
            }),
        }
    }

    /// Whether the map of this name in a layer gets an adapter.
    pub(crate) fn adapts(&self, name: &str) -> bool {
        let module = name.rsplit('.').next();
        let chosen = |t: &String| t == ALL_LINEAR || Some(t.as_str()) == module;
        self.target_modules.iter().any(chosen)
    }
}

/// One map's adapter inside a group.
pub(crate) struct Part<B: Backend> {
    pub(crate) b: B::Weight,
    pub(crate) b_offset: usize,
    /// Where its magnitudes lie, if it has some.
    pub(crate) magnitude_offset: usize,
    pub(crate) outputs: usize,
    /// First column of the map in the fused output.
    pub(crate) at: usize,
    /// First column of its inner values in the group's.
    pub(crate) inner: usize,
}

/// The adapters of the maps that share one input.
pub(crate) struct Group<B: Backend> {
    pub(crate) a: B::Weight,
    pub(crate) a_offset: usize,
    pub(crate) inputs: usize,
    /// Sum of the ranks.
    pub(crate) inner: usize,
    /// Width of the fused output.
    pub(crate) outputs: usize,
    pub(crate) parts: Vec<Part<B>>,
    /// DoRA's magnitudes, once the group lies beside its weight.
    pub(crate) magnitudes: Option<Magnitudes<B>>,
}

/// A group with its values and the factor on what it adds.
pub(crate) type Adapted<'a, B> = (&'a Group<B>, &'a <B as Backend>::Buffer, f32);

/// The four groups of a layer.
pub(crate) struct LayerAdapters<B: Backend> {
    pub(crate) qkv: Option<Group<B>>,
    pub(crate) o: Option<Group<B>>,
    pub(crate) gate_up: Option<Group<B>>,
    pub(crate) down: Option<Group<B>>,
}

/// All adapters of a model, their values in one flat buffer under PEFT's names.
pub struct Adapters<B: Backend> {
    /// What they were made from.
    pub spec: AdapterSpec,
    /// What lies in `flat`.
    pub map: ParameterMap,
    /// Their values.
    pub flat: B::Buffer,
    pub(crate) layers: Vec<LayerAdapters<B>>,
}

impl<B: Backend> Adapters<B> {
    /// New adapters: A uniform in ±1/sqrt(inputs) (Kaiming with a = √5, as PEFT starts), drawn from `uniform` in [0, 1); B zero.
    pub fn new(
        backend: &mut B,
        sizes: &Sizes,
        spec: &AdapterSpec,
        uniform: &mut dyn FnMut() -> f32,
    ) -> Self {
        let (h, i) = (sizes.hidden, sizes.intermediate);
        let (q, kv) = (sizes.heads.query_width(), sizes.heads.kv_width());
        let names = &sizes.family.names;
        let (qkv, up) = (sizes.family.qkv_parts(q, kv), sizes.family.up_parts(i));
        let mut map = ParameterMap::default();
        let layers = (0..sizes.layers)
            .map(|n| {
                if spec.layers.as_ref().is_some_and(|own| !own.contains(&n)) {
                    return LayerAdapters {
                        qkv: None,
                        o: None,
                        gate_up: None,
                        down: None,
                    };
                }
                let prefix = format!("base_model.model.{}.{n}.", names.layers);
                let mut group = |inputs: usize, maps: &[(&str, usize)]| {
                    group(backend, &mut map, spec, &prefix, inputs, maps)
                };
                let is_dense = names.experts.is_none();
                LayerAdapters {
                    qkv: group(h, &qkv),
                    o: group(q, &[(names.o, h)]),
                    gate_up: is_dense.then(|| group(h, &up)).flatten(),
                    down: is_dense.then(|| group(i, &[(names.down, h)])).flatten(),
                }
            })
            .collect();
        let mut flat = backend.buffer(map.length());
        for entry in map
            .entries
            .iter()
            .filter(|e| e.name.ends_with(".lora_A.weight"))
        {
            let bound = 1.0 / (entry.shape[1] as f32).sqrt();
            let values: Vec<f32> = entry
                .range()
                .map(|_| (2.0 * uniform() - 1.0) * bound)
                .collect();
            backend.upload(&values, &mut flat, entry.offset);
        }
        Self {
            spec: spec.clone(),
            map,
            flat,
            layers,
        }
    }
}

impl<B: Backend> Adapters<B> {
    /// One of the groups of layer `n`, where there is one.
    pub(crate) fn group(
        &self,
        n: usize,
        which: impl Fn(&LayerAdapters<B>) -> Option<&Group<B>>,
    ) -> Option<Adapted<'_, B>> {
        which(&self.layers[n]).map(|group| (group, &self.flat, self.spec.scale()))
    }

    /// The lowest layer that has adapters.
    pub(crate) fn first_layer(&self) -> usize {
        let is_adapted = |layer: &LayerAdapters<B>| {
            let LayerAdapters {
                qkv,
                o,
                gate_up,
                down,
            } = layer;
            [qkv, o, gate_up, down].iter().any(|group| group.is_some())
        };
        let place = self.layers.iter().position(is_adapted);
        place.unwrap_or(self.layers.len())
    }

    /// Adds `scale · B·A` to a weight `[outputs, inputs]` under its Hugging Face name, from adapter values laid out as in `flat`, and gives its
    /// rows their magnitudes where they have some; other tensors stay.
    pub fn merge(&self, values: &[f32], name: &str, weight: &mut [f32]) {
        let Some(stem) = name.strip_suffix(".weight") else {
            return;
        };
        let part = |half: &str| {
            self.map
                .get(&format!("base_model.model.{stem}.{half}.weight"))
        };
        let (Some(a), Some(b)) = (part("lora_A"), part("lora_B")) else {
            return;
        };
        let magnitudes = format!("base_model.model.{stem}.lora_magnitude_vector");
        let low_rank = LowRank {
            a: &values[a.range()],
            b: &values[b.range()],
            rank: a.shape[0],
            scale: self.spec.scale(),
            magnitudes: self
                .map
                .get(&magnitudes)
                .map(|entry| &values[entry.range()]),
        };
        add_low_rank(&low_rank, weight);
    }

    /// Makes adapters that change nothing of values laid out as in `flat`: B is zero, and magnitudes are what they were at the start.
    pub fn neutralise(&self, values: &mut [f32]) {
        for layer in &self.layers {
            let LayerAdapters {
                qkv,
                o,
                gate_up,
                down,
            } = layer;
            for group in [qkv, o, gate_up, down].into_iter().flatten() {
                for part in &group.parts {
                    values[part.b_offset..][..part.outputs * self.spec.rank].fill(0.0);
                    if let Some(magnitudes) = &group.magnitudes {
                        let own = &mut values[part.magnitude_offset..][..part.outputs];
                        for (value, start) in
                            own.iter_mut().zip(magnitudes.start(part.at, part.outputs))
                        {
                            *value = start;
                        }
                    }
                }
            }
        }
    }
}

/// The values of one map's adapter: A `[rank, inputs]` and B `[outputs, rank]`.
pub(crate) struct LowRank<'a> {
    pub(crate) a: &'a [f32],
    pub(crate) b: &'a [f32],
    pub(crate) rank: usize,
    pub(crate) scale: f32,
    /// DoRA's, one for each output.
    pub(crate) magnitudes: Option<&'a [f32]>,
}

/// Adds `scale · B·A` to a weight `[outputs, inputs]`, and gives its rows their magnitudes where they have some.
pub(crate) fn add_low_rank(adapter: &LowRank<'_>, weight: &mut [f32]) {
    let (rank, inputs) = (adapter.rank, adapter.a.len() / adapter.rank);
    for (row, b) in weight.chunks_mut(inputs).zip(adapter.b.chunks(rank)) {
        for (factor, a) in b.iter().zip(adapter.a.chunks(inputs)) {
            for (w, a) in row.iter_mut().zip(a) {
                *w += adapter.scale * factor * a;
            }
        }
    }
    for (row, magnitude) in weight
        .chunks_mut(inputs)
        .zip(adapter.magnitudes.unwrap_or_default())
    {
        let square: f64 = row.iter().map(|w| f64::from(*w).powi(2)).sum();
        let factor = f64::from(*magnitude) / square.sqrt().max(f64::MIN_POSITIVE);
        row.iter_mut()
            .for_each(|w| *w = (f64::from(*w) * factor) as f32);
    }
}

fn group<B: Backend>(
    backend: &B,
    map: &mut ParameterMap,
    spec: &AdapterSpec,
    prefix: &str,
    inputs: usize,
    maps: &[(&str, usize)],
) -> Option<Group<B>> {
    let adapted = |name: &str| spec.adapts(name);
    let chosen: Vec<&str> = maps
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| adapted(name))
        .collect();
    let a_offset = map.length();
    for name in &chosen {
        map.push(
            format!("{prefix}{name}.lora_A.weight"),
            vec![spec.rank, inputs],
        );
    }
    let (mut at, mut inner, mut parts) = (0, 0, Vec::new());
    for (name, outputs) in maps {
        if adapted(name) {
            let b_offset = map.push(
                format!("{prefix}{name}.lora_B.weight"),
                vec![*outputs, spec.rank],
            );
            let magnitude_offset = match spec.use_dora {
                true => map.push(
                    format!("{prefix}{name}.lora_magnitude_vector"),
                    vec![*outputs],
                ),
                false => map.length(),
            };
            parts.push(Part {
                b: backend.weight_at(b_offset, *outputs, spec.rank),
                b_offset,
                magnitude_offset,
                outputs: *outputs,
                at,
                inner,
            });
            inner += spec.rank;
        }
        at += outputs;
    }
    (!parts.is_empty()).then(|| Group {
        a: backend.weight_at(a_offset, inner, inputs),
        a_offset,
        inputs,
        inner,
        outputs: at,
        parts,
        magnitudes: None,
    })
}

/// `y += scale · B·(A·x)` for every map of the group; `inner` receives `A·x` `[rows, inner]` for the backward pass. With magnitudes y, which
/// then holds nothing but the product with W, is scaled by `m/‖V‖`; `output` receives it before that.
#[allow(clippy::too_many_arguments)]
pub(crate) fn forward<B: Backend>(
    backend: &mut B,
    adapters: Adapted<'_, B>,
    rows: usize,
    x: &B::Operand,
    scratch: &mut B::Operand,
    (inner, output): (&mut B::Buffer, Option<&mut B::Buffer>),
    y: &mut B::Buffer,
) {
    let (group, flat, scale) = adapters;
    backend.linear(x, &group.a, flat, inner, Columns::all(group.inner), false);
    for part in &group.parts {
        let rank = group.inner / group.parts.len();
        backend.operand_from(
            inner,
            rows,
            rank,
            Columns {
                offset: part.inner,
                stride: group.inner,
            },
            scale,
            &mut [&mut *scratch],
        );
        backend.linear(
            scratch,
            &part.b,
            flat,
            y,
            Columns {
                offset: part.at,
                stride: group.outputs,
            },
            true,
        );
    }
    if let Some(magnitudes) = &group.magnitudes {
        if let Some(output) = output {
            ensure(backend, output, rows * group.outputs);
            backend.copy(y, rows * group.outputs, output);
        }
        backend.scale_columns(y, rows, group.outputs, &magnitudes.factors);
    }
}
