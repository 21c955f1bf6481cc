//! The backward pass of one packed batch, layer by layer from the last to the first.
//!
//! Gradients go into one flat buffer of the shape of what is trained: all weights, or the adapters where there are any.

use super::{
    Adapters, Batch, Decoder, Layer, Sizes,
    adapter::Adapted,
    forward::{LayerSaves, ensure},
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

/// Where gradients go: a flat buffer, and whether to add to it.
struct Sink<'a, B: Backend> {
    buffer: &'a mut B::Buffer,
    accumulate: bool,
}

impl<B: Backend> Sink<'_, B> {
    fn at(&mut self, offset: usize) -> Target<'_, B::Buffer> {
        Target {
            buffer: self.buffer,
            offset,
            accumulate: self.accumulate,
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
        let Self {
            backend,
            weights,
            adapters,
            sizes,
            ropes,
            forward,
            backward,
            saves,
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
        let full = adapters.is_none();
        let embedding = 0; // the embedding is the first parameter of the flat buffer
        let mut sink = Sink::<B> {
            buffer: gradients,
            accumulate,
        };

        let head_offset = if weights.head.is_some() {
            let name = format!("{}.weight", sizes.family.names.head);
            weights.map.get(&name).map_or(0, |e| e.offset)
        } else {
            embedding
        };
        let d_head = full.then(|| sink.at(head_offset));
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
        let d_norm = full.then(|| sink.at(weights.final_norm));
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
        for (n, layer) in weights.layers.iter().enumerate().rev() {
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
        if full {
            if weights.head.is_some() && !accumulate {
                backend.clear(sink.buffer, sizes.vocabulary * h);
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
    /// Offset of a weight's gradient where the weights are trained.
    fn full(&self) -> bool {
        self.adapters.is_none()
    }

    /// Backward of `x += norm(branch)` into `d_branch`, where what a half of a layer adds is normed.
    fn out_norm(&mut self, weight: Option<usize>, branch: impl Fn(&LayerSaves<B>) -> &B::Buffer) {
        let Some(weight) = weight else {
            return;
        };
        let (h, tokens, full) = (self.sizes.hidden, self.tokens, self.full());
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
            full.then(|| self.sink.at(weight)),
        );
    }

    /// Backward of `x += D · activation(GU · norm(x))`; `dx` goes from the gradient after it to the gradient before it.
    fn mlp(&mut self) {
        self.out_norm(self.layer.mlp_out_norm, |saves| &saves.mlp_out);
        let (h, i, tokens, full) = (
            self.sizes.hidden,
            self.sizes.intermediate,
            self.tokens,
            self.full(),
        );
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
        if let (true, Some(bias)) = (full, layer.down_bias) {
            backend.add_bias_backward(d_out, tokens, h, sink.at(bias));
        }
        let d_weight = full.then(|| (&work.input, sink.at(layer.down_offset)));
        backend.linear_backward(
            rows(d_out, h),
            tokens,
            &layer.down,
            flat,
            Some((&mut work.d_act, Columns::all(i), false)),
            d_weight,
        );
        if let Some(group) = adapters.and_then(|a| a.group(*n, |l| l.down.as_ref())) {
            let inner = (&mut work.inner, &saves.inner[3], &mut work.d_inner);
            adapter_backward(
                *backend,
                group,
                tokens,
                d_out,
                &work.input,
                inner,
                &mut work.d_act,
                sink,
            );
        }
        let norm = sizes.norm_at(layer.mlp_norm);
        backend.norm(&saves.middle, tokens, h, flat, &norm, &mut work.input);
        let d_weight = full.then(|| (&work.input, sink.at(layer.gate_up_offset)));
        let d_input = Some((&mut work.d_norm, all, false));
        let group = adapters.and_then(|a| a.group(*n, |l| l.gate_up.as_ref()));
        let bias = layer.gate_up_bias.filter(|_| full);
        if bias.is_none() && group.is_none() {
            let dy = Upstream::Activated {
                up: &saves.gate_up,
                d_act: &work.d_act,
                gate,
            };
            backend.linear_backward(dy, tokens, &layer.gate_up, flat, d_input, d_weight);
        } else {
            let dy = &mut work.d_gate_up;
            ensure(*backend, dy, tokens * width);
            backend.activate_backward(&saves.gate_up, tokens, i, gate, &work.d_act, dy);
            let upstream = rows(dy, width);
            backend.linear_backward(upstream, tokens, &layer.gate_up, flat, d_input, d_weight);
            if let Some(bias) = bias {
                backend.add_bias_backward(dy, tokens, width, sink.at(bias));
            }
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
        let d_norm = full.then(|| sink.at(layer.mlp_norm));
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
        let (h, tokens, full) = (self.sizes.hidden, self.tokens, self.full());
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
        if let (true, Some(bias)) = (full, layer.o_bias) {
            backend.add_bias_backward(d_out, tokens, h, sink.at(bias));
        }
        let d_weight = full.then(|| (&saves.attended, sink.at(layer.o_offset)));
        backend.linear_backward(
            rows(d_out, h),
            tokens,
            &layer.o,
            flat,
            Some((&mut work.d_attended, Columns::all(query), false)),
            d_weight,
        );
        if let Some(group) = adapters.and_then(|a| a.group(*n, |l| l.o.as_ref())) {
            let inner = (&mut work.inner, &saves.inner[1], &mut work.d_inner);
            adapter_backward(
                *backend,
                group,
                tokens,
                d_out,
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
        let (h, tokens, full) = (self.sizes.hidden, self.tokens, self.full());
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
                full.then(|| sink.at(weight)),
            );
        }

        let norm = sizes.norm_at(layer.attention_norm);
        backend.norm(&saves.x, tokens, h, flat, &norm, &mut work.input);
        if let (true, Some(bias)) = (full, layer.qkv_bias) {
            backend.add_bias_backward(&work.d_qkv, tokens, width, sink.at(bias));
        }
        let d_weight = full.then(|| (&work.input, sink.at(layer.qkv_offset)));
        backend.linear_backward(
            rows(&work.d_qkv, width),
            tokens,
            &layer.qkv,
            flat,
            Some((&mut work.d_norm, all, false)),
            d_weight,
        );
        if let Some(group) = adapters.and_then(|a| a.group(*n, |l| l.qkv.as_ref())) {
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
        let d_norm = full.then(|| sink.at(layer.attention_norm));
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
