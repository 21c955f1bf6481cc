//! What is kept of one call for the evidence window: the permission, and the receipt where there was an answer.

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When it was admitted, in seconds since 1970.
    pub time: u64,
    /// The permission in its compact form.
    pub token: String,
    /// The receipt in its compact form, and the tokens of prompt and answer; `None` without an answer.
    pub receipt: Option<(String, [u64; 2])>,
}

/// `time (8) ‖ token`.
pub(super) fn call_to_bytes(time: u64, token: &str) -> Vec<u8> {
    let mut bytes = time.to_be_bytes().to_vec();
    bytes.extend_from_slice(token.as_bytes());
    bytes
}

pub(super) fn call_from_bytes(bytes: &[u8]) -> Option<(u64, String)> {
    let (time, token) = bytes.split_first_chunk()?;
    let token = str::from_utf8(token).ok()?;
    Some((u64::from_be_bytes(*time), token.to_owned()))
}

/// `prompt tokens (8) ‖ answer tokens (8) ‖ receipt`.
pub(super) fn receipt_to_bytes(tokens: [u64; 2], receipt: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + receipt.len());
    for count in tokens {
        bytes.extend_from_slice(&count.to_be_bytes());
    }
    bytes.extend_from_slice(receipt.as_bytes());
    bytes
}

pub(super) fn receipt_from_bytes(bytes: &[u8]) -> Option<(String, [u64; 2])> {
    let (prompt, rest) = bytes.split_first_chunk()?;
    let (answer, receipt) = rest.split_first_chunk()?;
    let tokens = [u64::from_be_bytes(*prompt), u64::from_be_bytes(*answer)];
    Some((str::from_utf8(receipt).ok()?.to_owned(), tokens))
}
