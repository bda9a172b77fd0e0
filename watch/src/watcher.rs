//! The watcher as one owned value: what it knows, and one look at a time.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pickbox_store::folder::{Dir, Folder, FolderError, Stat, Whereabouts};
use pickbox_store::ignored::Ignored;
use pickbox_store::name::{Name, RelPath};
use pickbox_store::observation::{Flushed, Hint, Observation, Place, Seen, Sighting};
use rustix::io::Errno;

use crate::dirty::{Dirty, Mark, Noted, What};
use crate::examine::{Patience, examine, examine_entry};
use crate::hot::{HotPolicy, HotRules};
use crate::lane::Lane;
use crate::limits::{self, WatchBudget};
use crate::linked::Linked;
use crate::moves::Moves;
use crate::notices::Notices;
use crate::reach::{OldPaths, Unreached};
use crate::source::Source;
use crate::tree::{DirId, Key, Tree};
use crate::unreadable::{Tried, Unreadable};
use crate::walk::Walks;
use crate::wds::Wds;

/// Where writers cannot be told, a write is believed to be over after this much quiet.
const UNKNOWN_QUIET: Duration = Duration::from_millis(50);

/// Files open for writing that a flush names.
const OPEN_NAMED_MAX: usize = 64;

/// How often an idle watcher makes sure that the folder is still where its path leads.
pub(crate) const CHECK_ROOT_EVERY: Duration = Duration::from_secs(2);

/// Why watching cannot begin or go on.
#[derive(Debug)]
pub enum WatchError {
    /// This user runs as many inotify instances as it may.
    NoInstance {
        /// `fs.inotify.max_user_instances`; 0 when unreadable.
        limit: usize,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A root cannot be opened or watched.
    Root(Place, FolderError),
    /// Not even the root got a watch.
    NoWatch(WatchBudget),
    /// The folder was unmounted and is back, on another mount: everything has to be opened anew.
    Remounted,
    /// Polling or reading failed.
    Io(std::io::Error),
}

impl fmt::Display for WatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoInstance { limit, .. } => write!(
                f,
                "no inotify instance left for this user (limit {limit}); run: sysctl -w \
                 fs.inotify.max_user_instances={}",
                limit.saturating_mul(4).max(512)
            ),
            Self::Root(place, _) => write!(f, "cannot watch {place:?}"),
            Self::NoWatch(budget) => budget.fmt(f),
            Self::Remounted => f.write_str("the folder was unmounted and is mounted again"),
            Self::Io(_) => f.write_str("watching failed"),
        }
    }
}

impl std::error::Error for WatchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoInstance { source, .. } | Self::Io(source) => Some(source),
            Self::Root(_, source) => Some(source),
            Self::NoWatch(_) | Self::Remounted => None,
        }
    }
}

/// How a folder is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchOptions {
    /// How often everything is looked at, at least, though no event says that anything changed;
    /// none: never.
    pub scan_every: Option<Duration>,
    /// What is done with files that stay open for writing.
    pub hot: HotRules,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self { scan_every: Some(Duration::from_hours(1)), hot: HotRules::default() }
    }
}

/// A file that a program keeps open for writing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenFile {
    /// Where it is.
    pub path: RelPath,
    /// Whether it was open for so long that it is taken as it is, now and then.
    pub is_hot: bool,
    /// What is done with it then.
    pub policy: HotPolicy,
}

/// How the watcher stands, for STATUS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes of events in the kernel's queue (`FIONREAD`).
    pub unread_bytes: u64,
    /// Names marked and not yet handed on, open ones included.
    pub dirty: usize,
    /// Files that somebody has open for writing since they changed.
    pub open_for_writing: usize,
    /// Sightings made and not yet taken by the store.
    pub outbox: usize,
    /// Requests of the store that were not taken up yet.
    pub asked: usize,
    /// Walks running or waiting, and new directories not yet listed.
    pub walks: usize,
    /// Times the kernel's queue or our own marks overflowed.
    pub overflows: u64,
    /// Watches needed, set, allowed.
    pub watches: WatchBudget,
    /// Directories without a watch: scanned every 30 s.
    pub unwatched: usize,
    /// Files that stayed open for writing for so long that they are taken as they are.
    pub hot: usize,
    /// Files with several names, looked at every few seconds.
    pub linked: usize,
    /// Some of the files that are open for writing, the hot ones first.
    pub open_files: Vec<OpenFile>,
    /// What somebody should look after, a sentence each.
    pub alarms: Vec<String>,
    /// What is worth to be known and needs nobody, a sentence each.
    pub notices: Vec<String>,
}

/// Open files that STATUS names.
const OPEN_SHOWN_MAX: usize = 8;

/// A tree or directory that is watched.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) place: Place,
    pub(crate) folder: Folder,
    pub(crate) dir: DirId,
}

/// Everything known about the watched trees.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) source: Source,
    /// The folder first, then what is beside it.
    pub(crate) roots: Vec<Root>,
    pub(crate) tree: Tree,
    pub(crate) wds: Wds,
    pub(crate) dirty: Dirty,
    pub(crate) moves: Moves,
    pub(crate) old_paths: OldPaths,
    /// Directories that appeared, to be watched and listed at once.
    pub(crate) fresh: Lane,
    pub(crate) walks: Walks,
    pub(crate) unwatched: BTreeSet<DirId>,
    /// What is left alone.
    pub(crate) ignored: Arc<Ignored>,
    pub(crate) linked: Linked,
    pub(crate) unreadable: Unreadable,
    pub(crate) notices: Notices,
    hot: HotRules,
    pub(crate) outbox: VecDeque<Sighting>,
    /// Something was told from which a deletion may be concluded, and not yet that it was all.
    pub(crate) told_gone: bool,
    pub(crate) overflow_count: u64,
    pub(crate) root_gone: bool,
    root_checked: Instant,
}

impl Watcher {
    /// Watches the roots of the folder and of the directories beside it (numbered as given), and
    /// asks for a first walk of the folder.
    pub(crate) fn open(
        folder: Folder,
        beside: Vec<Folder>,
        options: WatchOptions,
        now: Instant,
    ) -> Result<Self, WatchError> {
        let source = Source::open(&folder).map_err(|source| WatchError::NoInstance {
            limit: limits::read("max_user_instances"),
            source,
        })?;
        let mut watcher = Self {
            source,
            roots: Vec::new(),
            tree: Tree::default(),
            wds: Wds::default(),
            dirty: Dirty::default(),
            moves: Moves::default(),
            old_paths: OldPaths::default(),
            fresh: Lane::default(),
            walks: Walks::new(options.scan_every, now),
            unwatched: BTreeSet::new(),
            ignored: Arc::default(),
            linked: Linked::new(now),
            unreadable: Unreadable::default(),
            notices: Notices::of(folder.root()),
            hot: options.hot,
            outbox: VecDeque::new(),
            told_gone: false,
            overflow_count: 0,
            root_gone: false,
            root_checked: now,
        };
        watcher.add_root(Place::Folder, folder)?;
        for (folder, number) in beside.into_iter().zip(0..) {
            watcher.add_root(Place::Beside(number), folder)?;
        }
        watcher.walks.request(RelPath::root());
        Ok(watcher)
    }

    fn add_root(&mut self, place: Place, folder: Folder) -> Result<(), WatchError> {
        let dir = self.tree.add_root(place);
        let wd = self.add_watch(folder.root(), place, None).map_err(|error| match error {
            crate::enter::AddError::Limit => WatchError::NoWatch(self.budget()),
            crate::enter::AddError::Gone(error) => WatchError::Io(error),
        })?;
        self.wds.add(wd, dir);
        if let Some(node) = self.tree.get_mut(dir) {
            (node.wd, node.ino) = (Some(wd), folder.identity().ino);
        }
        self.roots.push(Root { place, folder, dir });
        Ok(())
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.source.raw_fd()
    }

    pub(crate) fn folder(&self, place: Place) -> Option<&Folder> {
        self.roots.iter().find(|root| root.place == place).map(|root| &root.folder)
    }

    /// The node of the folder itself.
    pub(crate) fn root(&self) -> Option<DirId> {
        self.roots.first().map(|root| root.dir)
    }

    pub(crate) fn budget(&self) -> WatchBudget {
        let (limit, setting) = limits::watches_max();
        WatchBudget { needed: self.tree.linked_count(), used: self.wds.count(), limit, setting }
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            unread_bytes: self.source.unread_bytes(),
            dirty: self.dirty.len(),
            open_for_writing: self.dirty.open_count(),
            outbox: self.outbox.len(),
            asked: 0,
            walks: self.walks.count() + self.fresh.len(),
            overflows: self.overflow_count,
            watches: self.budget(),
            unwatched: self.unwatched.len(),
            hot: self.dirty.hot_count(),
            linked: self.linked.len(),
            open_files: self.open_files(),
            alarms: self.alarms(),
            notices: self.notices(),
        }
    }

    fn open_files(&self) -> Vec<OpenFile> {
        let mut open: Vec<_> = self.dirty.open_marks().collect();
        open.sort_by_key(|mark| (mark.handed.is_none(), mark.first));
        let named = open.into_iter().filter_map(|mark| {
            let (_, dir) = self.tree.path(mark.key.dir)?;
            let path = dir.join(&mark.key.name);
            let policy = self.hot.policy(&path);
            Some(OpenFile { is_hot: mark.handed.is_some(), policy, path })
        });
        named.take(OPEN_SHOWN_MAX).collect()
    }

    /// Notes an event and keeps the node of its directory as long as its mark lives.
    pub(crate) fn note(&mut self, key: &Key, what: What, now: Instant) {
        match self.dirty.note(key, what, now) {
            Noted::New => self.tree.hold(key.dir),
            Noted::Merged => {}
            Noted::Vanished => self.tree.release(key.dir),
            Noted::Full => self.lost_events(),
        }
    }

    /// Something was missed: all of the folder must be looked at.
    pub(crate) fn lost_events(&mut self) {
        self.overflow_count += 1;
        self.walks.request(RelPath::root());
    }

    /// Looks at the next path that is due; whether there was one.
    pub(crate) fn hand_on(&mut self, now: Instant) -> bool {
        if self.root_gone {
            return false;
        }
        let Some(mark) = self.dirty.take_ready(now) else { return false };
        let above = self.above(mark.key.dir);
        if let Some(until) = above.iter().find_map(|key| self.dirty.puzzled_until(key))
            && until > now
        {
            self.dirty.put_back(mark, Some(until));
        } else if let Some(above) = self.take_first(&above, now) {
            // The rest follows in its turn.
            self.dirty.put_back(mark, None);
            self.look_for(above, now);
        } else {
            self.look_for(mark, now);
        }
        true
    }

    /// Tells of a directory and those above it, as far as they are marked; whether all are told.
    pub(crate) fn tell_above(&mut self, dir: DirId, now: Instant) -> bool {
        let above = self.above(dir);
        while let Some(mark) = self.take_first(&above, now) {
            self.look_for(mark, now);
        }
        above.iter().all(|key| self.dirty.puzzled_until(key).is_none())
    }

    /// The names of a directory and those above it, topmost first. Whoever hears of a path must
    /// have heard of the directories above it, above all when one was renamed.
    fn above(&self, dir: DirId) -> Vec<Key> {
        let mut above: Vec<Key> = Vec::new();
        let mut at = dir;
        while let Some(key) = self.tree.key(at) {
            at = key.dir;
            above.push(key);
        }
        above.reverse();
        above
    }

    /// The topmost mark, unless it waits for an explanation: then nothing below is told either.
    fn take_first(&mut self, keys: &[Key], now: Instant) -> Option<Mark> {
        for key in keys {
            let mark = self.dirty.take_named(key, now);
            if mark.is_some() || self.dirty.puzzled_until(key).is_some() {
                return mark;
            }
        }
        None
    }

    pub(crate) fn look_for(&mut self, mark: Mark, now: Instant) {
        match self.reach(mark.key.dir) {
            Ok((place, dir)) => self.look(mark, place, &dir, now),
            Err(Unreached::Elsewhere) => self.look_again(mark, now),
            Err(Unreached::Forgotten(place, dir)) => {
                self.done(&mark, place, &dir, Seen::ParentGone);
            }
            Err(Unreached::Failed(place, error)) => {
                // Where it stands, not the directory above it at which it failed.
                let known = self.tree.path(mark.key.dir);
                let dir = known.map_or_else(|| error.path().clone(), |(_, dir)| dir);
                self.unreadable(&mark, place, &dir, error.errno(), now);
            }
            Err(Unreached::TooLong) => self.tree.release(mark.key.dir),
        }
    }

    /// What was marked is not where it should be: the event that explains it comes.
    fn look_again(&mut self, mark: Mark, now: Instant) {
        let Some(mark) = self.dirty.puzzle(mark, now) else { return };
        // None came. Below directories without a watch that is no wonder.
        if self.unwatched.is_empty() {
            self.lost_events();
        }
        match self.tree.path(mark.key.dir) {
            Some((place, dir)) => self.done(&mark, place, &dir, Seen::ParentGone),
            None => self.tree.release(mark.key.dir),
        }
    }

    fn look(&mut self, mut mark: Mark, place: Place, dir: &Dir, now: Instant) {
        if self.is_left_alone(&mark, place, dir) {
            return self.tree.release(mark.key.dir);
        }
        let newborn = mark.is_newborn(now);
        let hint = if newborn { Hint::default() } else { mark.hint.without(Hint::HOT) };
        let unclosed = mark.unclosed.is_some_and(|last| now < last + UNKNOWN_QUIET);
        let patience = if unclosed { Patience::WaitIfUnknown } else { Patience::Wait };
        match examine_entry(dir, &mark.key.name, hint, patience) {
            Seen::StatOnly(_) if newborn => self.dirty.defer_newborn(mark),
            Seen::Busy(stat) if mark.hint.has(Hint::ASKED) => {
                let (path, hint) = (dir.path().join(&mark.key.name), mark.hint);
                mark.hint = hint.without(Hint::ASKED).with(Hint::WROTE);
                self.dirty.defer(mark, now);
                self.saw(place, path, Seen::Busy(stat), hint);
            }
            Seen::Busy(stat) if mark.is_overdue(now) && self.may_be_hot(dir, &mark.key.name) => {
                self.look_hot(mark, place, dir, stat, now);
            }
            Seen::Busy(_) => self.dirty.defer(mark, now),
            // Renamed or deleted a moment ago: its event takes this mark along.
            Seen::Gone if mark.is_expected() => self.look_again(mark, now),
            Seen::Directory(stat) if self.is_another(&mark.key, &stat) => {
                if let Some(mark) = self.dirty.puzzle(mark, now) {
                    self.done(&mark, place, dir.path(), Seen::Directory(stat));
                }
            }
            Seen::Unreadable(errno) => self.unreadable(&mark, place, dir.path(), errno, now),
            seen => self.done(&mark, place, dir.path(), seen),
        }
    }

    fn unreadable(&mut self, mark: &Mark, place: Place, dir: &RelPath, errno: Errno, now: Instant) {
        if place == Place::Folder {
            self.try_later(Some(mark.key.clone()), Tried::Look, now);
        }
        self.done(mark, place, dir, Seen::Unreadable(errno));
    }

    /// Whether a file is taken as it is when it stays open.
    fn may_be_hot(&self, dir: &Dir, name: &Name) -> bool {
        self.hot.policy(&dir.path().join(name)) == HotPolicy::Snapshot
    }

    /// Whether a directory is known by this name and it is not this one: the known one was
    /// renamed a moment ago, and that must be heard of first.
    fn is_another(&self, key: &Key, stat: &Stat) -> bool {
        let known = self.tree.child(key.dir, &key.name).and_then(|id| self.tree.get(id));
        known.is_some_and(|node| node.ino != stat.ino)
    }

    /// Takes a snapshot of a file that has been open for too long, if it changed since the last.
    fn look_hot(&mut self, mark: Mark, place: Place, dir: &Dir, stat: Stat, now: Instant) {
        if mark.handed.is_some_and(|handed| handed.same_to_ctime(&stat)) {
            return self.dirty.keep_hot(mark, stat, now);
        }
        let (path, hint) = (dir.path().join(&mark.key.name), mark.hint.with(Hint::HOT));
        let seen = examine_entry(dir, &mark.key.name, hint, Patience::None);
        let (Seen::Small { stat, .. } | Seen::Large(stat)) = &seen else {
            // It will not hold still for a moment, or it is gone and its event on the way.
            return self.dirty.defer(mark, now);
        };
        self.dirty.keep_hot(mark, *stat, now);
        self.saw(place, path, seen, hint);
    }

    /// Hands on a look and ends its mark.
    fn done(&mut self, mark: &Mark, place: Place, dir: &RelPath, seen: Seen) {
        if matches!(seen, Seen::Gone | Seen::ParentGone) && self.is_root_unlinked() {
            return self.lose_root();
        }
        if seen == Seen::Gone
            && let Some(id) = self.tree.child(mark.key.dir, &mark.key.name)
        {
            // Whoever is told so forgets what was below: if it comes back, all is told anew.
            self.forget(id);
        }
        if place == Place::Folder {
            self.count_links(&mark.key, seen.stat());
        }
        self.saw(place, dir.join(&mark.key.name), seen, mark.hint.without(Hint::HOT));
        self.tree.release(mark.key.dir);
    }

    fn saw(&mut self, place: Place, path: RelPath, seen: Seen, hint: Hint) {
        self.told_gone |= matches!(seen, Seen::Gone | Seen::ParentGone);
        self.outbox.push_back(Sighting::Saw(Observation { place, path, seen, hint }));
    }

    /// Says, once, that all that is known to be gone was told: whoever weighs deletions has the
    /// whole (trap T20). Not while a walk goes on: what it misses here it may find there.
    pub(crate) fn tell_calm(&mut self) {
        if self.told_gone && !self.walks.is_running() && self.dirty.is_burst_over() {
            self.told_gone = false;
            self.outbox.push_back(Sighting::Calm);
        }
    }

    /// Our descriptor keeps a deleted folder's inode, so no event tells of its end.
    fn is_root_unlinked(&self) -> bool {
        let stat = self.folder(Place::Folder).map(|folder| folder.root().stat_self());
        matches!(stat, Some(Ok(stat)) if stat.nlink == 0)
    }

    /// Whether the folder is where its path leads.
    pub(crate) fn is_root_here(&self) -> bool {
        let folder = self.folder(Place::Folder);
        folder.is_some_and(|folder| folder.whereabouts() == Whereabouts::Here)
    }

    /// Makes sure now and then that the folder is where its path leads: what is mounted over it,
    /// or a rename of a directory above, is told by no event. When it is back, all of it is looked at.
    ///
    /// # Errors
    /// [`WatchError::Remounted`].
    pub(crate) fn check_root(&mut self, now: Instant) -> Result<(), WatchError> {
        if now < self.root_checked + CHECK_ROOT_EVERY {
            return Ok(());
        }
        self.root_checked = now;
        let whereabouts = self.folder(Place::Folder).map(Folder::whereabouts);
        match whereabouts {
            _ if self.is_root_unlinked() => self.lose_root(),
            Some(Whereabouts::Here) if self.root_gone => {
                self.root_gone = false;
                self.outbox.push_back(Sighting::RootBack);
                self.walks.request(RelPath::root());
            }
            Some(Whereabouts::Absent | Whereabouts::Other) => self.lose_root(),
            Some(Whereabouts::Remounted) => {
                self.lose_root();
                return Err(WatchError::Remounted);
            }
            Some(Whereabouts::Here) | None => {}
        }
        Ok(())
    }

    /// The folder is not there: nothing that is missing from it was deleted by anybody.
    pub(crate) fn lose_root(&mut self) {
        if !self.root_gone {
            self.root_gone = true;
            self.outbox.push_back(Sighting::RootGone);
        }
    }

    /// Looks at a path because the store asks, content included.
    pub(crate) fn answer(&mut self, path: RelPath, now: Instant) {
        let keys = self.meant_by(&path);
        for key in &keys {
            self.note(key, What::Found(Hint::ASKED), now);
        }
        if keys.is_empty()
            && let Some(folder) = self.folder(Place::Folder)
        {
            // Nothing is known of its directory: nothing to keep for later.
            let seen = examine(folder, &path, Hint::ASKED, Patience::Wait);
            self.saw(Place::Folder, path, seen, Hint::ASKED);
        }
    }

    /// Answers a flush for which all marks up to `noted` are handed on.
    pub(crate) fn flushed(&mut self, id: u64, noted: u64) {
        let (mut open_count, mut open) = (0, Vec::new());
        for key in self.dirty.open_before(noted) {
            let Some((Place::Folder, dir)) = self.tree.path(key.dir) else { continue };
            open_count += 1;
            if open.len() < OPEN_NAMED_MAX {
                open.push(dir.join(&key.name));
            }
        }
        open.sort_unstable();
        self.outbox.push_back(Sighting::Flushed(Flushed { id, open_count, open }));
    }

    /// When something is to be done without an event.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let check = self.root_checked + CHECK_ROOT_EVERY;
        if self.root_gone {
            // What is marked waits for the folder.
            return Some(check);
        }
        [
            Some(check),
            self.fresh.next_due(),
            self.linked.next_due(),
            self.unreadable.next_due(),
            self.dirty.next_due(),
            self.moves.next_due(),
            self.walks.next_due(!self.unwatched.is_empty()),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
