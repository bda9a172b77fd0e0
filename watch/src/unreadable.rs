//! What could not be looked at: a file that may not be read, a directory that cannot be listed. As a
//! rule an event tells when that changes; but not when a disk or a memory had an error, or when rights
//! come from elsewhere (a mount, a security module), and of the folder itself nobody tells. So they
//! are tried again now and then.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pickbox_store::name::RelPath;
use pickbox_store::observation::Hint;

use crate::dirty::What;
use crate::lane::Why;
use crate::tree::Key;
use crate::watcher::Watcher;

/// Pause between two tries.
pub(crate) const RETRY_EVERY: Duration = Duration::from_secs(30);
/// Things that are tried again: those beyond wait for the full scan.
const UNREADABLE_MAX: usize = 4_096;

/// What it was when it was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tried {
    Look,
    Listing,
}

/// What could not be looked at; no key stands for the folder itself. The directories of the others
/// are held.
#[derive(Debug, Default)]
pub(crate) struct Unreadable {
    things: BTreeMap<Option<Key>, Tried>,
    next: Option<Instant>,
}

impl Unreadable {
    /// When they are tried again.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.next
    }
}

impl Watcher {
    /// Something could not be looked at.
    pub(crate) fn try_later(&mut self, at: Option<Key>, tried: Tried, now: Instant) {
        let unreadable = &mut self.unreadable;
        unreadable.next.get_or_insert(now + RETRY_EVERY);
        if let Some(known) = unreadable.things.get_mut(&at) {
            *known = tried;
        } else if unreadable.things.len() < UNREADABLE_MAX {
            if let Some(key) = &at {
                self.tree.hold(key.dir);
            }
            self.unreadable.things.insert(at, tried);
        }
    }

    /// Tries all of them again if it is time. Those that still cannot be looked at come back.
    pub(crate) fn retry_unreadable(&mut self, now: Instant) {
        if self.unreadable.next.is_none_or(|next| now < next) {
            return;
        }
        for (at, tried) in std::mem::take(&mut self.unreadable).things {
            let Some(key) = at else {
                self.walks.request(RelPath::root());
                continue;
            };
            self.note(&key, What::Found(Hint::SCANNED.with(Hint::FRESH)), now);
            if tried == Tried::Listing {
                self.push_fresh(key.clone(), Why::Appeared);
            }
            self.tree.release(key.dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use pickbox_store::folder::simulated::FileSystem;
    use pickbox_store::observation::{Seen, Sighting};
    use rustix::io::Errno;

    use super::*;
    use crate::simulated::Steps;

    /// Turns until nothing is left to do.
    const TURNS: usize = 50;

    struct World {
        fs: FileSystem,
        steps: Steps,
        now: Instant,
    }

    impl World {
        /// A folder with `d/f`, and calls that are refused: the first word is the call, the second the path.
        fn refusing(refused: &'static [&'static str]) -> Self {
            let fs = FileSystem::new();
            fs.make_dir("folder").unwrap();
            fs.make_dir("folder/d").unwrap();
            fs.write("folder/d/f", b"text").unwrap();
            let now = pickbox_raft::clock::now();
            let steps = Steps::new(fs.folder("folder").unwrap(), Vec::new(), now).unwrap();
            let mut world = Self { fs, steps, now };
            world.refuse(refused);
            world
        }

        fn refuse(&mut self, refused: &'static [&'static str]) {
            self.fs.set_hook(Some(Box::new(move |call| {
                let called = format!("{} {}", call.what, call.path);
                if refused.contains(&&*called) { Err(Errno::IO) } else { Ok(()) }
            })));
        }

        fn all_succeeds(&mut self) {
            self.fs.set_hook(None);
        }

        fn after(&mut self, pause: Duration) -> Vec<Sighting> {
            self.now += pause;
            let mut seen = Vec::new();
            for _ in 0..TURNS {
                self.steps.turn(self.now).unwrap();
                seen.extend(std::iter::from_fn(|| self.steps.take()));
            }
            seen
        }
    }

    fn has_listed(seen: &[Sighting], path: &str) -> bool {
        seen.iter().any(
            |sighting| matches!(sighting, Sighting::Listed { dir, .. } if dir.to_string() == path),
        )
    }

    /// Source: fault 50: the disk gave an error once, and no event tells that it would not again.
    #[test]
    fn a_file_that_could_not_be_read_is_looked_at_again() {
        let mut world = World::refusing(&[]);
        world.after(Duration::ZERO);
        world.fs.write("folder/d/f", b"newer").unwrap();
        world.refuse(&["openat2 folder/d/f"]);
        let content = |seen: Vec<Sighting>| {
            seen.into_iter().flat_map(Sighting::into_looks).find_map(|look| match look.seen {
                Seen::Small { data, .. } => Some(data),
                _ => None,
            })
        };
        assert_eq!(content(world.after(Duration::from_secs(1))), None);
        assert_eq!(content(world.after(RETRY_EVERY)), None, "it fails once more");
        world.all_succeeds();
        assert_eq!(content(world.after(RETRY_EVERY / 2)), None, "not yet");
        assert_eq!(content(world.after(RETRY_EVERY / 2)).as_deref(), Some(&b"newer"[..]));
        assert_eq!(content(world.after(RETRY_EVERY)), None, "and never again");
    }

    /// Source: fault 50.
    #[test]
    fn a_directory_that_could_not_be_listed_is_listed_again() {
        let mut world = World::refusing(&["openat2 folder/d", "getdents64 folder/d/"]);
        let seen = world.after(Duration::ZERO);
        assert!(has_listed(&seen, "") && !has_listed(&seen, "d"), "{seen:?}");
        world.all_succeeds();
        assert!(has_listed(&world.after(RETRY_EVERY), "d"));
        assert!(!has_listed(&world.after(RETRY_EVERY), "d"), "once");
    }

    /// Source: fault 50: of the folder itself no directory above tells.
    #[test]
    fn a_folder_that_could_not_be_listed_is_listed_again() {
        let mut world = World::refusing(&["getdents64 folder/", "openat2 folder/."]);
        let seen = world.after(Duration::ZERO);
        assert!(!has_listed(&seen, ""), "{seen:?}");
        world.all_succeeds();
        let seen = world.after(RETRY_EVERY);
        assert!(has_listed(&seen, "") && has_listed(&seen, "d"), "{seen:?}");
    }
}
