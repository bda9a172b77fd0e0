//! The segment prepared ahead, and what becomes of segments that are not needed any more.

use pickbox_raft_core::ids::Index;

use super::segment::{self, DIRECTORY, Segment, UNFINISHED};
use super::{Options, Wal, WalError};
use crate::disk::{Disk, DiskFile};

/// Zeros written between two syncs while a segment is prepared: bounds how long a batch that
/// arrives meanwhile waits.
const STEP_BYTES: u32 = 1024 * 1024;

/// Whether there is more to prepare or to drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maintained {
    /// Call again when there is time.
    More,
    /// Nothing to do until the next batch.
    Idle,
}

/// The next segment.
#[derive(Debug)]
pub(super) enum Spare<F> {
    /// Not begun.
    Missing,
    /// Filled with zeros, or with records of former times, up to here.
    Filling { file: F, done: u32, length: u32 },
    /// It has its name; no record yet.
    Ready(Segment<F>),
}

impl<F> Spare<F> {
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Missing => 0,
            Self::Filling { length, .. } => u64::from(*length),
            Self::Ready(segment) => u64::from(segment.length),
        }
    }
}

/// The nonce of a new segment: no other of this opening has it, and the seed is random.
fn nonce(options: &Options, number: u32) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    options.nonce_seed ^ u64::from(number).wrapping_mul(ODD)
}

impl<D: Disk> Wal<D> {
    /// One bounded step of preparing the next segment or dropping one that is not needed. Call it
    /// when there is time, after the acknowledgements.
    ///
    /// # Errors
    /// [`WalError::Full`]: the next segment could not be prepared; the log works on, until the
    /// current one is full. After any other error the log has stopped.
    pub fn maintain(&mut self) -> Result<Maintained, WalError> {
        self.guarded(|wal| match wal.first_obsolete() {
            // What makes a segment obsolete must be durable before it goes; and a second empty one
            // must not appear before the first has durable records.
            _ if wal.durable_before != wal.next_sequence => Ok(Maintained::Idle),
            Some(number) => wal.drop_segment(number),
            None => wal.prepare(),
        })
    }

    pub(super) fn first_obsolete(&self) -> Option<u32> {
        let (number, _) = self.segments.first_key_value()?;
        (*number < self.keep_from).then_some(*number)
    }

    /// Takes the oldest segment out of the log. Durable before the next one goes, so that the
    /// segments on disk never have a gap.
    pub(super) fn drop_segment(&mut self, number: u32) -> Result<Maintained, WalError> {
        let Some(segment) = self.segments.remove(&number) else { return Ok(Maintained::Idle) };
        let length = segment.length;
        let recycle = matches!(self.spare, Spare::Missing) && length == self.options.segment_bytes;
        if recycle {
            // Its records carry its old nonce: they mean nothing in the new segment.
            self.disk.rename(&segment::path(number), UNFINISHED).map_err(WalError::Disk)?;
            self.spare = Spare::Filling { file: segment.file, done: length, length };
        } else {
            self.disk.remove(&segment::path(number)).map_err(WalError::Disk)?;
        }
        self.sync_directory()?;
        Ok(Maintained::More)
    }

    /// One step towards the next segment.
    fn prepare(&mut self) -> Result<Maintained, WalError> {
        match std::mem::replace(&mut self.spare, Spare::Missing) {
            Spare::Ready(segment) => {
                self.spare = Spare::Ready(segment);
                return Ok(Maintained::Idle);
            }
            Spare::Missing => {
                let file = self.disk.create(UNFINISHED)?;
                let length = self.options.segment_bytes;
                self.spare = Spare::Filling { file, done: 0, length };
            }
            Spare::Filling { file, done, length } if done < length => {
                let step = STEP_BYTES.min(length - done);
                self.give_up_if_full(file.write_zeros(u64::from(done), u64::from(step)))?;
                self.counters.maintenance_syncs += 1;
                self.give_up_if_full(file.sync_data())?;
                self.spare = Spare::Filling { file, done: done + step, length };
            }
            Spare::Filling { file, length, .. } => {
                self.spare = Spare::Ready(self.finish(&file, length)?);
            }
        }
        Ok(Maintained::More)
    }

    /// A file that could not be filled is removed: its space may be what others need.
    fn give_up_if_full(&mut self, result: crate::disk::DiskResult<()>) -> Result<(), WalError> {
        if result.as_ref().is_err_and(crate::disk::DiskError::is_full) {
            self.disk.remove(UNFINISHED).map_err(WalError::Disk)?;
        }
        Ok(result?)
    }

    fn finish(&mut self, file: &D::File, length: u32) -> Result<Segment<D::File>, WalError> {
        let number = self.segments.last_key_value().map_or(1, |(last, _)| last + 1);
        let nonce = nonce(&self.options, number);
        segment::write_header(file, number, nonce, length)?;
        self.counters.maintenance_syncs += 1;
        self.give_up_if_full(self.disk.rename(UNFINISHED, &segment::path(number)))?;
        self.sync_directory()?;
        // Opened anew, so that errors name the file as it is called now.
        let file = self.disk.open(&segment::path(number))?;
        Ok(Segment { number, nonce, length, head_last: Index::ZERO, file })
    }

    fn sync_directory(&mut self) -> Result<(), WalError> {
        self.counters.maintenance_syncs += 1;
        self.disk.sync_dir(DIRECTORY).map_err(WalError::Disk)
    }

    /// The next segment, prepared now if there was no time before.
    pub(super) fn take_spare(&mut self) -> Result<Segment<D::File>, WalError> {
        while !matches!(self.spare, Spare::Ready(_)) {
            self.prepare()?;
        }
        match std::mem::replace(&mut self.spare, Spare::Missing) {
            Spare::Ready(segment) => Ok(segment),
            Spare::Missing | Spare::Filling { .. } => Err(WalError::NotFound),
        }
    }
}
