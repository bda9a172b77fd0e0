//! The write-ahead log: what a node must not forget, in one order, on disk.
//!
//! Term, vote and entries share *one* log of records (two files could disagree after a crash). A
//! batch of [`LogOp`]s is one vectored write and one `fdatasync` into a file whose blocks were
//! written before, so that the sync changes no metadata. What arrives during a sync becomes the
//! next batch: there is no timer.
//!
//! ```text
//!   wal/00000007.wal   wal/00000008.wal          wal/00000009.wal
//!   [head|e|e|h|e|..]  [head|e|e|e|......zeros]  [zeros, prepared ahead]
//! ```
//!
//! The log is cut into segments, files of one length. Each begins with a head that repeats what
//! the segments before it say beside the entries, so that old ones can be dropped whole. The next
//! one is prepared ahead by [`Wal::maintain`], off the path of the acknowledgements.
//!
//! # After a crash
//! A batch that was not synced may be on the disk in any subset of its sectors. So the first bad
//! record is the end of the log if everything after it can be of that same batch, which was never
//! acknowledged. Each record says which records had been synced when it was written: a valid one
//! behind a bad one that had been synced means that the disk has changed durable bytes, and the
//! log refuses to open rather than forget acknowledged entries (Alagappan et al., FAST 2018).
//!
//! Behind the newest batch nothing would say so. Therefore, when the log falls idle, it writes a
//! record that says nothing else ([`Wal::confirm`]). It is not synced, for that would cost what the
//! batch cost; but whatever ends the process leaves it in the page cache, and the kernel writes it
//! back within the minute. What remains is the power failing before that *and* rot in just this
//! batch: then the leader tells, who knows what this node acknowledged.
//!
//! # After a failed sync
//! The kernel may have dropped what it could not write and call the next sync a success (Rebello
//! et al., ATC 2020). The log therefore stops for good; opening it again writes the records that
//! no sync has confirmed once more, and syncs them, before it believes them.

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;
use std::sync::Arc;

use pickbox_raft_core::Restored;
use pickbox_raft_core::event::LogOp;
use pickbox_raft_core::ids::{Index, LogPosition};
use pickbox_raft_core::log::{Entry, HardState};
use pickbox_raft_core::members::Members;
use serde::Serialize;

use crate::disk::{Disk, DiskFile};
use contents::{Contents, Place};
use record::{HEADER_BYTES, Head, Header, Kind, Mark, PAYLOAD_BYTES_MAX, record_bytes};
use segment::{RECORDS_FROM, Segment};
use spare::Spare;

mod contents;
mod error;
mod open;
#[doc(hidden)]
pub mod probe;
mod read;
mod record;
mod scan;
mod segment;
mod spare;
#[cfg(test)]
mod tests;

pub use error::WalError;
pub use spare::Maintained;

/// Length of a segment unless told otherwise.
pub const SEGMENT_BYTES: u32 = 16 * 1024 * 1024;
/// A segment is never shorter: its header and some records.
pub const SEGMENT_BYTES_MIN: u32 = 2 * RECORDS_FROM;
/// A segment is never longer: places in it are counted in 32 bits.
pub const SEGMENT_BYTES_MAX: u32 = 1024 * 1024 * 1024;
/// This part of each segment, its end, takes no entries: what follows must have room when the disk
/// is full and there is no next segment.
const KEPT_SHARE: u32 = 16;
/// This part, the end of that end, is for what makes space: records of compaction and reset.
const COMPACTION_SHARE: u32 = 2 * KEPT_SHARE;
/// A batch buffer larger than this is given back after use.
const BUFFER_BYTES_KEPT: usize = 1024 * 1024;

const _: () = assert!(SEGMENT_BYTES_MIN <= SEGMENT_BYTES && SEGMENT_BYTES <= SEGMENT_BYTES_MAX);
// Thousands of votes, each confirmed, in a usual segment; one in the smallest.
const _: () = assert!(SEGMENT_BYTES / COMPACTION_SHARE > 2000 * 256);
const _: () = assert!(SEGMENT_BYTES_MIN / COMPACTION_SHARE >= 256);

/// How a log is kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Length of new segments, a multiple of 4096; a record must fit into one.
    pub segment_bytes: u32,
    /// Drawn at random for each opening: makes the nonces of segments.
    pub nonce_seed: u64,
}

impl Options {
    /// Segments of the usual length.
    #[must_use]
    pub fn new(nonce_seed: u64) -> Self {
        Self { segment_bytes: SEGMENT_BYTES, nonce_seed }
    }
}

/// Counts since the log was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalCounters {
    /// Batches of records written: one system call each.
    pub writes: u64,
    /// Syncs of written batches.
    pub syncs: u64,
    /// Bytes of records written.
    pub bytes: u64,
    /// Records written that only confirm the batch before: one write each, in no batch, no sync.
    pub confirmations: u64,
    /// Segments begun.
    pub rotations: u64,
    /// Syncs that preparing and dropping segments cost, off the path of acknowledgements.
    pub maintenance_syncs: u64,
}

/// Which part of a segment a record may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// All but the end that is kept.
    Entries,
    /// Of that end what is kept for term, vote and truncation too: without space for entries a node
    /// must still be able to take part in elections.
    Promises,
    /// All.
    Compaction,
}

impl Room {
    /// What it leaves of a segment of this length.
    fn kept_bytes(self, length: u32) -> u32 {
        match self {
            Self::Entries => length / KEPT_SHARE,
            Self::Promises => length / COMPACTION_SHARE,
            Self::Compaction => 0,
        }
    }
}

/// One record to be.
#[derive(Debug)]
enum Item {
    HardState(HardState),
    Entry(Arc<Entry>),
    Truncate(Index),
    Reset { at: LogPosition, members: Members },
    Compact { at: LogPosition, members: Members },
}

impl Item {
    fn room(&self) -> Room {
        match self {
            Self::Entry(_) => Room::Entries,
            Self::HardState(_) | Self::Truncate(_) => Room::Promises,
            Self::Reset { .. } | Self::Compact { .. } => Room::Compaction,
        }
    }
}

/// The log of one node. See the [module](self).
#[derive(Debug)]
pub struct Wal<D: Disk> {
    disk: D,
    options: Options,
    state: Contents,
    /// All segments with records, in order; the last one is written to.
    segments: BTreeMap<u32, Segment<D::File>>,
    spare: Spare<D::File>,
    /// Given to [`Wal::write`] and not encoded yet: more than nothing only after
    /// [`WalError::Full`].
    queue: VecDeque<Item>,
    /// Encoded, not yet written; goes to `offset` of the last segment.
    buffer: Vec<u8>,
    scratch: Vec<u8>,
    offset: u32,
    next_sequence: u64,
    /// All records before this sequence are synced.
    durable_before: u64,
    /// As the newest record says that was written.
    confirmed_before: u64,
    /// Segments before this one are not needed.
    keep_from: u32,
    counters: WalCounters,
    stopped: bool,
}

impl<D: Disk> Wal<D> {
    /// Where it lies.
    pub(crate) fn disk(&self) -> &D {
        &self.disk
    }

    /// Makes a new, empty log. Segments that are there are of a node that was never completely
    /// set up (its identity is stored after this) and are removed.
    ///
    /// # Errors
    /// When the disk is full or failed.
    pub fn create(disk: D, options: Options) -> Result<Self, WalError> {
        open::create(disk, options)
    }

    /// Opens the log and gives what it says to `replay`, in order: first the term and vote, and a
    /// [`LogOp::Reset`] to the position before the first entry there is; then all that happened
    /// since. Memory is bounded by one record and twelve bytes an entry.
    ///
    /// # Errors
    /// When there is no log, when it is damaged, when `replay` finds a record impossible (its text
    /// comes back as [`WalError::Corrupt`]), or when the disk failed. Nothing was changed then.
    pub fn open(
        disk: D,
        options: Options,
        replay: &mut dyn FnMut(&LogOp) -> Result<(), String>,
    ) -> Result<Self, WalError> {
        open::open(disk, options, replay)
    }

    /// Opens the log and reads it into what the core starts from.
    ///
    /// # Errors
    /// As [`Wal::open`].
    pub fn restore(disk: D, options: Options) -> Result<(Self, Restored), WalError> {
        let mut restored = Restored::default();
        let wal = Self::open(disk, options, &mut |op| restored.replay(op))?;
        Ok((wal, restored))
    }

    /// The position before the first entry that can be read.
    #[must_use]
    pub fn base(&self) -> LogPosition {
        self.state.base()
    }

    /// The position of the last entry.
    #[must_use]
    pub fn last(&self) -> LogPosition {
        self.state.last()
    }

    /// Term and vote.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.state.hard_state
    }

    /// Counts since the log was opened.
    #[must_use]
    pub fn counters(&self) -> WalCounters {
        self.counters
    }

    /// Bytes that the segments take up on disk, the spare one included.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        let used: u64 = self.segments.values().map(|segment| u64::from(segment.length)).sum();
        used + self.spare.bytes()
    }

    /// Writes and syncs a batch: all of it is durable when this returns.
    ///
    /// # Errors
    /// [`WalError::Full`]: the rest of the batch waits; call this again, with nothing or with
    /// more. After any other error the log has stopped.
    ///
    /// # Panics
    /// When an operation does not fit the log: an entry that does not follow the last one, a
    /// truncation of what was compacted.
    pub fn commit(&mut self, ops: impl IntoIterator<Item = LogOp>) -> Result<(), WalError> {
        self.write(ops)?;
        self.sync()
    }

    /// Writes a batch; [`Wal::sync`] makes it durable.
    ///
    /// # Errors
    /// As [`Wal::commit`].
    ///
    /// # Panics
    /// As [`Wal::commit`].
    pub fn write(&mut self, ops: impl IntoIterator<Item = LogOp>) -> Result<(), WalError> {
        for op in ops {
            match op {
                LogOp::HardState(state) => self.queue.push_back(Item::HardState(state)),
                LogOp::Truncate { from } => self.queue.push_back(Item::Truncate(from)),
                LogOp::Append(entries) => self.queue.extend(entries.into_iter().map(Item::Entry)),
                LogOp::Reset { at, members } => self.queue.push_back(Item::Reset { at, members }),
                LogOp::Compact { through, members } => {
                    self.queue.push_back(Item::Compact { at: through, members });
                }
            }
        }
        self.guarded(|wal| {
            while let Some(item) = wal.queue.pop_front() {
                match wal.push(&item) {
                    Ok(()) => {}
                    Err(error) => {
                        wal.queue.push_front(item);
                        wal.find_space(error)?;
                    }
                }
            }
            wal.flush()
        })
    }

    /// Makes all that was written durable.
    ///
    /// # Errors
    /// When the disk failed: the log has stopped.
    pub fn sync(&mut self) -> Result<(), WalError> {
        self.guarded(Self::sync_written)
    }

    /// Says behind the newest batch that it was synced, once for each batch and without sync: call
    /// it when no other batch is about to say so.
    ///
    /// # Errors
    /// When the disk failed: the log has stopped.
    pub fn confirm(&mut self) -> Result<(), WalError> {
        self.guarded(|wal| {
            let is_news = wal.confirmed_before < wal.durable_before;
            if !is_news || !wal.is_synced() || !wal.fits(0, Room::Promises) {
                return Ok(());
            }
            wal.scratch.clear();
            wal.put(Kind::Confirm, None);
            wal.write_buffer()?;
            wal.counters.confirmations += 1;
            Ok(())
        })
    }

    /// Ends the log in order: it says of all its records that they were synced, and that is synced
    /// too.
    ///
    /// # Errors
    /// When the disk failed.
    pub fn close(mut self) -> Result<(), WalError> {
        self.confirm()?;
        let newest = self.current().filter(|_| self.is_synced());
        newest.map_or(Ok(()), |segment| segment.file.sync_data()).map_err(WalError::Disk)
    }

    /// Whether all that was written is durable.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.durable_before == self.next_sequence && self.queue.is_empty()
    }

    /// Runs a step that stops the log for good when it fails, unless space was the matter.
    fn guarded<T>(
        &mut self,
        step: impl FnOnce(&mut Self) -> Result<T, WalError>,
    ) -> Result<T, WalError> {
        if self.stopped {
            return Err(WalError::Stopped);
        }
        let result = step(self);
        self.stopped = !matches!(result, Ok(_) | Err(WalError::Full(_)));
        result
    }

    /// When there is no space: the segments that are obsolete are the space. What makes some so may
    /// wait behind the item that needs it, and has room kept for its record.
    fn find_space(&mut self, error: WalError) -> Result<(), WalError> {
        if !matches!(error, WalError::Full(_)) {
            return Err(error);
        }
        let skipped = self.first_obsolete().is_none() && self.skip_to_reset();
        if !skipped && self.first_obsolete().is_none() {
            self.compact_first()?;
        }
        self.flush()?;
        self.sync_written()?;
        match self.first_obsolete() {
            Some(first) => self.drop_segment(first).map(|_| ()),
            None if skipped => Ok(()),
            None => Err(error),
        }
    }

    /// A reset that waits makes moot what waits before it, but term and vote. Says whether that was
    /// anything.
    fn skip_to_reset(&mut self) -> bool {
        let is_reset = |item: &Item| matches!(item, Item::Reset { .. });
        let Some(place) = self.queue.iter().rposition(is_reset) else { return false };
        let mut from_reset = self.queue.split_off(place);
        self.queue.retain(|item| matches!(item, Item::HardState(_)));
        let skipped = self.queue.len() < place;
        self.queue.append(&mut from_reset);
        skipped
    }

    /// A compaction that waits may go first if it concerns nothing of what waits before it.
    fn compact_first(&mut self) -> Result<(), WalError> {
        let is_next = |item: &Item| match item {
            Item::Compact { at, .. } => self.state.has(*at),
            _ => false,
        };
        let Some(place) = self.queue.iter().position(is_next) else { return Ok(()) };
        let Some(compaction) = self.queue.remove(place) else { return Ok(()) };
        self.push(&compaction).inspect_err(|_| {
            // The room kept for it is used up: it waits like all others.
            self.queue.insert(place, compaction);
        })
    }

    fn push(&mut self, item: &Item) -> Result<(), WalError> {
        let payload_bytes = self.encode(item)?;
        self.make_room(payload_bytes, item.room())?;
        match item {
            Item::HardState(state) => {
                self.put(Kind::HardState, None);
                self.state.hard_state = *state;
            }
            Item::Entry(entry) => {
                let place = self.put(Kind::Entry, Some(entry.position()));
                self.state.append(entry, place);
            }
            Item::Truncate(from) => {
                self.put(Kind::Truncate, None);
                self.state.truncate(*from);
            }
            Item::Reset { at, members } => {
                let keep_from = self.current().map_or(0, |segment| segment.number);
                let mark = Mark { at: *at, members: members.clone(), keep_from };
                self.encode_payload(&mark)?;
                self.put(Kind::Reset, None);
                self.keep_from = mark.keep_from;
                self.state.reset(&mark);
            }
            Item::Compact { at, members } => {
                let keep_from = self.first_needed_after(*at);
                let mark = Mark { at: *at, members: members.clone(), keep_from };
                self.encode_payload(&mark)?;
                self.put(Kind::Compact, None);
                self.keep_from = mark.keep_from;
                self.state.compact(&mark);
            }
        }
        Ok(())
    }

    /// Encodes the payload into the scratch buffer; says how much room it needs at most.
    fn encode(&mut self, item: &Item) -> Result<usize, WalError> {
        match item {
            Item::HardState(state) => self.encode_payload(state),
            Item::Entry(entry) => self.encode_payload(&**entry),
            Item::Truncate(from) => self.encode_payload(&self.state.cut(*from)),
            Item::Reset { at, members } | Item::Compact { at, members } => {
                // The number may grow if this record begins a segment.
                let keep_from = u32::MAX;
                self.encode_payload(&Mark { at: *at, members: members.clone(), keep_from })
            }
        }
    }

    fn encode_payload(&mut self, value: &impl Serialize) -> Result<usize, WalError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        // Serializing into memory fails for no value of ours.
        self.scratch = postcard::to_extend(value, scratch).unwrap_or_default();
        let bytes = self.scratch.len();
        let room = usize::try_from(self.options.segment_bytes - RECORDS_FROM).unwrap_or(usize::MAX);
        let bytes_max = (room - HEADER_BYTES).min(PAYLOAD_BYTES_MAX);
        if bytes > bytes_max { Err(WalError::TooLarge { bytes, bytes_max }) } else { Ok(bytes) }
    }

    /// Turns to the next segment if the current one cannot take a payload of this size.
    fn make_room(&mut self, payload_bytes: usize, room: Room) -> Result<(), WalError> {
        if self.fits(payload_bytes, room) {
            return Ok(());
        }
        let payload = std::mem::take(&mut self.scratch);
        self.flush()?;
        // Records of the next segment say by being there that this one is durable.
        self.sync_written()?;
        self.rotate()?;
        self.scratch = payload;
        if self.fits(payload_bytes, room) {
            return Ok(());
        }
        let bytes_max = usize::try_from(self.options.segment_bytes).unwrap_or(0);
        Err(WalError::TooLarge { bytes: payload_bytes, bytes_max })
    }

    fn fits(&self, payload_bytes: usize, room: Room) -> bool {
        let end = self.end() + u64::try_from(record_bytes(payload_bytes)).unwrap_or(u64::MAX / 2);
        self.current().is_some_and(|segment| {
            end <= u64::from(segment.length - room.kept_bytes(segment.length))
        })
    }

    /// Where the next record begins in the current segment.
    fn end(&self) -> u64 {
        u64::from(self.offset) + u64::try_from(self.buffer.len()).unwrap_or(u64::MAX / 2)
    }

    fn current(&self) -> Option<&Segment<D::File>> {
        self.segments.values().next_back()
    }

    /// Appends the scratch buffer as a record to the batch; says where it will be.
    fn put(&mut self, kind: Kind, entry: Option<LogPosition>) -> Place {
        let offset = u32::try_from(self.end()).unwrap_or(u32::MAX);
        let (segment, nonce) = self.current().map_or((0, 0), |s| (s.number, s.nonce));
        let header = Header {
            payload_crc: crc32fast::hash(&self.scratch),
            nonce,
            sequence: self.next_sequence,
            durable_before: self.durable_before,
            entry,
            offset,
            length: self.scratch.len(),
            kind,
        };
        header.encode(&self.scratch, &mut self.buffer);
        self.next_sequence += kind.sequences();
        self.confirmed_before = self.durable_before;
        let payload_bytes = u32::try_from(self.scratch.len()).unwrap_or(u32::MAX);
        Place { segment, offset, payload_bytes }
    }

    /// The newest segment at whose beginning the log ended at or before this position: whatever
    /// follows it is in it or behind it.
    fn first_needed_after(&self, position: LogPosition) -> u32 {
        if !self.state.has(position) {
            return self.keep_from;
        }
        let candidates = self.segments.range(self.keep_from..).rev();
        let mut suiting = candidates.filter(|(_, segment)| segment.head_last <= position.index);
        suiting.next().map_or(self.keep_from, |(number, _)| *number)
    }

    /// Writes the batch: one vectored write.
    fn flush(&mut self) -> Result<(), WalError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let bytes = u64::try_from(self.buffer.len()).unwrap_or(0);
        self.write_buffer()?;
        self.counters.writes += 1;
        self.counters.bytes += bytes;
        Ok(())
    }

    fn write_buffer(&mut self) -> Result<(), WalError> {
        let Some(segment) = self.segments.values().next_back() else {
            return Err(WalError::NotFound);
        };
        let end = self.end();
        assert!(end <= u64::from(segment.length), "a batch stays within its segment");
        // The blocks are there: when they cannot be written, it is not for want of space.
        let parts = [IoSlice::new(&self.buffer)];
        segment.file.write_at(&parts, u64::from(self.offset)).map_err(WalError::Disk)?;
        self.offset = u32::try_from(end).unwrap_or(u32::MAX);
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        Ok(())
    }

    fn sync_written(&mut self) -> Result<(), WalError> {
        assert!(self.buffer.is_empty(), "what is synced was written");
        if self.durable_before == self.next_sequence {
            return Ok(());
        }
        let Some(segment) = self.segments.values().next_back() else {
            return Err(WalError::NotFound);
        };
        segment.file.sync_data().map_err(WalError::Disk)?;
        self.counters.syncs += 1;
        self.durable_before = self.next_sequence;
        Ok(())
    }

    /// Begins the next segment; its head waits in the batch.
    fn rotate(&mut self) -> Result<(), WalError> {
        assert!(self.durable_before == self.next_sequence, "the segment before is durable");
        let mut segment = self.take_spare()?;
        segment.head_last = self.state.last().index;
        self.segments.insert(segment.number, segment);
        self.offset = RECORDS_FROM;
        self.counters.rotations += 1;
        let head = Head {
            hard_state: self.state.hard_state,
            last: self.state.last(),
            members: self.state.members(),
            keep_from: self.keep_from,
        };
        self.encode_payload(&head)?;
        self.put(Kind::Head, None);
        Ok(())
    }
}
