//! What the writers write: lines that say who wrote them and where they belong, so that a mix of
//! two writings can be told from either.

use sha2::{Digest, Sha256};

/// SHA-256 of a content.
pub(super) type Hash = [u8; 32];

/// Bytes of a line, its end included.
const LINE: usize = 64;

/// One writing: no two have the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// The node.
    pub node: usize,
    /// The writer there.
    pub writer: usize,
    /// Which of its writings.
    pub count: u32,
}

/// `length` bytes of this writing that begin at `offset` of their file.
pub(super) fn made(mark: Mark, offset: usize, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + LINE);
    while bytes.len() < length {
        let at = offset + bytes.len();
        let head = format!("n{}.w{}.{:08} at {at:010} ", mark.node + 1, mark.writer, mark.count);
        bytes.extend_from_slice(head.as_bytes());
        let filler = LINE.saturating_sub(head.len() + 1);
        bytes.extend(std::iter::repeat_n(b'.', filler));
        bytes.push(b'\n');
    }
    bytes.truncate(length);
    bytes
}

/// The hash of a content.
pub(super) fn hash(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

/// In hex, as `sha256sum` prints it.
pub(super) fn hex(hash: &Hash) -> String {
    hash.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Which writings a content consists of, from its first byte to its last.
pub(super) fn describe(bytes: &[u8]) -> String {
    let mut parts: Vec<(String, usize)> = Vec::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let zeros = line.iter().take_while(|byte| **byte == 0).count();
        let (hole, text) = line.split_at(zeros);
        let mark = text.split(|byte| *byte == b' ').next().unwrap_or_default();
        for (name, length) in
            [("zeros".to_owned(), hole.len()), (mark.escape_ascii().to_string(), text.len())]
        {
            match parts.last_mut() {
                Some((last, sum)) if *last == name => *sum += length,
                _ if length > 0 => parts.push((name, length)),
                _ => {}
            }
        }
    }
    let parts: Vec<String> =
        parts.iter().take(40).map(|(name, length)| format!("{name}: {length}")).collect();
    format!("{} bytes: {}", bytes.len(), parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source: the hammer's own need: a mix of two writings shows both.
    #[test]
    fn a_mix_is_told() {
        let [one, other] = [1, 2].map(|count| Mark { node: 0, writer: 3, count });
        let mut mix = made(one, 0, 640);
        mix.truncate(640);
        mix[320..].copy_from_slice(&made(other, 320, 320));
        mix.extend_from_slice(&[0; 10]);
        let told = describe(&mix);
        assert_eq!(told, "650 bytes: n1.w3.00000001: 320, n1.w3.00000002: 320, zeros: 10");
    }
}
