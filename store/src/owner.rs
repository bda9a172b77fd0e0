//! Whose a thing is, in words that mean the same on every node.
//!
//! Numbers of users and groups are given out by each host for itself; names are what people mean.
//! The log therefore keeps both, as they were seen where the file changed. What they stand for on
//! a disk is found there, when the thing is placed ([`crate::folder::Accounts`]); nothing that
//! compares or applies ever looks a name up.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest name of a user or group in bytes (`LOGIN_NAME_MAX`, limits.h).
pub const ACCOUNT_NAME_BYTES_MAX: usize = 256;
/// Most bytes of an owner, encoded: two names with their lengths, two numbers.
pub const OWNER_BYTES_MAX: usize = 2 * (ACCOUNT_NAME_BYTES_MAX + 2 + 5);
/// The number that `chown(2)` takes for "leave it as it is": nobody's.
const NO_ID: u32 = u32::MAX;

/// One user or one group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawAccount")]
pub struct Account {
    /// Empty where the host of the change had none for the number.
    name: String,
    id: u32,
}

#[derive(Deserialize)]
struct RawAccount {
    name: String,
    id: u32,
}

impl TryFrom<RawAccount> for Account {
    type Error = &'static str;
    fn try_from(raw: RawAccount) -> Result<Self, Self::Error> {
        Self::new(raw.name, raw.id).ok_or("a user or group that cannot be")
    }
}

impl Account {
    /// Checks a name and a number: no name over [`ACCOUNT_NAME_BYTES_MAX`] or with what `passwd(5)`
    /// cannot hold, and not the number that stands for none.
    #[must_use]
    pub fn new(name: String, id: u32) -> Option<Self> {
        let bad = |byte: u8| matches!(byte, 0 | b'\n' | b':');
        let sound = id != NO_ID && name.len() <= ACCOUNT_NAME_BYTES_MAX && !name.bytes().any(bad);
        sound.then_some(Self { name, id })
    }

    /// The name; empty where the host of the change had none.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number on the host of the change.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name.escape_debug(), self.id)
    }
}

/// The user and the group of a thing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// The user.
    pub user: Account,
    /// The group.
    pub group: Account,
}

impl Owner {
    /// Bytes of what is as long as a host's names are, with the numbers; on the safe side.
    pub(crate) fn bytes(&self) -> usize {
        OWNER_BYTES_MAX - 2 * ACCOUNT_NAME_BYTES_MAX + self.user.name.len() + self.group.name.len()
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.user, self.group)
    }
}

/// What this host's kernel calls an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// What a node does about owners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OwnerRule {
    /// They are versioned with the attributes, and set. Needs the right to give files away.
    Keep,
    /// What is placed is the daemon's own, or stays whose it was here; owners are neither looked at
    /// nor proposed, so those that the log has stay as they are.
    #[default]
    Own,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source: fault 84: what a peer says is checked where it is decoded.
    #[test]
    fn accounts_that_cannot_be_are_refused_when_decoded() {
        let decoded = |name: &str, id: u32| {
            let bytes = postcard::to_allocvec(&(name, id)).unwrap();
            postcard::from_bytes::<Account>(&bytes).is_ok()
        };
        assert!(decoded("alice", 1000) && decoded("", 0) && decoded(&"x".repeat(256), 7));
        for (name, id) in [("a\0b", 1), ("a\nb", 1), ("root:", 1), ("a", u32::MAX)] {
            assert!(!decoded(name, id), "{name:?} {id}");
        }
        assert!(!decoded(&"x".repeat(257), 1), "a name that is too long");
        let bytes = [&[2, 0xff, 0xfe][..], &[1]].concat();
        assert!(postcard::from_bytes::<Account>(&bytes).is_err(), "no text");
    }

    #[test]
    fn the_longest_owner_fits_its_bound() {
        let account = || Account::new("x".repeat(256), u32::MAX - 1).unwrap();
        let owner = Owner { user: account(), group: account() };
        assert_eq!(postcard::to_allocvec(&owner).unwrap().len(), OWNER_BYTES_MAX);
        assert_eq!(owner.bytes(), OWNER_BYTES_MAX);
    }
}
