//! git, on one node at a time.

use std::fs;
use std::path::Path;

use pickbox_tests::cluster::{Cluster, node_count};

use super::super::editors::run;
use super::super::files::noise;
use super::{assert_no_conflicts, bring_to_all, under_load};

fn git(directory: &Path, arguments: &[&str]) -> String {
    let who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "gc.auto=0"];
    run(directory, "git", &[&who[..], arguments].concat())
}

fn commit(repository: &Path, name: &str, seed: u64) {
    fs::write(repository.join(name), noise(seed, 700)).unwrap();
    git(repository, &["add", "-A"]);
    git(repository, &["commit", "-q", "-m", name]);
}

/// What is done, each on another node than the one before.
const STEPS: [fn(&Path); 12] = [
    |work| commit(work, "on-main", 2),
    |work| {
        git(work, &["checkout", "-q", "-b", "topic"]);
        commit(work, "topic-one", 3);
        commit(work, "topic-two", 4);
    },
    |work| {
        git(work, &["checkout", "-q", "main"]);
        commit(work, "meanwhile", 5);
    },
    |work| {
        git(work, &["checkout", "-q", "topic"]);
        git(work, &["rebase", "-q", "main"]);
    },
    |work| {
        git(work, &["gc", "-q", "--prune=now"]);
    },
    |work| {
        git(work, &["mv", "src", "source"]);
        commit(work, "moved", 6);
    },
    |work| {
        git(work, &["checkout", "-q", "main"]);
        git(work, &["merge", "-q", "--no-ff", "-m", "merged", "topic"]);
    },
    |work| {
        git(work, &["repack", "-q", "-a", "-d"]);
        git(work, &["branch", "-q", "-d", "topic"]);
    },
    // A work tree with nothing in common; all objects loose, then packed again.
    |work| {
        git(work, &["checkout", "-q", "--orphan", "pages"]);
        git(work, &["rm", "-q", "-r", "-f", "."]);
        commit(work, "page", 7);
    },
    |work| {
        git(work, &["checkout", "-q", "main"]);
        for number in 0..150 {
            git(work, &["branch", &format!("branch-{number}")]);
            commit(work, "often", number);
        }
    },
    |work| {
        git(work, &["checkout", "-q", "pages"]);
    },
    |work| {
        git(work, &["gc", "-q", "--prune=now"]);
    },
];

/// traps T9 and T20: clone, commit, checkout, merge, rebase and gc, each on another node than the one
/// before, while files beside the repository change: none of it is held as a mass deletion, it is
/// sound on every node after each, and all nodes have the same commit checked out.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_repository_is_sound_everywhere_after_whatever_git_does() {
    let cluster = Cluster::start(node_count());
    let origin = cluster.root().join("origin");
    fs::create_dir(&origin).unwrap();
    git(&origin, &["init", "-q", "-b", "main", "."]);
    super::make_tree(&origin.join("src"), 250);
    commit(&origin, "first", 1);
    under_load(&cluster, || {
        git(cluster.folder(0), &["clone", "-q", "--no-hardlinks", "../origin", "work"]);
        bring_to_all(&cluster, 0);
        for (number, step) in STEPS.iter().enumerate() {
            let node = number % cluster.count();
            step(&cluster.path(node, "work"));
            let head = git(&cluster.path(node, "work"), &["rev-parse", "HEAD"]);
            bring_to_all(&cluster, node);
            for other in 0..cluster.count() {
                let work = cluster.path(other, "work");
                git(&work, &["fsck", "--full", "--strict"]);
                assert_eq!(git(&work, &["rev-parse", "HEAD"]), head, "step {number}, node {other}");
                // What `git status` would do to the index is not to be found later.
                let changed = git(&work, &["--no-optional-locks", "status", "--porcelain"]);
                assert_eq!(changed, "", "step {number}, node {other}");
            }
        }
    });
    cluster.await_converged();
    assert_no_conflicts(&cluster);
}
