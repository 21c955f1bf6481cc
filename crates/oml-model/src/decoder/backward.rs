//! The backward pass of one packed batch, layer by layer from the last to the first.
//!
//! Gradients go into one flat buffer of the shape of what is trained: all weights, or the adapters where there are any.

mod linear;
mod sink;

use super::{
    Adapters, Batch, Decoder, Layer, Sizes,
    experts::ExpertWork,
    forward::{Attend, LayerRun, LayerSaves, ensure},
};
use crate::backend::{Backend, Columns, Layout, Role, RopeTable, RowLoss, Teacher, Upstream};
pub(super) use linear::linear_backward;
use linear::{adapter_backward, before_magnitudes, magnitude_backward};
use sink::{Places, Sink};

/// Working memory of a backward pass.
pub(super) struct BackwardWork<B: Backend> {
    /// Gradient of the residual stream, `[T, H]`; above the last layer's attention `[R, H]`.
    pub(super) dx: B::Buffer,
    /// Gradient of what a half of a layer adds before it is normed, where it is, `[T, H]`.
    d_branch: B::Buffer,
    /// Gradient of a norm's output, `[T, H]`.
    pub(super) d_norm: B::Buffer,
    /// Gradient of QKV before rotation, `[T, qkv_width]`.
    d_qkv: B::Buffer,
    /// Gradient of the attention's output, `[T, query_width]`, with room to change places with `d_qkv`.
    d_attended: B::Buffer,
    /// Gradient of gate and up, `[T, 2·I]`, where more than one product reads it.
    pub(super) d_gate_up: B::Buffer,
    /// Gradient of the activation, `[T, I]`.
    pub(super) d_act: B::Buffer,
    /// Gradient of the picked hidden rows, `[R, H]`.
    d_hidden: B::Buffer,
    /// Gradient of `A·x`.
    d_inner: B::Buffer,
    /// Gradient of what a map gives before its magnitudes, where the gradient after them is still needed.
    scaled: B::Buffer,
    /// A linear map's input for its weight gradient.
    pub(super) input: B::Operand,
    inner: B::Operand,
    pub(super) experts: ExpertWork<B>,
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
            experts: ExpertWork::new(backend),
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
            inputs,
            saves,
            trained,
            checkpoints,
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
        backend.clear(&mut work.dx, 0..rows * h);
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
            let rope = ropes.of(layer.window);
            if *checkpoints {
                let run = LayerRun {
                    layer,
                    n,
                    flat: &weights.flat,
                    adapters,
                    sizes,
                    rope,
                    positions: &batch.positions,
                    picked: &batch.picked,
                };
                backend.copy(&inputs[n], tokens * h, &mut forward.x);
                let mut attend = Attend::Packed(&batch.layout);
                run.forward(backend, forward, saves.first_mut(), &mut attend);
            }
            let mut step = LayerBackward {
                backend,
                layer,
                n,
                flat: &weights.flat,
                adapters,
                sizes,
                input: &inputs[n],
                saves: &saves[if *checkpoints { 0 } else { n }],
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
            step.attention(&batch.layout, rope, &batch.positions);
        }
        if sink.whole(embedding, table).is_some() {
            if weights.head.is_some() && !accumulate {
                backend.clear(sink.buffer, 0..table);
            }
            let (ids, scale) = (&batch.ids, sizes.embedding_scale);
            backend.embed_backward(ids, h, &work.dx, scale, sink.buffer, embedding);
        }
        losses
    }
}

pub(super) struct LayerBackward<'a, 'b, B: Backend> {
    pub(super) backend: &'a mut B,
    pub(super) layer: &'a Layer<B>,
    n: usize,
    pub(super) flat: &'a B::Buffer,
    adapters: Option<&'a Adapters<B>>,
    pub(super) sizes: &'a Sizes,
    /// The residual stream before the layer.
    input: &'a B::Buffer,
    pub(super) saves: &'a LayerSaves<B>,
    pub(super) work: &'a mut BackwardWork<B>,
    pub(super) sink: &'a mut Sink<'b, B>,
    pub(super) tokens: usize,
}

impl<B: Backend> LayerBackward<'_, '_, B> {
    /// Backward of `x += norm(branch)` into `d_branch`, where what a half of a layer adds is normed.
    fn out_norm(&mut self, weight: Option<usize>, branch: impl Fn(&LayerSaves<B>) -> &B::Buffer) {
        let Some(weight) = weight else {
            return;
        };
        let (h, tokens) = (self.sizes.hidden, self.tokens);
        let work = &mut *self.work;
        self.backend.clear(&mut work.d_branch, 0..tokens * h);
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
        let layer = self.layer;
        if let Some(router) = &layer.router {
            return self.experts(router);
        }
        let mlp = &layer.mlps[0];
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
        sink.bias(*backend, d_out, tokens, h, mlp.down_bias);
        let group = adapters.and_then(|a| a.group(*n, |l| l.down.as_ref()));
        let (u, scaled) = (&saves.outputs[3], &mut work.scaled);
        let dy = before_magnitudes(*backend, group, tokens, d_out, u, scaled, sink);
        linear_backward(
            *backend,
            (dy, all),
            tokens,
            (&mlp.down, mlp.down_offset),
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
        let trained = sink.rows(mlp.gate_up_offset, width, h);
        let is_whole = trained.first().is_none_or(|rows| rows.count == width);
        let d_input = (&mut work.d_norm, all, false);
        let group = adapters.and_then(|a| a.group(*n, |l| l.gate_up.as_ref()));
        let bias = mlp.gate_up_bias;
        let has_d_bias = bias.is_some_and(|bias| !sink.rows(bias, width, 1).is_empty());
        if is_whole && !has_d_bias && group.is_none() {
            let dy = Upstream::Activated {
                up: &saves.gate_up,
                d_act: &work.d_act,
                gate,
            };
            let d_weight = trained.first().map(|rows| (&work.input, sink.at(rows.at)));
            let d_input = Some(d_input);
            backend.linear_backward(dy, tokens, &mlp.gate_up, flat, d_input, d_weight);
        } else {
            let dy = &mut work.d_gate_up;
            ensure(*backend, dy, tokens * width);
            backend.activate_backward(&saves.gate_up, tokens, i, gate, &work.d_act, dy);
            sink.bias(*backend, dy, tokens, width, bias);
            magnitude_backward(*backend, group, tokens, dy, &saves.outputs[2], sink);
            linear_backward(
                *backend,
                (dy, Columns::all(width)),
                tokens,
                (&mlp.gate_up, mlp.gate_up_offset),
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
            (dy, Columns::all(h)),
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
            input,
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
        backend.norm(input, tokens, h, flat, &norm, &mut work.input);
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
            (&work.d_qkv, Columns::all(width)),
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
            input,
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
