//! How tests get to a daemon's admin port.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use pickbox_admin::client;

use super::Host;

/// An admin port, which can be reached on its daemon's host only.
#[derive(Clone, Debug)]
pub struct Door {
    /// The daemon's host; this machine, if none.
    pub host: Option<Host>,
    /// Where it is there.
    pub address: SocketAddr,
}

impl Door {
    /// A connection, which may be used from anywhere.
    ///
    /// # Errors
    /// When the daemon does not take it within `patience`.
    pub fn connect(&self, patience: Duration) -> io::Result<TcpStream> {
        self.there(|| TcpStream::connect_timeout(&self.address, patience))
    }

    /// One request and its answer.
    ///
    /// # Errors
    /// When it does not answer within `patience`.
    pub fn ask(&self, line: &str, patience: Duration) -> io::Result<String> {
        self.there(|| client::ask(self.address, line, patience))
    }

    fn there<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.host {
            Some(host) => host.within(work),
            None => work(),
        }
    }
}
