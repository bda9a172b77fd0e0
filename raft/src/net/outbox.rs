//! Frames on their way out of one connection.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};

use super::frame::{Frame, HEADER_BYTES};
use super::stream::Stream;

/// Frames in one write: two slices each, well below the kernel's 1,024.
const BATCH_FRAMES: usize = 64;

/// A queue bounded in bytes. One frame is always taken when it is empty.
#[derive(Debug)]
pub(crate) struct Outbox {
    frames: VecDeque<Frame>,
    /// Bytes of the first frame that have gone out.
    sent: usize,
    bytes: usize,
    bytes_max: usize,
}

impl Outbox {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { frames: VecDeque::new(), sent: 0, bytes: 0, bytes_max }
    }

    /// Takes a frame, or gives it back when full.
    pub(crate) fn push(&mut self, frame: Frame) -> Result<(), Frame> {
        let bytes = self.bytes.saturating_add(frame.len());
        if !self.frames.is_empty() && bytes > self.bytes_max {
            return Err(frame);
        }
        self.bytes = bytes;
        self.frames.push_back(frame);
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Drops everything; how many frames that were.
    pub(crate) fn clear(&mut self) -> usize {
        let dropped = self.frames.len();
        self.frames.clear();
        self.sent = 0;
        self.bytes = 0;
        dropped
    }

    /// Writes once, as much as the kernel takes.
    pub(crate) fn write(&mut self, stream: &mut Stream) -> io::Result<Written> {
        let mut slices = [IoSlice::new(&[]); 2 * BATCH_FRAMES];
        let mut skip = self.sent;
        let mut count = 0;
        for (pair, frame) in slices.chunks_exact_mut(2).zip(&self.frames) {
            let (header, payload) = unsent(frame, skip);
            if let [first, second] = pair {
                *first = IoSlice::new(header);
                *second = IoSlice::new(payload);
            }
            skip = 0;
            count += 2;
        }
        if count == 0 {
            return match stream.push() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    Ok(Written { bytes: 0, blocked: true })
                }
                other => other.map(|()| Written { bytes: 0, blocked: false }),
            };
        }
        match stream.write_vectored(slices.get(..count).unwrap_or_default()) {
            Ok(bytes) => {
                self.advance(bytes);
                Ok(Written { bytes, blocked: stream.is_owing() })
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Ok(Written { bytes: 0, blocked: true })
            }
            Err(error) => Err(error),
        }
    }

    fn advance(&mut self, written: usize) {
        self.sent = self.sent.saturating_add(written);
        while let Some(length) = self.frames.front().map(Frame::len)
            && self.sent >= length
        {
            self.sent -= length;
            self.bytes = self.bytes.saturating_sub(length);
            self.frames.pop_front();
        }
    }
}

/// What one write did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) bytes: usize,
    /// The kernel takes no more until it says so.
    pub(crate) blocked: bool,
}

/// The parts of a frame after its first `sent` bytes.
fn unsent(frame: &Frame, sent: usize) -> (&[u8], &[u8]) {
    let header = frame.header.get(sent..).unwrap_or_default();
    let payload = frame.payload.get(sent.saturating_sub(HEADER_BYTES)..).unwrap_or_default();
    (header, payload)
}
