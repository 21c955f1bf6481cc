//! Fields of a DER structure one after the other, as the bytes they are: what was signed is never encoded again.

use der::asn1::AnyRef;
use der::{Decode, Reader as _, SliceReader, Tag, TagNumber};

use super::rfc3161::TimeStampError;

/// The rest of a structure's fields.
pub(super) struct Fields<'a> {
    reader: SliceReader<'a>,
    /// Name of the structure, for errors.
    of: &'static str,
}

impl<'a> Fields<'a> {
    /// The fields inside `value`, which must have the tag.
    pub(super) fn of(
        of: &'static str,
        value: AnyRef<'a>,
        tag: Tag,
    ) -> Result<Self, TimeStampError> {
        if der::Tagged::tag(&value) != tag {
            return Err(TimeStampError::Der { field: of });
        }
        Self::inside(of, value.value())
    }

    /// The fields that `bytes` consist of.
    pub(super) fn inside(of: &'static str, bytes: &'a [u8]) -> Result<Self, TimeStampError> {
        let reader = SliceReader::new(bytes).map_err(|_| TimeStampError::Der { field: of })?;
        Ok(Self { reader, of })
    }

    pub(super) fn is_finished(&self) -> bool {
        self.reader.is_finished()
    }

    /// The next field of any type.
    pub(super) fn any(&mut self) -> Result<AnyRef<'a>, TimeStampError> {
        self.next()
    }

    /// The next field of a type.
    pub(super) fn next<T: Decode<'a>>(&mut self) -> Result<T, TimeStampError> {
        let field = self.of;
        T::decode(&mut self.reader).map_err(|_| TimeStampError::Der { field })
    }

    /// The next field's bytes, tag and length among them.
    pub(super) fn raw(&mut self) -> Result<&'a [u8], TimeStampError> {
        let field = self.of;
        let bytes = self.reader.tlv_bytes();
        bytes.map_err(|_| TimeStampError::Der { field })
    }

    /// The next field where it has the tag.
    pub(super) fn optional(&mut self, tag: Tag) -> Result<Option<AnyRef<'a>>, TimeStampError> {
        if Tag::peek(&self.reader).ok() == Some(tag) {
            return self.any().map(Some);
        }
        Ok(None)
    }

    /// Refuses what follows.
    pub(super) fn end(self) -> Result<(), TimeStampError> {
        let field = self.of;
        let ended = self.reader.finish();
        ended.map_err(|_| TimeStampError::Der { field })
    }
}

/// The tag `[number]` of a constructed value.
pub(super) const fn context(number: u32) -> Tag {
    Tag::ContextSpecific {
        constructed: true,
        number: TagNumber(number),
    }
}
