//! Who may come in, and what garbage does.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use pickbox_raft_core::ids::{ClusterId, Epoch, Incarnation};
use pickbox_raft_core::members::Members;

use super::rig::{Node, Order, PATIENCE, identity, listen, members, mesh, node, wait_until};
use crate::net::frame::{Kind, Parser, Phase};
use crate::net::gate::Gate;
use crate::net::hello::{self, Hello, PROTOCOL, Purpose, Refusal, Runs, Welcome};
use crate::net::link::{Context, Tokens};
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

/// Says something at the door and returns the answer.
fn greet(at: &str, hello: &Hello) -> Result<Welcome, Refusal> {
    let mut socket = TcpStream::connect(at).expect("somebody listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let frame = hello::encode(Kind::Hello, hello).expect("small");
    socket.write_all(&[&frame.header[..], &frame.payload].concat()).expect("it takes it");
    let mut parser = Parser::new(Phase::AwaitWelcome);
    loop {
        let mut buffer = [0; 512];
        let count = socket.read(&mut buffer).expect("an answer comes");
        assert!(count > 0, "closed without an answer");
        parser
            .fill(|stage| {
                stage.extend_from_slice(&buffer[..count]);
                Ok(count)
            })
            .expect("a buffer");
        match parser.next_frame().expect("a frame") {
            Some((Kind::Welcome, payload)) => return Ok(hello::decode(&payload).expect("known")),
            Some((_, payload)) => return Err(hello::decode(&payload).expect("known")),
            None => {}
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
    assert_eq!(greet(&at, &good).expect("welcome").name, "node1");

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
        assert_eq!(greet(&at, &hello).expect_err("refused"), refusal);
    }
    assert_eq!(one.traffic().refused - before, 8);
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
    let check = |hello: &Hello, known: &Members, runs: &Runs| hello.check(&me, known, runs);
    assert_eq!(check(&hello, &known, &Runs::new()), Ok(()));
    assert_eq!(check(&later, &known, &newest), Ok(()));
    assert_eq!(check(&copy, &known, &newest), Err(Refusal::OldState));
    assert_eq!(check(&hello, &known, &newest), Err(Refusal::OldState));
    let without = Members {
        members: known.members.iter().filter(|member| member.id != node(2)).cloned().collect(),
        ..known.clone()
    };
    assert_eq!(check(&later, &without, &newest), Err(Refusal::Removed));
    let leaving = known.members.iter().filter(|member| member.id == node(2)).cloned().collect();
    assert_eq!(check(&later, &Members { leaving, ..without }, &newest), Ok(()));
}

/// A member with a number that this node has not learned of yet is let in: it may be the leader
/// that this node, long away, must learn it from.
#[test]
fn a_member_from_the_future_is_let_in() {
    let (first, ninth) = (listen(), listen());
    let one = Node::start(identity(1, first.1), first.0, &members(&[first.1]));
    let nine = Node::start(identity(9, ninth.1), ninth.0, &members(&[first.1]));
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
    wait_until("the idle ones are turned away", || nodes[0].traffic().refused >= 170);
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
    let sockets: Vec<TcpStream> = (0..4).map(|_| welcome(&second.0, 2)).collect();
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
fn welcome(listener: &std::net::TcpListener, number: u64) -> TcpStream {
    let (mut socket, _) = listener.accept().expect("it dials");
    let count = socket.read(&mut [0; 512]).expect("a greeting");
    assert!(count > 0);
    let (name, incarnation) = (format!("node{number}"), Incarnation::new(1));
    let welcome = Welcome { node: node(number), name, incarnation };
    let frame = hello::encode(Kind::Welcome, &welcome).expect("small");
    socket.write_all(&[&frame.header[..], &frame.payload].concat()).expect("it takes it");
    socket
}

/// Security: who says nothing for 5 s is turned away, and so is the oldest when there are many.
#[test]
fn silent_connections_are_turned_away() {
    let (listener, at) = listen();
    let poll = mio::Poll::new().unwrap();
    let mut gate = Gate::new(listener, poll.registry(), mio::Token(0)).unwrap();
    let (me, mut tokens, start) = (identity(1, at), Tokens::from(0), crate::clock::now());
    let silent: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(at).unwrap()).collect();
    let mut tick = |gate: &mut Gate, after: Duration| {
        gate.knock();
        let (registry, tokens) = (poll.registry(), &mut tokens);
        gate.tick(&mut Context { registry, tokens, me: &me, now: start + after });
        gate.refused()
    };
    wait_until("eight are too many", || tick(&mut gate, Duration::ZERO) == 8);
    assert_eq!(tick(&mut gate, Duration::from_millis(4_999)), 8);
    assert_eq!(gate.deadline(), Some(start + Duration::from_secs(5)));
    assert_eq!(tick(&mut gate, Duration::from_secs(5)), 40);
    assert_eq!(gate.deadline(), None);
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
    assert_eq!(greet(&nodes[0].address, &hello).unwrap().name, "node1");
}
