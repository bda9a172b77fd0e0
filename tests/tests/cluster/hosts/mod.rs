//! Nodes on hosts of their own, joined by a network that breaks: `make test-cluster HOSTS=netns`.
//!
//! Namespaces need root. Where these tests cannot run they say so and pass; the continuous
//! integration runs them.

mod identity;
mod partitions;

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use pickbox_tests::cluster::hosts::{Host, Network, are_wanted};
use pickbox_tests::cluster::{Cluster, daemon_program};

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
    loop {
        match to.recv(&mut [0; 1]) {
            Ok(_) => return true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            // A wait with an end is not taken up again by the kernel (signal(7)).
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("{error}"),
        }
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
    network.cut_between(&a, &c);
    all([true, true, false, false, true, true]);
    network.drop_one_way(&[&b], &a);
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

/// Starts a daemon on a host and waits for its end.
fn run_to_its_end(host: &Host, words: &[String]) -> Output {
    host.command().args(words).stdin(Stdio::null()).output().unwrap()
}

/// What starts a daemon called `name` on this host, with its folder below `root`.
fn daemon(name: &str, host: &Host, root: &Path, entry: &[String]) -> Vec<String> {
    let mut words = vec![daemon_program().to_string_lossy().into_owned()];
    words.push(format!("--node-id={name}"));
    words.push(format!("--host={}", host.address));
    words.push(format!("--data-dir={}", root.join(name).display()));
    words.extend_from_slice(entry);
    words
}

/// Nodes on three hosts are one cluster: by a token each, on the same ports, reached by address.
/// fault 93: a token lets in one node; without one, or with one that was used, nobody gets in from
/// another host.
#[test]
#[ignore = "needs built daemons and root: make test-cluster HOSTS=netns"]
fn nodes_join_from_other_hosts_by_token_only() {
    if !are_wanted() {
        return;
    }
    let mut cluster = Cluster::start_on_hosts(3);
    for node in 0..3 {
        let path = format!("from node{}", node + 1);
        cluster.write(node, &path, "content");
        cluster.await_content(&path, "content");
    }
    cluster.write(1, "large", vec![7; 3 << 20]);
    let tree = cluster.await_converged();
    let (stranger, root) = (cluster.add_host(), cluster.root().join("stranger"));
    let join = format!("--join={}", cluster.daemon(0).peer_address());
    let used = cluster.daemon(2).entry.iter().find(|word| word.starts_with("--token-file"));
    let used = used.unwrap().clone();
    let port = "--port=8001".to_owned();
    for entry in [vec![port.clone(), join.clone()], vec![port, join, used]] {
        let output = run_to_its_end(&stranger, &daemon("node4", &stranger, &root, &entry));
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && words.contains("token"), "{entry:?}: {words}");
    }
    assert_eq!(cluster.status(0).unwrap().members.len(), 3);
    assert_eq!(cluster.await_converged(), tree, "nothing came in");
    assert!(fs::read_dir(root.join("node4")).map_or(0, Iterator::count) == 0, "nothing got out");
}

/// fault 80, 81: on the host of a member itself, a process of another user is let in no more than
/// one from elsewhere; one of the daemon's user is.
#[test]
#[ignore = "needs built daemons and root: make test-cluster HOSTS=netns"]
fn another_user_of_the_same_host_does_not_get_in() {
    if !are_wanted() {
        return;
    }
    let cluster = Cluster::start_on_hosts(1);
    let host = cluster.host(0);
    let root = tempfile::tempdir().unwrap();
    // What nobody can start and write to.
    let program = root.path().join("pickboxd");
    fs::copy(daemon_program(), &program).unwrap();
    let anyone = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(root.path(), anyone).unwrap();
    let join = format!("--join={}", cluster.daemon(0).peer_address());
    let ports = ["--port=8002", "--admin-port=9002"].map(str::to_owned);
    let words = daemon("node2", host, root.path(), &[&[join], &ports[..]].concat());
    let words = words.into_iter().skip(1);
    let words = [program.to_string_lossy().into_owned()].into_iter().chain(words);
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let as_nobody: Vec<String> = nobody.map(str::to_owned).into_iter().chain(words).collect();
    let output = run_to_its_end(host, &as_nobody);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("token"), "{said}");
    assert_eq!(cluster.status(0).unwrap().members.len(), 1);
}
