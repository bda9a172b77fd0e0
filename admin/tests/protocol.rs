//! The protocol as clients see it: real sockets on free ports, a fake node behind.
#![expect(clippy::unwrap_used, reason = "tests")]

mod rig;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pickbox_admin::forward::Operation;
use pickbox_admin::limits::FORWARD_DATA_BYTES_MAX;
use pickbox_admin::{Admin, Limits, Options, Request, StatusReport, client};

use rig::{FakeNode, PATIENCE, SharedNode, connect, exchange, read_all, report, with_server};

const WRITE: &str = "FORWARD {\"op\":\"write\",\"path\":\"a\",\"data\":\"aGk=\"}\n";

/// `echo STATUS | nc host port` ends although nc does not close its side.
#[test]
fn a_connection_ends_when_everything_is_answered() {
    with_server(Limits::default(), |address, _| {
        let text = exchange(address, b"STATUS\n");
        assert!(text.starts_with("OK  1/1 nodes"), "{text}");
        let json: StatusReport =
            serde_json::from_str(&exchange(address, b"STATUS json\n")).unwrap();
        assert_eq!(json, report());
        assert_eq!(client::ask(address, "STATUS json", PATIENCE).unwrap().lines().count(), 1);
    });
}

#[test]
fn many_requests_in_one_packet_are_answered_in_order() {
    with_server(Limits::default(), |address, _| {
        let text = exchange(
            address,
            b"\n\r\nCAT a@1\r\n\nNONSENSE\nADD_VOTER node4 127.0.0.1:8004\nLOG a\nFIND 1\n",
        );
        let words: Vec<&str> = text.lines().map(|line| line.get(..9).unwrap()).collect();
        assert_eq!(words, ["OK {\"size", "ERROR unk", "OK member", "ERROR not", "ERROR bad"]);
    });
}

#[test]
fn requests_may_come_in_pieces() {
    with_server(Limits::default(), |address, _| {
        let mut stream = connect(address);
        for byte in b"STATUS json" {
            stream.write_all(&[*byte]).unwrap();
        }
        // In one piece: a server that has answered everything it received closes.
        stream.write_all(b"\nLOG ").unwrap();
        let mut first = vec![0; serde_json::to_string(&report()).unwrap().len() + 1];
        stream.read_exact(&mut first).unwrap();
        stream.write_all(b"a\n").unwrap();
        assert_eq!(read_all(stream), "ERROR not-found: no such file\n");
    });
}

#[test]
fn a_client_that_shuts_its_side_gets_all_answers() {
    with_server(Limits::default(), |address, node| {
        let mut stream = connect(address);
        stream.write_all(format!("{WRITE}LOG a\nCAT a@1").as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        node.await_held(1);
        node.release_all();
        let text = read_all(stream);
        assert!(text.starts_with("OK index 1\nERROR not-found: no such file\nOK {"), "{text}");
    });
}

#[test]
fn half_of_a_change_is_not_acted_upon() {
    with_server(Limits::default(), |address, _| {
        let mut stream = connect(address);
        stream.write_all(b"ADD_VOTER node4 127.0.0.1:80").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert!(read_all(stream).starts_with("ERROR bad-request: the last line has no newline"));
        let mut stream = connect(address);
        stream.write_all(b"REMOVE node1").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let text = read_all(stream);
        assert!(text.starts_with("ERROR bad-request: the last line"), "of node12, perhaps: {text}");
    });
}

#[test]
fn a_session_stays_open_and_marks_the_end_of_long_answers() {
    with_server(Limits::default(), |address, _| {
        let mut stream = connect(address);
        stream.write_all(b"SESSION\n").unwrap();
        let mut hello = [0; 11];
        stream.read_exact(&mut hello).unwrap();
        assert_eq!(&hello, b"OK session\n");
        stream.write_all(b"STATUS\n").unwrap();
        let mut text = String::new();
        while !text.ends_with("\n\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            text.push(char::from(byte[0]));
        }
        stream.write_all(b"SESSION\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert!(read_all(stream).starts_with("ERROR bad-request: SESSION must be"));
    });
}

/// The largest content that fits into one request; it comes in many pieces.
#[test]
fn a_forward_of_the_largest_size_is_taken() {
    with_server(Limits::default(), |address, node| {
        let data = STANDARD.encode(vec![7; FORWARD_DATA_BYTES_MAX]);
        let line = format!("FORWARD {{\"op\":\"write\",\"path\":\"a\",\"data\":\"{data}\"}}\n");
        let mut stream = connect(address);
        stream.write_all(line.as_bytes()).unwrap();
        node.await_held(1);
        assert!(matches!(
            &node.waiting.lock().unwrap()[0].0,
            Request::Forward(forward) if matches!(
                &forward.operation, Operation::Write { data, .. } if data.len() == FORWARD_DATA_BYTES_MAX
            )
        ));
        node.release_all();
        assert_eq!(read_all(stream), "OK index 1\n");
    });
}

/// A status must not wait for a majority.
#[test]
fn status_is_answered_while_writes_wait() {
    with_server(Limits::default(), |address, node| {
        let mut waiting: Vec<TcpStream> = (0..20).map(|_| connect(address)).collect();
        for stream in &mut waiting {
            stream.write_all(WRITE.as_bytes()).unwrap();
        }
        node.await_held(20);
        assert!(exchange(address, b"STATUS\n").starts_with("OK"));
        node.release_all();
        for stream in waiting {
            assert!(read_all(stream).starts_with("OK index "));
        }
    });
}

#[test]
fn a_dropped_request_has_an_unknown_outcome() {
    with_server(Limits::default(), |address, _| {
        let line = format!("FIND {}\n", "00".repeat(32));
        assert!(exchange(address, line.as_bytes()).starts_with("ERROR unknown: "));
    });
}

#[test]
fn a_request_that_takes_too_long_has_an_unknown_outcome() {
    let limits = Limits { request: Duration::from_millis(50), ..Limits::default() };
    with_server(limits, |address, node| {
        assert!(
            exchange(address, WRITE.as_bytes()).starts_with("ERROR unknown: no answer in time")
        );
        node.release_all();
        assert!(exchange(address, b"STATUS\n").starts_with("OK"), "a late answer does no harm");
    });
}

/// Trap T28: who waits says for how long, and the server gives the node that much time, and no other
/// client.
#[test]
fn a_wait_may_take_longer_than_other_requests() {
    let limits = Limits { request: Duration::from_millis(50), ..Limits::default() };
    with_server(limits, |address, node| {
        let mut wait = connect(address);
        wait.write_all(b"WAIT 7 all timeout 60\n").unwrap();
        node.await_held(1);
        for _ in 0..3 {
            assert!(exchange(address, WRITE.as_bytes()).starts_with("ERROR unknown"));
        }
        node.release_all();
        let answer = read_all(wait);
        assert!(answer.starts_with("OK "), "{answer}");
        assert_eq!(exchange(address, b"FLUSH\n"), "OK 7\n");
    });
}

#[test]
fn a_silent_client_is_told_and_closed() {
    let limits = Limits { idle: Duration::from_millis(50), ..Limits::default() };
    with_server(limits, |address, _| {
        assert!(read_all(connect(address)).starts_with("ERROR idle: "));
        assert!(exchange(address, b"STAT").starts_with("ERROR idle: "));
    });
}

/// fault 62: no length is believed, and the end of a long line need not come.
#[test]
fn a_line_without_end_is_refused_with_bounded_memory() {
    with_server(Limits::default(), |address, _| {
        let mut stream = connect(address);
        let block = vec![b'x'; 64 * 1024];
        // The server closes its side after 1.5 MiB and drops the rest; 64 MiB stand for 2 GiB.
        for _ in 0..1024 {
            if stream.write_all(&block).is_err() {
                break;
            }
        }
        stream.shutdown(Shutdown::Write).unwrap();
        assert!(read_all(stream).starts_with("ERROR too-long: "));
        assert!(exchange(address, b"STATUS\n").starts_with("OK"));
    });
}

#[test]
fn unfinished_lines_of_all_clients_together_are_bounded() {
    let limits = Limits { held_bytes_max: 256 * 1024, ..Limits::default() };
    with_server(limits, |address, _| {
        let block = vec![b'x'; 100 * 1024];
        let mut streams: Vec<TcpStream> = (0..8).map(|_| connect(address)).collect();
        for stream in &mut streams {
            let _ = stream.write_all(&block);
        }
        let refused = streams.into_iter().rev().take(1).map(read_all).next().unwrap();
        assert!(refused.starts_with("ERROR busy: "), "{refused}");
        assert!(exchange(address, b"STATUS\n").starts_with("OK"), "short requests always fit");
    });
}

/// fault 88
#[test]
fn connections_over_the_cap_are_told() {
    let limits = Limits { connections_max: 4, evict_after: PATIENCE, ..Limits::default() };
    with_server(limits, |address, _| {
        let held: Vec<TcpStream> = (0..4).map(|_| connect(address)).collect();
        assert!(read_all(connect(address)).starts_with("ERROR busy: too many connections"));
        drop(held);
    });
}

/// fault 88: a thousand silent connections keep nobody out.
#[test]
fn idle_connections_make_room() {
    let limits = Limits { connections_max: 100, evict_after: Duration::ZERO, ..Limits::default() };
    with_server(limits, |address, _| {
        let _silent: Vec<TcpStream> = (0..400).map(|_| connect(address)).collect();
        assert!(exchange(address, b"STATUS\n").starts_with("OK"));
    });
}

#[test]
fn requests_over_the_bound_are_busy() {
    let limits = Limits { requests_max: 2, ..Limits::default() };
    with_server(limits, |address, node| {
        let mut held: Vec<TcpStream> = (0..2).map(|_| connect(address)).collect();
        for stream in &mut held {
            stream.write_all(WRITE.as_bytes()).unwrap();
        }
        node.await_held(2);
        assert!(exchange(address, WRITE.as_bytes()).starts_with("ERROR busy: "));
        node.release_all();
        assert!(held.into_iter().all(|stream| read_all(stream).starts_with("OK index")));
    });
}

/// fault 60
#[test]
fn garbage_leaves_the_server_working() {
    let limits = Limits { linger: Duration::from_millis(50), ..Limits::default() };
    with_server(limits, |address, _| {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..100 {
            let bytes: Vec<u8> = std::iter::repeat_with(|| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[3]
            })
            .take(500)
            .collect();
            let mut stream = connect(address);
            stream.write_all(&bytes).unwrap();
        }
        assert!(exchange(address, b"STATUS\n").starts_with("OK"));
    });
}

#[test]
fn a_client_that_vanishes_while_its_write_waits_does_no_harm() {
    with_server(Limits::default(), |address, node| {
        let mut stream = connect(address);
        stream.write_all(WRITE.as_bytes()).unwrap();
        node.await_held(1);
        drop(stream);
        node.release_all();
        assert!(exchange(address, b"STATUS\n").starts_with("OK"));
    });
}

#[test]
fn a_stopping_server_tells_those_who_wait() {
    let node = FakeNode::default();
    let admin = Admin::bind(Options::at("127.0.0.1:0".parse().unwrap())).unwrap();
    let (address, stopper) = (admin.local_addresses()[0], admin.stopper());
    std::thread::scope(|scope| {
        let shared = SharedNode(&node);
        let server = scope.spawn(move || admin.run(&shared));
        let mut stream = connect(address);
        stream.write_all(WRITE.as_bytes()).unwrap();
        node.await_held(1);
        stopper.stop();
        assert!(read_all(stream).starts_with("ERROR stopping: "));
        server.join().unwrap().unwrap();
    });
}

#[test]
fn a_taken_address_is_an_error_that_names_it() {
    let first = Admin::bind(Options::at("127.0.0.1:0".parse().unwrap())).unwrap();
    let address = first.local_addresses()[0];
    let error = Admin::bind(Options::at(address)).unwrap_err();
    assert!(error.to_string().contains(&address.to_string()));
}
