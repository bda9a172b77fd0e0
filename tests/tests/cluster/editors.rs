//! Editors and tools as people use them.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use pickbox_tests::cluster::{Cluster, node_count};

/// Runs a command in a directory; its output is shown when it fails.
pub(crate) fn run(directory: &Path, program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.current_dir(directory).args(arguments).stdin(Stdio::null());
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    let output =
        command.output().unwrap_or_else(|error| panic!("{program}: {error}; see `make setup`"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {text}{errors}");
    text
}

/// trap T8: vim writes a backup, a probe called 4913 and a swap file on the way.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn vim_saves() {
    let cluster = Cluster::start_default();
    cluster.write(0, "notes.txt", "first\n");
    cluster.await_content("notes.txt", "first\n");
    for (node, line) in [(1, "second"), (0, "third"), (1, "fourth")] {
        // Like a person, who sees the other's save before adding to it: the backup too.
        cluster.await_converged();
        let append = format!("normal Go{line}");
        let set = "set backup writebackup swapfile backupskip= backupdir=. directory=.";
        run(
            cluster.folder(node),
            "vim",
            &[
                "-i",
                "NONE",
                "-Nu",
                "NONE",
                "-es",
                "-c",
                set,
                "-c",
                &append,
                "-c",
                "wq",
                "notes.txt",
            ],
        );
        let content = fs::read(cluster.path(node, "notes.txt")).unwrap();
        assert!(content.ends_with(format!("{line}\n").as_bytes()), "vim did not save");
        cluster.await_content("notes.txt", content);
    }
    let tree = cluster.await_converged();
    let names: Vec<String> = tree.keys().map(|name| name.escape_ascii().to_string()).collect();
    assert_eq!(names, ["notes.txt", "notes.txt~"], "no swap file, no conflict copy stays");
}

/// nano writes in place: truncate, then write.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn nano_saves() {
    let cluster = Cluster::start_default();
    cluster.write(0, "notes.txt", "first\n");
    cluster.await_content("notes.txt", "first\n");
    // nano wants a terminal: script(1) gives it one. Type a word, ^O Enter to write, ^X to leave.
    let mut nano = Command::new("script")
        .args(["-qec", "nano --ignorercfiles notes.txt", "/dev/null"])
        .current_dir(cluster.folder(1))
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("script: {error}; see `make setup`"));
    let mut keys = nano.stdin.take().unwrap();
    for key in ["typed ", "\x0f", "\r", "\x18"] {
        // A person types slower still; a terminal program drops keys that come before it is ready.
        std::thread::sleep(Duration::from_millis(500));
        keys.write_all(key.as_bytes()).unwrap();
    }
    drop(keys);
    assert!(nano.wait().unwrap().success());
    assert_eq!(cluster.read(1, "notes.txt").unwrap(), b"typed first\n", "nano did not save");
    cluster.await_content("notes.txt", "typed first\n");
    assert_eq!(cluster.await_converged().len(), 1);
}

#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn sed_edits_in_place() {
    let cluster = Cluster::start_default();
    cluster.write(0, "config", "port = 1\n");
    cluster.await_content("config", "port = 1\n");
    for number in 1..=20 {
        let node = number % cluster.count();
        let expression = format!("s/port = .*/port = {}/", number + 1);
        run(cluster.folder(node), "sed", &["-i", &expression, "config"]);
        cluster.await_content("config", format!("port = {}\n", number + 1));
    }
    assert_eq!(cluster.await_converged().len(), 1, "no temporary file of sed's stays");
}

/// trap T9: a repository that is worked in on one node at a time is sound on all.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_git_repository_is_sound_on_every_node() {
    // A checkout that moves hundreds of files is a mass deletion to whom it may concern.
    let cluster = Cluster::start_with(node_count(), &["--hold-deletes=off"]);
    let origin = cluster.root().join("origin");
    fs::create_dir(&origin).unwrap();
    run(&origin, "git", &["init", "-q", "-b", "main", "."]);
    let commit = |directory: &Path, message: &str| {
        run(directory, "git", &["add", "-A"]);
        let who = ["-c", "user.name=t", "-c", "user.email=t@example.org"];
        run(directory, "git", &[&who[..], &["commit", "-q", "-m", message]].concat());
    };
    for number in 0..300 {
        let directory = origin.join(format!("dir{}", number % 10));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("file{number}")), super::files::noise(number, 500))
            .unwrap();
        if number % 30 == 0 {
            commit(&origin, &format!("commit {number}"));
        }
    }
    commit(&origin, "last");
    run(cluster.folder(0), "git", &["clone", "-q", "--no-hardlinks", "../origin", "clone"]);
    cluster.await_converged();
    for round in 0..3 {
        let node = round % cluster.count();
        let clone = cluster.path(node, "clone");
        fs::write(clone.join("changed"), format!("round {round}")).unwrap();
        commit(&clone, &format!("round {round}"));
        run(&clone, "git", &["gc", "-q"]);
        cluster.await_converged();
        for node in 0..cluster.count() {
            let clone = cluster.path(node, "clone");
            run(&clone, "git", &["fsck", "--full", "--strict"]);
            assert_eq!(run(&clone, "git", &["status", "--porcelain"]), "", "node {node}");
            let last = run(&clone, "git", &["log", "-1", "--format=%s"]);
            assert_eq!(last.trim(), format!("round {round}"));
        }
        // `git status` may refresh the index, which is an edit like any other.
        cluster.await_converged();
    }
}
