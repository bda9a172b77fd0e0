//! Contents between members.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::rig::{Node, PATIENCE, identity, listen, members, mesh, node, wait_until};
use crate::bulk::{ARRIVED_BYTES_MAX, BulkError, BulkEvent, CONTENT_BYTES_MAX, QUEUE_BYTES_MAX};

fn message(from: u64, bytes: Vec<u8>) -> BulkEvent {
    BulkEvent::Message { from: node(from), bytes }
}

/// Any size up to the bound, in order, both ways.
#[test]
fn contents_arrive_whole_and_in_order() {
    let nodes = mesh(2);
    nodes[0].expect_event(&BulkEvent::Up(node(2)));
    nodes[1].expect_event(&BulkEvent::Up(node(1)));
    for size in [0, 1, 70_000, CONTENT_BYTES_MAX] {
        let bytes: Vec<u8> = (0..=250).cycle().take(size).collect();
        nodes[0].bulk.send(node(2), bytes.clone()).expect("there is room");
        let event = nodes[1].events.recv_timeout(PATIENCE).expect("it arrives");
        assert!(event == message(1, bytes), "{size} bytes arrive as they were");
    }
    nodes[1].bulk.send(node(1), b"back".to_vec()).expect("there is room");
    nodes[0].expect_event(&message(2, b"back".to_vec()));
    let large = vec![0; CONTENT_BYTES_MAX + 1];
    assert_eq!(nodes[0].bulk.send(node(2), large), Err(BulkError::TooLarge));
    assert_eq!(nodes[0].bulk.send(node(3), Vec::new()), Err(BulkError::Unreachable));
}

/// Design, P8: a receiver that takes nothing stops the sender; nothing grows, nothing is lost,
/// and the sender is told when to go on.
#[test]
fn a_receiver_that_takes_nothing_stops_the_sender() {
    let nodes = mesh(2);
    nodes[0].expect_event(&BulkEvent::Up(node(2)));
    nodes[1].expect_event(&BulkEvent::Up(node(1)));
    let piece = |number: u32| [&number.to_le_bytes()[..], &vec![5; 256 * 1024]].concat();
    let mut sent = 0;
    // Busy for good: the kernel's buffers are full as well.
    let mut calm = 0;
    wait_until("the sender is stopped", || {
        match nodes[0].bulk.send(node(2), piece(sent)) {
            Ok(()) => (sent, calm) = (sent + 1, 0),
            Err(error) => {
                assert_eq!(error, BulkError::Busy);
                calm += 1;
            }
        }
        calm > 50
    });
    let held: usize = nodes[1].events.len() * 256 * 1024;
    assert!(held <= ARRIVED_BYTES_MAX + 512 * 1024, "{held} bytes wait to be taken");
    // What the kernel may hold: the largest receive buffer (tcp_rmem) and send buffer, as counted
    // by it, on the usual Linux.
    let kernel = 40 * 1024 * 1024;
    let most = QUEUE_BYTES_MAX + ARRIVED_BYTES_MAX + kernel;
    assert!(usize::try_from(sent).unwrap() * 256 * 1024 < most, "{sent} pieces were taken");

    for number in 0..sent {
        let event = nodes[1].events.recv_timeout(PATIENCE).expect("it arrives");
        assert!(event == message(1, piece(number)), "piece {number} arrives in its place");
    }
    nodes[0].expect_event(&BulkEvent::Drained(node(2)));
    nodes[0].bulk.send(node(2), piece(sent)).expect("there is room again");
    nodes[1].expect_event(&message(1, piece(sent)));
}

/// Security, "budgets per peer": a peer that sends as much as it can does not keep another one from
/// being heard.
#[test]
fn a_peer_that_floods_does_not_silence_another() {
    // Whichever of them was there first.
    for (loud, quiet) in [(1, 2), (2, 1)] {
        let nodes = mesh(3);
        let mut up = 0;
        while up < 2 {
            let event = nodes[0].events.recv_timeout(PATIENCE).expect("it comes in time");
            up += usize::from(matches!(event, BulkEvent::Up(_)));
        }
        nodes[loud].expect_event(&BulkEvent::Up(node(1)));
        nodes[quiet].expect_event(&BulkEvent::Up(node(1)));
        let stop = AtomicBool::new(false);
        let before = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    // Busy: at once again.
                    let _ = nodes[loud].bulk.send(node(1), vec![2; 16]);
                }
            });
            let full = 64;
            wait_until("nothing more fits", || nodes[0].events.len() >= full);
            let sent = nodes[quiet].traffic().bytes_sent;
            nodes[quiet].bulk.send(node(1), vec![3]).expect("there is room");
            wait_until("it is on its way", || nodes[quiet].traffic().bytes_sent > sent);
            let is_quiet = || match nodes[0].events.recv_timeout(PATIENCE).expect("it goes on") {
                BulkEvent::Message { bytes, .. } => bytes == [3],
                other => panic!("{other:?}"),
            };
            let before = (0..1_000).take_while(|_| !is_quiet()).count();
            stop.store(true, Ordering::SeqCst);
            before
        });
        assert!(before < 200, "{before} messages of the one before the other's");
    }
}

/// A peer that goes is told as down, one that comes back as up; in between nothing is taken.
#[test]
fn a_break_is_told_and_healed() {
    let (first, second) = (listen(), listen());
    let known = members(&[first.1, second.1]);
    let one = Node::start(identity(1, first.1), first.0, &known);
    let two = Node::start(identity(2, second.1), second.0, &known);
    one.expect_event(&BulkEvent::Up(node(2)));
    drop(two);
    one.expect_event(&BulkEvent::Down(node(2)));
    assert_eq!(one.bulk.send(node(2), vec![1]), Err(BulkError::Unreachable));
    let again = std::net::TcpListener::bind(second.1).expect("the port is free again");
    let two = Node::start(identity(2, second.1), again, &known);
    one.expect_event(&BulkEvent::Up(node(2)));
    one.bulk.send(node(2), b"again".to_vec()).expect("there is room");
    two.expect_event(&message(1, b"again".to_vec()));
    assert!(two.events.recv_timeout(Duration::ZERO).is_err(), "nothing else arrived");
}

/// A member that left is down for good.
#[test]
fn a_member_that_left_is_hung_up_on() {
    let (first, second) = (listen(), listen());
    let known = members(&[first.1, second.1]);
    let one = Node::start(identity(1, first.1), first.0, &known);
    let two = Node::start(identity(2, second.1), second.0, &known);
    one.expect_event(&BulkEvent::Up(node(2)));
    two.expect_event(&BulkEvent::Up(node(1)));
    let mut alone = known.clone();
    alone.members.pop();
    one.order(super::rig::Order::Members(alone));
    one.expect_event(&BulkEvent::Down(node(2)));
    two.expect_event(&BulkEvent::Down(node(1)));
}

/// Measures what loopback carries, for docs/performance.md: run with `--release -- --ignored
/// --nocapture`.
#[test]
#[ignore = "a measurement"]
fn loopback_throughput() {
    let nodes = mesh(2);
    nodes[0].expect_event(&BulkEvent::Up(node(2)));
    nodes[1].expect_event(&BulkEvent::Up(node(1)));
    let (piece_bytes, pieces) = (1024 * 1024, 4_096);
    let start = crate::clock::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..pieces {
                while nodes[0].bulk.send(node(2), vec![1; piece_bytes]) == Err(BulkError::Busy) {
                    nodes[0].expect_event(&BulkEvent::Drained(node(2)));
                }
            }
        });
        for _ in 0..pieces {
            assert!(matches!(
                nodes[1].events.recv_timeout(PATIENCE),
                Ok(BulkEvent::Message { .. })
            ));
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{pieces} pieces of 1 MiB in {seconds:.2} s: {:.0} MiB/s",
        f64::from(pieces) / seconds
    );
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    println!("both ends in one process: {peak}");
}
