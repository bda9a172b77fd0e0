//! A folder that was not empty when its node joined (trap T19): what of it the cluster does not have
//! is nobody's to replicate, or to replace, before a person has said what is to become of it.
//!
//! The node joins and learns what the cluster has: only then can it be told what differs. What is
//! equal is adopted where it stands ([`super::adopt`]). As long as something is left and nobody has
//! decided, nothing is proposed and nothing placed: the folder stays as it is. If nothing is left
//! once everything was looked at, it goes on by itself.

use super::{Engine, Fatal};
use crate::folder::{Dir, FolderError};
use crate::name::{Name, RelPath};
use crate::placed::{LocalId, Placed};
use crate::record::Body;
use serde::{Deserialize, Serialize};

/// Names tried for a thing that is moved aside.
const NAMES_MAX: u32 = 100;

/// What becomes of files that a node brings along and the cluster does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BroughtRule {
    /// Nothing, until somebody decides.
    #[default]
    Ask,
    /// Both are kept: `--merge`, and whoever founds a cluster.
    Merge,
    /// The cluster's are placed, these are moved beside the folder: `--discard-local`.
    Discard,
}

impl Engine {
    fn brought_rule(&self) -> BroughtRule {
        self.adoption.as_ref().map_or(BroughtRule::Merge, super::adopt::Adoption::rule)
    }

    /// Whether the folder must stay as it is for now: somebody has to decide, or may have to.
    pub(super) fn is_asking(&self) -> bool {
        self.brought_rule() == BroughtRule::Ask
            && !(self.has_adopted() && self.strangers.is_empty())
    }

    /// Once all was looked at and nothing of the user's is left, nobody need be asked.
    pub(super) fn brought_tick(&mut self) {
        if self.brought_rule() == BroughtRule::Ask && !self.is_asking() {
            log::info!("event=folder_adopted differing=0");
            if let Some(adoption) = &mut self.adoption {
                adoption.decide(BroughtRule::Merge);
            }
        }
    }

    /// A thing that the log does not have at its place: whether that is all for now.
    pub(super) fn is_strange(&mut self, id: LocalId, row: &Placed) -> Result<bool, Fatal> {
        // What came into the folder after its node had joined was not brought along: after a kill the
        // start finds the adoption under way still, and edits of between.
        let Some(seen) = row.seen.as_ref().filter(|seen| self.is_old(seen)) else {
            return Ok(false);
        };
        let is_directory = seen.body.as_ref() == Some(&Body::Directory);
        match self.brought_rule() {
            BroughtRule::Merge => Ok(false),
            // A directory is lost with nothing: what is in it counts.
            BroughtRule::Ask if is_directory => Ok(false),
            BroughtRule::Ask => {
                self.outbox.remove(id);
                self.strangers.insert(id);
                Ok(true)
            }
            BroughtRule::Discard if self.has_adopted() => Ok(false),
            BroughtRule::Discard => self.discard(id, row),
        }
    }

    /// Moves a thing, with all that is in it, to where the user finds it. True if it is gone.
    fn discard(&mut self, id: LocalId, row: &Placed) -> Result<bool, Fatal> {
        let Some(path) = self.path_of_row(id)? else { return Ok(false) };
        let moved = self.dir(row.parent).and_then(|dir| {
            let to = self.discarded(&path)?;
            move_aside(&dir, &row.name, &to)
        });
        match moved {
            Ok(()) | Err(FolderError::Absent(_)) => {
                log::warn!("event=discarded path=\"{path}\" to=\"STATE-DIR/discarded/{path}\"");
                self.children_vanish(id)?;
                self.set_row(id, None)?;
                Ok(true)
            }
            Err(error) => {
                log::warn!("event=not_discarded path=\"{path}\" error=\"{error}\"");
                Ok(false)
            }
        }
    }

    /// The directory for what is moved aside from the directory of `path`, made if missing.
    fn discarded(&self, path: &RelPath) -> Result<Dir, FolderError> {
        let mut at = self.state.child("discarded")?;
        let above = path.split().map(|(above, _)| above).unwrap_or_default();
        for name in above.names() {
            at = match at.mkdir(&name, 0o700) {
                Err(FolderError::Exists(_)) => at.open_dir(&name)?,
                other => other?,
            };
        }
        Ok(at)
    }

    /// For STATUS: what somebody has to decide, without names of files.
    pub(super) fn brought_trouble(&self) -> Option<String> {
        if !self.is_asking() || self.strangers.is_empty() {
            return None;
        }
        let count = self.strangers.len();
        Some(format!(
            "the folder was not empty when this node joined: {count} files in it differ from the cluster's or \
             are not in it (named under `waiting`). Nothing was changed, nothing is replicated. Start the \
             daemon again with --merge to keep both (what differs becomes a conflict copy, what is only here \
             is added), or with --discard-local to move them to STATE-DIR/discarded and take what the \
             cluster has"
        ))
    }
}

/// Moves an entry into a directory of ours, under its name or one like it.
fn move_aside(from: &Dir, name: &Name, to: &Dir) -> Result<(), FolderError> {
    let mut last = from.rename_no_replace(name, to, name);
    for number in 1..NAMES_MAX {
        let Err(FolderError::Exists(_)) = last else { return last };
        let mut other = name.as_bytes().to_vec();
        other.extend_from_slice(format!(".{number}").as_bytes());
        let Ok(other) = Name::new(other) else { return last };
        last = from.rename_no_replace(name, to, &other);
    }
    last
}
