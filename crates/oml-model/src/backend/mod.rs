//! The seam between models and hardware: buffers and the operations of a decoder, each beside its backward.
//!
//! Shapes are written `[rows, columns]`, row-major. T = tokens of a packed batch, H = hidden size, R = picked rows, V = vocabulary.
//! Gradients of parameters are added where `accumulate` is set and written where it is not, so that the first batch of a step
//! needs no zeroing. A backend is single-threaded towards its caller and parallel inside.
//!
//! Sizes are the caller's responsibility: a mismatch is a programmer's error and panics.

mod cpu;

use std::ops::Range;

use oml_kernels::Activation;

use crate::config::NormKind;

pub use cpu::{Compact, Cpu, Operand, Weight};

/// A norm whose weight's values start at `weight`; those of a LayerNorm's bias follow them.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// First value of the weight in the flat buffer.
    pub weight: usize,
    /// How it is computed.
    pub kind: NormKind,
    /// Added to the mean square or the variance.
    pub eps: f32,
}

/// What happens between the two halves of a feed-forward block.
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    /// The activation.
    pub activation: Activation,
    /// Its rows are gate and up, and the activated gate is multiplied with up.
    pub gated: bool,
}

impl Gate {
    /// Columns before the activation for `width` after it.
    pub fn inputs(&self, width: usize) -> usize {
        if self.gated { 2 * width } else { width }
    }
}

/// What a [`Backend::Operand`] will be multiplied with; a backend may lay it out differently for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `X` in `Y = X·Wᵀ`.
    Forward,
    /// `X` in `dW = dYᵀ·X`.
    WeightGradient,
}

/// Which directions of a frozen weight are kept ready for products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directions {
    /// Forward only: inference.
    Forward,
    /// Forward and input gradient: training something else while this is frozen.
    Both,
}

/// A slice of a parameter-shaped buffer (values or gradients).
#[derive(Debug)]
pub struct Target<'a, B> {
    /// The flat buffer.
    pub buffer: &'a mut B,
    /// Where the parameter starts in it.
    pub offset: usize,
    /// Add to what is there, or overwrite.
    pub accumulate: bool,
}

/// A block of columns of a row-major buffer.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    /// First column.
    pub offset: usize,
    /// Elements from one row to the next.
    pub stride: usize,
}

impl Columns {
    /// All columns of rows of this width.
    pub fn all(width: usize) -> Self {
        Self {
            offset: 0,
            stride: width,
        }
    }
}

/// Sequences that lie one after another in a packed batch; `starts` has one more element than there are sequences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// First row of each sequence, then the total number of rows.
    pub starts: Vec<usize>,
}

impl Layout {
    /// The layout of sequences with these lengths.
    pub fn new(lengths: impl IntoIterator<Item = usize>) -> Self {
        let mut starts = vec![0];
        for length in lengths {
            starts.push(starts[starts.len() - 1] + length);
        }
        Self { starts }
    }

    /// Rows of all sequences together.
    pub fn tokens(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    /// `(first row, length)` of each sequence.
    pub fn sequences(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.starts.windows(2).map(|w| (w[0], w[1] - w[0]))
    }
}

/// New rows of one sequence whose earlier keys and values are cached.
#[derive(Clone, Copy, Debug)]
pub struct CachedRows {
    /// First row of the new tokens in the batch.
    pub start: usize,
    /// How many new tokens.
    pub rows: usize,
    /// Row of the cache where this sequence's position 0 lies.
    pub slot: usize,
    /// Tokens already in the cache.
    pub past: usize,
}

/// What one picked row of the head is compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Objective {
    /// Cross-entropy with a token.
    Token {
        /// The token that should come next.
        id: u32,
        /// Factor on this row's loss.
        weight: f32,
    },
    /// Kullback–Leibler divergence KL(teacher ‖ model), the teacher being the base model's own head on a stored hidden row.
    Teacher {
        /// Row of the teacher's hidden states.
        row: usize,
        /// Factor on this row's loss.
        weight: f32,
    },
}

/// Result of [`Backend::head_loss`] for one row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowLoss {
    /// Unweighted loss in nats.
    pub loss: f32,
    /// For a token: whether it is the arg-max.
    pub hit: bool,
}

/// The gradient that a linear map's output receives.
#[derive(Debug)]
pub enum Upstream<'a, Be: Backend + ?Sized> {
    /// Columns of a buffer, times a factor.
    Rows {
        /// The rows.
        buffer: &'a Be::Buffer,
        /// Which of their columns.
        columns: Columns,
        /// The factor.
        scale: f32,
    },
    /// The gradient of [`Backend::activate`], formed where it is read: `d_act` `[T, I]` at `up` `[T, outputs]`.
    Activated {
        /// Gate and up.
        up: &'a Be::Compact,
        /// Gradient of the activation.
        d_act: &'a Be::Buffer,
        /// The activation.
        gate: Gate,
    },
}

/// The frozen model that [`Objective::Teacher`] rows follow.
#[derive(Debug)]
pub struct Teacher<'a, Be: Backend + ?Sized> {
    /// Hidden states after the final norm, `[rows, H]`.
    pub hidden: &'a Be::Buffer,
    /// Its head, `[V, H]`.
    pub head: &'a Be::Weight,
}

/// Buffers and operations of one device.
pub trait Backend {
    /// f32 values on the device.
    type Buffer;
    /// Rows in the form in which products read them.
    type Operand;
    /// A weight matrix `[outputs, inputs]`: a place in a flat parameter buffer, or frozen values ready for products.
    type Weight;
    /// Activations in the precision in which products read them anyway.
    type Compact;
    /// Both moments of AdamW in 8 bits.
    type MomentBlocks;

    /// Elements of a buffer.
    fn length(&self, buffer: &Self::Buffer) -> usize;
    /// A zeroed buffer.
    fn buffer(&self, length: usize) -> Self::Buffer;
    /// An empty operand; it grows when it is written.
    fn operand(&self, role: Role) -> Self::Operand;
    /// Empty activations; they grow when they are written.
    fn compact(&self) -> Self::Compact;
    /// A trainable weight: `[outputs, inputs]` values from `offset` of the flat buffer given to each operation.
    fn weight_at(&self, offset: usize, outputs: usize, inputs: usize) -> Self::Weight;
    /// A frozen weight made from its values.
    fn weight_frozen(
        &self,
        values: &[f32],
        outputs: usize,
        inputs: usize,
        directions: Directions,
    ) -> Self::Weight;
    /// `[outputs, inputs]`.
    fn shape(&self, weight: &Self::Weight) -> [usize; 2];
    /// Copies host values into a buffer.
    fn upload(&mut self, source: &[f32], target: &mut Self::Buffer, offset: usize);
    /// Copies a part of a buffer to the host.
    fn download(&mut self, source: &Self::Buffer, offset: usize, target: &mut [f32]);

    /// `x[t] = scale · table[ids[t]]`, x `[T, H]`.
    fn embed(
        &mut self,
        ids: &[u32],
        table: &Self::Weight,
        parameters: &Self::Buffer,
        scale: f32,
        x: &mut Self::Buffer,
    );
    /// `d_table[ids[t]] += scale · dx[t]`; never overwrites.
    fn embed_backward(
        &mut self,
        ids: &[u32],
        width: usize,
        dx: &Self::Buffer,
        scale: f32,
        gradients: &mut Self::Buffer,
        offset: usize,
    );

    /// The norm of `rows` rows of `x` into an operand.
    fn norm(
        &mut self,
        x: &Self::Buffer,
        rows: usize,
        width: usize,
        parameters: &Self::Buffer,
        norm: &Norm,
        y: &mut Self::Operand,
    );
    /// The norm of `rows` rows of `x` into a buffer, or added to it.
    #[allow(clippy::too_many_arguments)]
    fn norm_rows(
        &mut self,
        x: &Self::Buffer,
        rows: usize,
        width: usize,
        parameters: &Self::Buffer,
        norm: &Norm,
        y: &mut Self::Buffer,
        accumulate: bool,
    );
    /// Adds to `dx` the input gradient of a norm for `dy`. The target is that of the weight; a bias' gradient follows it.
    #[allow(clippy::too_many_arguments)]
    fn norm_backward(
        &mut self,
        x: &Self::Buffer,
        rows: usize,
        width: usize,
        parameters: &Self::Buffer,
        norm: &Norm,
        dy: &Self::Buffer,
        dx: &mut Self::Buffer,
        d_weight: Option<Target<'_, Self::Buffer>>,
    );
    /// The norm of every query and every key head of `qkv` in place, `norm` being that of queries; the weight for keys follows
    /// that for queries. What was there before goes into `kept`, rounded.
    fn head_norms(
        &mut self,
        qkv: &mut Self::Buffer,
        rows: usize,
        heads: &Heads,
        parameters: &Self::Buffer,
        norm: &Norm,
        kept: Option<&mut Self::Compact>,
    );
    /// The gradient of [`Backend::head_norms`] in place; `qkv` is what was there before.
    #[allow(clippy::too_many_arguments)]
    fn head_norms_backward(
        &mut self,
        qkv: &Self::Compact,
        rows: usize,
        heads: &Heads,
        parameters: &Self::Buffer,
        norm: &Norm,
        d_qkv: &mut Self::Buffer,
        d_weight: Option<Target<'_, Self::Buffer>>,
    );

    /// `y = x·Wᵀ`, or `y += x·Wᵀ`, into the given columns of `y`.
    fn linear(
        &mut self,
        x: &Self::Operand,
        weight: &Self::Weight,
        parameters: &Self::Buffer,
        y: &mut Self::Buffer,
        columns: Columns,
        accumulate: bool,
    );
    /// `y = x·Wᵀ`.
    fn linear_compact(
        &mut self,
        x: &Self::Operand,
        weight: &Self::Weight,
        parameters: &Self::Buffer,
        y: &mut Self::Compact,
    );
    /// `dx (+)= dy·W` and `dW (+)= dyᵀ·x`, each where asked; `dy` has `rows` rows.
    fn linear_backward(
        &mut self,
        dy: Upstream<'_, Self>,
        rows: usize,
        weight: &Self::Weight,
        parameters: &Self::Buffer,
        dx: Option<(&mut Self::Buffer, Columns, bool)>,
        d_weight: Option<(&Self::Operand, Target<'_, Self::Buffer>)>,
    );
    /// `y[r] += bias` for every row.
    fn add_bias(
        &mut self,
        y: &mut Self::Buffer,
        rows: usize,
        width: usize,
        parameters: &Self::Buffer,
        offset: usize,
    );
    /// `d_bias (+)= Σ dy[r]` over `width` columns from the first of `columns` on.
    fn add_bias_backward(
        &mut self,
        dy: &Self::Buffer,
        rows: usize,
        width: usize,
        columns: Columns,
        d_bias: Target<'_, Self::Buffer>,
    );

    /// Lays `rows × width` values of a buffer's columns, times `scale`, out as operands.
    #[allow(clippy::too_many_arguments)]
    fn operand_from(
        &mut self,
        x: &Self::Buffer,
        rows: usize,
        width: usize,
        columns: Columns,
        scale: f32,
        y: &mut [&mut Self::Operand],
    );
    /// `y[i] = x[picked[i]]`, rows of `width` values.
    fn gather(&mut self, x: &Self::Buffer, picked: &[usize], width: usize, y: &mut Self::Buffer);
    /// The gradient of [`Backend::gather`]: `dx[t] = Σ dy[i]` over the i with `picked[i] = t`, for all `rows` rows of dx.
    fn gather_backward(
        &mut self,
        dy: &Self::Buffer,
        picked: &[usize],
        width: usize,
        dx: &mut Self::Buffer,
        rows: usize,
    );
    /// `x[t] += Σ factor · y[row]` over `per_row` sources `(row, factor)` of each row t.
    fn gather_add(
        &mut self,
        y: &Self::Buffer,
        sources: &[(usize, f32)],
        per_row: usize,
        width: usize,
        x: &mut Self::Buffer,
    );
    /// `y[r] = factors[r] · y[r]`.
    fn scale_rows(&mut self, y: &mut Self::Buffer, width: usize, factors: &[f32]);
    /// `a[r] · b[r]`, on the host.
    fn row_dots(
        &mut self,
        a: &Self::Buffer,
        b: &Self::Buffer,
        rows: usize,
        width: usize,
    ) -> Vec<f32>;
    /// Sets these values to zero.
    fn clear(&mut self, buffer: &mut Self::Buffer, range: Range<usize>);
    /// `y[r] = y[r] ⊙ factors` for every row.
    fn scale_columns(
        &mut self,
        y: &mut Self::Buffer,
        rows: usize,
        width: usize,
        factors: &Self::Buffer,
    );
    /// `out (+)= factors ⊙ Σ a[r] ⊙ b[r]` over `width` columns of rows from the first of `columns` on, which is also the first of the factors.
    #[allow(clippy::too_many_arguments)]
    fn column_dots(
        &mut self,
        a: &Self::Buffer,
        b: &Self::Buffer,
        rows: usize,
        width: usize,
        columns: Columns,
        factors: &Self::Buffer,
        out: Target<'_, Self::Buffer>,
    );
    /// `y += x` over the first `length` values.
    fn add(&mut self, x: &Self::Buffer, length: usize, y: &mut Self::Buffer);
    /// Copies the first `length` values.
    fn copy(&mut self, source: &Self::Buffer, length: usize, target: &mut Self::Buffer);
    /// `y = a·y + b·x` over all of two buffers of one length.
    fn mix(&mut self, a: f32, y: &mut Self::Buffer, b: f32, x: &Self::Buffer);
    /// Rounds `rows × width` values of a buffer.
    fn round(&mut self, x: &Self::Buffer, rows: usize, width: usize, y: &mut Self::Compact);

    /// Rotates the query and key heads of `qkv` in place, row t at position `positions[t]`, and rounds all into `kept`.
    fn rope(
        &mut self,
        qkv: &mut Self::Buffer,
        positions: &[u32],
        heads: &Heads,
        table: &RopeTable,
        kept: Option<&mut Self::Compact>,
    );
    /// Causal attention inside each sequence; `out` is `[T, heads·head_dim]`.
    fn attention(
        &mut self,
        qkv: &Self::Buffer,
        layout: &Layout,
        heads: &Heads,
        out: &mut Self::Buffer,
    );
    /// The gradient of [`Backend::attention`] after [`Backend::rope`] with respect to the `qkv` before it; `qkv` is rotated.
    #[allow(clippy::too_many_arguments)]
    fn attention_backward(
        &mut self,
        qkv: &Self::Compact,
        layout: &Layout,
        positions: &[u32],
        heads: &Heads,
        table: &RopeTable,
        d_out: &Self::Buffer,
        d_qkv: &mut Self::Buffer,
    );
    /// Stores the new rows' keys and values in the cache, then attends over everything cached.
    fn attention_cached(
        &mut self,
        qkv: &Self::Buffer,
        cache: &mut Self::Buffer,
        sequences: &[CachedRows],
        heads: &Heads,
        out: &mut Self::Buffer,
    );

    /// The activation of `up` `[T, gate.inputs(width)]` (gate first) into an operand `[T, width]`.
    fn activate(
        &mut self,
        up: &Self::Compact,
        rows: usize,
        width: usize,
        gate: Gate,
        y: &mut Self::Operand,
    );
    /// The gradient of [`Backend::activate`]: `d_act` `[T, width]` to `d_up` `[T, gate.inputs(width)]`.
    fn activate_backward(
        &mut self,
        up: &Self::Compact,
        rows: usize,
        width: usize,
        gate: Gate,
        d_act: &Self::Buffer,
        d_up: &mut Self::Buffer,
    );

    /// Head, soft cap and loss in one: for each row of `hidden` `[R, H]` its loss, and where `d_hidden` is given the gradients of the weighted sum.
    #[allow(clippy::too_many_arguments)]
    fn head_loss(
        &mut self,
        hidden: &Self::Buffer,
        objectives: &[Objective],
        head: &Self::Weight,
        parameters: &Self::Buffer,
        softcap: Option<f32>,
        teacher: Option<Teacher<'_, Self>>,
        d_hidden: Option<&mut Self::Buffer>,
        d_head: Option<Target<'_, Self::Buffer>>,
    ) -> Vec<RowLoss>;
    /// Logits of each row of `hidden`, handed to `visit(row, logits)` from any thread.
    fn head_rows(
        &mut self,
        hidden: &Self::Buffer,
        rows: usize,
        head: &Self::Weight,
        parameters: &Self::Buffer,
        softcap: Option<f32>,
        visit: &(dyn Fn(usize, &[f32]) + Sync),
    );

    /// One optimizer step over a flat buffer; `base` is read where the step pulls towards it.
    fn adamw(
        &mut self,
        step: &oml_kernels::AdamWStep,
        parameters: &mut Self::Buffer,
        moments: (&mut Self::Buffer, &mut Self::Buffer),
        gradients: &Self::Buffer,
        base: Option<&Self::Buffer>,
    );
    /// Moments of zero in 8 bits for this many parameters.
    fn moment_blocks(&self, length: usize) -> Self::MomentBlocks;
    /// [`Backend::adamw`] with moments in 8 bits.
    fn adamw8bit(
        &mut self,
        step: &oml_kernels::AdamWStep,
        parameters: &mut Self::Buffer,
        moments: &mut Self::MomentBlocks,
        gradients: &Self::Buffer,
        base: Option<&Self::Buffer>,
    );
    /// One Adafactor step over one tensor.
    fn adafactor(
        &mut self,
        step: &oml_kernels::AdafactorStep,
        tensor: &Factored,
        parameters: &mut Self::Buffer,
        factors: &mut Self::Buffer,
        gradients: &Self::Buffer,
        base: Option<&Self::Buffer>,
    );
    /// One step of gradient descent with momentum over a flat buffer.
    fn sgd(
        &mut self,
        step: &oml_kernels::SgdStep,
        parameters: &mut Self::Buffer,
        momentum: &mut Self::Buffer,
        gradients: &Self::Buffer,
        base: Option<&Self::Buffer>,
    );
    /// `Σ x²` in f64.
    fn sum_of_squares(&mut self, x: &Self::Buffer) -> f64;
}

/// A tensor and its factored second moment (Adafactor).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factored {
    /// Rows; 1 for a vector, whose second moment is not factored.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// First element among parameters and gradients.
    pub offset: usize,
    /// First of its factors: one per row where there are several, then one per column.
    pub factors: usize,
}

impl Factored {
    /// Number of factors.
    pub fn length(&self) -> usize {
        self.row_factors() + self.columns
    }

    /// Number of factors that belong to rows.
    pub fn row_factors(&self) -> usize {
        if self.rows > 1 { self.rows } else { 0 }
    }
}

/// Head counts and sizes of an attention layer.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Heads, how they lie in a row, what a query sees, and what happens to the scores.
    pub shape: oml_kernels::AttentionShape,
}

impl Heads {
    /// Elements of all query heads: columns of the attention's output.
    pub fn query_width(&self) -> usize {
        self.shape.heads * self.shape.head_dim
    }

    /// Elements of all key heads (and of all value heads).
    pub fn kv_width(&self) -> usize {
        self.shape.kv_heads * self.shape.head_dim
    }

    /// Columns of a fused QKV product.
    pub fn qkv_width(&self) -> usize {
        self.shape.row()
    }

    /// The same heads where a query sees the last `window` keys.
    pub fn with_window(mut self, window: Option<usize>) -> Self {
        self.shape.window = window.unwrap_or(usize::MAX);
        self
    }

    /// Where the query heads begin in a row, then where the key heads do.
    pub(crate) fn queries_and_keys(&self) -> [impl Iterator<Item = usize> + use<>; 2] {
        let shape = self.shape;
        let starts = |count, first, step| (0..count).map(move |head| first + head * step);
        [
            starts(shape.heads, 0, shape.query_step),
            starts(shape.kv_heads, shape.keys_at, shape.kv_step),
        ]
    }
}

/// Cosines and sines of every position, `[positions, rotary_dim/2]` each, on the host.
#[derive(Clone, Debug, Default)]
pub struct RopeTable {
    inverse_frequencies: Vec<f32>,
    attention_scaling: f32,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RopeTable {
    /// An empty table for these inverse frequencies; `attention_scaling` multiplies both cosine and sine (YaRN).
    pub fn new(inverse_frequencies: Vec<f32>, attention_scaling: f32) -> Self {
        Self {
            inverse_frequencies,
            attention_scaling,
            cos: Vec::new(),
            sin: Vec::new(),
        }
    }

    /// Extends the table to hold at least `positions` rows.
    pub fn reserve(&mut self, positions: usize) {
        let half = self.inverse_frequencies.len().max(1);
        for position in self.cos.len() / half..positions {
            for frequency in &self.inverse_frequencies {
                let (sin, cos) = (position as f32 * frequency).sin_cos();
                self.cos.push(cos * self.attention_scaling);
                self.sin.push(sin * self.attention_scaling);
            }
        }
    }

    /// Cosines and sines of one position.
    pub fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let half = self.inverse_frequencies.len();
        (
            &self.cos[position * half..][..half],
            &self.sin[position * half..][..half],
        )
    }
}
