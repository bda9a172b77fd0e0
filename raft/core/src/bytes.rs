//! Bytes as one piece for serde. A plain `Vec<u8>` goes through it byte by byte, which costs more
//! than the network; what is written is the same with postcard: the length and the bytes.

use alloc::vec::Vec;
use core::fmt;

use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::ser::Serializer;

/// No sequence makes room for more than this before its elements arrive.
const RESERVED_MAX: usize = 64 * 1024;

pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    deserializer.deserialize_byte_buf(Bytes)
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

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<u8>, A::Error> {
        let hint = sequence.size_hint().unwrap_or_default();
        let mut bytes = Vec::with_capacity(hint.min(RESERVED_MAX));
        while let Some(byte) = sequence.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use crate::log::Payload;

    /// What logs and peers of earlier builds wrote is read, and the other way round.
    #[test]
    fn bytes_in_one_piece_look_as_one_by_one() {
        for length in [0, 1, 127, 128, 100_000] {
            let data: Vec<u8> = vec![0xa5; length];
            let one_by_one = postcard::to_allocvec(&(1_u8, &data)).unwrap();
            let payload = Payload::Data(data);
            assert_eq!(postcard::to_allocvec(&payload).unwrap(), one_by_one);
            assert_eq!(postcard::from_bytes::<Payload>(&one_by_one).unwrap(), payload);
        }
    }
}
