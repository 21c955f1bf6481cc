//! The forward pass: packed batches for scoring and training, cached rows for generation.

use super::{
    Adapters, Batch, Cache, Decoder, Layer, Sizes,
    adapter::{self, Adapted},
    experts::{self, ExpertSaves, ExpertWork},
};
use crate::backend::{Backend, CachedRows, Columns, Layout, Role, RopeTable};

/// Working memory of a forward pass over at most `tokens` tokens.
pub(super) struct ForwardWork<B: Backend> {
    tokens: usize,
    /// Residual stream, `[T, H]`; after the last layer's attention only the picked rows, `[R, H]`.
    pub(super) x: B::Buffer,
    /// Normed rows, then activations.
    pub(super) input: B::Operand,
    /// `[T, (heads + 2·kv_heads)·head_dim]`.
    qkv: B::Buffer,
    /// `[T, heads·head_dim]`, with room to change places with `qkv`.
    attended: B::Buffer,
    /// `[T, 2·I]`, or without a gate `[T, I]`.
    gate_up: B::Compact,
    /// The same before it is rounded, where a bias or an adapter is still to be added.
    wide: B::Buffer,
    /// What a half of a layer adds, before it is normed, `[T, H]`.
    branch: B::Buffer,
    /// Normed picked rows, `[R, H]`.
    pub(super) hidden: B::Buffer,
    /// `A·x` of adapters.
    inner: B::Buffer,
    inner_operand: B::Operand,
    pub(super) experts: ExpertWork<B>,
}

/// What the backward pass needs of one layer.
pub(super) struct LayerSaves<B: Backend> {
    /// Residual stream between the layer's halves, `[T, H]`.
    pub(super) middle: B::Buffer,
    /// QKV before heads are normed, where they are, `[T, qkv_width]`.
    pub(super) unnormed: B::Compact,
    /// Rotated QKV, `[T, qkv_width]`.
    pub(super) qkv: B::Compact,
    /// What attention and the feed-forward block add, before it is normed, where it is, `[T, H]`.
    pub(super) attention_out: B::Buffer,
    pub(super) mlp_out: B::Buffer,
    /// The attention's output, as the weight gradient reads it.
    pub(super) attended: B::Operand,
    /// Gate and up, `[T, 2·I]`.
    pub(super) gate_up: B::Compact,
    /// `A·x` of the four groups of adapters, `[T, inner]`.
    pub(super) inner: [B::Buffer; 4],
    /// What the four groups give before their magnitudes, `[T, outputs]`, where they have some.
    pub(super) outputs: [B::Buffer; 4],
    /// In place of gate and up, where the layer has experts.
    pub(super) experts: ExpertSaves<B>,
}

impl<B: Backend> LayerSaves<B> {
    /// Where group `n` of the adapters leaves what its backward pass needs.
    fn adapted(&mut self, n: usize) -> (&mut B::Buffer, Option<&mut B::Buffer>) {
        (&mut self.inner[n], Some(&mut self.outputs[n]))
    }
}

/// What attention looks at.
pub(super) enum Attend<'a, B: Backend> {
    /// The batch itself.
    Packed(&'a Layout),
    /// A cache, after the batch's keys and values have been added to it.
    Cached(&'a mut Cache<B>, &'a [CachedRows]),
}

/// Grows a buffer; its contents are lost when it does.
pub(super) fn ensure<B: Backend>(backend: &B, buffer: &mut B::Buffer, length: usize) {
    if backend.length(buffer) < length {
        *buffer = backend.buffer(length);
    }
}

impl<B: Backend> ForwardWork<B> {
    pub(super) fn new(backend: &B, role: Role) -> Self {
        let empty = || backend.buffer(0);
        Self {
            tokens: 0,
            x: empty(),
            input: backend.operand(role),
            qkv: empty(),
            attended: empty(),
            gate_up: backend.compact(),
            wide: empty(),
            branch: empty(),
            hidden: empty(),
            inner: empty(),
            inner_operand: backend.operand(role),
            experts: ExpertWork::new(backend),
        }
    }

    fn reserve(
        &mut self,
        backend: &B,
        sizes: &Sizes,
        adapters: Option<&Adapters<B>>,
        tokens: usize,
    ) {
        if tokens > self.tokens {
            self.tokens = tokens;
            ensure(backend, &mut self.x, tokens * sizes.hidden);
            ensure(backend, &mut self.hidden, tokens * sizes.hidden);
            ensure(backend, &mut self.qkv, tokens * sizes.heads.qkv_width());
            ensure(
                backend,
                &mut self.attended,
                tokens * sizes.heads.qkv_width(),
            );
            if sizes.family.names.attention_out_norm.is_some() {
                ensure(backend, &mut self.branch, tokens * sizes.hidden);
            }
        }
        if let Some(adapters) = adapters {
            ensure(backend, &mut self.inner, tokens * 3 * adapters.spec.rank);
        }
    }
}

impl<B: Backend> ForwardWork<B> {
    /// Goes on with the picked rows alone, of the residual stream and of the attention's output.
    fn keep_picked(&mut self, backend: &mut B, sizes: &Sizes, picked: &[usize]) {
        backend.gather(&self.x, picked, sizes.hidden, &mut self.hidden);
        std::mem::swap(&mut self.x, &mut self.hidden);
        backend.gather(
            &self.attended,
            picked,
            sizes.heads.query_width(),
            &mut self.qkv,
        );
        std::mem::swap(&mut self.attended, &mut self.qkv);
    }
}

impl<B: Backend> LayerSaves<B> {
    fn new(backend: &B) -> Self {
        Self {
            middle: backend.buffer(0),
            unnormed: backend.compact(),
            qkv: backend.compact(),
            attention_out: backend.buffer(0),
            mlp_out: backend.buffer(0),
            attended: backend.operand(Role::WeightGradient),
            gate_up: backend.compact(),
            inner: std::array::from_fn(|_| backend.buffer(0)),
            outputs: std::array::from_fn(|_| backend.buffer(0)),
            experts: ExpertSaves::new(backend),
        }
    }

    fn reserve(
        &mut self,
        backend: &B,
        sizes: &Sizes,
        adapters: Option<&Adapters<B>>,
        tokens: usize,
    ) {
        ensure(backend, &mut self.middle, tokens * sizes.hidden);
        if sizes.family.names.attention_out_norm.is_some() {
            ensure(backend, &mut self.attention_out, tokens * sizes.hidden);
            ensure(backend, &mut self.mlp_out, tokens * sizes.hidden);
        }
        if let Some(adapters) = adapters {
            for inner in &mut self.inner {
                ensure(backend, inner, tokens * 3 * adapters.spec.rank);
            }
        }
    }
}

impl<B: Backend> Decoder<B> {
    /// Runs a packed batch and leaves the normed picked rows in `hidden` `[R, H]`. With `keep`, everything that the backward pass needs is kept.
    pub(super) fn run_packed(&mut self, batch: &Batch, keep: bool) {
        let (layers, backend) = (self.sizes.layers, &self.backend);
        let kept = if self.checkpoints { 1 } else { layers };
        if keep && self.saves.len() != kept {
            self.inputs = (0..layers).map(|_| backend.buffer(0)).collect();
            self.saves = (0..kept).map(|_| LayerSaves::new(backend)).collect();
        }
        self.run(
            &batch.ids,
            &batch.positions,
            &batch.picked,
            keep,
            &mut Attend::Packed(&batch.layout),
        );
    }

    /// Runs new tokens of several sequences against the cache: `sequences[i] = (slot, ids)`. Hidden rows of the last token of each are left in `hidden`.
    pub(super) fn run_cached(&mut self, sequences: &[(usize, &[u32])], cache: &mut Cache<B>) {
        let (mut ids, mut positions, mut rows, mut picked) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (slot, new) in sequences {
            let past = cache.past[*slot];
            rows.push(CachedRows {
                start: ids.len(),
                rows: new.len(),
                slot: slot * cache.capacity,
                past,
            });
            ids.extend_from_slice(new);
            positions.extend((past..past + new.len()).map(|p| p as u32));
            picked.push(ids.len() - 1);
        }
        self.run(
            &ids,
            &positions,
            &picked,
            false,
            &mut Attend::Cached(cache, &rows),
        );
        for (slot, new) in sequences {
            cache.past[*slot] += new.len();
        }
    }

    fn run(
        &mut self,
        ids: &[u32],
        positions: &[u32],
        picked: &[usize],
        keep: bool,
        attend: &mut Attend<'_, B>,
    ) {
        let first = self.first_layer();
        self.refresh_norms();
        let Self {
            backend,
            weights,
            adapters,
            sizes,
            ropes,
            forward,
            inputs,
            saves,
            checkpoints,
            ..
        } = self;
        let (tokens, h) = (ids.len(), sizes.hidden);
        let adapters = adapters.as_ref();
        forward.reserve(backend, sizes, adapters, tokens.max(picked.len()));
        ropes.reserve(positions.iter().max().map_or(0, |p| *p as usize + 1));
        let table = &weights.embedding;
        let scale = sizes.embedding_scale;
        backend.embed(ids, table, &weights.flat, scale, &mut forward.x);
        for (n, layer) in weights.layers.iter().enumerate() {
            let keep = keep && n >= first;
            if keep {
                ensure(backend, &mut inputs[n], tokens * h);
                backend.copy(&forward.x, tokens * h, &mut inputs[n]);
            }
            let saves = saves.get_mut(n).filter(|_| keep && !*checkpoints);
            let run = LayerRun {
                layer,
                n,
                flat: &weights.flat,
                adapters,
                sizes,
                rope: ropes.of(layer.window),
                positions,
                picked,
            };
            run.forward(backend, forward, saves, attend);
        }
        backend.norm_rows(
            &forward.x,
            picked.len(),
            h,
            &weights.flat,
            &sizes.norm_at(weights.final_norm),
            &mut forward.hidden,
            false,
        );
    }

    /// Normed hidden rows of the picked tokens, `[R, H]`, on the host.
    pub fn hidden_rows(&mut self, batch: &Batch) -> Vec<f32> {
        self.run_packed(batch, false);
        let mut out = vec![0.0; batch.picked.len() * self.sizes.hidden];
        self.backend.download(&self.forward.hidden, 0, &mut out);
        out
    }

    /// Calls `visit(i, logits)` for each picked row i of the batch, from any thread.
    pub fn logits(&mut self, batch: &Batch, visit: &(dyn Fn(usize, &[f32]) + Sync)) {
        self.run_packed(batch, false);
        self.visit_head(batch.picked.len(), visit);
    }

    /// Calls `visit(i, logits)` for each row i of hidden rows `[R, H]` as [`Decoder::hidden_rows`] gives them, from any thread.
    pub fn head_rows(&mut self, hidden: &[f32], visit: &(dyn Fn(usize, &[f32]) + Sync)) {
        ensure(&self.backend, &mut self.forward.hidden, hidden.len());
        self.backend.upload(hidden, &mut self.forward.hidden, 0);
        self.visit_head(hidden.len() / self.sizes.hidden, visit);
    }

    /// Adds tokens to cached sequences, `(slot, new ids)` each, and visits the logits after the last token of each.
    ///
    /// # Panics
    /// If a sequence outgrows the cache's capacity.
    pub fn extend(
        &mut self,
        sequences: &[(usize, &[u32])],
        cache: &mut Cache<B>,
        visit: &(dyn Fn(usize, &[f32]) + Sync),
    ) {
        assert!(
            sequences
                .iter()
                .all(|(slot, ids)| cache.past[*slot] + ids.len() <= cache.capacity),
            "the cache is full"
        );
        self.run_cached(sequences, cache);
        self.visit_head(sequences.len(), visit);
    }

    fn visit_head(&mut self, rows: usize, visit: &(dyn Fn(usize, &[f32]) + Sync)) {
        let Self {
            backend,
            weights,
            sizes,
            forward,
            ..
        } = self;
        let (hidden, head, flat) = (&forward.hidden, weights.head(), &weights.flat);
        backend.head_rows(hidden, rows, head, flat, sizes.softcap, visit);
    }
}

/// A pass of a batch through one layer.
pub(super) struct LayerRun<'a, B: Backend> {
    pub(super) layer: &'a Layer<B>,
    /// Its number.
    pub(super) n: usize,
    pub(super) flat: &'a B::Buffer,
    pub(super) adapters: Option<&'a Adapters<B>>,
    pub(super) sizes: &'a Sizes,
    pub(super) rope: &'a RopeTable,
    pub(super) positions: &'a [u32],
    /// The rows that go on behind the last layer's attention.
    pub(super) picked: &'a [usize],
}

impl<B: Backend> LayerRun<'_, B> {
    /// Takes `work.x` from before the layer to behind it.
    pub(super) fn forward(
        &self,
        backend: &mut B,
        work: &mut ForwardWork<B>,
        mut saves: Option<&mut LayerSaves<B>>,
        attend: &mut Attend<'_, B>,
    ) {
        let Self {
            layer,
            n,
            flat,
            adapters,
            sizes,
            picked,
            ..
        } = *self;
        let tokens = self.positions.len();
        if let Some(saves) = saves.as_deref_mut() {
            saves.reserve(backend, sizes, adapters, tokens.max(picked.len()));
        }
        attention_part(
            backend,
            layer,
            n,
            flat,
            adapters,
            sizes,
            (self.rope, self.positions),
            work,
            saves.as_deref_mut(),
            attend,
        );
        let rows = if n + 1 < sizes.layers {
            tokens
        } else {
            work.keep_picked(backend, sizes, picked);
            picked.len()
        };
        // Side by side the feed-forward block comes first, while x is still what it was.
        if !sizes.parallel {
            let saves = saves.as_deref_mut();
            output_part(backend, layer, n, flat, adapters, sizes, rows, work, saves);
        }
        if let Some(saves) = saves.as_deref_mut() {
            backend.copy(&work.x, rows * sizes.hidden, &mut saves.middle);
        }
        let mlp_saves = saves.as_deref_mut();
        mlp_part(
            backend, layer, n, flat, adapters, sizes, rows, work, mlp_saves,
        );
        if sizes.parallel {
            output_part(backend, layer, n, flat, adapters, sizes, rows, work, saves);
        }
    }
}

#[allow(clippy::too_many_arguments)]
fn attention_part<B: Backend>(
    backend: &mut B,
    layer: &Layer<B>,
    n: usize,
    flat: &B::Buffer,
    adapters: Option<&Adapters<B>>,
    sizes: &Sizes,
    (rope, positions): (&RopeTable, &[u32]),
    work: &mut ForwardWork<B>,
    mut saves: Option<&mut LayerSaves<B>>,
    attend: &mut Attend<'_, B>,
) {
    let (tokens, h) = (positions.len(), sizes.hidden);
    let heads = sizes.heads.with_window(layer.window);
    let width = heads.qkv_width();

    let norm = sizes.norm_at(layer.attention_norm);
    backend.norm(&work.x, tokens, h, flat, &norm, &mut work.input);
    backend.linear(
        &work.input,
        &layer.qkv,
        flat,
        &mut work.qkv,
        Columns::all(width),
        false,
    );
    if let Some(group) = adapters.and_then(|a| a.group(n, |l| l.qkv.as_ref())) {
        let inner = saves
            .as_deref_mut()
            .map_or((&mut work.inner, None), |s| s.adapted(0));
        adapter::forward(
            backend,
            group,
            tokens,
            &work.input,
            &mut work.inner_operand,
            inner,
            &mut work.qkv,
        );
    }
    if let Some(bias) = layer.qkv_bias {
        backend.add_bias(&mut work.qkv, tokens, width, flat, bias);
    }
    if let Some(weight) = layer.head_norms {
        let kept = saves.as_deref_mut().map(|s| &mut s.unnormed);
        let norm = sizes.norm_at(weight);
        backend.head_norms(&mut work.qkv, tokens, &heads, flat, &norm, kept);
    }
    backend.rope(
        &mut work.qkv,
        positions,
        &heads,
        rope,
        saves.map(|s| &mut s.qkv),
    );
    match attend {
        Attend::Packed(layout) => backend.attention(&work.qkv, layout, &heads, &mut work.attended),
        Attend::Cached(cache, rows) => backend.attention_cached(
            &work.qkv,
            &mut cache.layers[n],
            rows,
            &heads,
            &mut work.attended,
        ),
    }
}

#[allow(clippy::too_many_arguments)]
fn output_part<B: Backend>(
    backend: &mut B,
    layer: &Layer<B>,
    n: usize,
    flat: &B::Buffer,
    adapters: Option<&Adapters<B>>,
    sizes: &Sizes,
    tokens: usize,
    work: &mut ForwardWork<B>,
    mut saves: Option<&mut LayerSaves<B>>,
) {
    let query = sizes.heads.query_width();

    let mut operands = vec![&mut work.input];
    operands.extend(saves.as_deref_mut().map(|s| &mut s.attended));
    backend.operand_from(
        &work.attended,
        tokens,
        query,
        Columns::all(query),
        1.0,
        &mut operands,
    );
    let map = Added {
        weight: &layer.o,
        bias: layer.o_bias,
        norm: layer.attention_out_norm,
        group: adapters.and_then(|a| a.group(n, |l| l.o.as_ref())),
    };
    let kept = saves.map(|s| Kept {
        inner: &mut s.inner[1],
        output: &mut s.outputs[1],
        branch: &mut s.attention_out,
    });
    add(backend, &map, flat, sizes, tokens, work, kept);
}

#[allow(clippy::too_many_arguments)]
fn mlp_part<B: Backend>(
    backend: &mut B,
    layer: &Layer<B>,
    n: usize,
    flat: &B::Buffer,
    adapters: Option<&Adapters<B>>,
    sizes: &Sizes,
    tokens: usize,
    work: &mut ForwardWork<B>,
    mut saves: Option<&mut LayerSaves<B>>,
) {
    if let Some((router, _)) = &layer.router {
        let saves = saves.map(|s| &mut s.experts);
        experts::forward(backend, layer, router, flat, sizes, tokens, work, saves);
        return;
    }
    let (h, i) = (sizes.hidden, sizes.intermediate);
    let width = sizes.gate.inputs(i);
    let mlp = &layer.mlps[0];

    let norm = sizes.norm_at(layer.mlp_norm);
    backend.norm(&work.x, tokens, h, flat, &norm, &mut work.input);
    let (gate_up, inner) = match saves.as_deref_mut() {
        Some(LayerSaves {
            gate_up,
            inner,
            outputs,
            ..
        }) => (gate_up, (&mut inner[2], Some(&mut outputs[2]))),
        None => (&mut work.gate_up, (&mut work.inner, None)),
    };
    let group = adapters.and_then(|a| a.group(n, |l| l.gate_up.as_ref()));
    if mlp.gate_up_bias.is_none() && group.is_none() {
        backend.linear_compact(&work.input, &mlp.gate_up, flat, gate_up);
    } else {
        let wide = &mut work.wide;
        ensure(backend, wide, tokens * width);
        let columns = Columns::all(width);
        backend.linear(&work.input, &mlp.gate_up, flat, wide, columns, false);
        if let Some(group) = group {
            let operand = &mut work.inner_operand;
            adapter::forward(backend, group, tokens, &work.input, operand, inner, wide);
        }
        if let Some(bias) = mlp.gate_up_bias {
            backend.add_bias(wide, tokens, width, flat, bias);
        }
        backend.round(wide, tokens, width, gate_up);
    }
    backend.activate(gate_up, tokens, i, sizes.gate, &mut work.input);
    let map = Added {
        weight: &mlp.down,
        bias: mlp.down_bias,
        norm: layer.mlp_out_norm,
        group: adapters.and_then(|a| a.group(n, |l| l.down.as_ref())),
    };
    let kept = saves.map(|s| Kept {
        inner: &mut s.inner[3],
        output: &mut s.outputs[3],
        branch: &mut s.mlp_out,
    });
    add(backend, &map, flat, sizes, tokens, work, kept);
}

/// The linear map at the end of a half of a layer, and what is done to its output before that is added to the residual stream.
struct Added<'a, B: Backend> {
    weight: &'a B::Weight,
    bias: Option<usize>,
    norm: Option<usize>,
    group: Option<Adapted<'a, B>>,
}

/// Where the backward pass finds what [`add`] computes on the way.
struct Kept<'a, B: Backend> {
    inner: &'a mut B::Buffer,
    output: &'a mut B::Buffer,
    branch: &'a mut B::Buffer,
}

/// `x += norm(W·input + b)`, `[T, H]`, with adapters and norm where there are any.
fn add<B: Backend>(
    backend: &mut B,
    map: &Added<'_, B>,
    flat: &B::Buffer,
    sizes: &Sizes,
    tokens: usize,
    work: &mut ForwardWork<B>,
    kept: Option<Kept<'_, B>>,
) {
    let h = sizes.hidden;
    let (inner, branch) = match kept {
        Some(kept) => ((kept.inner, Some(kept.output)), kept.branch),
        None => ((&mut work.inner, None), &mut work.branch),
    };
    // Magnitudes scale what the map gives, not the residual stream.
    let apart = map
        .group
        .is_some_and(|(group, ..)| group.magnitudes.is_some());
    let y = match (map.norm, apart) {
        (Some(_), _) => &mut *branch,
        (None, true) => {
            ensure(backend, &mut work.wide, tokens * h);
            &mut work.wide
        }
        (None, false) => &mut work.x,
    };
    let onto = map.norm.is_none() && !apart;
    backend.linear(&work.input, map.weight, flat, y, Columns::all(h), onto);
    if let Some(group) = map.group {
        let operand = &mut work.inner_operand;
        adapter::forward(backend, group, tokens, &work.input, operand, inner, y);
    }
    if let Some(bias) = map.bias {
        backend.add_bias(y, tokens, h, flat, bias);
    }
    if let Some(weight) = map.norm {
        let norm = sizes.norm_at(weight);
        backend.norm_rows(branch, tokens, h, flat, &norm, &mut work.x, true);
    } else if apart {
        backend.add(&work.wide, tokens * h, &mut work.x);
    }
}
