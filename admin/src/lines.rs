//! Bytes become lines: a buffer that holds what arrived and gives it out line by line.

/// Received bytes that are not given out yet.
#[derive(Debug, Default)]
pub(crate) struct LineBuffer {
    bytes: Vec<u8>,
    /// Bytes before this are given out.
    start: usize,
    /// Between `start` and here is no newline.
    scanned: usize,
}

/// A line is longer than allowed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl LineBuffer {
    /// Takes bytes in. Memory grows only with what arrived.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.scanned = self.scanned.saturating_sub(self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next line that is not empty, without its end; `None` until more arrives.
    ///
    /// # Errors
    /// When a line, finished or not, is over `line_bytes_max`.
    pub(crate) fn next_line(&mut self, line_bytes_max: usize) -> Result<Option<Vec<u8>>, TooLong> {
        loop {
            let fresh = self.bytes.get(self.scanned..).unwrap_or_default();
            let Some(at) = fresh.iter().position(|&byte| byte == b'\n') else {
                self.scanned = self.bytes.len();
                return if self.len() > line_bytes_max { Err(TooLong) } else { Ok(None) };
            };
            let end = self.scanned + at;
            let line = self.bytes.get(self.start..end).unwrap_or_default().trim_ascii().to_vec();
            let length = end - self.start;
            self.start = end + 1;
            self.scanned = self.start;
            if length > line_bytes_max {
                return Err(TooLong);
            }
            if !line.is_empty() {
                return Ok(Some(line));
            }
        }
    }

    /// What is left when no more will come; the buffer is empty afterwards.
    pub(crate) fn take_rest(&mut self) -> Vec<u8> {
        let rest = self.bytes.get(self.start..).unwrap_or_default().trim_ascii().to_vec();
        self.clear();
        rest
    }

    /// Forgets everything and gives the memory back.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Bytes not given out.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory in use; an emptied buffer gives it back.
    pub(crate) fn held_bytes(&mut self) -> usize {
        if self.is_empty() {
            self.clear();
        }
        self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(buffer: &mut LineBuffer) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| buffer.next_line(1000).unwrap()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// However the bytes are cut into packets, the lines are those of the whole.
        #[test]
        fn pieces_make_the_same_lines(
            text in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b' '), any::<u8>()], 0..300),
            cuts in prop::collection::vec(1_usize..20, 1..20),
        ) {
            let (mut buffer, mut got, mut rest) = (LineBuffer::default(), Vec::new(), text.as_slice());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                buffer.push(piece);
                got.extend(lines(&mut buffer));
                rest = after;
            }
            got.extend(Some(buffer.take_rest()).filter(|line| !line.is_empty()));
            let whole: Vec<Vec<u8>> = text
                .split(|&byte| byte == b'\n')
                .map(|line| line.trim_ascii().to_vec())
                .filter(|line| !line.is_empty())
                .collect();
            prop_assert_eq!(got, whole);
            prop_assert_eq!(buffer.held_bytes(), 0);
        }
    }

    #[test]
    fn a_long_line_is_told_before_it_ends() {
        let mut buffer = LineBuffer::default();
        buffer.push(b"STATUS\n12345");
        assert_eq!(buffer.next_line(6), Ok(Some(b"STATUS".to_vec())));
        assert_eq!(buffer.next_line(6), Ok(None));
        buffer.push(b"67");
        assert_eq!(buffer.next_line(6), Err(TooLong));
    }
}
