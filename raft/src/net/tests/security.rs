//! Who does not get in, and what does not get through.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use pickbox_raft_core::ids::{Epoch, Fingerprint, Index};
use pickbox_raft_core::members::{Departed, Members};
use rustls::client::Resumption;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConnection};

use super::handshake::{dial, hear, write};
use super::rig::{
    Node, Order, PATIENCE, identity, key, keys, listen, members, mesh, node, thread, wait_until,
};
use crate::bulk::BulkEvent;
use crate::net::frame::{Kind, Phase};
use crate::net::hello::{self, Hello, Purpose, Refusal};
use crate::net::join_request::{JOIN_REQUEST_BYTES, JoinRequest};
use crate::net::secured::Secured;
use crate::net::tls::{self, Pin};
use crate::net::transport::Incoming;

/// The members without number 2, which is remembered.
fn without_two(known: &Members) -> Members {
    let mut without = known.clone();
    without.members.retain(|member| member.id != node(2));
    without.departed.push(Departed { id: node(2), key: key(2), at: Index::new(7) });
    without
}

fn refusal(line: &mut Secured<TcpStream>, phase: Phase) -> Refusal {
    match hear(line, phase) {
        Some((Kind::Refused, payload)) => hello::decode(&payload).expect("known"),
        other => panic!("{other:?}"),
    }
}

fn greeting(number: u64, purpose: Purpose) -> Vec<u8> {
    let address = "127.0.0.1:1".parse().unwrap();
    let hello = Hello::of(&identity(number, address), node(1), purpose);
    let frame = hello::encode(Kind::Hello, &hello).unwrap();
    [&frame.header[..], &frame.payload].concat()
}

/// fault 81: a key that is no member's gets one refusal, whatever it says and whatever for; its
/// greeting is not even read.
#[test]
fn a_key_that_is_no_members_says_nothing_that_is_read() {
    let nodes = mesh(2);
    for purpose in [Purpose::Consensus, Purpose::Bulk, Purpose::Survey] {
        let mut line = dial(&nodes[0].address, &keys(9), tls::MEMBER);
        // A lie: the greeting of a member.
        write(&mut line, &greeting(2, purpose));
        assert_eq!(refusal(&mut line, Phase::AwaitWelcome), Refusal::UnknownKey);
        assert_eq!(hear(&mut line, Phase::AwaitWelcome), None, "and is closed");
    }
    let mut silent = dial(&nodes[0].address, &keys(9), tls::MEMBER);
    assert_eq!(refusal(&mut silent, Phase::AwaitWelcome), Refusal::UnknownKey);
    nodes[0].expect(|incoming| *incoming == Incoming::Unknown);
}

/// fault 81: a member's key does not speak for another member.
#[test]
fn a_member_speaks_for_itself_alone() {
    let nodes = mesh(3);
    let mut line = dial(&nodes[0].address, &keys(3), tls::MEMBER);
    write(&mut line, &greeting(2, Purpose::Consensus));
    assert_eq!(refusal(&mut line, Phase::AwaitWelcome), Refusal::UnknownNode);
}

/// faults 80, 81: who wants to join says one message of fixed size; what it says instead, a frame of
/// Raft or anything else, is refused, and nothing of it reaches the consensus thread.
#[test]
fn who_wants_to_join_says_one_message() {
    let nodes = mesh(2);
    nodes[0].expect(|incoming| *incoming == Incoming::Up(node(2)));
    let mut line = dial(&nodes[0].address, &keys(9), tls::JOIN);
    let mut frames = greeting(2, Purpose::Consensus);
    frames.resize(JOIN_REQUEST_BYTES, 0);
    write(&mut line, &frames);
    assert_eq!(refusal(&mut line, Phase::AwaitJoined), Refusal::Malformed);
    let mut line = dial(&nodes[0].address, &keys(9), tls::JOIN);
    let request = JoinRequest {
        cluster: identity(1, "127.0.0.1:1".parse().unwrap()).cluster,
        token: [0; 32],
        proof: [0; 64],
        name: "node9".into(),
        address: "127.0.0.1:9".into(),
    };
    write(&mut line, &request.encode().unwrap());
    let asked = nodes[0].expect(|incoming| matches!(incoming, Incoming::Join { .. }));
    // This test is run by the user who runs the node.
    assert!(matches!(asked, Incoming::Join { key: of, .. } if of == key(9)));
}

/// faults 70, 82: when a member is removed its live connections end, of both kinds and in both
/// directions, and it is told why when it comes back: also by a session that it had before, since
/// none is resumed.
#[test]
fn a_removed_member_is_cut_off_and_does_not_come_back_by_resumption() {
    let (first, second) = (listen(), listen());
    let known = members(&[first.1, second.1]);
    let at = first.1.to_string();
    let one = Node::start(identity(1, first.1), first.0, &known);
    let two = Node::start(identity(2, second.1), second.0, &known);
    two.expect(|incoming| *incoming == Incoming::Up(node(1)));
    one.expect_event(&BulkEvent::Up(node(2)));
    // A client as rustls makes it, which resumes if it can.
    let config = resuming_client();
    let before = line_with(&at, &config);
    assert_eq!(before.handshake_kind(), Some(HandshakeKind::Full));

    one.order(Order::Members(without_two(&known)));
    two.expect(|incoming| *incoming == Incoming::Down(node(1)));
    one.expect_event(&BulkEvent::Down(node(2)));
    let told = two.expect(|incoming| matches!(incoming, Incoming::Refused(..)));
    let why = crate::net::link::Outcast::Removed(Index::new(7));
    assert_eq!(told, Incoming::Refused(node(1), why));

    let again = line_with(&at, &config);
    assert_eq!(again.handshake_kind(), Some(HandshakeKind::Full), "nothing is resumed");
    let removed = Refusal::Removed { at: Index::new(7), epoch: Epoch::ZERO };
    assert_eq!(refusal(&mut again.into_line(), Phase::AwaitWelcome), removed);
    assert_eq!(before.conn.tls13_tickets_received(), 0, "there is nothing to resume with");
}

/// A connection whose TLS can be asked.
struct Open {
    socket: TcpStream,
    conn: ClientConnection,
}

impl Open {
    fn handshake_kind(&self) -> Option<HandshakeKind> {
        self.conn.handshake_kind()
    }

    fn into_line(self) -> Secured<TcpStream> {
        Secured::new(self.socket, self.conn)
    }
}

fn resuming_client() -> Arc<ClientConfig> {
    let mut dialer =
        tls::configuration(&keys(2).current(), Pin::OneOf(vec![key(1)]), tls::MEMBER).unwrap();
    dialer.resumption = Resumption::in_memory_sessions(32);
    Arc::new(dialer)
}

fn line_with(at: &str, config: &Arc<ClientConfig>) -> Open {
    let mut socket = TcpStream::connect(at).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let name = "the-same-name.key".try_into().unwrap();
    let mut conn = ClientConnection::new(Arc::clone(config), name).unwrap();
    while conn.is_handshaking() {
        conn.complete_io(&mut socket).unwrap();
    }
    Open { socket, conn }
}

/// Security: whoever sits at a member's address without its key hears nothing, not even a greeting.
#[test]
fn a_stranger_at_a_members_address_hears_nothing() {
    let (first, second) = (listen(), listen());
    let known = members(&[first.1, second.1]);
    let one = Node::start(identity(1, first.1), first.0, &known);
    for _ in 0..2 {
        let (socket, _) = second.0.accept().unwrap();
        let tls = ServerConnection::new(tls::acceptor(&keys(9)).unwrap()).unwrap();
        let mut line = Secured::new(socket, tls);
        assert!(line.shake_hands().is_err(), "it is not the key that was wanted");
    }
    assert!(!one.incoming.try_iter().any(|incoming| incoming == Incoming::Up(node(2))));
}

/// fault 64: what is no TLS 1.3 of ours is closed at once: noise, a handshake cut short, TLS 1.2, no
/// or another application protocol. The members go on talking.
#[test]
fn whatever_is_no_handshake_of_ours_is_closed() {
    let nodes = mesh(2);
    nodes[0].expect(|incoming| *incoming == Incoming::Up(node(2)));
    let before = nodes[0].traffic().refused;
    let of_member = client_hello(tls::MEMBER);
    let mut tls12 = of_member.clone();
    // Without `supported_versions` it is a greeting of TLS 1.2 (RFC 8446, 4.2.1): the extension
    // becomes one that nobody knows.
    let at = tls12.windows(4).position(|bytes| bytes == [0, 43, 0, 3]).expect("it is there");
    tls12[at] = 0xfa;
    tls12[at + 1] = 0xfa;
    let cases = [
        ("noise", vec![0xff; 3_000]),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("an alert", vec![21, 3, 3, 0, 2, 2, 40]),
        ("data before hands are shaken", vec![23, 3, 3, 0, 5, 1, 2, 3, 4, 5]),
        ("an endless record", vec![22, 3, 3, 0xff, 0xff]),
        ("TLS 1.2", tls12),
        ("half a greeting", of_member[..of_member.len() / 2].to_vec()),
        ("no protocol that we speak", client_hello(b"h2")),
    ];
    for (what, bytes) in &cases {
        let mut socket = TcpStream::connect(&nodes[0].address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(bytes).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        // A reset is an end as well.
        let _ = socket.read_to_end(&mut answer);
        assert!(answer.len() < 200, "{what}: an alert at most, {} bytes", answer.len());
    }
    let count = u64::try_from(cases.len()).unwrap();
    wait_until("all are counted", || nodes[0].traffic().refused == before + count);
    nodes[1].order(Order::Send(node(1), Kind::Control, b"on".to_vec()));
    nodes[0]
        .expect(|incoming| matches!(incoming, Incoming::Frame { payload, .. } if payload == b"on"));
}

/// The first flight of a dialer.
fn client_hello(alpn: &[u8]) -> Vec<u8> {
    let mut client = tls::dialer(&keys(2).current(), Pin::OneOf(vec![key(1)]), alpn).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// What the one in the middle does with the records that a dialer sends after its handshake.
#[derive(Clone, Copy, Debug)]
enum Tampering {
    /// The tenth is changed in one bit.
    Change,
    /// The tenth is sent twice.
    Replay,
    /// The tenth and the eleventh change places.
    Reorder,
    /// The tenth is dropped.
    Drop,
}

/// Passes one connection after the other on, and tampers with the first one's records.
fn in_the_middle(listener: TcpListener, to: String, tampering: Tampering) -> Arc<AtomicUsize> {
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    thread("middle", move || {
        for client in listener.incoming().map_while(Result::ok) {
            let number = count.fetch_add(1, Ordering::SeqCst);
            let Ok(server) = TcpStream::connect(&to) else { continue };
            let mut back = (server.try_clone().unwrap(), client.try_clone().unwrap());
            let _answers: JoinHandle<()> = thread("back", move || {
                let _ = std::io::copy(&mut back.0, &mut back.1);
                let _ = back.1.shutdown(Shutdown::Both);
            });
            let tampering = (number == 0).then_some(tampering);
            thread("forth", move || forth(client, &server, tampering));
        }
    });
    connections
}

fn forth(mut from: TcpStream, mut to: &TcpStream, tampering: Option<Tampering>) {
    let mut held: Option<Vec<u8>> = None;
    for number in 0.. {
        let mut record = vec![0; 5];
        if from.read_exact(&mut record).is_err() {
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
        record.resize(5 + usize::from(u16::from_be_bytes([record[3], record[4]])), 0);
        if from.read_exact(&mut record[5..]).is_err() {
            return;
        }
        let out = match (number, tampering) {
            (10, Some(Tampering::Change)) => {
                let middle = record.len() / 2;
                record[middle] ^= 1;
                record
            }
            (10, Some(Tampering::Replay)) => record.repeat(2),
            (10, Some(Tampering::Reorder)) => {
                held = Some(record);
                continue;
            }
            (11, Some(Tampering::Reorder)) => [record, held.take().unwrap_or_default()].concat(),
            (10, Some(Tampering::Drop)) => continue,
            _ => record,
        };
        if to.write_all(&out).is_err() {
            return;
        }
    }
}

/// fault 83: records changed, repeated, reordered or left out on their way end the connection, and
/// nothing of what comes after them is believed; the next connection goes on.
#[test]
fn records_that_are_tampered_with_end_the_connection() {
    for tampering in [Tampering::Change, Tampering::Replay, Tampering::Reorder, Tampering::Drop] {
        let (first, second, middle) = (listen(), listen(), listen());
        let seen_by_one = members(&[first.1, middle.1]);
        let _connections = in_the_middle(middle.0, second.1.to_string(), tampering);
        // Where it says itself that it is.
        let two = Node::start(identity(2, middle.1), second.0, &members(&[first.1, second.1]));
        // Only the link of consensus goes through the middle: the other one would be the first.
        let one = Node::without_bulk(identity(1, first.1), first.0, &seen_by_one);
        one.expect(|incoming| *incoming == Incoming::Up(node(2)));
        let say = |number: u32| {
            one.order(Order::Send(node(2), Kind::Control, number.to_le_bytes().to_vec()));
        };
        // One record a message: each is waited for.
        let (mut heard, mut next) = (Vec::new(), 0);
        while !one.incoming.try_iter().any(|incoming| incoming == Incoming::Down(node(2))) {
            say(next);
            next += 1;
            let arrived = two.incoming.recv_timeout(std::time::Duration::from_millis(20));
            heard.extend(arrived.ok().and_then(number_in));
            assert!(next < 2_000, "{tampering:?}: the connection goes on");
        }
        one.expect(|incoming| *incoming == Incoming::Up(node(2)));
        let after = next;
        while heard.last().is_none_or(|last| *last < after) {
            assert!(next < after + 500, "{tampering:?}: nothing arrives after it");
            say(next);
            next += 1;
            let arrived = two.incoming.recv_timeout(std::time::Duration::from_millis(20));
            heard.extend(arrived.ok().and_then(number_in));
        }
        assert!((0..after).any(|number| !heard.contains(&number)), "{tampering:?}: one is missing");
        assert!(heard.is_sorted_by(|one, other| one < other), "{tampering:?}: {heard:?}");
    }
}

fn number_in(incoming: Incoming) -> Option<u32> {
    match incoming {
        Incoming::Frame { payload, .. } => {
            Some(u32::from_le_bytes(payload[..].try_into().unwrap()))
        }
        _ => None,
    }
}

/// fault 83: a whole connection that was recorded is of no use: the acceptor's half of the secret is
/// another one each time.
#[test]
fn a_recorded_connection_is_not_replayed() {
    let (first, second) = (listen(), listen());
    let known = members(&[first.1, second.1]);
    let at = first.1.to_string();
    let one = Node::start(identity(1, first.1), first.0, &known);
    let mut recorded = Vec::new();
    {
        let mut socket = TcpStream::connect(&at).unwrap();
        let mut client =
            tls::dialer(&keys(2).current(), Pin::OneOf(vec![key(1)]), tls::MEMBER).unwrap();
        client.writer().write_all(&greeting(2, Purpose::Consensus)).unwrap();
        while client.is_handshaking() || client.wants_write() {
            let mut flight = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut flight).unwrap();
            }
            socket.write_all(&flight).unwrap();
            recorded.extend(flight);
            if client.is_handshaking() {
                client.read_tls(&mut socket).unwrap();
                client.process_new_packets().unwrap();
            }
        }
        let mut answer = Vec::new();
        while answer.is_empty() {
            client.read_tls(&mut socket).unwrap();
            client.process_new_packets().unwrap();
            let _ = client.reader().read_to_end(&mut answer);
        }
    }
    let before = one.traffic().refused;
    let mut socket = TcpStream::connect(&at).unwrap();
    socket.write_all(&recorded).unwrap();
    wait_until("it is turned away", || one.traffic().refused == before + 1);
}

/// Rotation: a node that has two keys shows the one that is asked for, and whoever asks for
/// another one hears nothing.
#[test]
fn the_key_that_is_asked_for_is_shown() {
    use crate::disk::sim::SimDisk;
    use crate::keys::KeyRing;

    let disk = SimDisk::new();
    let ring = KeyRing::load_or_create(&disk).unwrap();
    let next = ring.prepare_next(&disk).unwrap().fingerprint();
    let current = ring.current().fingerprint();
    let (listener, at) = listen();
    let me = crate::net::LocalNode { key: current, ..identity(1, at) };
    let one = Node::with_keys((me, ring), listener, &members(&[at]));
    let shakes = |pin: Vec<Fingerprint>| {
        let socket = TcpStream::connect(at).unwrap();
        let dialer = tls::dialer(&keys(2).current(), Pin::OneOf(pin), tls::MEMBER).unwrap();
        let mut line = Secured::new(socket, dialer);
        matches!(line.shake_hands(), Ok(true)).then(|| line.peer_key()).flatten()
    };
    assert_eq!(shakes(vec![current]), Some(current));
    assert_eq!(shakes(vec![next]), Some(next));
    assert_eq!(shakes(vec![next, current]), Some(next));
    assert_eq!(shakes(vec![key(5), current]), Some(current));
    assert_eq!(shakes(vec![key(5)]), None);
    drop(one);
}

/// Rotation: a key that is given up while hands are shaken hears nothing more.
#[test]
fn a_key_given_up_while_hands_are_shaken_hears_nothing() {
    let (first, second) = (listen(), listen());
    let mut known = members(&[first.1, second.1]);
    let one = Node::without_bulk(identity(1, first.1), first.0, &known);
    let (socket, _) = second.0.accept().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // It has sent its first flight: it is shaking hands.
    socket.peek(&mut [0]).unwrap();
    known.members[1].key = Some(key(3));
    one.order(Order::Members(known));
    one.traffic();
    let tls = ServerConnection::new(tls::acceptor(&keys(2)).unwrap()).unwrap();
    let mut line = Secured::new(socket, tls);
    while !line.shake_hands().unwrap() {}
    assert_eq!(hear(&mut line, Phase::AwaitHello), None, "no greeting");
}
