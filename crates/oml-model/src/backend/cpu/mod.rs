//! The CPU backend: operations of a decoder on `oml-kernels`.
//!
//! Products read packed operands; norms, activations and conversions are fused into the packing. Trainable weights are packed from
//! their f32 masters right before each use (as fast as reading a packed copy, and it saves two copies of the model); frozen weights are packed once.
//! Every reduction has a fixed order, so results do not depend on the number of threads.

mod adafactor;
mod attention;
mod compact;
mod loss;
mod norm;
mod sums;
mod weight;

use std::ops::Range;

use oml_kernels::{
    AdafactorStep, AdamWStep, Floats, Form, Isa, MomentBlock, Packed, Pool, QUANTISED_BLOCK,
    SgdStep, adamw, adamw8bit, dot, for_each_chunk, for_each_chunk2, for_each_chunk3, matmul, pack,
    pack_with, sgd,
};

use super::{
    Backend, CachedRows, Columns, Directions, Factored, Gate, Heads, Layout, Norm, Objective, Role,
    RopeTable, RowLoss, Target, Teacher, Upstream,
};
pub use compact::Compact;
use sums::{add_to, block_sums};
pub use weight::Weight;

/// Rows that one task of a row-wise loop takes.
const ROWS: usize = 16;
/// Elements that one task of an optimizer sweep takes.
const SWEEP: usize = 1 << 16;

/// All cores of one machine.
pub struct Cpu {
    isa: Isa,
    pool: Pool,
    forward_weight: Packed,
    backward_weight: Packed,
    left: Packed,
    left_transposed: Packed,
    right: Packed,
    logits: Floats,
    teacher_logits: Floats,
}

/// Rows packed for products.
pub struct Operand(Packed);

impl Cpu {
    /// A backend on `threads` threads with the given instruction set.
    pub fn new(isa: Isa, threads: usize) -> Self {
        Self {
            isa,
            pool: Pool::new(threads),
            forward_weight: Packed::new(isa, Form::RightTransposed),
            backward_weight: Packed::new(isa, Form::Right),
            left: Packed::new(isa, Form::Left),
            left_transposed: Packed::new(isa, Form::LeftTransposed),
            right: Packed::new(isa, Form::Right),
            logits: Floats::zeroed(0),
            teacher_logits: Floats::zeroed(0),
        }
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Threads in use.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }
}

impl Backend for Cpu {
    type Buffer = Floats;
    type Operand = Operand;
    type Weight = Weight;
    type Compact = Compact;
    type MomentBlocks = Vec<MomentBlock>;

    fn length(&self, buffer: &Floats) -> usize {
        buffer.len()
    }

    fn buffer(&self, length: usize) -> Floats {
        Floats::zeroed(length)
    }

    fn operand(&self, role: Role) -> Operand {
        Operand(Packed::new(
            self.isa,
            match role {
                Role::Forward => Form::Left,
                Role::WeightGradient => Form::Right,
            },
        ))
    }

    fn compact(&self) -> Compact {
        Compact::new(self.isa)
    }

    fn weight_at(&self, offset: usize, outputs: usize, inputs: usize) -> Weight {
        Weight::Trainable {
            offset,
            outputs,
            inputs,
        }
    }

    fn weight_frozen(
        &self,
        values: &[f32],
        outputs: usize,
        inputs: usize,
        directions: Directions,
    ) -> Weight {
        let mut forward = Packed::new(self.isa, Form::RightTransposed);
        let mut backward =
            (directions == Directions::Both).then(|| Packed::new(self.isa, Form::Right));
        let mut targets: Vec<&mut Packed> = vec![&mut forward];
        targets.extend(backward.as_mut());
        pack(&self.pool, values, outputs, inputs, inputs, &mut targets);
        Weight::Frozen { forward, backward }
    }

    fn shape(&self, weight: &Weight) -> [usize; 2] {
        let (outputs, inputs) = weight.shape();
        [outputs, inputs]
    }

    fn upload(&mut self, source: &[f32], target: &mut Floats, offset: usize) {
        target[offset..][..source.len()].copy_from_slice(source);
    }

    fn download(&mut self, source: &Floats, offset: usize, target: &mut [f32]) {
        target.copy_from_slice(&source[offset..][..target.len()]);
    }

    fn embed(
        &mut self,
        ids: &[u32],
        table: &Weight,
        parameters: &Floats,
        scale: f32,
        x: &mut Floats,
    ) {
        let (_, width) = table.shape();
        for_each_chunk(&self.pool, &mut x[..ids.len() * width], width, |t, row| {
            let id = ids[t] as usize;
            match table {
                Weight::Trainable { offset, .. } => {
                    row.copy_from_slice(&parameters[offset + id * width..][..width])
                }
                Weight::Frozen { forward, .. } => forward.row(id, row),
            }
            if scale != 1.0 {
                row.iter_mut().for_each(|x| *x *= scale);
            }
        });
    }

    fn embed_backward(
        &mut self,
        ids: &[u32],
        width: usize,
        dx: &Floats,
        scale: f32,
        gradients: &mut Floats,
        offset: usize,
    ) {
        for (t, id) in ids.iter().enumerate() {
            let row = &mut gradients[offset + *id as usize * width..][..width];
            for (g, d) in row.iter_mut().zip(&dx[t * width..][..width]) {
                *g += scale * d;
            }
        }
    }

    fn norm(
        &mut self,
        x: &Floats,
        rows: usize,
        width: usize,
        parameters: &Floats,
        norm: &Norm,
        y: &mut Operand,
    ) {
        let fill = |r: usize, row: &mut [f32]| {
            norm::row(self.isa, parameters, norm, &x[r * width..][..width], row);
        };
        pack_with(&self.pool, rows, width, &fill, &mut [&mut y.0]);
    }

    fn norm_rows(
        &mut self,
        x: &Floats,
        rows: usize,
        width: usize,
        parameters: &Floats,
        norm: &Norm,
        y: &mut Floats,
        accumulate: bool,
    ) {
        let isa = self.isa;
        let y = &mut y[..rows * width];
        for_each_chunk(&self.pool, y, ROWS * width, |i, block| {
            let mut normed = vec![0.0; if accumulate { width } else { 0 }];
            for (j, y) in block.chunks_mut(width).enumerate() {
                let x = &x[(i * ROWS + j) * width..][..width];
                if accumulate {
                    norm::row(isa, parameters, norm, x, &mut normed);
                    y.iter_mut().zip(&normed).for_each(|(y, n)| *y += n);
                } else {
                    norm::row(isa, parameters, norm, x, y);
                }
            }
        });
    }

    fn norm_backward(
        &mut self,
        x: &Floats,
        rows: usize,
        width: usize,
        parameters: &Floats,
        norm: &Norm,
        dy: &Floats,
        dx: &mut Floats,
        d_weight: Option<Target<'_, Floats>>,
    ) {
        let (isa, pool, size) = (self.isa, &self.pool, (rows, width));
        norm::backward(isa, pool, x, size, parameters, norm, dy, dx, d_weight);
    }

    fn head_norms(
        &mut self,
        qkv: &mut Floats,
        rows: usize,
        heads: &Heads,
        parameters: &Floats,
        norm: &Norm,
        kept: Option<&mut Compact>,
    ) {
        let width = heads.qkv_width();
        if let Some(kept) = kept {
            self.round(qkv, rows, width, kept);
        }
        let qkv = &mut qkv[..rows * width];
        norm::heads(self.isa, &self.pool, qkv, heads, parameters, norm);
    }

    fn head_norms_backward(
        &mut self,
        qkv: &Compact,
        rows: usize,
        heads: &Heads,
        parameters: &Floats,
        norm: &Norm,
        d_qkv: &mut Floats,
        d_weight: Option<Target<'_, Floats>>,
    ) {
        let (isa, pool) = (self.isa, &self.pool);
        norm::heads_backward(
            isa, pool, qkv, rows, heads, parameters, norm, d_qkv, d_weight,
        );
    }

    fn linear(
        &mut self,
        x: &Operand,
        weight: &Weight,
        parameters: &Floats,
        y: &mut Floats,
        columns: Columns,
        accumulate: bool,
    ) {
        let w = weight.forward(&self.pool, parameters, &mut self.forward_weight);
        matmul(
            &self.pool,
            &x.0,
            w,
            &mut y[columns.offset..],
            columns.stride,
            accumulate,
        );
    }

    fn linear_compact(
        &mut self,
        x: &Operand,
        weight: &Weight,
        parameters: &Floats,
        y: &mut Compact,
    ) {
        let w = weight.forward(&self.pool, parameters, &mut self.forward_weight);
        y.multiply(&self.pool, &x.0, w);
    }

    fn linear_backward(
        &mut self,
        dy: Upstream<'_, Self>,
        rows: usize,
        weight: &Weight,
        parameters: &Floats,
        dx: Option<(&mut Floats, Columns, bool)>,
        d_weight: Option<(&Operand, Target<'_, Floats>)>,
    ) {
        let (isa, pool) = (self.isa, &self.pool);
        let (outputs, inputs) = weight.shape();
        let mut targets: Vec<&mut Packed> = Vec::with_capacity(2);
        if dx.is_some() {
            targets.push(&mut self.left);
        }
        if d_weight.is_some() {
            targets.push(&mut self.left_transposed);
        }
        match dy {
            Upstream::Rows {
                buffer,
                columns: Columns { offset, stride },
                scale,
            } => {
                let dy = &buffer[offset..];
                pack_scaled(pool, dy, rows, outputs, stride, scale, &mut targets);
            }
            Upstream::Activated { up, d_act, gate } => {
                let width = outputs / gate.inputs(1);
                let fill = |r: usize, row: &mut [f32]| {
                    up.activate_backward(isa, gate, r, &d_act[r * width..][..width], row);
                };
                pack_with(pool, rows, outputs, &fill, &mut targets);
            }
        }
        if let Some((dx, Columns { offset, stride }, accumulate)) = dx {
            let w = weight.backward(pool, parameters, &mut self.backward_weight);
            matmul(pool, &self.left, w, &mut dx[offset..], stride, accumulate);
        }
        if let Some((x, target)) = d_weight {
            let place = &mut target.buffer[target.offset..][..outputs * inputs];
            let dy = &self.left_transposed;
            matmul(pool, dy, &x.0, place, inputs, target.accumulate);
        }
    }

    fn add_bias(
        &mut self,
        y: &mut Floats,
        rows: usize,
        width: usize,
        parameters: &Floats,
        offset: usize,
    ) {
        let bias = &parameters[offset..][..width];
        for_each_chunk(
            &self.pool,
            &mut y[..rows * width],
            ROWS * width,
            |_, block| {
                for row in block.chunks_mut(width) {
                    for (y, b) in row.iter_mut().zip(bias) {
                        *y += b;
                    }
                }
            },
        );
    }

    fn add_bias_backward(
        &mut self,
        dy: &Floats,
        rows: usize,
        width: usize,
        Columns { offset, stride }: Columns,
        d_bias: Target<'_, Floats>,
    ) {
        let sum = block_sums(&self.pool, rows, width, |r, sum| {
            for (s, d) in sum.iter_mut().zip(&dy[r * stride + offset..][..width]) {
                *s += d;
            }
        });
        add_to(d_bias, &sum);
    }

    fn operand_from(
        &mut self,
        x: &Floats,
        rows: usize,
        width: usize,
        columns: Columns,
        scale: f32,
        y: &mut [&mut Operand],
    ) {
        let mut targets: Vec<&mut Packed> = y.iter_mut().map(|y| &mut y.0).collect();
        pack_scaled(
            &self.pool,
            &x[columns.offset..],
            rows,
            width,
            columns.stride,
            scale,
            &mut targets,
        );
    }

    fn gather(&mut self, x: &Floats, picked: &[usize], width: usize, y: &mut Floats) {
        let y = &mut y[..picked.len() * width];
        for_each_chunk(&self.pool, y, ROWS * width, |i, rows| {
            for (y, row) in rows.chunks_mut(width).zip(&picked[i * ROWS..]) {
                y.copy_from_slice(&x[row * width..][..width]);
            }
        });
    }

    fn gather_backward(
        &mut self,
        dy: &Floats,
        picked: &[usize],
        width: usize,
        dx: &mut Floats,
        rows: usize,
    ) {
        self.clear(dx, 0..rows * width);
        for (dy, row) in dy.chunks(width).zip(picked) {
            for (dx, dy) in dx[row * width..][..width].iter_mut().zip(dy) {
                *dx += dy;
            }
        }
    }

    fn gather_add(
        &mut self,
        y: &Floats,
        sources: &[(usize, f32)],
        per_row: usize,
        width: usize,
        x: &mut Floats,
    ) {
        let x = &mut x[..sources.len() / per_row * width];
        for_each_chunk(&self.pool, x, width, |t, x| {
            for (row, factor) in &sources[t * per_row..][..per_row] {
                for (x, y) in x.iter_mut().zip(&y[row * width..]) {
                    *x += factor * y;
                }
            }
        });
    }

    fn scale_rows(&mut self, y: &mut Floats, width: usize, factors: &[f32]) {
        let y = &mut y[..factors.len() * width];
        for_each_chunk(&self.pool, y, width, |r, y| {
            y.iter_mut().for_each(|y| *y *= factors[r]);
        });
    }

    fn row_dots(&mut self, a: &Floats, b: &Floats, rows: usize, width: usize) -> Vec<f32> {
        let (isa, mut dots) = (self.isa, vec![0.0; rows]);
        for_each_chunk(&self.pool, &mut dots, ROWS, |i, dots| {
            for (j, value) in dots.iter_mut().enumerate() {
                let at = (i * ROWS + j) * width;
                *value = dot(isa, &a[at..][..width], &b[at..][..width]);
            }
        });
        dots
    }

    fn clear(&mut self, buffer: &mut Floats, range: Range<usize>) {
        for_each_chunk(&self.pool, &mut buffer[range], SWEEP, |_, block| {
            block.fill(0.0)
        });
    }

    fn scale_columns(&mut self, y: &mut Floats, rows: usize, width: usize, factors: &Floats) {
        let y = &mut y[..rows * width];
        for_each_chunk(&self.pool, y, ROWS * width, |_, block| {
            for row in block.chunks_mut(width) {
                for (y, factor) in row.iter_mut().zip(&factors[..width]) {
                    *y *= factor;
                }
            }
        });
    }

    fn column_dots(
        &mut self,
        a: &Floats,
        b: &Floats,
        rows: usize,
        width: usize,
        Columns { offset, stride }: Columns,
        factors: &Floats,
        out: Target<'_, Floats>,
    ) {
        let mut sum = block_sums(&self.pool, rows, width, |r, sum| {
            let at = r * stride + offset;
            for (s, (a, b)) in sum.iter_mut().zip(a[at..].iter().zip(&b[at..])) {
                *s += a * b;
            }
        });
        for (s, factor) in sum.iter_mut().zip(&factors[offset..]) {
            *s *= factor;
        }
        add_to(out, &sum);
    }

    fn add(&mut self, x: &Floats, length: usize, y: &mut Floats) {
        for_each_chunk(&self.pool, &mut y[..length], SWEEP, |i, block| {
            for (y, x) in block.iter_mut().zip(&x[i * SWEEP..]) {
                *y += x;
            }
        });
    }

    fn copy(&mut self, source: &Floats, length: usize, target: &mut Floats) {
        for_each_chunk(&self.pool, &mut target[..length], SWEEP, |i, block| {
            block.copy_from_slice(&source[i * SWEEP..][..block.len()])
        });
    }

    fn mix(&mut self, a: f32, y: &mut Floats, b: f32, x: &Floats) {
        for_each_chunk(&self.pool, y, SWEEP, |i, block| {
            for (y, x) in block.iter_mut().zip(&x[i * SWEEP..]) {
                *y = a * *y + b * x;
            }
        });
    }

    fn round(&mut self, x: &Floats, rows: usize, width: usize, y: &mut Compact) {
        y.round(self.isa, &self.pool, &x[..rows * width], width);
    }

    fn rope(
        &mut self,
        qkv: &mut Floats,
        positions: &[u32],
        heads: &Heads,
        table: &RopeTable,
        kept: Option<&mut Compact>,
    ) {
        let (isa, width) = (self.isa, heads.qkv_width());
        let rows = &mut qkv[..positions.len() * width];
        let turn = |i: usize, rows: &mut [f32]| {
            attention::turn(isa, heads, table, &positions[i * ROWS..], rows, 1.0);
        };
        match kept {
            Some(kept) => kept.round_after(isa, &self.pool, rows, width, turn),
            None => for_each_chunk(&self.pool, rows, ROWS * width, turn),
        }
    }

    fn attention(&mut self, qkv: &Floats, layout: &Layout, heads: &Heads, out: &mut Floats) {
        attention::forward(self.isa, &self.pool, qkv, layout, heads, out);
    }

    fn attention_backward(
        &mut self,
        qkv: &Compact,
        layout: &Layout,
        positions: &[u32],
        heads: &Heads,
        table: &RopeTable,
        d_out: &Floats,
        d_qkv: &mut Floats,
    ) {
        let (isa, pool) = (self.isa, &self.pool);
        attention::backward(
            isa, pool, qkv, layout, positions, heads, table, d_out, d_qkv,
        );
    }

    fn attention_cached(
        &mut self,
        qkv: &Floats,
        cache: &mut Floats,
        sequences: &[CachedRows],
        heads: &Heads,
        out: &mut Floats,
    ) {
        attention::cached(self.isa, &self.pool, qkv, cache, sequences, heads, out);
    }

    fn activate(&mut self, up: &Compact, rows: usize, width: usize, gate: Gate, y: &mut Operand) {
        let isa = self.isa;
        let fill = |r: usize, row: &mut [f32]| up.activate(isa, gate, r, row);
        pack_with(&self.pool, rows, width, &fill, &mut [&mut y.0]);
    }

    fn activate_backward(
        &mut self,
        up: &Compact,
        rows: usize,
        width: usize,
        gate: Gate,
        d_act: &Floats,
        d_up: &mut Floats,
    ) {
        let (isa, n) = (self.isa, gate.inputs(width));
        for_each_chunk(&self.pool, &mut d_up[..rows * n], n, |r, d| {
            up.activate_backward(isa, gate, r, &d_act[r * width..][..width], d);
        });
    }

    fn head_loss(
        &mut self,
        hidden: &Floats,
        objectives: &[Objective],
        head: &Weight,
        parameters: &Floats,
        softcap: Option<f32>,
        teacher: Option<Teacher<'_, Self>>,
        d_hidden: Option<&mut Floats>,
        d_head: Option<Target<'_, Floats>>,
    ) -> Vec<RowLoss> {
        loss::head_loss(
            self, hidden, objectives, head, parameters, softcap, teacher, d_hidden, d_head,
        )
    }

    fn head_rows(
        &mut self,
        hidden: &Floats,
        rows: usize,
        head: &Weight,
        parameters: &Floats,
        softcap: Option<f32>,
        visit: &(dyn Fn(usize, &[f32]) + Sync),
    ) {
        loss::head_rows(self, hidden, rows, head, parameters, softcap, visit);
    }

    fn adamw(
        &mut self,
        step: &AdamWStep,
        parameters: &mut Floats,
        (m, v): (&mut Floats, &mut Floats),
        gradients: &Floats,
        base: Option<&Floats>,
    ) {
        let isa = self.isa;
        for_each_chunk3(&self.pool, [parameters, m, v], SWEEP, |i, theta, m, v| {
            let range = i * SWEEP..i * SWEEP + theta.len();
            adamw(
                isa,
                step,
                theta,
                m,
                v,
                &gradients[range.clone()],
                base.map(|b| &b[range]),
            );
        });
    }

    fn moment_blocks(&self, length: usize) -> Vec<MomentBlock> {
        vec![MomentBlock::ZERO; length.div_ceil(QUANTISED_BLOCK)]
    }

    fn adamw8bit(
        &mut self,
        step: &AdamWStep,
        parameters: &mut Floats,
        moments: &mut Vec<MomentBlock>,
        gradients: &Floats,
        base: Option<&Floats>,
    ) {
        let isa = self.isa;
        for_each_chunk2(
            &self.pool,
            (parameters, SWEEP),
            (moments, SWEEP / QUANTISED_BLOCK),
            |i, theta, moments| {
                let range = i * SWEEP..i * SWEEP + theta.len();
                let base = base.map(|b| &b[range.clone()]);
                adamw8bit(isa, step, theta, moments, &gradients[range], base);
            },
        );
    }

    fn adafactor(
        &mut self,
        step: &AdafactorStep,
        tensor: &Factored,
        parameters: &mut Floats,
        factors: &mut Floats,
        gradients: &Floats,
        base: Option<&Floats>,
    ) {
        let range = tensor.offset..tensor.offset + tensor.rows * tensor.columns;
        adafactor::step(
            (self.isa, &self.pool),
            step,
            tensor,
            &mut parameters[range.clone()],
            &mut factors[tensor.factors..][..tensor.length()],
            &gradients[range.clone()],
            base.map(|b| &b[range]),
        );
    }

    fn sgd(
        &mut self,
        step: &SgdStep,
        parameters: &mut Floats,
        momentum: &mut Floats,
        gradients: &Floats,
        base: Option<&Floats>,
    ) {
        let isa = self.isa;
        for_each_chunk2(
            &self.pool,
            (parameters, SWEEP),
            (momentum, SWEEP),
            |i, theta, momentum| {
                let range = i * SWEEP..i * SWEEP + theta.len();
                let base = base.map(|b| &b[range.clone()]);
                sgd(isa, step, theta, momentum, &gradients[range], base);
            },
        );
    }

    fn sum_of_squares(&mut self, x: &Floats) -> f64 {
        let isa = self.isa;
        let mut sums = vec![0f64; x.len().div_ceil(SWEEP)];
        for_each_chunk(&self.pool, &mut sums, 1, |i, sum| {
            sum[0] = x[i * SWEEP..]
                .chunks(4096)
                .take(SWEEP / 4096)
                .map(|block| f64::from(dot(isa, block, block)))
                .sum();
        });
        sums.iter().sum()
    }
}

/// Packs `scale · x`; without the multiplication where the scale is 1.
fn pack_scaled(
    pool: &Pool,
    x: &[f32],
    rows: usize,
    width: usize,
    stride: usize,
    scale: f32,
    targets: &mut [&mut Packed],
) {
    if targets.is_empty() {
        return;
    }
    if scale == 1.0 {
        pack(pool, x, rows, width, stride, targets);
    } else {
        let fill = |r: usize, row: &mut [f32]| {
            for (y, x) in row.iter_mut().zip(&x[r * stride..][..width]) {
                *y = x * scale;
            }
        };
        pack_with(pool, rows, width, &fill, targets);
    }
}
