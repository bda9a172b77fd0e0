//! Who this node is: the state directory's `identity` file.
//!
//! It is written last when a node is set up, so that a directory with an identity has a whole log
//! beside it, and one without was never part of a cluster. It is never changed, unless what is left
//! of a cluster is founded anew. Drawn in `docs/format.md`.

use std::fmt;
use std::io::{self, IoSlice};

use pickbox_raft_core::ids::{ClusterId, Epoch, NodeId};

use crate::disk::{Disk, DiskError, DiskFile};

const PATH: &str = "identity";
const UNFINISHED: &str = "identity.tmp";
const MAGIC: [u8; 8] = *b"PBOXIDN\n";
const VERSION: u32 = 2;
/// Magic, version and CRC.
const HEADER_BYTES: usize = 16;
/// The header, cluster id, epoch, node id and the length of the name.
const FIXED_BYTES: usize = HEADER_BYTES + 16 + 8 + 8 + 1;
/// Longest name of a node.
pub const NAME_BYTES_MAX: usize = 64;

/// What a node is, for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
    /// How often that cluster was founded anew out of what was left of it.
    pub epoch: Epoch,
    /// Its number in that cluster.
    pub node: NodeId,
    /// The name that people chose: 1-64 bytes of `[A-Za-z0-9._-]`.
    pub name: String,
}

/// Why the identity could not be read or stored.
#[derive(Debug)]
pub enum IdentityError {
    /// The disk failed, or the file is open to others.
    Disk(DiskError),
    /// The file is not what was written.
    Corrupt(&'static str),
    /// The file is of another version of this program.
    UnknownVersion(u32),
    /// There is an identity already: it is never replaced.
    Exists,
    /// The name is empty, too long, or has other characters than `[A-Za-z0-9._-]`.
    BadName(String),
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => error.fmt(f),
            Self::Corrupt(reason) => write!(f, "the file {PATH:?} is corrupt: {reason}"),
            Self::UnknownVersion(version) => {
                write!(f, "the file {PATH:?} has format version {version}, which is unknown")
            }
            Self::Exists => f.write_str("this state directory has an identity already"),
            Self::BadName(name) => write!(f, "a node cannot be called {name:?}"),
        }
    }
}

impl std::error::Error for IdentityError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Disk(error) => Some(error),
            _ => None,
        }
    }
}

impl From<DiskError> for IdentityError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl Identity {
    /// Reads the identity; `None` when this directory never had one.
    ///
    /// # Errors
    /// When it cannot be read or is damaged: the node must then not guess who it is.
    pub fn load<D: Disk>(disk: &D) -> Result<Option<Self>, IdentityError> {
        let file = match disk.open(PATH) {
            Err(error) if error.is_not_found() => return Ok(None),
            file => file?,
        };
        let mut bytes = [0; FIXED_BYTES + NAME_BYTES_MAX + 1];
        let length = file.read_at(&mut bytes, 0)?;
        Self::decode(bytes.get(..length).unwrap_or_default()).map(Some)
    }

    /// Stores the identity durably, once.
    ///
    /// # Errors
    /// When there is one already, when the name is not one, or when the disk is full or failed.
    pub fn store<D: Disk>(&self, disk: &D) -> Result<(), IdentityError> {
        if Self::load(disk)?.is_some() {
            return Err(IdentityError::Exists);
        }
        self.put(disk)
    }

    /// Puts this identity in the place of the one that is there: the same node, in a cluster that
    /// is founded anew.
    ///
    /// # Errors
    /// When the name is not one, or when the disk is full or failed.
    pub fn put<D: Disk>(&self, disk: &D) -> Result<(), IdentityError> {
        check_name(&self.name)?;
        match disk.remove(UNFINISHED) {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        let file = disk.create(UNFINISHED)?;
        file.write_at(&[IoSlice::new(&self.encode())], 0)?;
        file.sync_data()?;
        disk.rename(UNFINISHED, PATH)?;
        Ok(disk.sync_dir("")?)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FIXED_BYTES + self.name.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.cluster.0);
        bytes.extend_from_slice(&self.epoch.get().to_le_bytes());
        bytes.extend_from_slice(&self.node.get().to_le_bytes());
        bytes.push(u8::try_from(self.name.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(self.name.as_bytes());
        let crc = checksum(&bytes);
        if let Some(place) = bytes.get_mut(12..HEADER_BYTES) {
            place.copy_from_slice(&crc.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, IdentityError> {
        let corrupt = |reason| IdentityError::Corrupt(reason);
        let short = || corrupt("it is too short");
        let rest = bytes.strip_prefix(&MAGIC).ok_or_else(|| corrupt("it begins otherwise"))?;
        let (version, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let version = u32::from_le_bytes(*version);
        if version != VERSION {
            return Err(IdentityError::UnknownVersion(version));
        }
        let (crc, rest) = rest.split_first_chunk().ok_or_else(short)?;
        if u32::from_le_bytes(*crc) != checksum(bytes) {
            return Err(corrupt("its checksum is wrong"));
        }
        let (cluster, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let (epoch, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let (node, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let (length, name) = rest.split_first().ok_or_else(short)?;
        let name = str::from_utf8(name).map_err(|_| corrupt("its name is no text"))?;
        if name.len() != usize::from(*length) {
            return Err(corrupt("its name has another length"));
        }
        check_name(name)?;
        let node = NodeId::new(u64::from_le_bytes(*node));
        let epoch = Epoch::new(u64::from_le_bytes(*epoch));
        Ok(Self { cluster: ClusterId(*cluster), epoch, node, name: name.to_owned() })
    }
}

/// The CRC of all bytes but its own four.
fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytes.get(..12).unwrap_or_default());
    hasher.update(bytes.get(HEADER_BYTES..).unwrap_or_default());
    hasher.finalize()
}

/// Checks what people called a node.
///
/// # Errors
/// [`IdentityError::BadName`].
pub fn check_name(name: &str) -> Result<(), IdentityError> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_name = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(fine);
    if is_name { Ok(()) } else { Err(IdentityError::BadName(name.to_owned())) }
}

/// Random bytes from the kernel: for cluster ids, incarnations, seeds and nonces.
///
/// # Errors
/// When the kernel has none to give.
pub fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let flags = rustix::rand::GetRandomFlags::empty();
        filled += rustix::io::retry_on_intr(|| rustix::rand::getrandom(&mut *rest, flags))?;
    }
    Ok(bytes)
}

/// A random number from the kernel.
///
/// # Errors
/// When the kernel has none to give.
pub fn random_u64() -> io::Result<u64> {
    random_bytes().map(u64::from_le_bytes)
}

/// A new cluster's id.
///
/// # Errors
/// When the kernel has no random bytes to give.
pub fn random_cluster_id() -> io::Result<ClusterId> {
    random_bytes().map(ClusterId)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;
    use crate::disk::sim::{Fault, Keep, SimDisk};

    fn identity() -> Identity {
        let (cluster, epoch) = (ClusterId([9; 16]), Epoch::new(2));
        Identity { cluster, epoch, node: NodeId::new(3), name: "node3".into() }
    }

    /// Source: the module's promise; fault 69 builds on it.
    #[test]
    fn an_identity_is_read_back_and_never_replaced() {
        let disk = SimDisk::new();
        assert_eq!(Identity::load(&disk).unwrap(), None);
        identity().store(&disk).unwrap();
        disk.power_off();
        disk.restart(Keep::Nothing);
        assert_eq!(Identity::load(&disk).unwrap(), Some(identity()));
        let other = Identity { name: "node4".into(), ..identity() };
        assert!(matches!(other.store(&disk), Err(IdentityError::Exists)));
        assert_eq!(Identity::load(&disk).unwrap(), Some(identity()));
    }

    /// Source: checklist 127, fault 29: a power cut at any operation leaves a whole one or none.
    #[test]
    fn a_power_cut_at_any_operation_leaves_a_whole_identity_or_none() {
        for operation in 0..6 {
            for seed in 0..50 {
                let disk = SimDisk::new();
                disk.fail_at(operation, Fault::PowerOff);
                let stored = identity().store(&disk).is_ok();
                disk.clear_faults();
                disk.restart(Keep::Any(seed));
                let found = Identity::load(&disk).unwrap();
                assert!(found.is_none_or(|found| found == identity()));
                if !stored {
                    // A retry goes through whatever is left.
                    assert!(matches!(identity().store(&disk), Ok(()) | Err(IdentityError::Exists)));
                }
                assert_eq!(Identity::load(&disk).unwrap(), Some(identity()));
            }
        }
    }

    /// Source: fault 61: any flipped bit or missing byte is named, never guessed over.
    #[test]
    fn any_damage_is_found() {
        let disk = SimDisk::new();
        identity().store(&disk).unwrap();
        let whole = disk.peek(PATH).unwrap();
        for offset in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[offset] ^= 1;
            assert!(Identity::decode(&damaged).is_err(), "flip at {offset}");
            assert!(Identity::decode(&whole[..offset]).is_err(), "cut at {offset}");
        }
        let longer = [whole.as_slice(), &[0]].concat();
        assert!(Identity::decode(&longer).is_err());
        let mut later = whole;
        later[8] = 9;
        assert!(matches!(Identity::decode(&later), Err(IdentityError::UnknownVersion(9))));
    }

    /// Source: fault 74: what others may read is not trusted.
    #[test]
    fn an_identity_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let disk = RealDisk::open(&state).unwrap();
        identity().store(&disk).unwrap();
        let path = state.join(PATH);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        assert!(matches!(Identity::load(&disk), Err(IdentityError::Disk(_))));
    }

    /// Source: names become paths and host labels: nothing that needs quoting.
    #[test]
    fn names_are_plain() {
        for good in ["a", "node-1", "web_2.example", &"x".repeat(64)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a/b", "é", &"x".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    /// Source: getrandom(2); equal draws would make two clusters one.
    #[test]
    fn random_numbers_differ() {
        assert_ne!(random_u64().unwrap(), random_u64().unwrap());
        assert_ne!(random_cluster_id().unwrap(), random_cluster_id().unwrap());
    }
}
