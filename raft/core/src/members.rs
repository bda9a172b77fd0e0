//! Who belongs to the cluster.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, NodeId};

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MemberRole {
    /// Counts in every majority.
    Voter,
    /// Receives the log and counts nowhere.
    Learner,
    /// As a learner, until it has caught up: then the leader makes it a voter.
    Staging {
        /// The member that goes in the same change; not listed any more if it went already,
        /// because its state was lost.
        replaces: Option<NodeId>,
    },
}

impl MemberRole {
    /// Whether it counts in majorities.
    #[must_use]
    pub const fn is_voter(self) -> bool {
        matches!(self, Self::Voter)
    }
}

/// One member, as the log has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Member {
    /// The internal number.
    pub id: NodeId,
    /// The name that people chose, such as `node1`: 1-64 bytes of `[A-Za-z0-9._-]`.
    pub name: String,
    /// Where its peers reach it, `HOST:PORT`.
    pub address: String,
    /// Voter or learner.
    pub role: MemberRole,
}

/// The members at one place of the log; a `Members` entry takes effect when it is appended
/// (Ongaro's thesis, 4.1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Members {
    /// All members, ordered by id.
    pub members: Vec<Member>,
    /// The voters of the outgoing set while a joint change is under way (thesis, 4.3); else empty.
    pub outgoing_voters: Vec<NodeId>,
    /// Those of the outgoing voters that will be members no more: until the change is over they
    /// must be reached.
    pub leaving: Vec<Member>,
    /// The number that the next member will get.
    pub next_id: NodeId,
    /// The epoch of the cluster: see [`Epoch`].
    pub epoch: Epoch,
}

impl Members {
    /// The members of a cluster of one voter, as its first log begins with.
    #[must_use]
    pub fn bootstrap(name: String, address: String) -> Self {
        let first = NodeId::new(1);
        let member = Member { id: first, name, address, role: MemberRole::Voter };
        Self { members: alloc::vec![member], next_id: first.next(), ..Self::default() }
    }

    /// The member with this number.
    #[must_use]
    pub fn get(&self, id: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    /// Whether this node counts in a majority of some configuration in force.
    #[must_use]
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.voters().any(|voter| voter == id) || self.outgoing_voters.contains(&id)
    }

    /// Whether these can be the members of a cluster: an honest leader appends no others.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let ordered = |list: &[Member]| list.is_sorted_by(|one, other| one.id < other.id);
        let given_out = |member: &Member| member.id != NodeId::ZERO && member.id < self.next_id;
        let outgoing = |member: &Member| self.outgoing_voters.contains(&member.id);
        self.next_id <= NodeId::MAX
            && self.voters().next().is_some()
            && ordered(&self.members)
            && self.peers().all(given_out)
            && self.leaving.iter().all(|member| outgoing(member) && self.get(member.id).is_none())
            && self.outgoing_voters.iter().all(|id| self.peers().any(|member| member.id == *id))
    }

    /// Whether a change of the voters is under way.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing_voters.is_empty()
    }

    /// All that peers talk to: the members, and those on their way out.
    pub fn peers(&self) -> impl Iterator<Item = &Member> + '_ {
        self.members.iter().chain(&self.leaving)
    }

    /// Whether this node was a member once and is none any more. Only what is committed can be
    /// said so for good: ask [`crate::Core::committed_members`].
    #[must_use]
    pub fn has_removed(&self, id: NodeId) -> bool {
        id != NodeId::ZERO && id < self.next_id && self.peers().all(|member| member.id != id)
    }

    /// The voters of the incoming (or only) configuration.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members.iter().filter(|member| member.role.is_voter()).map(|m| m.id)
    }

    /// All nodes that receive the log: members, and voters on their way out.
    pub fn everyone(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.peers().map(|member| member.id)
    }

    /// About how many bytes these take.
    pub(crate) fn bytes(&self) -> usize {
        let texts = self.peers().map(|m| m.name.len() + m.address.len() + 24);
        texts.sum::<usize>() + self.outgoing_voters.len() * 8
    }
}
