//! Who a node is, and what becomes of one that is not who it says, over real sockets and disks.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use pickbox_raft_core::event::Warrant;
use pickbox_raft_core::ids::{Fingerprint, NodeId};

use super::rig::{Node, Place, join_at, leader, voters};
use crate::Start;
use crate::api::{Change, ChangeRefusal, TransferFailure};
use crate::net::tests::rig::wait_until;

/// Copies a state directory as a careless person would.
fn copy(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(done.expect("cp runs").success());
}

/// An address that nobody uses now.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

fn has_alarm(node: &Node, words: &str) -> bool {
    node.status().alarms.iter().any(|alarm| alarm.contains(words))
}

/// checklist 102: an image of a state directory that is restored after later runs were seen ends
/// itself and says why; the cluster goes on.
#[test]
fn an_old_image_is_found_out() {
    let place = Place::new();
    let mut nodes = place.three();
    let lead = leader(&mut nodes);
    let (node, other) = (nodes.remove(0), nodes.remove(0));
    let (name, address) = (node.me.name.clone(), node.address);
    node.stop();
    copy(&place.of(&name), &place.of("image"));
    let node = place.again(&name, address);
    wait_until("its new run is in the log", || {
        let run = node.me.incarnation;
        lead.seen.lock().unwrap().opened.contains(&run)
            && other.seen.lock().unwrap().opened.contains(&run)
    });
    node.stop();
    let image = Node::start(&place.of("image"), &name, Start::Existing, address.port());
    wait_until("it stops", || image.stopped().is_some());
    assert!(image.stopped().unwrap().contains("a copy or an old image"), "{:?}", image.stopped());
    lead.propose(b"on");
    wait_until("the others go on", || other.data().contains(&b"on".to_vec()));
}

/// Fault 67: a copy of a state directory that runs beside the original is refused while that is
/// connected, and told why.
#[test]
fn a_copy_beside_the_original_is_refused() {
    let place = Place::new();
    let mut nodes = place.three();
    let lead = leader(&mut nodes);
    let name = nodes[0].me.name.clone();
    // A copy of a running log may end in the middle of a record: that is a torn tail.
    copy(&place.of(&name), &place.of("copy"));
    let twin = Node::start(&place.of("copy"), &name, Start::Existing, 0);
    wait_until("the copy is told", || has_alarm(&twin, "another process runs with the state"));
    lead.propose(b"on");
    wait_until("the original takes part", || nodes[0].data().contains(&b"on".to_vec()));
    assert!(!twin.data().contains(&b"on".to_vec()));
}

/// checklist 99, 101: a node without state joins again under its name: as a new member in the place
/// of the former one. While that one is connected it is refused.
#[test]
fn a_name_is_taken_over_when_its_node_has_gone() {
    let place = Place::new();
    let mut nodes = place.three();
    let lead = leader(&mut nodes);
    let node = nodes.remove(0);
    let (name, number) = (node.me.name.clone(), node.me.node);
    let join = Change::Join {
        name: name.clone(),
        address: free_address().to_string(),
        key: Fingerprint([9; 32]),
        warrant: Warrant::SameUser,
    };
    assert!(
        matches!(lead.change(join), Err(ChangeRefusal::Connected(member)) if member.id == number)
    );
    node.stop();
    let again = Node::start(&place.of("empty"), &name, join_at(&lead), 0);
    assert!(again.me.node > number, "a new number");
    wait_until("it is a voter", || voters(&lead) == 3);
    assert!(lead.status().members.iter().any(|m| m.member.id == again.me.node));
    lead.propose(b"on");
    wait_until("it takes part", || again.data().contains(&b"on".to_vec()));
    // The former one, should it come back, is told and disturbs nobody.
    let term = lead.status().role.term;
    let former = Node::start(&place.of(&name), &name, Start::Existing, 0);
    wait_until("the former one is told", || has_alarm(&former, "was removed from the cluster"));
    assert_eq!(lead.status().role.term, term, "checklist 92: nobody is disturbed");
}

/// checklist 91, 92: the leader is removed, by a member: another leads, and the removed one knows.
#[test]
fn a_leader_can_be_removed() {
    let place = Place::new();
    let mut nodes = place.three();
    let lead = leader(&mut nodes);
    let removed = nodes[0].change(Change::Remove(lead.me.node)).expect("removed");
    assert_eq!(removed.id, lead.me.node);
    let next = leader(&mut nodes);
    wait_until("two are left", || voters(&next) == 2);
    wait_until("it knows", || has_alarm(&lead, "was removed from the cluster"));
    next.propose(b"on");
    wait_until("the others go on", || nodes[0].data().contains(&b"on".to_vec()));
    assert_eq!(
        next.change(Change::Remove(NodeId::new(99))),
        Err(ChangeRefusal::NoSuchMember(NodeId::new(99)))
    );
}

/// A member that takes itself out, and does not lead, learns how that ended though nobody talks to it
/// any more.
#[test]
fn a_member_can_remove_itself() {
    let place = Place::new();
    let mut nodes = place.three();
    let lead = leader(&mut nodes);
    let me = nodes[0].me.node;
    assert_eq!(nodes[0].change(Change::Remove(me)).map(|member| member.id), Ok(me));
    wait_until("two are left", || voters(&lead) == 2);
}

/// checklist 138: a node that starts at another address has it listed, by its number.
#[test]
fn a_node_that_moved_has_its_address_listed() {
    let place = Place::new();
    let mut nodes = place.three();
    let lead = leader(&mut nodes);
    let node = nodes.remove(0);
    let (name, number) = (node.me.name.clone(), node.me.node);
    node.stop();
    let moved = Node::start(&place.of(&name), &name, Start::Existing, 0);
    wait_until("it is listed", || {
        let members = lead.status().members;
        members
            .iter()
            .any(|m| m.member.id == number && m.member.address == moved.address.to_string())
    });
}

/// checklist 106: leadership goes where it is sent, from any member; not to strangers.
#[test]
fn leadership_is_handed_over_on_request() {
    let place = Place::new();
    let mut nodes = place.three();
    let lead = leader(&mut nodes);
    let to = nodes[1].me.node;
    assert_eq!(nodes[0].transfer(Some(NodeId::new(99))), Err(TransferFailure::NoTarget));
    // On a disk that is slow for long enough it stays where it is, and may be sent again.
    wait_until("it leads", || {
        let result = nodes[0].transfer(Some(to));
        assert!(matches!(result, Err(TransferFailure::TimedOut)) || result == Ok(to), "{result:?}");
        nodes[1].is_leader() && !lead.is_leader()
    });
}
