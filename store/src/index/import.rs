//! Taking over the agreed state of another node, page by page.
//!
//! Pages are gathered in tables of their own; the tables in force stay as they are, and so does
//! everything that is said of this node's disk. When the last page is there and everything adds
//! up, the gathered tables take the place of the old ones in one durable transaction.

use std::fmt;

use pickbox_raft::core::ids::LogPosition;
use redb::{ReadableTable, ReadableTableMetadata};

use super::error::IndexError;
use super::pages::{PAGE_BYTES_MAX, PAGE_FORMAT, PAGE_HEAD_BYTES, PAGE_MAGIC, PageInfo, Row};
use super::sound;
use super::state::{FEATURE_LEVEL, INDEX_FORMAT, State};
use super::tables::{self, INCOMING, LIVE, Tables};
use super::{CHANGES_PER_COMMIT, Index};
use crate::agreed::{write_history, write_row};
use crate::history_rows::HistoryRow;
use crate::record::{FileId, Record};

/// Why a page or a state was not taken: fetch it again, perhaps from another node.
#[derive(Debug)]
pub enum ImportError {
    /// This node's own index failed: stop.
    Index(IndexError),
    /// The page was damaged on its way, or is none: nothing of it was taken.
    Garbled(&'static str),
    /// What the page says makes no sense.
    Damaged(&'static str),
    /// A version that this program does not understand.
    Format {
        /// The version found.
        found: u16,
    },
    /// The sender can do what this program cannot: update it.
    Level {
        /// The sender's level.
        found: u32,
    },
    /// Not the page that is due, or of another state: nothing of it was taken.
    OutOfOrder,
    /// The state does not add up.
    Mismatch(&'static str),
    /// The state is older than what this node has.
    Older,
    /// The state cannot be of the log that this node's own is of: one of the two nodes is wrong.
    Contradiction,
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(error) => error.fmt(f),
            Self::Garbled(what) => write!(f, "a page came damaged: {what}"),
            Self::Damaged(what) => write!(f, "a page is damaged: {what}"),
            Self::Format { found } => write!(f, "page format {found} is not understood"),
            Self::Level { found } => write!(f, "feature level {found} is not understood"),
            Self::OutOfOrder => f.write_str("a page came out of order or is of another state"),
            Self::Mismatch(what) => write!(f, "the state does not add up: {what}"),
            Self::Older => f.write_str("the state is older than the one here"),
            Self::Contradiction => f.write_str(
                "the state contradicts what was committed here: one of the two is wrong",
            ),
        }
    }
}

impl std::error::Error for ImportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Index(error) => Some(error),
            _ => None,
        }
    }
}

impl<E: Into<IndexError>> From<E> for ImportError {
    fn from(error: E) -> Self {
        Self::Index(error.into())
    }
}

/// Whether more pages are to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Yes.
    More,
    /// No: install it.
    All,
}

/// A state being gathered. Dropping it forgets what was gathered.
#[derive(Debug, Default)]
pub struct Importer {
    /// What the sender says of its state.
    pub(super) head: Option<State>,
    /// What the rows so far come to.
    pub(super) sum: State,
    next: u32,
    complete: bool,
}

impl Importer {
    /// Of which position the state is; known from the first page on.
    #[must_use]
    pub fn position(&self) -> Option<LogPosition> {
        self.head.as_ref().map(|head| head.position)
    }
}

impl Index {
    /// Begins to gather a state; forgets one that was being gathered.
    ///
    /// # Errors
    /// When the database fails.
    pub fn import_start(&mut self) -> Result<Importer, IndexError> {
        tables::drop_set(self.tables()?, &INCOMING)?;
        Ok(Importer::default())
    }

    /// Takes the next page.
    ///
    /// # Errors
    /// When it is not taken: the importer is of no use then, unless nothing of the page was taken.
    pub fn import_page(
        &mut self,
        importer: &mut Importer,
        page: &[u8],
    ) -> Result<Received, ImportError> {
        let (info, mut rest) = open_page(page)?;
        importer.expects(&info)?;
        let mut tables = Tables::open(self.tables()?, &INCOMING)?;
        for _ in 0..info.rows {
            let (row, tail) = postcard::take_from_bytes::<Row<'_>>(rest)
                .map_err(|_| ImportError::Damaged("a row"))?;
            importer.take(&mut tables, &row)?;
            rest = tail;
        }
        drop(tables);
        if !rest.is_empty() {
            return Err(ImportError::Damaged("bytes behind the last row"));
        }
        importer.turn(&info)?;
        self.changes = self.changes.saturating_add(usize::try_from(info.rows).unwrap_or(0));
        if self.changes >= CHANGES_PER_COMMIT {
            self.commit()?;
        }
        Ok(if info.last { Received::All } else { Received::More })
    }

    /// Puts the gathered state in force, durably. Tables of other modules stay as they are.
    ///
    /// # Errors
    /// When the state does not add up or is older: the one in force stays.
    pub fn import_install(&mut self, importer: Importer) -> Result<(), ImportError> {
        let Importer { head: Some(head), sum, complete: true, .. } = importer else {
            return Err(ImportError::OutOfOrder);
        };
        self.follows(&head)?;
        let txn = self.tables()?;
        adds_up(&Tables::open(txn, &INCOMING)?, &head, &sum)?;
        tables::drop_set(txn, &LIVE)?;
        tables::rename_set(txn, &INCOMING, &LIVE)?;
        self.state = head;
        self.memo.forget();
        Ok(self.checkpoint()?)
    }
}

impl Index {
    /// Whether a state may come after the one here: a later position in an earlier term, or the
    /// same with another content, would be of another log.
    fn follows(&self, head: &State) -> Result<(), ImportError> {
        let (theirs, ours) = (head.position, self.position());
        if theirs.index < ours.index {
            return Err(ImportError::Older);
        }
        let same = theirs.index == ours.index;
        if theirs.term < ours.term || same && (theirs != ours || head.digest != self.digest()) {
            return Err(ImportError::Contradiction);
        }
        Ok(())
    }
}

impl Importer {
    fn expects(&self, info: &PageInfo) -> Result<(), ImportError> {
        let same = self.position().is_none_or(|position| position == info.position);
        if self.complete || info.number != self.next || !same {
            return Err(ImportError::OutOfOrder);
        }
        Ok(())
    }

    fn take(&mut self, tables: &mut Tables<'_>, row: &Row<'_>) -> Result<(), ImportError> {
        let (Row::State(bytes) | Row::Record(_, bytes) | Row::History(bytes)) = *row;
        sound::check_length(bytes)?;
        match (*row, &self.head) {
            (Row::State(bytes), None) => self.head = Some(parse_head(bytes)?),
            (Row::Record(id, bytes), Some(head)) => {
                let record: Record = parse(bytes, "a record")?;
                sound::check_record(head, id, &record)?;
                self.take_record(tables, id, &record)?;
            }
            (Row::History(bytes), Some(head)) => {
                let row: HistoryRow = parse(bytes, "a history row")?;
                sound::check_history(head, &row)?;
                self.take_history(tables, &row)?;
            }
            _ => return Err(ImportError::Damaged("the state row comes first and once")),
        }
        Ok(())
    }

    fn take_record(
        &mut self,
        tables: &mut Tables<'_>,
        id: FileId,
        record: &Record,
    ) -> Result<(), ImportError> {
        let taken = tables.records.get(id.to_number())?.is_some()
            || tables::child(&tables.names, record.parent, &record.name)?.is_some();
        if taken || id == FileId::ROOT {
            return Err(ImportError::Damaged("an id or name comes twice"));
        }
        Ok(write_row(tables, &mut self.sum, id, None, Some(record))?)
    }

    fn take_history(
        &mut self,
        tables: &mut Tables<'_>,
        row: &HistoryRow,
    ) -> Result<(), ImportError> {
        if tables.history.get(row.key.to_bytes().as_slice())?.is_some() {
            return Err(ImportError::Damaged("a history row comes twice"));
        }
        Ok(write_history(tables, &mut self.sum, row)?)
    }

    fn turn(&mut self, info: &PageInfo) -> Result<(), ImportError> {
        if self.position() != Some(info.position) {
            return Err(ImportError::Damaged("the state row is of another position"));
        }
        self.next = self.next.saturating_add(1);
        self.complete = info.last;
        Ok(())
    }
}

fn open_page(page: &[u8]) -> Result<(PageInfo, &[u8]), ImportError> {
    if page.len() > PAGE_BYTES_MAX {
        return Err(ImportError::Garbled("too long"));
    }
    let (head, body) =
        page.split_first_chunk::<PAGE_HEAD_BYTES>().ok_or(ImportError::Garbled("too short"))?;
    let [m0, m1, m2, m3, v0, v1, c0, c1, c2, c3] = *head;
    if [m0, m1, m2, m3] != PAGE_MAGIC {
        return Err(ImportError::Garbled("not a page"));
    }
    let found = u16::from_le_bytes([v0, v1]);
    if found != PAGE_FORMAT {
        return Err(ImportError::Format { found });
    }
    if crc32fast::hash(body) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Err(ImportError::Garbled("the checksum is wrong"));
    }
    postcard::take_from_bytes(body).map_err(|_| ImportError::Garbled("the head"))
}

fn parse_head(bytes: &[u8]) -> Result<State, ImportError> {
    match postcard::take_from_bytes::<u16>(bytes) {
        Ok((INDEX_FORMAT, _)) => {}
        Ok((found, _)) => return Err(ImportError::Format { found }),
        Err(_) => return Err(ImportError::Damaged("the state row")),
    }
    let state: State = parse(bytes, "the state row")?;
    if state.level > FEATURE_LEVEL {
        return Err(ImportError::Level { found: state.level });
    }
    sound::check_head(&state)?;
    Ok(state)
}

fn parse<T: serde::de::DeserializeOwned>(
    bytes: &[u8],
    what: &'static str,
) -> Result<T, ImportError> {
    tables::decode(bytes, what).map_err(|_| ImportError::Damaged(what))
}

/// Checks the gathered rows against what the sender says they come to, and that each has a place.
fn adds_up(tables: &Tables<'_>, head: &State, sum: &State) -> Result<(), ImportError> {
    if head.digest != sum.digest {
        return Err(ImportError::Mismatch("the root digest"));
    }
    if head.counts != sum.counts || head.history_rows != sum.history_rows {
        return Err(ImportError::Mismatch("the number of rows"));
    }
    assert!(tables.records.len()? == sum.counts.records(), "what was written is there");
    sound::check_tree(tables, sum.counts.records())
}
