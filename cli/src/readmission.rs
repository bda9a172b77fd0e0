//! A node whose state is not to be trusted takes part anew: as a new member, over the same folder.
//!
//! What the log says of it may be wrong then: its disk has changed or lost what it held, its state
//! directory is a copy or an old image, or the cluster was founded anew without it. It does not
//! count as the member that it was. It asks the cluster to take it in under a new number (which
//! takes the place of the former one, in one change), sets its former state aside, and begins with
//! none; contents that it has already are found by their hash.
//!
//! A mark in the state directory says that this is under way: it outlives a crash at any step.

use std::io::IoSlice;
use std::sync::atomic::AtomicBool;

use pickbox_raft::core::ids::{ClusterId, NodeId};
use pickbox_raft::core::members::{Member, Members};
use pickbox_raft::disk::{Disk, DiskError, DiskFile, RealDisk};
use pickbox_raft::identity::{Identity, IdentityError};
use pickbox_raft::join::{JoinOptions, Joined, Seed, join};
use pickbox_raft::keys::KeyRing;
use pickbox_raft::lost;
use pickbox_raft::token::Token;
use pickbox_store::engine::{self, StateDir, open_index};
use serde::{Deserialize, Serialize};

use crate::daemon::AnyError;
use crate::joining;
use crate::options::DaemonOptions;

const MARK: &str = "readmission";
const UNFINISHED: &str = "readmission.tmp";
/// No mark is longer.
const MARK_BYTES_MAX: usize = 256 * 1024;

/// That a node takes part anew, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Readmission {
    /// The number that it had; zero if that is not known.
    number: NodeId,
    /// The cluster that it is of; zeros if that is not known.
    cluster: ClusterId,
    /// What was found, in words.
    pub(crate) why: String,
    /// Members that can be asked.
    seeds: Vec<Seed>,
    /// What it has become. Nothing was ever said under that number, so it is used as it is.
    joined: Option<Joined>,
}

impl Readmission {
    pub(crate) fn new(identity: Option<&Identity>, why: String, members: &Members) -> Self {
        let number = identity.map(|identity| identity.node).unwrap_or_default();
        let cluster = identity.map(|identity| identity.cluster).unwrap_or_default();
        let others = members.peers().filter(|member| member.id != number);
        let seeds = others.filter_map(seed).collect();
        Self { number, cluster, why, seeds, joined: None }
    }

    /// Whether there is anybody to ask.
    pub(crate) fn knows_others(&self) -> bool {
        !self.seeds.is_empty()
    }

    /// Leaves the mark, durably.
    pub(crate) fn mark<D: Disk>(&self, disk: &D) -> Result<(), AnyError> {
        remove(disk, UNFINISHED)?;
        let file = disk.create(UNFINISHED)?;
        file.write_at(&[IoSlice::new(&serde_json::to_vec(self)?)], 0)?;
        file.sync_data()?;
        disk.rename(UNFINISHED, MARK)?;
        Ok(disk.sync_dir("")?)
    }

    /// The mark, if it was left.
    pub(crate) fn load<D: Disk>(disk: &D) -> Result<Option<Self>, AnyError> {
        let file = match disk.open(MARK) {
            Err(error) if error.is_not_found() => return Ok(None),
            file => file?,
        };
        let mut bytes = vec![0; MARK_BYTES_MAX];
        let length = file.read_at(&mut bytes, 0)?;
        let mark = serde_json::from_slice(bytes.get(..length).unwrap_or_default());
        mark.map(Some).map_err(|error| format!("the file {MARK:?} is damaged: {error}").into())
    }

    /// Takes the mark away: the node is what it is now.
    pub(crate) fn unmark<D: Disk>(disk: &D) -> Result<(), AnyError> {
        remove(disk, MARK)?;
        Ok(disk.sync_dir("")?)
    }
}

fn remove<D: Disk>(disk: &D, path: &str) -> Result<(), DiskError> {
    match disk.remove(path) {
        Err(error) if !error.is_not_found() => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Who this node is, unless it has no state yet. A damaged identity is told, if it is not about to
/// be left behind: then it is as none.
pub(crate) fn identity(options: &DaemonOptions, disk: &RealDisk) -> Result<Found, AnyError> {
    match Identity::load(disk) {
        Ok(None) => Ok(Found::Nothing),
        Ok(Some(identity)) => Ok(Found::Identity(identity)),
        Err(IdentityError::Corrupt(_)) if options.rejoin || Readmission::load(disk)?.is_some() => {
            Ok(Found::Damaged)
        }
        Err(error) => Err(error.into()),
    }
}

/// What a state directory says of its node.
#[derive(Debug)]
pub(crate) enum Found {
    /// There was never one.
    Nothing,
    /// Something that cannot be read.
    Damaged,
    /// This.
    Identity(Identity),
}

impl Found {
    pub(crate) fn into_identity(self) -> Option<Identity> {
        match self {
            Self::Identity(identity) => Some(identity),
            Self::Nothing | Self::Damaged => None,
        }
    }
}

/// What is under way in this state directory, if anything is. `--rejoin` begins it.
pub(crate) fn under_way(
    options: &DaemonOptions,
    disk: &RealDisk,
) -> Result<Option<Readmission>, AnyError> {
    match (Readmission::load(disk)?, identity(options, disk)?) {
        (Some(mark), Found::Identity(identity)) if identity.node != mark.number => {
            // It has its new identity: only the mark was left.
            Readmission::unmark(disk)?;
            Ok(None)
        }
        (Some(mark), _) => Ok(Some(mark)),
        (None, Found::Nothing) => Ok(None),
        (None, found) if options.rejoin => {
            // Not marked yet: the wish can be taken back until somebody has granted it.
            let (identity, why) = (found.into_identity(), "asked to by --rejoin".to_owned());
            Ok(Some(Readmission::new(identity.as_ref(), why, &Members::default())))
        }
        (None, _) => Ok(None),
    }
}

/// Becomes a new member. Waits for the cluster as long as it takes.
pub(crate) fn take_part_anew(
    options: &DaemonOptions,
    disk: &RealDisk,
    state: &StateDir,
    mut readmission: Readmission,
    (keys, cancelled): (&KeyRing, &AtomicBool),
) -> Result<Joined, AnyError> {
    let Readmission { number, why, .. } = &readmission;
    log::error!("event=readmission name={} number={number} why=\"{why}\"", options.node_id);
    let joined = match readmission.joined.clone() {
        Some(joined) => joined,
        None => ask(options, state, &readmission, (keys, cancelled))?,
    };
    readmission.joined = Some(joined.clone());
    readmission.mark(disk)?;
    engine::set_aside(state)?;
    lost::set_aside(disk)?;
    let Readmission { number, .. } = readmission;
    log::warn!("event=readmitted name={} number={} former={number}", options.node_id, joined.node);
    Ok(joined)
}

fn ask(
    options: &DaemonOptions,
    state: &StateDir,
    readmission: &Readmission,
    (keys, cancelled): (&KeyRing, &AtomicBool),
) -> Result<Joined, AnyError> {
    let Readmission { cluster, why, .. } = readmission;
    let (seeds, token) = seeds(options, state, readmission)?;
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
        cluster: *cluster,
        keys: keys.clone(),
        token,
        name: options.node_id.as_str().to_owned(),
        address: options.peer_address.to_string(),
    };
    let joined = join(&asked, cancelled)?;
    if *cluster != ClusterId::default() && joined.cluster != *cluster {
        let theirs = joined.cluster;
        return Err(
            format!("this node is of the cluster {cluster}, and was taken in by {theirs}").into()
        );
    }
    Ok(joined)
}

/// Whom to ask, and with what: the members that are known show the keys that are known.
fn seeds(
    options: &DaemonOptions,
    state: &StateDir,
    readmission: &Readmission,
) -> Result<(Vec<Seed>, Option<Token>), AnyError> {
    let mut known = readmission.seeds.clone();
    // What the log knew may be lost; the index knows it too, as of its last checkpoint.
    if known.is_empty()
        && let Ok((_, position)) = open_index(state)
    {
        let others = position.members.peers().filter(|member| member.id != readmission.number);
        known = others.filter_map(seed).collect();
    }
    let token = match joining::token(options) {
        // Nobody has asked for it: the file of the first start may be gone, and the key may do.
        Err(error) if !options.rejoin => {
            log::warn!("event=no_join_token error=\"{error}\"");
            None
        }
        token => token?,
    };
    let mut seeds = joining::seeds_with(options, token.as_ref());
    for seed in &mut seeds {
        let same = known.iter().find(|known| known.address == seed.address);
        seed.key = seed.key.or(same.and_then(|known| known.key));
    }
    known.retain(|known| seeds.iter().all(|seed| seed.address != known.address));
    seeds.append(&mut known);
    Ok((seeds, token))
}

/// A member as one that can be asked; `None`: it was never there.
fn seed(member: &Member) -> Option<Seed> {
    member.key.map(|key| Seed { address: member.address.clone(), key: Some(key) })
}

#[cfg(test)]
mod tests {
    use pickbox_raft::core::ids::{Epoch, Fingerprint};
    use pickbox_raft::disk::sim::{Fault, Keep, SimDisk};

    use super::*;

    fn readmission() -> Readmission {
        let identity = Identity {
            cluster: ClusterId([4; 16]),
            epoch: Epoch::ZERO,
            node: NodeId::new(3),
            name: "node3".to_owned(),
        };
        let members =
            Members::bootstrap("node1".into(), "127.0.0.1:8001".into(), Fingerprint([1; 32]));
        Readmission::new(Some(&identity), "a bit turned".into(), &members)
    }

    /// The mark says what it said, until it is taken away.
    #[test]
    fn a_mark_is_read_back() {
        let disk = SimDisk::new();
        assert_eq!(Readmission::load(&disk).unwrap(), None);
        let left = readmission();
        assert!(left.knows_others() && left.seeds[0].address == "127.0.0.1:8001");
        left.mark(&disk).unwrap();
        disk.restart(Keep::Nothing);
        assert_eq!(Readmission::load(&disk).unwrap(), Some(left));
        Readmission::unmark(&disk).unwrap();
        Readmission::unmark(&disk).unwrap();
        disk.restart(Keep::Nothing);
        assert_eq!(Readmission::load(&disk).unwrap(), None);
    }

    /// A power cut while it is left leaves all of it or nothing.
    #[test]
    fn a_mark_is_there_or_not() {
        for operation in 0..6 {
            for seed in 0..20 {
                let disk = SimDisk::new();
                disk.fail_at(operation, Fault::PowerOff);
                let done = readmission().mark(&disk).is_ok();
                disk.clear_faults();
                disk.restart(Keep::Any(seed));
                let found = Readmission::load(&disk).unwrap();
                assert!(found.is_none_or(|found| found == readmission()));
                assert!(!done || Readmission::load(&disk).unwrap().is_some());
            }
        }
    }
}
