//! The port for peers, and those who have no business there.

use std::process::{Child, Command, Stdio};

use pickbox_tests::cluster::Cluster;

/// Somebody with no rights (nobody, on most systems).
const NOBODY: u32 = 65534;
/// More than wait at a gate at once.
const CROWD: usize = 100;

/// Opens this many connections to a port as another user, says `word` on each, and keeps them.
fn crowd(port: u16, word: &str) -> Child {
    let script = format!(
        "for i in $(seq {CROWD}); do exec {{fd}}<>/dev/tcp/127.0.0.1/{port}; printf '{word}' >&$fd; done; sleep 600"
    );
    Command::new("setpriv")
        .args(["--reuid", &NOBODY.to_string(), "--clear-groups", "--", "bash", "-c", &script])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("setpriv: {error}; see `make setup`"))
}

fn refused(cluster: &Cluster, node: usize) -> u64 {
    cluster.status(node).unwrap().counters.get("refused_connections").copied().unwrap_or(0)
}

/// faults 80, 88: a user of this host who opens connections without end, silent or talking nonsense,
/// does not keep members out: they are counted apart.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_crowd_at_the_gate_keeps_no_member_out() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can be somebody else");
        return;
    }
    let mut cluster = Cluster::start(3);
    let term = cluster.status(0).unwrap().term;
    for (round, word) in
        ["", "GET / HTTP/1.1\\r\\n\\r\\n", "\\x16\\x03\\x01\\x02\\x00"].into_iter().enumerate()
    {
        let before = refused(&cluster, 0);
        let mut strangers = crowd(cluster.daemon(0).port, word);
        cluster.await_that("the gate is full", |cluster| refused(cluster, 0) >= before + 40);
        // Its connections to node1 are all new.
        let other = (cluster.leader() + 1) % 3;
        let other = if other == 0 { (cluster.leader() + 2) % 3 } else { other };
        cluster.terminate(other);
        cluster.restart(other);
        let name = cluster.daemon(other).name.clone();
        cluster.await_that("the other is connected again", |cluster| {
            cluster.member(0, &name).is_some_and(|member| member.connected)
        });
        let content = format!("round {round}");
        cluster.write(other, "file", &content);
        cluster.await_content("file", &content);
        strangers.kill().unwrap();
        strangers.wait().unwrap();
    }
    assert_eq!(cluster.status(0).unwrap().term, term, "nobody lost the leader");
}
