//! The files of the domain: the only serialised structs, each versioned, with size caps and one typed error per fault.

use data_encoding::HEXLOWER;

/// Lower-case hexadecimal of `bytes`.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}
