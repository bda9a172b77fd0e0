//! The members as they were committed last: the state directory's `peers` file.
//!
//! Written when a node becomes a member, whose log is empty then and says nobody's key, and after each
//! change of the members. A start knows of the log only what was committed at the last checkpoint: without
//! this it would let in whoever was removed since.

use std::io::IoSlice;

use crate::disk::{Disk, DiskError, DiskFile, DiskResult};
use crate::net::Vouched;

const PATH: &str = "peers";
const UNFINISHED: &str = "peers.tmp";
const MAGIC: [u8; 8] = *b"PBOXPRS\n";
/// Magic and CRC.
const HEADER_BYTES: usize = 12;
/// No file is longer: 64 members and 64 tokens, each below 1 KiB.
const BYTES_MAX: usize = 256 * 1024;

/// Stores what was told, durably.
///
/// # Errors
/// When the disk is full or failed.
pub(crate) fn store<D: Disk>(disk: &D, vouched: &Vouched) -> DiskResult<()> {
    match disk.remove(UNFINISHED) {
        Err(error) if !error.is_not_found() => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let file = disk.create(UNFINISHED)?;
    // Serializing into memory fails for no value of ours.
    let body = postcard::to_allocvec(vouched).unwrap_or_default();
    let crc = crc32fast::hash(&body).to_le_bytes();
    file.write_at(&[IoSlice::new(&MAGIC), IoSlice::new(&crc), IoSlice::new(&body)], 0)?;
    file.sync_data()?;
    disk.rename(UNFINISHED, PATH)?;
    disk.sync_dir("")
}

/// What was told, if anything was. A damaged file counts as none: the node then waits until it is
/// let in anew.
///
/// # Errors
/// When the disk failed.
pub(crate) fn load<D: Disk>(disk: &D) -> Result<Option<Vouched>, DiskError> {
    let file = match disk.open(PATH) {
        Err(error) if error.is_not_found() => return Ok(None),
        file => file?,
    };
    let mut bytes = vec![0; BYTES_MAX];
    let length = file.read_at(&mut bytes, 0)?;
    let found = bytes.get(..length).and_then(decode);
    if found.is_none() {
        log::error!("event=peers_damaged file={PATH:?}");
    }
    Ok(found)
}

fn decode(bytes: &[u8]) -> Option<Vouched> {
    let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let crc = header.strip_prefix(&MAGIC)?;
    if crc != crc32fast::hash(body).to_le_bytes() {
        return None;
    }
    let (vouched, rest): (Vouched, _) = postcard::take_from_bytes(body).ok()?;
    (rest.is_empty() && vouched.members.is_sound()).then_some(vouched)
}

#[cfg(test)]
mod tests {
    use pickbox_raft_core::ids::{Fingerprint, Index};
    use pickbox_raft_core::members::Members;

    use super::*;
    use crate::disk::sim::{Fault, Keep, SimDisk};

    fn vouched(at: u64) -> Vouched {
        let members = Members::bootstrap("node1".into(), "host:1".into(), Fingerprint([1; 32]));
        Vouched { at: Index::new(at), members }
    }

    /// A power cut leaves the former list or the new one; damage leaves none.
    #[test]
    fn what_was_told_is_read_back_or_is_none() {
        for operation in 0..6 {
            for seed in 0..20 {
                let disk = SimDisk::new();
                assert_eq!(load(&disk).unwrap(), None);
                store(&disk, &vouched(1)).unwrap();
                disk.fail_at(disk.operations() + operation, Fault::PowerOff);
                let stored = store(&disk, &vouched(2));
                disk.clear_faults();
                disk.restart(Keep::Any(seed));
                let found = load(&disk).unwrap().unwrap();
                assert!(found == vouched(2) || found == vouched(1) && stored.is_err());
            }
        }
        let disk = SimDisk::new();
        store(&disk, &vouched(1)).unwrap();
        let whole = disk.peek(PATH).unwrap();
        for offset in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[offset] ^= 1;
            assert_eq!(decode(&damaged), None, "flip at {offset}");
            assert_eq!(decode(&whole[..offset]), None, "cut at {offset}");
        }
    }
}
