//! What people should know about the watching of this folder, in sentences: for STATUS and the log.

use std::collections::BTreeSet;

use log::{info, warn};
use pickbox_store::folder::{Dir, Quiet};
use pickbox_store::name::RelPath;

use crate::tree::DirId;
use crate::watcher::Watcher;

/// Mounts below the folder that are remembered by name.
const MOUNTS_MAX: usize = 1024;
/// Paths that STATUS names of one kind.
const NAMED_MAX: usize = 8;

/// What was found out and is told when somebody asks.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    /// A file system that changes without an event here (trap T27).
    quiet: Option<Quiet>,
    /// Other file systems below the folder, not entered (trap T27, fault 51).
    mounts: BTreeSet<RelPath>,
    /// Directories in which names that differ in case are one (trap T15).
    folding: BTreeSet<DirId>,
    /// Whether the log says that directories are without a watch.
    said_unwatched: bool,
    said_folding: bool,
}

impl Notices {
    /// Looks at the folder as a whole.
    pub(crate) fn of(root: &Dir) -> Self {
        let quiet = root.quiet_medium();
        if let Some(Quiet { name, changed_by }) = quiet {
            warn!(
                "event=quiet_file_system kind=\"{name}\" changed_by=\"{changed_by}\" \
                 consequence=\"such changes raise no event here; the full scan finds them\""
            );
        }
        Self { quiet, ..Self::default() }
    }

    /// Another file system is mounted here.
    pub(crate) fn met_mount(&mut self, path: &RelPath) {
        if self.mounts.len() < MOUNTS_MAX && self.mounts.insert(path.clone()) {
            info!("event=mount_left_alone path=\"{path}\"");
        }
    }

    /// A walk of everything begins: it meets all mounts that there are.
    pub(crate) fn forget_mounts(&mut self) {
        self.mounts.clear();
    }

    /// A directory was entered that may fold case.
    pub(crate) fn entered(&mut self, id: DirId, dir: &Dir) {
        if !dir.ignores_case() {
            self.folding.remove(&id);
            return;
        }
        self.folding.insert(id);
        if !std::mem::replace(&mut self.said_folding, true) {
            warn!(
                "event=case_folding path=\"{}\" consequence=\"names of other nodes that differ in case only \
                 cannot stand there side by side\"",
                dir.path()
            );
        }
    }

    /// A directory is no more.
    pub(crate) fn forget(&mut self, id: DirId) {
        self.folding.remove(&id);
    }
}

impl Watcher {
    /// What somebody should look after: watches are missing (trap T4).
    pub(crate) fn alarms(&self) -> Vec<String> {
        let lacks = !self.unwatched.is_empty();
        lacks.then(|| self.budget().to_string()).into_iter().collect()
    }

    /// What is worth to be known and needs nobody.
    pub(crate) fn notices(&self) -> Vec<String> {
        let Notices { quiet, mounts, folding, .. } = &self.notices;
        let mut lines = Vec::new();
        if let Some(Quiet { name, changed_by }) = quiet {
            let how = match self.walks.scan_every() {
                Some(every) => format!("the full scan every {} s finds it", every.as_secs()),
                None => "nothing finds it: the full scan is off (--scan-interval)".to_owned(),
            };
            lines.push(format!(
                "the folder is on {name}: what {changed_by} change raises no event on this host; {how}"
            ));
        }
        let named = mounts.iter().take(NAMED_MAX);
        lines.extend(
            named.map(|path| format!("{path}: another file system is mounted there; left alone")),
        );
        if mounts.len() > NAMED_MAX {
            lines.push(format!("{} more mounts are left alone", mounts.len() - NAMED_MAX));
        }
        let first = folding.first().and_then(|id| self.tree.path(*id));
        if let Some((_, path)) = first {
            let path = if path.is_root() { "the folder".to_owned() } else { path.to_string() };
            lines.push(format!(
                "{path}: names that differ in case only are one name there ({} such directories); such names \
                 of other nodes cannot stand there side by side",
                folding.len()
            ));
        }
        lines
    }

    /// Says in the log when directories are without a watch, and when they have one again: once a
    /// walk knows how many there are.
    pub(crate) fn say_unwatched(&mut self) {
        let lacks = !self.unwatched.is_empty();
        if lacks == std::mem::replace(&mut self.notices.said_unwatched, lacks) {
            return;
        }
        if lacks {
            warn!(
                "event=watch_limit unwatched={} text=\"{}\"",
                self.unwatched.len(),
                self.budget()
            );
        } else {
            info!("event=watch_limit unwatched=0 text=\"every directory is watched\"");
        }
    }
}
