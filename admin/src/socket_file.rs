//! The admin socket in the file system: made for those who may connect, gone with the server.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};

use mio::net::{UnixListener, UnixStream};
use rustix::fs::{self, AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

use crate::people::group_number;

/// Longest path of a unix socket in bytes, without the zero byte after it (unix(7)).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A unix socket that listens, and its file.
#[derive(Debug)]
pub(crate) struct SocketFile {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode: what the path means later may be another's.
    file: (u64, u64),
}

impl SocketFile {
    /// Listens at `path`. Only the own user may connect (mode 0600), and the users of `group` (0660) if
    /// there is such a group and it may be given to the file.
    ///
    /// # Errors
    /// When something else is at that path, somebody answers there, or it cannot be made.
    pub(crate) fn listen(path: PathBuf, group: Option<&str>, backlog: i32) -> io::Result<Self> {
        if !fits(&path) {
            let text = format!(
                "the path is over {SOCKET_PATH_BYTES_MAX} bytes: say --admin-socket with a shorter one"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        make_way(&path)?;
        let socket = stream_socket()?;
        // bind(2) takes the mode from here, so at no time can anybody else connect.
        fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        bind(&socket, &SocketAddrUnix::new(&path)?)?;
        let handle =
            fs::open(&path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let file = identity(&fs::fstat(&handle)?);
        let listening = Self::start(socket, path, file, backlog)?;
        if let Some(group) = group.and_then(group_number) {
            // Not every user may give a file to that group; then the others have the TCP port.
            if let Err(error) = share(&handle, Gid::from_raw(group)) {
                log::info!("admin=socket group={group} error=\"{error}\"");
            }
        }
        Ok(listening)
    }

    fn start(socket: OwnedFd, path: PathBuf, file: (u64, u64), backlog: i32) -> io::Result<Self> {
        listen(&socket, backlog)?;
        let listener = UnixListener::from_std(StdListener::from(socket));
        Ok(Self { listener, path, file })
    }

    pub(crate) fn listener(&mut self) -> &mut UnixListener {
        &mut self.listener
    }

    pub(crate) fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().map(|(stream, _)| stream)
    }
}

impl Drop for SocketFile {
    /// Takes the file away, if it is still the one.
    fn drop(&mut self) {
        // RACE: between the look and the removal another server could have put its socket there, which
        // would be removed: it would have had to find this one not answering.
        let found = fs::statat(CWD, &self.path, AtFlags::SYMLINK_NOFOLLOW);
        if found.is_ok_and(|stat| identity(&stat) == self.file)
            && let Err(error) = fs::unlinkat(CWD, &self.path, AtFlags::empty())
        {
            log::warn!("admin=socket path=\"{}\" error=\"{error}\"", self.path.display());
        }
    }
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

fn stream_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// Gives the file behind a handle to a group whose users may connect then.
fn share(handle: &OwnedFd, group: Gid) -> io::Result<()> {
    // The service manager may keep a daemon from giving files away that has the group as its own.
    if fs::fstat(handle)?.st_gid != group.as_raw() {
        fs::chownat(handle, "", None, Some(group), AtFlags::EMPTY_PATH)?;
    }
    // A handle of O_PATH takes no fchmod(2); this names the same file, whatever the path means now.
    let name = format!("/proc/self/fd/{}", handle.as_raw_fd());
    Ok(fs::chmod(name, Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP)?)
}

/// Removes the socket that a server left behind that was killed. Nothing else is removed: no file of
/// another kind, and no socket at which somebody answers.
fn make_way(path: &Path) -> io::Result<()> {
    let stat = match fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        let text = "there is a file that is no socket; it was left as it is: remove it, or say \
                    --admin-socket elsewhere";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    // RACE: two servers that start at the same moment with the same path can both find it dead; one of
    // them then listens at a socket without a name. The state directory, where it is unless somebody
    // says otherwise, is locked.
    match connect(stream_socket()?, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED) => Ok(fs::unlinkat(CWD, path, AtFlags::empty())?),
        Err(Errno::NOENT) => Ok(()),
        Ok(()) | Err(Errno::AGAIN) => {
            let text = "another program answers there: say --admin-socket elsewhere";
            Err(io::Error::new(io::ErrorKind::AddrInUse, text))
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether a unix socket can have this path.
#[must_use]
pub fn fits(path: &Path) -> bool {
    OsString::from(path).len() <= SOCKET_PATH_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::net::UnixStream as Client;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        (directory, path)
    }

    fn make(path: &Path, group: Option<&str>) -> io::Result<SocketFile> {
        SocketFile::listen(path.to_owned(), group, 8)
    }

    /// Source: fault 91; unix(7): who connects needs write permission on the socket.
    #[test]
    fn nobody_else_may_connect_and_the_file_goes_with_the_server() {
        let (_directory, path) = place();
        let file = make(&path, Some("no-such-group-here")).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        Client::connect(&path).unwrap();
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn the_admin_group_may_connect() {
        let (_directory, path) = place();
        let own = nix::unistd::Group::from_gid(nix::unistd::getegid()).unwrap().unwrap();
        let _file = make(&path, Some(&own.name)).unwrap();
        let stat = path.metadata().unwrap();
        assert_eq!((stat.permissions().mode() & 0o777, stat.gid()), (0o660, own.gid.as_raw()));
    }

    /// A server that was killed leaves its socket; one that lives keeps it.
    #[test]
    fn only_a_dead_socket_is_replaced() {
        let (_directory, path) = place();
        drop(StdListener::bind(&path).unwrap());
        assert!(path.exists(), "the std leaves it, as a killed server does");
        let alive = make(&path, None).unwrap();
        let error = make(&path, None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        Client::connect(&path).unwrap();
        drop(alive);
    }

    #[test]
    fn what_is_no_socket_stays() {
        let (directory, path) = place();
        std::fs::write(&path, "precious").unwrap();
        assert_eq!(make(&path, None).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(make(&link, None).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(make(&link, None).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(!path.exists(), "nothing is made behind a link");
    }

    #[test]
    fn what_another_has_put_there_meanwhile_stays() {
        let (directory, path) = place();
        let file = make(&path, None).unwrap();
        std::fs::rename(&path, directory.path().join("old")).unwrap();
        let _other = StdListener::bind(&path).unwrap();
        drop(file);
        assert!(path.exists());
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_known() {
        let (directory, _) = place();
        let left = SOCKET_PATH_BYTES_MAX - directory.path().as_os_str().len() - 1;
        let longest = directory.path().join("x".repeat(left));
        assert!(fits(&longest) && make(&longest, None).is_ok());
        let longer = directory.path().join("x".repeat(left + 1));
        assert!(!fits(&longer) && make(&longer, None).is_err());
    }
}
