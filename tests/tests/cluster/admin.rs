//! The admin port of a real node.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pickbox_admin::node::VersionReport;
use pickbox_tests::cluster::{Cluster, PATIENCE, tool_program};

#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn nc_asks_for_the_status_and_returns() {
    let cluster = Cluster::start_default();
    let port = cluster.daemon(1).admin_port.to_string();
    let mut nc = Command::new("nc")
        .args(["127.0.0.1", &port])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("nc: {error}; see `make setup`"));
    nc.stdin.take().unwrap().write_all(b"STATUS\n").unwrap();
    let output = nc.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with(&format!("OK  {0}/{0} nodes", cluster.count())), "{text}");
    assert!(text.lines().skip(1).all(|line| line.contains(": ")), "{text}");
}

/// P4: what was answered `OK` is there, on any node, through any node.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn forward_commits_on_any_node() {
    let cluster = Cluster::start_default();
    for node in 0..cluster.count() {
        let path = format!("made/by/{node}");
        let answer = cluster.forward_write(node, &path, b"content");
        assert!(answer.starts_with("OK"), "{answer}");
        cluster.await_content(&path, "content");
    }
    let answer = cluster.forward_write(1, "made/by/0", b"replaced");
    assert!(answer.starts_with("OK"), "{answer}");
    cluster.await_content("made/by/0", "replaced");
    for node in 0..2 {
        let answer = cluster.ask(node, r#"FORWARD {"op":"delete","path":"made/by/0"}"#).unwrap();
        assert!(answer.starts_with("OK"), "a delete of nothing is fine too: {answer}");
    }
    cluster.await_gone("made/by/0");
    cluster.await_converged();
}

/// P5: what was acknowledged through one node is in the answer of any other, at once.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_read_on_any_node_knows_what_was_acknowledged_on_another() {
    let cluster = Cluster::start_default();
    for round in 0..60 {
        let (writer, reader) = (round % cluster.count(), (round / 3 + 1) % cluster.count());
        let content = format!("round {round}");
        let answer = cluster.forward_write(writer, "file", content.as_bytes());
        let index = answer.trim().strip_prefix("OK index ").unwrap_or_else(|| panic!("{answer}"));
        let log = cluster.ask(reader, "LOG file").unwrap();
        let lines: Vec<VersionReport> =
            serde_json::from_str(log.strip_prefix("OK ").unwrap_or_else(|| panic!("{log}")))
                .unwrap();
        assert_eq!(lines[0].index.to_string(), index, "round {round}: {writer} -> {reader}");
        let hash = pickbox_store::content_id::ContentId::of(content.as_bytes());
        let found = cluster.ask(reader, &format!("FIND {hash}")).unwrap();
        assert!(found.starts_with("OK ["), "{found}");
    }
}

/// P5, P6: without a majority nobody can say what is newest; what the node has is told to who asks
/// for that, and how it is to anybody.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_node_alone_refuses_fresh_reads_and_tells_what_it_has() {
    let mut cluster = Cluster::start(3);
    assert!(cluster.forward_write(0, "file", b"one").starts_with("OK"));
    cluster.await_converged();
    cluster.kill(1);
    cluster.kill(2);
    for _ in 0..2 {
        let answer = cluster.ask(0, "LOG file").unwrap();
        assert!(answer.starts_with("ERROR no-quorum: ") && answer.contains("LOCAL"), "{answer}");
    }
    let local = cluster.ask(0, "LOCAL LOG file").unwrap();
    let lines: Vec<VersionReport> =
        serde_json::from_str(local.strip_prefix("OK ").unwrap_or_else(|| panic!("{local}")))
            .unwrap();
    let old = cluster.ask(0, &format!("CAT file@{}", lines[0].index)).unwrap();
    assert!(old.starts_with("OK {"), "a version does not change: {old}");
    assert!(cluster.ask(0, "STATUS").unwrap().starts_with("NO-QUORUM"));
    let address = format!("127.0.0.1:{}", cluster.daemon(0).admin_port);
    for (local, exit) in [(true, 0), (false, 2)] {
        let mut tool = Command::new(tool_program());
        tool.args(["log", "file", "--addr", &address]).args(local.then_some("--local"));
        let output = tool.output().unwrap();
        assert_eq!(output.status.code(), Some(exit), "{output:?}");
    }
    cluster.restart(1);
    cluster.await_that("a majority answers again", |cluster| {
        cluster.ask(0, "LOG file").is_ok_and(|answer| answer.starts_with("OK ["))
    });
    cluster.restart(2);
    cluster.await_converged();
}

/// One write may be a MiB, through any node; one byte more is refused.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn forward_takes_a_mebibyte() {
    let mut cluster = Cluster::start(3);
    cluster.kill(2);
    for (seed, size) in [(1, 32 * 1024 + 1), (2, 200_000), (3, 1 << 20)] {
        let content = super::files::noise(seed, size);
        for node in 0..2 {
            let path = format!("{size}.{node}");
            let answer = cluster.forward_write(node, &path, &content);
            assert!(answer.starts_with("OK"), "{size}: {answer}");
            cluster.await_content(&path, &content);
        }
    }
    let answer = cluster.forward_write(0, "more", &vec![0; (1 << 20) + 1]);
    assert!(answer.starts_with("ERROR too-large"), "{answer}");
    cluster.restart(2);
    cluster.await_content("1048576.1", super::files::noise(3, 1 << 20));
    assert_eq!(cluster.await_converged().len(), 6);
}

#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn forward_refuses_what_it_must() {
    let cluster = Cluster::start_default();
    assert!(cluster.forward_write(0, "file", b"a file").starts_with("OK"));
    std::os::unix::fs::symlink("/tmp", cluster.path(0, "link")).unwrap();
    cluster.await_converged();
    for line in [
        r#"FORWARD {"op":"write","path":"file/below","data":""}"#,
        r#"FORWARD {"op":"write","path":"link/below","data":""}"#,
        r#"FORWARD {"op":"write","path":"../up","data":""}"#,
        r#"FORWARD {"op":"write","path":"/etc/motd","data":""}"#,
        r#"FORWARD {"op":"write","path":"a","data":"!"}"#,
        r#"FORWARD {"op":"write","path":"a","data":"","hash":"00"}"#,
        "FORWARD {",
        "ADD_VOTER",
        "BEGIN",
    ] {
        let answer = cluster.ask(1, line).unwrap();
        assert!(answer.starts_with("ERROR "), "{line}: {answer}");
    }
    assert_eq!(cluster.await_converged().len(), 2);
}

/// A write through the admin port to a file that somebody edits at the same time loses neither.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn history_keeps_what_was_replaced() {
    let cluster = Cluster::start_default();
    for version in ["one", "two", "three"] {
        assert!(cluster.forward_write(0, "file", version.as_bytes()).starts_with("OK"));
        cluster.await_content("file", version);
    }
    cluster.await_converged();
    let answer = cluster.ask(1, "LOG file").unwrap();
    let versions: Vec<VersionReport> =
        serde_json::from_str(answer.strip_prefix("OK ").unwrap_or_else(|| panic!("{answer}")))
            .unwrap();
    assert_eq!(versions.len(), 3, "{answer}");
    assert!(versions.is_sorted_by_key(|version| std::cmp::Reverse(version.index)), "newest first");
    let address = cluster.daemon(1).admin_address().to_string();
    for (version, content) in versions.iter().rev().zip(["one", "two", "three"]) {
        let name = format!("file@{}", version.index);
        let output =
            Command::new(tool_program()).args(["cat", &name, "--addr", &address]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), content, "{output:?}");
    }
    let hash = versions[2].sha256.clone().unwrap();
    let found = cluster.ask(1, &format!("FIND {hash}")).unwrap();
    assert!(found.contains(&format!("\"index\":{}", versions[2].index)), "{found}");
    let listed =
        Command::new(tool_program()).args(["log", "file", "--addr", &address]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), 4, "{listed:?}");
}

/// P6: a minority refuses writes and still tells how it is, at once.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_minority_answers_status_and_commits_nothing() {
    let mut cluster = Cluster::start(3);
    cluster.kill(1);
    cluster.kill(2);
    let line = format!(r#"{{"op":"write","path":"lost","data":"{}"}}"#, STANDARD.encode("x"));
    let mut waiting = TcpStream::connect(cluster.daemon(0).admin_address()).unwrap();
    waiting.write_all(format!("FORWARD {line}\n").as_bytes()).unwrap();
    let asked = pickbox_raft::clock::now();
    let report = cluster.status(0).unwrap();
    assert!(asked.elapsed() < Duration::from_secs(1), "the status took {:?}", asked.elapsed());
    assert_eq!(report.members.len(), 3);
    // This one may have been proposed before the leader was lost.
    waiting.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).unwrap();
    let refused = answer.starts_with("ERROR no-quorum: ");
    assert!(refused || answer.starts_with("ERROR unknown: "), "{answer}");
    assert!(asked.elapsed() < Duration::from_secs(20), "it took {:?}", asked.elapsed());
    cluster.await_that("no leader is known", |cluster| {
        cluster.status(0).is_some_and(|report| report.leader_id.is_none())
    });
    let asked = pickbox_raft::clock::now();
    let answer = cluster.forward_write(0, "refused", b"x");
    assert!(answer.starts_with("ERROR no-quorum: "), "{answer}");
    assert!(asked.elapsed() < Duration::from_secs(1), "it took {:?}", asked.elapsed());
    cluster.restart(1);
    cluster.restart(2);
    cluster.await_members();
    let tree = cluster.await_converged();
    assert!(tree.len() <= usize::from(!refused), "what was refused was never proposed: {tree:?}");
}

/// Bytes that mean nothing, from a fixed seed.
fn garbage(seed: u64) -> Vec<u8> {
    super::files::noise(seed, 4096)
}

fn throw(address: SocketAddr, bytes: &[u8]) {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, PATIENCE) else { return };
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    // The other side may hang up at any byte: that is right.
    let _ = stream.write_all(bytes);
}

/// fault 60, fault 62, fault 88: garbage on every port leaves the cluster working and its memory
/// bounded.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn garbage_on_every_port_does_no_harm() {
    // Two thousand idle connections need as many descriptors here.
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let cluster = Cluster::start_default();
    cluster.write(0, "before", "before");
    cluster.await_converged();
    let daemon = cluster.daemon(0);
    let admin = daemon.admin_address();
    let peer = SocketAddr::from(([127, 0, 0, 1], daemon.port));
    for address in [admin, peer] {
        (0..200).for_each(|seed| throw(address, &garbage(seed)));
        throw(address, &[0xff; 64]);
        throw(address, &[0; 64]);
        throw(address, b"STATUS");
        throw(address, b"FORWARD {\"op\":");
        throw(address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    let idle: Vec<TcpStream> = [admin, peer]
        .into_iter()
        .flat_map(|address| (0..1000).map(move |_| TcpStream::connect_timeout(&address, PATIENCE)))
        .filter_map(Result::ok)
        .collect();
    endless_line(admin);
    endless_line(peer);
    assert!(cluster.ask(0, "STATUS").unwrap().starts_with("OK"));
    cluster.write(1, "during", "during");
    cluster.await_content("during", "during");
    let resident = cluster.daemon(0).memory_kb("VmHWM");
    assert!(resident < 128 * 1024, "{resident} kB");
    drop(idle);
    cluster.await_converged();
}

/// Two GiB without a newline, as far as the other side takes them.
fn endless_line(address: SocketAddr) {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, PATIENCE) else { return };
    stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    let block = vec![b'x'; 1024 * 1024];
    for _ in 0..2048 {
        if stream.write_all(&block).is_err() {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
}
