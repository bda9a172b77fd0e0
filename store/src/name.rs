//! Names and paths: raw bytes as Linux has them, checked once at the gate.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest name of one directory entry in bytes (`NAME_MAX`, limits.h).
pub const NAME_BYTES_MAX: usize = 255;
/// Longest path below the folder in bytes (`PATH_MAX` less room for the folder's own path).
pub const PATH_BYTES_MAX: usize = 4095;
/// How deep a path can be: each level takes two bytes at least.
pub const DEPTH_MAX: usize = PATH_BYTES_MAX / 2 + 1;

/// Why bytes are no name or path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// Nothing there.
    Empty,
    /// Over [`NAME_BYTES_MAX`] or [`PATH_BYTES_MAX`].
    TooLong,
    /// `.` or `..`.
    Dots,
    /// A slash in a name, or one at the start of a path, or two together.
    Slash,
    /// A zero byte.
    Zero,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a name is empty",
            Self::TooLong => "a name or path is too long",
            Self::Dots => "a name is '.' or '..'",
            Self::Slash => "a slash stands where none may",
            Self::Zero => "a name holds a zero byte",
        })
    }
}

impl std::error::Error for NameError {}

/// The name of one directory entry: 1-255 bytes, no slash, no zero byte, not `.` or `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Vec<u8>);

impl Name {
    /// Checks bytes.
    ///
    /// # Errors
    /// When they are no name.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, NameError> {
        let bytes = bytes.into();
        check_name(&bytes)?;
        Ok(Self(bytes))
    }

    /// The bytes, checked once more: for the door to the disk, which believes nobody.
    ///
    /// # Errors
    /// When they are no name after all.
    pub(crate) fn checked(&self) -> Result<&[u8], NameError> {
        check_name(&self.0)?;
        Ok(&self.0)
    }

    /// A name that no gate let in.
    #[cfg(test)]
    pub(crate) fn forged(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// A name of our own making, for our own directories.
    pub(crate) fn made(text: String) -> Self {
        let bytes = text.into_bytes();
        assert!(Self::new(bytes.as_slice()).is_ok(), "a name of our own making is a name");
        Self(bytes)
    }

    /// The raw bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

fn check_name(bytes: &[u8]) -> Result<(), NameError> {
    match bytes {
        [] => Err(NameError::Empty),
        b"." | b".." => Err(NameError::Dots),
        _ if bytes.len() > NAME_BYTES_MAX => Err(NameError::TooLong),
        _ if bytes.contains(&b'/') => Err(NameError::Slash),
        _ if bytes.contains(&0) => Err(NameError::Zero),
        _ => Ok(()),
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        crate::bytes::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(crate::bytes::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl TryFrom<Vec<u8>> for Name {
    type Error = NameError;
    fn try_from(bytes: Vec<u8>) -> Result<Self, NameError> {
        Self::new(bytes)
    }
}

impl From<Name> for Vec<u8> {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_ascii().fmt(f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// A path below the folder: names joined by single slashes; empty is the folder itself.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(Vec<u8>);

impl RelPath {
    /// The folder itself.
    #[must_use]
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// Checks bytes; each part must be a [`Name`].
    ///
    /// # Errors
    /// When a part is no name, or the whole is too long.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, NameError> {
        let bytes = bytes.into();
        check_path(&bytes)?;
        Ok(Self(bytes))
    }

    /// The bytes, checked once more: for the door to the disk. A path that was joined there may
    /// well be longer than one of the log.
    ///
    /// # Errors
    /// When a part is no name after all.
    pub(crate) fn checked(&self) -> Result<&[u8], NameError> {
        check_parts(&self.0)?;
        Ok(&self.0)
    }

    /// A path that no gate let in.
    #[cfg(test)]
    pub(crate) fn forged(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// Whether this is the folder itself.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The raw bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The entry `name` below this directory.
    #[must_use]
    pub fn join(&self, name: &Name) -> Self {
        let mut bytes = self.0.clone();
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name.as_bytes());
        Self(bytes)
    }

    /// The directory that holds this entry, and its name there; `None` for the folder itself.
    #[must_use]
    pub fn split(&self) -> Option<(Self, Name)> {
        if self.is_root() {
            return None;
        }
        let cut = self.0.iter().rposition(|&byte| byte == b'/');
        let (parent, name) = match cut {
            Some(at) => (self.0.get(..at)?.to_vec(), self.0.get(at + 1..)?.to_vec()),
            None => (Vec::new(), self.0.clone()),
        };
        Some((Self(parent), Name(name)))
    }

    /// The names from the top down.
    #[must_use]
    pub fn names(&self) -> impl DoubleEndedIterator<Item = Name> + '_ {
        self.0
            .split(|&byte| byte == b'/')
            .filter(|part| !part.is_empty())
            .map(|part| Name(part.to_vec()))
    }

    /// What this is called once `from`, which is it or a directory above it, is called `to`.
    #[must_use]
    pub fn rebased(&self, from: &Self, to: &Self) -> Option<Self> {
        let rest = self.0.strip_prefix(from.0.as_slice()).filter(|_| self.is_within(from))?;
        let parts = rest.split(|&byte| byte == b'/').filter(|part| !part.is_empty());
        Some(parts.fold(to.clone(), |path, part| path.join(&Name(part.to_vec()))))
    }

    /// Whether this is `other` or lies below it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        match self.0.strip_prefix(other.0.as_slice()) {
            Some(rest) => other.is_root() || rest.is_empty() || rest.first() == Some(&b'/'),
            None => false,
        }
    }
}

fn check_path(bytes: &[u8]) -> Result<(), NameError> {
    if bytes.len() > PATH_BYTES_MAX { Err(NameError::TooLong) } else { check_parts(bytes) }
}

fn check_parts(bytes: &[u8]) -> Result<(), NameError> {
    if bytes.is_empty() {
        return Ok(());
    }
    bytes.split(|&byte| byte == b'/').try_for_each(|part| match check_name(part) {
        Err(NameError::Empty) => Err(NameError::Slash),
        other => other,
    })
}

impl Serialize for RelPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        crate::bytes::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for RelPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(crate::bytes::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl TryFrom<Vec<u8>> for RelPath {
    type Error = NameError;
    fn try_from(bytes: Vec<u8>) -> Result<Self, NameError> {
        Self::new(bytes)
    }
}

impl From<RelPath> for Vec<u8> {
    fn from(path: RelPath) -> Self {
        path.0
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_ascii().fmt(f)
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_no_names() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"a\0b", &[b'x'; 256]] {
            assert!(Name::new(bad).is_err(), "{bad:?}");
        }
        assert!(Name::new(&[0xff, b'\n', b' '][..]).is_ok(), "any other bytes are a name");
    }

    #[test]
    fn paths_are_names_joined() {
        for bad in [&b"/a"[..], b"a/", b"a//b", b"a/../b", b"./a"] {
            assert!(RelPath::new(bad).is_err(), "{bad:?}");
        }
        let path = RelPath::new(&b"a/b/c"[..]).unwrap();
        let (parent, name) = path.split().unwrap();
        assert_eq!((parent.as_bytes(), name.as_bytes()), (&b"a/b"[..], &b"c"[..]));
        assert_eq!(parent.join(&name), path);
        assert!(path.is_within(&parent) && path.is_within(&RelPath::root()));
        assert!(!RelPath::new(&b"a/bc"[..]).unwrap().is_within(&parent));
    }
}
