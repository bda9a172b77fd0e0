//! Reading old entries back.

use std::sync::Arc;

use pickbox_raft_core::ids::{Index, LogPosition};
use pickbox_raft_core::log::Entry;

use super::contents::Place;
use super::record::{Body, Header, Kind, record_bytes};
use super::segment;
use super::{Wal, WalError};
use crate::disk::{Disk, DiskFile};

impl<D: Disk> Wal<D> {
    /// Reads the entries of a range, both ends included, as far as they are in the log: fewer, or
    /// none, when it has them no more or not yet. The caller bounds the range.
    ///
    /// # Errors
    /// When a record has changed since it was written, or the disk failed.
    pub fn read(&self, from: Index, through: Index) -> Result<Vec<Arc<Entry>>, WalError> {
        let mut entries = Vec::new();
        let mut buffer = Vec::new();
        let mut index = from;
        while index <= through {
            let Some(place) = self.state.place(index) else { break };
            let position = self.state.position(index);
            entries.push(Arc::new(self.read_at(position, place, &mut buffer)?));
            index = index.next();
        }
        Ok(entries)
    }

    fn read_at(
        &self,
        position: LogPosition,
        place: Place,
        buffer: &mut Vec<u8>,
    ) -> Result<Entry, WalError> {
        let payload_bytes = usize::try_from(place.payload_bytes).unwrap_or(usize::MAX);
        let Some(segment) = self.segments.get(&place.segment) else {
            return Err(WalError::MissingSegment { file: segment::path(place.segment) });
        };
        buffer.clear();
        buffer.resize(record_bytes(payload_bytes), 0);
        segment.file.read_at(buffer, u64::from(place.offset))?;
        let body = Header::parse(buffer)
            .filter(|header| {
                header.entry == Some(position)
                    && header.nonce == segment.nonce
                    && header.offset == place.offset
                    && header.length == payload_bytes
            })
            .and_then(|header| header.whole_payload(buffer))
            .and_then(|payload| Body::decode(Kind::Entry, payload));
        match body {
            Some(Body::Entry(entry)) if entry.position() == position => Ok(entry),
            _ => Err(WalError::Corrupt {
                file: segment::path(place.segment),
                offset: u64::from(place.offset),
                entry: Some(position),
                reason: "an entry has changed since it was written".into(),
            }),
        }
    }
}
