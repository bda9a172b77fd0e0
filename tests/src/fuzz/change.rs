//! Changes bytes at random, the same way for the same seed.

use pickbox_raft::disk::sim::Random;

/// Numbers at which programs go wrong.
const NUMBERS: [u64; 10] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_ffff,
];
/// Inputs do not grow beyond this.
const BYTES_MAX: usize = 64 * 1024;

/// Makes new inputs of old ones.
#[derive(Debug)]
pub struct Changer(Random);

impl Changer {
    /// Begins the row of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.0.below(bound)).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.0.below(256)).unwrap_or(0)
    }

    /// One of these, a little or much changed.
    pub fn change(&mut self, examples: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = self.pick(examples);
        for _ in 0..=self.below(8) {
            self.touch(&mut bytes, examples);
        }
        bytes.truncate(BYTES_MAX);
        bytes
    }

    fn pick(&mut self, examples: &[Vec<u8>]) -> Vec<u8> {
        let place = self.below(examples.len());
        examples.get(place).cloned().unwrap_or_default()
    }

    fn touch(&mut self, bytes: &mut Vec<u8>, examples: &[Vec<u8>]) {
        let at = self.below(bytes.len() + 1);
        match self.below(7) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << self.below(8);
                }
            }
            1 => {
                let new = self.byte();
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = new;
                }
            }
            2 => {
                let number = NUMBERS.get(self.below(NUMBERS.len())).copied().unwrap_or(0);
                let width = 1 << self.below(4);
                let new = number.to_le_bytes();
                let end = (at + width).min(bytes.len());
                bytes.splice(at..end, new.iter().copied().take(width));
            }
            3 => {
                let end = (at + self.below(16)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let more: Vec<u8> = (0..=self.below(16)).map(|_| self.byte()).collect();
                bytes.splice(at..at, more);
            }
            5 => {
                // A part of another one, at this place.
                let other = self.pick(examples);
                let from = self.below(other.len() + 1);
                let part = other.get(from..).unwrap_or_default();
                let part = part.get(..self.below(part.len() + 1)).unwrap_or_default();
                bytes.splice(at..at, part.iter().copied());
            }
            _ => bytes.truncate(at),
        }
    }
}
