//! Putting a former state aside, for a node that is admitted anew over the same folder.
//!
//! The log, the state or all of it was lost: what is left of the index and the journals is true of
//! nothing any more, but it is kept, once, for people who look for what happened. Contents that
//! have names of their own (`staging`, `quarantine`, `history`) stay where they are.

use super::journal_file::is_journal;
use super::startup::StateDir;
use crate::folder::{Dir, FolderError};
use crate::name::Name;

/// Where former states are kept.
const LOST: &str = "lost";
/// The store's part of the last one.
const KEPT: &str = "store";
/// The same while it is being moved.
const MOVING: &str = "store.new";
/// The index.
pub(super) const INDEX: &str = "index.redb";

/// Moves the index and the journals to `lost/store`, in place of what was kept there before.
/// When it returns that is durable. To be called before the new identity is written and never
/// after: an index made since would take the place of the former one. It may be called again
/// after a crash at any moment, and any number of times. An index that no engine has worked with yet
/// is not kept.
///
/// A node whose state was set aside adopts its folder as its own former one: what equals a version
/// that the log knows is no edit (see docs/decisions/readmission.md).
///
/// # Errors
/// When the state directory cannot be worked in; what was done until then stands.
pub fn set_aside(state: &StateDir) -> Result<(), FolderError> {
    set_aside_by_steps(state, &mut || Ok(()))
}

/// Whether a former state was set aside here.
pub(super) fn was_set_aside(state: &StateDir) -> Result<bool, FolderError> {
    let lost = match state.dir()?.open_dir(&Name::made(LOST.into())) {
        Err(FolderError::Absent(_)) => return Ok(false),
        other => other?,
    };
    Ok(has(&lost, KEPT)? || has(&lost, MOVING)?)
}

/// `step` is called before each change: a test ends there, as a crash does.
fn set_aside_by_steps(
    state: &StateDir,
    step: &mut dyn FnMut() -> Result<(), FolderError>,
) -> Result<(), FolderError> {
    let root = state.dir()?;
    let former = former_files(&root)?;
    step()?;
    let lost = state.child(LOST)?;
    if has(&lost, KEPT)? && !has(&lost, MOVING)? && !former.iter().any(is_journal) {
        // Made by a start that came no further; an engine begins with a journal.
        return former.iter().try_for_each(|name| root.unlink(name));
    }
    if former.is_empty() && !has(&lost, MOVING)? {
        return Ok(());
    }
    let (moving, kept) = (Name::made(MOVING.into()), Name::made(KEPT.into()));
    step()?;
    let into = made(&lost, &moving)?;
    for name in former {
        step()?;
        if into.stat(&name).is_ok() {
            // Left by a move that a power cut took half back.
            into.unlink(&name)?;
        }
        root.rename_no_replace(&name, &into, &name)?;
    }
    step()?;
    into.sync()?;
    lost.sync()?;
    root.sync()?;
    // The one before goes only now that this one is whole.
    remove(&lost, &kept, step)?;
    step()?;
    lost.rename_no_replace(&moving, &lost, &kept)?;
    step()?;
    lost.sync()
}

/// The store's own files in a state directory.
fn former_files(root: &Dir) -> Result<Vec<Name>, FolderError> {
    let mut found = Vec::new();
    for entry in root.list()? {
        let name = entry?.name;
        if name.as_bytes() == INDEX.as_bytes() || is_journal(&name) {
            found.push(name);
        }
    }
    Ok(found)
}

fn has(dir: &Dir, name: &str) -> Result<bool, FolderError> {
    match dir.stat(&Name::made(name.into())) {
        Ok(_) => Ok(true),
        Err(FolderError::Absent(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

fn made(parent: &Dir, name: &Name) -> Result<Dir, FolderError> {
    match parent.mkdir(name, 0o700) {
        Err(FolderError::Exists(_)) => parent.open_dir(name),
        other => other,
    }
}

/// Removes a directory of files, if it is there.
fn remove(
    parent: &Dir,
    name: &Name,
    step: &mut dyn FnMut() -> Result<(), FolderError>,
) -> Result<(), FolderError> {
    let dir = match parent.open_dir(name) {
        Err(FolderError::Absent(_)) => return Ok(()),
        other => other?,
    };
    for entry in dir.list()? {
        step()?;
        dir.unlink(&entry?.name)?;
    }
    step()?;
    parent.rmdir(name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::name::RelPath;

    /// What a state directory holds beside its usual directories.
    fn files(at: &Path) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut stack = vec![at.to_path_buf()];
        while let Some(dir) = stack.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    stack.push(path);
                } else {
                    let name = path.strip_prefix(at).unwrap().display().to_string();
                    found.insert(name, std::fs::read_to_string(path).unwrap());
                }
            }
        }
        found
    }

    fn state_with(at: &Path, text: &str) -> StateDir {
        for name in ["index.redb", "journal.3", "journal.4"] {
            std::fs::write(at.join(name), format!("{text} {name}")).unwrap();
        }
        std::fs::write(at.join("identity"), "not ours").unwrap();
        std::fs::create_dir_all(at.join("history/ab")).unwrap();
        std::fs::write(at.join("history/ab/abcd"), "bytes").unwrap();
        StateDir::open(at.to_path_buf()).unwrap()
    }

    fn expected(text: &str) -> BTreeMap<String, String> {
        let mut files = BTreeMap::from([
            ("identity".to_owned(), "not ours".to_owned()),
            ("history/ab/abcd".to_owned(), "bytes".to_owned()),
        ]);
        for name in ["index.redb", "journal.3", "journal.4"] {
            files.insert(format!("lost/store/{name}"), format!("{text} {name}"));
        }
        files
    }

    /// checklist 77 for a node's own state: whatever moment the crash comes at, the next call ends
    /// it, no former file is lost, and one former state is kept.
    #[test]
    fn a_crash_between_any_two_steps_is_made_up_for() {
        let crash = || FolderError::Absent(RelPath::root());
        for crash_at in 0.. {
            let home = tempfile::tempdir().unwrap();
            set_aside(&state_with(home.path(), "older")).unwrap();
            let state = state_with(home.path(), "former");
            let mut steps = 0;
            let mut step = || {
                steps += 1;
                if steps > crash_at { Err(crash()) } else { Ok(()) }
            };
            let ended = set_aside_by_steps(&state, &mut step).is_ok();
            let here = files(home.path());
            let is_there = |name: &str| {
                let text = format!("former {name}");
                here.values().any(|found| *found == text)
            };
            assert!(is_there("index.redb") && is_there("journal.4"), "{crash_at}: {here:?}");
            assert!(was_set_aside(&state).unwrap());
            for _ in 0..2 {
                set_aside(&state).unwrap();
                assert_eq!(files(home.path()), expected("former"), "step {crash_at}");
            }
            if ended {
                assert!(crash_at > 10, "every step was a place to crash at");
                return;
            }
        }
    }

    /// A start that made a new index and died before anything came of it must not cost the former.
    #[test]
    fn an_index_that_was_never_worked_with_is_not_kept() {
        let home = tempfile::tempdir().unwrap();
        let state = state_with(home.path(), "former");
        set_aside(&state).unwrap();
        std::fs::write(home.path().join("index.redb"), "new and empty").unwrap();
        set_aside(&state).unwrap();
        assert_eq!(files(home.path()), expected("former"));
    }

    #[test]
    fn a_state_without_a_store_has_nothing_to_set_aside() {
        let home = tempfile::tempdir().unwrap();
        let state = StateDir::open(home.path().to_path_buf()).unwrap();
        set_aside(&state).unwrap();
        assert!(!was_set_aside(&state).unwrap());
    }
}
