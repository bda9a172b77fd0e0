//! A file system in memory, for the simulator and for tests: the second one behind the door.
//!
//! It does what Linux does as far as the daemon and its users can tell: inodes with numbers that are
//! handed out again at once, birth and change times, hard links, descriptors that go on writing to
//! what was unlinked or displaced, stores through mappings that nobody is told of, exchanges,
//! events in queues that overflow, disks that are full, and power cuts. `folder::tests` runs the same
//! operations on it and on a real one and compares every answer; what it does not have (owners that
//! may not, access lists that change modes, mounts, holes) is not simulated.
//!
//! Time is its own and moves with each call. The daemon comes in through [`crate::folder::Folder`];
//! before each of its calls a *hook* may act as a user, refuse the call, or end the daemon's life.
//! Users act by paths: see [`user`].

mod events;
mod handle;
mod names;
mod power;
pub mod user;
mod volume;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use events::{Event, Mask};
pub(super) use handle::{Entries, Handle};
use rustix::io::Errno;
use volume::{Id, Link, Volume};

use super::{Dir, File, Folder, Result};
use crate::name::{Name, RelPath};

/// A call of the daemon that is about to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The name of the call, as in section 2 of the manual.
    pub what: &'static str,
    /// What it is about: the path from the root of the volume. Empty when that has no name.
    pub path: String,
}

/// Acts before a call of the daemon, and may refuse it.
pub type Hook = Box<dyn FnMut(&Call) -> std::result::Result<(), Errno> + Send>;

/// A volume; clones are the same one.
#[derive(Clone)]
pub struct FileSystem(Arc<Shared>);

struct Shared {
    volume: Mutex<Volume>,
    /// Not there while it runs: what users do is not interrupted.
    hook: Mutex<Option<Hook>>,
}

impl fmt::Debug for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSystem").finish_non_exhaustive()
    }
}

impl Default for FileSystem {
    fn default() -> Self {
        Self::new()
    }
}

impl FileSystem {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        let (volume, hook) = (Mutex::new(Volume::new()), Mutex::new(None));
        Self(Arc::new(Shared { volume, hook }))
    }

    fn volume(&self) -> MutexGuard<'_, Volume> {
        self.0.volume.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hook_slot(&self) -> MutexGuard<'_, Option<Hook>> {
        self.0.hook.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a directory of it as the daemon does.
    ///
    /// # Errors
    /// As [`Folder::open`].
    pub fn folder(&self, path: &str) -> Result<Folder> {
        let opened = Handle::root(self).beneath(path.as_bytes(), super::For::Walking);
        let handle =
            opened.map_err(|errno| super::FolderError::from_errno(RelPath::root(), errno))?;
        Folder::over(super::Handle::Simulated(handle))
    }

    /// Has `hook` called before each call of the daemon.
    pub fn set_hook(&self, hook: Option<Hook>) {
        *self.hook_slot() = hook;
    }

    /// Asks the hook. Nothing is locked while it runs.
    fn interrupt(
        &self,
        what: &'static str,
        place: impl FnOnce(&Volume) -> String,
    ) -> std::result::Result<(), Errno> {
        let Some(mut hook) = self.hook_slot().take() else { return Ok(()) };
        let path = place(&self.volume());
        let verdict = hook(&Call { what, path });
        self.hook_slot().get_or_insert(hook);
        verdict
    }

    /// Ends the daemon's life at once: none of its descriptors does anything any more.
    pub fn kill(&self) {
        self.volume().life += 1;
    }

    /// Which life of the daemon this is.
    #[must_use]
    pub fn life(&self) -> u64 {
        self.volume().life
    }

    /// Takes the power away and gives it back: what was not synced may be gone, and nothing is open.
    /// `dice(n)` is a number below n.
    pub fn cut_power(&self, dice: &mut dyn FnMut(u64) -> u64) {
        self.volume().cut_power(dice);
    }

    /// Has the kernel write back everything, as it does by itself within half a minute.
    pub fn write_back(&self) {
        self.volume().sync_all();
    }

    /// Lets time pass.
    pub fn pass(&self, time: Duration) {
        self.volume().clock_ns += u64::try_from(time.as_nanos()).unwrap_or(0);
    }

    /// Stamps are multiples of this from now on (4 ms on kernels before 6.13).
    pub fn set_stamps(&self, granularity: Duration) {
        self.volume().stamp_ns = u64::try_from(granularity.as_nanos()).unwrap_or(1).max(1);
    }

    /// How many bytes of files fit in.
    pub fn set_capacity(&self, bytes: u64) {
        self.volume().capacity_bytes = bytes;
    }

    /// Bytes that still fit in.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.volume().free_bytes()
    }

    /// Whether the daemon is told who has a file open for writing.
    pub fn set_leases(&self, told: bool) {
        self.volume().has_leases = told;
    }

    /// Whether files can share blocks.
    pub fn set_clones(&self, shared: bool) {
        self.volume().has_clones = shared;
    }

    /// What instances of inotify that are opened from now on hold at most: events in the queue
    /// (`fs.inotify.max_queued_events`), watches (`max_user_watches`).
    pub fn set_notifier_limits(&self, events_max: usize, watches_max: usize) {
        let mut volume = self.volume();
        (volume.queue_max, volume.watches_max) = (events_max, watches_max);
    }

    /// An inotify instance with a queue of so many events and so many watches, or fewer, if the
    /// volume has fewer.
    #[must_use]
    pub fn notifier(&self, events_max: usize, watches_max: usize) -> Notifier {
        let mut volume = self.volume();
        let number = volume.next();
        let (events_max, watches_max) =
            (events_max.min(volume.queue_max), watches_max.min(volume.watches_max));
        volume.queues.open(number, events_max, watches_max);
        drop(volume);
        Notifier { fs: self.clone(), number }
    }
}

/// An inotify instance.
#[derive(Debug)]
pub struct Notifier {
    fs: FileSystem,
    number: u64,
}

impl Notifier {
    /// Watches a directory; `None` when there are no watches left.
    #[must_use]
    pub fn watch(&self, dir: &Dir, mask: u32) -> Option<i32> {
        let super::Handle::Simulated(handle) = &dir.handle else { return None };
        self.fs.volume().queues.watch(self.number, handle.id(), Mask(mask))
    }

    /// Ends a watch.
    pub fn unwatch(&self, wd: i32) {
        self.fs.volume().queues.unwatch(self.number, wd);
    }

    /// Takes events out of the queue, oldest first.
    #[must_use]
    pub fn read(&self, events_max: usize) -> Vec<Event> {
        self.fs.volume().queues.read(self.number, events_max)
    }

    /// Bytes of the events in the queue.
    #[must_use]
    pub fn unread_bytes(&self) -> u64 {
        self.fs.volume().queues.unread_bytes(self.number)
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.fs.volume().queues.close(self.number);
    }
}

impl Dir {
    /// Opens a file of our own on a simulated volume for reading and writing.
    ///
    /// # Errors
    /// As [`Dir::open_read`].
    pub(crate) fn open_simulated(&self, name: &Name) -> Result<File> {
        let mut file = self.open_read(name)?;
        if let super::Handle::Simulated(handle) = &mut file.handle {
            handle.may_write();
        }
        Ok(file)
    }
}

impl File {
    /// Makes it so many bytes long.
    pub(crate) fn resize_simulated(&self, bytes: u64) -> std::result::Result<(), Errno> {
        match &self.handle {
            super::Handle::Simulated(handle) => handle.resize(bytes),
            super::Handle::Kernel(_) => Err(Errno::OPNOTSUPP),
        }
    }
}

impl Folder {
    /// The simulated volume that it is on, if it is.
    #[must_use]
    pub fn simulated(&self) -> Option<&FileSystem> {
        match &self.root.handle {
            super::Handle::Simulated(handle) => Some(handle.file_system()),
            super::Handle::Kernel(_) => None,
        }
    }
}
