//! The same from `/proc/net/tcp` and `/proc/net/tcp6` (proc(5)), where netlink is not to be had: a
//! sandbox without that family of sockets, a kernel without `sock_diag`.
//!
//! ```text
//!   sl  local_address rem_address   st tx_queue:rx_queue tr:tm->when retrnsmt   uid  timeout inode
//!    0: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 40077 ...
//! ```
//!
//! An address is written in words of 32 bits, each as a number of this machine whose bytes are
//! those of the network; a port is a plain number.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Ends, Socket};

/// The socket with these ends.
///
/// # Errors
/// When the tables cannot be read.
pub(super) fn find(wanted: Ends) -> io::Result<Option<Socket>> {
    // A socket of v6 may be connected to an address of v4, so it may stand in either.
    let tables = if wanted.source.is_ipv4() {
        &["/proc/net/tcp", "/proc/net/tcp6"][..]
    } else {
        &["/proc/net/tcp6"][..]
    };
    for table in tables {
        let file = match File::open(table) {
            // A kernel without v6 has no table of it.
            Err(error) if error.kind() == io::ErrorKind::NotFound && table.ends_with('6') => {
                continue;
            }
            other => other?,
        };
        for line in BufReader::new(file).lines() {
            if let Some(socket) = read(&line?).filter(|socket| socket.ends == wanted) {
                return Ok(Some(socket));
            }
        }
    }
    Ok(None)
}

/// Reads a line; the head is none.
fn read(line: &str) -> Option<Socket> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [_, source, destination, state, _, _, _, uid, _, inode, ..] = words.as_slice() else {
        return None;
    };
    Some(Socket {
        ends: Ends::new(end(source)?, end(destination)?),
        state: u8::from_str_radix(state, 16).ok()?,
        uid: uid.parse().ok()?,
        inode: inode.parse().ok()?,
    })
}

fn end(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let mut words = [0; 4];
    let mut count = 0;
    for (word, digits) in words.iter_mut().zip(address.as_bytes().chunks(8)) {
        *word = u32::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
        count += 1;
    }
    let [a, b, c, d] = words.map(u32::to_ne_bytes);
    let address = match (count, address.len()) {
        (1, 8) => IpAddr::V4(Ipv4Addr::from(a)),
        (4, 32) => {
            let mut octets = [0; 16];
            let bytes = [a, b, c, d].into_iter().flatten();
            octets.iter_mut().zip(bytes).for_each(|(octet, byte)| *octet = byte);
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source: proc(5), and the file of a machine that has both families.
    #[test]
    #[cfg(target_endian = "little")]
    fn lines_are_read_as_the_kernel_writes_them() {
        let line = "   3: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000  \
                    1000        0 40077 1 0000000006235b9a 20 4 30 10 -1";
        let socket = read(line).unwrap();
        assert_eq!(socket.ends.source, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(socket.ends.destination, "127.0.0.1:50000".parse().unwrap());
        assert_eq!((socket.state, socket.uid, socket.inode), (1, 1000, 40077));
        assert_eq!(end("00000000000000000000000001000000:0016"), Some("[::1]:22".parse().unwrap()));
        let mapped = end("0000000000000000FFFF00000100007F:0016").unwrap();
        assert_eq!(mapped.ip().to_canonical(), IpAddr::V4(Ipv4Addr::LOCALHOST));
    }

    #[test]
    fn what_is_no_socket_is_none() {
        for line in
            ["", "  sl  local_address rem_address   st tx_queue rx_queue", "a b c d e f g h i j"]
        {
            assert_eq!(read(line), None);
        }
        assert_eq!(end("0100007F0:1F90"), None);
        assert_eq!(end("0100007F:1F90F"), None);
    }
}
