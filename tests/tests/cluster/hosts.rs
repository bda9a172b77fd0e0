//! Nodes on hosts of their own, joined by a network that breaks: `make test-cluster HOSTS=netns`.
//!
//! Namespaces need root. Where these tests cannot run they say so and pass; the continuous
//! integration runs them.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use pickbox_tests::cluster::hosts::{Host, Network, are_wanted};

/// How long the probe below waits for a packet that must not come: a switch in the same kernel
/// needs microseconds. (One that comes late makes the test weaker, not wrong.)
const SILENCE: Duration = Duration::from_millis(100);

/// A socket on a host for everything that is sent there.
fn mailbox(host: &Host) -> UdpSocket {
    let socket = host.within(|| UdpSocket::bind((host.address, 9)).unwrap());
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    socket
}

fn arrives(from: &UdpSocket, to: &UdpSocket) -> bool {
    from.send_to(b"x", to.local_addr().unwrap()).unwrap();
    match to.recv(&mut [0; 1]) {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => panic!("{error}"),
    }
}

/// A test that cannot fail is a defect: the network is one, and breaks where it is told to.
#[test]
#[ignore = "needs root: make test-cluster HOSTS=netns"]
fn a_network_breaks_where_it_is_told_to() {
    if !are_wanted() {
        return;
    }
    let mut network = Network::new();
    let [a, b, mut c] = [(); 3].map(|()| network.add_host());
    let [ma, mb, mc] = [&a, &b, &c].map(mailbox);
    let all = |expected: [bool; 6]| {
        let ways = [(&ma, &mb), (&mb, &ma), (&ma, &mc), (&mc, &ma), (&mb, &mc), (&mc, &mb)];
        assert_eq!(ways.map(|(from, to)| arrives(from, to)), expected, "ab ba ac ca bc cb");
    };
    all([true; 6]);
    network.cut_off(&[&c]);
    all([true, true, false, false, false, false]);
    network.cut_off(&[&a, &b]);
    all([true, true, false, false, false, false]);
    network.drop_one_way(&b, &a);
    all([true, false, true, true, true, true]);
    network.lose(50);
    let arrived = (0..64).filter(|_| arrives(&ma, &mb)).count();
    // All or none of 64: 1 in 10^19.
    assert!((1..64).contains(&arrived), "{arrived} of 64");
    network.heal();
    all([true; 6]);
    c.move_to(Ipv4Addr::new(10, 77, 0, 103));
    assert!(!arrives(&ma, &mc), "nobody is there any more");
    assert!(arrives(&ma, &mailbox(&c)));
}

/// Ports of a host are its own: loopback reaches nobody else's.
#[test]
#[ignore = "needs root: make test-cluster HOSTS=netns"]
fn each_host_has_a_loopback_of_its_own() {
    if !are_wanted() {
        return;
    }
    let mut network = Network::new();
    let [one, two] = [(); 2].map(|()| network.add_host());
    let at = "127.0.0.1:8001";
    let listen = |host: &Host| host.within(|| TcpListener::bind(at).unwrap());
    let _listener = listen(&one);
    assert!(one.within(|| TcpStream::connect(at).is_ok()));
    let refused = two.within(|| TcpStream::connect(at).unwrap_err());
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let _same_port = listen(&two);
}
