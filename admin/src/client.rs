//! A client for programs of this workspace: one request, one answer, then the connection ends.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::limits::ANSWER_BYTES_MAX;

/// Sends one line and returns everything that is answered, without the last newline.
///
/// # Errors
/// When the server cannot be reached, does not answer within `patience` (counted anew for each
/// piece of the answer), or answers something that is too long or no UTF-8.
pub fn ask(address: SocketAddr, line: &str, patience: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.set_nodelay(true)?;
    stream.write_all(format!("{line}\n").as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    let limit = u64::try_from(ANSWER_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1024);
    stream.take(limit).read_to_string(&mut answer)?;
    if !answer.ends_with('\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    answer.truncate(answer.trim_end().len());
    Ok(answer)
}
