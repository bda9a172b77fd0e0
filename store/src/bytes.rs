//! Writing byte strings in one piece: serde's own way for `Vec<u8>` goes byte by byte. What is
//! written is the same: a length and the bytes.

use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserializer, Serializer};

/// For `#[serde(with = "crate::bytes")]`.
pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

/// For `#[serde(with = "crate::bytes")]`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(de: D) -> Result<Vec<u8>, D::Error> {
    de.deserialize_byte_buf(Bytes)
}

struct Bytes;

impl<'de> Visitor<'de> for Bytes {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<u8>, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = items.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes)
    }
}

/// The same for bytes that may be absent.
pub(crate) mod optional {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    struct Whole(Vec<u8>);

    impl<'de> Deserialize<'de> for Whole {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            super::deserialize(deserializer).map(Self)
        }
    }

    struct Part<'a>(&'a [u8]);

    impl Serialize for Part<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            super::serialize(self.0, serializer)
        }
    }

    #[expect(clippy::ref_option, reason = "the shape that serde asks for")]
    pub(crate) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        bytes.as_deref().map(Part).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        let bytes = Option::<Whole>::deserialize(deserializer)?;
        Ok(bytes.map(|bytes| bytes.0))
    }
}

#[cfg(test)]
mod tests {
    use crate::op::Incoming;
    use crate::record::{Attributes, Body};

    #[test]
    fn bytes_are_written_as_serde_would_write_them() {
        let new = Incoming {
            body: Body::Symlink { target: b"to".to_vec() },
            attributes: Attributes::default(),
            inline: Some(vec![1, 2, 3]),
        };
        let bytes = postcard::to_allocvec(&new).unwrap();
        let plain =
            postcard::to_allocvec(&(2_u8, b"to".to_vec(), [0_u8; 5], Some(vec![1_u8, 2, 3])));
        assert_eq!(bytes, plain.unwrap());
        assert_eq!(postcard::from_bytes::<Incoming>(&bytes).unwrap(), new);
        let absent = Incoming { inline: None, ..new };
        let bytes = postcard::to_allocvec(&absent).unwrap();
        assert_eq!(postcard::from_bytes::<Incoming>(&bytes).unwrap(), absent);
    }
}
