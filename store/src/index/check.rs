//! Adding everything up anew, to hold against what is kept.

use redb::{ReadableTable, ReadableTableMetadata};

use super::Index;
use super::error::IndexError;
use super::state::Counts;
use super::tables::{self, LIVE};
use crate::digest::Digest;
use crate::record::{FileId, Record};

/// What the rows come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Of the records.
    pub digest: Digest,
    /// Of the records.
    pub counts: Counts,
    /// How many names are given.
    pub names: u64,
    /// How many files are listed by content.
    pub contents: u64,
    /// How many conflict copies are listed.
    pub copies: u64,
}

/// Reads all rows. As slow as that sounds: for tests and for `scrub`.
///
/// # Errors
/// When the database fails.
pub fn recompute(index: &Index) -> Result<Sums, IndexError> {
    let txn = index.tables()?;
    let mut sums = Sums {
        names: txn.open_table(LIVE.names)?.len()?,
        contents: txn.open_table(LIVE.contents)?.len()?,
        copies: txn.open_table(LIVE.copies)?.len()?,
        ..Sums::default()
    };
    for row in txn.open_table(LIVE.records)?.iter()? {
        let (id, row) = row?;
        let record: Record = tables::decode(row.value(), "a record")?;
        sums.digest.add(&FileId::from_number(id.value()).to_bytes(), row.value());
        sums.counts.add(&record);
    }
    Ok(sums)
}

#[cfg(test)]
impl Index {
    /// Holds what is kept against what the rows come to.
    pub(crate) fn check_sums(&self) {
        let sums = recompute(self).unwrap();
        assert_eq!((sums.digest, sums.counts), (self.digest(), self.counts()));
        assert_eq!(sums.names, self.counts().records());
        assert_eq!(sums.contents, self.counts().files);
        assert_eq!(sums.copies, self.counts().conflicts);
    }

    /// Says that another entry was applied last.
    pub(crate) fn pretend(&mut self, position: pickbox_raft::core::ids::LogPosition) {
        self.state.position = position;
    }
}
