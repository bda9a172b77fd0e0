//! The root digest: one number that is equal where the agreed records are equal.
//!
//! Additive: the sum, over all records, of the SHA-256 of the record, taken as four 64-bit lanes
//! that wrap. So a change costs two hashes, whatever the number of files, and the order in which
//! records came does not matter. It finds divergence, not forgery: members trust one another.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Says what is hashed, so that no other hash of the same bytes can be taken for it.
const DOMAIN: &[u8] = b"pickbox record 1\0";

/// The sum over all records; 256 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Digest([u64; 4]);

impl Digest {
    /// Takes one row in.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        for (sum, lane) in self.0.iter_mut().zip(lanes(key, value)) {
            *sum = sum.wrapping_add(lane);
        }
    }

    /// Takes one row out again.
    pub fn remove(&mut self, key: &[u8], value: &[u8]) {
        for (sum, lane) in self.0.iter_mut().zip(lanes(key, value)) {
            *sum = sum.wrapping_sub(lane);
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|lane| write!(f, "{lane:016x}"))
    }
}

fn lanes(key: &[u8], value: &[u8]) -> [u64; 4] {
    let mut hash = Sha256::new();
    hash.update(DOMAIN);
    hash.update(key);
    hash.update(value);
    let hash: [u8; 32] = hash.finalize().into();
    let mut lanes = [0; 4];
    let (words, _) = hash.as_chunks::<8>();
    for (lane, word) in lanes.iter_mut().zip(words) {
        *lane = u64::from_be_bytes(*word);
    }
    lanes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_taking_out_undoes_taking_in() {
        let (mut left, mut right) = (Digest::default(), Digest::default());
        left.add(b"1", b"one");
        left.add(b"2", b"two");
        right.add(b"2", b"two");
        right.add(b"3", b"three");
        right.add(b"1", b"one");
        assert_ne!(left, right);
        right.remove(b"3", b"three");
        assert_eq!(left, right);
    }

    #[test]
    fn the_sum_of_one_record_is_fixed_for_ever() {
        let mut digest = Digest::default();
        digest.add(&[0; 16], b"abc");
        // printf 'pickbox record 1\0' + 16 zero bytes + 'abc' | sha256sum
        assert_eq!(digest.to_string(), GOLDEN);
    }

    const GOLDEN: &str = "6c466c5bf135b09257f422918b66c4c33a76f232f5f27e7ff60d12ea1b7ba890";
}
