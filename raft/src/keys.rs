//! The key that a node proves to have: the state directory's `node.key`.
//!
//! An Ed25519 key (RFC 8032) as PKCS#8 in PEM (RFC 8410, RFC 7468), so that `openssl pkey` reads it.
//! Peers know it by its [`Fingerprint`]. While the key is being changed there is a `node.key.next`
//! beside it, and the one before stays as `node.key.former`; which of them is in force is what the members in
//! the log say. Whoever was away knows the former one only, and would know this node no more: to
//! such a peer it is shown, until the peer has learned.

use std::fmt;
use std::io::{self, IoSlice};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crossbeam_channel::{Receiver, Sender, bounded};
use pickbox_raft_core::ids::Fingerprint;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::disk::{Disk, DiskError, DiskFile};
use crate::identity::random_bytes;

const PATH: &str = "node.key";
const NEXT: &str = "node.key.next";
const FORMER: &str = "node.key.former";
const UNFINISHED: &str = "node.key.tmp";
/// No key file is longer.
const FILE_BYTES_MAX: usize = 1024;
/// A `PrivateKeyInfo` of version 0 with an Ed25519 key, up to its 32 bytes (RFC 8410, section 7).
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// A `SubjectPublicKeyInfo` with an Ed25519 key, up to its 32 bytes (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Why there is no key.
#[derive(Debug)]
pub enum KeyError {
    /// The disk failed, or the file is open to others.
    Disk(DiskError),
    /// The file holds no Ed25519 key.
    Malformed(&'static str),
    /// The node has state and no key: nobody would know it.
    Missing,
    /// The kernel has no random bytes to give.
    Random(io::Error),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => error.fmt(f),
            Self::Malformed(path) => write!(
                f,
                "the file {path:?} holds no Ed25519 key in PEM: put it back from a backup; without one \
                 remove it, and let the node in anew with --join HOST:PORT --rejoin --token-file FILE"
            ),
            Self::Missing => write!(
                f,
                "the file {PATH:?} is missing, and without it no member knows this node: put it back from \
                 a backup; without one let the node in anew with --join HOST:PORT --rejoin \
                 --token-file FILE"
            ),
            Self::Random(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for KeyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Disk(error) => Some(error),
            Self::Random(error) => Some(error),
            Self::Malformed(_) | Self::Missing => None,
        }
    }
}

impl From<DiskError> for KeyError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

/// One key, private half included. It is never shown.
#[derive(Clone)]
pub struct NodeKey {
    certified: Arc<CertifiedKey>,
    fingerprint: Fingerprint,
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({})", self.fingerprint)
    }
}

impl NodeKey {
    /// A new key, and the text of its file.
    fn generate() -> Result<(Self, Zeroizing<String>), KeyError> {
        Self::from_seed(&Zeroizing::new(random_bytes().map_err(KeyError::Random)?))
    }

    fn from_seed(seed: &[u8; 32]) -> Result<(Self, Zeroizing<String>), KeyError> {
        let der = Zeroizing::new([&PKCS8_PREFIX[..], &seed[..]].concat());
        let body = Zeroizing::new(STANDARD.encode(&der));
        let text = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", *body);
        let text = Zeroizing::new(text);
        let key = Self::parse(text.as_bytes()).ok_or(KeyError::Malformed(PATH))?;
        Ok((key, text))
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(text).ok()?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).ok()?;
        let public = [&SPKI_PREFIX[..], pair.public_key().as_ref()].concat();
        let fingerprint = fingerprint(&public);
        let signing = rustls::crypto::ring::sign::any_eddsa_type(&der).ok()?;
        let certified = CertifiedKey::new(vec![CertificateDer::from(public)], signing);
        Some(Self { certified: Arc::new(certified), fingerprint })
    }

    fn load<D: Disk>(disk: &D, path: &'static str) -> Result<Option<Self>, KeyError> {
        let file = match disk.open(path) {
            Err(error) if error.is_not_found() => return Ok(None),
            file => file?,
        };
        let mut text = Zeroizing::new([0; FILE_BYTES_MAX]);
        let length = file.read_at(&mut text[..], 0)?;
        let key = text.get(..length).and_then(Self::parse);
        key.map(Some).ok_or(KeyError::Malformed(path))
    }

    /// Makes a key and stores it durably under `path`.
    fn create<D: Disk>(disk: &D, path: &str) -> Result<Self, KeyError> {
        let (key, text) = Self::generate()?;
        match disk.remove(UNFINISHED) {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        let file = disk.create(UNFINISHED)?;
        file.write_at(&[IoSlice::new(text.as_bytes())], 0)?;
        file.sync_data()?;
        disk.rename(UNFINISHED, path)?;
        disk.sync_dir("")?;
        Ok(key)
    }

    /// What peers know it by.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

/// The fingerprint of a `SubjectPublicKeyInfo` in DER.
pub(crate) fn fingerprint(public: &[u8]) -> Fingerprint {
    Fingerprint(Sha256::digest(public).into())
}

#[derive(Debug)]
struct Keys {
    current: NodeKey,
    next: Option<NodeKey>,
    former: Option<NodeKey>,
}

impl Keys {
    /// All of them, the one in force first.
    fn all(&self) -> impl Iterator<Item = &NodeKey> {
        [&self.current].into_iter().chain(&self.next).chain(&self.former)
    }
}

/// The key of this node, the one that is to follow it, and the one before it. Clones share them.
///
/// Nobody can know which of them a peer has in its list: it may have learned of a change before this
/// node has, or not yet. So each is shown to whoever wants it. Whether it counts is for the peer to say.
#[derive(Clone, Debug)]
pub struct KeyRing {
    keys: Arc<RwLock<Keys>>,
    /// Told when the next key comes into force.
    news: (Sender<()>, Receiver<()>),
}

impl KeyRing {
    fn of(keys: Keys) -> Self {
        Self { keys: Arc::new(RwLock::new(keys)), news: bounded(1) }
    }

    /// Reads the keys of a state directory; `None` if it has none.
    ///
    /// # Errors
    /// When a file cannot be read, is open to others, or holds no key.
    pub fn load<D: Disk>(disk: &D) -> Result<Option<Self>, KeyError> {
        let former = NodeKey::load(disk, FORMER)?;
        let (current, next) = match (NodeKey::load(disk, PATH)?, NodeKey::load(disk, NEXT)?) {
            (Some(current), next) => (current, next),
            // Settling was cut short between its two steps.
            (None, Some(next)) => (next, None),
            (None, None) => return Ok(None),
        };
        Ok(Some(Self::of(Keys { current, next, former })))
    }

    /// As [`KeyRing::load`]; a node that has no key yet gets one, durably.
    ///
    /// # Errors
    /// As [`KeyRing::load`], and when the disk is full.
    pub fn load_or_create<D: Disk>(disk: &D) -> Result<Self, KeyError> {
        if let Some(keys) = Self::load(disk)? {
            return Ok(keys);
        }
        let current = NodeKey::create(disk, PATH)?;
        log::info!("new key: fingerprint={}", current.fingerprint);
        Ok(Self::of(Keys { current, next: None, former: None }))
    }

    /// A key that is the same in each run.
    #[cfg(test)]
    pub(crate) fn of_number(number: u8) -> Self {
        let (current, _) = NodeKey::from_seed(&[number; 32]).unwrap();
        Self::of(Keys { current, next: None, former: None })
    }

    /// The key in force.
    #[must_use]
    pub fn current(&self) -> NodeKey {
        self.read().current.clone()
    }

    /// The key that is to follow it.
    #[must_use]
    pub fn next(&self) -> Option<NodeKey> {
        self.read().next.clone()
    }

    /// The key to show to somebody who did not know `tried`, if there is another one that was not tried.
    pub(crate) fn other_than(&self, tried: &[Fingerprint]) -> Option<NodeKey> {
        self.read().all().find(|key| !tried.contains(&key.fingerprint)).cloned()
    }

    /// The key with this fingerprint, else the one in force.
    pub(crate) fn wanted(&self, fingerprint: Option<Fingerprint>) -> NodeKey {
        let keys = self.read();
        let wanted = keys.all().find(|key| Some(key.fingerprint) == fingerprint);
        wanted.unwrap_or(&keys.current).clone()
    }

    /// A key to follow the one in force, durably: the one that is there already, or a new one.
    ///
    /// # Errors
    /// When the disk is full or failed.
    pub fn prepare_next<D: Disk>(&self, disk: &D) -> Result<NodeKey, KeyError> {
        self.settle(disk)?;
        let known = self.next();
        let next = known.map_or_else(|| NodeKey::create(disk, NEXT), Ok)?;
        let mut keys = self.write();
        // It may have come into force since it was looked up.
        if keys.current.fingerprint != next.fingerprint {
            keys.next = Some(next.clone());
        }
        Ok(next)
    }

    /// Tells each time that the next key has come into force: then [`KeyRing::settle`] is due. For
    /// one listener.
    #[must_use]
    pub fn news(&self) -> Receiver<()> {
        self.news.1.clone()
    }

    /// The members say that this is the key of this node; whether that is news.
    pub(crate) fn is_listed(&self, fingerprint: Fingerprint) -> bool {
        let is_next = self.next().is_some_and(|next| next.fingerprint == fingerprint);
        if is_next {
            let mut keys = self.write();
            if let Some(next) = keys.next.take() {
                keys.former = Some(std::mem::replace(&mut keys.current, next));
            }
            drop(keys);
            // Full: it is about to look anyway.
            let _ = self.news.0.try_send(());
        }
        is_next
    }

    /// Lets the state directory say which key is in force.
    ///
    /// # Errors
    /// When the disk is full or failed.
    pub fn settle<D: Disk>(&self, disk: &D) -> Result<(), KeyError> {
        let current = Some(self.current().fingerprint);
        let is_current = |key: Option<NodeKey>| key.map(|key| key.fingerprint) == current;
        if !is_current(NodeKey::load(disk, NEXT)?) {
            return Ok(());
        }
        match disk.rename(PATH, FORMER) {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        // Otherwise the second one alone may outlive a power cut.
        disk.sync_dir("")?;
        disk.rename(NEXT, PATH)?;
        Ok(disk.sync_dir("")?)
    }

    fn read(&self) -> RwLockReadGuard<'_, Keys> {
        // Nothing done under the lock can leave the keys half changed.
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Keys> {
        self.keys.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;
    use crate::disk::sim::{Fault, Keep, SimDisk};

    /// A power cut at any operation leaves a whole key or none, and never another one.
    #[test]
    fn a_key_is_made_once() {
        for operation in 0..6 {
            for seed in 0..20 {
                let disk = SimDisk::new();
                disk.fail_at(operation, Fault::PowerOff);
                let made = KeyRing::load_or_create(&disk).map(|ring| ring.current().fingerprint());
                disk.clear_faults();
                disk.restart(Keep::Any(seed));
                let found = KeyRing::load(&disk).unwrap().map(|ring| ring.current().fingerprint());
                if let Ok(made) = made {
                    assert_eq!(found, Some(made), "what was made is durable");
                }
                let again = KeyRing::load_or_create(&disk).unwrap().current().fingerprint();
                assert!(found.is_none_or(|found| found == again));
            }
        }
    }

    /// Source: RFC 8410: what is written is what `openssl` reads, and the fingerprint is that of
    /// the public key's DER.
    #[test]
    fn the_file_is_what_other_programs_read() {
        let (key, text) = NodeKey::generate().unwrap();
        let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).unwrap();
        assert_eq!(der.secret_pkcs8_der().len(), 48);
        let public = key.certified.cert[0].as_ref();
        assert_eq!(public.len(), 44);
        assert_eq!(key.fingerprint.0[..], Sha256::digest(public)[..]);
        assert!(NodeKey::parse(&text.as_bytes()[..text.len() / 2]).is_none());
        assert!(!format!("{key:?}").contains(text.lines().nth(1).unwrap()));
    }

    /// fault 74: what others may read is no secret.
    #[test]
    fn a_key_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let disk = RealDisk::open(&state).unwrap();
        KeyRing::load_or_create(&disk).unwrap();
        let path = state.join(PATH);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        let error = KeyRing::load_or_create(&disk).unwrap_err();
        assert!(matches!(error, KeyError::Disk(_)), "{error}");
    }

    /// Rotation: until the members list the next key, a node that starts again has both; when they
    /// do, the former one is gone for good.
    #[test]
    fn the_next_key_takes_over_when_it_is_listed() {
        let disk = SimDisk::new();
        let ring = KeyRing::load_or_create(&disk).unwrap();
        let former = ring.current().fingerprint();
        let next = ring.prepare_next(&disk).unwrap().fingerprint();
        assert_eq!(ring.prepare_next(&disk).unwrap().fingerprint(), next, "it is made once");
        let ring = KeyRing::load(&disk).unwrap().unwrap();
        assert_eq!(ring.wanted(Some(next)).fingerprint(), next);
        assert_eq!(ring.wanted(Some(Fingerprint::default())).fingerprint(), former);
        assert!(!ring.is_listed(former), "it is in force already");
        let other = |tried: &[Fingerprint]| ring.other_than(tried).map(|key| key.fingerprint());
        assert_eq!((other(&[former]), other(&[former, next])), (Some(next), None));
        assert!(ring.news().is_empty());
        assert!(ring.is_listed(next));
        assert_eq!(ring.current().fingerprint(), next);
        assert_eq!(other(&[next]), Some(former), "for those that were away");
        assert_eq!(ring.wanted(Some(former)).fingerprint(), former);
        assert_eq!(ring.news().len(), 1, "it is to be settled");
        ring.settle(&disk).unwrap();
        let ring = KeyRing::load(&disk).unwrap().unwrap();
        assert_eq!((ring.current().fingerprint(), ring.next().is_none()), (next, true));
        ring.settle(&disk).unwrap();
    }

    /// Rotation: a power cut while the files are settled leaves the key that is in force, and the one
    /// before it.
    #[test]
    fn settling_is_finished_after_any_power_cut() {
        for operation in 0..8 {
            for seed in 0..20 {
                let disk = SimDisk::new();
                let ring = KeyRing::load_or_create(&disk).unwrap();
                let former = ring.current().fingerprint();
                let next = ring.prepare_next(&disk).unwrap().fingerprint();
                assert!(ring.is_listed(next));
                disk.fail_at(disk.operations() + operation, Fault::PowerOff);
                let _ = ring.settle(&disk);
                disk.clear_faults();
                disk.restart(Keep::Any(seed));
                let ring = KeyRing::load(&disk).unwrap().expect("a key");
                ring.is_listed(next);
                ring.settle(&disk).unwrap();
                let ring = KeyRing::load(&disk).unwrap().expect("a key");
                assert_eq!(ring.current().fingerprint(), next);
                assert_eq!(ring.other_than(&[next]).map(|key| key.fingerprint()), Some(former));
                assert!(ring.next().is_none());
            }
        }
    }
}
