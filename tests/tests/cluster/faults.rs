//! Nodes that die, stay away and come back, while people go on.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pickbox_tests::cluster::{Cluster, Kind, Place, env_number, read_tree};

use super::files::noise;

/// trap T19: what happened while a daemon was down is found when it starts.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn edits_and_deletes_made_while_a_node_is_down_are_found() {
    let mut cluster = Cluster::start_default();
    for name in ["kept", "edited here", "deleted here", "edited there", "deleted there", "renamed"]
    {
        cluster.write(0, name, name);
    }
    fs::create_dir(cluster.path(0, "dir")).unwrap();
    cluster.write(0, "dir/inside", "inside");
    cluster.await_converged();
    let away = (cluster.leader() + 1) % cluster.count();
    cluster.kill(away);
    let there = (away + 1) % cluster.count();
    cluster.write(away, "edited here", "edited while it was down");
    cluster.write(away, "new here", "new");
    fs::remove_file(cluster.path(away, "deleted here")).unwrap();
    fs::rename(cluster.path(away, "renamed"), cluster.path(away, "renamed to")).unwrap();
    fs::rename(cluster.path(away, "dir"), cluster.path(away, "moved")).unwrap();
    cluster.write(there, "edited there", "edited while the other was down");
    cluster.write(there, "new there", "new");
    fs::remove_file(cluster.path(there, "deleted there")).unwrap();
    cluster.await_converged();
    cluster.restart(away);
    cluster.await_content("edited here", "edited while it was down");
    cluster.await_content("edited there", "edited while the other was down");
    cluster.await_content("renamed to", "renamed");
    cluster.await_content("moved/inside", "inside");
    for gone in ["deleted here", "deleted there", "renamed", "dir"] {
        cluster.await_gone(gone);
    }
    let tree = cluster.await_converged();
    assert_eq!(tree.len(), 8, "no conflict copy, nothing came back: {:?}", tree.keys());
}

/// fault 43: the same file edited on a node that is down and on the others keeps both.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn an_edit_made_while_away_conflicts_with_one_made_meanwhile() {
    let mut cluster = Cluster::start_default();
    cluster.write(0, "file", "base");
    cluster.await_converged();
    cluster.kill(2);
    cluster.write(2, "file", "edited on the node that is down");
    cluster.write(0, "file", "edited on the others");
    cluster.await_converged();
    cluster.restart(2);
    cluster.await_that("both versions are everywhere", |cluster| {
        cluster.trees().values().all(|tree| tree.len() == 2)
    });
    let tree = cluster.await_converged();
    assert_eq!(cluster.read(0, "file").unwrap(), b"edited on the others", "the first in the log");
    let copy = tree.keys().find(|name| name.starts_with(b"file.conflict-node3-")).unwrap();
    let copy = std::str::from_utf8(copy).unwrap();
    assert_eq!(cluster.read(1, copy).unwrap(), b"edited on the node that is down");
    assert_eq!(cluster.status(1).unwrap().conflicts, 1);
    fs::remove_file(cluster.path(1, copy)).unwrap();
    cluster.await_gone(copy);
    cluster.await_converged();
    assert_eq!(cluster.status(0).unwrap().conflicts, 0, "dealt with by deleting the copy");
}

#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn every_node_is_restarted_in_turn() {
    let mut cluster = Cluster::start_default();
    for node in 0..cluster.count() {
        let path = format!("before {node}");
        cluster.write(node, &path, &path);
        cluster.await_content(&path, &path);
        cluster.terminate(node);
        let during = format!("during {node}");
        let writer = (node + 1) % cluster.count();
        cluster.write(writer, &during, &during);
        cluster.await_content(&during, &during);
        cluster.restart(node);
        cluster.await_content(&during, &during);
        cluster.await_converged();
    }
    assert_eq!(cluster.await_converged().len(), 2 * cluster.count());
}

/// fault 4
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn all_nodes_die_together_and_nothing_is_lost() {
    let mut cluster = Cluster::start_default();
    for round in 0..3 {
        let mut acknowledged = Vec::new();
        for number in 0..30 {
            let path = format!("{round}-{number}");
            let node = number % cluster.count();
            if cluster.forward_write(node, &path, path.as_bytes()).starts_with("OK") {
                acknowledged.push(path.clone());
            }
            cluster.write(node, &format!("edit-{path}"), &path);
        }
        for node in 0..cluster.count() {
            cluster.kill(node);
        }
        for node in 0..cluster.count() {
            cluster.restart(node);
        }
        cluster.await_members();
        let tree = cluster.await_converged();
        assert!(acknowledged.iter().all(|path| tree.contains_key(path.as_bytes())), "P4");
        assert_eq!(tree.len(), 60 * (round + 1), "P2: {:?}", tree.keys());
    }
}

/// fault 1: the leader dies in the middle of a copy, again and again.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn the_leader_is_killed_in_the_middle_of_a_copy() {
    let mut cluster = Cluster::start_default();
    let source = cluster.root().join("source");
    let count = make_tree(&source, 2000);
    for round in 0..env_number("KILLS", 3) {
        let into = format!("copy{round}");
        let writer = 1;
        let mut copy = Command::new("cp")
            .arg("-a")
            .arg(&source)
            .arg(cluster.path(writer, &into))
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(150));
        let leader = cluster.leader();
        cluster.kill(leader);
        std::thread::sleep(Duration::from_secs(1));
        cluster.restart(leader);
        assert!(copy.wait().unwrap().success());
        cluster.await_that("the copy is everywhere", |cluster| {
            let whole = |node| count_below(&cluster.path(node, &into)) == count;
            (0..cluster.count()).all(whole)
        });
        cluster.await_converged();
        assert_same_tree(&source, &cluster.path(0, &into));
    }
}

/// The acceptance test: a real tree into node 2's folder while the leader dies. `RUNS` repeats it,
/// `TREE` names the source tree, `FILES` the size of the one made up instead.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_large_tree_survives_the_death_of_the_leader() {
    for _ in 0..env_number("RUNS", 1) {
        let mut cluster = Cluster::start_default();
        let made = cluster.root().join("source");
        let source = std::env::var_os("TREE").map_or(made.clone(), Into::into);
        if source == made {
            make_tree(&made, env_number("FILES", 10_000));
        }
        let count = count_below(&source);
        let into = cluster.path(1, "tree");
        let mut copy = Command::new("cp").arg("-a").arg(&source).arg(&into).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(700));
        let leader = cluster.leader();
        cluster.kill(leader);
        std::thread::sleep(Duration::from_secs(2));
        cluster.restart(leader);
        assert!(copy.wait().unwrap().success());
        cluster.await_that("the tree is everywhere", |cluster| {
            (0..cluster.count()).all(|node| count_below(&cluster.path(node, "tree")) == count)
        });
        let tree = cluster.await_converged();
        assert!(tree.keys().all(|path| !contains(path, b".conflict-")), "conflict copies");
        assert_same_tree(&source, &into);
        let peak = (0..cluster.count()).map(|node| cluster.daemon(node).memory_kb("VmRSS")).max();
        println!("{count} entries, largest resident set {} kB", peak.unwrap());
    }
}

fn contains(path: &[u8], part: &[u8]) -> bool {
    path.windows(part.len()).any(|window| window == part)
}

/// A tree like those people have: directories of some files, modes, links, sizes from empty to some
/// hundred KiB. Returns how many entries it has.
fn make_tree(root: &Path, files: usize) -> usize {
    use std::os::unix::fs::{PermissionsExt, symlink};
    fs::create_dir_all(root).unwrap();
    for number in 0..files {
        let directory = root.join(format!("d{}/e{}", number % 23, number % 7));
        fs::create_dir_all(&directory).unwrap();
        let seed = u64::try_from(number).unwrap();
        let size = match number % 100 {
            0 => 0,
            1 => 200_000,
            2..10 => 20_000,
            other => other * 30,
        };
        let path = directory.join(format!("file {number}"));
        fs::write(&path, noise(seed, size)).unwrap();
        if number % 10 == 3 {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        if number % 50 == 4 {
            symlink(format!("file {number}"), directory.join(format!("link {number}"))).unwrap();
        }
    }
    count_below(root)
}

fn count_below(root: &Path) -> usize {
    let Ok(entries) = fs::read_dir(root) else { return 0 };
    let below = entries.flatten().map(|entry| {
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        1 + if is_directory { count_below(&entry.path()) } else { 0 }
    });
    below.sum()
}

fn assert_same_tree(one: &Path, other: &Path) {
    let found = pickbox_tests::cluster::differences(&read_tree(one), &read_tree(other));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// A full cluster takes one more node in, which gets everything.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_further_node_joins_a_full_cluster() {
    let mut cluster = Cluster::start_default();
    make_tree(&cluster.path(0, "tree"), 500);
    cluster.write(1, "large", noise(1, 3 * 1024 * 1024));
    cluster.await_converged();
    let newcomer = cluster.add_node();
    cluster.await_members();
    cluster.await_that("the newcomer has everything", |cluster| {
        cluster.path(newcomer, "large").exists()
            && count_below(&cluster.path(newcomer, "tree")) == count_below(&cluster.path(0, "tree"))
    });
    cluster.await_converged();
    cluster.write(newcomer, "from the newcomer", "hello");
    cluster.await_content("from the newcomer", "hello");
    cluster.await_converged();
    for node in 0..cluster.count() {
        assert_eq!(cluster.status(node).unwrap().members.len(), cluster.count());
    }
}

/// fault 5: a leader that was frozen finds that it is none any more.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_frozen_leader_steps_down() {
    use pickbox_tests::cluster::Signal;
    let cluster = Cluster::start(3);
    cluster.write(0, "a", "a");
    cluster.await_converged();
    let frozen = cluster.leader();
    cluster.daemon(frozen).signal(Signal::STOP);
    let other = (frozen + 1) % 3;
    cluster.await_that("another node leads and commits", |cluster| {
        cluster.forward_write(other, "b", b"b").starts_with("OK")
    });
    cluster.daemon(frozen).signal(Signal::CONT);
    cluster.await_content("b", "b");
    cluster.await_converged();
}

/// SIGTERM hands leadership over: writes go on without an election timeout.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_leader_that_is_told_to_stop_hands_over() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let other = (leader + 1) % 3;
    let term = cluster.status(other).unwrap().term;
    cluster.terminate(leader);
    let begun = pickbox_raft::clock::now();
    cluster.await_that("a write is accepted", |cluster| {
        cluster.forward_write(other, "a", b"a").starts_with("OK")
    });
    println!("accepted {:?} after the leader's end", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(2), "P6: {:?}", begun.elapsed());
    assert_eq!(cluster.status(other).unwrap().term, term + 1, "one election, no more");
    cluster.restart(leader);
    cluster.await_converged();
}

/// A node that was away longer than the log reaches gets the state instead. `FILES` says how many
/// files change meanwhile; the log must be small enough for them (see docs/testing.md).
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_node_that_was_away_for_long_catches_up() {
    let mut cluster = Cluster::start(3);
    cluster.write(0, "before", "before");
    cluster.await_converged();
    cluster.kill(2);
    make_tree(&cluster.path(0, "tree"), 3000);
    fs::remove_file(cluster.path(0, "before")).unwrap();
    cluster.await_converged();
    cluster.restart(2);
    cluster.await_gone("before");
    let tree = cluster.await_converged();
    assert!(tree.values().filter(|entry| matches!(entry.kind, Kind::File { .. })).count() == 3000);
}

/// fault 58, trap T19: a killed daemon that is started again in another mount namespace, as a service
/// manager starts it each time, has not lost what the page cache held: an edit made meanwhile is an
/// edit, and goes to all.
#[test]
#[ignore = "needs built daemons and root: make test-cluster"]
fn an_edit_after_a_kill_is_taken_in_another_mount_namespace() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: mount namespaces need root");
        return;
    }
    let launcher = ["unshare", "--mount"].map(str::to_owned).to_vec();
    let mut cluster = Cluster::start_in(Place { launcher, ..Place::new() }, 3);
    cluster.write(0, "kept", "before");
    cluster.write(0, "edited", "before");
    cluster.await_content("edited", "before");
    cluster.await_converged();
    cluster.kill(0);
    cluster.write(0, "edited", "while it was down");
    cluster.restart(0);
    cluster.await_content("edited", "while it was down");
    assert_eq!(cluster.await_converged().len(), 2);
    assert!(!cluster.daemon(0).log_text().contains("event=power_cut"));
}

/// fault 67: a member that was away while the others went on and were started again and again knows
/// them by runs of long ago. It takes none of them for a copy, and catches up.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn the_others_are_known_again_after_many_starts_of_theirs() {
    let mut cluster = Cluster::start(3);
    cluster.write(0, "before", "before");
    cluster.await_converged();
    // Its index remembers by which run it knew each of them.
    cluster.terminate(2);
    for round in 0..4 {
        for node in [0, 1] {
            cluster.terminate(node);
            cluster.restart(node);
            cluster.write(node, "file", format!("round {round} on {node}"));
            cluster.await_converged();
        }
    }
    cluster.restart(2);
    cluster.await_content("file", "round 3 on 1");
    cluster.await_converged();
}
