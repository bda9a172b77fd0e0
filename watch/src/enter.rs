//! Entering directories: watch first, then list, so that nothing slips in between (trap T2).

use std::time::Instant;

use inotify::WatchMask;
use log::warn;
use pickbox_store::folder::{Dir, FolderError, Kind, Listed, Stat};
use pickbox_store::ignored::IGNORE_FILE;
use pickbox_store::name::{Name, RelPath};
use pickbox_store::observation::{Hint, Place, Sighting};
use rustix::io::Errno;

use crate::dirty::What;
use crate::lane::{Current, Job, Lane, Why};
use crate::reach::Unreached;
use crate::transient::is_transient;
use crate::tree::{DirId, Key};
use crate::unreadable::Tried;
use crate::watcher::Watcher;

/// Looks of a walk that are handed on together at most.
const LOOKS_MAX: usize = 128;

/// Why there is no watch.
#[derive(Debug)]
pub(crate) enum AddError {
    /// The user's watches, or the kernel's memory for them, are used up.
    Limit,
    /// Anything else; mostly the directory is gone again.
    Gone(std::io::Error),
}

/// No `OPEN`, `ACCESS`, `CLOSE_NOWRITE`: readers, ourselves among them, must not fill the queue.
/// `EXCL_UNLINK`: what happens to deleted files is nobody's business.
fn mask(place: Place, at: Option<&Key>) -> WatchMask {
    let written = WatchMask::CLOSE_WRITE | WatchMask::MODIFY;
    let names = WatchMask::CREATE | WatchMask::DELETE | WatchMask::MOVE | WatchMask::ATTRIB;
    let always = written | WatchMask::ONLYDIR | WatchMask::EXCL_UNLINK;
    match (place, at) {
        (Place::Beside(_), _) => always,
        (Place::Folder, Some(_)) => always | names,
        (Place::Folder, None) => always | names | WatchMask::MOVE_SELF | WatchMask::DELETE_SELF,
    }
}

impl Watcher {
    /// Asks for a watch on an open directory.
    pub(crate) fn add_watch(
        &self,
        dir: &Dir,
        place: Place,
        at: Option<&Key>,
    ) -> Result<i32, AddError> {
        self.source.add(dir, mask(place, at))
    }

    /// A directory appeared, or must be checked: enter it before the next walk step.
    pub(crate) fn push_fresh(&mut self, key: Key, why: Why) {
        self.tree.hold(key.dir);
        self.fresh.push(Job::new(Some(key), why));
    }

    /// Enters and lists some of the directories that appeared; whether any were left to do.
    pub(crate) fn step_fresh(&mut self, entries_max: usize, now: Instant) -> bool {
        let mut lane = std::mem::take(&mut self.fresh);
        let worked = self.step_lane(&mut lane, entries_max, now);
        // Some may have been pushed meanwhile.
        lane.append(std::mem::take(&mut self.fresh));
        self.fresh = lane;
        worked
    }

    /// Goes on with a lane for about `entries_max` entries; whether there was anything to do now.
    pub(crate) fn step_lane(&mut self, lane: &mut Lane, entries_max: usize, now: Instant) -> bool {
        let mut worked = false;
        for _ in 0..entries_max {
            if let Some(mut current) = lane.current.take() {
                match current.listing.next() {
                    Some(Ok(entry)) => {
                        self.found(&mut current, entry, lane, now);
                        lane.current = Some(current);
                    }
                    Some(Err(error)) => {
                        self.hand_on_looks(&mut current, now);
                        self.not_listed(lane, (current.id, &current.dir), &error, now);
                        self.tree.release(current.id);
                    }
                    None => self.listed(*current, now),
                }
            } else if let Some(job) = lane.pop(now) {
                self.step_job(job, lane, now);
            } else {
                break;
            }
            worked = true;
        }
        worked
    }

    fn step_job(&mut self, job: Job, lane: &mut Lane, now: Instant) {
        let done = match self.enter(&job, lane, now) {
            Entered::Listing(current) => {
                lane.current = Some(current);
                Some(job)
            }
            Entered::Done => Some(job),
            Entered::NotThere => lane.try_later(job, now),
        };
        if let Some(key) = done.and_then(|job| job.at) {
            self.tree.release(key.dir);
        }
    }

    fn found(&mut self, current: &mut Current, entry: Listed, lane: &mut Lane, now: Instant) {
        let key = Key { dir: current.id, name: entry.name };
        current.names.push(key.name.clone());
        let is_fresh = matches!(current.why, Why::Appeared | Why::MovedWithin);
        if !is_fresh
            && entry.kind != Some(Kind::Directory)
            && self.look_in_passing(current, &key, now)
        {
            return;
        }
        let reason = if is_fresh { Hint::SCANNED.with(Hint::FRESH) } else { Hint::SCANNED };
        self.note(&key, What::Found(reason), now);
        let kind = entry.kind.or_else(|| current.dir.stat(&key.name).ok().map(|stat| stat.kind));
        let looks_after_itself = current.why == Why::Sweep
            && self.tree.child(current.id, &key.name).is_some_and(|id| self.tree.is_linked(id));
        if kind == Some(Kind::Directory) && !looks_after_itself {
            let why = if current.why == Why::Walk { Why::Walk } else { Why::Appeared };
            self.tree.hold(key.dir);
            lane.push_next(Job::new(Some(key), why));
        }
    }

    /// Looks at what a walk found, without a mark: nearly everything that a walk finds has not
    /// changed, and a million marks would be made and taken for it. Directories are told of by
    /// marks, in their order with the renames that are on the way; so is what has a mark already,
    /// and what may be gone in a moment. Whether it was looked at.
    fn look_in_passing(&mut self, current: &mut Current, key: &Key, now: Instant) -> bool {
        if self.dirty.is_marked(key) || is_transient(key.name.as_bytes()) {
            return false;
        }
        match current.dir.stat(&key.name) {
            Ok(stat) if stat.kind != Kind::Directory => {
                self.count_links(key, Some(&stat));
                current.looks.push((key.name.clone(), stat));
                if current.looks.len() >= LOOKS_MAX {
                    self.hand_on_looks(current, now);
                }
                true
            }
            // The entry changed its kind, went, or may not be looked at: a mark finds out.
            Ok(_) | Err(_) => false,
        }
    }

    /// Hands on what a walk looked at in a directory, once that itself and all above it are told of.
    fn hand_on_looks(&mut self, current: &mut Current, now: Instant) {
        let looks = std::mem::take(&mut current.looks);
        if looks.is_empty() {
            return;
        }
        let is_told = self.tell_above(current.id, now);
        match self.tree.path(current.id).filter(|_| is_told) {
            Some((_, dir)) => self.outbox.push_back(Sighting::Looked { dir, looks }),
            // Where it is cannot be told yet. A mark waits until it can.
            None => {
                for (name, _) in looks {
                    self.note(&Key { dir: current.id, name }, What::Found(Hint::SCANNED), now);
                }
            }
        }
    }

    fn listed(&mut self, mut current: Current, now: Instant) {
        self.hand_on_looks(&mut current, now);
        // Where it is cannot be told yet: listed again when it can.
        if !self.tell_above(current.id, now)
            && let Some(key) = self.tree.key(current.id)
        {
            self.push_fresh(key, Why::Appeared);
        }
        // Of a directory that appeared too: it may be a known one that was lost sight of.
        if let Some((_, dir)) = self.tree.path(current.id) {
            self.told_gone = true;
            self.outbox.push_back(Sighting::Listed { dir, names: current.names });
        }
        self.tree.release(current.id);
    }

    fn not_listed(
        &mut self,
        lane: &mut Lane,
        (id, dir): (DirId, &Dir),
        error: &FolderError,
        now: Instant,
    ) {
        lane.failure_count += 1;
        let at = self.tree.key(id);
        if at.is_some() || self.root() == Some(id) {
            self.cannot_enter(at, dir.path().clone(), error, now);
        }
    }

    fn cannot_enter(&mut self, at: Option<Key>, dir: RelPath, error: &FolderError, now: Instant) {
        let errno = error.errno();
        if errno == Errno::XDEV {
            self.notices.met_mount(&dir);
        } else {
            self.try_later(at, Tried::Listing, now);
            warn!("directory '{dir}' cannot be listed: {errno}");
        }
        self.outbox.push_back(Sighting::Unlisted { dir, errno });
    }

    /// Opens, watches, and starts to list.
    fn enter(&mut self, job: &Job, lane: &mut Lane, now: Instant) -> Entered {
        if job.at.as_ref().is_some_and(|key| self.stays_out(key)) {
            return Entered::Done;
        }
        let dir = match self.open_job(job) {
            Ok(dir) => dir,
            Err(Unreached::Elsewhere) => return Entered::NotThere,
            Err(Unreached::Failed(_, error)) => {
                // The directory above tells when one may be entered again; there is none above the root.
                let is_told = job.at.is_some() && matches!(error, FolderError::Blocked { .. });
                lane.failure_count += u64::from(!is_told);
                // What could not be entered, not the directory above it at which that failed.
                let known = job
                    .at
                    .as_ref()
                    .and_then(|key| self.tree.path(key.dir).map(|(_, dir)| dir.join(&key.name)));
                let dir = known.unwrap_or_else(|| error.path().clone());
                self.cannot_enter(job.at.clone(), dir, &error, now);
                return Entered::Done;
            }
            Err(Unreached::Forgotten(..) | Unreached::TooLong) => return Entered::Done,
        };
        let Some((id, known)) =
            dir.stat_self().ok().and_then(|stat| self.watch(job, &dir, &stat, now))
        else {
            return Entered::NotThere;
        };
        for _ in 0..self.moves.found(id) {
            self.tree.release(id);
        }
        self.notices.entered(id, &dir);
        // Its event may still be unread; nothing below is told of before it is.
        if let Some(key) = job.at.as_ref().filter(|_| known != Known::WhereExpected) {
            self.note(key, What::Found(Hint::SCANNED), now);
            self.dirty.hurry(key, now);
        }
        // A walk may have passed the place where it is now, and not yet the one where it was.
        let generation = self.walks.generation();
        let met = self.tree.get_mut(id).map(|node| std::mem::replace(&mut node.seen, generation));
        let complete = job.why == Why::MovedWithin && met == Some(generation);
        if complete && known == Known::WhereExpected {
            return Entered::Done;
        }
        // Marks below a directory that was elsewhere than believed were looked at in vain.
        let why = match (job.why, known) {
            (Why::Walk, _) => Why::Walk,
            (Why::Sweep, Known::WhereExpected | Known::New) => Why::Sweep,
            _ => Why::Appeared,
        };
        match dir.list() {
            Ok(listing) => {
                self.tree.hold(id);
                self.find_rules(id, &dir, now);
                let (names, looks) = (Vec::new(), Vec::new());
                Entered::Listing(Box::new(Current { id, dir, why, listing, names, looks }))
            }
            Err(error) => {
                self.not_listed(lane, (id, &dir), &error, now);
                Entered::Done
            }
        }
    }

    /// What is told of a directory is told after its rules, wherever they come in the listing.
    fn find_rules(&mut self, id: DirId, dir: &Dir, now: Instant) {
        let Ok(name) = Name::new(IGNORE_FILE) else { return };
        if dir.stat(&name).is_err() {
            return;
        }
        let key = Key { dir: id, name };
        self.note(&key, What::Found(Hint::SCANNED), now);
        if self.tell_above(id, now)
            && let Some(mark) = self.dirty.take_named(&key, now)
        {
            self.look_for(mark, now);
        }
    }

    fn open_job(&self, job: &Job) -> Result<Dir, Unreached> {
        let Some(key) = &job.at else {
            let root = self.root().ok_or(Unreached::TooLong)?;
            return self.reach(root).map(|(_, dir)| dir);
        };
        let (place, parent) = self.reach(key.dir)?;
        parent.open_dir(&key.name).map_err(|error| match error {
            FolderError::Absent(_) | FolderError::NotDirectory(_) => Unreached::Elsewhere,
            error => Unreached::Failed(place, error),
        })
    }

    /// Puts a watch on an open directory and finds its node by what the kernel says: the same
    /// inode gives the same descriptor, wherever it was believed to be.
    fn watch(&mut self, job: &Job, dir: &Dir, stat: &Stat, now: Instant) -> Option<(DirId, Known)> {
        let added = self.add_watch(dir, Place::Folder, job.at.as_ref());
        let Some(key) = &job.at else { return Some((self.root()?, Known::WhereExpected)) };
        let wd = match added {
            Ok(wd) => wd,
            Err(AddError::Limit) => return Some((self.without_watch(key, stat, now), Known::New)),
            Err(AddError::Gone(_)) => return None,
        };
        let owner = self
            .wds
            .owner(wd)
            .filter(|&id| self.tree.get(id).is_some_and(|node| node.ino == stat.ino));
        if let Some(id) = owner {
            if self.tree.is_at(id, key) {
                return Some((id, Known::WhereExpected));
            }
            self.displace(key, now);
            if !self.tree.relink(id, key.clone()) {
                // It stands below itself: moves were missed.
                self.lost_events();
                return None;
            }
            return Some((id, Known::Elsewhere));
        }
        let id = self.node_at(key, now, |node_wd| node_wd.is_none());
        self.wds.add(wd, id);
        self.unwatched.remove(&id);
        if let Some(node) = self.tree.get_mut(id) {
            (node.wd, node.ino) = (Some(wd), stat.ino);
        }
        Some((id, Known::New))
    }

    /// The node at `key` if its watch suits, else a new one in its place.
    fn node_at(&mut self, key: &Key, now: Instant, suits: impl Fn(Option<i32>) -> bool) -> DirId {
        match self.tree.child(key.dir, &key.name) {
            Some(id) if self.tree.get(id).is_some_and(|node| suits(node.wd)) => id,
            _ => {
                self.displace(key, now);
                self.tree.link_new(key.clone())
            }
        }
    }

    /// trap T4: go on without: it is swept now and then.
    fn without_watch(&mut self, key: &Key, stat: &Stat, now: Instant) -> DirId {
        let id = self.node_at(key, now, |wd| wd.is_none());
        if let Some(node) = self.tree.get_mut(id) {
            node.ino = stat.ino;
        }
        self.unwatched.insert(id);
        id
    }
}

/// What became of entering a directory.
#[derive(Debug)]
enum Entered {
    /// Go on with this.
    Listing(Box<Current>),
    /// Nothing is left to do: it is known to be gone or complete, or was told to be unlistable.
    Done,
    /// It is not there; an event that tells why may be on the way.
    NotThere,
}

/// Where a directory was believed to be when it was entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    WhereExpected,
    Elsewhere,
    New,
}
