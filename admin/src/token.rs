//! The secret that clients elsewhere say.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Shortest secret in bytes: 128 bits if it is random.
pub const TOKEN_BYTES_MIN: usize = 16;
/// Longest secret, so that it fits a line before which nothing is known of a client.
pub const TOKEN_BYTES_MAX: usize = 512;

/// The secret that gives full authority to whoever says it. Kept as its SHA-256: the secret itself is
/// in no memory that is written out.
#[derive(Clone)]
pub struct AdminToken([u8; 32]);

/// Why a text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadToken {
    /// It is shorter than [`TOKEN_BYTES_MIN`].
    Short,
    /// It is longer than [`TOKEN_BYTES_MAX`].
    Long,
    /// It is not one word of visible ASCII, so it cannot stand in a line.
    Shape,
}

impl fmt::Display for BadToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => write!(f, "it has fewer than {TOKEN_BYTES_MIN} bytes"),
            Self::Long => write!(f, "it has more than {TOKEN_BYTES_MAX} bytes"),
            Self::Shape => f.write_str("it is not one line of visible ASCII without spaces"),
        }
    }
}

impl std::error::Error for BadToken {}

impl AdminToken {
    /// Takes a secret, without the white space around it.
    ///
    /// # Errors
    /// When it is too short, too long, or no single word.
    pub fn new(secret: &[u8]) -> Result<Self, BadToken> {
        check(secret).map(|secret| Self(hash(secret)))
    }

    /// Whether that is the secret. The time it takes tells nothing of the secret: what is compared
    /// are hashes, byte for byte to the end.
    pub(crate) fn is(&self, said: &Said) -> bool {
        self.0.ct_eq(&hash(&said.0)).into()
    }
}

/// The secret as a client has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes a secret, without the white space around it.
    ///
    /// # Errors
    /// As [`AdminToken::new`].
    pub fn new(secret: &[u8]) -> Result<Self, BadToken> {
        check(secret).map(|secret| Self(secret.to_vec()))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

fn check(secret: &[u8]) -> Result<&[u8], BadToken> {
    let secret = secret.trim_ascii();
    match secret.len() {
        0..TOKEN_BYTES_MIN => Err(BadToken::Short),
        length if length > TOKEN_BYTES_MAX => Err(BadToken::Long),
        _ if !secret.iter().all(u8::is_ascii_graphic) => Err(BadToken::Shape),
        _ => Ok(secret),
    }
}

fn hash(secret: &[u8]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken")
    }
}

/// What a client said its token is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Said(pub(crate) Vec<u8>);

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Said")
    }
}

/// Wrong tokens from one address in [`PAUSE`] before it is not listened to for that long.
const WRONG_MAX: u32 = 10;
/// How long an address is not listened to.
const PAUSE: Duration = Duration::from_mins(1);
/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 1024;

/// Who said wrong tokens: guessing is hopeless anyway, but it shall not cost anything.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    of: BTreeMap<IpAddr, (Instant, u32)>,
}

impl Failures {
    /// Whether so many wrong tokens came from there that no further one is looked at.
    pub(crate) fn is_paused(&self, from: IpAddr, now: Instant) -> bool {
        let found = self.of.get(&network(from));
        found.is_some_and(|&(since, count)| count >= WRONG_MAX && now < since + PAUSE)
    }

    /// Notes a wrong token; how many there were from there lately.
    pub(crate) fn note(&mut self, from: IpAddr, now: Instant) -> u32 {
        if self.of.len() >= ADDRESSES_MAX {
            self.of.retain(|_, (since, _)| now < *since + PAUSE);
        }
        if self.of.len() >= ADDRESSES_MAX {
            // So many at a time are no people: what they lose is a count.
            self.of.clear();
        }
        let entry = self.of.entry(network(from)).or_insert((now, 0));
        if now >= entry.0 + PAUSE {
            *entry = (now, 0);
        }
        entry.1 = entry.1.saturating_add(1);
        entry.1
    }
}

/// What one customer of the internet has: an address of v4, 64 bits of v6 (RFC 6177).
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pickbox_raft::clock;

    const SECRET: &[u8] = b"0123456789abcdef";

    #[test]
    fn only_the_secret_is_the_secret() {
        let token = AdminToken::new(b"  0123456789abcdef\n").unwrap();
        assert!(token.is(&Said(SECRET.to_vec())));
        for wrong in ["", "0123456789abcde", "0123456789abcdeF", "0123456789abcdef0"] {
            assert!(!token.is(&Said(wrong.as_bytes().to_vec())), "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_guessed_and_said_is_a_token() {
        assert_eq!(AdminToken::new(b" 0123456789abcde \n").unwrap_err(), BadToken::Short);
        assert_eq!(AdminToken::new(&[b'x'; TOKEN_BYTES_MAX + 1]).unwrap_err(), BadToken::Long);
        assert!(AdminToken::new(&[b'x'; TOKEN_BYTES_MAX]).is_ok());
        for bad in [&b"0123456789 abcdef"[..], b"0123456789abcdef\ng", &[0xff; 16], &[0; 16]] {
            assert_eq!(AdminToken::new(bad).unwrap_err(), BadToken::Shape);
        }
    }

    /// Source: fault 90: no secret in a log.
    #[test]
    fn a_secret_is_not_shown() {
        let token = AdminToken::new(SECRET).unwrap();
        let secret = Secret::new(SECRET).unwrap();
        let text = format!("{token:?} {secret:?} {:?}", Said(SECRET.to_vec()));
        assert_eq!(text, "AdminToken Secret Said");
    }

    #[test]
    fn who_guesses_is_not_listened_to_for_a_while() {
        let (mut failures, now) = (Failures::default(), clock::now());
        let (from, other): (IpAddr, IpAddr) =
            ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        for count in 1..=WRONG_MAX {
            assert!(!failures.is_paused(from, now));
            assert_eq!(failures.note(from, now), count);
        }
        assert!(failures.is_paused(from, now) && !failures.is_paused(other, now));
        assert!(!failures.is_paused(from, now + PAUSE));
        assert_eq!(failures.note(from, now + PAUSE), 1);
    }

    #[test]
    fn addresses_of_one_customer_are_one() {
        let (mut failures, now) = (Failures::default(), clock::now());
        for last in 0..u16::try_from(WRONG_MAX).unwrap() {
            failures.note(format!("2001:db8::{last}").parse().unwrap(), now);
        }
        assert!(failures.is_paused("2001:db8::ffff".parse().unwrap(), now));
        assert!(!failures.is_paused("2001:db8:0:1::1".parse().unwrap(), now));
        for number in 0..3 * u32::try_from(ADDRESSES_MAX).unwrap() {
            failures.note(IpAddr::V4(number.into()), now);
        }
        assert!(failures.of.len() <= ADDRESSES_MAX);
    }
}
