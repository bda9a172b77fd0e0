//! The numbers of the log, each a type of its own so that one cannot be taken for another.

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        pub struct $name(u64);

        impl $name {
            /// The smallest value; where a number names something, zero names nothing.
            pub const ZERO: Self = Self(0);

            /// No honest count comes near this: whoever says more is not believed.
            pub const MAX: Self = Self(1 << 62);

            /// The number itself.
            #[must_use]
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// The plain integer, for formats and arithmetic at the edge.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The one after this. Panics on overflow, which no counter here reaches.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }

            /// The one before this; zero stays zero.
            #[must_use]
            pub const fn previous(self) -> Self {
                Self(self.0.saturating_sub(1))
            }

            /// How far `later` lies ahead of this; zero when it does not.
            #[must_use]
            pub const fn distance_to(self, later: Self) -> u64 {
                later.0.saturating_sub(self.0)
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A member's number inside Raft: internal, given by the leader, new per join, never zero and
    /// never reused. People know nodes by name ([`crate::members::Member::name`]).
    NodeId
}
number! {
    /// A Raft term (Raft paper, 5.1).
    Term
}
number! {
    /// The place of an entry in the log, from 1; 0 is before the first.
    Index
}
number! {
    /// Tags each batch of log operations; the disk acknowledges by it and by nothing else.
    IoSeq
}
number! {
    /// Names one `ReadIndex` request of this node's.
    ReadId
}
number! {
    /// Drawn at random when a node starts; tells this run of a node from its former ones, and from
    /// those of a copy of its state.
    Incarnation
}
number! {
    /// How often a cluster was founded anew out of what was left of it, by an operator who gave up
    /// the majority. Members of one epoch do not talk to those of another.
    Epoch
}
number! {
    /// The place of a proposal among those of one incarnation, from 1.
    Serial
}

/// The position of an entry: its index and the term in which a leader made it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LogPosition {
    /// Where it stands.
    pub index: Index,
    /// In which term it was made.
    pub term: Term,
}

/// A cluster's identity: 128 random bits drawn at bootstrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub [u8; 16]);

impl core::fmt::Display for ClusterId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Names a public key: the SHA-256 of its `SubjectPublicKeyInfo` in DER (RFC 8410), as
/// `openssl pkey -pubin -outform DER | sha256sum` prints it.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fingerprint(pub [u8; 32]);

impl core::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl core::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Names a join token: the first bytes of its public key.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TokenId(pub [u8; 8]);

impl TokenId {
    /// The name of the token with this public key.
    #[must_use]
    pub fn of(public_key: &[u8; 32]) -> Self {
        let mut id = [0; 8];
        id.iter_mut().zip(public_key).for_each(|(place, byte)| *place = *byte);
        Self(id)
    }
}

impl core::fmt::Debug for TokenId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "TokenId({self})")
    }
}

impl core::fmt::Display for TokenId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
