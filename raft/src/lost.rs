//! Setting aside a state that is not to be trusted any more, so that the node can begin anew.
//!
//! Nothing of it is used again; it is kept for people, in `lost/raft/`, until the next time.

use crate::disk::{Disk, DiskError, DiskResult};

const LOST: &str = "lost";
const KEPT: &str = "lost/raft";
/// Moved last, so that a set that has it is whole.
const IDENTITY: &str = "identity";
const RUN: &str = "run";
const LOG: &str = "wal";

/// Moves the identity, the run and the log to `lost/raft/`, in place of what was kept there before.
/// Durable when it returns. May be called again after a crash at any moment; without an identity
/// there is nothing to do.
///
/// # Errors
/// When the disk is full or failed.
pub fn set_aside<D: Disk>(disk: &D) -> DiskResult<()> {
    let is_there = |path: &str| match disk.open(path) {
        Err(error) if error.is_not_found() => Ok(false),
        other => other.map(|_| true),
    };
    if !is_there(IDENTITY)? {
        return Ok(());
    }
    disk.make_dir(LOST)?;
    disk.make_dir(KEPT)?;
    let kept_identity = format!("{KEPT}/{IDENTITY}");
    if is_there(&kept_identity)? {
        for name in disk.list(KEPT)?.iter().filter(|name| *name != IDENTITY) {
            disk.remove(&format!("{KEPT}/{name}"))?;
        }
        disk.remove(&kept_identity)?;
    }
    let log = match disk.list(LOG) {
        Err(error) if error.is_not_found() => Vec::new(),
        other => other?,
    };
    for name in log {
        disk.rename(&format!("{LOG}/{name}"), &format!("{KEPT}/{name}"))?;
    }
    if is_there(RUN)? {
        disk.rename(RUN, &format!("{KEPT}/{RUN}"))?;
    }
    // The log must have gone before its owner does: a new one must not find it.
    sync(disk, &[KEPT, LOG, ""])?;
    disk.rename(IDENTITY, &kept_identity)?;
    sync(disk, &[KEPT, LOST, ""])
}

fn sync<D: Disk>(disk: &D, directories: &[&str]) -> Result<(), DiskError> {
    for directory in directories {
        match disk.sync_dir(directory) {
            Err(error) if error.is_not_found() => {}
            other => other?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pickbox_raft_core::ids::{ClusterId, Epoch, NodeId};

    use super::*;
    use crate::disk::sim::{Fault, Keep, SimDisk};
    use crate::identity::Identity;
    use crate::wal::{Options, Wal};

    fn state(node: u64) -> Identity {
        let (cluster, epoch) = (ClusterId([3; 16]), Epoch::ZERO);
        Identity { cluster, epoch, node: NodeId::new(node), name: "node1".to_owned() }
    }

    fn begin(disk: &SimDisk, node: u64) {
        Wal::create(disk.clone(), Options { segment_bytes: 16 * 1024, nonce_seed: node }).unwrap();
        state(node).store(disk).unwrap();
    }

    fn kept(disk: &SimDisk) -> Vec<String> {
        disk.list(KEPT).unwrap()
    }

    /// checklist 128: the former state is out of the way and still there; the next one takes its
    /// place.
    #[test]
    fn a_former_state_is_kept_once() {
        let disk = SimDisk::new();
        set_aside(&disk).unwrap();
        begin(&disk, 1);
        set_aside(&disk).unwrap();
        assert_eq!(Identity::load(&disk).unwrap(), None);
        assert!(disk.list(LOG).unwrap().is_empty() && kept(&disk).contains(&IDENTITY.to_owned()));
        let before = kept(&disk).len();
        begin(&disk, 2);
        set_aside(&disk).unwrap();
        set_aside(&disk).unwrap();
        assert_eq!(kept(&disk).len(), before);
    }

    /// A power cut at any step: what comes after it finishes the work, and a node never has an
    /// identity without its own log.
    #[test]
    fn setting_aside_is_finished_after_any_power_cut() {
        for operation in 0..24 {
            for seed in 0..20 {
                let disk = SimDisk::new();
                begin(&disk, 1);
                set_aside(&disk).unwrap();
                begin(&disk, 2);
                disk.fail_at(disk.operations() + operation, Fault::PowerOff);
                let done = set_aside(&disk).is_ok();
                disk.clear_faults();
                disk.restart(Keep::Any(seed));
                assert!(!done || Identity::load(&disk).unwrap().is_none());
                set_aside(&disk).unwrap();
                assert_eq!(Identity::load(&disk).unwrap(), None);
                assert!(disk.list(LOG).unwrap().is_empty());
                begin(&disk, 3);
                assert_eq!(Identity::load(&disk).unwrap(), Some(state(3)));
            }
        }
    }
}
