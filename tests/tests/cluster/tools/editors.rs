//! Editors that lock, back up and save aside (vim and nano: `editors` above).

use std::fs;
use std::os::unix::fs::symlink;

use pickbox_tests::cluster::Cluster;

use super::super::editors::run;
use super::{assert_no_conflicts, bring_to_all, has, under_load};

/// trap T8: emacs locks by a symlink to nowhere, and saves.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn emacs_saves() {
    if !has("emacs") {
        return;
    }
    let cluster = Cluster::start_default();
    cluster.write(0, "notes.txt", "first\n");
    bring_to_all(&cluster, 0);
    under_load(&cluster, || {
        for (node, line) in [(1, "second"), (0, "third"), (1, "fourth")] {
            let script = format!(
                "(progn (find-file \"notes.txt\") (goto-char (point-max)) (insert \"{line}\\n\") \
                 (save-buffer))"
            );
            run(cluster.folder(node), "emacs", &["-Q", "--batch", "--eval", &script]);
            let content = cluster.read(node, "notes.txt").unwrap();
            assert!(content.ends_with(format!("{line}\n").as_bytes()), "emacs did not save");
            bring_to_all(&cluster, node);
            cluster.await_content("notes.txt", content);
        }
    });
    cluster.await_converged();
    assert_no_conflicts(&cluster);
    assert_eq!(cluster.read(2, "notes.txt").unwrap(), b"first\nsecond\nthird\nfourth\n");
}

/// trap T8: an office program holds `.~lock.NAME#` while it has a document open, writes the new one
/// aside, keeps a backup for a moment and renames. The lock is seen by others, and goes.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn an_office_program_saves_under_its_lock() {
    let cluster = Cluster::start_default();
    cluster.write(0, "letter.odt", "version 0");
    bring_to_all(&cluster, 0);
    for round in 1..=6 {
        let node = round % cluster.count();
        let at = |name: &str| cluster.path(node, name);
        fs::write(at(".~lock.letter.odt#"), format!(",user,host{node},;")).unwrap();
        // It stays open for longer than passing names wait: the others see who has it.
        if round == 1 {
            let other = (node + 1) % cluster.count();
            cluster.await_that("the lock is seen", |cluster| {
                cluster.read(other, ".~lock.letter.odt#").is_some()
            });
        }
        fs::write(at("lu1234.tmp"), format!("version {round}")).unwrap();
        fs::rename(at("letter.odt"), at("letter.bak")).unwrap();
        fs::rename(at("lu1234.tmp"), at("letter.odt")).unwrap();
        fs::remove_file(at("letter.bak")).unwrap();
        fs::remove_file(at(".~lock.letter.odt#")).unwrap();
        bring_to_all(&cluster, node);
        cluster.await_content("letter.odt", format!("version {round}"));
    }
    let tree = cluster.await_converged();
    assert_eq!(tree.len(), 1, "nothing but the letter stays: {:?}", tree.keys());
}

/// A program that deploys by a symlink that changes its target in one step: nobody sees none.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_release_goes_live_by_a_symlink() {
    let cluster = Cluster::start_default();
    under_load(&cluster, || {
        for round in 0..6 {
            let node = round % cluster.count();
            let release = format!("release{round}");
            fs::create_dir(cluster.path(node, &release)).unwrap();
            cluster.write(node, &format!("{release}/index"), &release);
            symlink(&release, cluster.path(node, ".current.new")).unwrap();
            fs::rename(cluster.path(node, ".current.new"), cluster.path(node, "current")).unwrap();
            bring_to_all(&cluster, node);
            for other in 0..cluster.count() {
                let live = cluster.read(other, "current/index");
                assert_eq!(live.unwrap(), release.as_bytes(), "node{}", other + 1);
            }
        }
    });
    cluster.await_converged();
    assert_no_conflicts(&cluster);
}
