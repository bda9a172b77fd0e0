//! That nobody but the daemon's user gets at its own files.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags};

/// Refuses what others may enter or read, or another user owns; says which command mends it.
///
/// # Errors
/// Permission denied, in words.
pub(super) fn check(fd: impl AsFd, path: &Path) -> io::Result<()> {
    judge(&fs::fstat(fd)?, path)
}

/// Looks at everything in the state directory and in the log's: a file that is to hold a secret may have been
/// copied from elsewhere. What lies deeper is of users, and keeps the modes that they gave it;
/// nobody gets there but through this directory.
///
/// # Errors
/// As [`check`], for the first that is not as it must be.
pub(super) fn check_entries(directory: &OwnedFd, path: &Path) -> io::Result<()> {
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_owned();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let below = path.join(name.to_string_lossy().as_ref());
        let stat = fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => judge(&stat, &below)?,
            FileType::Directory => {
                judge(&stat, &below)?;
                if name.to_bytes() == b"wal" {
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                    let log = fs::openat(directory, &name, flags | OFlags::CLOEXEC, Mode::empty())?;
                    check_entries(&log, &below)?;
                }
            }
            // A socket is for others to connect to; the directory says who may.
            _ => {}
        }
    }
    Ok(())
}

fn judge(stat: &fs::Stat, path: &Path) -> io::Result<()> {
    let (mode, shown) = (Mode::from_raw_mode(stat.st_mode), path.display());
    let own = rustix::process::geteuid().as_raw();
    let why = if stat.st_uid != own {
        let owner = stat.st_uid;
        format!(
            "{shown} belongs to another user (uid {owner}) than the one that this runs as (uid {own}): run \
             `chown {own} '{shown}'`, or run this as that user"
        )
    } else if mode.intersects(Mode::RWXG | Mode::RWXO) {
        let mode = mode.as_raw_mode();
        format!(
            "others may enter or read {shown} (mode {mode:03o}): run `chmod go-rwx '{shown}'`; if they are not \
             to be trusted, what it holds is known to them"
        )
    } else {
        return Ok(());
    };
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}
