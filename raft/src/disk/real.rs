//! The disk of a real state directory.

use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{self, AtFlags, CWD, Dir, FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, pread, pwritev, retry_on_intr};

use super::{Disk, DiskError, DiskFile, DiskResult, Operation};

/// Only the owner may enter the state directory.
const DIRECTORY_MODE: Mode = Mode::RWXU;
/// Only the owner may read or write its files.
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// A state directory, locked against a second daemon for as long as a clone of this lives.
///
/// All paths are walked from its descriptor and stay beneath it, without symlinks.
#[derive(Clone, Debug)]
pub struct RealDisk {
    root: Arc<OwnedFd>,
}

impl RealDisk {
    /// Opens the state directory and locks it; creates it (mode 0700) if it is missing and its
    /// parent exists.
    ///
    /// # Errors
    /// - [`DiskError::is_locked`]: another daemon works on it.
    /// - Permission denied: others than the owner may enter it, or it belongs to another user.
    /// - Whatever else the system says.
    pub fn open(directory: &Path) -> DiskResult<Self> {
        let shown = directory.to_string_lossy().into_owned();
        let fail = |operation, source: io::Error| DiskError::new(operation, &shown, source);
        match fs::mkdir(directory, DIRECTORY_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(fail(Operation::Create, errno.into())),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let root = fs::openat(CWD, directory, flags, Mode::empty())
            .map_err(|errno| fail(Operation::Open, errno.into()))?;
        check_private(&root).map_err(|source| fail(Operation::Open, source))?;
        fs::flock(&root, FlockOperation::NonBlockingLockExclusive).map_err(|errno| {
            let source = match errno {
                Errno::WOULDBLOCK => {
                    io::Error::new(io::ErrorKind::WouldBlock, "another daemon is using it")
                }
                other => other.into(),
            };
            fail(Operation::Open, source)
        })?;
        Ok(Self { root: Arc::new(root) })
    }

    /// The descriptor of the directory, for those who check or sync its file system.
    #[must_use]
    pub fn root(&self) -> &OwnedFd {
        &self.root
    }

    fn open_beneath(&self, path: &str, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let path = if path.is_empty() { "." } else { path };
        retry_on_intr(|| fs::openat2(&*self.root, path, flags | OFlags::CLOEXEC, mode, resolve))
    }

    fn file(&self, path: &str, flags: OFlags, operation: Operation) -> DiskResult<RealFile> {
        let mode = if flags.contains(OFlags::CREATE) { FILE_MODE } else { Mode::empty() };
        let fd = self
            .open_beneath(path, flags | OFlags::RDWR | OFlags::NOCTTY, mode)
            .map_err(|errno| DiskError::new(operation, path, errno.into()))?;
        check_private(&fd).map_err(|source| DiskError::new(operation, path, source))?;
        Ok(RealFile { fd, path: path.to_owned() })
    }

    fn directory(&self, path: &str, operation: Operation) -> DiskResult<OwnedFd> {
        self.open_beneath(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
            .map_err(|errno| DiskError::new(operation, path, errno.into()))
    }
}

/// Refuses what others may enter or read, or another user owns.
fn check_private(fd: &OwnedFd) -> io::Result<()> {
    let stat = fs::fstat(fd)?;
    let mode = Mode::from_raw_mode(stat.st_mode);
    if mode.intersects(Mode::RWXG | Mode::RWXO) {
        let mode = mode.as_raw_mode();
        let text = format!("others may enter or read it (mode {mode:o}): chmod go-rwx it");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        let text = format!("it belongs to another user (uid {})", stat.st_uid);
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(())
}

impl Disk for RealDisk {
    type File = RealFile;

    fn open(&self, path: &str) -> DiskResult<RealFile> {
        self.file(path, OFlags::empty(), Operation::Open)
    }

    fn create(&self, path: &str) -> DiskResult<RealFile> {
        self.file(path, OFlags::CREATE | OFlags::EXCL, Operation::Create)
    }

    fn make_dir(&self, path: &str) -> DiskResult<()> {
        match fs::mkdirat(&*self.root, path, DIRECTORY_MODE) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(DiskError::new(Operation::Create, path, errno.into())),
        }
    }

    fn list(&self, path: &str) -> DiskResult<Vec<String>> {
        let fail = |errno: Errno| DiskError::new(Operation::List, path, errno.into());
        let mut names = Vec::new();
        for entry in Dir::new(self.directory(path, Operation::List)?).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name).to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> DiskResult<()> {
        fs::renameat(&*self.root, from, &*self.root, to)
            .map_err(|errno| DiskError::new(Operation::Rename, from, errno.into()))
    }

    fn remove(&self, path: &str) -> DiskResult<()> {
        fs::unlinkat(&*self.root, path, AtFlags::empty())
            .map_err(|errno| DiskError::new(Operation::Remove, path, errno.into()))
    }

    fn sync_dir(&self, path: &str) -> DiskResult<()> {
        fs::fsync(self.directory(path, Operation::Sync)?)
            .map_err(|errno| DiskError::new(Operation::Sync, path, errno.into()))
    }
}

/// A file of a [`RealDisk`].
#[derive(Debug)]
pub struct RealFile {
    fd: OwnedFd,
    path: String,
}

impl RealFile {
    fn fail(&self, operation: Operation, source: impl Into<io::Error>) -> DiskError {
        DiskError::new(operation, &self.path, source.into())
    }
}

impl AsFd for RealFile {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> DiskResult<usize> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset + u64::try_from(done).unwrap_or(u64::MAX - offset);
            let read = retry_on_intr(|| pread(&self.fd, &mut *rest, at))
                .map_err(|errno| self.fail(Operation::Read, errno))?;
            if read == 0 {
                break;
            }
            done += read;
        }
        Ok(done)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> DiskResult<()> {
        let mut owned = parts.to_vec();
        let mut rest: &mut [IoSlice<'_>] = &mut owned;
        let mut at = offset;
        // Empty parts in front would make a finished write look like one that made no progress.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let written = retry_on_intr(|| pwritev(&self.fd, rest, at))
                .map_err(|errno| self.fail(Operation::Write, errno))?;
            if written == 0 {
                return Err(self.fail(Operation::Write, io::ErrorKind::WriteZero));
            }
            IoSlice::advance_slices(&mut rest, written);
            at += u64::try_from(written).unwrap_or(0);
        }
        Ok(())
    }

    fn sync_data(&self) -> DiskResult<()> {
        // An interrupted sync is a failed one: it is not asked again.
        fs::fdatasync(&self.fd).map_err(|errno| self.fail(Operation::Sync, errno))
    }

    fn length(&self) -> DiskResult<u64> {
        let stat = fs::fstat(&self.fd).map_err(|errno| self.fail(Operation::Length, errno))?;
        u64::try_from(stat.st_size)
            .map_err(|_| self.fail(Operation::Length, io::ErrorKind::InvalidData))
    }
}
