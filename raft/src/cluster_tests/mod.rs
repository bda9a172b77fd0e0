//! The log as the room above sees it: whole nodes over loopback, on real directories.

use std::io::{IoSlice, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use pickbox_raft_core::ids::{ClusterId, Fingerprint, Incarnation, Index, NodeId, ReadId};
use pickbox_raft_core::members::{MemberRole, Members};

use crate::api::{ChangeRefusal, Command, Refusal};
use crate::join::{JoinError, JoinOptions, Seed, join};
use crate::keys::KeyRing;
use crate::net::Vouched;
use crate::net::frame::Kind;
use crate::net::hello::{self, Hello, Purpose};
use crate::net::secured::Secured;
use crate::net::tests::rig::{PATIENCE, wait_until};
use crate::net::tls::{self, Pin};
use crate::{Error, Start};
use rig::{Node, Place, leader, voters};

mod hang;
mod identity;
mod measure;
mod rig;

/// checklist 15: one voter leads at once and commits alone.
#[test]
fn a_single_node_commits() {
    let place = Place::new();
    let node = place.first();
    node.propose(b"one");
    assert_eq!(node.data(), [b"one"]);
    let status = node.status();
    assert_eq!((status.node, voters(&node)), (NodeId::new(1), 1));
    assert!(status.counters.wal_syncs > 0);
    let seen = node.stop();
    assert!(seen.lock().unwrap().stopped.is_some(), "the room above hears the last word");
}

/// Design, section 5: a change of a follower is applied on every node, once and in one order,
/// though it was sent twice.
#[test]
fn a_followers_proposal_is_applied_once_everywhere() {
    let place = Place::new();
    let mut nodes = place.three();
    let lead = leader(&mut nodes);
    let proposal = nodes[0].begin(b"from a follower");
    nodes[0].settle(proposal.serial);
    nodes[0].handle.send(Command::Propose(proposal)).unwrap();
    wait_until("a duplicate is in the log", || lead.seen.lock().unwrap().duplicates == 1);
    nodes[0].propose(b"second");
    lead.propose(b"third");
    nodes.push(lead);
    let wanted = [&b"from a follower"[..], b"second", b"third"];
    for node in &nodes {
        wait_until("all three are applied", || node.data().len() == 3);
        assert_eq!(node.data(), wanted);
    }
}

/// Design, P6: the leader goes in good order, another leads, writes go on; it comes back and
/// has everything.
#[test]
fn writes_go_on_when_the_leader_stops() {
    let place = Place::new();
    let mut nodes = place.three();
    let lead = leader(&mut nodes);
    nodes[0].propose(b"before");
    let (name, address) = (lead.me.name.clone(), lead.address);
    let under_way = nodes[0].begin(b"during");
    lead.stop();
    wait_until("a proposal survives the leader", || nodes[0].data().len() == 2);
    nodes[0].handle.send(Command::Settled(under_way.serial)).unwrap();
    nodes[1].propose(b"after");
    let again = place.again(&name, address);
    wait_until("it catches up", || again.data().len() == 3);
    again.propose(b"of the one that came back");
    wait_until("all have it", || nodes.iter().all(|node| node.data().len() == 4));
    assert_eq!(again.data(), nodes[0].data());
}

/// checklist 57-59: every connection to the leader breaks; the cluster heals without help.
#[test]
fn a_cut_connection_heals() {
    let place = Place::new();
    let mut nodes = place.three();
    let lead = leader(&mut nodes);
    nodes[0].propose(b"before");
    for node in &nodes {
        // The newest connection of a member replaces its former one: so this cuts.
        let me = crate::net::LocalNode { incarnation: Incarnation::new(7), ..node.me.clone() };
        let hello = Hello::of(&me, lead.me.node, Purpose::Consensus);
        drop(say_hello(&lead, node, &hello));
    }
    nodes[0].propose(b"after");
    nodes[1].propose(b"more");
    wait_until("the leader has it all", || lead.data().len() == 3);
}

/// Greets a node with the key of another one, and waits for its answer.
fn say_hello(to: &Node, with: &Node, hello: &Hello) -> Secured<TcpStream> {
    let socket = TcpStream::connect(to.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let pin = Pin::OneOf(vec![to.me.key]);
    let mut line =
        Secured::new(socket, tls::dialer(&with.keys.current(), pin, tls::MEMBER).unwrap());
    assert!(line.shake_hands().unwrap());
    let frame = hello::encode(Kind::Hello, hello).unwrap();
    let bytes = [&frame.header[..], &frame.payload].concat();
    line.write_vectored(&[IoSlice::new(&bytes)]).unwrap();
    line.read_into(&mut Vec::with_capacity(64)).unwrap();
    line
}

/// Issue 2, 6; checklist 65: garbage, half greetings and idle connections on every port.
#[test]
fn garbage_on_the_ports_leaves_the_cluster_working() {
    let place = Place::new();
    let nodes = place.three();
    let mut open = Vec::new();
    for node in &nodes {
        for garbage in [&b"GET / HTTP/1.0\r\n\r\n"[..], &[0xff; 9_000], &[0, 0, 0, 0x80, 1, 2], b""]
        {
            for _ in 0..20 {
                let mut socket = TcpStream::connect(node.address).unwrap();
                let _ = socket.write_all(garbage);
                open.push(socket);
            }
        }
        // A member's greeting, and then garbage in its name.
        let other = nodes.iter().find(|other| other.me.node != node.me.node).unwrap();
        let hello = Hello::of(&other.me, node.me.node, Purpose::Consensus);
        let _ = say_hello(node, other, &hello).write_vectored(&[IoSlice::new(&vec![0xee; 70_000])]);
    }
    for (number, node) in nodes.iter().enumerate() {
        node.propose(format!("from {number}").as_bytes());
    }
    for node in &nodes {
        wait_until("all is applied", || node.data().len() == 3);
        assert!(node.status().counters.refused_connections > 0);
    }
}

/// checklist 93: a node asks a follower, is led to the leader, learns, and becomes a voter.
#[test]
fn a_joiner_is_led_to_the_leader_and_promoted() {
    let place = Place::new();
    let mut nodes = place.three();
    let lead = leader(&mut nodes);
    nodes[0].propose(b"old");
    let fourth = place.join("node4", &nodes[0]);
    wait_until("it is a voter", || voters(&lead) == 4);
    wait_until("it has the past", || fourth.data() == [b"old"]);
    fourth.propose(b"new");
    assert_eq!(nodes[0].add("node4", &fourth.address.to_string()), Ok(fourth.me.node));
    wait_until("all have it", || lead.data().len() == 2);
}

/// Issue 2, `ADD_VOTER`: on a follower it is passed on to the leader; a wrong name or a taken one
/// is told.
#[test]
fn adding_a_member_works_on_any_node() {
    let place = Place::new();
    let mut nodes = place.three();
    let lead = leader(&mut nodes);
    let nobody = "127.0.0.1:1";
    let added = nodes[0].add("node9", nobody).expect("the follower passes it on");
    assert_eq!(lead.add("node9", nobody), Ok(added));
    let member = lead.status().members.into_iter().find(|m| m.member.id == added).unwrap();
    assert_eq!(member.member.role, MemberRole::Staging { replaces: None });
    assert!(!member.connected);
    assert!(matches!(nodes[1].add("node9", "127.0.0.1:2"), Err(ChangeRefusal::Taken(_))));
    for (name, address) in [("a b", "127.0.0.1:2"), ("node8", "0.0.0.0:2"), ("node8", "no:2")] {
        assert_eq!(nodes[1].add(name, address), Err(ChangeRefusal::Invalid), "{name} {address}");
    }
}

fn seed(address: &str) -> Seed {
    Seed { address: address.to_owned(), key: None }
}

/// A name that a voter has is not given to a node without state, and waiting can be ended.
#[test]
fn joining_can_be_refused_and_cancelled() {
    let place = Place::new();
    let node = place.first();
    node.settle_open();
    let address = node.address.to_string();
    let taken = JoinOptions {
        seeds: vec![seed(&address)],
        cluster: ClusterId::default(),
        keys: KeyRing::of_number(7),
        token: None,
        name: "node1".to_owned(),
        address,
    };
    let refused = join(&taken, &AtomicBool::new(false));
    assert!(matches!(refused, Err(JoinError::Taken(_))), "{refused:?}");
    let far = JoinOptions { seeds: vec![seed("no:1")], ..taken.clone() };
    let refused = join(&far, &AtomicBool::new(false));
    assert!(matches!(refused, Err(JoinError::Address(_))), "{refused:?}");
    let cancelled = AtomicBool::new(false);
    let nobody = JoinOptions { seeds: vec![seed("127.0.0.1:1")], ..taken };
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| join(&nobody, &cancelled));
        cancelled.store(true, Ordering::SeqCst);
        assert_eq!(waiting.join().unwrap(), Err(JoinError::Cancelled));
    });
}

/// Design, section 3: content that too few hold is not appended, and its origin hears it.
#[test]
fn a_proposal_without_enough_holders_is_refused() {
    let place = Place::new();
    let mut nodes = place.three();
    let lead = leader(&mut nodes);
    let (own, other) = (nodes[0].me.node, nodes[1].me.node);
    let refused = nodes[0].begin_held(b"rare", &[own]);
    wait_until("it is refused", || {
        nodes[0].seen.lock().unwrap().refused == [(refused.serial, Refusal::NeedHolders)]
    });
    let again = std::sync::Arc::new(pickbox_raft_core::log::Proposal {
        holders: Some(vec![own, other]),
        ..(*refused).clone()
    });
    nodes[0].handle.send(Command::Propose(again)).unwrap();
    wait_until("held by two it is taken", || lead.data().len() == 1);
}

/// Design, P5: any node learns up to where it must have applied; alone it learns that nobody can
/// say.
#[test]
fn a_read_is_confirmed_on_any_node() {
    let place = Place::new();
    let nodes = place.three();
    nodes[1].propose(b"x");
    for node in &nodes {
        node.handle.send(Command::Read(ReadId::new(1))).unwrap();
        let id = ReadId::new(1);
        wait_until("an answer", || node.seen.lock().unwrap().reads.contains_key(&id));
        let index = node.seen.lock().unwrap().reads[&id];
        assert!(index.is_some_and(|index| index >= nodes[1].status().first));
    }
}

/// Without a majority: no leader, but an answer at once; and the proposal waits and survives.
#[test]
fn a_minority_answers_and_waits() {
    let place = Place::new();
    let mut nodes = place.three();
    let alone = nodes.remove(2);
    nodes.iter().for_each(Node::settle_open);
    let places: Vec<_> = nodes.iter().map(|node| (node.me.name.clone(), node.address)).collect();
    for node in nodes {
        node.stop();
    }
    let proposal = alone.begin(b"kept");
    wait_until("it knows that nobody leads", || alone.status().role.leader.is_none());
    let back = place.again(&places[0].0, places[0].1);
    wait_until("the proposal made it", || back.data() == [b"kept"]);
    alone.handle.send(Command::Settled(proposal.serial)).unwrap();
}

/// fault 69: what a join that was broken off was told of the members counts for nothing in a cluster that
/// is founded in its place.
#[test]
fn a_founder_does_not_believe_what_another_cluster_told() {
    let place = Place::new();
    let disk = crate::disk::RealDisk::open(&place.of("node1")).unwrap();
    let members = Members::bootstrap("other".into(), "host:1".into(), Fingerprint([9; 32]));
    crate::roster::store(&disk, &Vouched { at: Index::new(1_000), members }).unwrap();
    drop(disk);
    let mut nodes = place.three();
    let lead = leader(&mut nodes);
    lead.propose(b"all three are members");
    wait_until("they have it", || nodes.iter().all(|node| node.data().len() == 1));
}

/// The daemon's way to fail: a clear error and nothing changed.
#[test]
fn what_cannot_be_opened_is_named() {
    let elsewhere = "192.0.2.1:8001".parse().unwrap();
    assert!(
        matches!(crate::listen(elsewhere), Err(Error::Listen { address, .. }) if address == elsewhere)
    );
    let place = Place::new();
    let open = |name: &str, start: Start| {
        let disk = crate::disk::RealDisk::open(&place.of("node1")).unwrap();
        crate::open(crate::Options {
            keys: KeyRing::load_or_create(&disk).unwrap(),
            disk,
            listener: crate::listen("127.0.0.1:0".parse().unwrap()).unwrap(),
            name: name.to_owned(),
            address: "127.0.0.1:1".to_owned(),
            start,
            applied: pickbox_raft_core::ids::LogPosition::default(),
            installed: None,
            runs: crate::net::Runs::new(),
            trace: None,
            cancelled: &AtomicBool::new(false),
        })
    };
    assert!(matches!(open("node1", Start::Existing), Err(Error::NoState)));
    assert!(open("node1", Start::Bootstrap).is_ok());
    assert!(matches!(open("node2", Start::Existing), Err(Error::OtherName { .. })));
    assert!(open("node1", Start::Bootstrap).is_ok(), "the second time it is ignored");
}
