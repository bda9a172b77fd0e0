//! Real sockets of this host; each way of asking is asked.

use super::*;
use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType};

type Find = fn(Ends) -> io::Result<Option<Socket>>;
const WAYS: [(&str, Find); 3] =
    [("sock_diag", diag::find), ("/proc/net/tcp", table::find), ("both", find)];

fn me() -> Uid {
    rustix::process::geteuid()
}

/// A client and the server's side of its connection.
fn pair(address: &str) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(address).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

fn ends(accepted: &TcpStream) -> Ends {
    Ends::new(accepted.peer_addr().unwrap(), accepted.local_addr().unwrap())
}

/// Source: `sock_diag(7)`, proc(5): the owner of the client's socket, in both families.
#[test]
fn a_client_is_known_by_its_socket() {
    for address in ["127.0.0.1:0", "127.8.9.10:0", "[::1]:0"] {
        let (_client, accepted) = pair(address);
        for (way, find) in WAYS {
            let socket = find(ends(&accepted)).unwrap().unwrap();
            assert_eq!(socket.owner(), Some(me()), "{way} {address}");
        }
        assert_eq!(peer_of(&accepted).unwrap(), Some(me()), "{address}");
    }
}

/// Source: ipv6(7), "IPv4 and IPv6": a socket of v6 has v4-mapped addresses when it talks to v4.
#[test]
fn a_client_is_known_whatever_family_its_socket_is_of() {
    let mapped = |port| SocketAddr::new(Ipv6Addr::from(0xffff_7f00_0001_u128).into(), port);
    let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = v4.local_addr().unwrap().port();
    let (_client, accepted) = (TcpStream::connect(mapped(port)).unwrap(), v4.accept().unwrap().0);
    for (way, find) in WAYS {
        let socket = find(ends(&accepted)).unwrap().unwrap();
        assert_eq!(socket.owner(), Some(me()), "a client of v6, {way}");
    }
    let v6 = TcpListener::bind("[::]:0").unwrap();
    let port = v6.local_addr().unwrap().port();
    let (_client, accepted) =
        (TcpStream::connect(("127.0.0.1", port)).unwrap(), v6.accept().unwrap().0);
    assert!(accepted.peer_addr().unwrap().is_ipv6(), "mapped, or this test shows nothing");
    assert_eq!(peer_of(&accepted).unwrap(), Some(me()), "a server of v6");
}

/// Source: fault 91; `inet_diag_msg_common_fill` in the kernel: a socket without a process has
/// uid 0, so who connects, sends and closes before accept would be root.
#[test]
fn who_has_closed_is_nobody() {
    let (mut client, accepted) = pair("127.0.0.1:0");
    client.write_all(b"REMOVE node1\n").unwrap();
    drop(client);
    for (way, find) in WAYS {
        let owner = find(ends(&accepted)).unwrap().and_then(Socket::owner);
        assert_eq!(owner, None, "{way}");
    }
    assert_eq!(peer_of(&accepted).unwrap(), None);
    // The kernel does say that: the connection is there, and it is root's.
    let left = diag::find(ends(&accepted)).unwrap().unwrap();
    assert_eq!((left.uid, left.inode), (0, 0));
}

/// Source: RFC 9293, 3.6: a client that will send nothing more still takes the answer (`nc -N`).
#[test]
fn who_has_only_ended_its_input_is_known() {
    let (client, accepted) = pair("127.0.0.1:0");
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(peer_of(&accepted).unwrap(), Some(me()));
}

/// Source: tcp(7), `SO_LINGER` in socket(7): a connection that was reset has no peer, and its
/// addresses are free for another one, while what it sent can still be read.
#[test]
fn who_has_reset_the_connection_is_not_who_comes_from_the_same_port() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    // From an address that no other test uses: the port is to be free when it comes again.
    let first = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&first, &SocketAddr::from(([127, 7, 7, 7], 0))).unwrap();
    rustix::net::connect(&first, &to).unwrap();
    let mut first = TcpStream::from(first);
    first.write_all(b"REMOVE node1\n").unwrap();
    let accepted = listener.accept().unwrap().0;
    let from = first.local_addr().unwrap();
    let second = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    let mut owner = None;
    let client = peer_by(&accepted, |local, peer| {
        rustix::net::sockopt::set_socket_linger(&first, Some(Duration::ZERO)).unwrap();
        drop(first);
        assert_eq!(owner_of(local, peer).unwrap(), None);
        rustix::net::bind(&second, &from).unwrap();
        rustix::net::connect(&second, &to).unwrap();
        owner = owner_of(local, peer).unwrap();
        Ok(owner)
    });
    assert_eq!(owner, Some(me()), "the same addresses, another connection");
    assert_eq!(client.unwrap(), None);
    assert_eq!(peer_of(&accepted).unwrap(), None);
    assert_eq!(peer_of(listener.accept().unwrap().0).unwrap(), Some(me()));
    assert_eq!((&accepted).read(&mut [0; 64]).unwrap(), 13);
}

/// Source: `inet_diag_find_one_icsk` in the kernel: where there is no such connection it takes one
/// that listens at the port, here ours, which would make us the client.
#[test]
fn a_socket_that_listens_at_the_port_is_not_the_client() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let nobody: SocketAddr = "127.0.0.1:1".parse().unwrap();
    assert_eq!(owner_of(nobody, at).unwrap(), None);
}

#[test]
fn the_server_s_own_socket_is_not_the_client_s() {
    let (client, accepted) = pair("127.0.0.1:0");
    let (near, far) = (accepted.local_addr().unwrap(), accepted.peer_addr().unwrap());
    drop(client);
    assert_eq!(owner_of(near, far).unwrap(), None);
    assert_eq!(owner_of(far, near).unwrap(), Some(me()), "the other way round it is ours");
}

#[test]
fn nobody_is_known_from_elsewhere() {
    for (local, peer) in [
        ("192.0.2.1:9001", "192.0.2.1:50000"),
        ("127.0.0.1:9001", "192.0.2.1:50000"),
        ("192.0.2.1:9001", "127.0.0.1:50000"),
        ("[::1]:9001", "127.0.0.1:50000"),
    ] {
        assert_eq!(owner_of(local.parse().unwrap(), peer.parse().unwrap()).unwrap(), None);
    }
}

/// Source: fault 91. Another user's client, which only root can start.
#[test]
fn another_user_is_known_by_its_number() {
    const NOBODY: u32 = 65534;
    if !me().is_root() {
        println!("not root: no client of another user can be started, nothing is shown");
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port} && read -r line <&3");
    let mut child = Command::new("bash")
        .args(["-c", &script])
        .current_dir("/")
        .stdin(Stdio::null())
        .uid(NOBODY)
        .gid(NOBODY)
        .spawn()
        .unwrap();
    let mut accepted = listener.accept().unwrap().0;
    for (way, find) in WAYS {
        let owner = find(ends(&accepted)).unwrap().and_then(Socket::owner);
        assert_eq!(owner, Some(Uid::from_raw(NOBODY)), "{way}");
    }
    let owner = peer_of(&accepted).unwrap().unwrap();
    assert_eq!(owner, Uid::from_raw(NOBODY));
    assert!(!is_self_or_root(owner));
    accepted.write_all(b"\n").unwrap();
    assert_eq!(accepted.read(&mut [0; 1]).unwrap(), 0);
    assert!(child.wait().unwrap().success());
}

#[test]
fn only_root_and_oneself_are_trusted() {
    assert!(is_self_or_root(me()) && is_self_or_root(Uid::ROOT));
    assert!(!is_self_or_root(Uid::from_raw(me().as_raw() + 1)));
}
