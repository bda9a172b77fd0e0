//! Attributes that users attach to their things (`user.*`, xattr(7)), as the log keeps them.
//!
//! They are versioned with mode, time and owner: the last in the log wins, never a conflict. Names
//! are kept without their `user.`, so that no peer can name any other kind.

use serde::{Deserialize, Serialize};

/// What stands before each name on a disk.
pub const XATTR_PREFIX: &[u8] = b"user.";
/// Most attributes of one thing.
pub const XATTRS_MAX: usize = 32;
/// Most bytes of all names and values of one thing. What one block of ext4 can hold.
pub const XATTR_BYTES_MAX: usize = 4096;
/// Longest name without its prefix (`XATTR_NAME_MAX`, xattr(7)).
const NAME_BYTES_MAX: usize = 255 - XATTR_PREFIX.len();
/// The mark of the folder's root, which is each node's own.
const MARK: &[u8] = b"pickbox";

/// One attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Xattr {
    /// Its name, without the prefix.
    #[serde(with = "crate::bytes")]
    name: Vec<u8>,
    /// Its value.
    #[serde(with = "crate::bytes")]
    value: Vec<u8>,
}

impl Xattr {
    /// Its name, without the prefix.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Its value.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    fn bytes(&self) -> usize {
        self.name.len() + self.value.len()
    }
}

/// The attributes of one thing: by name, each once, at most [`XATTRS_MAX`] and [`XATTR_BYTES_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Xattr>")]
pub struct Xattrs(Vec<Xattr>);

impl TryFrom<Vec<Xattr>> for Xattrs {
    type Error = &'static str;
    fn try_from(all: Vec<Xattr>) -> Result<Self, Self::Error> {
        let bytes: usize = all.iter().map(Xattr::bytes).sum();
        if all.len() > XATTRS_MAX || bytes > XATTR_BYTES_MAX {
            return Err("too many attributes");
        }
        if !all.iter().all(|xattr| is_kept(&xattr.name)) {
            return Err("an attribute that cannot be");
        }
        if !all.is_sorted_by(|left, right| left.name < right.name) {
            return Err("attributes are not ordered by name");
        }
        Ok(Self(all))
    }
}

/// Whether an attribute of this name, without its prefix, is one of the log's.
#[must_use]
pub fn is_kept(name: &[u8]) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.contains(&0) && name != MARK
}

impl Xattrs {
    /// None.
    pub const NONE: &'static Self = &Self(Vec::new());

    /// Adds one that comes behind all others by name; gives it back if there is no room.
    ///
    /// # Errors
    /// With the name of the one that has no room.
    pub fn push(&mut self, name: Vec<u8>, value: Vec<u8>) -> Result<(), Vec<u8>> {
        let bytes = self.bytes() + name.len() + value.len();
        let is_behind = self.0.last().is_none_or(|last| last.name < name);
        if self.0.len() >= XATTRS_MAX || bytes > XATTR_BYTES_MAX || !is_behind || !is_kept(&name) {
            return Err(name);
        }
        self.0.push(Xattr { name, value });
        Ok(())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// By name.
    pub fn iter(&self) -> impl Iterator<Item = &Xattr> {
        self.0.iter()
    }

    /// The value of the one with this name.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let at = self.0.binary_search_by(|xattr| xattr.name.as_slice().cmp(name)).ok()?;
        self.0.get(at).map(Xattr::value)
    }

    /// Those of these that are in the other set with the same value.
    #[must_use]
    pub fn also_in(&self, other: &Self) -> Self {
        let is_in = |xattr: &&Xattr| other.get(&xattr.name) == Some(xattr.value());
        Self(self.0.iter().filter(is_in).cloned().collect())
    }

    /// Bytes of names and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.iter().map(Xattr::bytes).sum()
    }

    /// These, with what changed from `base` to `actual`; if that is too much, `actual` alone.
    #[must_use]
    pub fn with_changes(&self, base: &Self, actual: &Self) -> Self {
        let all = [self, actual].into_iter().flat_map(Self::iter);
        let mut names: Vec<&[u8]> = all.map(Xattr::name).collect();
        names.sort_unstable();
        names.dedup();
        let mut merged = Self::default();
        for name in names {
            let is_changed = base.get(name) != actual.get(name);
            let value = if is_changed { actual.get(name) } else { self.get(name) };
            if let Some(value) = value
                && merged.push(name.to_vec(), value.to_vec()).is_err()
            {
                return actual.clone();
            }
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(all: &[(&str, &str)]) -> Xattrs {
        let mut set = Xattrs::default();
        for (name, value) in all {
            set.push(name.as_bytes().to_vec(), value.as_bytes().to_vec()).unwrap();
        }
        set
    }

    /// Source: most files have none, and each row has these.
    #[test]
    fn none_costs_one_byte() {
        assert_eq!(postcard::to_allocvec(&Xattrs::default()).unwrap(), [0]);
    }

    /// Source: fault 84: what a peer says is checked where it is decoded.
    #[test]
    fn attributes_that_cannot_be_are_refused_when_decoded() {
        let decoded = |all: &[(Vec<u8>, Vec<u8>)]| {
            let bytes = postcard::to_allocvec(all).unwrap();
            postcard::from_bytes::<Xattrs>(&bytes).is_ok()
        };
        let one = |name: &[u8], bytes| (name.to_vec(), vec![7; bytes]);
        assert!(decoded(&[one(b"a", 0), one(b"b", 4000)]) && decoded(&[one(&[b'x'; 250], 1)]));
        assert!(!decoded(&[one(b"b", 1), one(b"a", 1)]), "the order");
        assert!(!decoded(&[one(b"a", 1), one(b"a", 1)]), "twice");
        assert!(!decoded(&[one(b"", 1)]) && !decoded(&[one(b"a\0b", 1)]));
        assert!(!decoded(&[one(&[b'x'; 251], 1)]) && !decoded(&[one(b"pickbox", 1)]));
        assert!(!decoded(&[one(b"a", 4096)]), "too long");
        let many: Vec<_> = (0..33_u8).map(|number| one(&[b'0' + number], 1)).collect();
        assert!(decoded(&many[..32]) && !decoded(&many));
    }

    #[test]
    fn changes_of_different_attributes_are_put_together() {
        let base = set(&[("a", "1"), ("b", "1"), ("c", "1")]);
        let agreed = set(&[("a", "2"), ("c", "1"), ("d", "2")]);
        let actual = set(&[("a", "1"), ("b", "1"), ("e", "3")]);
        assert_eq!(agreed.with_changes(&base, &actual), set(&[("a", "2"), ("d", "2"), ("e", "3")]));
        let long = "x".repeat(3000);
        let (left, right) = (set(&[("a", &long)]), set(&[("b", &long)]));
        assert_eq!(left.with_changes(&Xattrs::default(), &right), right, "both are too much");
    }
}
