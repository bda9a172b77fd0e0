//! What is left alone: ignored directories take no watch, ignored files are not read.
//!
//! This only saves work: the store leaves out what is ignored by itself, and knows better.

use std::sync::Arc;

use pickbox_store::folder::Dir;
use pickbox_store::ignored::Ignored;
use pickbox_store::name::RelPath;
use pickbox_store::observation::{Hint, Place};

use crate::dirty::Mark;
use crate::tree::{DirId, Key};
use crate::watcher::Watcher;

impl Watcher {
    /// Takes other rules. Directories that they ignore give their watches back; those that are not
    /// ignored any more are entered by the walk that the store asks for.
    pub(crate) fn ignore(&mut self, ignored: Arc<Ignored>) {
        self.ignored = ignored;
        if self.ignored.is_empty() {
            return;
        }
        let nodes: Vec<DirId> = self.tree.linked().map(|(id, _)| id).collect();
        for id in nodes {
            // One further up may have taken it along.
            if self.tree.is_linked(id) && self.is_ignored_directory(id) {
                self.forget(id);
            }
        }
    }

    fn is_ignored_directory(&self, id: DirId) -> bool {
        match self.tree.path(id) {
            Some((Place::Folder, path)) => self.ignored.by(&path, true).is_some(),
            _ => false,
        }
    }

    /// Whether a directory is not to be entered. One that was, under another name, is forgotten.
    pub(crate) fn stays_out(&mut self, key: &Key) -> bool {
        if self.ignored.is_empty() {
            return false;
        }
        let Some((Place::Folder, parent)) = self.tree.path(key.dir) else { return false };
        if self.ignored.by(&parent.join(&key.name), true).is_none() {
            return false;
        }
        if let Some(id) = self.tree.child(key.dir, &key.name) {
            self.forget(id);
        }
        true
    }

    /// Whether a mark is of something ignored that is there, whatever it is. That something is
    /// gone is told: the last of it may set its directory free.
    pub(crate) fn is_left_alone(&self, mark: &Mark, place: Place, dir: &Dir) -> bool {
        if self.ignored.is_empty() || place != Place::Folder || mark.hint.has(Hint::ASKED) {
            return false;
        }
        let path: RelPath = dir.path().join(&mark.key.name);
        let ignored = |is_dir| self.ignored.by(&path, is_dir).is_some();
        ignored(false) && ignored(true) && dir.stat(&mark.key.name).is_ok()
    }
}
