//! Is anybody writing to this file? The read-lease probe, the one audited `unsafe` of the daemon.
//!
//! `fcntl(F_SETLEASE, F_RDLCK)` is granted only while nobody has the file open for writing, a
//! writer that only holds a shared mapping included; neither std nor rustix offer it. The lease
//! is given back within the same call: while it is held, a program that opens the file for
//! writing waits (fcntl(2), "Leases"), with `O_NONBLOCK` it even fails.

#![expect(unsafe_code, reason = "F_SETLEASE is in neither rustix nor std; audited below")]

use std::os::fd::{AsFd, AsRawFd};

/// What the probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// Nobody has it open for writing.
    Idle,
    /// Somebody has.
    Busy,
    /// Cannot be told: not our file and no `CAP_LEASE`, or the file system knows no leases.
    Unknown,
}

/// Asks whether anybody has this regular file open for writing. `file` must be open for reading
/// only. Call [`ignore_sigio`] once before.
#[must_use]
pub fn open_for_writing(file: impl AsFd) -> Lease {
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: F_SETLEASE takes an int by value and touches no memory of ours; `fd` is open, since
    // `file` is borrowed over both calls.
    // RACE: a program that opens the file for writing between the two calls waits for the second,
    // microseconds; with O_NONBLOCK it gets EAGAIN, as from any lease.
    let granted = unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) };
    let refusal = std::io::Error::last_os_error();
    if granted == 0 {
        // SAFETY: as above.
        unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) };
        return Lease::Idle;
    }
    match refusal.raw_os_error() {
        Some(libc::EAGAIN) => Lease::Busy,
        _ => Lease::Unknown,
    }
}

/// Ignores `SIGIO`, which breaking a lease sends and which ends a process by default. Must run
/// before the first probe; any number of times.
///
/// # Errors
/// Never seen; the kernel refuses only `SIGKILL` and `SIGSTOP`.
pub fn ignore_sigio() -> std::io::Result<()> {
    // SAFETY: SIG_IGN installs no code of ours, so nothing can run in signal context.
    match unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) } {
        libc::SIG_ERR => Err(std::io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};

    use super::*;

    fn probe(path: &std::path::Path) -> Lease {
        ignore_sigio().unwrap();
        open_for_writing(File::open(path).unwrap())
    }

    /// trap T6: a file is handed on as soon as its writer is done, not after a guess.
    #[test]
    fn a_writer_shows_until_it_closes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let writer = File::create(&path).unwrap();
        assert_eq!(probe(&path), Lease::Busy);
        drop(writer);
        assert_eq!(probe(&path), Lease::Idle);
        assert_eq!(probe(&path), Lease::Idle, "the lease was given back");
        let _reader = File::open(&path).unwrap();
        assert_eq!(probe(&path), Lease::Idle, "readers do not count");
    }

    /// trap T6, T7: a writer that closed its descriptor and holds only a shared mapping.
    #[test]
    fn a_writer_by_mmap_alone_shows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, [0; 4096]).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let (read_write, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a fresh mapping of a file of one page, unmapped below, never dereferenced.
        let map = unsafe {
            libc::mmap(std::ptr::null_mut(), 4096, read_write, shared, file.as_raw_fd(), 0)
        };
        assert_ne!(map, libc::MAP_FAILED);
        drop(file);
        assert_eq!(probe(&path), Lease::Busy);
        // SAFETY: mapped above, used nowhere.
        assert_eq!(unsafe { libc::munmap(map, 4096) }, 0);
        assert_eq!(probe(&path), Lease::Idle);
    }

    /// A program that opens for writing right after the probe is not held up by it.
    #[test]
    fn a_probe_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"x").unwrap();
        ignore_sigio().unwrap();
        let reader = File::open(&path).unwrap();
        assert_eq!(open_for_writing(&reader), Lease::Idle);
        let _writer = OpenOptions::new().write(true).open(&path).unwrap();
        assert_eq!(open_for_writing(&reader), Lease::Busy);
    }
}
