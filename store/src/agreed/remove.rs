//! Away with things.

use super::Stop;
use super::namespace::{Namespace, not_root};
use crate::history_rows::Reason;
use crate::index::IndexError;
use crate::op::Outcome;
use crate::record::{Body, FileId, Record, VersionVector};

impl Namespace<'_> {
    pub(super) fn delete(&mut self, id: FileId, base: &VersionVector) -> Result<Outcome, Stop> {
        not_root(id)?;
        let Some(record) = self.record(id)? else { return Ok(Outcome::Nothing) };
        if *base != record.version {
            return Ok(Outcome::Kept(id));
        }
        Ok(self.delete_found(id, record)?)
    }

    /// Deletes it, unless it is a directory that holds something.
    pub(super) fn delete_found(
        &mut self,
        id: FileId,
        record: Record,
    ) -> Result<Outcome, IndexError> {
        if record.body == Body::Directory && !self.is_empty(id)? {
            return Ok(Outcome::Kept(id));
        }
        self.displace(id, &record, Reason::Deleted)?;
        self.take_away(id, record)?;
        Ok(Outcome::Done(id))
    }

    /// Takes a record away: lines from and to it end. Its version is in the history by now.
    pub(super) fn take_away(&mut self, id: FileId, mut record: Record) -> Result<(), IndexError> {
        self.end_line(id, &mut record)?;
        // Read again: if the two were copies of each other, the line to it has just ended.
        let record = self.linked(id)?;
        self.release(record.losing.clone())?;
        self.erase(id, record)
    }
}
