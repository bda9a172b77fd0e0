//! Telling the service manager how the daemon is: `sd_notify(3)`, datagrams of `NAME=VALUE` lines to the
//! socket that `NOTIFY_SOCKET` names. Without one nothing is told.
//!
//! Own code, for all there is to it is a connected socket. It is connected before the sandbox, whose
//! rules keep sockets that have no path (`@NAME`) from being found later.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Where the service manager listens, if there is one.
#[derive(Debug)]
pub(crate) struct Notifier {
    socket: Option<UnixDatagram>,
    /// How long the service manager waits for a sign of life.
    watchdog: Option<Duration>,
}

impl Notifier {
    /// The one that the environment names. It stays in there, for a daemon that begins anew.
    pub(crate) fn from_environment() -> Self {
        let Some(address) = std::env::var_os("NOTIFY_SOCKET").filter(|text| !text.is_empty())
        else {
            return Self { socket: None, watchdog: None };
        };
        let socket = connect(&address);
        if let Err(error) = &socket {
            log::warn!("event=not_notified socket=\"{}\" error=\"{error}\"", address.display());
        }
        let variable = |name| std::env::var(name).ok();
        let watchdog = watchdog(
            variable("WATCHDOG_USEC").as_deref(),
            variable("WATCHDOG_PID").as_deref(),
            std::process::id(),
        );
        Self { socket: socket.ok(), watchdog }
    }

    /// How often to look whether the daemon is at work; `None` if nobody wants to know.
    pub(crate) fn look_every(&self) -> Option<Duration> {
        // A sign of life comes at the second look at the earliest, and twice in the time given.
        self.socket.as_ref().and(self.watchdog).map(|patience| patience / 4)
    }

    /// The node serves.
    pub(crate) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// What it is doing, for people.
    pub(crate) fn status(&self, status: &str) {
        self.tell(&format!("STATUS={status}"));
    }

    /// It ends.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping");
    }

    /// It is at work.
    pub(crate) fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    fn tell(&self, text: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(text.as_bytes()) {
            log::debug!("event=not_notified error=\"{error}\"");
        }
    }
}

/// A path, or a name in the abstract namespace with `@` for its zero byte.
fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(address)?,
        _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "neither a path nor @NAME")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // A service manager that does not read must not hold up the daemon.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// `sd_watchdog_enabled(3)`: so many microseconds, if it is this process that is meant.
fn watchdog(micros: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    let is_other = pid.is_some_and(|pid| pid.parse() != Ok(own));
    let micros = micros?.parse().ok().filter(|&micros| micros > 0 && !is_other);
    micros.map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_for_the_process_that_is_meant() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog(Some("1000000"), None, 7), second);
        assert_eq!(watchdog(Some("1000000"), Some("7"), 7), second);
        for (micros, pid) in
            [(Some("1000000"), Some("8")), (Some("0"), None), (Some("x"), None), (None, None)]
        {
            assert_eq!(watchdog(micros, pid, 7), None, "{micros:?} {pid:?}");
        }
    }

    /// Source: `sd_notify(3)`: both forms of an address.
    #[test]
    fn what_is_told_arrives_whole() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("notify");
        let name = format!("@pickbox-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name.as_bytes()[1..]).unwrap();
        for (address, socket) in [
            (path.as_os_str(), UnixDatagram::bind(&path).unwrap()),
            (OsStr::new(&name), UnixDatagram::bind_addr(&abstract_name).unwrap()),
        ] {
            let notifier = Notifier { socket: Some(connect(address).unwrap()), watchdog: None };
            notifier.ready("node1 serves");
            notifier.stopping();
            let mut bytes = [0; 256];
            let count = socket.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..count], b"READY=1\nSTATUS=node1 serves");
            let count = socket.recv(&mut bytes).unwrap();
            assert!(bytes[..count].starts_with(b"STOPPING=1"));
        }
        assert!(connect(OsStr::new("relative")).is_err());
    }
}
