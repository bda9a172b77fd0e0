//! Who belongs to the cluster.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::NodeId;

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MemberRole {
    /// Counts in every majority.
    Voter,
    /// Receives the log and counts nowhere; becomes a voter once it has caught up.
    Learner,
}

impl MemberRole {
    /// Whether it counts in majorities.
    #[must_use]
    pub const fn is_voter(self) -> bool {
        matches!(self, Self::Voter)
    }
}

/// One member, as the log has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// All members, ordered by id.
    pub members: Vec<Member>,
    /// The voters of the outgoing set while a joint change is under way (thesis, 4.3); else empty.
    pub outgoing_voters: Vec<NodeId>,
    /// The number that the next member will get.
    pub next_id: NodeId,
}

impl Members {
    /// The members of a cluster of one voter, as its first log begins with.
    #[must_use]
    pub fn bootstrap(name: String, address: String) -> Self {
        let first = NodeId::new(1);
        let member = Member { id: first, name, address, role: MemberRole::Voter };
        Self { members: alloc::vec![member], outgoing_voters: Vec::new(), next_id: first.next() }
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

    /// The voters of the incoming (or only) configuration.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members.iter().filter(|member| member.role == MemberRole::Voter).map(|m| m.id)
    }

    /// All nodes that receive the log: members, and voters on their way out.
    pub fn everyone(&self) -> impl Iterator<Item = NodeId> + '_ {
        let leaving = self.outgoing_voters.iter().copied();
        self.members
            .iter()
            .map(|member| member.id)
            .chain(leaving.filter(|id| self.get(*id).is_none()))
    }

    /// About how many bytes these take.
    pub(crate) fn bytes(&self) -> usize {
        let texts = self.members.iter().map(|m| m.name.len() + m.address.len() + 16);
        texts.sum::<usize>() + self.outgoing_voters.len() * 8
    }
}
