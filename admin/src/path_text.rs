//! Paths as text: in a line and in JSON (see the crate's page for both forms).

use std::fmt::Write;

use pickbox_store::name::{NameError, RelPath};

/// Why a text is no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathTextError {
    /// A backslash, or in JSON U+0000, is not followed by what must follow it.
    Escape,
    /// The bytes are no path below the folder.
    Path(NameError),
}

impl std::fmt::Display for PathTextError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Escape => f.write_str("an escape in the path is not complete"),
            Self::Path(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PathTextError {}

impl From<NameError> for PathTextError {
    fn from(error: NameError) -> Self {
        Self::Path(error)
    }
}

/// Reads a path from a line: bytes as they are, but for the escapes.
///
/// # Errors
/// On an unknown escape and on bytes that are no path.
pub fn from_line(text: &[u8]) -> Result<RelPath, PathTextError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let (byte, after) = match first {
            b'\\' => unescape(after).ok_or(PathTextError::Escape)?,
            plain => (plain, after),
        };
        bytes.push(byte);
        rest = after;
    }
    Ok(RelPath::new(bytes)?)
}

/// The byte that the text after a backslash stands for, and what follows.
fn unescape(text: &[u8]) -> Option<(u8, &[u8])> {
    let (&kind, rest) = text.split_first()?;
    let byte = match kind {
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        b'\\' | b'\'' | b'"' => kind,
        b'x' => return Some((hex_byte(rest.get(..2)?)?, rest.get(2..)?)),
        _ => return None,
    };
    Some((byte, rest))
}

/// The path for a JSON string.
#[must_use]
pub fn to_json(path: &RelPath) -> String {
    let mut text = String::with_capacity(path.as_bytes().len());
    for chunk in path.as_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\0{byte:02x}");
        }
    }
    text
}

/// The path that a JSON string stands for.
///
/// # Errors
/// On an incomplete escape and on bytes that are no path.
pub fn from_json(text: &str) -> Result<RelPath, PathTextError> {
    let mut parts = text.as_bytes().split(|&byte| byte == 0);
    let mut bytes = parts.next().unwrap_or_default().to_vec();
    for part in parts {
        let (digits, plain) = part.split_at_checked(2).ok_or(PathTextError::Escape)?;
        bytes.push(hex_byte(digits).ok_or(PathTextError::Escape)?);
        bytes.extend_from_slice(plain);
    }
    Ok(RelPath::new(bytes)?)
}

/// The byte that two hex digits stand for.
pub(crate) fn hex_byte(digits: &[u8]) -> Option<u8> {
    let &[high, low] = digits else { return None };
    let value =
        |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    Some(value(high)? << 4 | value(low)?)
}

/// For `#[serde(with = "...")]` on a path.
pub(crate) mod json {
    use super::{RelPath, from_json, to_json};
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(path: &RelPath, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&to_json(path))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<RelPath, D::Error> {
        from_json(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// fault 48
        #[test]
        fn every_path_survives_both_forms(bytes in prop::collection::vec(any::<u8>(), 1..40)) {
            if let Ok(path) = RelPath::new(bytes) {
                prop_assert_eq!(from_line(path.to_string().as_bytes()).unwrap(), path.clone());
                prop_assert_eq!(from_json(&to_json(&path)).unwrap(), path);
            }
        }

        #[test]
        fn no_text_makes_a_path_with_dots_or_zero(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(path) = from_line(&bytes) {
                prop_assert!(!path.as_bytes().contains(&0));
                prop_assert!(path.names().all(|name| name.as_bytes() != b".."));
            }
        }
    }

    #[test]
    fn utf8_stands_as_it_is_and_other_bytes_are_escaped() {
        let path = RelPath::new("dir/café".as_bytes()).unwrap();
        assert_eq!(to_json(&path), "dir/café");
        let path = RelPath::new(&b"caf\xe9\\"[..]).unwrap();
        assert_eq!(to_json(&path), "caf\0e9\\");
    }

    #[test]
    fn broken_escapes_are_refused() {
        for bad in [&b"a\\"[..], b"a\\q", b"a\\x1", b"a\\xgg"] {
            assert_eq!(from_line(bad), Err(PathTextError::Escape));
        }
        for bad in ["a\0", "a\0f", "a\0gg"] {
            assert_eq!(from_json(bad), Err(PathTextError::Escape));
        }
        assert_eq!(from_json("a\x0000"), Err(PathTextError::Path(NameError::Zero)));
        assert_eq!(from_json("../a"), Err(PathTextError::Path(NameError::Dots)));
    }
}
