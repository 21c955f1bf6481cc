//! The backward pass of a linear map, with an adapter or without.

use super::super::{adapter::Adapted, forward::ensure, trained::TrainedRows};
use super::sink::Sink;
use crate::backend::{Backend, Columns, Upstream};

/// These columns of a gradient.
pub(in crate::decoder) fn rows<B: Backend>(
    buffer: &B::Buffer,
    columns: Columns,
) -> Upstream<'_, B> {
    Upstream::Rows {
        buffer,
        columns,
        scale: 1.0,
    }
}

/// Backward of `y = W·x`: the input's gradient, and the gradient of the trained ones of W's `outputs` rows.
#[allow(clippy::too_many_arguments)]
pub(in crate::decoder) fn linear_backward<B: Backend>(
    backend: &mut B,
    (dy, columns): (&B::Buffer, Columns),
    tokens: usize,
    (weight, offset): (&B::Weight, usize),
    flat: &B::Buffer,
    d_input: (&mut B::Buffer, Columns, bool),
    x: &B::Operand,
    sink: &mut Sink<'_, B>,
) {
    let [outputs, inputs] = backend.shape(weight);
    let trained = sink.rows(offset, outputs, inputs);
    if let [TrainedRows { count, at, .. }] = trained[..]
        && count == outputs
    {
        let d_weight = Some((x, sink.at(at)));
        let dy = rows(dy, columns);
        backend.linear_backward(dy, tokens, weight, flat, Some(d_input), d_weight);
        return;
    }
    backend.linear_backward(rows(dy, columns), tokens, weight, flat, Some(d_input), None);
    for part in trained {
        let own = backend.weight_at(0, part.count, inputs);
        let own_columns = Columns {
            offset: columns.offset + part.first,
            stride: columns.stride,
        };
        let dy = rows(dy, own_columns);
        let d_weight = Some((x, sink.at(part.at)));
        backend.linear_backward(dy, tokens, &own, flat, None, d_weight);
    }
}

/// Backward of `y += scale · B·(A·x)`: adds to `dx`, and writes the gradients of A and B.
#[allow(clippy::too_many_arguments)]
pub(in crate::decoder) fn adapter_backward<B: Backend>(
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
        rows(d_inner, Columns::all(group.inner)),
        tokens,
        &group.a,
        flat,
        Some((dx, Columns::all(group.inputs), true)),
        Some((x, sink.at(group.a_offset))),
    );
}

/// As [`magnitude_backward`] where `d_out` is still read by others: what it becomes is in `scaled`, or is `d_out` where nothing changes it.
pub(in crate::decoder) fn before_magnitudes<'a, B: Backend>(
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
pub(in crate::decoder) fn magnitude_backward<B: Backend>(
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
