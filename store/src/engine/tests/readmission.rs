//! A node that lost its log or its state is admitted anew over the folder that it had.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rustix::fs::XattrFlags;

use super::fleet::{Fleet, Way, rel, share};
use crate::content_id::ContentId;
use crate::contents::ContentCommand;
use crate::engine::ports::{Answer, Query};
use crate::engine::{Fatal, FolderRule, Strange};

const WAYS: [Way; 2] = [Way::Log, Way::State];

fn inode(fleet: &Fleet, path: &str) -> u64 {
    fs::symlink_metadata(fleet.hosts[1].path(path)).unwrap().ino()
}

/// What host 1 told its content worker since, that has to do with other nodes.
fn told_to_others(fleet: &Fleet) -> Vec<&ContentCommand> {
    let told = fleet.told.iter().filter(|(at, _)| *at == 1).map(|(_, told)| told);
    told.filter(|told| match told {
        ContentCommand::Offer(offer) => !offer.peers.is_empty(),
        ContentCommand::Fetch { .. } => true,
        _ => false,
    })
    .collect()
}

fn finish(fleet: &mut Fleet) {
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
}

/// Contents that are there are adopted: nothing is proposed or fetched, and no inode is replaced.
#[test]
fn a_folder_as_agreed_is_adopted_as_it_stands() {
    for way in WAYS {
        let mut fleet = Fleet::new(3);
        fs::create_dir(fleet.hosts[0].path("d")).unwrap();
        std::os::unix::fs::symlink("f", fleet.hosts[0].path("link")).unwrap();
        for (path, text) in [("f", "small"), ("d/big", &*"large ".repeat(20_000)), ("empty", "")] {
            share(&mut fleet, 0, path, text);
        }
        let paths = ["f", "d", "d/big", "empty", "link"];
        let inodes = |fleet: &Fleet| paths.map(|path| inode(fleet, path));
        let (before, tree) = (inodes(&fleet), fleet.hosts[0].tree());
        fleet.told.clear();
        fleet.readmit(1, way);
        let opened = fleet.log_len();
        finish(&mut fleet);
        assert_eq!(inodes(&fleet), before, "{way:?}");
        assert_eq!(fleet.hosts[0].tree(), tree);
        assert_eq!(told_to_others(&fleet), Vec::<&ContentCommand>::new());
        assert_eq!(fleet.log_len(), opened, "nothing is proposed");
        share(&mut fleet, 1, "f", "edited after it");
        assert_eq!(fleet.hosts[2].read("f"), "edited after it");
        finish(&mut fleet);
        assert_eq!(fleet.hosts[0].tree().len(), paths.len(), "an edit, not a conflict");
    }
}

/// Mode and time that differ are those of the log: nobody knows which are newer, and the cluster
/// has agreed on its own.
#[test]
fn mode_and_time_of_what_is_adopted_are_those_of_the_log() {
    let mut fleet = Fleet::new(3);
    fs::create_dir(fleet.hosts[0].path("d")).unwrap();
    share(&mut fleet, 0, "d/f", "text");
    fleet.settle_others(1);
    fleet.kill(1);
    fs::set_permissions(fleet.hosts[0].path("d/f"), PermissionsExt::from_mode(0o600)).unwrap();
    fs::set_permissions(fleet.hosts[0].path("d"), PermissionsExt::from_mode(0o700)).unwrap();
    fleet.look(0);
    fleet.settle_others(1);
    let before = (fleet.hosts[0].tree(), inode(&fleet, "d/f"));
    fleet.readmit(1, Way::State);
    finish(&mut fleet);
    assert_eq!((fleet.hosts[1].tree(), inode(&fleet, "d/f")), before);
}

/// A copy that was behind is no edit: it gives way, and its bytes are history here too. What the
/// file has on this host alone stays with it (trap T14), so its name is never free meanwhile.
#[test]
fn a_stale_copy_gives_way_quietly() {
    for way in WAYS {
        let mut fleet = Fleet::new(3);
        let large = |text: &str| text.repeat(20_000);
        for (path, text) in [("f", "one".to_owned()), ("big", large("one "))] {
            share(&mut fleet, 0, path, &text);
        }
        std::os::unix::fs::symlink("one", fleet.hosts[0].path("link")).unwrap();
        fleet.look(0);
        fleet.settle();
        fleet.kill(1);
        for text in ["two", "three"] {
            fleet.hosts[0].write("f", text);
            fleet.hosts[0].write("big", &large(&format!("{text} ")));
            fs::remove_file(fleet.hosts[0].path("link")).unwrap();
            std::os::unix::fs::symlink(text, fleet.hosts[0].path("link")).unwrap();
            fleet.look(0);
            fleet.settle_others(1);
        }
        let agreed = fleet.hosts[0].tree();
        let here = fleet.hosts[1].path("f");
        let attributed = rustix::fs::setxattr(&here, "user.note", b"mine", XattrFlags::empty());
        fleet.readmit(1, way);
        finish(&mut fleet);
        assert_eq!(fleet.hosts[1].tree(), agreed, "{way:?}: no conflict copy");
        if attributed.is_ok() {
            let kept = rustix::fs::getxattr(&here, "user.note", &mut [0; 4][..]);
            assert!(kept.is_err(), "as mode and time: those of the cluster");
        }
        for text in ["one".to_owned(), large("one ")] {
            let old = ContentId::of(text.as_bytes());
            assert!(fleet.hosts[1].engine().history.has(old));
        }
    }
}

/// P2: what no version of the log is was written by a user, and nothing of it is lost.
#[test]
fn what_differs_from_every_version_is_kept_beside() {
    for way in WAYS {
        let mut fleet = Fleet::new(3);
        let large = |text: &str| text.repeat(20_000);
        for (path, text) in [("f", "one".to_owned()), ("big", large("one "))] {
            share(&mut fleet, 0, path, &text);
        }
        fleet.kill(1);
        for (path, text) in [("f", "two".to_owned()), ("big", large("two "))] {
            fleet.hosts[0].write(path, &text);
        }
        fleet.look(0);
        fleet.settle_others(1);
        // Of the same length as a known version: its bytes tell.
        for (path, text) in [("f", "mine".to_owned()), ("big", large("own "))] {
            fleet.hosts[1].write(path, &text);
        }
        fs::create_dir(fleet.hosts[1].path("new")).unwrap();
        fleet.hosts[1].write("new/f", "not in the cluster");
        fleet.hosts[1].write("new/big", &large("not in the cluster "));
        fleet.readmit(1, way);
        finish(&mut fleet);
        let tree = fleet.hosts[2].tree();
        assert_eq!(tree.len(), 7, "{tree:?}");
        assert_eq!(fleet.hosts[2].read("f"), "two");
        assert_eq!(fleet.hosts[2].read("new/f"), "not in the cluster");
        assert_eq!(fleet.hosts[2].read("new/big"), large("not in the cluster "));
        for (start, text) in [("f", "mine".to_owned()), ("big", large("own "))] {
            let start = format!("{start}.conflict-node2-");
            let copy = tree.keys().find(|name| name.starts_with(&start)).unwrap();
            assert_eq!(fleet.hosts[0].read(copy), text);
        }
    }
}

/// What the cluster deleted meanwhile goes, with its directories, if it is as it was; what differs
/// comes back.
#[test]
fn what_was_deleted_meanwhile_goes_unless_it_was_edited() {
    for way in WAYS {
        let mut fleet = Fleet::new(3);
        fs::create_dir_all(fleet.hosts[0].path("d/e")).unwrap();
        fs::create_dir_all(fleet.hosts[0].path("k/e")).unwrap();
        for path in ["f", "d/e/f", "d/g", "k/e/f", "k/g", "edited", "stays"] {
            share(&mut fleet, 0, path, path);
        }
        share(&mut fleet, 0, "big", &"large ".repeat(20_000));
        fleet.kill(1);
        // This one was behind even before it was deleted.
        fleet.hosts[0].write("d/g", "newer");
        fleet.look(0);
        fleet.settle_others(1);
        for path in ["f", "edited", "big"] {
            fs::remove_file(fleet.hosts[0].path(path)).unwrap();
        }
        for path in ["d", "k"] {
            fs::remove_dir_all(fleet.hosts[0].path(path)).unwrap();
        }
        fleet.look(0);
        fleet.settle_others(1);
        assert_eq!(fleet.hosts[0].tree().len(), 1);
        fleet.hosts[1].write("edited", "edited meanwhile");
        fleet.hosts[1].write("k/e/mine", "in a directory that is gone");
        fleet.readmit(1, way);
        finish(&mut fleet);
        let names: Vec<_> = fleet.hosts[2].tree().into_keys().collect();
        assert_eq!(names, ["edited", "k", "k/e", "k/e/mine", "stays"], "{way:?}");
        assert_eq!(fleet.hosts[0].read("edited"), "edited meanwhile");
        for text in ["f", "d/e/f", "k/g"] {
            let gone = ContentId::of(text.as_bytes());
            assert!(fleet.hosts[1].engine().history.has(gone), "{text}");
        }
    }
}

/// What is made after the node came back is an edit, also if it equals something that was deleted.
#[test]
fn what_is_restored_by_hand_afterwards_stays() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "deleted, then restored");
    share(&mut fleet, 0, "g", "one");
    fleet.kill(1);
    fs::remove_file(fleet.hosts[0].path("f")).unwrap();
    fleet.hosts[0].write("g", "two");
    fleet.look(0);
    fleet.settle_others(1);
    fleet.readmit(1, Way::Log);
    // A tick of the clock of the file system later.
    std::thread::sleep(std::time::Duration::from_millis(20));
    fleet.hosts[1].write("f", "deleted, then restored");
    finish(&mut fleet);
    assert_eq!(fleet.hosts[2].read("f"), "deleted, then restored");
    assert_eq!(fleet.hosts[1].read("g"), "two");
    share(&mut fleet, 1, "g", "one");
    assert_eq!(fleet.hosts[2].read("g"), "one", "so is going back to an old version");
}

/// An empty folder, or one with holes, is filled: nobody deleted anything.
#[test]
fn what_is_missing_was_deleted_by_nobody() {
    for way in WAYS {
        let mut fleet = Fleet::new(3);
        fs::create_dir(fleet.hosts[0].path("d")).unwrap();
        for path in ["f", "g", "d/f"] {
            share(&mut fleet, 0, path, path);
        }
        let before = fleet.hosts[0].tree();
        fleet.kill(1);
        fs::remove_dir_all(fleet.hosts[1].path("d")).unwrap();
        fs::remove_file(fleet.hosts[1].path("g")).unwrap();
        fleet.readmit(1, way);
        finish(&mut fleet);
        assert_eq!(fleet.hosts[0].tree(), before);
    }
}

/// A kill in the middle changes nothing of the outcome.
#[test]
fn an_adoption_goes_on_over_kills() {
    for way in WAYS {
        for kill_after in 0..6 {
            let mut fleet = Fleet::new(3);
            for path in ["same", "stale", "gone", "edited"] {
                share(&mut fleet, 0, path, path);
            }
            share(&mut fleet, 0, "big", &"large ".repeat(20_000));
            fleet.kill(1);
            fs::remove_file(fleet.hosts[0].path("gone")).unwrap();
            fleet.hosts[0].write("stale", "newer");
            fleet.look(0);
            fleet.settle_others(1);
            fleet.hosts[1].write("edited", "mine");
            fleet.readmit(1, way);
            for _ in 0..kill_after {
                // One more entry, or what the watcher sees, before the end.
                if !fleet.deliver(1) {
                    fleet.look(1);
                }
            }
            fleet.kill(1);
            fleet.start(1);
            finish(&mut fleet);
            let mut names: Vec<_> = fleet.hosts[1].tree().into_keys().collect();
            names.retain(|name| !name.starts_with("edited.conflict-"));
            assert_eq!(names, ["big", "edited", "same", "stale"], "{way:?} {kill_after}");
            assert_eq!(fleet.hosts[0].tree().len(), 5);
            assert_eq!(fleet.hosts[1].read("stale"), "newer");
        }
    }
}

/// The adoption is over with the first checkpoint after it: then an old text is an edit like any.
#[test]
fn an_adoption_ends_with_a_checkpoint() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "one");
    fleet.readmit(1, Way::Log);
    assert!(fleet.hosts[1].engine().adopts_former());
    fleet.settle();
    fleet.checkpoint(1);
    assert!(!fleet.hosts[1].engine().adopts_former());
    fleet.kill(1);
    fleet.start(1);
    assert!(!fleet.hosts[1].engine().adopts_former(), "and does not begin again");
    finish(&mut fleet);
}

/// Displaced edits that waited in quarantine, and in staging, when the state was lost: nobody
/// remembers where they belong, so they come back at the top. What the log knows is history.
#[test]
fn what_lay_in_quarantine_and_staging_is_kept() {
    for way in WAYS {
        let mut fleet = Fleet::new(3);
        share(&mut fleet, 0, "f", "one");
        share(&mut fleet, 0, "f", "two");
        fleet.kill(1);
        let put = |place: &str, name: &str, text: &str| {
            let dir = fleet.hosts[1].state().join(place);
            fs::write(dir.join(name), text).unwrap();
        };
        put("quarantine", "q.1002.17", "an edit that nobody has");
        put("quarantine", "q.1002.18", "one");
        put("quarantine", "q.1002.19", &"a large edit ".repeat(10_000));
        put("staging", "0.3.0.out.0123456789abcdef", "an edit on its way");
        put("staging", "0.3.0.9.0123456789abcdef", "two");
        fleet.readmit(1, way);
        finish(&mut fleet);
        let tree = fleet.hosts[2].tree();
        assert_eq!(tree.len(), 4, "{way:?} {tree:?}");
        let texts: Vec<_> = tree.values().collect();
        for text in ["an edit that nobody has", "a large edit ", "an edit on its way"] {
            assert!(texts.iter().any(|found| found.contains(text)), "{texts:?}");
        }
        for name in tree.keys().filter(|name| *name != "f") {
            assert!(name.contains(".conflict-node2-"), "{name}");
        }
        assert_eq!(fs::read_dir(fleet.hosts[1].state().join("quarantine")).unwrap().count(), 0);
    }
}

/// What history kept is read back by the node that comes again: its objects have names of their
/// own.
#[test]
fn the_history_stays_readable() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, "f", "one");
    share(&mut fleet, 0, "f", "two");
    fleet.readmit(1, Way::State);
    finish(&mut fleet);
    let Answer::Versions(lines) = fleet.ask(1, Query::Log(rel("f"))) else { panic!() };
    let old = Query::Cat { path: rel("f"), index: lines[1].index, offset: 0 };
    let Answer::Piece(piece) = fleet.ask(1, old) else { panic!() };
    assert_eq!(piece.data, b"one");
    let fetched = fleet
        .told
        .iter()
        .any(|(at, told)| *at == 1 && matches!(told, ContentCommand::Fetch { .. }));
    assert!(!fetched, "from its own history");
}

/// The mark of the former number is accepted, that of another cluster is not.
#[test]
fn the_folder_of_another_cluster_is_refused_at_a_readmission() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "one");
    let folder = fleet.hosts[1].engine().folder.reopen().unwrap();
    if folder.root().mark().is_none() {
        println!("this file system keeps no attributes");
        return;
    }
    folder.root().set_mark("pickbox 1 00000000000000000000000000000001 2").unwrap();
    fleet.kill(1);
    crate::engine::set_aside(&crate::engine::StateDir::open(fleet.hosts[1].state()).unwrap())
        .unwrap();
    let refused = fleet.try_start(1, FolderRule::Marked);
    assert!(matches!(refused, Err(Fatal::Strange(Strange::Foreign(_)))), "{refused:?}");
}
