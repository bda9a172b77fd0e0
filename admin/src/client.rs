//! A client for programs of this workspace: one request, one answer, then the connection ends.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use crate::gate::AUTHENTICATED;
use crate::limits::ANSWER_BYTES_MAX;
use crate::token::Secret;

/// Where a node is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Over TCP.
    Tcp(SocketAddr),
    /// At its unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A node to be asked, and what makes it answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where it is.
    pub address: Address,
    /// The token that is said first, if any.
    pub token: Option<Secret>,
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self { address: Address::Tcp(address), token: None }
    }
}

impl From<&Target> for Target {
    fn from(target: &Target) -> Self {
        target.clone()
    }
}

/// Sends one line and returns everything that is answered, without the last newline.
///
/// # Errors
/// When the server cannot be reached, does not answer within `patience` (counted anew for each
/// piece of the answer), or answers something that is too long or no UTF-8.
pub fn ask(target: impl Into<Target>, line: &str, patience: Duration) -> io::Result<String> {
    let Target { address, token } = target.into();
    let mut request = Vec::new();
    if let Some(token) = &token {
        request.extend_from_slice(b"AUTH ");
        request.extend_from_slice(token.bytes());
        request.push(b'\n');
    }
    request.extend_from_slice(line.as_bytes());
    request.push(b'\n');
    let answer = match address {
        Address::Tcp(address) => {
            let stream = TcpStream::connect_timeout(&address, patience)?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            stream.set_nodelay(true)?;
            exchange(&stream, &request, || stream.shutdown(Shutdown::Write))?
        }
        Address::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            exchange(&stream, &request, || stream.shutdown(Shutdown::Write))?
        }
    };
    // Who does not know the token is told so in place of the answer.
    let answer = token.and(answer.strip_prefix(AUTHENTICATED)).unwrap_or(&answer);
    if !answer.ends_with('\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer.trim_end().to_owned())
}

fn exchange<S>(
    mut stream: S,
    request: &[u8],
    shut: impl FnOnce() -> io::Result<()>,
) -> io::Result<String>
where
    S: Read + Write,
{
    stream.write_all(request)?;
    shut()?;
    let mut answer = String::new();
    let limit = u64::try_from(ANSWER_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1024);
    stream.take(limit).read_to_string(&mut answer)?;
    Ok(answer)
}
