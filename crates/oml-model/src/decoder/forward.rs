//! The forward pass: packed batches for scoring and training, cached rows for generation.

use super::{Adapters, Batch, Cache, Decoder, Layer, Sizes, adapter};
use crate::backend::{Backend, CachedRows, Columns, Layout, Role, RopeTable};

/// Working memory of a forward pass over at most `tokens` tokens.
pub(super) struct ForwardWork<B: Backend> {
    tokens: usize,
    /// Residual stream, `[T, H]`; after the last layer's attention only the picked rows, `[R, H]`.
    pub(super) x: B::Buffer,
    /// Normed rows, then activations.
    input: B::Operand,
    /// `[T, (heads + 2·kv_heads)·head_dim]`.
    qkv: B::Buffer,
    /// `[T, heads·head_dim]`, with room to change places with `qkv`.
    attended: B::Buffer,
    /// `[T, 2·I]`.
    gate_up: B::Compact,
    /// The same before it is rounded, where a bias or an adapter is still to be added.
    wide: B::Buffer,
    /// Normed picked rows, `[R, H]`.
    pub(super) hidden: B::Buffer,
    /// `A·x` of adapters.
    inner: B::Buffer,
    inner_operand: B::Operand,
}

/// What the backward pass needs of one layer.
pub(super) struct LayerSaves<B: Backend> {
    /// Residual stream before the layer and between its halves, `[T, H]`.
    pub(super) x: B::Buffer,
    pub(super) middle: B::Buffer,
    /// Rotated QKV, `[T, qkv_width]`.
    pub(super) qkv: B::Compact,
    /// The attention's output, as the weight gradient reads it.
    pub(super) attended: B::Operand,
    /// Gate and up, `[T, 2·I]`.
    pub(super) gate_up: B::Compact,
    /// `A·x` of the four groups of adapters, `[T, inner]`.
    pub(super) inner: [B::Buffer; 4],
    /// What the four groups give before their magnitudes, `[T, outputs]`, where they have some.
    pub(super) outputs: [B::Buffer; 4],
}

impl<B: Backend> LayerSaves<B> {
    /// Where group `n` of the adapters leaves what its backward pass needs.
    fn adapted(&mut self, n: usize) -> (&mut B::Buffer, Option<&mut B::Buffer>) {
        (&mut self.inner[n], Some(&mut self.outputs[n]))
    }
}

/// What attention looks at.
enum Attend<'a, B: Backend> {
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
            hidden: empty(),
            inner: empty(),
            inner_operand: backend.operand(role),
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
            x: backend.buffer(0),
            middle: backend.buffer(0),
            qkv: backend.compact(),
            attended: backend.operand(Role::WeightGradient),
            gate_up: backend.compact(),
            inner: std::array::from_fn(|_| backend.buffer(0)),
            outputs: std::array::from_fn(|_| backend.buffer(0)),
        }
    }

    fn reserve(
        &mut self,
        backend: &B,
        sizes: &Sizes,
        adapters: Option<&Adapters<B>>,
        tokens: usize,
    ) {
        ensure(backend, &mut self.x, tokens * sizes.hidden);
        ensure(backend, &mut self.middle, tokens * sizes.hidden);
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
        if keep && self.saves.is_empty() {
            self.saves = (0..self.sizes.layers)
                .map(|_| LayerSaves::new(&self.backend))
                .collect();
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
            rope,
            forward,
            saves,
            ..
        } = self;
        let (tokens, h) = (ids.len(), sizes.hidden);
        let adapters = adapters.as_ref();
        forward.reserve(backend, sizes, adapters, tokens.max(picked.len()));
        rope.reserve(positions.iter().max().map_or(0, |p| *p as usize + 1));
        backend.embed(ids, &weights.embedding, &weights.flat, &mut forward.x);
        for (n, layer) in weights.layers.iter().enumerate() {
            let mut saves = saves.get_mut(n).filter(|_| keep && n >= first);
            if let Some(saves) = saves.as_deref_mut() {
                saves.reserve(backend, sizes, adapters, tokens.max(picked.len()));
                backend.copy(&forward.x, tokens * h, &mut saves.x);
            }
            attention_part(
                backend,
                layer,
                n,
                &weights.flat,
                adapters,
                sizes,
                (rope, positions),
                forward,
                saves.as_deref_mut(),
                attend,
            );
            let rows = if n + 1 < sizes.layers {
                tokens
            } else {
                forward.keep_picked(backend, sizes, picked);
                picked.len()
            };
            output_part(
                backend,
                layer,
                n,
                &weights.flat,
                adapters,
                sizes,
                rows,
                forward,
                saves.as_deref_mut(),
            );
            if let Some(saves) = saves.as_deref_mut() {
                backend.copy(&forward.x, rows * h, &mut saves.middle);
            }
            mlp_part(
                backend,
                layer,
                n,
                &weights.flat,
                adapters,
                sizes,
                rows,
                forward,
                saves,
            );
        }
        backend.rms_norm_rows(
            &forward.x,
            picked.len(),
            h,
            &weights.flat,
            weights.final_norm,
            sizes.eps,
            &mut forward.hidden,
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
            forward,
            ..
        } = self;
        backend.head_rows(&forward.hidden, rows, weights.head(), &weights.flat, visit);
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
    let width = sizes.heads.qkv_width();

    backend.rms_norm(
        &work.x,
        tokens,
        h,
        flat,
        layer.input_norm,
        sizes.eps,
        &mut work.input,
    );
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
    backend.rope(
        &mut work.qkv,
        positions,
        &sizes.heads,
        rope,
        saves.map(|s| &mut s.qkv),
    );
    match attend {
        Attend::Packed(layout) => {
            backend.attention(&work.qkv, layout, &sizes.heads, &mut work.attended)
        }
        Attend::Cached(cache, rows) => backend.attention_cached(
            &work.qkv,
            &mut cache.layers[n],
            rows,
            &sizes.heads,
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
    let (h, query) = (sizes.hidden, sizes.heads.query_width());

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
    let group = adapters.and_then(|a| a.group(n, |l| l.o.as_ref()));
    // Magnitudes scale what the map gives, not the residual stream.
    let apart = group.is_some_and(|(group, ..)| group.magnitudes.is_some());
    let y = if apart {
        ensure(backend, &mut work.wide, tokens * h);
        &mut work.wide
    } else {
        &mut work.x
    };
    let all = Columns::all(h);
    backend.linear(&work.input, &layer.o, flat, y, all, !apart);
    if let Some(group) = group {
        let inner = saves.map_or((&mut work.inner, None), |s| s.adapted(1));
        adapter::forward(
            backend,
            group,
            tokens,
            &work.input,
            &mut work.inner_operand,
            inner,
            y,
        );
    }
    if apart {
        backend.add(&work.wide, tokens * h, &mut work.x);
    }
    if let Some(bias) = layer.o_bias {
        backend.add_bias(&mut work.x, tokens, h, flat, bias);
    }
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
    let (h, i) = (sizes.hidden, sizes.intermediate);

    backend.rms_norm(
        &work.x,
        tokens,
        h,
        flat,
        layer.post_norm,
        sizes.eps,
        &mut work.input,
    );
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
    if layer.gate_up_bias.is_none() && group.is_none() {
        backend.linear_compact(&work.input, &layer.gate_up, flat, gate_up);
    } else {
        let wide = &mut work.wide;
        ensure(backend, wide, tokens * 2 * i);
        let columns = Columns::all(2 * i);
        backend.linear(&work.input, &layer.gate_up, flat, wide, columns, false);
        if let Some(group) = group {
            let operand = &mut work.inner_operand;
            adapter::forward(backend, group, tokens, &work.input, operand, inner, wide);
        }
        if let Some(bias) = layer.gate_up_bias {
            backend.add_bias(wide, tokens, 2 * i, flat, bias);
        }
        backend.round(wide, tokens, 2 * i, gate_up);
    }
    backend.swiglu(gate_up, tokens, i, &mut work.input);
    let group = adapters.and_then(|a| a.group(n, |l| l.down.as_ref()));
    // Magnitudes scale what the map gives, not the residual stream.
    let apart = group.is_some_and(|(group, ..)| group.magnitudes.is_some());
    let y = if apart {
        ensure(backend, &mut work.wide, tokens * h);
        &mut work.wide
    } else {
        &mut work.x
    };
    let all = Columns::all(h);
    backend.linear(&work.input, &layer.down, flat, y, all, !apart);
    if let Some(group) = group {
        let inner = saves.map_or((&mut work.inner, None), |s| s.adapted(3));
        adapter::forward(
            backend,
            group,
            tokens,
            &work.input,
            &mut work.inner_operand,
            inner,
            y,
        );
    }
    if apart {
        backend.add(&work.wide, tokens * h, &mut work.x);
    }
    if let Some(bias) = layer.down_bias {
        backend.add_bias(&mut work.x, tokens, h, flat, bias);
    }
}
