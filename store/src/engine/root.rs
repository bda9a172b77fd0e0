//! Whether the folder at hand is the one that placed speaks of (trap T20).
//!
//! What is missing from the folder was deleted by a user, so an empty mount point in its place
//! would delete everything on all nodes. The root bears a mark (cluster and node, an extended
//! attribute), and the index remembers its inode; over restarts the two decide. No device number
//! takes part: it changes over reboots. A folder that is another one is refused, unless the
//! operator says that it is to be taken as it is: then placed is forgotten, what is there is
//! adopted by hash as at a join, and what is missing is placed again, never deleted.

use std::fmt;

use pickbox_raft::core::ids::{ClusterId, NodeId};
use serde::{Deserialize, Serialize};

use super::adopt::{self, Claim};
use super::brought::BroughtRule;
use super::checkpoint::{meta_of, set_meta_of};
use super::outbox::wall_time;
use super::{Engine, Fatal};
use crate::folder::{Folder, Stat};
use crate::index::Index;
use crate::placed::{LocalId, Tables};
use crate::time::Time;

/// The row of the engine's own table that remembers the root.
const ROOT_ROW: &str = "root";

/// Which folder may be started on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FolderRule {
    /// The one of the last run; any at the first.
    Marked,
    /// Any: `--accept-folder`.
    Accept,
}

/// What the command line says about the folder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) folder: FolderRule,
    pub(super) brought: BroughtRule,
}

/// Why a folder is not the one of the last run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strange {
    /// Another directory, or one that has lost its mark: an empty mount point, most often.
    Unmarked,
    /// It bears this node's mark and is another directory: a copy, or restored.
    Copied,
    /// It bears the mark of another node, as that one wrote it.
    Foreign(String),
}

impl fmt::Display for Strange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unmarked => f.write_str("it is not the directory of the last run"),
            Self::Copied => f.write_str("it is a copy of the directory of the last run"),
            Self::Foreign(mark) => {
                write!(f, "it bears the mark of another node: {}", mark.escape_debug())
            }
        }
    }
}

/// The root as the index remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    ino: u64,
    /// Zero where the file system keeps none.
    btime: Time,
    /// Whether it could be marked.
    marked: bool,
}

impl Known {
    fn is(&self, stat: &Stat) -> bool {
        let none = Time::default();
        let born = self.btime == stat.btime || self.btime == none || stat.btime == none;
        self.ino == stat.ino && born
    }
}

/// The mark that a root bears.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Mark {
    None,
    Ours,
    /// Of a member that has no state any more: this one, under its former number, most likely.
    Former,
    Other(String),
}

/// How to go on with the folder at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Placed speaks of it.
    Known,
    /// It was never worked on.
    First,
    /// Nothing that placed says is true of it.
    Anew,
    /// It went during this run.
    Gone,
}

fn judge(known: Option<Known>, mark: &Mark, stat: &Stat) -> Result<(), Strange> {
    match (known, mark) {
        (_, Mark::Other(text)) => Err(Strange::Foreign(text.clone())),
        (Some(known), Mark::Ours) if !known.is(stat) => Err(Strange::Copied),
        (Some(known), Mark::None) if known.marked || !known.is(stat) => Err(Strange::Unmarked),
        _ => Ok(()),
    }
}

/// Who opens the folder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub(super) cluster: ClusterId,
    pub(super) node: NodeId,
    /// Whether a former state of this node was set aside.
    pub(super) former: bool,
}

impl Owner {
    /// A folder of this cluster that a new index meets is the one that the node had under its
    /// former number, whether its state was set aside or just removed. If it is another member's
    /// after all, what it holds is known to the same log.
    fn reads(&self, text: String, is_new: bool) -> Mark {
        let Self { cluster, node, .. } = self;
        if text == format!("pickbox 1 {cluster} {node}") {
            Mark::Ours
        } else if is_new && text.starts_with(&format!("pickbox 1 {cluster} ")) {
            Mark::Former
        } else {
            Mark::Other(text)
        }
    }
}

/// Looks whose folder this is, marks it and remembers it. Nothing of the folder or of placed is
/// changed when it is refused.
///
/// # Errors
/// [`Fatal::Strange`], unless the rule accepts it; when the index fails.
pub(super) fn check(
    index: &Index,
    folder: &Folder,
    owner: Owner,
    rules: Rules,
) -> Result<Standing, Fatal> {
    let ours = format!("pickbox 1 {} {}", owner.cluster, owner.node);
    let stat = folder.identity();
    let row = meta_of(index, ROOT_ROW)?;
    let known: Option<Known> = row.and_then(|bytes| postcard::from_bytes(&bytes).ok());
    let found = folder.root().mark();
    let is_marked = found.as_ref() == Some(&ours);
    let mark = found.map_or(Mark::None, |text| owner.reads(text, known.is_none()));
    let standing = match (judge(known, &mark, stat), rules.folder) {
        (Ok(()), _) if known.is_none() => Standing::First,
        (Ok(()), _) => Standing::Known,
        (Err(strange), FolderRule::Marked) => return Err(Fatal::Strange(strange)),
        (Err(strange), FolderRule::Accept) => {
            log::warn!("event=folder_accepted reason=\"{strange}\"");
            forget_placed(index)?;
            Standing::Anew
        }
    };
    match standing {
        Standing::First if owner.former || mark == Mark::Former => {
            adopt::note(index, Claim::Former, BroughtRule::Merge, wall_time(folder))?;
        }
        Standing::First => {
            adopt::note(index, Claim::Brought, rules.brought, wall_time(folder))?;
        }
        // Whoever accepts another folder has decided.
        Standing::Anew => {
            adopt::note(index, Claim::Brought, BroughtRule::Merge, wall_time(folder))?;
        }
        Standing::Known | Standing::Gone => adopt::decide(index, rules.brought)?,
    }
    let marked = is_marked || is_marked_now(folder, &ours);
    let now = Known { ino: stat.ino, btime: stat.btime, marked };
    if known != Some(now) {
        let bytes = postcard::to_allocvec(&now).map_err(|_| Fatal::Encode)?;
        set_meta_of(index, ROOT_ROW, &bytes)?;
    }
    Ok(standing)
}

fn is_marked_now(folder: &Folder, mark: &str) -> bool {
    // The index says durably that there is a mark, so that must not go with the power.
    match folder.root().set_mark(mark).and_then(|()| folder.root().sync()) {
        Ok(()) => true,
        Err(error) => {
            // The inode and its birth time have to do.
            log::info!("event=folder_unmarked error=\"{error}\"");
            false
        }
    }
}

/// Drops every row of the folder. What is in quarantine stays: that lies beside it.
fn forget_placed(index: &Index) -> Result<(), Fatal> {
    let mut tables = Tables::open(index.tables()?)?;
    let mut found = tables.nameless(usize::MAX)?;
    let mut stack = found.clone();
    stack.push(LocalId::ROOT);
    while let Some(directory) = stack.pop() {
        let mut after = None;
        loop {
            let page = tables.children(directory, after.as_ref(), 1024)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            stack.extend(page.iter().map(|(_, child)| *child));
            found.extend(page.into_iter().map(|(_, child)| child));
        }
    }
    for id in found.into_iter().rev() {
        tables.put(id, None)?;
    }
    Ok(())
}

impl Engine {
    /// Whether things of the log may be put into the folder. Into one that is new to this node not
    /// before all that it holds was seen: what is equal is adopted, so nothing need be fetched.
    pub(super) fn may_place(&self) -> bool {
        match self.standing {
            Standing::Gone => false,
            _ if self.comparison.is_outvoted() => false,
            _ if self.adoption.is_some() => self.has_scanned() && !self.is_asking(),
            _ => self.is_live(),
        }
    }

    /// The folder was removed, moved away, unmounted or mounted over under the daemon: what is
    /// missing from it was deleted by nobody, so nothing is placed and nothing proposed until it is back.
    pub(super) fn lose_root(&mut self) {
        log::error!("event=root_gone action=\"placing and proposing stopped\"");
        self.standing = Standing::Gone;
    }

    /// The very same folder is where it was. What happened in it meanwhile the watcher finds.
    pub(super) fn find_root(&mut self) {
        if self.standing == Standing::Gone {
            log::warn!("event=root_back action=\"the folder is walked\"");
            self.standing = Standing::Known;
            // Nothing is weighed before that walk is over.
            self.guard.walk_started();
        }
    }

    /// For STATUS: what hinders everything.
    pub(super) fn root_trouble(&self) -> Option<String> {
        (self.standing == Standing::Gone).then(|| {
            "the folder is not where it was: removed, moved away, unmounted, or something else is mounted \
             over it. Nothing is placed or proposed, nothing counts as deleted. Put it back or mount it: it \
             goes on by itself, or after a restart of the daemon. If it is gone for good, restart the \
             daemon with --accept-folder over an empty directory: it is filled again"
                .to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mark_and_inode_decide_together() {
        let dir = tempfile::TempDir::new().unwrap();
        let stat = *Folder::open(dir.path()).unwrap().identity();
        let same = Known { ino: stat.ino, btime: stat.btime, marked: true };
        let unmarked = Known { marked: false, ..same };
        let other = Known { ino: stat.ino + 1, ..same };
        let reborn = Known { btime: Time { secs: 1, nanos: 0 }, ..same };
        let foreign = Mark::Other("x".into());
        for (known, mark, expected) in [
            (None, Mark::None, Ok(())),
            (None, Mark::Former, Ok(())),
            (None, foreign.clone(), Err(Strange::Foreign("x".into()))),
            (Some(same), Mark::Ours, Ok(())),
            (Some(same), foreign, Err(Strange::Foreign("x".into()))),
            (Some(same), Mark::None, Err(Strange::Unmarked)),
            (Some(unmarked), Mark::None, Ok(())),
            (Some(unmarked), Mark::Ours, Ok(())),
            (Some(other), Mark::Ours, Err(Strange::Copied)),
            (Some(other), Mark::None, Err(Strange::Unmarked)),
            (Some(reborn), Mark::Ours, Err(Strange::Copied)),
        ] {
            assert_eq!(judge(known, &mark, &stat), expected, "{known:?} {mark:?}");
        }
    }
}
