//! Join tokens: a line of text that lets one node become a member, once, within a time.
//!
//! The line names a member, its key, the cluster, and a secret of 128 bits. From the secret comes
//! an Ed25519 key; the log holds its public half ([`JoinToken`]), so that neither the log nor a
//! backup of it lets anybody in. Who joins signs what only this connection has (the exporter of
//! TLS, RFC 8446 section 7.5), its own key's fingerprint and the cluster: so a proof overheard, or
//! given to the wrong node, is of no use on another connection or for another key.

use std::fmt;
use std::io;

use pickbox_raft_core::ids::{ClusterId, Fingerprint};
use pickbox_raft_core::members::JoinToken;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::identity::random_bytes;

/// What the line begins with: the name and version of its form.
const PREFIX: &str = "pickbox-join-1";
/// Longest line; longer ones are not looked at.
pub const LINE_BYTES_MAX: usize = 512;
/// Longest address in it.
const ADDRESS_BYTES_MAX: usize = 256;
/// Sets apart what is hashed and signed here from everything else.
const SEED_LABEL: &[u8] = b"pickbox join token seed 1";
const PROOF_LABEL: &[u8] = b"pickbox join proof 1";

/// A token, secret included. It is shown by [`Token::line`] and nowhere else.
#[derive(Clone)]
pub struct Token {
    /// Where the member is that it names, `IP:PORT`.
    pub address: String,
    /// The key of that member.
    pub key: Fingerprint,
    /// The cluster.
    pub cluster: ClusterId,
    secret: Zeroizing<[u8; 16]>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("address", &self.address)
            .field("key", &self.key)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl Token {
    /// A new token of the member at `address`.
    ///
    /// # Errors
    /// When the kernel has no random bytes to give.
    pub fn generate(address: String, key: Fingerprint, cluster: ClusterId) -> io::Result<Self> {
        Ok(Self { address, key, cluster, secret: Zeroizing::new(random_bytes()?) })
    }

    /// The line that is given to the node which is to join.
    #[must_use]
    pub fn line(&self) -> Zeroizing<String> {
        let Self { address, key, cluster, secret } = self;
        Zeroizing::new(format!("{PREFIX}/{address}/{key}/{cluster}/{}", *hex(&secret[..])))
    }

    /// Reads such a line; spaces and line ends around it do not matter. `None`: it is none, or not
    /// whole.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        if line.len() > LINE_BYTES_MAX {
            return None;
        }
        let rest = line.trim().strip_prefix(PREFIX)?.strip_prefix('/')?;
        let mut parts = rest.split('/');
        let address = parts.next().filter(|address| !address.is_empty())?.to_owned();
        let key = Fingerprint(unhex(parts.next()?)?);
        let cluster = ClusterId(unhex(parts.next()?)?);
        let secret = Zeroizing::new(unhex(parts.next()?)?);
        let plain =
            address.len() <= ADDRESS_BYTES_MAX && address.bytes().all(|b| b.is_ascii_graphic());
        let is_whole = parts.next().is_none() && plain;
        is_whole.then_some(Self { address, key, cluster, secret })
    }

    /// The public half, as the log holds it.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        let pair = self.pair();
        let public = pair.as_ref().map(|pair| pair.public_key().as_ref());
        public.and_then(|public| public.try_into().ok()).unwrap_or_default()
    }

    /// Proves, on the connection with this `exporter`, that the node with `key` has the secret.
    pub(crate) fn prove(&self, exporter: &[u8; 32], key: Fingerprint) -> [u8; 64] {
        let signed = self.pair().map(|pair| pair.sign(&statement(exporter, key, self.cluster)));
        signed.and_then(|signed| signed.as_ref().try_into().ok()).unwrap_or([0; 64])
    }

    fn pair(&self) -> Option<Ed25519KeyPair> {
        let mut hasher = Sha256::new();
        hasher.update(SEED_LABEL);
        hasher.update(&self.secret[..]);
        let seed: Zeroizing<[u8; 32]> = Zeroizing::new(hasher.finalize().into());
        Ed25519KeyPair::from_seed_unchecked(&seed[..]).ok()
    }
}

/// Whether `proof` shows, on the connection with this `exporter`, that the node with `key` has the
/// secret of `token`.
pub(crate) fn proves(
    token: &JoinToken,
    proof: &[u8; 64],
    exporter: &[u8; 32],
    (key, cluster): (Fingerprint, ClusterId),
) -> bool {
    let public = UnparsedPublicKey::new(&ED25519, &token.public_key);
    public.verify(&statement(exporter, key, cluster), proof).is_ok()
}

fn statement(exporter: &[u8; 32], key: Fingerprint, cluster: ClusterId) -> Vec<u8> {
    [PROOF_LABEL, exporter, &key.0, &cluster.0].concat()
}

fn hex(bytes: &[u8]) -> Zeroizing<String> {
    use fmt::Write as _;
    let mut text = Zeroizing::new(String::with_capacity(2 * bytes.len()));
    for byte in bytes {
        // Writing to memory does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Reads exactly `2 * N` lower-case hex digits.
fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: &u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() || pairs.len() != N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use pickbox_raft_core::ids::NodeId;

    use super::*;

    fn token() -> Token {
        let (key, cluster) = (Fingerprint([3; 32]), ClusterId([4; 16]));
        Token::generate("[::1]:8001".into(), key, cluster).unwrap()
    }

    fn listed(token: &Token) -> JoinToken {
        JoinToken {
            public_key: token.public_key(),
            name: None,
            issued_at: 0,
            expires_at: 1,
            issued_by: NodeId::new(1),
        }
    }

    /// A line is read as it was written; one that was cut or changed is none, or proves nothing.
    #[test]
    fn a_line_is_read_whole_or_not_at_all() {
        let token = token();
        let line = token.line();
        let read = Token::parse(&format!("  {}\r\n", *line)).unwrap();
        assert_eq!(*read.line(), *line);
        assert_eq!(read.public_key(), token.public_key());
        for cut in 0..line.len() {
            assert!(Token::parse(&line[..cut]).is_none(), "cut at {cut}");
        }
        for wrong in ["", "x", "pickbox-join-2/a/b/c/d", &format!("{}/", *line), &"x".repeat(9999)]
        {
            assert!(Token::parse(wrong).is_none(), "{wrong}");
        }
        assert!(Token::parse(&line.to_uppercase()).is_none());
    }

    /// fault 83, 93: a proof is of one token, one connection, one key and one cluster.
    #[test]
    fn a_proof_is_of_no_use_elsewhere() {
        let (token, other, exporter, key) = (token(), token(), [7; 32], Fingerprint([9; 32]));
        let (proof, known) = (token.prove(&exporter, key), listed(&token));
        assert!(proves(&known, &proof, &exporter, (key, token.cluster)));
        assert!(!proves(&listed(&other), &proof, &exporter, (key, token.cluster)));
        assert!(!proves(&known, &proof, &[8; 32], (key, token.cluster)));
        assert!(!proves(&known, &proof, &exporter, (Fingerprint([8; 32]), token.cluster)));
        assert!(!proves(&known, &proof, &exporter, (key, ClusterId([5; 16]))));
        for place in 0..proof.len() {
            let mut forged = proof;
            forged[place] ^= 1;
            assert!(!proves(&known, &forged, &exporter, (key, token.cluster)));
        }
    }

    /// fault 90: what is logged of a token has no secret in it.
    #[test]
    fn a_secret_is_not_shown() {
        let token = token();
        let line = token.line();
        let secret = line.rsplit('/').next().unwrap();
        assert!(!format!("{token:?} {:?}", listed(&token)).contains(secret));
        assert!(!hex(&token.public_key()).contains(secret));
    }
}
