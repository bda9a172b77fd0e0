//! Founding a cluster anew out of what is left of it, when the majority is lost for good.
//!
//! The survivor's log goes on: what it holds counts as committed from then on, and one more entry
//! names the survivor as the only member. The epoch of the cluster grows, so that whoever else
//! was left, and comes back, is not mistaken for a member (checklist 136).

use std::fmt;
use std::sync::Arc;

use pickbox_raft_core::Restored;
use pickbox_raft_core::event::LogOp;
use pickbox_raft_core::ids::{Epoch, Index, LogPosition, NodeId};
use pickbox_raft_core::limits::DEPARTED_MAX;
use pickbox_raft_core::log::{Content, Entry, HardState};
use pickbox_raft_core::members::{Departed, Member, MemberRole, Members};

use crate::disk::Disk;
use crate::identity::{self, Identity};
use crate::keys::KeyRing;
use crate::net::Vouched;
use crate::open::Error;
use crate::roster;
use crate::wal::{Options, Wal};

/// Numbers of members that are never given out after a cluster was founded anew.
const NUMBERS_SKIPPED: u64 = 1000;

/// What is left at a node that does not run.
pub struct Survivor<D: Disk> {
    disk: D,
    wal: Wal<D>,
    identity: Identity,
    restored: Restored,
}

impl<D: Disk> fmt::Debug for Survivor<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Survivor").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl<D: Disk + Clone> Survivor<D> {
    /// Reads the state of a node that does not run.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn open(disk: D) -> Result<Self, Error> {
        let identity = Identity::load(&disk)?.ok_or(Error::NoState)?;
        let options = Options::new(identity::random_u64()?);
        let (wal, restored) = Wal::restore(disk.clone(), options)?;
        Ok(Self { disk, wal, identity, restored })
    }

    /// Its state directory.
    #[must_use]
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// Who it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The last entry of its log.
    #[must_use]
    pub fn last(&self) -> LogPosition {
        self.restored.last()
    }

    /// Term and vote.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.restored.hard_state()
    }

    /// The members, as its log has them.
    #[must_use]
    pub fn members(&self) -> &Members {
        self.restored.members()
    }

    /// Makes this node the only member of the cluster, in its next epoch. May be done again after a
    /// crash at any moment.
    ///
    /// # Errors
    /// When the disk is full or failed.
    pub fn found_anew(mut self, address: &str) -> Result<Epoch, Error> {
        let epoch = self.identity.epoch.next();
        let term = self.restored.hard_state().term.next();
        let me = self.identity.node;
        // The epoch first: with the old members in force nobody leads, and the others refuse this node.
        let identity = Identity { epoch, ..self.identity.clone() };
        identity.put(&self.disk)?;
        let index = self.restored.last().index.next();
        // The lost nodes may have given out numbers that this one never heard of.
        let known = self.restored.members().next_id.max(me.next());
        let next_id = NodeId::new(known.get() + NUMBERS_SKIPPED);
        let keys = KeyRing::load_or_create(&self.disk)?;
        // While a key was being changed: the one that was in force, not one that was given up.
        let listed = self.members().get(me).and_then(|member| member.key);
        let key = Some(keys.wanted(listed).fingerprint());
        let member = Member {
            id: me,
            name: identity.name,
            address: address.into(),
            role: MemberRole::Voter,
            key,
        };
        let departed = self.others(index);
        let members =
            Members { members: vec![member], next_id, epoch, departed, ..Members::default() };
        // Nobody else is let in from now on.
        roster::store(&self.disk, &Vouched { at: index, members: members.clone() })?;
        let entry = Entry { index, term, content: Content::Members(members) };
        self.wal.commit([
            LogOp::HardState(HardState { term, voted_for: Some(me) }),
            LogOp::Append(vec![Arc::new(entry)]),
        ])?;
        Ok(epoch)
    }

    /// Whoever else was a member: it is told so when it comes back.
    fn others(&self, at: Index) -> Vec<Departed> {
        let others = self.members().peers().filter(|member| member.id != self.identity.node);
        let others =
            others.filter_map(|member| Some(Departed { id: member.id, key: member.key?, at }));
        others.take(DEPARTED_MAX).collect()
    }
}

#[cfg(test)]
mod tests {
    use pickbox_raft_core::ids::{ClusterId, Fingerprint, Index, Term};

    use super::*;
    use crate::disk::sim::{Fault, Keep, SimDisk};

    fn member(id: u64) -> Member {
        let (name, address) = (format!("node{id}"), format!("127.0.0.1:{}", 8000 + id));
        Member {
            id: NodeId::new(id),
            name,
            address,
            role: MemberRole::Voter,
            key: Some(Fingerprint([7; 32])),
        }
    }

    /// One of three, with five entries of which some may not be committed.
    fn survivor() -> SimDisk {
        let disk = SimDisk::new();
        let options = Options { segment_bytes: 16 * 1024, nonce_seed: 1 };
        let mut wal = Wal::create(disk.clone(), options).unwrap();
        let members = Members {
            members: (1..=3).map(member).collect(),
            next_id: NodeId::new(4),
            ..Members::default()
        };
        let noop = |index| {
            let (index, term) = (Index::new(index), Term::new(2));
            Arc::new(Entry { index, term, content: Content::Noop })
        };
        wal.commit([
            LogOp::Reset { at: LogPosition::default(), members },
            LogOp::HardState(HardState { term: Term::new(3), voted_for: None }),
            LogOp::Append((1..=5).map(noop).collect()),
        ])
        .unwrap();
        let (cluster, epoch) = (ClusterId([5; 16]), Epoch::ZERO);
        let identity = Identity { cluster, epoch, node: NodeId::new(2), name: "node2".into() };
        identity.store(&disk).unwrap();
        disk
    }

    /// checklist 136: the log goes on, with the survivor alone, in a new epoch; numbers are not
    /// given out again.
    #[test]
    fn a_survivor_becomes_the_only_member_of_a_new_epoch() {
        let disk = survivor();
        let found = Survivor::open(disk.clone()).unwrap();
        assert_eq!((found.last().index, found.members().members.len()), (Index::new(5), 3));
        assert_eq!(found.found_anew("127.0.0.1:8002").unwrap(), Epoch::new(1));
        disk.restart(Keep::Nothing);
        let found = Survivor::open(disk).unwrap();
        assert_eq!(found.identity().epoch, Epoch::new(1));
        assert_eq!(found.last(), LogPosition { index: Index::new(6), term: Term::new(4) });
        let key = KeyRing::load(found.disk()).unwrap().unwrap().current().fingerprint();
        assert_eq!(found.members().members, [Member { key: Some(key), ..member(2) }]);
        let departed: Vec<NodeId> = found.members().departed.iter().map(|gone| gone.id).collect();
        assert_eq!(departed, [NodeId::new(1), NodeId::new(3)], "they are told so");
        assert_eq!(found.members().next_id, NodeId::new(1004));
        assert_eq!(found.members().epoch, Epoch::new(1));
        assert!(found.hard_state().term == Term::new(4));
    }

    /// Rotation: a key that was given up, for it may be stolen, is not listed again because the daemon
    /// stopped before its files said so.
    #[test]
    fn a_key_that_was_given_up_stays_so() {
        let disk = SimDisk::new();
        let ring = KeyRing::load_or_create(&disk).unwrap();
        let next = ring.prepare_next(&disk).unwrap().fingerprint();
        let options = Options { segment_bytes: 16 * 1024, nonce_seed: 1 };
        let mut wal = Wal::create(disk.clone(), options).unwrap();
        let mut members = Members {
            members: (1..=3).map(member).collect(),
            next_id: NodeId::new(4),
            ..Members::default()
        };
        members.members[1].key = Some(next);
        wal.commit([LogOp::Reset { at: LogPosition::default(), members }]).unwrap();
        drop(wal);
        let (cluster, epoch, node) = (ClusterId([5; 16]), Epoch::ZERO, NodeId::new(2));
        Identity { cluster, epoch, node, name: "node2".into() }.store(&disk).unwrap();
        Survivor::open(disk.clone()).unwrap().found_anew("127.0.0.1:8002").unwrap();
        let found = Survivor::open(disk).unwrap();
        assert_eq!(found.members().members[0].key, Some(next));
    }

    /// After a power cut at any operation the work can be done again; in between nobody is alone in
    /// the old epoch.
    #[test]
    fn founding_anew_is_finished_after_any_power_cut() {
        for operation in 0..12 {
            for seed in 0..20 {
                let disk = survivor();
                let found = Survivor::open(disk.clone()).unwrap();
                disk.fail_at(disk.operations() + operation, Fault::PowerOff);
                let done = found.found_anew("127.0.0.1:8002").is_ok();
                disk.clear_faults();
                disk.restart(Keep::Any(seed));
                let found = Survivor::open(disk.clone()).unwrap();
                let is_alone = found.members().members.len() == 1;
                assert!(!is_alone || found.identity().epoch > Epoch::ZERO);
                assert!(!done || is_alone);
                found.found_anew("127.0.0.1:8002").unwrap();
                let found = Survivor::open(disk).unwrap();
                let key = KeyRing::load(found.disk()).unwrap().unwrap().current().fingerprint();
                assert_eq!(found.members().members, [Member { key: Some(key), ..member(2) }]);
                let departed: Vec<NodeId> =
                    found.members().departed.iter().map(|gone| gone.id).collect();
                assert_eq!(departed, [NodeId::new(1), NodeId::new(3)], "they are told so");
            }
        }
    }
}
