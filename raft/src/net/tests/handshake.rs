//! Who may come in, and what garbage does.

use std::io::{IoSlice, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use mio::{Poll, Token};
use pickbox_raft_core::ids::{ClusterId, Epoch, Incarnation, Index};
use pickbox_raft_core::members::Members;
use rustls::ServerConnection;

use super::rig::{
    Node, Order, PATIENCE, identity, key, keys, listen, members, mesh, node, wait_until,
};
use crate::keys::KeyRing;
use crate::net::Vouched;
use crate::net::bell::Bell;
use crate::net::frame::{Kind, Parser, Phase};
use crate::net::gate::Gate;
use crate::net::hello::{self, Hello, PROTOCOL, Purpose, Refusal, Runs, Welcome};
use crate::net::probe::everywhere;
use crate::net::secured::Secured;
use crate::net::tls::{self, Pin};
use crate::net::transport::Incoming;

fn frame(from: u64, payload: &[u8]) -> Incoming {
    Incoming::Frame { from: node(from), kind: Kind::Control, payload: payload.to_vec() }
}

/// Design, section 3: messages between members, in both directions, large ones too.
#[test]
fn members_exchange_messages() {
    let nodes = mesh(2);
    nodes[0].expect(|incoming| *incoming == Incoming::Up(node(2)));
    nodes[1].expect(|incoming| *incoming == Incoming::Up(node(1)));
    nodes[0].order(Order::Send(node(2), Kind::Control, b"hello".to_vec()));
    nodes[1].order(Order::Send(node(1), Kind::Entries, vec![9; 2_000_000]));
    nodes[1].expect(|incoming| *incoming == frame(1, b"hello"));
    let large = nodes[0].expect(|incoming| matches!(incoming, Incoming::Frame { .. }));
    let wanted =
        Incoming::Frame { from: node(2), kind: Kind::Entries, payload: vec![9; 2_000_000] };
    assert!(large == wanted, "the large message arrives whole");
}

/// A member that comes back at its address is found again.
#[test]
fn a_peer_that_restarts_is_dialed_again() {
    let (first, second) = (listen(), listen());
    let known = members(&[first.1, second.1]);
    let one = Node::start(identity(1, first.1), first.0, &known);
    let two = Node::start(identity(2, second.1), second.0, &known);
    one.expect(|incoming| *incoming == Incoming::Up(node(2)));
    drop(two);
    one.expect(|incoming| *incoming == Incoming::Down(node(2)));
    let again = std::net::TcpListener::bind(second.1).expect("the port is free again");
    let two = Node::start(identity(2, second.1), again, &known);
    one.expect(|incoming| *incoming == Incoming::Up(node(2)));
    one.order(Order::Send(node(2), Kind::Control, b"again".to_vec()));
    two.expect(|incoming| *incoming == frame(1, b"again"));
}

/// A new address in the members moves the link.
#[test]
fn a_peer_that_moves_is_dialed_at_its_new_address() {
    let (first, old, new) = (listen(), listen(), listen());
    let one = Node::start(identity(1, first.1), first.0, &members(&[first.1, old.1]));
    let two = Node::start(identity(2, new.1), new.0, &members(&[first.1, new.1]));
    one.order(Order::Members(members(&[first.1, new.1])));
    one.expect(|incoming| *incoming == Incoming::Up(node(2)));
    drop(two);
}

/// Says something at the door, with the key of this node, and returns the answer.
fn greet(at: &str, number: u64, hello: &Hello) -> Result<Welcome, Refusal> {
    let mut line = dial(at, &keys(number), tls::MEMBER);
    let frame = hello::encode(Kind::Hello, hello).expect("small");
    write(&mut line, &[&frame.header[..], &frame.payload].concat());
    match hear(&mut line, Phase::AwaitWelcome) {
        Some((Kind::Welcome, payload)) => Ok(hello::decode(&payload).expect("known")),
        Some((_, payload)) => Err(hello::decode(&payload).expect("known")),
        None => panic!("closed without an answer"),
    }
}

/// Connects to a node whose key is the first one's, and shakes hands.
pub(super) fn dial(at: &str, keys: &KeyRing, alpn: &[u8]) -> Secured<TcpStream> {
    let socket = TcpStream::connect(at).expect("somebody listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let tls =
        tls::dialer(&keys.current(), Pin::OneOf(vec![key(1)]), alpn).expect("a configuration");
    let mut line = Secured::new(socket, tls);
    assert!(line.shake_hands().expect("it is node 1"));
    line
}

pub(super) fn write(line: &mut Secured<TcpStream>, bytes: &[u8]) {
    let taken = line.write_vectored(&[IoSlice::new(bytes)]).expect("it takes it");
    assert_eq!(taken, bytes.len());
}

/// The next frame; `None`: closed before there was one.
pub(super) fn hear(line: &mut Secured<TcpStream>, phase: Phase) -> Option<(Kind, Vec<u8>)> {
    let mut parser = Parser::new(phase);
    loop {
        if let Some(frame) = parser.next_frame().expect("a frame") {
            return Some(frame);
        }
        if parser.fill(|buffer| line.read_into(buffer)).unwrap_or(0) == 0 {
            return None;
        }
    }
}

/// checklist 135: another cluster, another node, oneself, a stranger, another protocol: each is
/// refused by its name, and counted.
#[test]
fn strangers_are_refused_by_name() {
    let (first, second) = (listen(), listen());
    let known = members(&[first.1, second.1]);
    let at = first.1.to_string();
    let one = Node::start(identity(1, first.1), first.0, &known);
    let good = Hello::of(&identity(2, second.1), node(1), Purpose::Consensus);
    assert_eq!(greet(&at, 2, &good).expect("welcome").name, "node1");

    let cases = [
        (
            Hello { cluster: ClusterId([8; 16]), ..good.clone() },
            Refusal::WrongCluster { ours: ClusterId([7; 16]) },
        ),
        (
            Hello { to: node(2), ..good.clone() },
            Refusal::WrongNode { ours: node(1), name: "node1".to_owned() },
        ),
        (Hello { from: node(1), ..good.clone() }, Refusal::Loop),
        (Hello { from: node(0), ..good.clone() }, Refusal::UnknownNode),
        (Hello { from: node(3), ..good.clone() }, Refusal::UnknownNode),
        (Hello { name: "node3".to_owned(), ..good.clone() }, Refusal::UnknownNode),
        (Hello { protocol: 99, ..good.clone() }, Refusal::Version { ours: PROTOCOL }),
        (Hello { name: "n".repeat(65), ..good.clone() }, Refusal::Malformed),
        (
            Hello { from: node(2), epoch: Epoch::new(1), ..good.clone() },
            Refusal::OtherEpoch { ours: Epoch::ZERO },
        ),
    ];
    let before = one.traffic().refused;
    for (hello, refusal) in cases {
        assert_eq!(greet(&at, 2, &hello).expect_err("refused"), refusal);
    }
    assert_eq!(greet(&at, 3, &good).expect_err("another key"), Refusal::UnknownKey);
    assert_eq!(one.traffic().refused - before, 10);
}

/// checklist 92, 102: a greeting is judged by what the log says of its node. One that was
/// removed is told so; one whose run does not follow the newest one is told that.
#[test]
fn a_greeting_is_judged_by_members_and_runs() {
    let (first, second) = (listen(), listen());
    let (me, other) = (identity(1, first.1), identity(2, second.1));
    let known = members(&[first.1, second.1]);
    let hello = Hello::of(&other, node(1), Purpose::Consensus);
    let run = Incarnation::new(77);
    let follow = |run| other.lineage.clone().followed_by(run, None);
    let later = Hello { lineage: follow(run), ..hello.clone() };
    let copy = Hello { lineage: follow(Incarnation::new(78)), ..hello.clone() };
    let newest = Runs::from([(node(2), run)]);
    let check = |hello: &Hello, known: &Members, runs: &Runs| {
        let trust = everywhere(known);
        hello.check(&me, (&trust, runs), key(2))
    };
    let removed = Err(Refusal::Removed { at: Index::ZERO, epoch: Epoch::ZERO });
    assert_eq!(check(&hello, &known, &Runs::new()), Ok(()));
    assert_eq!(check(&later, &known, &newest), Ok(()));
    assert_eq!(check(&copy, &known, &newest), Err(Refusal::OldState));
    assert_eq!(check(&hello, &known, &newest), Err(Refusal::OldState));
    let without = Members {
        members: known.members.iter().filter(|member| member.id != node(2)).cloned().collect(),
        ..known.clone()
    };
    assert_eq!(check(&later, &without, &newest), removed);
    let leaving = known.members.iter().filter(|member| member.id == node(2)).cloned().collect();
    assert_eq!(check(&later, &Members { leaving, ..without }, &newest), Ok(()));
}

/// A member that this node has not learned of yet is refused, and let in once another member has
/// told of it: it may be the leader that this node, long away, must learn it from.
#[test]
fn a_member_from_the_future_is_let_in_once_it_is_vouched_for() {
    let (first, second, ninth) = (listen(), listen(), listen());
    let known = members(&[first.1, second.1]);
    let mut all = members(&[first.1, second.1, ninth.1]);
    all.members[2].id = node(9);
    all.members[2].name = "node9".to_owned();
    all.members[2].key = Some(key(9));
    all.next_id = node(10);
    let one = Node::start(identity(1, first.1), first.0, &known);
    let two = Node::start(identity(2, second.1), second.0, &known);
    two.expect(|incoming| *incoming == Incoming::Up(node(1)));
    let nine = Node::start(identity(9, ninth.1), ninth.0, &all);
    one.expect(|incoming| *incoming == Incoming::Unknown);
    one.order(Order::Vouch(node(2), Vouched { at: Index::new(5), members: all }));
    nine.expect(|incoming| *incoming == Incoming::Up(node(1)));
    one.expect(|incoming| *incoming == Incoming::Up(node(9)));
}

/// Issue 2, 6: garbage, half greetings and idle connections leave the members talking.
#[test]
fn garbage_at_the_door_harms_nobody() {
    let nodes = mesh(2);
    nodes[0].expect(|incoming| *incoming == Incoming::Up(node(2)));
    let at = nodes[0].address.clone();
    let idle: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(&at).unwrap()).collect();
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 5_000], &[0; 3], &[0, 0, 0, 0x80]] {
        let mut socket = TcpStream::connect(&at).unwrap();
        let _ = socket.write_all(garbage);
    }
    wait_until("the idle ones are turned away", || nodes[0].traffic().refused >= 72);
    nodes[1].order(Order::Send(node(1), Kind::Control, b"still here".to_vec()));
    nodes[0].expect(|incoming| *incoming == frame(2, b"still here"));
    drop(idle);
}

/// checklist 138, fault 20: a member that comes back at another address is found by its number.
#[test]
fn a_peer_at_another_address_is_found_when_it_dials() {
    let (first, second, elsewhere) = (listen(), listen(), listen());
    let known = members(&[first.1, second.1]);
    drop(second);
    let one = Node::start(identity(1, first.1), first.0, &known);
    let two = Node::start(identity(2, elsewhere.1), elsewhere.0, &known);
    two.expect(|incoming| *incoming == Incoming::Up(node(1)));
    one.expect(|incoming| *incoming == Incoming::Up(node(2)));
    one.order(Order::Members(known));
    one.order(Order::Send(node(2), Kind::Control, b"found".to_vec()));
    two.expect(|incoming| *incoming == frame(1, b"found"));
}

/// fault 19: a peer that reads nothing costs a bounded queue; what is over it is dropped and
/// counted, and others are served.
#[test]
fn a_peer_that_reads_nothing_costs_a_bounded_queue() {
    let (first, second, third) = (listen(), listen(), listen());
    let known = members(&[first.1, second.1, third.1]);
    let one = Node::start(identity(1, first.1), first.0, &known);
    let three = Node::start(identity(3, third.1), third.0, &known);
    // Node 2 is this test: it greets, and then reads nothing. Both others dial it, for two purposes
    // each, in any order.
    let sockets: Vec<Secured<TcpStream>> = (0..4).map(|_| welcome(&second.0, 2)).collect();
    one.expect(|incoming| *incoming == Incoming::Up(node(2)));
    for _ in 0..40 {
        one.order(Order::Send(node(2), Kind::Entries, vec![1; 2 * 1024 * 1024]));
    }
    one.order(Order::Send(node(3), Kind::Control, b"served".to_vec()));
    three.expect(|incoming| *incoming == frame(1, b"served"));
    let dropped = one.traffic().messages_dropped;
    assert!(dropped >= 10, "{dropped} of 40 messages of 2 MiB were dropped");
    drop(sockets);
}

/// Accepts one connection and agrees to whatever it says.
fn welcome(listener: &std::net::TcpListener, number: u64) -> Secured<TcpStream> {
    let (socket, _) = listener.accept().expect("it dials");
    let tls = tls::acceptor(&keys(number)).expect("a configuration");
    let mut line = Secured::new(socket, ServerConnection::new(tls).expect("a connection"));
    assert!(line.shake_hands().expect("it is a member"));
    let hello = hear(&mut line, Phase::AwaitHello);
    assert!(hello.is_some());
    let (name, incarnation) = (format!("node{number}"), Incarnation::new(1));
    let welcome = Welcome { node: node(number), name, incarnation };
    let frame = hello::encode(Kind::Welcome, &welcome).expect("small");
    write(&mut line, &[&frame.header[..], &frame.payload].concat());
    line
}

/// fault 80: who says nothing for 5 s is turned away, and so is the oldest when there are many.
#[test]
fn silent_connections_are_turned_away() {
    let (listener, at) = listen();
    let (poll, of) = (Poll::new().unwrap(), (ClusterId([7; 16]), Epoch::ZERO));
    let bell = Bell::new(poll.registry(), Token(0)).unwrap();
    let (mut gate, door) = Gate::open(listener, &keys(1), of, bell).unwrap();
    let start = crate::clock::now();
    // Of this user: more of them are let wait than of strangers.
    let mut tick = |after: Duration| {
        gate.turn(&[Token(1)], start + after);
        (door.refused(), gate.deadline())
    };
    let silent = |_| {
        // The kernel's queue of those to be accepted holds 128.
        tick(Duration::ZERO);
        TcpStream::connect(at).unwrap()
    };
    let silent: Vec<TcpStream> = (0..136).map(silent).collect();
    wait_until("eight are too many", || tick(Duration::ZERO).0 == 8);
    let due = Some(start + Duration::from_secs(5));
    assert_eq!(tick(Duration::from_millis(4_999)), (8, due));
    assert_eq!(tick(Duration::from_secs(5)), (136, None));
    drop(silent);
}

/// fault 8: without descriptors to spare nobody new comes in, those inside go on, and afterwards
/// the door works again.
#[test]
#[ignore = "changes a limit of the whole process: run it alone"]
fn running_out_of_descriptors_harms_nobody_inside() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let nodes = mesh(2);
    nodes[0].expect(|incoming| *incoming == Incoming::Up(node(2)));
    nodes[1].expect(|incoming| *incoming == Incoming::Up(node(1)));
    let before = getrlimit(Resource::Nofile);
    let used = u64::try_from(std::fs::read_dir("/proc/self/fd").unwrap().count()).unwrap();
    setrlimit(Resource::Nofile, Rlimit { current: Some(used + 10), ..before }).unwrap();
    let outside: Vec<_> =
        (0..20).map_while(|_| TcpStream::connect(&nodes[0].address).ok()).collect();
    assert!(outside.len() < 20, "descriptors ran out");
    nodes[1].order(Order::Send(node(1), Kind::Control, b"still here".to_vec()));
    nodes[0].expect(|incoming| *incoming == frame(2, b"still here"));
    drop(outside);
    setrlimit(Resource::Nofile, before).unwrap();
    let hello = Hello::of(&identity(2, nodes[1].address.parse().unwrap()), node(1), Purpose::Bulk);
    assert_eq!(greet(&nodes[0].address, 2, &hello).unwrap().name, "node1");
}
