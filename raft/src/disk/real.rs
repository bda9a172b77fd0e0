//! The disk of a real state directory.

use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{self, AtFlags, CWD, Dir, FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, pread, pwritev, retry_on_intr};

use super::{Disk, DiskError, DiskFile, DiskResult, Operation, private};

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
    /// Where it was when it was opened: for messages.
    path: Arc<Path>,
}

impl RealDisk {
    /// Opens the state directory and locks it; creates it (mode 0700) if it is missing and its
    /// parent exists.
    ///
    /// # Errors
    /// - [`DiskError::is_locked`]: another daemon works on it.
    /// - Permission denied: others than the owner may enter it or read a file in it, or another user owns
    ///   one of these.
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
        private::check(&root, directory).map_err(|source| fail(Operation::Open, source))?;
        fs::flock(&root, FlockOperation::NonBlockingLockExclusive).map_err(|errno| {
            let source = match errno {
                Errno::WOULDBLOCK => {
                    io::Error::new(io::ErrorKind::WouldBlock, "another daemon is using it")
                }
                other => other.into(),
            };
            fail(Operation::Open, source)
        })?;
        private::check_entries(&root, directory).map_err(|source| fail(Operation::Open, source))?;
        Ok(Self { root: Arc::new(root), path: directory.into() })
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
        private::check(&fd, &self.path.join(path))
            .map_err(|source| DiskError::new(operation, path, source))?;
        Ok(RealFile { fd, path: path.to_owned() })
    }

    fn directory(&self, path: &str, operation: Operation) -> DiskResult<OwnedFd> {
        self.open_beneath(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
            .map_err(|errno| DiskError::new(operation, path, errno.into()))
    }
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn opened() -> (tempfile::TempDir, RealDisk) {
        let directory = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(&directory.path().join("state")).unwrap();
        (directory, disk)
    }

    /// Source: fault 10: two daemons on one state directory.
    #[test]
    fn a_second_daemon_is_told_that_the_directory_is_in_use() {
        let (directory, disk) = opened();
        let error = RealDisk::open(&directory.path().join("state")).unwrap_err();
        assert!(error.is_locked());
        assert!(error.to_string().contains("another daemon is using it"), "{error}");
        let clone = disk.clone();
        drop(disk);
        assert!(RealDisk::open(&directory.path().join("state")).is_err(), "a clone holds it too");
        drop(clone);
        RealDisk::open(&directory.path().join("state")).unwrap();
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    /// Source: fault 74, 91: what others may enter or read is refused, and the message says what to run.
    #[test]
    fn what_others_may_enter_or_read_is_refused() {
        let (directory, disk) = opened();
        disk.make_dir("wal").unwrap();
        disk.make_dir("history").unwrap();
        for name in ["node.key", "index.redb", "wal/00000001.wal", "history/of-a-user"] {
            disk.create(name).unwrap();
        }
        drop(disk);
        let state = directory.path().join("state");
        assert_eq!(state.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        // What was displaced keeps the mode that its user gave it.
        set_mode(&state.join("history/of-a-user"), 0o644);
        RealDisk::open(&state).unwrap();
        for (name, mode) in [
            ("", 0o750),
            ("node.key", 0o640),
            ("node.key", 0o604),
            ("index.redb", 0o620),
            ("wal", 0o701),
            ("wal/00000001.wal", 0o644),
            ("history", 0o755),
        ] {
            let path = if name.is_empty() { state.clone() } else { state.join(name) };
            let right = path.metadata().unwrap().permissions().mode() & 0o777;
            set_mode(&path, mode);
            let error = RealDisk::open(&state).unwrap_err();
            assert_eq!(error.source.kind(), io::ErrorKind::PermissionDenied);
            let command = format!("`chmod go-rwx '{}'`", path.display());
            assert!(error.to_string().contains(&command), "{name} {mode:o}: {error}");
            set_mode(&path, right);
            RealDisk::open(&state).unwrap();
        }
    }

    /// Source: fault 74: what belongs to another user is refused, with the command that mends it.
    #[test]
    fn what_another_user_owns_is_refused() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let (directory, disk) = opened();
        disk.create("node.key").unwrap();
        drop(disk);
        let state = directory.path().join("state");
        for path in [state.join("node.key"), state.clone()] {
            std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
            let error = RealDisk::open(&state).unwrap_err().to_string();
            let command = format!("`chown 0 '{}'`", path.display());
            assert!(error.contains(&command) && error.contains("uid 12345"), "{error}");
            std::os::unix::fs::chown(&path, Some(0), None).unwrap();
        }
        RealDisk::open(&state).unwrap();
    }

    /// Source: P7: no path leaves the state directory.
    #[test]
    fn paths_stay_beneath_the_directory_and_follow_no_symlink() {
        let (directory, disk) = opened();
        std::fs::write(directory.path().join("outside"), b"x").unwrap();
        symlink("../outside", directory.path().join("state/link")).unwrap();
        for path in ["../outside", "/etc/passwd", "link"] {
            assert!(disk.open(path).is_err(), "{path}");
        }
    }

    /// Source: the contract of `Disk`, on a real file system.
    #[test]
    fn files_are_written_read_renamed_and_removed() {
        let (_directory, disk) = opened();
        disk.make_dir("sub").unwrap();
        disk.make_dir("sub").unwrap();
        let file = disk.create("sub/file").unwrap();
        assert!(disk.create("sub/file").is_err());
        let parts = [IoSlice::new(b""), IoSlice::new(b"one, "), IoSlice::new(b"two")];
        file.write_at(&parts, 3).unwrap();
        file.write_zeros(100_000, 70_000).unwrap();
        file.sync_data().unwrap();
        assert_eq!(file.length().unwrap(), 170_000);
        let mut buffer = [9; 12];
        assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 12);
        assert_eq!(&buffer, b"\0\0\0one, two\0");
        assert_eq!(file.read_at(&mut buffer, 169_995).unwrap(), 5, "up to the end");
        disk.rename("sub/file", "sub/other").unwrap();
        disk.sync_dir("sub").unwrap();
        assert_eq!(disk.list("sub").unwrap(), ["other"]);
        assert!(disk.open("sub/file").unwrap_err().is_not_found());
        disk.remove("sub/other").unwrap();
        assert!(disk.list("sub").unwrap().is_empty());
        assert_eq!(disk.list("").unwrap(), ["sub"]);
    }

    /// Source: writev(2): more parts than one system call takes, and as one write to the caller.
    #[test]
    fn a_write_of_many_parts_is_whole() {
        let (_directory, disk) = opened();
        let file = disk.create("file").unwrap();
        let words: Vec<_> = (0..3000).map(|number| format!("{number},")).collect();
        let parts: Vec<_> = words.iter().map(|word| IoSlice::new(word.as_bytes())).collect();
        file.write_at(&parts, 0).unwrap();
        let mut bytes = vec![0; words.concat().len()];
        file.read_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes, words.concat().into_bytes());
    }
}
