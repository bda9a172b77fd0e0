//! Entering directories: watch first, then list, so that nothing slips in between (trap T2).

use std::collections::VecDeque;
use std::time::Instant;

use inotify::WatchMask;
use log::{debug, warn};
use pickbox_store::folder::{Dir, FolderError, Kind, Listed, Listing, Stat};
use pickbox_store::name::{Name, RelPath};
use pickbox_store::observation::{Hint, Place, Sighting};
use rustix::io::Errno;

use crate::dirty::What;
use crate::tree::{DirId, Key};
use crate::watcher::Watcher;

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
}

/// A directory that is being listed; held.
#[derive(Debug)]
struct Current {
    id: DirId,
    dir: Dir,
    why: Why,
    listing: Listing,
    names: Vec<Name>,
}

/// Directories to enter, and the one that is being listed: one descriptor at a time.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    jobs: VecDeque<Job>,
    current: Option<Box<Current>>,
    /// Directories that could not be listed although nothing says that they are gone.
    pub(crate) failure_count: u64,
}

impl Lane {
    /// Directories still to be listed, as far as they are known.
    pub(crate) fn len(&self) -> usize {
        self.jobs.len() + usize::from(self.current.is_some())
    }

    /// Adds a job; its directory must have been held.
    pub(crate) fn push(&mut self, job: Job) {
        self.jobs.push_back(job);
    }
}

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
    /// Asks the kernel for a watch on an open directory. Through `/proc/self/fd`, and therefore
    /// without `IN_DONT_FOLLOW`: the magic link is the only one that is followed.
    pub(crate) fn add_watch(
        &self,
        dir: &Dir,
        place: Place,
        at: Option<&Key>,
    ) -> Result<i32, AddError> {
        let added = self.inotify.watches().add(dir.proc_path(), mask(place, at));
        added.map(|wd| wd.get_watch_descriptor_id()).map_err(|error| match error.raw_os_error() {
            Some(code)
                if [Errno::NOSPC, Errno::NOMEM].contains(&Errno::from_raw_os_error(code)) =>
            {
                AddError::Limit
            }
            _ => AddError::Gone(error),
        })
    }

    /// A directory appeared, or must be checked: enter it before the next walk step.
    pub(crate) fn push_fresh(&mut self, key: Key, why: Why) {
        self.tree.hold(key.dir);
        self.fresh.push(Job { at: Some(key), why });
    }

    /// Enters and lists some of the directories that appeared; whether any were left to do.
    pub(crate) fn step_fresh(&mut self, entries_max: usize, now: Instant) -> bool {
        let mut lane = std::mem::take(&mut self.fresh);
        let worked = self.step_lane(&mut lane, entries_max, now);
        // Children and later arrivals were pushed meanwhile.
        lane.jobs.append(&mut self.fresh.jobs);
        self.fresh = lane;
        worked
    }

    /// Goes on with a lane for about `entries_max` entries; whether there was anything to do.
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
                        self.not_listed(lane, &current.dir, &error);
                        self.tree.release(current.id);
                    }
                    None => self.listed(*current),
                }
            } else if let Some(job) = lane.jobs.pop_front() {
                lane.current = self.enter(&job, lane, now).map(Box::new);
                job.at.into_iter().for_each(|key| self.tree.release(key.dir));
            } else {
                break;
            }
            worked = true;
        }
        worked
    }

    fn found(&mut self, current: &mut Current, entry: Listed, lane: &mut Lane, now: Instant) {
        let key = Key { dir: current.id, name: entry.name };
        let reason = match current.why {
            Why::Appeared | Why::MovedWithin => Hint::SCANNED.with(Hint::FRESH),
            Why::Walk | Why::Sweep => Hint::SCANNED,
        };
        self.note(&key, What::Found(reason), now);
        let kind = entry.kind.or_else(|| current.dir.stat(&key.name).ok().map(|stat| stat.kind));
        let looks_after_itself = current.why == Why::Sweep
            && self.tree.child(current.id, &key.name).is_some_and(|id| self.tree.is_linked(id));
        if kind == Some(Kind::Directory) && !looks_after_itself {
            let why = if current.why == Why::Walk { Why::Walk } else { Why::Appeared };
            self.tree.hold(key.dir);
            // Depth first: a walk's list of things to do stays short.
            lane.jobs.push_front(Job { at: Some(key.clone()), why });
        }
        if matches!(current.why, Why::Walk | Why::Sweep) {
            current.names.push(key.name);
        }
    }

    fn listed(&mut self, current: Current) {
        if matches!(current.why, Why::Walk | Why::Sweep)
            && let Some((_, dir)) = self.tree.path(current.id)
        {
            self.outbox.push_back(Sighting::Listed { dir, names: current.names });
        }
        self.tree.release(current.id);
    }

    fn not_listed(&mut self, lane: &mut Lane, dir: &Dir, error: &FolderError) {
        lane.failure_count += 1;
        self.cannot_enter(dir.path().clone(), error);
    }

    fn cannot_enter(&mut self, dir: RelPath, error: &FolderError) {
        let errno = error.errno();
        if errno == Errno::XDEV {
            debug!("another file system is mounted at '{dir}': not entered");
        } else {
            warn!("directory '{dir}' cannot be listed: {errno}");
        }
        self.outbox.push_back(Sighting::Unlisted { dir, errno });
    }

    /// Opens, watches, and starts to list. Nothing when it is gone (events tell), when it is
    /// known to be complete, or when it cannot be (told by a sighting).
    fn enter(&mut self, job: &Job, lane: &mut Lane, now: Instant) -> Option<Current> {
        // Forgotten, or displaced: whoever finds it again lists it.
        if job.at.as_ref().is_some_and(|key| !self.tree.is_linked(key.dir)) {
            return None;
        }
        let path = self.job_path(job)?;
        let opened = self.folder(Place::Folder)?.dir(&path);
        let dir = match opened {
            Ok(dir) => dir,
            Err(FolderError::Absent(_) | FolderError::NotDirectory(_)) => return None,
            Err(error) => {
                lane.failure_count += u64::from(!matches!(error, FolderError::Blocked { .. }));
                self.cannot_enter(path, &error);
                return None;
            }
        };
        let stat = dir.stat_self().ok()?;
        let (id, found) = self.watch(job, &dir, &stat, now)?;
        let seen = self.walks.generation();
        if let Some(node) = self.tree.get_mut(id) {
            node.seen = seen;
        }
        for _ in 0..self.moves.found(id) {
            self.tree.release(id);
        }
        if job.why == Why::MovedWithin && found == Known::WhereExpected {
            return None;
        }
        // Marks below a directory that was elsewhere than believed were looked at in vain.
        let why = if found == Known::Elsewhere { Why::Appeared } else { job.why };
        let why = if job.why == Why::Walk { Why::Walk } else { why };
        match dir.list() {
            Ok(listing) => {
                self.tree.hold(id);
                Some(Current { id, dir, why, listing, names: Vec::new() })
            }
            Err(error) => {
                self.not_listed(lane, &dir, &error);
                None
            }
        }
    }

    fn job_path(&self, job: &Job) -> Option<RelPath> {
        match &job.at {
            None => Some(RelPath::root()),
            Some(key) => Some(self.tree.path(key.dir)?.1.join(&key.name)),
        }
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
        if self.unwatched.is_empty() {
            warn!("{}", self.budget());
        }
        self.unwatched.insert(id);
        id
    }
}

/// Where a directory was believed to be when it was entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    WhereExpected,
    Elsewhere,
    New,
}
