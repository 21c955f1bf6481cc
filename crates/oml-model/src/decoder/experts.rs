//! Layers whose tokens go through the experts that a router chooses (arXiv 2401.04088, section 2.1):
//!
//! ```text
//! x += Σ w_e · D_e · activation(GU_e · norm(x))      over the k experts e with the largest (R · norm(x))_e
//! w  = softmax of these k
//! ```
//! A token and one of its experts are a pair. Pairs lie expert by expert, so that an expert's maps are one product over its pairs.

use super::{
    Layer, Sizes,
    backward::{LayerBackward, linear_backward},
    forward::{ForwardWork, ensure},
};
use crate::backend::{Backend, Columns, Upstream};

/// Which experts each token goes through.
#[derive(Debug, Default, PartialEq)]
struct Routing {
    /// The token of each pair.
    tokens: Vec<usize>,
    /// The weight of each pair.
    weights: Vec<f32>,
    /// The first pair of each expert, then the number of pairs.
    starts: Vec<usize>,
    /// The pairs of each token, `[T, k]`.
    pairs: Vec<usize>,
}

impl Routing {
    /// The `chosen` best experts by logits `[T, experts]`; of equals the first.
    fn new(logits: &[f32], experts: usize, chosen: usize) -> Self {
        let rows = logits.chunks(experts);
        let mut best: Vec<(usize, f32)> = Vec::with_capacity(rows.len() * chosen);
        for row in rows {
            let mut order: Vec<usize> = (0..experts).collect();
            order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
            let order = &order[..chosen];
            let raised = |expert: &usize| (row[*expert] - row[order[0]]).exp();
            let sum: f32 = order.iter().map(raised).sum();
            best.extend(order.iter().map(|expert| (*expert, raised(expert) / sum)));
        }
        let mut starts = vec![0; experts + 1];
        for (expert, _) in &best {
            starts[expert + 1] += 1;
        }
        for expert in 0..experts {
            starts[expert + 1] += starts[expert];
        }
        let mut next = starts.clone();
        let (mut tokens, mut weights) = (vec![0; best.len()], vec![0.0; best.len()]);
        let mut pairs = Vec::with_capacity(best.len());
        for (i, (expert, weight)) in best.into_iter().enumerate() {
            let pair = next[expert];
            next[expert] += 1;
            (tokens[pair], weights[pair]) = (i / chosen, weight);
            pairs.push(pair);
        }
        Self {
            tokens,
            weights,
            starts,
            pairs,
        }
    }

    /// First pair and number of pairs of an expert.
    fn of(&self, expert: usize) -> (usize, usize) {
        let first = self.starts[expert];
        (first, self.starts[expert + 1] - first)
    }

    /// Each token's pairs, with the weight of each or with 1.
    fn sources(&self, weighted: bool) -> Vec<(usize, f32)> {
        let factor = |pair: usize| if weighted { self.weights[pair] } else { 1.0 };
        self.pairs
            .iter()
            .map(|pair| (*pair, factor(*pair)))
            .collect()
    }

    /// The gradient of the logits from that of the pairs' weights.
    fn backward(&self, d_weights: &[f32], experts: usize, chosen: usize) -> Vec<f32> {
        let part = |pair: usize| self.weights[pair] * d_weights[pair];
        let means: Vec<f32> = self
            .pairs
            .chunks(chosen)
            .map(|pairs| pairs.iter().map(|pair| part(*pair)).sum())
            .collect();
        let mut d_logits = vec![0.0; means.len() * experts];
        for expert in 0..experts {
            for pair in self.starts[expert]..self.starts[expert + 1] {
                let token = self.tokens[pair];
                d_logits[token * experts + expert] = part(pair) - self.weights[pair] * means[token];
            }
        }
        d_logits
    }
}

/// Working memory of a pass through experts; P pairs.
pub(super) struct ExpertWork<B: Backend> {
    /// Normed rows, `[T, H]`.
    normed: B::Buffer,
    /// The router's outputs or their gradient, `[T, experts]`.
    logits: B::Buffer,
    /// The normed rows of the pairs, `[P, H]`.
    rows: B::Buffer,
    /// What experts give for them or its gradient, `[P, H]`.
    outputs: B::Buffer,
    /// Gradient of `rows`.
    d_rows: B::Buffer,
    gate_up: B::Compact,
}

/// What the backward pass needs of a layer's experts.
pub(super) struct ExpertSaves<B: Backend> {
    routing: Routing,
    /// Gate and up of each expert's pairs.
    gate_ups: Vec<B::Compact>,
    /// What experts give, before it is weighted, `[P, H]`.
    outputs: B::Buffer,
}

impl<B: Backend> ExpertWork<B> {
    pub(super) fn new(backend: &B) -> Self {
        Self {
            normed: backend.buffer(0),
            logits: backend.buffer(0),
            rows: backend.buffer(0),
            outputs: backend.buffer(0),
            d_rows: backend.buffer(0),
            gate_up: backend.compact(),
        }
    }

    fn reserve(&mut self, backend: &B, sizes: &Sizes, tokens: usize) {
        let pairs = tokens * sizes.experts_per_token;
        ensure(backend, &mut self.normed, tokens * sizes.hidden);
        ensure(backend, &mut self.logits, tokens * sizes.experts);
        ensure(backend, &mut self.rows, pairs * sizes.hidden);
        ensure(backend, &mut self.outputs, pairs * sizes.hidden);
    }
}

impl<B: Backend> ExpertSaves<B> {
    pub(super) fn new(backend: &B) -> Self {
        Self {
            routing: Routing::default(),
            gate_ups: Vec::new(),
            outputs: backend.buffer(0),
        }
    }
}

/// These rows of a buffer `[P, width]`.
fn from_row(row: usize, width: usize) -> Columns {
    Columns {
        offset: row * width,
        stride: width,
    }
}

/// Adds to the residual stream what the experts of its rows give.
#[allow(clippy::too_many_arguments)]
pub(super) fn forward<B: Backend>(
    backend: &mut B,
    layer: &Layer<B>,
    router: &B::Weight,
    flat: &B::Buffer,
    sizes: &Sizes,
    tokens: usize,
    work: &mut ForwardWork<B>,
    saves: Option<&mut ExpertSaves<B>>,
) {
    let (h, i) = (sizes.hidden, sizes.intermediate);
    let (experts, chosen) = (sizes.experts, sizes.experts_per_token);
    let (own, operand) = (&mut work.experts, &mut work.input);
    own.reserve(backend, sizes, tokens);
    let norm = sizes.norm_at(layer.mlp_norm);
    backend.norm_rows(&work.x, tokens, h, flat, &norm, &mut own.normed, false);
    let all = Columns::all(h);
    backend.operand_from(&own.normed, tokens, h, all, 1.0, &mut [&mut *operand]);
    let columns = Columns::all(experts);
    backend.linear(operand, router, flat, &mut own.logits, columns, false);
    let mut logits = vec![0.0; tokens * experts];
    backend.download(&own.logits, 0, &mut logits);
    let routing = Routing::new(&logits, experts, chosen);

    backend.gather(&own.normed, &routing.tokens, h, &mut own.rows);
    let (mut kept, outputs) = match saves {
        Some(ExpertSaves {
            routing: kept,
            gate_ups,
            outputs,
        }) => {
            gate_ups.resize_with(experts, || backend.compact());
            ensure(backend, outputs, tokens * chosen * h);
            (Some((kept, gate_ups)), outputs)
        }
        None => (None, &mut own.outputs),
    };
    for (expert, mlp) in layer.mlps.iter().enumerate() {
        let (first, pairs) = routing.of(expert);
        if pairs == 0 {
            continue;
        }
        let place = from_row(first, h);
        backend.operand_from(&own.rows, pairs, h, place, 1.0, &mut [&mut *operand]);
        let gate_up = match &mut kept {
            Some((_, gate_ups)) => &mut gate_ups[expert],
            None => &mut own.gate_up,
        };
        backend.linear_compact(operand, &mlp.gate_up, flat, gate_up);
        backend.activate(gate_up, pairs, i, sizes.gate, operand);
        backend.linear(operand, &mlp.down, flat, outputs, place, false);
    }
    backend.gather_add(outputs, &routing.sources(true), chosen, h, &mut work.x);
    if let Some((kept, _)) = kept {
        *kept = routing;
    }
}

impl<B: Backend> LayerBackward<'_, '_, B> {
    /// Backward of [`forward`]; `dx` goes from the gradient after it to the gradient before it.
    pub(super) fn experts(&mut self, (router, router_offset): &(B::Weight, usize)) {
        let (h, i, tokens) = (self.sizes.hidden, self.sizes.intermediate, self.tokens);
        let Self {
            backend,
            layer,
            flat,
            sizes,
            saves,
            work,
            sink,
            ..
        } = self;
        let (experts, chosen, gate) = (sizes.experts, sizes.experts_per_token, sizes.gate);
        let width = gate.inputs(i);
        let ExpertSaves {
            routing,
            gate_ups,
            outputs,
        } = &saves.experts;
        let own = &mut work.experts;
        own.reserve(*backend, sizes, tokens);
        let pairs = routing.tokens.len();
        ensure(*backend, &mut own.d_rows, pairs * h);
        let most = (0..experts).map(|e| routing.of(e).1).max().unwrap_or(0);
        ensure(*backend, &mut work.d_act, most * i);

        let norm = sizes.norm_at(layer.mlp_norm);
        backend.norm_rows(
            &saves.middle,
            tokens,
            h,
            flat,
            &norm,
            &mut own.normed,
            false,
        );
        backend.gather(&own.normed, &routing.tokens, h, &mut own.rows);
        backend.gather(&work.dx, &routing.tokens, h, &mut own.outputs);
        let d_weights = backend.row_dots(&own.outputs, outputs, pairs, h);
        backend.scale_rows(&mut own.outputs, h, &routing.weights);

        for (expert, mlp) in layer.mlps.iter().enumerate() {
            let (first, rows) = routing.of(expert);
            let (up, down) = (mlp.gate_up_offset, mlp.down_offset);
            if rows == 0 {
                sink.nothing(*backend, up, [width, h]);
                sink.nothing(*backend, down, [h, i]);
                continue;
            }
            let (place, gate_up) = (from_row(first, h), &gate_ups[expert]);
            backend.activate(gate_up, rows, i, gate, &mut work.input);
            let dy = (&own.outputs, place);
            let d_act = (&mut work.d_act, Columns::all(i), false);
            let weight = (&mlp.down, down);
            linear_backward(*backend, dy, rows, weight, flat, d_act, &work.input, sink);

            let operand = &mut work.input;
            backend.operand_from(&own.rows, rows, h, place, 1.0, &mut [&mut *operand]);
            let trained = sink.rows(up, width, h);
            let d_input = (&mut own.d_rows, place, false);
            if trained.first().is_none_or(|part| part.count == width) {
                let dy = Upstream::Activated {
                    up: gate_up,
                    d_act: &work.d_act,
                    gate,
                };
                let d_weight = trained.first().map(|part| (&*operand, sink.at(part.at)));
                let d_input = Some(d_input);
                backend.linear_backward(dy, rows, &mlp.gate_up, flat, d_input, d_weight);
            } else {
                let dy = &mut work.d_gate_up;
                ensure(*backend, dy, rows * width);
                backend.activate_backward(gate_up, rows, i, gate, &work.d_act, dy);
                let (dy, weight) = ((&*dy, Columns::all(width)), (&mlp.gate_up, up));
                linear_backward(*backend, dy, rows, weight, flat, d_input, operand, sink);
            }
        }

        let d_logits = routing.backward(&d_weights, experts, chosen);
        backend.upload(&d_logits, &mut own.logits, 0);
        let (all, operand) = (Columns::all(h), &mut work.input);
        backend.operand_from(&own.normed, tokens, h, all, 1.0, &mut [&mut *operand]);
        let dy = (&own.logits, Columns::all(experts));
        let weight = (router, *router_offset);
        let d_norm = (&mut work.d_norm, all, false);
        linear_backward(*backend, dy, tokens, weight, flat, d_norm, operand, sink);
        let sources = routing.sources(false);
        backend.gather_add(&own.d_rows, &sources, chosen, h, &mut work.d_norm);
        let d_weight = sink.whole(layer.mlp_norm, h);
        backend.norm_backward(
            &saves.middle,
            tokens,
            h,
            flat,
            &norm,
            &work.d_norm,
            &mut work.dx,
            d_weight,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_lie_expert_by_expert() {
        let logits = [0.0, 3.0, 3.0, 2.0, -1.0, 2.0, f32::NEG_INFINITY, 0.0, -9.0];
        let routing = Routing::new(&logits, 3, 2);
        assert_eq!(routing.starts, [0, 1, 3, 6]);
        assert_eq!(routing.tokens, [1, 0, 2, 0, 1, 2]);
        assert_eq!(routing.pairs, [1, 3, 0, 4, 2, 5]);
        let small = (-9f32).exp() / (1.0 + (-9f32).exp());
        assert_eq!(routing.weights, [0.5, 0.5, 1.0 - small, 0.5, 0.5, small]);
    }

    #[test]
    fn the_logits_gradient_is_that_of_finite_differences() {
        let (logits, chosen, slopes) = ([0.3, -0.2, 0.9, 0.1], 3, [0.7, -1.1, 0.4]);
        let value = |logits: &[f32]| {
            let routing = Routing::new(logits, 4, chosen);
            routing
                .weights
                .iter()
                .zip(slopes)
                .map(|(w, s)| w * s)
                .sum::<f32>()
        };
        let got = Routing::new(&logits, 4, chosen).backward(&slopes, 4, chosen);
        for (n, got) in got.into_iter().enumerate() {
            let (mut up, mut down) = (logits, logits);
            (up[n], down[n]) = (up[n] + 1e-2, down[n] - 1e-2);
            let expected = (value(&up) - value(&down)) / 2e-2;
            assert!((expected - got).abs() < 1e-4, "{n}: {expected}, {got}");
        }
    }
}
