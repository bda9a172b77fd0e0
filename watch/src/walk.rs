//! Walks over what is there: at the start, after lost events, on request, and over directories
//! that have no watch. One at a time, in small steps, rarer the more often they are needed.

use std::time::{Duration, Instant};

use log::warn;
use pickbox_store::name::RelPath;
use pickbox_store::observation::{Hint, Sighting};

use crate::dirty::What;
use crate::lane::{Job, Lane, Why};
use crate::tree::{DirId, Key};
use crate::watcher::Watcher;

/// Pause after a walk; doubles up to the longest while walks follow each other (a walk that
/// causes overflows must not spin).
pub(crate) const PAUSE_MIN: Duration = Duration::from_millis(100);
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(10);
/// After this long without a walk the pause is short again.
const CALM: Duration = Duration::from_mins(1);
/// Directories without a watch are listed this often.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// Subtrees that wait to be walked; more are one walk of everything.
const WAITING_MAX: usize = 64;
/// A walk waits for the store while so many marks are not yet handed on.
pub(crate) const WALK_MARKS_MAX: usize = 4096;

const _: () = assert!(PAUSE_MIN.as_millis() < PAUSE_MAX.as_millis());
const _: () = assert!(WALK_MARKS_MAX < crate::dirty::MARKS_MAX);

/// The walk that runs.
#[derive(Debug)]
struct Walk {
    /// Where it began; none for a sweep.
    top: Option<RelPath>,
    lane: Lane,
    /// Listed to the end: done once all marks up to this id are handed on.
    listed_at: Option<u64>,
}

/// The walk that runs and those that wait.
#[derive(Debug)]
pub(crate) struct Walks {
    running: Option<Walk>,
    waiting: Vec<RelPath>,
    not_before: Instant,
    pause: Duration,
    last_end: Instant,
    next_sweep: Instant,
    /// A flush waits for the next sweep.
    sweep_awaited: bool,
    /// Grows with each walk of everything.
    generation: u64,
}

impl Walks {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            running: None,
            waiting: Vec::new(),
            not_before: now,
            pause: PAUSE_MIN,
            last_end: now,
            next_sweep: now + SWEEP_EVERY,
            sweep_awaited: false,
            generation: 0,
        }
    }

    /// Asks for a walk of a subtree; requests within a waiting one are that one.
    pub(crate) fn request(&mut self, top: RelPath) {
        if self.waiting.iter().any(|waiting| top.is_within(waiting)) {
            return;
        }
        self.waiting.retain(|waiting| !waiting.is_within(&top));
        self.waiting.push(top);
        if self.waiting.len() > WAITING_MAX {
            self.waiting = vec![RelPath::root()];
        }
    }

    /// Whether one is under way.
    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Walks running and waiting.
    pub(crate) fn count(&self) -> usize {
        self.waiting.len() + usize::from(self.running.is_some()) + usize::from(self.sweep_awaited)
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// When the next one may begin, or is to be gone on with.
    pub(crate) fn next_due(&self, has_unwatched: bool) -> Option<Instant> {
        if let Some(walk) = &self.running {
            return walk.lane.next_due();
        }
        let waiting = (!self.waiting.is_empty()).then_some(self.not_before);
        let sweep = has_unwatched.then_some(self.next_sweep);
        waiting.into_iter().chain(sweep).min()
    }

    /// Whether the running walk has directories left to list.
    pub(crate) fn has_work(&self) -> bool {
        self.running.as_ref().is_some_and(|walk| {
            walk.listed_at.is_none() && (walk.lane.has_work() || walk.lane.len() == 0)
        })
    }

    fn take_next(&mut self, now: Instant) -> Option<RelPath> {
        if self.running.is_some() || self.waiting.is_empty() || now < self.not_before {
            return None;
        }
        if now > self.last_end + CALM {
            self.pause = PAUSE_MIN;
        }
        Some(self.waiting.remove(0))
    }

    fn ended(&mut self, now: Instant) {
        self.last_end = now;
        self.not_before = now + self.pause;
        self.pause = self.pause.saturating_mul(2).min(PAUSE_MAX);
    }
}

impl Watcher {
    /// Goes on with the running walk, or begins one; whether there was anything to do.
    pub(crate) fn step_walk(&mut self, entries_max: usize, now: Instant) -> bool {
        self.begin_walk(now);
        if self.dirty.owed_count() >= WALK_MARKS_MAX {
            return false;
        }
        let Some(mut walk) = self.walks.running.take() else { return false };
        let worked = walk.listed_at.is_none() && self.step_lane(&mut walk.lane, entries_max, now);
        if walk.listed_at.is_none() && walk.lane.len() == 0 {
            if walk.top.as_ref().is_some_and(RelPath::is_root) && walk.lane.failure_count == 0 {
                self.forget_unseen();
            }
            walk.listed_at = Some(self.dirty.next_id());
        }
        self.walks.running = Some(walk);
        self.end_walk(now);
        worked
    }

    fn begin_walk(&mut self, now: Instant) {
        self.walks.sweep_awaited &= !self.unwatched.is_empty();
        if let Some(top) = self.walks.take_next(now) {
            if top.is_root() {
                self.walks.generation += 1;
            }
            let lane = self.lane_from(&top, now);
            self.outbox.push_back(Sighting::WalkStarted(top.clone()));
            self.walks.running = Some(Walk { top: Some(top), lane, listed_at: None });
        } else if self.walks.running.is_none()
            && !self.unwatched.is_empty()
            && now >= self.walks.next_sweep
        {
            self.walks.next_sweep = now + SWEEP_EVERY;
            self.walks.sweep_awaited = false;
            let lane = self.lane_of_unwatched();
            self.walks.running = Some(Walk { top: None, lane, listed_at: None });
        }
    }

    /// Lists the directories without a watch as soon as no walk runs: no event tells of what was
    /// written there.
    pub(crate) fn sweep_soon(&mut self, now: Instant) {
        if !self.unwatched.is_empty() {
            (self.walks.next_sweep, self.walks.sweep_awaited) = (now, true);
        }
    }

    /// A lane that enters `top`; one that enters everything if the way to it is not known.
    fn lane_from(&mut self, top: &RelPath, now: Instant) -> Lane {
        let mut lane = Lane::default();
        let entry = top.split().and_then(|(parent, name)| {
            let dir = self.tree.find(self.root()?, &parent)?;
            Some(Key { dir, name })
        });
        if let Some(key) = &entry {
            self.note(key, What::Found(Hint::SCANNED), now);
            self.tree.hold(key.dir);
        }
        lane.push(Job::new(entry, Why::Walk));
        lane
    }

    fn lane_of_unwatched(&mut self) -> Lane {
        let mut lane = Lane::default();
        let keys: Vec<_> = self.unwatched.iter().filter_map(|&id| self.tree.key(id)).collect();
        for key in keys {
            self.tree.hold(key.dir);
            lane.push(Job::new(Some(key), Why::Sweep));
        }
        lane
    }

    /// A walk is over when all that it found was handed on, so that whoever hears of it may
    /// conclude what is missing.
    fn end_walk(&mut self, now: Instant) {
        let Some(listed_at) = self.walks.running.as_ref().and_then(|walk| walk.listed_at) else {
            return;
        };
        if !self.dirty.is_settled_before(listed_at) {
            return;
        }
        if let Some(walk) = self.walks.running.take()
            && let Some(top) = walk.top
        {
            self.walks.ended(now);
            let complete = walk.lane.failure_count == 0;
            if !complete {
                warn!(
                    "walk of '{top}' is incomplete: {} directories failed",
                    walk.lane.failure_count
                );
            }
            self.outbox.push_back(Sighting::WalkDone { top, complete });
        }
    }

    /// Directories that a whole walk did not meet are gone, or were moved meanwhile under our
    /// eyes into a part that it had passed: those are listed once more.
    fn forget_unseen(&mut self) {
        let generation = self.walks.generation;
        let root = self.root();
        let unseen: Vec<DirId> = self
            .tree
            .linked()
            .filter(|(id, node)| node.seen < generation && Some(*id) != root)
            .map(|(id, _)| id)
            .collect();
        for id in unseen {
            // An earlier one may have taken it along.
            let Some(key) = self.tree.key(id) else { continue };
            if self.reach(id).is_ok() {
                self.push_fresh(key, Why::Appeared);
            } else {
                self.forget(id);
            }
        }
    }

    /// Whether no events wait for a walk and every directory that appeared is listed.
    pub(crate) fn is_walked(&self) -> bool {
        self.fresh.len() == 0 && self.walks.count() == 0
    }
}
