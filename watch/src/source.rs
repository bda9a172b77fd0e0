//! Where events come from: the kernel, or a simulated volume.

use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use inotify::{EventMask, Inotify, WatchMask};
#[cfg(any(test, feature = "simulated"))]
use pickbox_store::folder::simulated::Notifier;
use pickbox_store::folder::{Dir, Folder};
use pickbox_store::name::Name;
use rustix::io::Errno;

use crate::enter::AddError;

/// Bytes of one read: about a thousand events.
const READ_BYTES: usize = 64 * 1024;
/// The same of a simulated queue, in events.
#[cfg(any(test, feature = "simulated"))]
const READ_EVENTS: usize = 16;
/// Bounds of a simulated queue: small, so that they are reached.
#[cfg(any(test, feature = "simulated"))]
pub(crate) const SIMULATED_EVENTS_MAX: usize = 64;
#[cfg(any(test, feature = "simulated"))]
const SIMULATED_WATCHES_MAX: usize = 1 << 20;

/// An event, off the kernel's buffer.
pub(crate) struct Event {
    pub(crate) wd: i32,
    pub(crate) mask: EventMask,
    pub(crate) cookie: u32,
    pub(crate) name: Option<Name>,
}

/// An inotify instance.
#[derive(Debug)]
pub(crate) enum Source {
    Kernel {
        inotify: Inotify,
        buffer: Vec<u8>,
    },
    #[cfg(any(test, feature = "simulated"))]
    Simulated(Notifier),
}

impl Source {
    /// One for what happens in `folder` and beside it.
    #[cfg_attr(
        not(any(test, feature = "simulated")),
        expect(unused_variables, reason = "the kernel has one for all")
    )]
    pub(crate) fn open(folder: &Folder) -> std::io::Result<Self> {
        #[cfg(any(test, feature = "simulated"))]
        if let Some(volume) = folder.simulated() {
            let notifier = volume.notifier(SIMULATED_EVENTS_MAX, SIMULATED_WATCHES_MAX);
            return Ok(Self::Simulated(notifier));
        }
        Ok(Self::Kernel { inotify: Inotify::init()?, buffer: vec![0; READ_BYTES] })
    }

    /// Watches an open directory. Through `/proc/self/fd`, and therefore without `IN_DONT_FOLLOW`:
    /// the magic link is the only one that is followed.
    pub(crate) fn add(&self, dir: &Dir, mask: WatchMask) -> Result<i32, AddError> {
        match self {
            Self::Kernel { inotify, .. } => {
                let added = inotify.watches().add(dir.proc_path(), mask);
                added.map(|wd| wd.get_watch_descriptor_id()).map_err(|error| {
                    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
                    match errno {
                        Some(Errno::NOSPC | Errno::NOMEM) => AddError::Limit,
                        _ => AddError::Gone(error),
                    }
                })
            }
            #[cfg(any(test, feature = "simulated"))]
            Self::Simulated(notifier) => notifier.watch(dir, mask.bits()).ok_or(AddError::Limit),
        }
    }

    /// Ends a watch; one that the kernel has ended already is none.
    pub(crate) fn remove(&self, wd: i32) {
        match self {
            Self::Kernel { inotify, .. } => {
                // EINVAL: the kernel was faster; its IN_IGNORED is on the way all the same.
                let _ = rustix::fs::inotify::remove_watch(inotify, wd);
            }
            #[cfg(any(test, feature = "simulated"))]
            Self::Simulated(notifier) => notifier.unwatch(wd),
        }
    }

    /// Takes events out of the queue.
    ///
    /// # Errors
    /// `WouldBlock` when it is empty.
    pub(crate) fn read(&mut self) -> std::io::Result<Vec<Event>> {
        match self {
            Self::Kernel { inotify, buffer } => {
                inotify.read_events(buffer).map(|events| events.map(Event::from).collect())
            }
            #[cfg(any(test, feature = "simulated"))]
            Self::Simulated(notifier) => {
                let events = notifier.read(READ_EVENTS);
                if events.is_empty() {
                    return Err(std::io::ErrorKind::WouldBlock.into());
                }
                Ok(events.into_iter().map(Event::from).collect())
            }
        }
    }

    /// Bytes of events in the queue (`FIONREAD`).
    pub(crate) fn unread_bytes(&self) -> u64 {
        match self {
            Self::Kernel { inotify, .. } => rustix::io::ioctl_fionread(inotify).unwrap_or(0),
            #[cfg(any(test, feature = "simulated"))]
            Self::Simulated(notifier) => notifier.unread_bytes(),
        }
    }

    /// What to poll.
    pub(crate) fn raw_fd(&self) -> RawFd {
        match self {
            Self::Kernel { inotify, .. } => inotify.as_raw_fd(),
            #[cfg(any(test, feature = "simulated"))]
            Self::Simulated(_) => -1,
        }
    }
}

impl From<inotify::Event<&std::ffi::OsStr>> for Event {
    fn from(event: inotify::Event<&std::ffi::OsStr>) -> Self {
        Self {
            wd: event.wd.get_watch_descriptor_id(),
            mask: event.mask,
            cookie: event.cookie,
            // A name that is none can only come from a foreign file system; walks skip it too.
            name: event.name.and_then(|name| Name::new(name.as_bytes()).ok()),
        }
    }
}

#[cfg(any(test, feature = "simulated"))]
impl From<pickbox_store::folder::simulated::Event> for Event {
    fn from(event: pickbox_store::folder::simulated::Event) -> Self {
        let mask = EventMask::from_bits_truncate(event.mask.0);
        Self { wd: event.wd, mask, cookie: event.cookie, name: Name::new(event.name).ok() }
    }
}
