//! Long readings, done in slices of one piece between messages; and the end of each content:
//! sync, name, tell.

use super::serve::{Served, offer_over};
use super::{ContentWorker, Turn};
use crate::content_id::ContentId;
use crate::contents::hasher::Hasher;
use crate::contents::live::{LiveFile, ReadError, read_exact};
use crate::contents::machine::{Done, Durability, Input, PullFailure, PullKey};
use crate::contents::staging::{Partial, failure, remove_staged};
use crate::contents::{ContentEvent, PIECE_BYTES, PIECE_BYTES_U64, Ticket};
use crate::folder::{File, Stat};

/// A long reading.
#[derive(Debug)]
pub(super) enum Job {
    /// Of a live file on offer, for its hash.
    Hash { ticket: Ticket, live: LiveFile, hasher: Hasher, at: u64 },
    /// Of a file of this node, into staging.
    Copy {
        key: PullKey,
        source: Served,
        state: CopyState,
        expect: Option<ContentId>,
        durability: Durability,
    },
    /// Of a history object that somebody found wrong, or reads.
    Verify { content: ContentId, file: File, hasher: Hasher, at: u64 },
}

/// Whether the bytes are in the copy already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CopyState {
    Empty,
    Cloned,
}

/// Where the bytes of a whole content came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Peers,
    ThisNode,
}

/// A whole content without its name.
#[derive(Debug)]
pub(super) struct Finishing {
    pub(super) key: PullKey,
    pub(super) partial: Partial,
    pub(super) expect: Option<ContentId>,
    pub(super) durability: Durability,
    pub(super) origin: Origin,
}

/// A content with its name, and its size; or why it has none.
type Published = Result<(ContentId, u64), PullFailure>;

/// How a slice ended.
#[derive(Debug)]
enum Sliced {
    More,
    Done(Done),
    Tell(ContentEvent),
    Copied { key: PullKey, expect: Option<ContentId>, durability: Durability },
    Over,
}

impl Job {
    pub(super) fn hash_offer(ticket: Ticket, live: LiveFile) -> Self {
        Self::Hash { ticket, live, hasher: Hasher::default(), at: 0 }
    }

    pub(super) fn copy(
        key: PullKey,
        source: Served,
        cloned: bool,
        expect: Option<ContentId>,
        durability: Durability,
    ) -> Self {
        let state = if cloned { CopyState::Cloned } else { CopyState::Empty };
        Self::Copy { key, source, state, expect, durability }
    }

    pub(super) fn verify(content: ContentId, file: File) -> Self {
        Self::Verify { content, file, hasher: Hasher::default(), at: 0 }
    }

    pub(super) fn is_of_offer(&self, offer: Ticket) -> bool {
        matches!(self, Self::Hash { ticket, .. } if *ticket == offer)
    }

    pub(super) fn is_copy_of(&self, pull: PullKey) -> bool {
        matches!(self, Self::Copy { key, .. } if *key == pull)
    }

    pub(super) fn is_verify_of(&self, object: ContentId) -> bool {
        matches!(self, Self::Verify { content, .. } if *content == object)
    }

    /// Bytes still to read, about.
    fn rest(&self) -> u64 {
        match self {
            Self::Hash { live, at, .. } => live.size().saturating_sub(*at),
            Self::Copy { source, .. } => source.size(),
            Self::Verify { .. } => u64::MAX,
        }
    }
}

impl ContentWorker {
    /// Reads one piece for one job: the oldest and the shortest take turns, so that neither small
    /// files wait behind a large one, nor the large one for ever.
    pub(super) fn slice(&mut self) {
        self.slices = self.slices.wrapping_add(1);
        let shortest = || (0..self.jobs.len()).min_by_key(|at| self.jobs.get(*at).map(Job::rest));
        let at = if self.slices.is_multiple_of(2) { 0 } else { shortest().unwrap_or(0) };
        if at >= self.jobs.len() {
            return;
        }
        let mut job = self.jobs.remove(at);
        self.buffer.resize(PIECE_BYTES, 0);
        match self.step_job(&mut job) {
            Sliced::More => self.jobs.insert(at, job),
            Sliced::Done(done) => self.input(Input::Done(done), &[]),
            Sliced::Tell(event) => self.tell(event),
            Sliced::Copied { key, expect, durability } => {
                self.finish(key, expect, durability, Origin::ThisNode);
            }
            Sliced::Over => {}
        }
    }

    fn step_job(&mut self, job: &mut Job) -> Sliced {
        match job {
            Job::Hash { ticket, live, hasher, at } => {
                let ticket = *ticket;
                match hash_slice(live, hasher, at, &mut self.buffer) {
                    Ok(None) => Sliced::More,
                    Ok(Some((content, stat))) => {
                        Sliced::Done(Done::OfferHashed { ticket, content, stat })
                    }
                    Err(error) => Sliced::Done(offer_over(ticket, error)),
                }
            }
            Job::Copy { key, source, state, expect, durability } => {
                let (key, expect, durability) = (*key, *expect, *durability);
                let Some(partial) = self.partials.get_mut(&key) else { return Sliced::Over };
                match copy_slice(partial, source, *state, &mut self.buffer) {
                    Ok(Turn::Worked) => Sliced::More,
                    Ok(_) => Sliced::Copied { key, expect, durability },
                    Err(error) => {
                        self.abandon(key);
                        copy_failed(key, error)
                    }
                }
            }
            Job::Verify { content, file, hasher, at } => {
                match verify_slice(file, hasher, at, &mut self.buffer) {
                    Some(actual) if actual != *content => self.rotten(*content),
                    Some(_) => Sliced::Over,
                    None => Sliced::More,
                }
            }
        }
    }

    fn rotten(&mut self, content: ContentId) -> Sliced {
        self.stop_serving(content);
        match self.parts.history.drop_object(content) {
            Ok(_) => Sliced::Tell(ContentEvent::Rotten(content)),
            Err(error) => {
                log::warn!("cannot remove a rotten history object: {error}");
                Sliced::Over
            }
        }
    }

    /// Gives whole contents their names: bytes first, then the names, then one sync of the
    /// directory for all.
    pub(super) fn finish_batch(&mut self) {
        let mut batch = std::mem::take(&mut self.finishing);
        if batch.len() > 1 {
            // All on their way to the disk before the first is waited for.
            for finishing in &mut batch {
                finishing.partial.write_behind();
            }
        }
        let synced = batch.iter().any(|finishing| finishing.durability == Durability::Synced);
        let mut results: Vec<(PullKey, Published)> =
            batch.into_iter().map(|finishing| (finishing.key, self.publish(finishing))).collect();
        if synced && let Err(error) = self.parts.staging.sync() {
            log::error!("cannot sync the staging directory: {error}");
            let reason = failure(error);
            for (_, result) in &mut results {
                if let Ok((content, _)) = *result {
                    remove_staged(&self.parts.staging, content);
                    *result = Err(reason);
                }
            }
        }
        for (pull, result) in results {
            let done = match result {
                Ok((content, size)) => Done::Stored { pull, content, size },
                Err(reason) => Done::PullFailed { pull, reason },
            };
            self.input(Input::Done(done), &[]);
        }
    }

    fn publish(&self, finishing: Finishing) -> Published {
        let Finishing { partial, expect, durability, origin, .. } = finishing;
        let staging = &self.parts.staging;
        if expect.is_some_and(|expect| expect != partial.content()) {
            partial.remove(staging);
            return Err(match origin {
                Origin::Peers => PullFailure::Mismatch,
                Origin::ThisNode => PullFailure::NotHere,
            });
        }
        if durability == Durability::Synced
            && let Err(reason) = partial.sync()
        {
            partial.remove(staging);
            return Err(reason);
        }
        let size = partial.size();
        partial.publish(staging).map(|content| (content, size))
    }
}

/// Hashes one piece; at the end, a last look.
fn hash_slice(
    live: &LiveFile,
    hasher: &mut Hasher,
    at: &mut u64,
    buffer: &mut [u8],
) -> Result<Option<(ContentId, Stat)>, ReadError> {
    let piece = slice_of(buffer, live.size() - *at);
    live.read(piece, *at)?;
    hasher.update(piece);
    *at += u64::try_from(piece.len()).unwrap_or_default();
    if *at < live.size() {
        return Ok(None);
    }
    let stat = live.look()?;
    Ok(Some((std::mem::take(hasher).finish(), stat)))
}

/// Why a copy could not go on.
#[derive(Debug)]
enum CopyError {
    Read(ReadError),
    Write(PullFailure),
}

/// Copies one piece; `Idle` at the end.
fn copy_slice(
    partial: &mut Partial,
    source: &Served,
    state: CopyState,
    buffer: &mut [u8],
) -> Result<Turn, CopyError> {
    let at = partial.written();
    let piece = slice_of(buffer, partial.size() - at);
    match state {
        CopyState::Empty => {
            source.read(piece, at).map_err(CopyError::Read)?;
            partial.write(piece).map_err(CopyError::Write)?;
        }
        CopyState::Cloned => {
            read_exact(partial.file(), piece, at).map_err(CopyError::Read)?;
            partial.count(piece);
        }
    }
    Ok(if partial.written() < partial.size() { Turn::Worked } else { Turn::Idle })
}

fn copy_failed(key: PullKey, error: CopyError) -> Sliced {
    match (key, error) {
        (PullKey::Own(ticket), CopyError::Read(error)) => Sliced::Done(offer_over(ticket, error)),
        (pull, CopyError::Write(reason)) => Sliced::Done(Done::PullFailed { pull, reason }),
        (pull, CopyError::Read(_)) => {
            Sliced::Done(Done::PullFailed { pull, reason: PullFailure::NotHere })
        }
    }
}

/// Reads one piece; the hash at the end.
fn verify_slice(
    file: &File,
    hasher: &mut Hasher,
    at: &mut u64,
    buffer: &mut [u8],
) -> Option<ContentId> {
    let size = file.stat().map_or(0, |stat| stat.size);
    let piece = slice_of(buffer, size.saturating_sub(*at));
    if piece.is_empty() || read_exact(file, piece, *at).is_err() {
        return Some(std::mem::take(hasher).finish());
    }
    hasher.update(piece);
    *at += u64::try_from(piece.len()).unwrap_or_default();
    None
}

/// The start of the buffer, as long as what is left and no longer than a piece.
fn slice_of(buffer: &mut [u8], left: u64) -> &mut [u8] {
    let len = usize::try_from(left.min(PIECE_BYTES_U64)).unwrap_or(PIECE_BYTES);
    buffer.get_mut(..len).unwrap_or_default()
}
