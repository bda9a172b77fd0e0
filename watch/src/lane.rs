//! Directories that are to be entered, in order.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pickbox_store::folder::{Dir, Listing, Stat};
use pickbox_store::name::Name;

use crate::tree::{DirId, Key};

/// How often something that is not where it should be is looked for again: the event that
/// explains it is queued a moment after the change shows, and read before the next try. All tries
/// together take longer than the halves of renames are kept.
pub(crate) const TRIES_MAX: u32 = 8;

const _: () = assert!((1 << TRIES_MAX) > crate::moves::HOLD.as_millis());

/// The pause before another try: 1, 2, 4... ms.
pub(crate) fn retry_pause(tries: u32) -> Duration {
    Duration::from_millis(1 << tries.min(TRIES_MAX))
}

/// Why a directory is entered, and so what is done with what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It appeared: its files are read, since the events of their writers may be lost.
    Appeared,
    /// It was moved within the folder under its watch: listed only if that is not so.
    MovedWithin,
    /// A walk: names are reported, files are looked at.
    Walk,
    /// It has no watch: as a walk, but directories below that are known look after themselves.
    Sweep,
}

/// A directory to enter: the folder itself, or an entry, held.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) at: Option<Key>,
    pub(crate) why: Why,
    tries: u32,
}

impl Job {
    pub(crate) fn new(at: Option<Key>, why: Why) -> Self {
        Self { at, why, tries: 0 }
    }
}

/// A directory that is being listed; held.
#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) id: DirId,
    pub(crate) dir: Dir,
    pub(crate) why: Why,
    pub(crate) listing: Listing,
    pub(crate) names: Vec<Name>,
    /// What was looked at and is not handed on yet.
    pub(crate) looks: Vec<(Name, Stat)>,
}

/// Directories to enter, and the one that is being listed: one descriptor at a time.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    jobs: VecDeque<Job>,
    pub(crate) current: Option<Box<Current>>,
    /// Jobs that did not find their directory, with when to try again.
    later: Vec<(Instant, Job)>,
    /// Directories that could not be listed although nothing says that they are gone.
    pub(crate) failure_count: u64,
}

impl Lane {
    /// Directories still to be listed, as far as they are known.
    pub(crate) fn len(&self) -> usize {
        self.jobs.len() + self.later.len() + usize::from(self.current.is_some())
    }

    /// Whether something can be done at once.
    pub(crate) fn has_work(&self) -> bool {
        self.current.is_some() || !self.jobs.is_empty()
    }

    /// When the first of those that wait is tried again.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.later.iter().map(|(due, _)| *due).min()
    }

    /// Adds a job; its directory must have been held.
    pub(crate) fn push(&mut self, job: Job) {
        self.jobs.push_back(job);
    }

    /// Adds a job before all others: depth first keeps the list of a walk short.
    pub(crate) fn push_next(&mut self, job: Job) {
        self.jobs.push_front(job);
    }

    /// Takes the next job.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Job> {
        if let Some(at) = self.later.iter().position(|(due, _)| *due <= now) {
            return Some(self.later.swap_remove(at).1);
        }
        self.jobs.pop_front()
    }

    /// Puts a job back that did not find its directory; returns it when it was tried enough.
    pub(crate) fn try_later(&mut self, mut job: Job, now: Instant) -> Option<Job> {
        if job.tries >= TRIES_MAX {
            return Some(job);
        }
        let due = now + retry_pause(job.tries);
        job.tries += 1;
        self.later.push((due, job));
        None
    }

    /// Takes over the jobs that were added meanwhile.
    pub(crate) fn append(&mut self, mut newer: Self) {
        self.jobs.append(&mut newer.jobs);
        self.later.append(&mut newer.later);
    }

    /// Gives up: all that is held for its jobs.
    pub(crate) fn into_held(self) -> impl Iterator<Item = DirId> {
        let jobs = self.jobs.into_iter().chain(self.later.into_iter().map(|(_, job)| job));
        let above = jobs.filter_map(|job| Some(job.at?.dir));
        above.chain(self.current.map(|current| current.id))
    }
}
