//! The owner's secrets as types: `Debug` shows nothing, memory is zeroised on drop, comparison takes constant time.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Takes the 32 secret bytes.
            #[must_use]
            pub const fn new(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The secret bytes, for a computation that needs them.
            #[must_use]
            pub const fn expose(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                self.0.zeroize();
            }
        }

        impl ZeroizeOnDrop for $name {}

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(secret)"))
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.ct_eq(&other.0).into()
            }
        }

        impl Eq for $name {}
    };
}

secret! {
    /// The owner's master seed: every random choice of every fingerprint set is derived from it.
    OwnerSeed
}

secret! {
    /// The blinding value of one commitment leaf; secret until the leaf is opened.
    Salt
}

secret! {
    /// The blinding value of one input's hash: a permission or receipt shows the input to nobody who lacks it.
    InputSalt
}

secret! {
    /// A value derived from the owner's seed for one purpose, itself a key.
    DerivedKey
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(
            format!("{:?}", OwnerSeed::new([0xab; 32])),
            "OwnerSeed(secret)"
        );
        assert_eq!(format!("{:?}", Salt::new([0xab; 32])), "Salt(secret)");
    }

    #[test]
    fn equality_is_by_value() {
        assert_eq!(Salt::new([1; 32]), Salt::new([1; 32]));
        let mut other = [1; 32];
        other[31] = 2;
        assert_ne!(Salt::new([1; 32]), Salt::new(other));
    }
}
