//! The backward pass of one packed batch, layer by layer from the last to the first.
//!
//! Gradients go into one flat buffer of the shape of what is trained: all weights, or the adapters where there are any.

use super::{
    Adapters, Batch, Decoder, Layer, Sizes, Trained,
    adapter::Adapted,
    forward::{LayerSaves, ensure},
    trained::TrainedRows,
};
use crate::backend::{
    Backend, Columns, Layout, Role, RopeTable, RowLoss, Target, Teacher, Upstream,
};

/// Working memory of a backward pass.
pub(super) struct BackwardWork<B: Backend> {
    /// Gradient of the residual stream, `[T, H]`; above the last layer's attention `[R, H]`.
    dx: B::Buffer,
    /// Gradient of what a half of a layer adds before it is normed, where it is, `[T, H]`.
    d_branch: B::Buffer,
    /// Gradient of a norm's output, `[T, H]`.
    d_norm: B::Buffer,
    /// Gradient of QKV before rotation, `[T, qkv_width]`.
    d_qkv: B::Buffer,
    /// Gradient of the attention's output, `[T, query_width]`, with room to change places with `d_qkv`.
    d_attended: B::Buffer,
    /// Gradient of gate and up, `[T, 2·I]`, where more than one product reads it.
    d_gate_up: B::Buffer,
    /// Gradient of the activation, `[T, I]`.
    d_act: B::Buffer,
    /// Gradient of the picked hidden rows, `[R, H]`.
    d_hidden: B::Buffer,
    /// Gradient of `A·x`.
    d_inner: B::Buffer,
    /// Gradient of what a map gives before its magnitudes, where the gradient after them is still needed.
    scaled: B::Buffer,
    /// A linear map's input for its weight gradient.
    input: B::Operand,
    inner: B::Operand,
}

impl<B: Backend> BackwardWork<B> {
    fn new(backend: &B) -> Self {
        let empty = || backend.buffer(0);
        Self {
            dx: empty(),
            d_branch: empty(),
            d_norm: empty(),
            d_qkv: empty(),
            d_attended: empty(),
            d_gate_up: empty(),
            d_act: empty(),
            d_hidden: empty(),
            d_inner: empty(),
            scaled: empty(),
            input: backend.operand(Role::WeightGradient),
            inner: backend.operand(Role::WeightGradient),
        }
    }

    fn reserve(&mut self, backend: &B, sizes: &Sizes, tokens: usize, inner: usize) {
        for (buffer, width) in [
            (&mut self.dx, sizes.hidden),
            (&mut self.d_norm, sizes.hidden),
            (&mut self.d_qkv, sizes.heads.qkv_width()),
            (&mut self.d_attended, sizes.heads.qkv_width()),
            (&mut self.d_act, sizes.intermediate),
            (&mut self.d_hidden, sizes.hidden),
            (&mut self.d_inner, inner),
        ] {
            ensure(backend, buffer, tokens * width);
        }
        if sizes.family.names.attention_out_norm.is_some() {
            ensure(backend, &mut self.d_branch, tokens * sizes.hidden);
        }
    }
}

/// Where gradients go: a flat buffer, whether to add to it, and which of the weights have a place in it.
struct Sink<'a, B: Backend> {
    buffer: &'a mut B::Buffer,
    accumulate: bool,
    weights: Places<'a>,
}

/// The weights that have gradients.
#[derive(Clone, Copy)]
enum Places<'a> {
    All,
    /// Adapters are trained instead.
    None,
    Some(&'a Trained),
}

impl<B: Backend> Sink<'_, B> {
    fn at(&mut self, offset: usize) -> Target<'_, B::Buffer> {
        Target {
            buffer: self.buffer,
            offset,
            accumulate: self.accumulate,
        }
    }

    /// The trained ones of a weight's rows.
    fn rows(&self, offset: usize, rows: usize, width: usize) -> Vec<TrainedRows> {
        match self.weights {
            Places::None => Vec::new(),
            Places::Some(trained) => trained.rows(offset, rows, width).collect(),
            Places::All => vec![TrainedRows {
                first: 0,
                count: rows,
                at: offset,
            }],
        }
    }

    /// The place of a tensor that is trained as a whole or not at all. What a norm has behind its weight is trained with it.
    fn whole(&mut self, offset: usize, length: usize) -> Option<Target<'_, B::Buffer>> {
        let rows = self.rows(offset, length, 1);
        rows.first().map(|rows| self.at(rows.at))
    }

    /// The gradient of the trained ones of `width` biases.
    fn bias(
        &mut self,
        backend: &mut B,
        dy: &B::Buffer,
        tokens: usize,
        width: usize,
        bias: Option<usize>,
    ) {
        let Some(offset) = bias else { return };
        for part in self.rows(offset, width, 1) {
            let columns = Columns {
                offset: part.first,
                stride: width,
            };
            backend.add_bias_backward(dy, tokens, part.count, columns, self.at(part.at));
        }
    }
}

impl<B: Backend> Decoder<B> {
    /// Losses of a batch's objectives, without gradients.
    pub fn losses(&mut self, batch: &Batch, teacher: Option<Teacher<'_, B>>) -> Vec<RowLoss> {
        self.run_packed(batch, false);
        let Self {
            backend,
            weights,
            sizes,
            forward,
            ..
        } = self;
        backend.head_loss(
            &forward.hidden,
            &batch.objectives,
            weights.head(),
            &weights.flat,
            sizes.softcap,
            teacher,
            None,
            None,
        )
    }

    /// Losses of a batch's objectives and the gradient of their weighted sum, written to `gradients` or added where `accumulate`.
    ///
    /// Gradients are those of the adapters where there are any, else those of all weights, in the order of their parameter map.
    ///
    /// # Panics
    /// If the weights are frozen and there are no adapters.
    pub fn losses_and_gradients(
        &mut self,
        batch: &Batch,
        teacher: Option<Teacher<'_, B>>,
        gradients: &mut B::Buffer,
        accumulate: bool,
    ) -> Vec<RowLoss> {
        self.run_packed(batch, true);
        let first = self.first_layer();
        let Self {
            backend,
            weights,
            adapters,
            sizes,
            ropes,
            forward,
            backward,
            saves,
            trained,
        } = self;
        let adapters = adapters.as_ref();
        let work = backward.get_or_insert_with(|| BackwardWork::new(backend));
        let (tokens, h) = (batch.tokens(), sizes.hidden);
        work.reserve(
            backend,
            sizes,
            tokens.max(batch.picked.len()),
            adapters.map_or(0, |a| 3 * a.spec.rank),
        );
        let embedding = 0; // the embedding is the first parameter of the flat buffer
        let mut sink = Sink::<B> {
            buffer: gradients,
            accumulate,
            weights: match (adapters, trained) {
                (Some(_), _) => Places::None,
                (None, Some(trained)) => Places::Some(trained),
                (None, None) => Places::All,
            },
        };

        let head_offset = if weights.head.is_some() {
            let name = format!("{}.weight", sizes.family.names.head);
            weights.map.get(&name).map_or(0, |e| e.offset)
        } else {
            embedding
        };
        let table = sizes.vocabulary * h;
        let d_head = sink.whole(head_offset, table);
        let losses = backend.head_loss(
            &forward.hidden,
            &batch.objectives,
            weights.head(),
            &weights.flat,
            sizes.softcap,
            teacher,
            Some(&mut work.d_hidden),
            d_head,
        );

        let rows = batch.picked.len();
        backend.clear(&mut work.dx, rows * h);
        let d_norm = sink.whole(weights.final_norm, h);
        backend.norm_backward(
            &forward.x,
            rows,
            h,
            &weights.flat,
            &sizes.norm_at(weights.final_norm),
            &work.d_hidden,
            &mut work.dx,
            d_norm,
        );
        for (n, layer) in weights.layers.iter().enumerate().skip(first).rev() {
            let last = n + 1 == sizes.layers;
            let mut step = LayerBackward {
                backend,
                layer,
                n,
                flat: &weights.flat,
                adapters,
                sizes,
                saves: &saves[n],
                work,
                sink: &mut sink,
                tokens: if last { rows } else { tokens },
            };
            if sizes.parallel {
                step.output();
                step.mlp();
            } else {
                step.mlp();
                step.output();
            }
            if last {
                step.spread(&batch.picked, tokens);
            }
            let rope = ropes.of(layer.window);
            step.attention(&batch.layout, rope, &batch.positions);
        }
        if sink.whole(embedding, table).is_some() {
            if weights.head.is_some() && !accumulate {
                backend.clear(sink.buffer, table);
            }
            let (ids, scale) = (&batch.ids, sizes.embedding_scale);
            backend.embed_backward(ids, h, &work.dx, scale, sink.buffer, embedding);
        }
        losses
    }
}

struct LayerBackward<'a, 'b, B: Backend> {
    backend: &'a mut B,
    layer: &'a Layer<B>,
    n: usize,
    flat: &'a B::Buffer,
    adapters: Option<&'a Adapters<B>>,
    sizes: &'a Sizes,
    saves: &'a LayerSaves<B>,
    work: &'a mut BackwardWork<B>,
    sink: &'a mut Sink<'b, B>,
    tokens: usize,
}

impl<B: Backend> LayerBackward<'_, '_, B> {
    /// Backward of `x += norm(branch)` into `d_branch`, where what a half of a layer adds is normed.
    fn out_norm(&mut self, weight: Option<usize>, branch: impl Fn(&LayerSaves<B>) -> &B::Buffer) {
        let Some(weight) = weight else {
            return;
        };
        let (h, tokens) = (self.sizes.hidden, self.tokens);
        let work = &mut *self.work;
        self.backend.clear(&mut work.d_branch, tokens * h);
        self.backend.norm_backward(
            branch(self.saves),
            tokens,
            h,
            self.flat,
            &self.sizes.norm_at(weight),
            &work.dx,
            &mut work.d_branch,
            self.sink.whole(weight, h),
        );
    }

    /// Backward of `x += D · activation(GU · norm(x))`; `dx` goes from the gradient after it to the gradient before it.
    fn mlp(&mut self) {
        self.out_norm(self.layer.mlp_out_norm, |saves| &saves.mlp_out);
        let (h, i, tokens) = (self.sizes.hidden, self.sizes.intermediate, self.tokens);
        let Self {
            backend,
            layer,
            n,
            flat,
            adapters,
            sizes,
            saves,
            work,
            sink,
            ..
        } = self;
        let gate = sizes.gate;
        let width = gate.inputs(i);
        let d_out = match layer.mlp_out_norm {
            Some(_) => &work.d_branch,
            None => &work.dx,
        };

        backend.activate(&saves.gate_up, tokens, i, gate, &mut work.input);
        let all = Columns::all(h);
        sink.bias(*backend, d_out, tokens, h, layer.down_bias);
        let group = adapters.and_then(|a| a.group(*n, |l| l.down.as_ref()));
        let (u, scaled) = (&saves.outputs[3], &mut work.scaled);
        let dy = before_magnitudes(*backend, group, tokens, d_out, u, scaled, sink);
        linear_backward(
            *backend,
            (dy, [h, i]),
            tokens,
            (&layer.down, layer.down_offset),
            flat,
            (&mut work.d_act, Columns::all(i), false),
            &work.input,
            sink,
        );
        if let Some(group) = group {
            let inner = (&mut work.inner, &saves.inner[3], &mut work.d_inner);
            adapter_backward(
                *backend,
                group,
                tokens,
                dy,
                &work.input,
                inner,
                &mut work.d_act,
                sink,
            );
        }
        let norm = sizes.norm_at(layer.mlp_norm);
        backend.norm(&saves.middle, tokens, h, flat, &norm, &mut work.input);
        let trained = sink.rows(layer.gate_up_offset, width, h);
        let is_whole = trained.first().is_none_or(|rows| rows.count == width);
        let d_input = (&mut work.d_norm, all, false);
        let group = adapters.and_then(|a| a.group(*n, |l| l.gate_up.as_ref()));
        let bias = layer.gate_up_bias;
        let has_d_bias = bias.is_some_and(|bias| !sink.rows(bias, width, 1).is_empty());
        if is_whole && !has_d_bias && group.is_none() {
            let dy = Upstream::Activated {
                up: &saves.gate_up,
                d_act: &work.d_act,
                gate,
            };
            let d_weight = trained.first().map(|rows| (&work.input, sink.at(rows.at)));
            let d_input = Some(d_input);
            backend.linear_backward(dy, tokens, &layer.gate_up, flat, d_input, d_weight);
        } else {
            let dy = &mut work.d_gate_up;
            ensure(*backend, dy, tokens * width);
            backend.activate_backward(&saves.gate_up, tokens, i, gate, &work.d_act, dy);
            sink.bias(*backend, dy, tokens, width, bias);
            magnitude_backward(*backend, group, tokens, dy, &saves.outputs[2], sink);
            linear_backward(
                *backend,
                (dy, [width, h]),
                tokens,
                (&layer.gate_up, layer.gate_up_offset),
                flat,
                d_input,
                &work.input,
                sink,
            );
            if let Some(group) = group {
                let inner = (&mut work.inner, &saves.inner[2], &mut work.d_inner);
                adapter_backward(
                    *backend,
                    group,
                    tokens,
                    dy,
                    &work.input,
                    inner,
                    &mut work.d_norm,
                    sink,
                );
            }
        }
        let d_norm = sink.whole(layer.mlp_norm, h);
        backend.norm_backward(
            &saves.middle,
            tokens,
            h,
            flat,
            &norm,
            &work.d_norm,
            &mut work.dx,
            d_norm,
        );
    }

    /// Backward of `x += O · attended`: `dx` stays as it is.
    fn output(&mut self) {
        self.out_norm(self.layer.attention_out_norm, |saves| &saves.attention_out);
        let (h, tokens) = (self.sizes.hidden, self.tokens);
        let query = self.sizes.heads.query_width();
        let Self {
            backend,
            layer,
            n,
            flat,
            adapters,
            saves,
            work,
            sink,
            ..
        } = self;
        let d_out = match layer.attention_out_norm {
            Some(_) => &work.d_branch,
            None => &work.dx,
        };
        sink.bias(*backend, d_out, tokens, h, layer.o_bias);
        let group = adapters.and_then(|a| a.group(*n, |l| l.o.as_ref()));
        let (u, scaled) = (&saves.outputs[1], &mut work.scaled);
        let dy = before_magnitudes(*backend, group, tokens, d_out, u, scaled, sink);
        linear_backward(
            *backend,
            (dy, [h, query]),
            tokens,
            (&layer.o, layer.o_offset),
            flat,
            (&mut work.d_attended, Columns::all(query), false),
            &saves.attended,
            sink,
        );
        if let Some(group) = group {
            let inner = (&mut work.inner, &saves.inner[1], &mut work.d_inner);
            adapter_backward(
                *backend,
                group,
                tokens,
                dy,
                &saves.attended,
                inner,
                &mut work.d_attended,
                sink,
            );
        }
    }

    /// Puts the gradients of the picked rows where these lie among all `tokens` rows of the batch.
    fn spread(&mut self, picked: &[usize], tokens: usize) {
        let Self {
            backend,
            sizes,
            work,
            ..
        } = self;
        let (h, query) = (sizes.hidden, sizes.heads.query_width());
        backend.gather_backward(&work.dx, picked, h, &mut work.d_norm, tokens);
        std::mem::swap(&mut work.dx, &mut work.d_norm);
        let d_attended = &work.d_attended;
        backend.gather_backward(d_attended, picked, query, &mut work.d_qkv, tokens);
        std::mem::swap(&mut work.d_attended, &mut work.d_qkv);
        self.tokens = tokens;
    }

    /// Backward of `x += attention(rope(QKV · norm(x)))`, the gradient of attention's output being known.
    fn attention(&mut self, layout: &Layout, rope: &RopeTable, positions: &[u32]) {
        let (h, tokens) = (self.sizes.hidden, self.tokens);
        let heads = self.sizes.heads.with_window(self.layer.window);
        let width = heads.qkv_width();
        let Self {
            backend,
            layer,
            n,
            flat,
            adapters,
            sizes,
            saves,
            work,
            sink,
            ..
        } = self;
        let all = Columns::all(h);
        backend.attention_backward(
            &saves.qkv,
            layout,
            positions,
            &heads,
            rope,
            &work.d_attended,
            &mut work.d_qkv,
        );
        if let Some(weight) = layer.head_norms {
            backend.head_norms_backward(
                &saves.unnormed,
                tokens,
                &heads,
                flat,
                &sizes.norm_at(weight),
                &mut work.d_qkv,
                sink.whole(weight, sizes.heads.shape.head_dim),
            );
        }

        let norm = sizes.norm_at(layer.attention_norm);
        backend.norm(&saves.x, tokens, h, flat, &norm, &mut work.input);
        sink.bias(*backend, &work.d_qkv, tokens, width, layer.qkv_bias);
        let group = adapters.and_then(|a| a.group(*n, |l| l.qkv.as_ref()));
        magnitude_backward(
            *backend,
            group,
            tokens,
            &mut work.d_qkv,
            &saves.outputs[0],
            sink,
        );
        linear_backward(
            *backend,
            (&work.d_qkv, [width, h]),
            tokens,
            (&layer.qkv, layer.qkv_offset),
            flat,
            (&mut work.d_norm, all, false),
            &work.input,
            sink,
        );
        if let Some(group) = group {
            let inner = (&mut work.inner, &saves.inner[0], &mut work.d_inner);
            adapter_backward(
                *backend,
                group,
                tokens,
                &work.d_qkv,
                &work.input,
                inner,
                &mut work.d_norm,
                sink,
            );
        }
        let d_norm = sink.whole(layer.attention_norm, h);
        backend.norm_backward(
            &saves.x,
            tokens,
            h,
            flat,
            &norm,
            &work.d_norm,
            &mut work.dx,
            d_norm,
        );
    }
}

/// All columns of a gradient of this width.
fn rows<B: Backend>(buffer: &B::Buffer, width: usize) -> Upstream<'_, B> {
    Upstream::Rows {
        buffer,
        columns: Columns::all(width),
        scale: 1.0,
    }
}

/// Backward of `y = W·x`: the input's gradient, and the gradient of the trained ones of W's `outputs` rows.
#[allow(clippy::too_many_arguments)]
fn linear_backward<B: Backend>(
    backend: &mut B,
    (dy, [outputs, inputs]): (&B::Buffer, [usize; 2]),
    tokens: usize,
    (weight, offset): (&B::Weight, usize),
    flat: &B::Buffer,
    d_input: (&mut B::Buffer, Columns, bool),
    x: &B::Operand,
    sink: &mut Sink<'_, B>,
) {
    let trained = sink.rows(offset, outputs, inputs);
    if let [TrainedRows { count, at, .. }] = trained[..]
        && count == outputs
    {
        let d_weight = Some((x, sink.at(at)));
        let dy = rows(dy, outputs);
        backend.linear_backward(dy, tokens, weight, flat, Some(d_input), d_weight);
        return;
    }
    backend.linear_backward(rows(dy, outputs), tokens, weight, flat, Some(d_input), None);
    for part in trained {
        let own = backend.weight_at(0, part.count, inputs);
        let dy = Upstream::Rows {
            buffer: dy,
            columns: Columns {
                offset: part.first,
                stride: outputs,
            },
            scale: 1.0,
        };
        let d_weight = Some((x, sink.at(part.at)));
        backend.linear_backward(dy, tokens, &own, flat, None, d_weight);
    }
}

/// Backward of `y += scale · B·(A·x)`: adds to `dx`, and writes the gradients of A and B.
#[allow(clippy::too_many_arguments)]
fn adapter_backward<B: Backend>(
    backend: &mut B,
    (group, flat, scale): Adapted<'_, B>,
    tokens: usize,
    dy: &B::Buffer,
    x: &B::Operand,
    (operand, inner, d_inner): (&mut B::Operand, &B::Buffer, &mut B::Buffer),
    dx: &mut B::Buffer,
    sink: &mut Sink<'_, B>,
) {
    let rank = group.inner / group.parts.len();
    for part in &group.parts {
        let own = Columns {
            offset: part.inner,
            stride: group.inner,
        };
        let out = Columns {
            offset: part.at,
            stride: group.outputs,
        };
        backend.operand_from(inner, tokens, rank, own, 1.0, &mut [&mut *operand]);
        let dy = Upstream::Rows {
            buffer: dy,
            columns: out,
            scale,
        };
        backend.linear_backward(
            dy,
            tokens,
            &part.b,
            flat,
            Some((d_inner, own, false)),
            Some((operand, sink.at(part.b_offset))),
        );
    }
    backend.linear_backward(
        rows(d_inner, group.inner),
        tokens,
        &group.a,
        flat,
        Some((dx, Columns::all(group.inputs), true)),
        Some((x, sink.at(group.a_offset))),
    );
}

/// As [`magnitude_backward`] where `d_out` is still read by others: what it becomes is in `scaled`, or is `d_out` where nothing changes it.
fn before_magnitudes<'a, B: Backend>(
    backend: &mut B,
    group: Option<Adapted<'_, B>>,
    tokens: usize,
    d_out: &'a B::Buffer,
    u: &B::Buffer,
    scaled: &'a mut B::Buffer,
    sink: &mut Sink<'_, B>,
) -> &'a B::Buffer {
    let Some((own, ..)) = group.filter(|(group, ..)| group.magnitudes.is_some()) else {
        return d_out;
    };
    let length = tokens * own.outputs;
    ensure(backend, scaled, length);
    backend.copy(d_out, length, scaled);
    magnitude_backward(backend, group, tokens, scaled, u, sink);
    scaled
}

/// Backward of `y = m/‖V‖ ⊙ u`, ‖V‖ being a constant: writes the gradient of m, and takes `dy` to the gradient of u. Nothing without magnitudes.
fn magnitude_backward<B: Backend>(
    backend: &mut B,
    group: Option<Adapted<'_, B>>,
    tokens: usize,
    dy: &mut B::Buffer,
    u: &B::Buffer,
    sink: &mut Sink<'_, B>,
) {
    let Some((group, ..)) = group else { return };
    let Some(magnitudes) = &group.magnitudes else {
        return;
    };
    for part in &group.parts {
        let columns = Columns {
            offset: part.at,
            stride: group.outputs,
        };
        let target = sink.at(part.magnitude_offset);
        let norms = &magnitudes.inverse_norms;
        backend.column_dots(dy, u, tokens, part.outputs, columns, norms, target);
    }
    backend.scale_columns(dy, tokens, group.outputs, &magnitudes.factors);
}
