//! CPU kernels, chosen at run time by what the processor offers. The only crate with `unsafe`.

mod adafactor;
mod adamw;
mod adamw8bit;
mod attention;
mod bf16;
mod dispatch;
mod gate;
mod isa;
mod math;
mod matmul;
mod memory;
mod norm;
mod pack;
mod parallel;
mod pool;
mod pull;
mod rope;
mod sgd;
mod small;
mod softcap;
mod softmax;

pub use adafactor::{AdafactorStep, adafactor, adafactor_square_sums, adafactor_update_square};
pub use adamw::{AdamWStep, adamw};
pub use adamw8bit::{MomentBlock, QUANTISED_BLOCK, adamw8bit};
pub use attention::{AttentionScratch, AttentionShape, attention, attention_backward};
pub use bf16::{narrow, widen};
pub use gate::{
    Activation, activated, activated_backward, activated_backward_bf16, activated_bf16, gated,
    gated_backward, gated_backward_bf16, gated_bf16,
};
pub use isa::{Isa, UnknownIsa};
pub use matmul::{matmul, matmul_narrow};
pub use memory::Floats;
pub use norm::{
    dot, layer_norm, layer_norm_backward_input, layer_norm_backward_weight, rms_norm,
    rms_norm_backward_input, rms_norm_backward_weight,
};
pub use pack::{Form, Packed, pack, pack_with};
pub use parallel::{for_each_chunk, for_each_chunk2, for_each_chunk3, for_each_range};
pub use pool::Pool;
pub use rope::rotate;
pub use sgd::{SgdStep, sgd};
pub use softcap::{soft_cap, soft_cap_backward};
pub use softmax::{divergence, exp_scaled, log_sum_exp, max, sum_exp};
