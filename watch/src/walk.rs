//! Walks over what is there: at the start, after lost events, on request, and over directories
//! that have no watch. One at a time, in small steps, rarer the more often they are needed.
//!
//! Now and then everything is walked though nothing is known to be missed: stores through `mmap`
//! move the time of modification and raise no event (traps T7, T22, fault 59). Nobody waits for such
//! a *scan*, so it counts as nothing that is pending, and it gives way to a walk that somebody needs.

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
    purpose: Purpose,
    lane: Lane,
    /// Listed to the end: done once all marks up to this id are handed on.
    listed_at: Option<u64>,
}

/// Why there is a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Something is, or may be, not known.
    Needed,
    /// Directories without a watch.
    Sweep,
    /// To find what raises no event.
    Scan,
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
    /// How often everything is scanned, at least.
    scan_every: Option<Duration>,
    next_scan: Option<Instant>,
    /// Grows with each walk of everything.
    generation: u64,
}

impl Walks {
    pub(crate) fn new(scan_every: Option<Duration>, now: Instant) -> Self {
        Self {
            scan_every,
            next_scan: scan_every.map(|every| now + early(every)),
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

    /// Walks running and waiting that somebody needs.
    pub(crate) fn count(&self) -> usize {
        let needed = self.running.is_some() && !self.is_scanning();
        self.waiting.len() + usize::from(needed) + usize::from(self.sweep_awaited)
    }

    fn is_scanning(&self) -> bool {
        self.running.as_ref().is_some_and(|walk| walk.purpose == Purpose::Scan)
    }

    /// How often everything is scanned, at least.
    pub(crate) fn scan_every(&self) -> Option<Duration> {
        self.scan_every
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// When the next one may begin, or is to be gone on with.
    pub(crate) fn next_due(&self, has_unwatched: bool) -> Option<Instant> {
        let waiting = (!self.waiting.is_empty()).then_some(self.not_before);
        match &self.running {
            Some(Walk { purpose: Purpose::Scan, lane, .. }) => {
                lane.next_due().into_iter().chain(waiting).min()
            }
            Some(walk) => walk.lane.next_due(),
            None => {
                let sweep = has_unwatched.then_some(self.next_sweep);
                [waiting, sweep, self.next_scan].into_iter().flatten().min()
            }
        }
    }

    /// Whether the running walk has directories left to list.
    pub(crate) fn has_work(&self) -> bool {
        self.running.as_ref().is_some_and(|walk| {
            walk.listed_at.is_none() && (walk.lane.has_work() || walk.lane.len() == 0)
        })
    }

    fn take_next(&mut self, now: Instant) -> Option<RelPath> {
        let is_busy = self.running.is_some() && !self.is_scanning();
        if is_busy || self.waiting.is_empty() || now < self.not_before {
            return None;
        }
        if now > self.last_end + CALM {
            self.pause = PAUSE_MIN;
        }
        Some(self.waiting.remove(0))
    }

    /// All that there is has been looked at: the next scan has time.
    fn looked_at_all(&mut self, now: Instant) {
        self.next_scan = self.scan_every.map(|every| now + early(every));
    }

    fn ended(&mut self, now: Instant) {
        self.last_end = now;
        self.not_before = now + self.pause;
        self.pause = self.pause.saturating_mul(2).min(PAUSE_MAX);
    }
}

/// When a scan begins that must be over within `every`: up to a fifth earlier, so that nodes that were
/// started together do not scan together. The clock's last digits are random enough for that.
fn early(every: Duration) -> Duration {
    let percent = pickbox_raft::clock::wall().subsec_micros() % 20;
    every.saturating_mul(100 - percent - 1) / 100
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
            self.abandon_scan();
            self.begin(top, Purpose::Needed, now);
            return;
        }
        let sweeps_now = self.walks.sweep_awaited && now >= self.walks.next_sweep;
        if sweeps_now && self.walks.is_scanning() {
            self.abandon_scan();
        }
        if self.walks.running.is_some() {
            return;
        }
        if !self.unwatched.is_empty() && now >= self.walks.next_sweep {
            self.walks.next_sweep = now + SWEEP_EVERY;
            self.walks.sweep_awaited = false;
            let lane = self.lane_of_unwatched();
            let purpose = Purpose::Sweep;
            self.walks.running = Some(Walk { top: None, purpose, lane, listed_at: None });
        } else if self.walks.next_scan.is_some_and(|next| now >= next) {
            self.begin(RelPath::root(), Purpose::Scan, now);
        }
    }

    fn begin(&mut self, top: RelPath, purpose: Purpose, now: Instant) {
        if top.is_root() {
            self.walks.generation += 1;
            self.notices.forget_mounts();
        }
        let lane = self.lane_from(&top, now);
        self.outbox.push_back(Sighting::WalkStarted(top.clone()));
        self.walks.running = Some(Walk { top: Some(top), purpose, lane, listed_at: None });
    }

    /// A scan gives way: nobody waits for it, and it begins anew in its time.
    fn abandon_scan(&mut self) {
        for held in self.walks.running.take().into_iter().flat_map(|walk| walk.lane.into_held()) {
            self.tree.release(held);
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
        let Some(Walk { top, purpose, lane, .. }) = self.walks.running.take() else { return };
        self.say_unwatched();
        let Some(top) = top else { return };
        if purpose == Purpose::Needed {
            self.walks.ended(now);
        }
        if top.is_root() {
            self.walks.looked_at_all(now);
        }
        let complete = lane.failure_count == 0;
        if !complete {
            warn!("walk of '{top}' is incomplete: {} directories failed", lane.failure_count);
        }
        self.outbox.push_back(Sighting::WalkDone { top, complete });
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
