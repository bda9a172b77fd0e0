//! Getting from a node to the directory it stands for.
//!
//! What is known of directories lags behind the disk by the unread part of the kernel's queue. A
//! path computed from it may lead nowhere, or into a newer directory of the same name. Whoever
//! looked there would take a mark off one file by looking at another. So the inode is compared,
//! and what is not where it should be is looked for again after the queue was read.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pickbox_store::folder::{Dir, FolderError};
use pickbox_store::name::RelPath;
use pickbox_store::observation::Place;

use crate::tree::{DirId, Key};
use crate::watcher::Watcher;

/// For this long the old path of a moved directory still leads to it: questions about paths may
/// have been on the way.
const OLD_PATH_KEPT: Duration = Duration::from_secs(10);
/// Old paths kept at most.
const OLD_PATHS_MAX: usize = 1024;

/// Why a node's directory was not reached.
#[derive(Debug)]
pub(crate) enum Unreached {
    /// It is not where it was last known: the event that tells why is on its way.
    Elsewhere,
    /// It is known to be gone; where it was.
    Forgotten(Place, RelPath),
    /// The disk or its rights say no.
    Failed(Place, FolderError),
    /// Its path is longer than Linux allows: nobody can open or name it.
    TooLong,
}

/// Directories that were moved within the folder lately, by their old paths, newest last.
#[derive(Debug, Default)]
pub(crate) struct OldPaths {
    moved: VecDeque<(RelPath, DirId, Instant)>,
}

impl Watcher {
    /// Opens the directory of a node, and no other.
    pub(crate) fn reach(&self, id: DirId) -> Result<(Place, Dir), Unreached> {
        let (place, path) = self.tree.path(id).ok_or(Unreached::TooLong)?;
        let node = self.tree.get(id).filter(|_| self.tree.is_linked(id));
        let (Some(node), Some(folder)) = (node, self.folder(place)) else {
            let may_turn_up = self.moves.is_waiting(id);
            return Err(if may_turn_up {
                Unreached::Elsewhere
            } else {
                Unreached::Forgotten(place, path)
            });
        };
        let dir = match folder.dir(&path) {
            Ok(dir) => dir,
            Err(FolderError::Absent(_) | FolderError::NotDirectory(_)) => {
                return Err(Unreached::Elsewhere);
            }
            Err(error) => return Err(Unreached::Failed(place, error)),
        };
        match dir.stat_self() {
            Ok(stat) if stat.ino == node.ino => Ok((place, dir)),
            Ok(_) => Err(Unreached::Elsewhere),
            Err(error) => Err(Unreached::Failed(place, error)),
        }
    }

    /// Remembers where a directory was before it was moved within the folder.
    pub(crate) fn keep_old_path(&mut self, old: RelPath, id: DirId, now: Instant) {
        self.tree.hold(id);
        self.old_paths.moved.push_back((old, id, now + OLD_PATH_KEPT));
        self.expire_old_paths(now);
    }

    /// Forgets old paths that nobody can be asking about any more.
    pub(crate) fn expire_old_paths(&mut self, now: Instant) {
        while self.old_paths.moved.len() > OLD_PATHS_MAX
            || self.old_paths.moved.front().is_some_and(|(.., until)| *until <= now)
        {
            if let Some((_, id, _)) = self.old_paths.moved.pop_front() {
                self.tree.release(id);
            }
        }
    }

    /// The entries that somebody may mean by `path`: what is known by it now, and what was a
    /// moment ago below directories that have since been moved.
    pub(crate) fn meant_by(&self, path: &RelPath) -> Vec<Key> {
        let Some((parent, name)) = path.split() else { return Vec::new() };
        let below = |top: DirId, rest: &RelPath| {
            self.tree.find(top, rest).map(|dir| Key { dir, name: name.clone() })
        };
        let now = self.root().and_then(|root| below(root, &parent));
        let moved = self.old_paths.moved.iter().filter_map(|(old, id, _)| {
            let rest =
                parent.as_bytes().strip_prefix(old.as_bytes()).filter(|_| parent.is_within(old))?;
            let rest = RelPath::new(rest.strip_prefix(b"/").unwrap_or(rest)).ok()?;
            below(*id, &rest).filter(|key| self.tree.is_linked(key.dir))
        });
        let mut keys: Vec<Key> = now.into_iter().chain(moved).collect();
        keys.sort();
        keys.dedup();
        keys
    }
}
