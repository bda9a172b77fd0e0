//! What happens at the worst moment: kills, late writers, looks that are too old.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use pickbox_raft::core::ids::NodeId;

use super::fleet::{Fleet, rel, share};
use crate::content_id::ContentId;
use crate::contents::{ContentCommand, ContentEvent, OfferRequest};
use crate::engine::Event;
use crate::engine::ports::{Answer, Made, Query, WatchAsk};
use crate::folder::{NewFile, Properties};
use crate::name::{Name, RelPath};
use crate::observation::{Observation, Seen, Sighting};
use crate::op::Refusal;
use crate::placed::LocalId;
use crate::syncer::SyncDone;

/// Trap T19, fault 1: a change commits, its host dies before it hears of that, and a user goes on.
/// What follows is an edit of that very version, not a stranger's.
#[test]
fn a_change_whose_host_died_in_flight_is_its_own_at_the_next_start() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 1, "edited", "one");
    fleet.hosts[1].write("a", "the first to fly, alone");
    fleet.hosts[1].write("made", "first");
    fleet.hosts[1].write("edited", "two");
    fs::create_dir(fleet.hosts[1].path("dir")).unwrap();
    fleet.look(1);
    fleet.commit(1);
    while fleet.deliver(1) {}
    // All the rest is in flight now, and commits behind its back.
    fleet.settle_others(1);
    fleet.kill(1);
    fleet.hosts[1].write("made", "second");
    fleet.hosts[1].write("edited", "three");
    fs::set_permissions(fleet.hosts[1].path("dir"), PermissionsExt::from_mode(0o700)).unwrap();
    fleet.start(1);
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    let names: Vec<_> = fleet.hosts[0].tree().into_keys().collect();
    assert_eq!(names, ["a", "dir", "edited", "made"], "no conflict copies");
    assert_eq!(fleet.hosts[2].read("made"), "second");
    assert_eq!(fleet.hosts[2].read("edited"), "three");
    assert_eq!(fleet.hosts[0].tree()["dir"], "dir 700");
}

/// The same, when the change never got into the log.
#[test]
fn a_change_that_never_left_is_proposed_by_the_next_run() {
    let mut fleet = Fleet::new(3);
    fleet.hosts[1].write("made", "first");
    fleet.look(1);
    fleet.kill(1);
    fleet.hosts[1].write("made", "second");
    fleet.start(1);
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[0].tree().len(), 1);
    assert_eq!(fleet.hosts[2].read("made"), "second");
}

/// Trap T11: what is written through a descriptor that was open when a remote version landed is an
/// edit of the version that it was opened on.
#[test]
fn a_late_write_through_an_old_descriptor_becomes_a_copy() {
    for size in [4, 50_000] {
        let mut fleet = Fleet::new(3);
        share(&mut fleet, 0, "f", "base");
        let mut old = fs::OpenOptions::new().append(true).open(fleet.hosts[1].path("f")).unwrap();
        share(&mut fleet, 0, "f", "remote");
        assert_eq!(fleet.hosts[1].read("f"), "remote");
        old.write_all("x".repeat(size).as_bytes()).unwrap();
        drop(old);
        for _ in 0..5 {
            fleet.pass(1, 1_000);
            fleet.settle();
        }
        fleet.converge();
        fleet.assert_same();
        let tree = fleet.hosts[0].tree();
        let copy = tree.keys().find(|name| name.starts_with("f.conflict-node2-")).unwrap();
        assert_eq!(fleet.hosts[2].read(copy), format!("base{}", "x".repeat(size)));
        assert_eq!(fleet.hosts[2].read("f"), "remote");
    }
}

/// Trap T9: a backlog is exposed in the order of the log, also where a file that was waiting is
/// changed again: what git writes last, the ref, is seen after the object it names.
#[test]
fn what_waits_to_be_placed_takes_its_turn_by_its_newest_version() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, "known", "one");
    for (path, text) in [("known", "two"), ("ref", "first"), ("object", "o")] {
        fleet.hosts[0].write(path, text);
        fleet.look(0);
        fleet.settle_others(1);
    }
    for path in ["ref", "known"] {
        fleet.hosts[0].write(path, "names the object");
        fleet.look(0);
        fleet.settle_others(1);
    }
    let order = fleet.backlog(1);
    let names: Vec<_> = order.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["object", "ref", "known"]);
}

/// Trap T10: what comes out of an exchange is looked at, also where its bytes are not read at once:
/// a large file that was written over just before is an edit.
#[test]
fn a_large_edit_that_an_exchange_brings_out_is_kept() {
    let mut fleet = Fleet::new(3);
    let text = |what: &str| format!("{what} {}", "x".repeat(50_000));
    share(&mut fleet, 0, "f", &text("base"));
    fleet.hosts[1].write("f", &text("edited here"));
    share(&mut fleet, 0, "f", &text("remote"));
    for _ in 0..5 {
        fleet.pass(1, 1_000);
        fleet.settle();
    }
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[2].read("f"), text("remote"));
    let tree = fleet.hosts[0].tree();
    let copy = tree.keys().find(|name| name.starts_with("f.conflict-node2-")).unwrap();
    assert_eq!(fleet.hosts[2].read(copy), text("edited here"));
}

/// Trap T18: an edit that left size and time as they were is told from the expected version by its
/// bytes, when an exchange brings it out.
#[test]
fn an_edit_that_looks_like_the_expected_version_is_kept() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "base");
    let path = fleet.hosts[1].path("f");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all(b"mine").unwrap();
    file.set_modified(modified).unwrap();
    drop(file);
    share(&mut fleet, 0, "f", "remote");
    for _ in 0..5 {
        fleet.pass(1, 1_000);
        fleet.settle();
    }
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[2].read("f"), "remote");
    let tree = fleet.hosts[0].tree();
    let copy = tree.keys().find(|name| name.starts_with("f.conflict-node2-")).unwrap();
    assert_eq!(fleet.hosts[2].read(copy), "mine");
}

/// Trap T3: two files that swap their names are two renames; neither is deleted on the way.
#[test]
fn files_that_swap_their_names_are_never_deleted() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, "a", "one");
    share(&mut fleet, 0, "b", "two");
    let (a, b) = (fleet.hosts[0].path("a"), fleet.hosts[0].path("b"));
    let here = rustix::fs::CWD;
    rustix::fs::renameat_with(here, &a, here, &b, rustix::fs::RenameFlags::EXCHANGE).unwrap();
    fleet.look(0);
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[1].read("a"), "two");
    for path in ["a", "b"] {
        let Answer::Versions(lines) = fleet.ask(0, Query::Log(rel(path))) else { panic!() };
        assert!(lines.iter().all(|line| line.made != Made::Delete), "{path}: {lines:?}");
    }
}

/// Trap T3, fault 44: of two files that swapped their names one is looked at, and nothing more is told
/// for a while. Where the other one is nobody has seen: it is looked for before it counts as deleted.
#[test]
fn a_file_whose_swap_is_half_seen_is_looked_for() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, "a", "one");
    share(&mut fleet, 0, "b", "two");
    let (a, b) = (fleet.hosts[0].path("a"), fleet.hosts[0].path("b"));
    let here = rustix::fs::CWD;
    rustix::fs::renameat_with(here, &a, here, &b, rustix::fs::RenameFlags::EXCHANGE).unwrap();
    let look = fleet.see(0, &rel("a")).unwrap();
    fleet.tell(0, look);
    fleet.settle();
    // Nobody walked the folder: the other name was asked for.
    fleet.assert_same();
    assert_eq!((fleet.hosts[1].read("a"), fleet.hosts[1].read("b")), ("two".into(), "one".into()));
    for path in ["a", "b"] {
        let Answer::Versions(lines) = fleet.ask(0, Query::Log(rel(path))) else { panic!() };
        assert!(lines.iter().all(|line| line.made != Made::Delete), "{path}: {lines:?}");
    }
}

/// Trap T16: a second name of a file is a file of its own elsewhere, and takes nothing away.
#[test]
fn a_hard_link_is_one_more_file() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, "f", "text");
    fs::hard_link(fleet.hosts[0].path("f"), fleet.hosts[0].path("g")).unwrap();
    fleet.look(0);
    fleet.settle();
    for path in ["f", "g"] {
        assert_eq!(fleet.hosts[1].read(path), "text");
    }
    // An edit that arrives is of its own name only.
    share(&mut fleet, 1, "g", "edited");
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[0].read("f"), "text");
    assert_eq!(fleet.hosts[0].read("g"), "edited");
}

/// Faults 44 and 57: a look into a directory that is told after the directory lost its name to a file
/// is not believed of that file; the directory is looked for.
#[test]
fn a_look_into_a_directory_that_lost_its_name_is_not_lost() {
    let mut fleet = Fleet::new(2);
    fleet.hosts[0].write("a", "a file");
    fleet.look(0);
    fleet.commit(0);
    fs::create_dir(fleet.hosts[1].path("a")).unwrap();
    fleet.look(1);
    fleet.hosts[1].write("a/x", "in the directory");
    let look = fleet.see(1, &rel("a/x")).unwrap();
    fleet.settle();
    assert_eq!(fleet.hosts[1].read("a"), "a file");
    fleet.tell(1, look);
    fleet.settle();
    fleet.assert_same();
    let tree = fleet.hosts[0].tree();
    let inside = tree.keys().find(|path| path.starts_with("a.conflict-") && path.ends_with("/x"));
    assert_eq!(fleet.hosts[0].read(inside.unwrap()), "in the directory");
}

/// A look that is older than our own exchange tells of our former version, not of an edit.
#[test]
fn a_look_older_than_a_placing_brings_nothing_back() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "one");
    let old = fleet.see(1, &rel("f")).unwrap();
    let before = fleet.see(1, &rel("g")).unwrap();
    share(&mut fleet, 0, "f", "two");
    share(&mut fleet, 0, "g", "new");
    // Of another inode, and of nothing where something was placed since.
    fleet.tell(1, old);
    fleet.tell(1, before);
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    for (path, text, versions) in [("f", "two", 2), ("g", "new", 1)] {
        assert_eq!(fleet.hosts[2].read(path), text);
        let Answer::Versions(lines) = fleet.ask(0, Query::Log(rel(path))) else { panic!() };
        assert_eq!(lines.len(), versions, "{path}: nothing was proposed on the way");
    }
}

/// A write that was not seen yet is not hidden by placing a mode on top of it.
#[test]
fn placing_a_mode_does_not_hide_a_write() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "one");
    fs::set_permissions(fleet.hosts[0].path("f"), PermissionsExt::from_mode(0o600)).unwrap();
    fleet.look(0);
    fleet.settle_others(1);
    fs::remove_file(fleet.hosts[0].path("f")).unwrap();
    fleet.look(0);
    fleet.settle_others(1);
    fleet.hosts[1].write("f", "TWO");
    // The mode and the deletion arrive before the watcher has anything to say.
    while fleet.deliver(1) {}
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[2].read("f"), "TWO");
}

/// Trap T14: a mode that a user set and nobody saw yet is an edit: one that arrives is not placed
/// over it, and the later of the two in the log wins.
#[test]
fn placing_a_mode_does_not_hide_another() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "one");
    fs::set_permissions(fleet.hosts[0].path("f"), PermissionsExt::from_mode(0o600)).unwrap();
    fleet.look(0);
    fleet.settle_others(1);
    fs::set_permissions(fleet.hosts[1].path("f"), PermissionsExt::from_mode(0o640)).unwrap();
    while fleet.deliver(1) {}
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    let tree = fleet.hosts[2].tree();
    assert!(tree["f"].starts_with("file 640 "), "{tree:?}");
}

/// Trap T12: a symlink that a user put where a remote version lands is an edit too.
#[test]
fn a_displaced_symlink_is_kept() {
    let mut fleet = Fleet::new(3);
    std::os::unix::fs::symlink("old", fleet.hosts[0].path("link")).unwrap();
    fleet.look(0);
    fleet.settle();
    for (at, target) in [(0, "left"), (1, "right")] {
        fs::remove_file(fleet.hosts[at].path("link")).unwrap();
        std::os::unix::fs::symlink(target, fleet.hosts[at].path("link")).unwrap();
    }
    fleet.look(0);
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    let links: Vec<_> = fleet.hosts[2].tree().into_values().collect();
    assert_eq!(links, ["link left", "link right"]);
}

/// Trap T13: a directory with something in it that the log does not know is not replaced.
#[test]
fn a_directory_that_a_user_put_in_the_way_comes_back_beside() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "x", "file");
    fs::remove_file(fleet.hosts[1].path("x")).unwrap();
    fs::create_dir(fleet.hosts[1].path("x")).unwrap();
    fleet.hosts[1].write("x/in", "mine");
    share(&mut fleet, 0, "x", "file, edited");
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[1].read("x"), "file, edited");
    let tree = fleet.hosts[2].tree();
    let inside = tree.keys().find(|name| name.ends_with("/in")).unwrap();
    assert_eq!(fleet.hosts[0].read(inside), "mine");
}

/// A path that no entry can carry is left out, and harms nothing beside it.
#[test]
fn a_path_that_is_too_long_is_left_out_alone() {
    let mut fleet = Fleet::new(3);
    let mut path = RelPath::root();
    for _ in 0..16 {
        let name = Name::new("n".repeat(250)).unwrap();
        let dir = fleet.hosts[1].engine().folder.dir(&path).unwrap();
        dir.mkdir(&name, 0o755).unwrap();
        path = path.join(&name);
    }
    let dir = fleet.hosts[1].engine().folder.dir(&path).unwrap();
    let new = NewFile {
        bytes: b"deep",
        properties: Properties::OURS,
        xattrs: crate::xattr::Xattrs::NONE,
    };
    dir.write_new(&Name::new("f".repeat(200)).unwrap(), new).unwrap();
    share(&mut fleet, 1, "beside", "goes on");
    assert_eq!(fleet.hosts[2].read("beside"), "goes on");
    let status = fleet.hosts[1].engine().store_status().unwrap();
    assert_eq!((status.undecided, status.left_out), (0, 1), "{:?}", status.waiting);
    assert_eq!(fleet.hosts[0].engine().store_status().unwrap().records, 17);
}

/// Whatever an entry of this node came to, its serial is settled: it is not sent for ever.
#[test]
fn a_proposal_that_no_node_can_read_is_given_up() {
    let mut fleet = Fleet::new(3);
    fleet.hosts[1].write("f", "one");
    fleet.look(1);
    fleet.garble(1);
    fleet.settle();
    assert!(!fleet.hosts[0].path("f").exists());
    let status = fleet.hosts[1].engine().store_status().unwrap();
    assert_eq!((status.undecided, status.left_out), (0, 1), "{:?}", status.waiting);
    share(&mut fleet, 1, "g", "two");
    assert_eq!(fleet.hosts[0].read("g"), "two", "the next one goes");
    share(&mut fleet, 1, "f", "one, edited");
    assert_eq!(fleet.hosts[0].read("f"), "one, edited", "and so does its next edit");
}

/// A pipe in the way is never touched; what it hinders is told as such.
#[test]
fn a_pipe_in_the_way_blocks_and_is_named() {
    let mut fleet = Fleet::new(3);
    fs::create_dir(fleet.hosts[0].path("d")).unwrap();
    fleet.look(0);
    fleet.settle();
    for path in ["d/pipe", "name"] {
        let made = Command::new("mkfifo").arg(fleet.hosts[1].path(path)).status().unwrap();
        assert!(made.success());
    }
    fleet.look(1);
    fs::remove_dir(fleet.hosts[0].path("d")).unwrap();
    share(&mut fleet, 0, "name", "a file");
    share(&mut fleet, 0, "other", "goes on");
    let status = fleet.hosts[1].engine().store_status().unwrap();
    assert_eq!(status.blocked, 2, "{:?}", status.waiting);
    for path in ["d/pipe", "name"] {
        let named = status.waiting.iter().any(|line| line.contains(path));
        assert!(named, "{path}: {:?}", status.waiting);
        fs::remove_file(fleet.hosts[1].path(path)).unwrap();
    }
    assert_eq!(fleet.hosts[1].read("other"), "goes on");
    for _ in 0..3 {
        fleet.pass(1, 1_000);
    }
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[1].read("name"), "a file");
}

/// A client hears that a directory was not deleted because it holds something.
#[test]
fn a_client_cannot_delete_a_directory_that_holds_something() {
    let mut fleet = Fleet::new(3);
    fs::create_dir(fleet.hosts[0].path("d")).unwrap();
    share(&mut fleet, 0, "d/in", "held");
    let remove = Query::Remove { path: rel("d") };
    assert_eq!(fleet.ask(1, remove), Answer::Refused(Refusal::NotEmpty));
    assert_eq!(fleet.hosts[2].read("d/in"), "held");
}

/// Fault 23: what is placed while a checkpoint syncs is synced too before the index is durable, and
/// counts: else a power cut of all nodes would leave its bytes nowhere but in the log.
#[test]
fn a_checkpoint_covers_what_was_placed_while_it_synced() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "before", "one");
    let engine = fleet.hosts[1].engine();
    let job = engine.begin_checkpoint().unwrap();
    crate::syncer::sync(&engine.folder, &job).unwrap();
    share(&mut fleet, 0, "meanwhile", "two");
    let engine = fleet.hosts[1].engine();
    engine.synced(&SyncDone { failed: None }).unwrap();
    assert_eq!(engine.checkpoint.floor, engine.index.position());
}

/// Faults 44 and 57, trap T13: a user exchanges a file and a directory. The place of the file is heard
/// of first, and that of the directory only when it was given up: to the watcher it was renamed, so
/// it tells of nothing below it unless it is asked.
#[test]
fn a_directory_that_shows_up_late_elsewhere_is_walked_again() {
    let mut fleet = Fleet::new(2);
    fs::create_dir(fleet.hosts[0].path("d")).unwrap();
    share(&mut fleet, 0, "d/in", "inside");
    share(&mut fleet, 0, "f", "file");
    let (d, f) = (fleet.hosts[0].path("d"), fleet.hosts[0].path("f"));
    let (cwd, exchange) = (rustix::fs::CWD, rustix::fs::RenameFlags::EXCHANGE);
    rustix::fs::renameat_with(cwd, d, cwd, f, exchange).unwrap();
    let (at_d, at_f) = (fleet.see(0, &rel("d")).unwrap(), fleet.see(0, &rel("f")).unwrap());
    fleet.tell(0, at_d);
    fleet.pass(0, 1_000);
    fleet.tell(0, at_f);
    fleet.settle();
    fleet.assert_same();
    assert_eq!(fleet.hosts[1].read("d"), "file");
    assert_eq!(fleet.hosts[1].read("f/in"), "inside");
}

/// Faults 44 and 57: what was in a directory that lost its name goes on below its new one, though its
/// files were heard of before the directory was in the log.
#[test]
fn what_is_in_a_directory_that_lost_its_name_follows_it() {
    let mut fleet = Fleet::new(2);
    fleet.hosts[0].write("a", "file");
    fleet.look(0);
    fleet.commit(0);
    fs::create_dir(fleet.hosts[1].path("a")).unwrap();
    fleet.look(1);
    fleet.hosts[1].write("a/small", "small");
    fleet.hosts[1].write("a/large", &"x".repeat(50_000));
    fleet.look(1);
    fleet.commit(1);
    fleet.settle();
    fleet.assert_same();
    let tree = fleet.hosts[0].tree();
    let inside =
        |end: &str| tree.keys().any(|path| path.starts_with("a.conf") && path.ends_with(end));
    assert!(inside("/small") && inside("/large"), "{tree:?}");
}

/// Trap T3, fault 44: a directory and a file swap their names, and the name at which the file is now
/// is looked at first. The watcher knows the directory as one that was moved and does not list it
/// again; what it holds is not forgotten, whether the log has it or not.
#[test]
fn what_a_directory_holds_that_swapped_names_with_a_file_is_not_forgotten() {
    for is_in_the_log in [false, true] {
        let mut fleet = Fleet::new(2);
        share(&mut fleet, 1, "file", "a file");
        fs::create_dir(fleet.hosts[1].path("dir")).unwrap();
        fleet.hosts[1].write("dir/inside", "inside");
        for path in ["dir", "dir/inside"] {
            let look = fleet.see(1, &rel(path)).unwrap();
            fleet.tell(1, look);
        }
        if is_in_the_log {
            fleet.settle();
        }
        let (file, dir) = (fleet.hosts[1].path("file"), fleet.hosts[1].path("dir"));
        rustix::fs::renameat_with(
            rustix::fs::CWD,
            &file,
            rustix::fs::CWD,
            &dir,
            rustix::fs::RenameFlags::EXCHANGE,
        )
        .unwrap();
        for path in ["dir", "file"] {
            let look = fleet.see_moved(1, &rel(path)).unwrap();
            fleet.tell(1, look);
        }
        fleet.settle();
        // Nobody walks the folder: the two looks and what they lead to are all there is.
        fleet.assert_same();
        assert_eq!(fleet.hosts[0].read("file/inside"), "inside");
        assert_eq!(fleet.hosts[0].read("dir"), "a file");
    }
}

/// Fault 52: a kill between staging and the rename, before it and after it. What is in staging under
/// the name of what it holds was made from the log, and goes; anything else came out of the folder in
/// the exchange, is an edit of the version that stood there, and becomes a copy. Nothing of it is ever seen in the folder.
#[test]
fn staging_is_examined_and_swept_after_a_kill() {
    for is_exchanged in [false, true] {
        let mut fleet = Fleet::new(2);
        share(&mut fleet, 0, "f", "one");
        let name = |fleet: &mut Fleet, index: u64| {
            let row = fleet.hosts[1].engine().row_at(LocalId::ROOT, &Name::made("f".to_owned()));
            let base = row.unwrap().unwrap().1.base.unwrap();
            let hash = ContentId::of(b"two").to_string();
            format!("{}.{index}.{}", base.id, &hash[..16])
        };
        let index = u64::try_from(fleet.log_len()).unwrap() + 1;
        let staged = fleet.hosts[1].state().join("staging").join(name(&mut fleet, index));
        fleet.kill(1);
        share(&mut fleet, 0, "f", "two");
        if is_exchanged {
            // "two" was staged, a user wrote "an edit", and the exchange brought that out.
            fleet.hosts[1].write("f", "two");
            fs::write(&staged, "an edit").unwrap();
        } else {
            fs::write(&staged, "two").unwrap();
        }
        fleet.start(1);
        fleet.settle();
        fleet.converge();
        fleet.assert_same();
        let tree = fleet.hosts[0].tree();
        assert_eq!(fleet.hosts[1].read("f"), "two");
        assert_eq!(tree.values().any(|text| text.contains("an edit")), is_exchanged, "{tree:?}");
        assert_eq!(tree.len(), 1 + usize::from(is_exchanged), "{tree:?}");
        assert!(!staged.exists());
    }
}

/// Trap T6: a large file that a walk meets, or that something but a write was seen of, is not offered
/// to anybody before the watcher has found that nobody writes to it. (A program that stores through a
/// mapping has no descriptor, and may be halfway through when a daemon starts.)
#[test]
fn a_large_file_is_not_taken_before_somebody_asked_for_its_writers() {
    let mut fleet = Fleet::new(2);
    fleet.hosts[1].write("f", &"half".repeat(20_000));
    let Some(Sighting::Saw(seen)) = fleet.see(1, &rel("f")) else { panic!() };
    let Seen::Large(stat) = seen.seen else { panic!("{seen:?}") };
    let in_passing = Observation::in_passing(&RelPath::root(), &Name::made("f".to_owned()), stat);
    fleet.tell(1, Sighting::Saw(in_passing));
    assert_eq!(fleet.asked(1), [WatchAsk::Examine(rel("f"))]);
    assert!(!fleet.hosts[1].engine().offers_anything());
    // Somebody does: nothing is taken.
    fleet.tell(1, Sighting::Saw(Observation { seen: Seen::Busy(stat), ..seen.clone() }));
    assert!(!fleet.hosts[1].engine().offers_anything());
    fleet.hosts[1].write("f", &"all".repeat(30_000));
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[0].read("f"), "all".repeat(30_000));
    assert_eq!(fleet.hosts[0].tree().len(), 1);
}

/// A large file goes while it is on its way to the others: the end of its offer, good or bad, brings
/// no look at its name, at which another thing may stand by now, and is no edit.
#[test]
fn the_offer_of_a_file_that_went_ends_there() {
    for is_held in [false, true] {
        let mut fleet = Fleet::new(2);
        fs::create_dir(fleet.hosts[1].path("dir")).unwrap();
        share(&mut fleet, 1, "dir/f", "small");
        fleet.has_slow_offers = true;
        fleet.hosts[1].write("dir/f", &"large".repeat(20_000));
        let look = fleet.see(1, &rel("dir/f")).unwrap();
        fleet.tell(1, look);
        let offer = fleet.told.iter().rev().find_map(|(_, command)| match command {
            ContentCommand::Offer(offer) => Some(offer.clone()),
            _ => None,
        });
        let OfferRequest { ticket, expect, .. } = offer.unwrap();
        fs::remove_dir_all(fleet.hosts[1].path("dir")).unwrap();
        let gone = fleet.see(1, &rel("dir")).unwrap();
        fleet.tell(1, gone);
        let content = ContentId::of("large".repeat(20_000).as_bytes());
        let (holders, stat) = (vec![NodeId::new(1), NodeId::new(2)], expect);
        let held = ContentEvent::Held { ticket, content, size: stat.size, stat, holders };
        let event = if is_held { held } else { ContentEvent::Changed(ticket) };
        fleet.give(1, Event::Content(event));
        assert_eq!(fleet.asked(1), [], "{is_held}");
        fleet.has_slow_offers = false;
        fleet.settle();
        fleet.assert_same();
        assert!(fleet.hosts[0].tree().is_empty(), "{:?}", fleet.hosts[0].tree());
    }
}
