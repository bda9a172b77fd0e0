//! Who belongs to the cluster.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, Fingerprint, Index, NodeId, TokenId};
use crate::limits::{DEPARTED_MAX, MEMBERS_MAX, NAME_BYTES_MAX, TOKENS_MAX};

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
    /// The key that it proves to have on each connection. `None`: listed by an operator, and not
    /// there yet.
    pub key: Option<Fingerprint>,
}

/// Permission for one node to become a member. Nobody can join with what is written here: that
/// takes the secret of which this has the public half.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct JoinToken {
    /// An Ed25519 public key (RFC 8032); its private half is derived from the token's secret.
    pub public_key: [u8; 32],
    /// The only name under which it lets a node in, if it was made for one.
    pub name: Option<String>,
    /// Seconds since 1970, by the clock of the node where it was made.
    pub issued_at: u64,
    /// Seconds since 1970. A leader lets nobody in with it from then on.
    pub expires_at: u64,
    /// The member where it was made.
    pub issued_by: NodeId,
}

impl JoinToken {
    /// What people call it.
    #[must_use]
    pub fn id(&self) -> TokenId {
        TokenId::of(&self.public_key)
    }
}

/// A member that is none any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Departed {
    /// The number that it had.
    pub id: NodeId,
    /// The key that it had.
    pub key: Fingerprint,
    /// The entry that took it out.
    pub at: Index,
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
    /// Join tokens that may still be used, oldest first.
    pub tokens: Vec<JoinToken>,
    /// Who was removed last, oldest first.
    pub departed: Vec<Departed>,
}

impl Members {
    /// The members of a cluster of one voter, as its first log begins with.
    #[must_use]
    pub fn bootstrap(name: String, address: String, key: Fingerprint) -> Self {
        let first = NodeId::new(1);
        let role = MemberRole::Voter;
        let member = Member { id: first, name, address, role, key: Some(key) };
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
        let fits = self.tokens.len() <= TOKENS_MAX && self.departed.len() <= DEPARTED_MAX;
        let is_short = |text: &str| text.len() <= NAME_BYTES_MAX;
        fits && self.next_id <= NodeId::MAX
            && self.voters().next().is_some()
            && ordered(&self.members)
            && self.peers().all(given_out)
            // While a change is under way, as many are on their way out at most.
            && self.members.len().max(self.leaving.len()) <= MEMBERS_MAX
            && self.peers().all(|member| is_short(&member.name) && is_short(&member.address))
            && self.tokens.iter().all(|token| token.name.as_deref().is_none_or(is_short))
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

    /// The member with this key, among all that peers talk to.
    #[must_use]
    pub fn with_key(&self, key: Fingerprint) -> Option<&Member> {
        self.peers().find(|member| member.key == Some(key))
    }

    /// The member that had this key last and is none any more.
    #[must_use]
    pub fn departed_with(&self, key: Fingerprint) -> Option<&Departed> {
        self.departed.iter().rfind(|departed| departed.key == key)
    }

    /// The join token with this public key.
    #[must_use]
    pub fn token(&self, public_key: &[u8; 32]) -> Option<&JoinToken> {
        self.tokens.iter().find(|token| token.public_key == *public_key)
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
        let texts = self.peers().map(|m| m.name.len() + m.address.len() + 24 + 33);
        let names = self.tokens.iter().map(|token| token.name.as_ref().map_or(0, String::len) + 56);
        texts.sum::<usize>()
            + names.sum::<usize>()
            + self.departed.len() * 48
            + self.outgoing_voters.len() * 8
    }
}
