//! One socket, by its two ends, from the kernel: `sock_diag(7)` and netlink(7), `linux/inet_diag.h`.
//!
//! Request (72 bytes) and answer (88, attributes after it are left alone), numbers in the order of
//! the machine, but ports and addresses in that of the network:
//!
//! ```text
//! offset  bytes  both: nlmsghdr
//!      0      4  length
//!      4      2  type: 20, SOCK_DIAG_BY_FAMILY; 2: an error
//!      6      2  flags: 1, a request
//!      8      4  sequence
//!     12      4  port of netlink; 0: the kernel
//!
//!                request: inet_diag_req_v2              answer: inet_diag_msg
//!     16      1  family                                 family
//!     17      1  protocol: 6, TCP                       state
//!     18      2  0                                      -
//!     20      4  states, a bit each                     source and destination port
//!     24     48  inet_diag_sockid                       the rest of inet_diag_sockid
//!     72     16                                         expires, queues, then
//!     80      4                                         uid
//!     84      4                                         inode
//!
//! inet_diag_sockid: 2 source port, 2 destination port, 16 source address, 16 destination address,
//!                   4 interface (0: any), 8 cookie (all ones: none)
//! ```

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recvfrom, send,
    socket_with,
};

use super::{Ends, Socket};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const IPPROTO_TCP: u8 = 6;
/// The families as `sock_diag` writes them: one byte.
const INET: u8 = 2;
const INET6: u8 = 10;
/// All of it is room for one answer with its attributes.
const ANSWER_BYTES_MAX: usize = 4096;

/// The socket with these ends; `None`: the kernel knows none, or cannot tell.
///
/// # Errors
/// When the kernel cannot be asked (no netlink here), or answers something else.
pub(super) fn find(wanted: Ends) -> io::Result<Option<Socket>> {
    let kernel = open()?;
    let request = request(wanted);
    let sent = send(&kernel, &request, SendFlags::empty())?;
    if sent != request.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    let mut buffer = [0; ANSWER_BYTES_MAX];
    // The kernel answers within the call that asks: there is nothing to wait for.
    let (_, length, from) = recvfrom(&kernel, &mut buffer, RecvFlags::DONTWAIT | RecvFlags::TRUNC)?;
    let from = from.map(SocketAddrNetlink::try_from).transpose()?;
    if from.is_none_or(|from| from.pid() != 0) {
        return Err(invalid("an answer that is not from the kernel"));
    }
    let answer = buffer.get(..length).ok_or_else(|| invalid("an answer that is too long"))?;
    let found = read(answer)?;
    // The kernel may offer a socket that listens at that port.
    Ok(found.filter(|socket| socket.ends == wanted))
}

fn open() -> io::Result<OwnedFd> {
    let kernel = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    connect(&kernel, &SocketAddrNetlink::new(0, 0))?;
    Ok(kernel)
}

fn request(wanted: Ends) -> Vec<u8> {
    let family = if wanted.source.is_ipv4() { INET } else { INET6 };
    let mut body = vec![family, IPPROTO_TCP, 0, 0];
    body.extend(u32::MAX.to_ne_bytes());
    body.extend(wanted.source.port().to_be_bytes());
    body.extend(wanted.destination.port().to_be_bytes());
    body.extend(address_bytes(wanted.source.ip()));
    body.extend(address_bytes(wanted.destination.ip()));
    body.extend(0_u32.to_ne_bytes());
    body.extend([u8::MAX; 8]);
    let length = HEADER_BYTES + 56;
    let mut message = Vec::with_capacity(72);
    message.extend(length.to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

const HEADER_BYTES: u32 = 16;

fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V6(address) => address.octets(),
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
    }
}

/// Reads one answer; `None` if it says that there is no such socket.
fn read(answer: &[u8]) -> io::Result<Option<Socket>> {
    let short = || invalid("an answer that is too short");
    match u16::from_ne_bytes(part(answer, 4).ok_or_else(short)?) {
        SOCK_DIAG_BY_FAMILY => read_socket(answer).map(Some).ok_or_else(short),
        NLMSG_ERROR => {
            let number = i32::from_ne_bytes(part(answer, 16).ok_or_else(short)?);
            match Errno::from_raw_os_error(number.saturating_neg()) {
                Errno::NOENT => Ok(None),
                error => Err(error.into()),
            }
        }
        _ => Err(invalid("an answer of another type")),
    }
}

fn read_socket(answer: &[u8]) -> Option<Socket> {
    let [family, state] = part(answer, 16)?;
    let address = |at| -> Option<IpAddr> {
        if family == INET {
            return Some(IpAddr::V4(Ipv4Addr::from(part::<4>(answer, at)?)));
        }
        Some(IpAddr::V6(Ipv6Addr::from(part::<16>(answer, at)?)))
    };
    let port = |at| part(answer, at).map(u16::from_be_bytes);
    let source = SocketAddr::new(address(24)?, port(20)?);
    let destination = SocketAddr::new(address(40)?, port(22)?);
    let uid = u32::from_ne_bytes(part(answer, 80)?);
    let inode = u32::from_ne_bytes(part(answer, 84)?).into();
    Some(Socket { ends: Ends::new(source, destination), state, uid, inode })
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("sock_diag: {what}"))
}
