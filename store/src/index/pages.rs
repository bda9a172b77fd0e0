//! The whole agreed state in pages, for a node that was away for longer than the log reaches.
//!
//! A [`Snapshot`] is a read transaction: it stays as it is while entries are applied. Its pages are
//! fetched one by one, each naming where the next begins, so that a transfer can be taken up again
//! after a lost connection as long as the snapshot lives.

use std::ops::Bound;

use pickbox_raft::core::ids::LogPosition;
use redb::{ReadTransaction, ReadableDatabase};
use serde::{Deserialize, Serialize};

use super::error::IndexError;
use super::tables::{self, LIVE, STATE};
use super::{Index, STATE_ROW, state::State};
use crate::record::FileId;

/// Most bytes of one page.
pub const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// What a page begins with.
pub(crate) const PAGE_MAGIC: [u8; 4] = *b"PBNP";
/// The version of pages.
pub(crate) const PAGE_FORMAT: u16 = 3;
/// Magic, version, checksum.
pub(crate) const PAGE_HEAD_BYTES: usize = 10;
/// A row is never larger: a name, a path or link, and two dozen vectors, with room to spare.
pub(crate) const ROW_BYTES_MAX: usize = 128 * 1024;

const _: () = assert!(PAGE_HEAD_BYTES + ROW_BYTES_MAX < PAGE_BYTES_MAX / 2);

/// The agreed state at one position, unmoved by what is applied later. While it lives the file
/// keeps all pages that it shows: bound its life.
pub struct Snapshot {
    position: LogPosition,
    txn: ReadTransaction,
}

/// Where a page begins: opaque to who asks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// How many pages came before.
    pub(crate) number: u32,
    /// What the last of them ended with.
    after: After,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum After {
    /// Nothing: the state row is next.
    #[default]
    Start,
    /// The record of this id; `None`: records begin.
    Record(Option<FileId>),
    /// The row of the history with this key; `None`: history begins.
    History(Option<[u8; 12]>),
}

/// Some rows of the state, checksummed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// What is sent.
    pub bytes: Vec<u8>,
    /// Where the next one begins; `None` after the last.
    pub next: Option<Cursor>,
}

/// One row as a page carries it, still encoded.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Row<'a> {
    State(#[serde(borrow)] &'a [u8]),
    Record(FileId, #[serde(borrow)] &'a [u8]),
    History(#[serde(borrow)] &'a [u8]),
}

/// What begins the body of a page.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PageInfo {
    /// Of which state.
    pub(crate) position: LogPosition,
    /// Which page of it, from 0.
    pub(crate) number: u32,
    /// Whether it is the last.
    pub(crate) last: bool,
    /// How many rows follow.
    pub(crate) rows: u32,
}

impl Index {
    /// The state as it is now. Commits.
    ///
    /// # Errors
    /// When the database fails.
    pub fn snapshot(&mut self) -> Result<Snapshot, IndexError> {
        self.commit()?;
        Ok(Snapshot { position: self.position(), txn: self.database.begin_read()? })
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("position", &self.position).finish_non_exhaustive()
    }
}

impl Snapshot {
    /// The last entry that it holds.
    #[must_use]
    pub fn position(&self) -> LogPosition {
        self.position
    }

    /// The page that begins at `cursor` (`Cursor::default()` for the first), of about `bytes_max`
    /// bytes and never over [`PAGE_BYTES_MAX`].
    ///
    /// # Errors
    /// When the database fails.
    pub fn page(&self, cursor: &Cursor, bytes_max: usize) -> Result<Page, IndexError> {
        let mut filler = Filler::new(bytes_max);
        let mut after = Some(cursor.after);
        while let Some(from) = after
            && filler.has_room()
        {
            after = self.fill(from, &mut filler)?;
        }
        let info = PageInfo {
            position: self.position,
            number: cursor.number,
            last: after.is_none(),
            rows: filler.rows,
        };
        let next = after.map(|after| Cursor { number: cursor.number.saturating_add(1), after });
        Ok(Page { bytes: filler.finish(&info)?, next })
    }

    /// Takes rows of one kind; returns where to go on.
    fn fill(&self, after: After, filler: &mut Filler) -> Result<Option<After>, IndexError> {
        match after {
            After::Start => self.fill_state(filler),
            After::Record(id) => self.fill_records(id, filler),
            After::History(key) => self.fill_history(key, filler),
        }
    }

    fn fill_state(&self, filler: &mut Filler) -> Result<Option<After>, IndexError> {
        let table = self.txn.open_table(STATE)?;
        let row = table.get(STATE_ROW)?.ok_or(IndexError::Corrupt("no state row"))?;
        // Decoded once, so that a damaged one is found here and not over there.
        tables::decode::<State>(row.value(), "the state row")?;
        filler.push(&Row::State(row.value()))?;
        Ok(Some(After::Record(None)))
    }

    fn fill_records(
        &self,
        mut last: Option<FileId>,
        filler: &mut Filler,
    ) -> Result<Option<After>, IndexError> {
        let table = self.txn.open_table(LIVE.records)?;
        let start = last.map_or(Bound::Unbounded, |id| Bound::Excluded(id.to_number()));
        for row in table.range::<u128>((start, Bound::Unbounded))? {
            if !filler.has_room() {
                return Ok(Some(After::Record(last)));
            }
            let (id, row) = row?;
            let id = FileId::from_number(id.value());
            filler.push(&Row::Record(id, row.value()))?;
            last = Some(id);
        }
        Ok(Some(After::History(None)))
    }

    fn fill_history(
        &self,
        mut last: Option<[u8; 12]>,
        filler: &mut Filler,
    ) -> Result<Option<After>, IndexError> {
        let table = self.txn.open_table(LIVE.history)?;
        let start = last.as_ref().map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_slice()));
        for row in table.range::<&[u8]>((start, Bound::Unbounded))? {
            if !filler.has_room() {
                return Ok(Some(After::History(last)));
            }
            let (key, row) = row?;
            filler.push(&Row::History(row.value()))?;
            let key = key.value().try_into();
            last = Some(key.map_err(|_| IndexError::Corrupt("a key of the history"))?);
        }
        Ok(None)
    }
}

/// Gathers the rows of one page.
struct Filler {
    body: Vec<u8>,
    rows: u32,
    bytes_max: usize,
}

impl Filler {
    fn new(bytes_max: usize) -> Self {
        let room = PAGE_BYTES_MAX - PAGE_HEAD_BYTES - 2 * ROW_BYTES_MAX;
        Self { body: Vec::new(), rows: 0, bytes_max: bytes_max.clamp(1, room) }
    }

    fn has_room(&self) -> bool {
        self.body.len() < self.bytes_max
    }

    fn push(&mut self, row: &Row<'_>) -> Result<(), IndexError> {
        let body = std::mem::take(&mut self.body);
        let before = body.len();
        self.body = postcard::to_extend(row, body)
            .map_err(|_| IndexError::Corrupt("a row cannot be encoded"))?;
        self.rows += 1;
        assert!(self.body.len() - before <= ROW_BYTES_MAX, "rows are bounded");
        Ok(())
    }

    fn finish(self, info: &PageInfo) -> Result<Vec<u8>, IndexError> {
        let mut body = tables::encode(info)?;
        body.extend_from_slice(&self.body);
        let crc = crc32fast::hash(&body);
        let mut bytes = Vec::with_capacity(PAGE_HEAD_BYTES + body.len());
        bytes.extend_from_slice(&PAGE_MAGIC);
        bytes.extend_from_slice(&PAGE_FORMAT.to_le_bytes());
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(&body);
        assert!(bytes.len() <= PAGE_BYTES_MAX, "pages are bounded");
        Ok(bytes)
    }
}
