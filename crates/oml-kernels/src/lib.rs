//! CPU kernels, chosen at run time by what the processor offers. The only crate with `unsafe`.

mod isa;
mod matmul;
mod memory;
mod pack;
mod pool;

pub use isa::{Isa, UnknownIsa};
pub use matmul::matmul;
pub use memory::Floats;
pub use pack::{Form, Packed, pack, pack_with};
pub use pool::Pool;
