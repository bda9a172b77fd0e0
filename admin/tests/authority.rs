//! Who may do what, by real sockets of several users: most of it can be shown to root only.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::print_stdout, reason = "tells what could not be shown")]

mod rig;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use pickbox_admin::client::{Address, Target, ask};
use pickbox_admin::token::{AdminToken, Secret};
use pickbox_admin::{Admin, AdminError, Limits, Options};

use rig::{PATIENCE, as_user, connect, exchange, read_all, with_options, with_server};

/// A user who owns nothing.
const NOBODY: u32 = 65534;
const WRITE: &str = "FORWARD {\"op\":\"write\",\"path\":\"a\",\"data\":\"aGk=\"}\n";
const SECRET: &[u8] = b"correct-horse-battery";

fn local() -> Options {
    Options::at("127.0.0.1:0".parse().unwrap())
}

fn token() -> AdminToken {
    AdminToken::new(SECRET).unwrap()
}

/// Source: fault 91.
#[test]
fn another_user_may_look_and_nothing_else() {
    with_server(Limits::default(), |address, node| {
        as_user(NOBODY, || {
            let status = exchange(address, b"STATUS\n");
            assert!(status.starts_with("OK  1/1 nodes") && !status.contains("secret"), "{status}");
            assert!(!exchange(address, b"STATUS json\n").contains("secret"));
            assert!(exchange(address, b"MEMBERS\n").starts_with("OK  1 members"));
            assert!(exchange(address, b"HELP\n").starts_with("OK "));
            for line in
                ["LOG a\n", "CAT a@1\n", "LOCAL LOG a\n", WRITE, "REMOVE node1\n", "TRANSFER\n"]
            {
                let answer = exchange(address, line.as_bytes());
                assert!(answer.starts_with("ERROR denied: "), "{line}: {answer}");
                assert!(
                    answer.contains("you are uid 65534") && answer.contains("(uid 0)"),
                    "{answer}"
                );
            }
            let mut session = connect(address);
            session.write_all(b"SESSION\nREMOVE node1\nSTATUS json\n").unwrap();
            session.shutdown(Shutdown::Write).unwrap();
            let text = read_all(session);
            assert!(text.starts_with("OK session\nERROR denied: REMOVE is for "), "{text}");
            assert!(text.lines().nth(2).unwrap().starts_with('{'), "{text}");
        });
        assert!(node.waiting.lock().unwrap().is_empty());
        assert!(
            exchange(address, b"REMOVE node1\n").starts_with("OK member"),
            "one's own user may"
        );
    });
}

/// Source: fault 91: what a stranger may send is short, so that it costs little.
#[test]
fn another_user_s_long_line_is_denied_before_it_ends() {
    with_server(Limits::default(), |address, _| {
        as_user(NOBODY, || {
            let mut stream = connect(address);
            stream.write_all(WRITE.trim_end().as_bytes()).unwrap();
            stream.write_all(&[b'x'; 8192]).unwrap();
            let answer = read_all(stream);
            assert!(
                answer.starts_with("ERROR denied: a line of over 1024 bytes is for"),
                "{answer}"
            );
        });
    });
}

/// Source: fault 91: connect, send, close before the server accepts: the kernel calls such a socket
/// root's.
#[test]
fn who_has_gone_before_it_was_accepted_may_nothing() {
    let admin = Admin::bind(local()).unwrap();
    let address = admin.local_addresses()[0];
    let left = as_user(NOBODY, || {
        for _ in 0..20 {
            let mut stream = connect(address);
            stream.write_all(WRITE.as_bytes()).unwrap();
        }
    });
    if left.is_none() {
        return;
    }
    rig::with_bound(admin, |node| {
        // They were there first, so they were taken in first.
        assert!(exchange(address, b"STATUS\n").starts_with("OK"));
        assert!(node.waiting.lock().unwrap().is_empty());
    });
}

/// Source: `passwd(5)`: user 1 is `daemon`, with a group of its own, on every Debian.
#[test]
fn the_admin_group_may_everything() {
    let is_there = std::fs::read_to_string("/etc/passwd")
        .unwrap()
        .lines()
        .any(|line| line.starts_with("daemon:x:1:1:"));
    if !is_there {
        println!("no such user here: nothing is shown");
        return;
    }
    with_options(Options { group: Some("daemon".to_owned()), ..local() }, |address, _| {
        as_user(1, || {
            assert!(exchange(address, b"REMOVE node1\n").starts_with("OK member"));
        });
        as_user(NOBODY, || {
            let answer = exchange(address, b"REMOVE node1\n");
            assert!(answer.contains("root and the group daemon"), "{answer}");
            assert!(answer.contains("usermod -aG daemon"), "{answer}");
        });
    });
}

/// Source: fault 91; unix(7), `SO_PEERCRED`.
#[test]
fn at_the_unix_socket_the_kernel_says_who_asks() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let target = Target { address: Address::Unix(path.clone()), token: None };
    with_options(Options { socket: Some(path.clone()), ..local() }, |_, _| {
        assert!(ask(&target, "STATUS", PATIENCE).unwrap().starts_with("OK"));
        assert!(ask(&target, "REMOVE node1", PATIENCE).unwrap().starts_with("OK member"));
        // Whoever may connect is judged as anywhere.
        let open = |path: &std::path::Path, mode| {
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
                .unwrap();
        };
        open(directory.path(), 0o755);
        as_user(NOBODY, || {
            let error = ask(&target, "STATUS", PATIENCE).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
        });
        open(&path, 0o666);
        as_user(NOBODY, || {
            assert!(ask(&target, "STATUS", PATIENCE).unwrap().starts_with("OK"));
            let answer = ask(&target, "REMOVE node1", PATIENCE).unwrap();
            assert!(answer.contains("you are uid 65534"), "{answer}");
        });
    });
    assert!(!path.exists(), "it goes with the server");
}

/// An address of this host that is not loopback, as a client elsewhere would use.
fn outside() -> Option<SocketAddr> {
    // No packet is sent: the kernel only says which address it would come from.
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    probe.connect("192.0.2.1:9").ok()?;
    let at = probe.local_addr().unwrap();
    if at.ip().is_loopback() || at.ip().is_unspecified() {
        return None;
    }
    Some(SocketAddr::new(at.ip(), 0))
}

/// Runs `test` against a server that others can reach.
fn with_remote(limits: Limits, test: impl FnOnce(SocketAddr)) {
    let Some(address) = outside() else {
        println!("this host has no address but loopback: nothing is shown");
        return;
    };
    let options = Options { addresses: vec![address], token: Some(token()), limits, ..local() };
    with_options(options, |address, _| test(address));
}

#[test]
fn others_are_not_let_in_without_a_token() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let options = Options { addresses: vec![address.parse().unwrap()], ..local() };
        assert!(matches!(Admin::bind(options), Err(AdminError::Open { .. })), "{address}");
    }
}

/// The first line is the token, or the last.
#[test]
fn who_comes_from_elsewhere_says_the_token_first() {
    with_remote(Limits::default(), |address| {
        for line in ["STATUS\nSTATUS\n", "HELP\n", "REMOVE node1\n", "SESSION\n", "AUTH\n"] {
            let answer = exchange(address, line.as_bytes());
            assert!(answer.starts_with("ERROR denied: say AUTH and the token first"), "{answer}");
            assert_eq!(answer.lines().count(), 1, "{answer}");
        }
        let wrong = exchange(address, b"AUTH correct-horse-batterx\nREMOVE node1\n");
        assert_eq!(wrong, "ERROR denied: that is not the token of this node\n");
        let target =
            Target { address: Address::Tcp(address), token: Some(Secret::new(SECRET).unwrap()) };
        assert!(ask(&target, "REMOVE node1", PATIENCE).unwrap().starts_with("OK member"));
        assert!(ask(&target, "STATUS", PATIENCE).unwrap().starts_with("OK  1/1"));
        let mut stream = connect(address);
        stream.write_all(b"AUTH correct-horse-battery\n").unwrap();
        let mut hello = [0; 17];
        stream.read_exact(&mut hello).unwrap();
        assert_eq!(&hello, b"OK authenticated\n");
        stream.write_all(b"SESSION\nAUTH correct-horse-battery\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(
            read_all(stream),
            "OK session\nERROR bad-request: AUTH must be the first line\n"
        );
    });
}

/// Nobody can go on guessing, not with the right token either until the pause is over; who is on this
/// host is not concerned.
#[test]
fn who_guesses_the_token_is_not_listened_to() {
    with_remote(Limits::default(), |address| {
        for _ in 0..10 {
            let answer = exchange(address, b"AUTH 0123456789abcdef\n");
            assert_eq!(answer, "ERROR denied: that is not the token of this node\n");
        }
        let answer = exchange(address, b"AUTH correct-horse-battery\nSTATUS\n");
        assert!(answer.starts_with("ERROR denied: too many wrong tokens"), "{answer}");
        assert_eq!(answer.lines().count(), 1);
    });
}

/// Source: fault 88: who says nothing, or says it slowly, is gone after a while.
#[test]
fn who_does_not_say_the_token_in_time_is_gone() {
    let limits = Limits { greeting: Duration::from_millis(100), ..Limits::default() };
    with_remote(limits, |address| {
        assert!(read_all(connect(address)).starts_with("ERROR idle: "));
        assert!(dribble(connect(address)), "a byte now and then does not help");
    });
}

/// Writes a byte now and then; whether the server ends it.
fn dribble(mut stream: TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    let end = pickbox_raft::clock::now() + PATIENCE;
    let mut byte = [0; 64];
    while pickbox_raft::clock::now() < end {
        // The other side may have closed: then there is an end to be read.
        let _ = stream.write_all(b"x");
        match stream.read(&mut byte) {
            Ok(0) => return true,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return true,
            _ => {}
        }
    }
    false
}

/// Source: fault 88: a line must come to its end, however steadily it comes.
#[test]
fn a_slow_line_is_cut_off() {
    let limits = Limits {
        line: Duration::from_millis(100),
        linger: Duration::from_millis(100),
        ..Limits::default()
    };
    with_server(limits, |address, _| assert!(dribble(connect(address))));
}

/// Source: fault 88: silent connections of one user, more than there is room for. (Ten thousand are held
/// against a daemon in tests/tests/cluster/authority.rs.)
#[test]
fn one_s_own_user_finds_room_among_idle_strangers() {
    with_server(Limits::default(), |address, _| {
        let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        limit.current = limit.maximum;
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
        let held: Option<Vec<TcpStream>> = as_user(NOBODY, || {
            (0..2_000).filter_map(|_| TcpStream::connect_timeout(&address, PATIENCE).ok()).collect()
        });
        let Some(held) = held else { return };
        assert!(held.len() > 1000, "{}", held.len());
        assert!(exchange(address, b"STATUS\n").starts_with("OK"));
        assert!(exchange(address, b"REMOVE node1\n").starts_with("OK member"));
        let other = as_user(NOBODY - 1, || exchange(address, b"STATUS\n"));
        assert!(other.unwrap().starts_with("OK"), "a second stranger finds room too");
    });
}

/// Source: fault 88. Every connection is a stranger's and busy: one of them goes for one's own user.
#[test]
fn one_s_own_user_takes_a_stranger_s_place() {
    let limits = Limits { connections_max: 8, evict_after: PATIENCE, ..Limits::default() };
    with_server(limits, |address, _| {
        let mut held = Vec::new();
        for user in 0..4 {
            let Some(two) = as_user(NOBODY - user, || {
                let all: Vec<TcpStream> = (0..3).map(|_| connect(address)).collect();
                let mut all = all.into_iter();
                let two: Vec<TcpStream> = all.by_ref().take(2).collect();
                let third = read_all(all.next().unwrap());
                assert!(third.starts_with("ERROR busy: too many"), "over its quarter: {third}");
                two
            }) else {
                return;
            };
            held.push(two);
        }
        assert!(exchange(address, b"STATUS\n").starts_with("OK"));
        assert_eq!(held.len(), 4);
    });
}

/// Source: fault 87 for a port that is no HTTP: a web page can make the browser send a request whose body
/// it chooses, to any port of the user's host, and that user may do everything here.
#[test]
fn what_a_browser_sends_is_never_carried_out() {
    with_server(Limits::default(), |address, node| {
        let body = format!("SESSION\r\n{WRITE}REMOVE node1\r\n");
        for (first, method) in [
            ("POST / HTTP/1.1", "fetch"),
            ("GET /x HTTP/1.1", "an image"),
            ("OPTIONS / HTTP/1.1", "a preflight"),
            ("PROPFIND / HTTP/1.1", "another method"),
        ] {
            let request =
                format!("{first}\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\n\r\n{body}");
            let answer = exchange(address, request.as_bytes());
            assert!(answer.starts_with("ERROR bad-request: this port speaks lines"), "{answer}");
            assert_eq!(answer.lines().count(), 1, "{method}: {answer}");
        }
        // Over TLS it chooses less, but it does: the name of the host, for one.
        let mut hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n".to_vec();
        hello.extend_from_slice(body.as_bytes());
        let answer = exchange(address, &hello);
        assert!(answer.starts_with("ERROR unknown-command: "), "{answer}");
        assert_eq!(answer.lines().count(), 1, "{answer}");
        assert!(node.waiting.lock().unwrap().is_empty());
    });
}

/// The same in pieces: the line that is a command comes long after the one that is none.
#[test]
fn what_follows_a_line_of_http_is_not_read() {
    with_server(Limits::default(), |address, node| {
        let mut stream = connect(address);
        stream.write_all(b"POST / HTTP/1.1\r\n").unwrap();
        let mut answer = vec![0; 5];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, b"ERROR");
        let _ = stream.write_all(WRITE.as_bytes());
        assert_eq!(read_all(stream).lines().count(), 1);
        assert!(node.waiting.lock().unwrap().is_empty());
    });
}

/// Source: fault 88: half of what the node works on at a time is kept for those who may do everything.
#[test]
fn requests_of_strangers_leave_room_for_others() {
    let limits = Limits { requests_max: 2, ..Limits::default() };
    with_server(limits, |address, node| {
        let mut waiting = connect(address);
        waiting.write_all(WRITE.as_bytes()).unwrap();
        node.await_held(1);
        as_user(NOBODY, || {
            assert!(exchange(address, b"STATUS\n").starts_with("ERROR busy: "));
        });
        assert!(exchange(address, b"STATUS\n").starts_with("OK"));
        node.release_all();
        assert!(read_all(waiting).starts_with("OK index"));
    });
}

/// A token is as good on this host; without it another user is what it is.
#[test]
fn another_user_may_say_the_token_too() {
    with_options(Options { token: Some(token()), ..local() }, |address, _| {
        as_user(NOBODY, || {
            assert!(
                exchange(address, b"REMOVE node1\n").starts_with("ERROR denied: REMOVE is for")
            );
            let answer = exchange(address, b"AUTH correct-horse-battery\nREMOVE node1\n");
            assert!(answer.starts_with("OK authenticated\nOK member"), "{answer}");
        });
        let answer = exchange(address, b"STATUS json\nAUTH correct-horse-battery\n");
        assert!(answer.ends_with("ERROR bad-request: AUTH must be the first line\n"), "{answer}");
    });
    with_server(Limits::default(), |address, _| {
        let answer = exchange(address, b"AUTH correct-horse-battery\n");
        assert!(answer.starts_with("ERROR unsupported: this node has no admin token"), "{answer}");
    });
}

/// Source: ipv6(7): at `::` a client of v4 has a mapped address; on this host it is as local as any.
#[test]
fn at_every_address_who_is_on_this_host_needs_no_token() {
    for (address, from) in [("0.0.0.0:0", "127.0.0.1"), ("[::]:0", "127.0.0.1"), ("[::]:0", "::1")]
    {
        let addresses = vec![address.parse().unwrap()];
        with_options(Options { addresses, token: Some(token()), ..local() }, |at, _| {
            let to = SocketAddr::new(from.parse().unwrap(), at.port());
            assert!(exchange(to, b"REMOVE node1\n").starts_with("OK member"), "{address} {from}");
            as_user(NOBODY, || {
                assert!(exchange(to, b"STATUS\n").starts_with("OK"), "{address} {from}");
                assert!(exchange(to, b"REMOVE node1\n").starts_with("ERROR denied"), "{address}");
            });
        });
    }
}
