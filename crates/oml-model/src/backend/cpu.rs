//! The CPU backend: operations of a decoder on `oml-kernels`.
//!
//! Products read packed operands; norms, activations and conversions are fused into the packing. Trainable weights are packed from
//! their f32 masters right before each use (as fast as reading a packed copy, and it saves two copies of the model); frozen weights are packed once.
//! Every reduction has a fixed order, so results do not depend on the number of threads.

use std::cell::RefCell;

use oml_kernels::{
    AdamWStep, AttentionScratch, Floats, Form, Isa, Packed, Pool, adamw, attention,
    attention_backward, dot, for_each_chunk, for_each_chunk3, for_each_range, matmul, narrow, pack,
    pack_with, rms_norm, rms_norm_backward_input, rms_norm_backward_weight, rotate, swiglu,
    swiglu_backward, widen,
};

use super::{
    Backend, CachedRows, Columns, Directions, Heads, Layout, Objective, Role, RopeTable, RowLoss,
    Target, Teacher,
};

/// Rows that one task of a row-wise loop takes.
const ROWS: usize = 16;
/// Queries that one task of attention takes.
const QUERIES: usize = 64;
/// Elements that one task of an optimizer sweep takes.
const SWEEP: usize = 1 << 16;

/// All cores of one machine.
pub struct Cpu {
    pub(super) isa: Isa,
    pub(super) pool: Pool,
    pub(super) forward_weight: Packed,
    pub(super) backward_weight: Packed,
    pub(super) left: Packed,
    pub(super) left_transposed: Packed,
    pub(super) right: Packed,
    pub(super) logits: Floats,
    pub(super) teacher_logits: Floats,
}

/// Rows packed for products.
pub struct Operand(pub(super) Packed);

/// Compact rows: bf16 where products are bf16 anyway, f32 otherwise.
pub enum Saved {
    /// bf16 bits.
    Half(Vec<u16>),
    /// f32 values.
    Full(Vec<f32>),
}

/// A weight `[outputs, inputs]`.
pub enum Weight {
    /// Values in a flat parameter buffer.
    Trainable {
        /// First element in the buffer.
        offset: usize,
        /// Rows.
        outputs: usize,
        /// Columns.
        inputs: usize,
    },
    /// Packed values for each direction.
    Frozen {
        /// Wᵀ as the right operand of `x·Wᵀ`.
        forward: Packed,
        /// W as the right operand of `dy·W`.
        backward: Option<Packed>,
    },
}

impl Weight {
    /// `(outputs, inputs)`.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Self::Trainable {
                outputs, inputs, ..
            } => (*outputs, *inputs),
            Self::Frozen { forward, .. } => (forward.rows(), forward.columns()),
        }
    }

    /// The packed values of a frozen weight.
    ///
    /// # Panics
    /// If the weight is trainable: a teacher never is.
    pub(super) fn frozen(&self) -> &Packed {
        match self {
            Self::Frozen { forward, .. } => forward,
            Self::Trainable { .. } => unreachable!("a teacher's head is frozen"),
        }
    }
}

thread_local! {
    static ATTENTION: RefCell<AttentionScratch> = RefCell::default();
}

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

/// The weight as the right operand of `x·Wᵀ`.
pub(super) fn forward_form<'a>(
    pool: &Pool,
    weight: &'a Weight,
    parameters: &[f32],
    scratch: &'a mut Packed,
) -> &'a Packed {
    match weight {
        Weight::Frozen { forward, .. } => forward,
        Weight::Trainable {
            offset,
            outputs,
            inputs,
        } => {
            pack(
                pool,
                &parameters[*offset..][..outputs * inputs],
                *outputs,
                *inputs,
                *inputs,
                &mut [&mut *scratch],
            );
            scratch
        }
    }
}

/// The weight as the right operand of `dy·W`.
pub(super) fn backward_form<'a>(
    pool: &Pool,
    weight: &'a Weight,
    parameters: &[f32],
    scratch: &'a mut Packed,
) -> &'a Packed {
    match weight {
        Weight::Frozen {
            backward: Some(backward),
            ..
        } => backward,
        Weight::Frozen {
            forward,
            backward: None,
        } => {
            let (rows, columns) = (forward.rows(), forward.columns());
            pack_with(
                pool,
                rows,
                columns,
                &|r, row| forward.row(r, row),
                &mut [&mut *scratch],
            );
            scratch
        }
        Weight::Trainable {
            offset,
            outputs,
            inputs,
        } => {
            pack(
                pool,
                &parameters[*offset..][..outputs * inputs],
                *outputs,
                *inputs,
                *inputs,
                &mut [&mut *scratch],
            );
            scratch
        }
    }
}

impl Backend for Cpu {
    type Buffer = Floats;
    type Operand = Operand;
    type Weight = Weight;
    type Saved = Saved;

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

    fn saved(&self) -> Saved {
        if self.isa == Isa::Amx {
            Saved::Half(Vec::new())
        } else {
            Saved::Full(Vec::new())
        }
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

    fn upload(&mut self, source: &[f32], target: &mut Floats, offset: usize) {
        target[offset..][..source.len()].copy_from_slice(source);
    }

    fn download(&mut self, source: &Floats, offset: usize, target: &mut [f32]) {
        target.copy_from_slice(&source[offset..][..target.len()]);
    }

    fn embed(&mut self, ids: &[u32], table: &Weight, parameters: &Floats, x: &mut Floats) {
        let (_, width) = table.shape();
        for_each_chunk(
            &self.pool,
            &mut x[..ids.len() * width],
            width,
            |t, row| match table {
                Weight::Trainable { offset, .. } => {
                    row.copy_from_slice(&parameters[offset + ids[t] as usize * width..][..width])
                }
                Weight::Frozen { forward, .. } => forward.row(ids[t] as usize, row),
            },
        );
    }

    fn embed_backward(
        &mut self,
        ids: &[u32],
        width: usize,
        dx: &Floats,
        gradients: &mut Floats,
        offset: usize,
    ) {
        for (t, id) in ids.iter().enumerate() {
            let row = &mut gradients[offset + *id as usize * width..][..width];
            for (g, d) in row.iter_mut().zip(&dx[t * width..][..width]) {
                *g += d;
            }
        }
    }

    fn rms_norm(
        &mut self,
        x: &Floats,
        rows: usize,
        width: usize,
        parameters: &Floats,
        offset: usize,
        eps: f32,
        y: &mut Operand,
    ) {
        let (isa, weight) = (self.isa, &parameters[offset..][..width]);
        pack_with(
            &self.pool,
            rows,
            width,
            &|r, row| rms_norm(isa, &x[r * width..][..width], weight, eps, row),
            &mut [&mut y.0],
        );
    }

    fn rms_norm_rows(
        &mut self,
        x: &Floats,
        picked: &[usize],
        width: usize,
        parameters: &Floats,
        offset: usize,
        eps: f32,
        y: &mut Floats,
    ) {
        let (isa, weight) = (self.isa, &parameters[offset..][..width]);
        for_each_chunk(
            &self.pool,
            &mut y[..picked.len() * width],
            width,
            |r, row| {
                rms_norm(isa, &x[picked[r] * width..][..width], weight, eps, row);
            },
        );
    }

    fn rms_norm_backward(
        &mut self,
        x: &Floats,
        picked: Option<&[usize]>,
        rows: usize,
        width: usize,
        parameters: &Floats,
        offset: usize,
        eps: f32,
        dy: &Floats,
        dx: &mut Floats,
        d_weight: Option<Target<'_, Floats>>,
    ) {
        let (isa, weight) = (self.isa, &parameters[offset..][..width]);
        match picked {
            None => for_each_chunk(
                &self.pool,
                &mut dx[..rows * width],
                ROWS * width,
                |i, dx| {
                    for (j, dx) in dx.chunks_mut(width).enumerate() {
                        let at = (i * ROWS + j) * width;
                        rms_norm_backward_input(
                            isa,
                            &x[at..][..width],
                            weight,
                            eps,
                            &dy[at..][..width],
                            dx,
                        );
                    }
                },
            ),
            Some(picked) => {
                for (r, &row) in picked.iter().enumerate() {
                    let (x, dx) = (&x[row * width..][..width], &mut dx[row * width..][..width]);
                    rms_norm_backward_input(isa, x, weight, eps, &dy[r * width..][..width], dx);
                }
            }
        }
        if let Some(target) = d_weight {
            let sum = block_sums(&self.pool, rows, width, |r, sum| {
                let x = &x[picked.map_or(r, |p| p[r]) * width..][..width];
                rms_norm_backward_weight(isa, x, eps, &dy[r * width..][..width], sum);
            });
            add_to(target, &sum);
        }
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
        let w = forward_form(&self.pool, weight, parameters, &mut self.forward_weight);
        matmul(
            &self.pool,
            &x.0,
            w,
            &mut y[columns.offset..],
            columns.stride,
            accumulate,
        );
    }

    fn linear_backward(
        &mut self,
        dy: &Floats,
        rows: usize,
        columns: Columns,
        scale: f32,
        weight: &Weight,
        parameters: &Floats,
        dx: Option<(&mut Floats, Columns, bool)>,
        d_weight: Option<(&Operand, Target<'_, Floats>)>,
    ) {
        let (outputs, inputs) = weight.shape();
        let mut targets: Vec<&mut Packed> = Vec::with_capacity(2);
        if dx.is_some() {
            targets.push(&mut self.left);
        }
        if d_weight.is_some() {
            targets.push(&mut self.left_transposed);
        }
        pack_scaled(
            &self.pool,
            &dy[columns.offset..],
            rows,
            outputs,
            columns.stride,
            scale,
            &mut targets,
        );
        if let Some((dx, columns, accumulate)) = dx {
            let w = backward_form(&self.pool, weight, parameters, &mut self.backward_weight);
            matmul(
                &self.pool,
                &self.left,
                w,
                &mut dx[columns.offset..],
                columns.stride,
                accumulate,
            );
        }
        if let Some((x, target)) = d_weight {
            matmul(
                &self.pool,
                &self.left_transposed,
                &x.0,
                &mut target.buffer[target.offset..][..outputs * inputs],
                inputs,
                target.accumulate,
            );
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
        d_bias: Target<'_, Floats>,
    ) {
        let sum = block_sums(&self.pool, rows, width, |r, sum| {
            for (s, d) in sum.iter_mut().zip(&dy[r * width..][..width]) {
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
        y: &mut Operand,
    ) {
        pack_scaled(
            &self.pool,
            &x[columns.offset..],
            rows,
            width,
            columns.stride,
            scale,
            &mut [&mut y.0],
        );
    }

    fn clear(&mut self, buffer: &mut Floats, length: usize) {
        for_each_chunk(&self.pool, &mut buffer[..length], SWEEP, |_, block| {
            block.fill(0.0)
        });
    }

    fn copy(&mut self, source: &Floats, length: usize, target: &mut Floats) {
        for_each_chunk(&self.pool, &mut target[..length], SWEEP, |i, block| {
            block.copy_from_slice(&source[i * SWEEP..][..block.len()])
        });
    }

    fn save(&mut self, x: &Floats, rows: usize, width: usize, kept: &mut Saved) {
        let (isa, n) = (self.isa, rows * width);
        match kept {
            Saved::Half(kept) => {
                kept.resize(n, 0);
                for_each_chunk(&self.pool, kept, ROWS * width, |i, block| {
                    narrow(isa, &x[i * ROWS * width..][..block.len()], block)
                });
            }
            Saved::Full(kept) => {
                kept.resize(n, 0.0);
                kept.copy_from_slice(&x[..n]);
            }
        }
    }

    fn restore(&mut self, kept: &Saved, rows: usize, width: usize, x: &mut Floats) {
        let (isa, n) = (self.isa, rows * width);
        match kept {
            Saved::Half(kept) => {
                for_each_chunk(&self.pool, &mut x[..n], ROWS * width, |i, block| {
                    widen(isa, &kept[i * ROWS * width..][..block.len()], block)
                });
            }
            Saved::Full(kept) => x[..n].copy_from_slice(&kept[..n]),
        }
    }

    fn rope(
        &mut self,
        qkv: &mut Floats,
        positions: &[u32],
        heads: &Heads,
        table: &RopeTable,
        inverse: bool,
    ) {
        let (isa, width, d) = (self.isa, heads.qkv_width(), heads.shape.head_dim);
        let turned = heads.query_width() + heads.kv_width();
        let direction = if inverse { -1.0 } else { 1.0 };
        for_each_chunk(
            &self.pool,
            &mut qkv[..positions.len() * width],
            ROWS * width,
            |i, block| {
                for (row, position) in block.chunks_mut(width).zip(&positions[i * ROWS..]) {
                    let (cos, sin) = table.at(*position as usize);
                    for head in row[..turned].chunks_mut(d) {
                        rotate(isa, &mut head[..2 * cos.len()], cos, sin, direction);
                    }
                }
            },
        );
    }

    fn attention(&mut self, qkv: &Floats, layout: &Layout, heads: &Heads, out: &mut Floats) {
        let (isa, width, shape) = (self.isa, heads.qkv_width(), heads.shape);
        let (query, kv) = (heads.query_width(), heads.kv_width());
        // Long sequences are cut into blocks of queries, so that one sequence keeps every thread busy.
        let blocks: Vec<(usize, usize, usize)> = layout
            .sequences()
            .flat_map(|(start, length)| {
                (0..length)
                    .step_by(QUERIES)
                    .map(move |first| (start, first, QUERIES.min(length - first)))
            })
            .collect();
        let mut bounds: Vec<usize> = blocks
            .iter()
            .map(|(start, first, _)| (start + first) * query)
            .collect();
        bounds.push(layout.tokens() * query);
        for_each_range(&self.pool, out, &bounds, |i, out| {
            let (start, first, rows) = blocks[i];
            let row = &qkv[start * width..][..(first + rows) * width];
            let (q, k, v) = (&row[first * width..], &row[query..], &row[query + kv..]);
            ATTENTION.with_borrow_mut(|scratch| {
                attention(
                    isa, &shape, scratch, first, rows, q, width, k, v, width, out, query,
                );
            });
        });
    }

    fn attention_backward(
        &mut self,
        qkv: &Floats,
        layout: &Layout,
        heads: &Heads,
        d_out: &Floats,
        d_qkv: &mut Floats,
    ) {
        let (isa, width, query, shape) = (
            self.isa,
            heads.qkv_width(),
            heads.query_width(),
            heads.shape,
        );
        let bounds: Vec<usize> = layout.starts.iter().map(|s| s * width).collect();
        for_each_range(&self.pool, d_qkv, &bounds, |i, d| {
            let (start, rows) = (layout.starts[i], layout.starts[i + 1] - layout.starts[i]);
            let q = &qkv[start * width..][..rows * width];
            let d_out = &d_out[start * query..][..rows * query];
            ATTENTION.with_borrow_mut(|scratch| {
                attention_backward(isa, &shape, scratch, rows, q, d_out, d);
            });
        });
    }

    fn attention_cached(
        &mut self,
        qkv: &Floats,
        cache: &mut Floats,
        sequences: &[CachedRows],
        heads: &Heads,
        out: &mut Floats,
    ) {
        let (isa, width, shape) = (self.isa, heads.qkv_width(), heads.shape);
        let (query, kv) = (heads.query_width(), heads.kv_width());
        let row = 2 * kv;
        for s in sequences {
            for t in 0..s.rows {
                let new = &qkv[(s.start + t) * width + query..][..row];
                cache[(s.slot + s.past + t) * row..][..row].copy_from_slice(new);
            }
        }
        let cache = &*cache;
        let mut bounds: Vec<usize> = sequences.iter().map(|s| s.start * query).collect();
        bounds.push(sequences.last().map_or(0, |s| (s.start + s.rows) * query));
        for_each_range(&self.pool, out, &bounds, |i, out| {
            let s = sequences[i];
            let cached = &cache[s.slot * row..][..(s.past + s.rows) * row];
            ATTENTION.with_borrow_mut(|scratch| {
                attention(
                    isa,
                    &shape,
                    scratch,
                    s.past,
                    s.rows,
                    &qkv[s.start * width..],
                    width,
                    cached,
                    &cached[kv..],
                    row,
                    out,
                    query,
                );
            });
        });
    }

    fn swiglu(&mut self, gate_up: &Floats, rows: usize, width: usize, y: &mut Operand) {
        let isa = self.isa;
        pack_with(
            &self.pool,
            rows,
            width,
            &|r, row| {
                let (gate, up) = gate_up[r * 2 * width..][..2 * width].split_at(width);
                swiglu(isa, gate, up, row);
            },
            &mut [&mut y.0],
        );
    }

    fn swiglu_backward(
        &mut self,
        gate_up: &Floats,
        rows: usize,
        width: usize,
        d_act: &Floats,
        d_gate_up: &mut Floats,
    ) {
        let isa = self.isa;
        for_each_chunk(
            &self.pool,
            &mut d_gate_up[..rows * 2 * width],
            2 * width,
            |r, d| {
                let (gate, up) = gate_up[r * 2 * width..][..2 * width].split_at(width);
                let (d_gate, d_up) = d.split_at_mut(width);
                swiglu_backward(isa, gate, up, &d_act[r * width..][..width], d_gate, d_up);
            },
        );
    }

    fn head_loss(
        &mut self,
        hidden: &Floats,
        objectives: &[Objective],
        head: &Weight,
        parameters: &Floats,
        teacher: Option<Teacher<'_, Self>>,
        d_hidden: Option<&mut Floats>,
        d_head: Option<Target<'_, Floats>>,
    ) -> Vec<RowLoss> {
        super::cpu_loss::head_loss(
            self, hidden, objectives, head, parameters, teacher, d_hidden, d_head,
        )
    }

    fn head_rows(
        &mut self,
        hidden: &Floats,
        rows: usize,
        head: &Weight,
        parameters: &Floats,
        visit: &(dyn Fn(usize, &[f32]) + Sync),
    ) {
        super::cpu_loss::head_rows(self, hidden, rows, head, parameters, visit);
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

/// `Σ_r add(r, ·)` in a fixed order: blocks of rows in parallel, then the blocks one after another.
fn block_sums(
    pool: &Pool,
    rows: usize,
    width: usize,
    add: impl Fn(usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    const BLOCK: usize = 128;
    let mut sums = vec![0f32; rows.div_ceil(BLOCK).max(1) * width];
    for_each_chunk(pool, &mut sums, width, |i, sum| {
        for r in i * BLOCK..rows.min((i + 1) * BLOCK) {
            add(r, sum);
        }
    });
    let (total, rest) = sums.split_at_mut(width);
    for block in rest.chunks(width) {
        for (t, b) in total.iter_mut().zip(block) {
            *t += b;
        }
    }
    sums.truncate(width);
    sums
}

fn add_to(target: Target<'_, Floats>, values: &[f32]) {
    let place = &mut target.buffer[target.offset..][..values.len()];
    if target.accumulate {
        for (p, v) in place.iter_mut().zip(values) {
            *p += v;
        }
    } else {
        place.copy_from_slice(values);
    }
}
