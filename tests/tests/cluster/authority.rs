//! Who may do what at a running daemon: other users of the host (fault 91), browsers (fault 87), crowds
//! (fault 88), and other hosts.

#![expect(clippy::print_stdout, reason = "tells what could not be shown")]

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pickbox_admin::client::{self, Address, Target};
use pickbox_store::content_id::ContentId;
use pickbox_tests::cluster::{Cluster, Daemon, PATIENCE, Signal, tool_program};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// Somebody with no rights (nobody, on most systems).
const NOBODY: u32 = 65534;
const WRITE: &str = "FORWARD {\"op\":\"write\",\"path\":\"planted\",\"data\":\"aGk=\"}\n";

/// Whether another user can be played here; says so if not.
fn can_play() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("skipped: only root can play another user");
    }
    is_root
}

/// Runs this as another user: what it opens and connects is that user's.
fn as_user<T: Send>(uid: u32, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let (gid, uid) = (Gid::from_raw(uid), Uid::from_raw(uid));
            set_thread_groups(&[]).unwrap();
            set_thread_res_gid(gid, gid, gid).unwrap();
            set_thread_res_uid(uid, uid, uid).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

/// A cluster whose directory everybody may enter, so that what is refused is refused by itself.
fn open_cluster(count: usize) -> Cluster {
    let cluster = Cluster::start(count);
    fs::set_permissions(cluster.root(), Permissions::from_mode(0o755)).unwrap();
    cluster
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// What is answered to these bytes until the daemon closes.
fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    // The daemon may have closed already: that is an answer.
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn peer_address(daemon: &Daemon) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], daemon.port))
}

/// fault 91: what another user of the host gets at the ports of each node: how it is, nothing more.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn another_user_gets_at_no_name_and_no_content() {
    if !can_play() {
        return;
    }
    let cluster = open_cluster(3);
    let secret = ["secret", "name"].join("-");
    cluster.write(0, &secret, "content");
    cluster.await_converged();
    let hash = ContentId::of(b"content");
    let members = cluster.ask(0, "MEMBERS json").unwrap();
    for node in 0..3 {
        let daemon = cluster.daemon(node);
        let address = daemon.admin_address();
        as_user(NOBODY, || {
            for line in ["STATUS", "STATUS json", "MEMBERS", "HELP"] {
                let answer = client::ask(address, line, PATIENCE).unwrap();
                assert!(!answer.starts_with("ERROR") && !answer.contains(&secret), "{answer}");
            }
            for line in [
                WRITE.trim_end(),
                "REMOVE node1",
                "TRANSFER",
                "ADD_VOTER evil 127.0.0.1:1",
                &format!("LOG {secret}"),
                &format!("LOCAL LOG {secret}"),
                &format!("CAT {secret}@1"),
                &format!("FIND {hash}"),
            ] {
                let answer = client::ask(address, line, PATIENCE).unwrap();
                assert!(answer.starts_with("ERROR denied: "), "{line}: {answer}");
                assert!(answer.contains("you are uid 65534"), "{answer}");
            }
            // The other port is for members: what a client would say there is nothing.
            let mut stream = connect(peer_address(daemon));
            let _ = stream.write_all(WRITE.as_bytes());
            let _ = stream.shutdown(Shutdown::Write);
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            assert!(!String::from_utf8_lossy(&answer).contains(&secret));
        });
        let log = daemon.log_text();
        let audit: Vec<&str> = log.lines().filter(|line| line.contains("event=denied")).collect();
        assert!(audit.iter().any(|line| line.contains("command=FORWARD uid=65534")), "{audit:?}");
        let told = audit.iter().any(|line| line.contains(&secret) || line.contains("planted"));
        assert!(!told, "the audit names the command, not what follows it: {audit:?}");
    }
    assert_eq!(cluster.ask(0, "MEMBERS json").unwrap().len(), members.len());
    let tree = cluster.await_converged();
    assert_eq!(tree.keys().collect::<Vec<_>>(), [&secret.into_bytes()]);
}

/// fault 91: who connects, sends and closes while the daemon has not accepted yet leaves a socket that
/// the kernel calls root's.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn who_has_gone_before_the_daemon_looks_is_not_root() {
    if !can_play() {
        return;
    }
    let cluster = open_cluster(1);
    let daemon = cluster.daemon(0);
    let address = daemon.admin_address();
    daemon.freeze();
    as_user(NOBODY, || {
        for _ in 0..50 {
            connect(address).write_all(WRITE.as_bytes()).unwrap();
        }
    });
    daemon.signal(Signal::CONT);
    // These were there first, and are taken in first.
    cluster.await_that("it answers", |cluster| cluster.status(0).is_some());
    let answer = cluster.forward_write(0, "after", b"after");
    assert!(answer.starts_with("OK"), "{answer}");
    let tree = cluster.await_converged();
    assert_eq!(tree.len(), 1, "{:?}", tree.keys());
    let log = daemon.log_text();
    assert!(log.contains("event=denied command=FORWARD uid=gone"), "{log}");
}

/// Everything below a directory, itself among it.
fn all_below(top: &Path) -> Vec<PathBuf> {
    let (mut found, mut waiting) = (vec![top.to_owned()], vec![top.to_owned()]);
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).unwrap().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found
}

/// fault 91: state, socket and passing files are closed, and lie nowhere else.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn another_user_gets_at_no_file_of_the_daemon() {
    if !can_play() {
        return;
    }
    let cluster = open_cluster(3);
    let before: BTreeSet<_> = fs::read_dir(std::env::temp_dir()).unwrap().flatten().collect_names();
    cluster.write(0, "large", super::files::noise(1, 8 << 20));
    for number in 0..20 {
        cluster.write(0, "small", format!("version {number}"));
        let answer = cluster.forward_write(1, "other", format!("{number}").as_bytes());
        assert!(answer.starts_with("OK"), "{answer}");
    }
    cluster.await_converged();
    for node in 0..3 {
        let daemon = cluster.daemon(node);
        let pid = daemon.pid().unwrap();
        let all = all_below(&daemon.state);
        assert!(all.len() > 8, "{all:?}");
        assert!(all.iter().any(|path| path.ends_with("admin.sock")), "{all:?}");
        as_user(NOBODY, || {
            let denied = |path: &Path| match fs::File::open(path) {
                Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{path:?}"),
                Ok(_) => panic!("{} can be read", path.display()),
            };
            for path in &all {
                denied(path);
            }
            for name in ["environ", "mem", "maps"] {
                denied(Path::new(&format!("/proc/{pid}/{name}")));
            }
            let socket = UnixStream::connect(daemon.state.join("admin.sock"));
            assert_eq!(socket.unwrap_err().kind(), ErrorKind::PermissionDenied);
            let planted = fs::write(daemon.state.join("planted"), "x");
            assert_eq!(planted.unwrap_err().kind(), ErrorKind::PermissionDenied);
        });
    }
    let after: BTreeSet<_> = fs::read_dir(std::env::temp_dir()).unwrap().flatten().collect_names();
    let new: Vec<_> =
        after.difference(&before).filter(|name| name.starts_with("pickbox")).collect();
    let others: Vec<_> = new.iter().filter(|name| !name.starts_with("pickbox-test-")).collect();
    assert!(others.is_empty(), "a daemon makes no file outside: {others:?}");
}

/// Names of directory entries.
trait Names {
    fn collect_names(self) -> BTreeSet<String>;
}

impl<I: Iterator<Item = fs::DirEntry>> Names for I {
    fn collect_names(self) -> BTreeSet<String> {
        self.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

/// fault 87: a web page can make a browser of the very user that runs the node send what it likes after a
/// request line. None of it is carried out.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn what_a_browser_sends_to_a_daemon_is_not_carried_out() {
    let cluster = Cluster::start(1);
    let address = cluster.daemon(0).admin_address();
    let body = format!("SESSION\r\n{WRITE}REMOVE node1\r\n");
    for first in [
        "POST / HTTP/1.1",
        "POST /?FORWARD HTTP/1.0",
        "PUT / HTTP/1.1",
        "GET / HTTP/1.1",
        "OPTIONS / HTTP/1.1",
        "PROPFIND / HTTP/1.1",
    ] {
        let (port, length) = (address.port(), body.len());
        for host in [format!("127.0.0.1:{port}"), "rebound.example".to_owned()] {
            let request = format!(
                "{first}\r\nHost: {host}\r\nOrigin: http://evil.example\r\nContent-Type: text/plain\r\n\
                 Content-Length: {length}\r\nUpgrade: websocket\r\n\r\n{body}"
            );
            let answer = exchange(address, request.as_bytes());
            assert!(answer.starts_with("ERROR bad-request: this port speaks lines"), "{answer}");
            assert_eq!(answer.lines().count(), 1, "{answer}");
        }
    }
    // A greeting of TLS whose fields the page has chosen.
    let mut hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 \n".to_vec();
    hello.extend_from_slice(body.as_bytes());
    assert_eq!(exchange(address, &hello).lines().count(), 1);
    assert!(cluster.await_converged().is_empty());
    assert_eq!(cluster.status(0).unwrap().members.len(), 1);
}

/// fault 88: ten thousand silent connections of another user, and lines that never end, keep the node's own
/// user from nothing, and the members from nothing.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn ten_thousand_idle_connections_keep_nobody_out() {
    if !can_play() {
        return;
    }
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let cluster = open_cluster(3);
    let leader = cluster.leader();
    let term = cluster.status(leader).unwrap().term;
    let address = cluster.daemon(leader).admin_address();
    let mut held: Vec<TcpStream> = as_user(NOBODY, || {
        (0..10_000).filter_map(|_| TcpStream::connect_timeout(&address, PATIENCE).ok()).collect()
    });
    assert!(held.len() > 5_000, "{}", held.len());
    for round in 0..20 {
        // Each has one more byte of its line, those that the daemon still has.
        for stream in &mut held {
            let _ = stream.write(b"S");
        }
        let path = format!("round/{round}");
        let answer = cluster.forward_write(leader, &path, b"content");
        assert!(answer.starts_with("OK"), "{answer}");
        let other = as_user(NOBODY - 1, || exchange(address, b"STATUS\n"));
        assert!(other.starts_with("OK"), "a second stranger finds room: {other}");
    }
    assert!(cluster.ask(leader, "LOG round/7").unwrap().starts_with("OK ["));
    let resident = cluster.daemon(leader).memory_kb("VmHWM");
    assert!(resident < 128 * 1024, "{resident} kB");
    drop(held);
    assert_eq!(cluster.await_converged().len(), 21);
    let report = cluster.status(leader).unwrap();
    assert_eq!((cluster.leader(), report.term), (leader, term), "nobody had to be elected");
}

/// The users of the group that `--admin-group` names may do everything, at the port and at the socket;
/// also in the sandbox the daemon knows who is in it. (On Debian the user daemon is number 1.)
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn the_admin_group_may_do_everything() {
    let accounts = fs::read_to_string("/etc/passwd").unwrap();
    if !can_play() || !accounts.lines().any(|line| line.starts_with("daemon:x:1:1:")) {
        println!("skipped: there is no user daemon here");
        return;
    }
    let mut cluster = open_cluster(1);
    cluster.terminate(0);
    let path = cluster.root().join("group.sock");
    let flags = [format!("--admin-socket={}", path.display()), "--admin-group=daemon".to_owned()];
    cluster.daemon_mut(0).entry.extend(flags);
    cluster.restart(0);
    assert_eq!(cluster.leader(), 0);
    assert!(cluster.forward_write(0, "file", b"content").starts_with("OK"));
    let stat = fs::metadata(&path).unwrap();
    assert_eq!((stat.permissions().mode() & 0o777, stat.gid()), (0o660, 1));
    let address = cluster.daemon(0).admin_address();
    let socket = Target { address: Address::Unix(path), token: None };
    as_user(1, || {
        for target in [Target::from(address), socket.clone()] {
            let answer = client::ask(target, "LOG file", PATIENCE).unwrap();
            assert!(answer.starts_with("OK ["), "{answer}");
        }
    });
    as_user(NOBODY, || {
        let answer = client::ask(address, "LOG file", PATIENCE).unwrap();
        assert!(answer.contains("root and the group daemon; you are uid 65534"), "{answer}");
        let error = client::ask(&socket, "STATUS", PATIENCE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    });
}

/// The socket is where one says, as long as the daemon runs; what a killed one left is replaced.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn the_admin_socket_comes_and_goes_with_the_daemon() {
    let mut cluster = Cluster::start(1);
    let path = cluster.root().join("run.sock");
    cluster.terminate(0);
    assert!(!cluster.daemon(0).state.join("admin.sock").exists());
    let flag = format!("--admin-socket={}", path.display());
    cluster.daemon_mut(0).entry.push(flag);
    cluster.restart(0);
    assert_eq!(cluster.leader(), 0);
    let ask = || {
        let address = format!("unix:{}", path.display());
        let output = Command::new(tool_program()).args(["status", "--addr", &address]).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(output.stdout.starts_with(b"OK  1/1 nodes"), "{output:?}");
    };
    ask();
    assert!(!cluster.daemon(0).state.join("admin.sock").exists());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    cluster.kill(0);
    assert!(path.exists(), "nobody could take it away");
    cluster.restart(0);
    assert_eq!(cluster.leader(), 0);
    ask();
    cluster.terminate(0);
    assert!(!path.exists());
}

/// An address of this host that is not loopback.
fn outside() -> Option<std::net::IpAddr> {
    // No packet is sent: the kernel only says which address it would come from.
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    probe.connect("192.0.2.1:9").ok()?;
    let at = probe.local_addr().unwrap().ip();
    (!at.is_loopback() && !at.is_unspecified()).then_some(at)
}

/// fault 90, fault 91: other hosts need the token, the token needs a closed file, and it is seen nowhere.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn who_is_elsewhere_says_the_token() {
    let Some(outside) = outside() else {
        println!("skipped: this host has no address but loopback");
        return;
    };
    let mut cluster = Cluster::start(1);
    cluster.terminate(0);
    let token = cluster.root().join("token");
    let secret = "canary-0123456789abcdef";
    fs::write(&token, format!("{secret}\n")).unwrap();
    fs::set_permissions(&token, Permissions::from_mode(0o644)).unwrap();
    let host = format!("--admin-host={outside}");
    let refused = |flags: &[&str]| {
        let mut command = cluster.daemon(0).command();
        let output = command.args(flags).stdin(Stdio::null()).output().unwrap();
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(refused(&[&host]).contains("--admin-token-file"));
    let file = format!("--admin-token-file={}", token.display());
    let text = refused(&[&host, &file]);
    assert!(text.contains(&format!("chmod 600 {}", token.display())), "{text}");
    fs::set_permissions(&token, Permissions::from_mode(0o600)).unwrap();
    cluster.daemon_mut(0).entry.extend([host, file]);
    cluster.restart(0);
    // On loopback it is asked as before.
    assert_eq!(cluster.leader(), 0);
    let address = SocketAddr::new(outside, cluster.daemon(0).admin_port);
    for line in ["STATUS\n", WRITE, "AUTH wrong-0123456789abcdef\nSTATUS\n"] {
        let answer = exchange(address, line.as_bytes());
        assert!(answer.starts_with("ERROR denied: "), "{answer}");
        assert_eq!(answer.lines().count(), 1, "{answer}");
    }
    let tool = |file: &Path| {
        let (address, file) = (address.to_string(), file.display().to_string());
        let flags = ["status", "--addr", &address, "--token-file", &file];
        Command::new(tool_program()).args(flags).output().unwrap()
    };
    let output = tool(&token);
    assert!(output.status.success() && output.stdout.starts_with(b"OK  1/1"), "{output:?}");
    let loose = cluster.root().join("loose");
    fs::write(&loose, secret).unwrap();
    fs::set_permissions(&loose, Permissions::from_mode(0o644)).unwrap();
    let output = tool(&loose);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("chmod 600"), "{output:?}");
    let pid = cluster.daemon(0).pid().unwrap();
    let shown = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    let log = cluster.daemon(0).log_text();
    assert!(log.contains("event=wrong_token count=1 address="), "{log}");
    assert!(
        !shown.contains("canary") && !log.contains("canary") && !log.contains("wrong-"),
        "{log}"
    );
    assert!(cluster.await_converged().is_empty());
}
