//! Which run of this node this is: the state directory's `run` file.
//!
//! Each start writes a new [`Incarnation`] there before anything of it leaves the process. So the
//! runs of one state directory follow each other; a copy of it, or an old image, begins a run that
//! does not follow the newest one that the cluster has seen, and is found out by that.

use std::io::IoSlice;

use pickbox_raft_core::ids::Incarnation;

use crate::disk::{Disk, DiskError, DiskFile, DiskResult};

const PATH: &str = "run";
const UNFINISHED: &str = "run.tmp";
const MAGIC: [u8; 8] = *b"PBOXRUN\n";
/// Magic, incarnation, CRC.
const BYTES: usize = 8 + 8 + 4;

/// Begins the next run, durably. A damaged file counts as none: the run then does not follow the
/// former ones, and the cluster takes the node for what it may be, one that lost its state.
///
/// # Errors
/// When the disk is full or failed.
pub(crate) fn begin<D: Disk>(disk: &D, random: u64) -> DiskResult<Incarnation> {
    let next = last(disk)?.following(random);
    match disk.remove(UNFINISHED) {
        Err(error) if !error.is_not_found() => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let file = disk.create(UNFINISHED)?;
    file.write_at(&[IoSlice::new(&encode(next))], 0)?;
    file.sync_data()?;
    disk.rename(UNFINISHED, PATH)?;
    disk.sync_dir("")?;
    Ok(next)
}

/// The newest run that was begun here; zero when there was none.
fn last<D: Disk>(disk: &D) -> Result<Incarnation, DiskError> {
    let file = match disk.open(PATH) {
        Err(error) if error.is_not_found() => return Ok(Incarnation::ZERO),
        file => file?,
    };
    let mut bytes = [0; BYTES + 1];
    let length = file.read_at(&mut bytes, 0)?;
    let found = bytes.get(..length).and_then(decode);
    if found.is_none() {
        log::error!("event=run_damaged file={PATH:?}");
    }
    Ok(found.unwrap_or_default())
}

fn encode(run: Incarnation) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&run.get().to_le_bytes());
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Incarnation> {
    let (body, crc) = bytes.split_last_chunk().filter(|_| bytes.len() == BYTES)?;
    let run = body.strip_prefix(&MAGIC)?.first_chunk()?;
    let sound = u32::from_le_bytes(*crc) == crc32fast::hash(body);
    sound.then(|| Incarnation::new(u64::from_le_bytes(*run)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::{Fault, Keep, SimDisk};

    /// checklist 102: each run follows the one before it, and a second one from the same state does
    /// not follow the first.
    #[test]
    fn runs_follow_each_other_and_copies_do_not() {
        let disk = SimDisk::new();
        let first = begin(&disk, 11).unwrap();
        let second = begin(&disk, 12).unwrap();
        assert!(second.may_follow(first) && second.may_follow(second));
        assert!(!first.may_follow(second));
        assert_eq!((first.run(), second.run()), (1, 2));
        let copy = first.following(13);
        assert!(!copy.may_follow(second) && !second.may_follow(copy));
    }

    /// A power cut at any operation leaves the former run or this one; damage leaves none.
    #[test]
    fn a_run_is_begun_or_it_is_not() {
        for operation in 0..6 {
            for seed in 0..20 {
                let disk = SimDisk::new();
                let first = begin(&disk, 1).unwrap();
                disk.fail_at(disk.operations() + operation, Fault::PowerOff);
                let began = begin(&disk, 2);
                disk.clear_faults();
                disk.restart(Keep::Any(seed));
                let found = last(&disk).unwrap();
                assert!(found == first || found == first.following(2));
                assert!(began.is_err() || found != first, "what was begun is durable");
            }
        }
        let whole = encode(Incarnation::new(9));
        for offset in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[offset] ^= 1;
            assert_eq!(decode(&damaged), None);
        }
    }
}
