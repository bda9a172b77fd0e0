//! Which boot and which mount our files lie on: when either changes, what only the page cache
//! held is gone.

use rustix::fs::{AtFlags, StatxFlags};

use super::Dir;

/// `STATX_MNT_ID_UNIQUE` (statx(2), Linux 6.8): a mount's number that is never used again.
const MOUNT_ID_UNIQUE: u32 = 0x4000;

/// Names this boot and this mount.
#[must_use]
pub fn medium(dir: &Dir) -> String {
    // OUR OWN FILE: the kernel's, not the user's.
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let mask = StatxFlags::from_bits_retain(MOUNT_ID_UNIQUE);
    let mount = rustix::fs::statx(dir, c"", AtFlags::EMPTY_PATH, mask);
    let mount = mount.ok().filter(|statx| statx.stx_mask & MOUNT_ID_UNIQUE != 0);
    format!("{} {}", boot.trim(), mount.map_or(0, |statx| statx.stx_mnt_id))
}
