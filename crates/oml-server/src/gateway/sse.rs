//! Server-sent events, read from an upstream's bytes as they come (WHATWG HTML, "Server-sent events", 9.2.6).
//!
//! Only what the API uses is kept: the `data` of each event. Lines end with LF, CRLF or CR, wherever the pieces are cut; comments and
//! other fields are passed over. Sizes are capped, and an event must be UTF-8.

/// Bytes of one event at most.
const MAX_EVENT_BYTES: usize = 1 << 20;

/// Why a stream is not one of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// An event is too long.
    #[error("events: expected at most {MAX_EVENT_BYTES} bytes each, got more")]
    TooLong,
    /// An event is not text.
    #[error("events: expected UTF-8, got other bytes")]
    Encoding,
}

/// A reader of events.
#[derive(Debug, Default)]
pub struct SseReader {
    line: Vec<u8>,
    /// The last byte was a CR, so that an LF now belongs to it.
    after_cr: bool,
    data: Option<String>,
}

impl SseReader {
    /// Takes the next piece of the stream; gives the `data` of the events that it completes.
    ///
    /// # Errors
    /// When an event is too long or not UTF-8; the stream is then of no use any more.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Vec<String>, SseError> {
        let mut events = Vec::new();
        for byte in bytes {
            let joined = std::mem::replace(&mut self.after_cr, *byte == b'\r');
            match byte {
                b'\n' if joined => {}
                b'\n' | b'\r' => events.extend(self.end_line()?),
                byte => {
                    if self.line.len() >= MAX_EVENT_BYTES {
                        return Err(SseError::TooLong);
                    }
                    self.line.push(*byte);
                }
            }
        }
        Ok(events)
    }

    fn end_line(&mut self) -> Result<Option<String>, SseError> {
        if self.line.is_empty() {
            return Ok(self.data.take());
        }
        let line = str::from_utf8(&self.line).map_err(|_| SseError::Encoding)?;
        if let Some(value) = line.strip_prefix("data:") {
            let value = value.strip_prefix(' ').unwrap_or(value);
            match &mut self.data {
                None => self.data = Some(value.to_owned()),
                Some(data) => {
                    if data.len() + value.len() >= MAX_EVENT_BYTES {
                        return Err(SseError::TooLong);
                    }
                    data.push('\n');
                    data.push_str(value);
                }
            }
        }
        self.line.clear();
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b": hello\r\ndata: one\r\n\r\nevent: x\ndata:two\ndata:  three\n\ndata: \xc3\xa9\r\rdata\n\n";

    #[test]
    fn pieces_may_be_cut_anywhere() {
        let expected = ["one", "two\n three", "\u{e9}"];
        let mut reader = SseReader::default();
        assert_eq!(reader.read(STREAM).unwrap(), expected);
        for cut in 0..STREAM.len() {
            let mut reader = SseReader::default();
            let mut events = reader.read(&STREAM[..cut]).unwrap();
            events.extend(reader.read(&STREAM[cut..]).unwrap());
            assert_eq!(events, expected, "cut at {cut}");
        }
    }

    #[test]
    fn faults_are_named() {
        let mut reader = SseReader::default();
        assert_eq!(reader.read(b"data: \xff\n"), Err(SseError::Encoding));
        let mut reader = SseReader::default();
        let long = vec![b'a'; MAX_EVENT_BYTES + 1];
        assert_eq!(reader.read(&long), Err(SseError::TooLong));
        let mut reader = SseReader::default();
        let line = [b"data:".as_slice(), &vec![b'a'; MAX_EVENT_BYTES / 2], b"\n"].concat();
        assert_eq!(reader.read(&line), Ok(vec![]));
        assert_eq!(reader.read(&line), Err(SseError::TooLong));
    }
}
