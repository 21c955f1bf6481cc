//! What a machine offers: the instruction set and the number of threads of everything that is run on it.

use oml_kernels::Isa;

use crate::backend::Cpu;

/// Choices for the CPU; `None` takes what the machine offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Engine {
    /// Instruction set of the kernels.
    pub isa: Option<Isa>,
    /// Threads.
    pub threads: Option<usize>,
}

impl Engine {
    /// The instruction set that will be used.
    pub fn isa(&self) -> Isa {
        self.isa.unwrap_or_else(Isa::detect)
    }

    /// The number of threads that will be used.
    pub fn threads(&self) -> usize {
        self.threads
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
            .max(1)
    }

    /// A backend with these choices.
    pub fn cpu(&self) -> Cpu {
        Cpu::new(self.isa(), self.threads())
    }
}
