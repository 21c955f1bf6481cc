//! CPU kernels, chosen at run time by what the processor offers. The only crate with `unsafe`.
