//! Reading a segment record by record, and telling a torn tail from rot.

use super::WalError;
use super::record::{ALIGNMENT, Body, HEADER_BYTES, Header};
use super::segment::{self, Segment};
use crate::disk::DiskFile;

/// Read from the disk at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// A window on a segment's file; what lies behind the file's end reads as zeros.
pub(super) struct Reader<'a, F> {
    segment: &'a Segment<F>,
    window: Vec<u8>,
    window_from: u64,
}

/// What lies behind the last record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// Nothing of this segment.
    Clean,
    /// Parts of a batch that was never synced, up to this offset.
    Torn { end: u32 },
    /// A record which says that the missing one had been synced.
    Rotten,
}

impl<'a, F: DiskFile> Reader<'a, F> {
    pub(super) fn new(segment: &'a Segment<F>) -> Self {
        Self { segment, window: Vec::new(), window_from: 0 }
    }

    /// Bytes of the segment, from the window if they are in it.
    fn bytes(&mut self, offset: u64, length: usize) -> Result<&[u8], WalError> {
        if self.in_window(offset, length).is_none() {
            self.window.clear();
            let left = u64::from(self.segment.length).saturating_sub(offset);
            let ahead = usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
            self.window.resize(length.max(ahead), 0);
            self.window_from = offset;
            let read = self.segment.file.read_at(&mut self.window, offset)?;
            self.window.get_mut(read..).unwrap_or_default().fill(0);
        }
        let range = self.in_window(offset, length).unwrap_or(0..0);
        Ok(self.window.get(range).unwrap_or_default())
    }

    fn in_window(&self, offset: u64, length: usize) -> Option<std::ops::Range<usize>> {
        let from = usize::try_from(offset.checked_sub(self.window_from)?).ok()?;
        let end = from.checked_add(length)?;
        (end <= self.window.len()).then_some(from..end)
    }

    /// The header at an offset, if there is one of this segment and place; its payload may be bad.
    pub(super) fn identity(&mut self, offset: u32) -> Result<Option<Header>, WalError> {
        let (nonce, segment_length) = (self.segment.nonce, u64::from(self.segment.length));
        let at = u64::from(offset);
        Ok(Header::parse(self.bytes(at, HEADER_BYTES)?).filter(|header| {
            let bytes = u64::try_from(header.record_bytes()).unwrap_or(u64::MAX / 2);
            header.nonce == nonce && header.offset == offset && at + bytes <= segment_length
        }))
    }

    /// The record at an offset, if there is a whole one of this segment.
    pub(super) fn header(&mut self, offset: u32) -> Result<Option<Header>, WalError> {
        let Some(header) = self.identity(offset)? else { return Ok(None) };
        let record = self.bytes(u64::from(offset), header.record_bytes())?;
        Ok(header.whole_payload(record).is_some().then_some(header))
    }

    /// The content of a record whose header was just read.
    pub(super) fn body(&mut self, header: &Header) -> Result<Body, WalError> {
        let record = self.bytes(u64::from(header.offset), header.record_bytes())?;
        let payload = record.get(header.payload()).unwrap_or_default();
        Body::decode(header.kind, payload).ok_or_else(|| WalError::Corrupt {
            file: segment::path(self.segment.number),
            offset: u64::from(header.offset),
            entry: header.entry,
            reason: "a record with a right checksum does not say what its kind should".into(),
        })
    }

    /// What lies behind the end of the records; `missing` is the sequence that should be there.
    pub(super) fn tail(&mut self, end: u32, missing: u64) -> Result<Tail, WalError> {
        let mut tail = Tail::Clean;
        let mut from = end;
        while from < self.segment.length {
            let places = self.nonces(from)?;
            for offset in places {
                let end = offset.saturating_add(u32::try_from(HEADER_BYTES).unwrap_or(0));
                tail = Tail::Torn { end: end.min(self.segment.length) };
                // A header says so by itself, whatever has become of its payload.
                let confirms = |header: &Header| header.durable_before > missing;
                if self.identity(offset)?.as_ref().is_some_and(confirms) {
                    return Ok(Tail::Rotten);
                }
            }
            from = from.saturating_add(u32::try_from(CHUNK_BYTES).unwrap_or(u32::MAX));
        }
        Ok(tail)
    }

    /// Where, in one chunk from this offset, headers with this segment's nonce may begin.
    fn nonces(&mut self, from: u32) -> Result<Vec<u32>, WalError> {
        let nonce = self.segment.nonce.to_le_bytes();
        let left = usize::try_from(self.segment.length - from).unwrap_or(CHUNK_BYTES);
        let chunk = left.min(CHUNK_BYTES);
        // The nonce stands eight bytes into a header.
        let words = self.bytes(u64::from(from), chunk + ALIGNMENT)?;
        let words = words.get(ALIGNMENT..).unwrap_or_default().chunks_exact(ALIGNMENT);
        let starts = (from..).step_by(ALIGNMENT);
        Ok(starts.zip(words).filter(|(_, word)| **word == nonce).map(|(at, _)| at).collect())
    }
}
