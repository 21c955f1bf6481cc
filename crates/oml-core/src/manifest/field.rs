//! Field types with caps: hexadecimal bytes, short texts and bounded lists, refused while they are read.

use std::fmt;
use std::marker::PhantomData;

use data_encoding::HEXLOWER;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroize;

/// Exactly `N` bytes as lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Hex<const N: usize>(pub(super) [u8; N]);

/// A text of at most `N` bytes.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Text<const N: usize>(pub(super) String);

/// At most `N` bytes as lower-case hexadecimal.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct HexBytes<const N: usize>(pub(super) Vec<u8>);

/// A list of at most `N` items.
pub(super) struct List<T, const N: usize>(pub(super) Vec<T>);

impl<const N: usize> Zeroize for Hex<N> {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = HEXLOWER.encode(&self.0);
        let done = serializer.serialize_str(&text);
        text.zeroize();
        done
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HexVisitor<const N: usize>;
        impl<const N: usize> Visitor<'_> for HexVisitor<N> {
            type Value = Hex<N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{N} bytes as {} lower-case hexadecimal digits", 2 * N)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Hex<N>, E> {
                let mut bytes = [0; N];
                if text.len() != 2 * N {
                    return Err(E::invalid_length(text.len(), &self));
                }
                // The value may be a secret: the error says what was expected and not what was found.
                let decoded = HEXLOWER.decode_mut(text.as_bytes(), &mut bytes);
                decoded.map_err(|_| {
                    E::custom(format_args!(
                        "expected {}",
                        &self as &dyn serde::de::Expected
                    ))
                })?;
                Ok(Hex(bytes))
            }
        }
        deserializer.deserialize_str(HexVisitor)
    }
}

impl<const N: usize> Serialize for HexBytes<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXLOWER.encode(&self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for HexBytes<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HexBytesVisitor<const N: usize>;
        impl<const N: usize> Visitor<'_> for HexBytesVisitor<N> {
            type Value = HexBytes<N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {N} bytes as lower-case hexadecimal digits")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<HexBytes<N>, E> {
                if text.len() > 2 * N {
                    return Err(E::invalid_length(text.len(), &self));
                }
                let bytes = HEXLOWER.decode(text.as_bytes());
                bytes.map(HexBytes).map_err(|_| {
                    E::custom(format_args!(
                        "expected {}",
                        &self as &dyn serde::de::Expected
                    ))
                })
            }
        }
        deserializer.deserialize_str(HexBytesVisitor)
    }
}

impl<const N: usize> Serialize for Text<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Text<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor<const N: usize>;
        impl<const N: usize> Visitor<'_> for TextVisitor<N> {
            type Value = Text<N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a text of at most {N} bytes")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text<N>, E> {
                if text.len() > N {
                    return Err(E::invalid_length(text.len(), &self));
                }
                Ok(Text(text.to_owned()))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

impl<T: Serialize, const N: usize> Serialize for List<T, N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for List<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T, const N: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for ListVisitor<T, N> {
            type Value = List<T, N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {N} items")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<List<T, N>, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    if list.len() == N {
                        return Err(A::Error::invalid_length(N + 1, &self));
                    }
                    list.push(item);
                }
                Ok(List(list))
            }
        }
        deserializer.deserialize_seq(ListVisitor(PhantomData))
    }
}
