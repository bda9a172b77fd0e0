//! A node whose state is not to be trusted takes part anew: as a new member, over the same folder.
//!
//! What the log says of it may be wrong then: its disk has changed or lost what it held, its state
//! directory is a copy or an old image, or the cluster was founded anew without it. It does not
//! count as the member that it was. It asks the cluster to take it in under a new number (which
//! takes the place of the former one, in one change), sets its former state aside, and begins with
//! none; contents that it has already are found by their hash.
//!
//! A mark in the state directory says that this is under way: it outlives a crash at any step.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use pickbox_raft::core::ids::NodeId;
use pickbox_raft::core::members::Members;
use pickbox_raft::disk::RealDisk;
use pickbox_raft::identity::Identity;
use pickbox_raft::join::{JoinOptions, Joined, join};
use pickbox_raft::lost;
use pickbox_store::engine::{self, StateDir, open_index};
use serde::{Deserialize, Serialize};

use crate::daemon::AnyError;
use crate::options::{DaemonOptions, Entry};

const MARK: &str = "readmission";
const UNFINISHED: &str = "readmission.tmp";

/// That a node takes part anew, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Readmission {
    /// The number that it had.
    number: u64,
    /// What was found, in words.
    why: String,
    /// Addresses of members that can be asked.
    seeds: Vec<String>,
}

impl Readmission {
    pub(crate) fn new(number: NodeId, why: String, members: &Members) -> Self {
        let others = members.peers().filter(|member| member.id != number);
        let seeds = others.map(|member| member.address.clone()).collect();
        Self { number: number.get(), why, seeds }
    }

    /// Whether there is anybody to ask.
    pub(crate) fn knows_others(&self) -> bool {
        !self.seeds.is_empty()
    }

    /// Leaves the mark, durably.
    pub(crate) fn mark(&self, state_dir: &Path) -> io::Result<()> {
        let (unfinished, mark) = (state_dir.join(UNFINISHED), state_dir.join(MARK));
        let how = &mut OpenOptions::new();
        let mut file = how.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(unfinished, mark)?;
        File::open(state_dir)?.sync_all()
    }

    /// The mark, if it was left.
    fn load(state_dir: &Path) -> io::Result<Option<Self>> {
        match fs::read(state_dir.join(MARK)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes the mark away: the node is what it is now.
    fn unmark(state_dir: &Path) -> io::Result<()> {
        match fs::remove_file(state_dir.join(MARK)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        File::open(state_dir)?.sync_all()
    }
}

/// The number that this node has.
pub(crate) fn number(disk: &RealDisk) -> Option<NodeId> {
    // A damaged identity is told when the log is opened.
    Identity::load(disk).ok().flatten().map(|identity| identity.node)
}

/// What is under way in this state directory, if anything is. `--rejoin` begins it.
pub(crate) fn under_way(
    options: &DaemonOptions,
    disk: &RealDisk,
) -> Result<Option<Readmission>, AnyError> {
    let state_dir = &options.state_dir;
    let cannot = |error| format!("cannot read {}: {error}", state_dir.join(MARK).display());
    let marked = Readmission::load(state_dir).map_err(cannot)?;
    // A damaged identity is one more thing to leave behind.
    let identity = Identity::load(disk).ok().flatten();
    match (marked, identity) {
        (Some(mark), Some(identity)) if identity.node.get() != mark.number => {
            // It has its new identity: only the mark was left.
            Readmission::unmark(state_dir)?;
            Ok(None)
        }
        (Some(mark), _) => Ok(Some(mark)),
        (None, Some(identity)) if options.rejoin => {
            let why = "asked to by --rejoin".to_owned();
            let begun = Readmission::new(identity.node, why, &Members::default());
            begun.mark(state_dir)?;
            Ok(Some(begun))
        }
        (None, _) => Ok(None),
    }
}

/// Becomes a new member. Waits for the cluster as long as it takes.
pub(crate) fn take_part_anew(
    options: &DaemonOptions,
    disk: &RealDisk,
    state: &StateDir,
    readmission: &Readmission,
    cancelled: &AtomicBool,
) -> Result<Joined, AnyError> {
    let Readmission { number, why, .. } = readmission;
    log::error!("event=readmission name={} number={number} why=\"{why}\"", options.node_id);
    let seeds = seeds(options, state, readmission);
    if seeds.is_empty() {
        return Err(format!(
            "the state of this node is not to be trusted ({why}), and no other member is known that could take \
             it in. Nothing was changed. With other members alive start it with --join HOST:PORT; \
             otherwise docs/operations.md says how to recover what is there"
        )
        .into());
    }
    let asked = JoinOptions {
        seeds,
        name: options.node_id.as_str().to_owned(),
        address: options.peer_address.to_string(),
    };
    let joined = join(&asked, cancelled)?;
    engine::set_aside(state)?;
    lost::set_aside(disk)?;
    log::warn!("event=readmitted name={} number={} former={number}", options.node_id, joined.node);
    Ok(joined)
}

/// The node has its new identity.
pub(crate) fn finish(options: &DaemonOptions) -> Result<(), AnyError> {
    Ok(Readmission::unmark(&options.state_dir)?)
}

fn seeds(options: &DaemonOptions, state: &StateDir, readmission: &Readmission) -> Vec<String> {
    let mut seeds = readmission.seeds.clone();
    if let Entry::Join(address) = &options.entry {
        seeds.insert(0, address.as_str().to_owned());
    }
    // What the log knew may be lost; the index knows it too, as of its last checkpoint.
    if seeds.is_empty()
        && let Ok((_, position)) = open_index(state)
    {
        let number = NodeId::new(readmission.number);
        seeds = Readmission::new(number, String::new(), &position.members).seeds;
    }
    seeds.dedup();
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mark says what it said, until it is taken away.
    #[test]
    fn a_mark_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let state_dir = directory.path();
        assert_eq!(Readmission::load(state_dir).unwrap(), None);
        let members = Members::bootstrap("node1".into(), "127.0.0.1:8001".into());
        let left = Readmission::new(NodeId::new(3), "a bit turned".into(), &members);
        assert_eq!(left.seeds, ["127.0.0.1:8001"]);
        left.mark(state_dir).unwrap();
        assert_eq!(Readmission::load(state_dir).unwrap(), Some(left));
        Readmission::unmark(state_dir).unwrap();
        Readmission::unmark(state_dir).unwrap();
        assert_eq!(Readmission::load(state_dir).unwrap(), None);
    }
}
