//! The handshake: who are you, whom do you want, what for.

use std::collections::BTreeMap;

use pickbox_raft_core::ids::{
    ClusterId, Epoch, Fingerprint, Incarnation, Index, LogPosition, NodeId, Term,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::frame::{Frame, Kind};
use super::trust::{Trust, Vouched};
use crate::identity::{Identity, check_name};
use crate::runs::Lineage;

/// Longest name of a node.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest address of a node.
pub const ADDRESS_BYTES_MAX: usize = 256;

/// Who this node is, as it introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalNode {
    /// Its cluster.
    pub cluster: ClusterId,
    /// The epoch of that.
    pub epoch: Epoch,
    /// Its number there.
    pub node: NodeId,
    /// The name that people gave it.
    pub name: String,
    /// Where its peers reach it, `HOST:PORT`.
    pub address: String,
    /// This run of it.
    pub incarnation: Incarnation,
    /// That run, and those that it descends from.
    pub lineage: Lineage,
    /// Its key, as it started.
    pub key: Fingerprint,
}

impl LocalNode {
    /// What of it is for good.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let (cluster, epoch, node, name) = (self.cluster, self.epoch, self.node, self.name.clone());
        Identity { cluster, epoch, node, name }
    }
}

/// The newest run of each member that is in the log.
pub type Runs = BTreeMap<NodeId, Incarnation>;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Purpose {
    /// Messages of Raft.
    Consensus,
    /// Contents.
    Bulk,
    /// One question: how far is this node?
    Survey,
}

/// The dialer's first frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// The newest protocol that it speaks.
    pub(crate) protocol: u16,
    /// Its cluster.
    pub(crate) cluster: ClusterId,
    /// The epoch of that.
    pub(crate) epoch: Epoch,
    /// Its number.
    pub(crate) from: NodeId,
    /// Its name.
    pub(crate) name: String,
    /// Where it can be reached itself.
    pub(crate) address: String,
    /// Whom it means to reach.
    pub(crate) to: NodeId,
    /// Its run, and those that it descends from.
    pub(crate) lineage: Lineage,
    /// What it wants.
    pub(crate) purpose: Purpose,
}

/// The acceptor's answer, when it agrees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Welcome {
    /// Its number.
    pub(crate) node: NodeId,
    /// Its name.
    pub(crate) name: String,
    /// Its run.
    pub(crate) incarnation: Incarnation,
}

/// The acceptor's answer, when it does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    /// It speaks another protocol.
    Version {
        /// Which.
        ours: u16,
    },
    /// It belongs to another cluster.
    WrongCluster {
        /// Which.
        ours: ClusterId,
    },
    /// It is another node.
    WrongNode {
        /// Which.
        ours: NodeId,
        /// Its name.
        name: String,
    },
    /// The dialer reached itself.
    Loop,
    /// It knows the dialer's number by another name or key, or not now.
    UnknownNode,
    /// No member that it knows has the dialer's key.
    UnknownKey,
    /// The greeting breaks a rule of the protocol.
    Malformed,
    /// The dialer is a member no more.
    Removed {
        /// The entry that took it out; zero if that is not known.
        at: Index,
        /// The acceptor's epoch.
        epoch: Epoch,
    },
    /// Its cluster was founded anew, in this epoch, or the dialer's was.
    OtherEpoch {
        /// The acceptor's.
        ours: Epoch,
    },
    /// The cluster has seen a run of the dialer that its present one does not follow.
    OldState,
    /// Another run of the dialer is connected.
    Twin,
    /// Who wants to join has no right to: no join token that is valid here, no key of a member of
    /// its name, and not this host's user.
    NotAdmitted,
}

impl Refusal {
    /// Which of the kinds it is.
    pub(crate) const fn kind(&self) -> usize {
        match self {
            Self::Version { .. } => 0,
            Self::WrongCluster { .. } => 1,
            Self::WrongNode { .. } => 2,
            Self::Loop => 3,
            Self::UnknownNode => 4,
            Self::Malformed => 5,
            Self::Removed { .. } => 6,
            Self::OtherEpoch { .. } => 7,
            Self::OldState => 8,
            Self::Twin => 9,
            Self::UnknownKey => 10,
            Self::NotAdmitted => 11,
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Version { ours } => write!(f, "version mismatch: the acceptor speaks {ours}"),
            Self::WrongCluster { ours } => write!(f, "wrong cluster: the acceptor's is {ours}"),
            Self::WrongNode { ours, name } => {
                write!(f, "wrong node: the acceptor is node {ours}, {name:?}")
            }
            Self::Loop => write!(f, "the address leads back to the dialer"),
            Self::UnknownNode => write!(f, "the acceptor knows no such member"),
            Self::Malformed => write!(f, "malformed greeting"),
            Self::UnknownKey => write!(f, "the acceptor knows no member with this key"),
            Self::Removed { at, .. } => {
                write!(f, "the dialer was removed from the cluster (entry {at})")
            }
            Self::OtherEpoch { ours } => {
                write!(f, "the cluster was founded anew: the acceptor is in epoch {ours}")
            }
            Self::OldState => {
                write!(
                    f,
                    "the dialer's state is a copy or an old image: a later run of it was seen"
                )
            }
            Self::Twin => write!(f, "another run of the dialer is connected"),
            Self::NotAdmitted => write!(
                f,
                "no valid join token: it was used or revoked, is over, or is of another cluster (`pickbox \
                 token create` makes one)"
            ),
        }
    }
}

/// The protocol that this build speaks.
pub(crate) const PROTOCOL: u16 = 3;

impl Hello {
    /// The greeting of a member.
    pub(crate) fn of(me: &LocalNode, to: NodeId, purpose: Purpose) -> Self {
        Self {
            protocol: PROTOCOL,
            cluster: me.cluster,
            epoch: me.epoch,
            from: me.node,
            name: me.name.clone(),
            address: me.address.clone(),
            to,
            lineage: me.lineage.clone(),
            purpose,
        }
    }

    /// Whether `me`, who knows `trust`, talks to this dialer, who has proved to have `key`.
    pub(crate) fn check(
        &self,
        me: &LocalNode,
        (trust, runs): (&Trust, &Runs),
        key: Fingerprint,
    ) -> Result<(), Refusal> {
        if self.protocol != PROTOCOL {
            return Err(Refusal::Version { ours: PROTOCOL });
        }
        let is_plain = self.address.bytes().all(|byte| byte.is_ascii_graphic());
        let fits =
            check_name(&self.name).is_ok() && is_plain && self.address.len() <= ADDRESS_BYTES_MAX;
        if !fits || !self.lineage.is_plausible() {
            return Err(Refusal::Malformed);
        }
        if self.cluster != me.cluster {
            return Err(Refusal::WrongCluster { ours: me.cluster });
        }
        if self.purpose == Purpose::Survey {
            // Whoever has a member's key may know how far this node is.
            return Ok(());
        }
        if self.epoch != me.epoch {
            return Err(Refusal::OtherEpoch { ours: me.epoch });
        }
        if self.from == me.node {
            return Err(Refusal::Loop);
        }
        if self.to != me.node {
            return Err(Refusal::WrongNode { ours: me.node, name: me.name.clone() });
        }
        if !trust.is_key_of(key, self.from) {
            let removed = Refusal::Removed { at: Index::ZERO, epoch: me.epoch };
            let was_removed = trust.has_removed(self.from);
            return Err(if was_removed { removed } else { Refusal::UnknownNode });
        }
        if trust.get(self.from).is_some_and(|member| member.name != self.name) {
            return Err(Refusal::UnknownNode);
        }
        let newest = runs.get(&self.from);
        if newest.is_some_and(|newest| !self.lineage.descends_from(*newest)) {
            return Err(Refusal::OldState);
        }
        Ok(())
    }
}

/// How far a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Of which cluster it is.
    pub cluster: ClusterId,
    /// In which epoch.
    pub epoch: Epoch,
    /// Its number.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Its term.
    pub term: Term,
    /// The last entry of its log.
    pub last: LogPosition,
    /// Highest index that it knows to be committed.
    pub commit: Index,
    /// Who leads, if it knows.
    pub leader: Option<NodeId>,
}

/// The answer to a [`super::join_request::JoinRequest`], or to a survey.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum JoinReply {
    /// It is a member.
    Joined {
        /// Of this cluster,
        cluster: ClusterId,
        /// in this epoch,
        epoch: Epoch,
        /// with this number,
        node: NodeId,
        /// among these, as of an entry.
        peers: Vouched,
    },
    /// Ask the leader, there, by that key (if known).
    NotLeader(Option<(String, Fingerprint)>),
    /// Ask again: another change is under way, or the outcome is not known.
    Later,
    /// The name or the address belongs to another member.
    Taken(String),
    /// How far this node is.
    Standing(Standing),
}

/// Frames a value.
pub(crate) fn encode<T: Serialize>(kind: Kind, value: &T) -> Option<Frame> {
    Frame::new(kind, postcard::to_allocvec(value).ok()?)
}

/// Takes a value out of a payload that holds nothing else.
pub(crate) fn decode<T: DeserializeOwned>(payload: &[u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(payload).ok()?;
    rest.is_empty().then_some(value)
}
