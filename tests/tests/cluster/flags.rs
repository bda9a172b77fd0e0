//! The command lines, as they are documented.

use std::fs;
use std::process::{Command, Output, Stdio};

use pickbox_tests::cluster::{Cluster, daemon_program, tool_program};

fn daemon(arguments: &[&str], directory: &std::path::Path) -> Output {
    Command::new(daemon_program())
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn tool(arguments: &[&str]) -> Output {
    Command::new(tool_program()).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// fault 10
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_second_daemon_on_the_same_state_ends_with_a_clear_error() {
    let cluster = Cluster::start(1);
    let output = cluster.daemon(0).command().arg("--log-level=error").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let words = text(&output.stderr);
    assert!(words.contains("pickboxd: ") && !words.contains("panicked"), "{words}");
    cluster.write(0, "still", "works");
    cluster.await_converged();
}

/// trap T20: a folder that is not there may be a disk that is not mounted.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_missing_folder_is_made_only_at_the_first_start() {
    let mut cluster = Cluster::start(1);
    cluster.write(0, "a", "a");
    cluster.await_converged();
    cluster.terminate(0);
    fs::rename(cluster.folder(0), cluster.root().join("elsewhere")).unwrap();
    let mut command = cluster.daemon(0).command();
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // Ending or waiting aloud are both right; making an empty folder is not.
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(!cluster.folder(0).exists(), "an empty folder was made in place of the missing one");
    let pid = rustix::process::Pid::from_child(&child);
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    let words = text(&child.wait_with_output().unwrap().stderr);
    assert!(words.contains("node1"), "the missing folder is named: {words}");
    fs::rename(cluster.root().join("elsewhere"), cluster.folder(0)).unwrap();
    cluster.restart(0);
    cluster.await_content("a", "a");
}

/// trap T20: an empty directory where the folder was is refused in words, and deletes nothing;
/// with the flag it is filled again.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn an_empty_directory_in_place_of_the_folder_is_refused() {
    let mut cluster = Cluster::start(3);
    cluster.write(0, "precious", "precious");
    cluster.await_content("precious", "precious");
    let before = cluster.await_converged();
    cluster.terminate(1);
    fs::rename(cluster.folder(1), cluster.root().join("elsewhere")).unwrap();
    fs::create_dir(cluster.folder(1)).unwrap();
    let output = cluster.daemon(1).command().stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let words = text(&output.stderr);
    for word in ["node2", "mount", "move it back", "--accept-folder"] {
        assert!(words.contains(word), "{word}: {words}");
    }
    cluster.daemon_mut(1).entry.push("--accept-folder".to_owned());
    cluster.restart(1);
    cluster.await_content("precious", "precious");
    assert_eq!(cluster.await_converged(), before);
}

/// A start without state must say how the node comes into being.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_first_start_needs_bootstrap_or_join() {
    let root = tempfile::tempdir().unwrap();
    let output = daemon(&["--node-id=node1", "--port=18001", "--data-dir=f"], root.path());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let words = text(&output.stderr);
    assert!(words.contains("--bootstrap") && words.contains("--join"), "{words}");
    assert!(!root.path().join("f").exists());
}

#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn the_same_command_line_starts_a_node_the_second_time() {
    let mut cluster = Cluster::start_default();
    cluster.write(0, "a", "a");
    cluster.await_converged();
    let id = cluster.status(0).unwrap().cluster_id;
    for node in 0..cluster.count() {
        cluster.terminate(node);
    }
    for node in 0..cluster.count() {
        cluster.restart(node);
    }
    cluster.await_members();
    assert_eq!(cluster.status(0).unwrap().cluster_id, id);
    cluster.write(1, "b", "b");
    cluster.await_content("b", "b");
    cluster.await_converged();
}

#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_taken_dashboard_port_is_a_warning() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut cluster = Cluster::start(1);
    cluster.terminate(0);
    cluster.daemon_mut(0).entry =
        vec![format!("--dashboard-port={port}"), format!("--monitor-port={port}")];
    cluster.restart(0);
    cluster.write(0, "a", "a");
    cluster.await_converged();
    let log = cluster.daemon(0).log_text();
    assert!(log.contains(&format!("dashboard=unavailable port={port}")), "{log}");
}

#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn the_tool_tells_how_things_are_by_its_exit_code() {
    let mut cluster = Cluster::start(3);
    cluster.write(0, "a", "a");
    cluster.await_converged();
    let address = cluster.daemon(0).admin_address().to_string();
    let status = |expected: i32| {
        cluster_status(&address, expected);
    };
    status(0);
    cluster.kill(2);
    status(1);
    cluster.kill(1);
    status(2);
    cluster.kill(0);
    status(3);
    assert_eq!(tool(&["status", "--adr", "x"]).status.code(), Some(64));
}

/// Waits until `pickbox status` ends with this code.
fn cluster_status(address: &str, expected: i32) {
    let end = pickbox_raft::clock::now() + pickbox_tests::cluster::PATIENCE;
    loop {
        let output = tool(&["status", "--addr", address]);
        if output.status.code() == Some(expected) {
            return;
        }
        assert!(pickbox_raft::clock::now() < end, "not {expected}: {output:?}");
        std::thread::sleep(pickbox_tests::cluster::LOOK_AGAIN);
    }
}

/// `pickbox cluster`: from nothing to three nodes and back to nothing.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_local_cluster_starts_stops_and_is_cleaned() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    let ports = ["-n", "3", "-p", "18101", "-a", "19101", "--data-dir", data.to_str().unwrap()];
    let cluster =
        |action: &str, more: &[&str]| tool(&[&["cluster", action], &ports[..], more].concat());
    let started = cluster("start", &[]);
    assert_eq!(started.status.code(), Some(0), "{started:?}");
    fs::write(data.join("node1/a"), "a").unwrap();
    let end = pickbox_raft::clock::now() + pickbox_tests::cluster::PATIENCE;
    while fs::read(data.join("node3/a")).ok().as_deref() != Some(b"a") {
        assert!(pickbox_raft::clock::now() < end);
        std::thread::sleep(pickbox_tests::cluster::LOOK_AGAIN);
    }
    assert_eq!(cluster("clean", &["--yes"]).status.code(), Some(1), "it still runs");
    let restarted = cluster("restart", &[]);
    assert_eq!(restarted.status.code(), Some(0), "{restarted:?}");
    assert_eq!(fs::read(data.join("node2/a")).unwrap(), b"a");
    assert_eq!(cluster("status", &["--json"]).status.code(), Some(0));
    let stopped = cluster("stop", &[]);
    assert_eq!(stopped.status.code(), Some(0), "{stopped:?}");
    assert_eq!(cluster("status", &[]).status.code(), Some(3));
    assert_eq!(cluster("clean", &[]).status.code(), Some(1), "no answer is no");
    assert!(data.exists());
    assert_eq!(cluster("clean", &["--yes"]).status.code(), Some(0));
    assert!(!data.exists());
}
