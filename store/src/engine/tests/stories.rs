//! What a user does on one host, and what the others show.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::fleet::{Fleet, rel, share};
use crate::content_id::ContentId;
use crate::engine::ports::{Answer, Query, WatchAsk};
use crate::engine::root::Standing;
use crate::owner::OwnerRule;

#[test]
fn a_new_file_appears_on_every_host() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 1, "hello.txt", "hello");
    assert_eq!(fleet.hosts[2].read("hello.txt"), "hello");
    fleet.converge();
    fleet.assert_same();
}

#[test]
fn an_edit_replaces_and_its_former_version_is_history() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "one");
    share(&mut fleet, 1, "f", "two!");
    assert_eq!(fleet.hosts[0].read("f"), "two!");
    fleet.converge();
    fleet.assert_same();
    let Answer::Versions(lines) = fleet.ask(2, Query::Log(rel("f"))) else { panic!() };
    assert_eq!(lines.len(), 2);
    let old = Query::Cat { path: rel("f"), index: lines[1].index, offset: 1 };
    let Answer::Piece(piece) = fleet.ask(2, old) else { panic!() };
    assert_eq!((piece.size, piece.data.as_slice()), (3, b"ne".as_slice()));
    let Answer::Versions(found) = fleet.ask(1, Query::Find(ContentId::of(b"one"))) else {
        panic!()
    };
    assert_eq!(found.len(), 1);
}

#[test]
fn deep_directories_deletes_and_renames_follow() {
    let mut fleet = Fleet::new(3);
    std::fs::create_dir_all(fleet.hosts[0].path("a/b/c")).unwrap();
    std::fs::create_dir_all(fleet.hosts[0].path("empty/dir")).unwrap();
    fleet.hosts[0].write("a/b/c/f", "deep");
    std::os::unix::fs::symlink("b/c/f", fleet.hosts[0].path("a/link")).unwrap();
    fleet.look(0);
    fleet.settle();
    assert_eq!(fleet.hosts[2].read("a/link"), "deep");
    std::fs::rename(fleet.hosts[1].path("a"), fleet.hosts[1].path("z")).unwrap();
    fleet.look(1);
    fleet.settle();
    assert_eq!(fleet.hosts[2].read("z/b/c/f"), "deep");
    std::fs::remove_dir_all(fleet.hosts[2].path("z")).unwrap();
    fleet.look(2);
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[0].tree().len(), 2);
}

/// Trap T10 and fault 43: both versions live on, under the same names everywhere.
#[test]
fn the_same_file_edited_on_two_hosts_keeps_both() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "base");
    fleet.hosts[0].write("f", "left");
    fleet.hosts[1].write("f", "right");
    fleet.look(0);
    fleet.look(1);
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    let tree = fleet.hosts[2].tree();
    assert_eq!(tree.len(), 2, "{tree:?}");
    assert_eq!(fleet.hosts[2].read("f"), "left", "{tree:?}");
    let copy = tree.keys().find(|name| name.starts_with("f.conflict-node2-")).unwrap();
    assert_eq!(fleet.hosts[0].read(copy), "right");
}

/// Trap T12: an edit beats a delete, whichever comes first in the log.
#[test]
fn an_edit_beats_a_delete() {
    for order in [[0, 1], [1, 0]] {
        let mut fleet = Fleet::new(3);
        share(&mut fleet, 0, "f", "base");
        std::fs::remove_file(fleet.hosts[0].path("f")).unwrap();
        fleet.hosts[1].write("f", "edited");
        fleet.look(0);
        fleet.look(1);
        for at in order {
            fleet.answer_asks(at);
            fleet.commit(at);
        }
        fleet.settle();
        fleet.converge();
        fleet.assert_same();
        assert_eq!(fleet.hosts[0].read("f"), "edited");
    }
}

/// Trap T8: the save of an editor is one replace of one file.
#[test]
fn an_atomic_save_keeps_the_file() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "one");
    let id = fleet.hosts[0].engine().index.resolve(&rel("f")).unwrap();
    fleet.hosts[0].write(".f.tmp", "two");
    fleet.look(0);
    std::fs::rename(fleet.hosts[0].path(".f.tmp"), fleet.hosts[0].path("f")).unwrap();
    fleet.look(0);
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[1].read("f"), "two");
    assert_eq!(fleet.hosts[1].engine().index.resolve(&rel("f")).unwrap(), id);
}

/// Trap T19: edits, renames and deletes made while the daemon was away are found at its start.
#[test]
fn what_happened_while_a_host_was_away_is_found() {
    let mut fleet = Fleet::new(3);
    for name in ["edit", "delete", "move", "keep"] {
        share(&mut fleet, 0, name, name);
    }
    fleet.kill(1);
    fleet.hosts[1].write("edit", "edited while down");
    fleet.hosts[1].write("new", "new");
    std::fs::remove_file(fleet.hosts[1].path("delete")).unwrap();
    std::fs::rename(fleet.hosts[1].path("move"), fleet.hosts[1].path("moved")).unwrap();
    share(&mut fleet, 0, "keep", "changed elsewhere");
    fleet.start(1);
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    let names: Vec<_> = fleet.hosts[2].tree().into_keys().collect();
    assert_eq!(names, ["edit", "keep", "moved", "new"]);
    assert_eq!(fleet.hosts[2].read("edit"), "edited while down");
    assert_eq!(fleet.hosts[1].read("keep"), "changed elsewhere");
}

/// A client's write replaces whatever is current, makes its parents, and is answered once.
#[test]
fn a_forwarded_write_goes_everywhere() {
    let mut fleet = Fleet::new(3);
    let put = Query::Put { path: rel("x/y/z"), data: b"api".to_vec() };
    assert!(matches!(fleet.ask(2, put.clone()), Answer::Committed(_)));
    assert_eq!(fleet.hosts[2].read("x/y/z"), "api");
    share(&mut fleet, 0, "x/y/z", "by hand");
    assert!(matches!(fleet.ask(1, put), Answer::Committed(_)));
    assert_eq!(fleet.hosts[0].read("x/y/z"), "api");
    assert!(matches!(fleet.ask(1, Query::Remove { path: rel("x/y/z") }), Answer::Committed(_)));
    assert!(matches!(fleet.ask(1, Query::Remove { path: rel("nothing") }), Answer::Committed(_)));
    fleet.converge();
    fleet.assert_same();
}

/// Trap T14: where owners are not kept, whose a file is on this host, and what was attached to it here, outlives an edit that
/// arrives; the mode is that of the version.
#[test]
fn an_edit_that_arrives_keeps_owner_and_attributes() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

    use rustix::fs::XattrFlags;

    let mut fleet = Fleet::new(2);
    for at in 0..2 {
        fleet.kill(at);
        fleet.hosts[at].owner_rule = OwnerRule::Own;
        fleet.start(at);
    }
    share(&mut fleet, 0, "f", "one");
    let here = fleet.hosts[0].path("f");
    let owned = chown(&here, Some(1234), Some(4321)).is_ok();
    let attributed = rustix::fs::setxattr(&here, "user.note", b"mine", XattrFlags::empty()).is_ok();
    fleet.look(0);
    fleet.settle();
    let there = fleet.hosts[1].path("f");
    std::fs::write(&there, "two!").unwrap();
    std::fs::set_permissions(&there, std::fs::Permissions::from_mode(0o640)).unwrap();
    fleet.look(1);
    fleet.settle();
    assert_eq!(fleet.hosts[0].read("f"), "two!");
    let meta = here.metadata().unwrap();
    assert_eq!(meta.mode() & 0o777, 0o640);
    if owned {
        assert_eq!((meta.uid(), meta.gid()), (1234, 4321), "the owner is kept");
        assert_eq!(there.metadata().unwrap().uid(), rustix::process::geteuid().as_raw());
    } else {
        println!("giving files away needs root");
    }
    if attributed {
        let mut value = [0; 16];
        let count = rustix::fs::getxattr(&here, "user.note", &mut value[..]).unwrap();
        assert_eq!(&value[..count], b"mine");
    }
    fleet.converge();
    fleet.assert_same();
}

/// A client's write of up to 1 MiB goes through the log, also when it waits while a node is away,
/// and stands beside a checkpoint.
#[test]
fn a_large_forwarded_write_goes_everywhere() {
    let mut fleet = Fleet::new(3);
    for (round, size) in [32 * 1024 + 1, 300_000, 1024 * 1024].into_iter().enumerate() {
        let text = format!("{round}").repeat(size);
        let put = Query::Put { path: rel("d/big"), data: text.clone().into_bytes() };
        fleet.kill(1);
        let answer = fleet.ask(0, put);
        assert!(matches!(answer, Answer::Committed(_)), "{answer:?}");
        fleet.checkpoint(0);
        fleet.start(1);
        fleet.settle();
        assert_eq!(fleet.hosts[1].read("d/big"), text);
    }
    share(&mut fleet, 2, "d/big", "small again");
    fleet.converge();
    fleet.assert_same();
    let Answer::Versions(lines) = fleet.ask(1, Query::Log(rel("d/big"))) else { panic!() };
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[1].content, Some(ContentId::of(&vec![b'2'; 1024 * 1024])));
}

/// Source: trap T30: what is placed lies in the folder and nowhere else; one that is displaced becomes
/// history by its inode, and is there once.
#[test]
fn what_is_in_the_folder_lies_nowhere_else() {
    let mut fleet = Fleet::new(3);
    let large = |word: &str| word.repeat(30_000);
    share(&mut fleet, 0, "large", &large("first "));
    share(&mut fleet, 1, "small", "small");
    for path in ["large", "small"] {
        for at in 0..3 {
            let files = files_with(&fleet, at, fleet.hosts[at].read(path).as_bytes());
            assert_eq!(files, [fleet.hosts[at].path(path)], "{path} of node{}", at + 1);
        }
    }
    let inode = fs::metadata(fleet.hosts[1].path("large")).unwrap().ino();
    share(&mut fleet, 0, "large", &large("second "));
    fleet.converge();
    let kept = files_with(&fleet, 1, large("first ").as_bytes());
    let [kept] = kept.as_slice() else { panic!("{kept:?}") };
    assert!(kept.starts_with(fleet.hosts[1].state()), "{kept:?}");
    assert_eq!(fs::metadata(kept).unwrap().ino(), inode);
    let now = files_with(&fleet, 1, large("second ").as_bytes());
    assert_eq!(now, [fleet.hosts[1].path("large")]);
}

/// The files of a host, of its folder and of its state, that hold just these bytes.
fn files_with(fleet: &Fleet, at: usize, bytes: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![fleet.hosts[at].path(""), fleet.hosts[at].state()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if fs::read(&path).is_ok_and(|held| held == bytes) {
                found.push(path);
            }
        }
    }
    found
}

/// A burst of large writes is more than fits into memory: what is not placed goes to staging.
#[test]
fn many_large_forwarded_writes_stay_within_bounds() {
    let mut fleet = Fleet::new(2);
    fleet.hosts[1].engine().standing = Standing::Gone;
    for number in 0..12 {
        let path = rel(&format!("f{number}"));
        let put = Query::Put { path, data: vec![number; 1024 * 1024] };
        assert!(matches!(fleet.ask(0, put), Answer::Committed(_)));
    }
    let kept = fleet.hosts[1].engine().incoming.drain();
    let bytes: usize = kept.iter().map(|(_, data)| data.len()).sum();
    assert!((1..=8 * 1024 * 1024).contains(&bytes), "{bytes}");
    fleet.hosts[1].engine().standing = Standing::Known;
    fleet.converge();
    fleet.assert_same();
}

#[test]
fn a_large_file_is_held_before_it_is_proposed() {
    let mut fleet = Fleet::new(3);
    let text = "x".repeat(100_000);
    share(&mut fleet, 0, "big", &text);
    assert_eq!(fleet.hosts[2].read("big"), text);
    share(&mut fleet, 2, "big", &"y".repeat(50_000));
    fleet.converge();
    fleet.assert_same();
}

/// Swapped names (mv a t; mv b a; mv t b) end up swapped everywhere.
#[test]
fn swapped_files_and_directories_are_swapped_everywhere() {
    let mut fleet = Fleet::new(3);
    for name in ["a", "b"] {
        std::fs::create_dir(fleet.hosts[0].path(&format!("d{name}"))).unwrap();
        fleet.hosts[0].write(&format!("d{name}/f"), name);
        fleet.hosts[0].write(&format!("f{name}"), name);
    }
    fleet.look(0);
    fleet.settle();
    for kind in ["d", "f"] {
        let path = |name: &str| fleet.hosts[1].path(&format!("{kind}{name}"));
        std::fs::rename(path("a"), path("t")).unwrap();
        std::fs::rename(path("b"), path("a")).unwrap();
        std::fs::rename(path("t"), path("b")).unwrap();
    }
    fleet.look(1);
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[2].read("da/f"), "b");
    assert_eq!(fleet.hosts[2].read("fa"), "b");
    assert_eq!(fleet.hosts[0].read("db/f"), "a");
}

/// Trap T13: a file becomes a directory and back.
#[test]
fn a_file_becomes_a_directory_and_back() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "x", "file");
    std::fs::remove_file(fleet.hosts[0].path("x")).unwrap();
    std::fs::create_dir(fleet.hosts[0].path("x")).unwrap();
    fleet.hosts[0].write("x/in", "inside");
    fleet.look(0);
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[2].read("x/in"), "inside");
    std::fs::remove_dir_all(fleet.hosts[1].path("x")).unwrap();
    fleet.hosts[1].write("x", "file again");
    fleet.look(1);
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[0].read("x"), "file again");
}

/// Source: trap T22, fault 58. A walk over a million files that did not change reads, asks for and
/// proposes nothing; of those that did change it asks for the bytes.
#[test]
fn a_walk_asks_for_what_changed_and_for_nothing_else() {
    let mut fleet = Fleet::new(2);
    std::fs::create_dir(fleet.hosts[0].path("d")).unwrap();
    std::os::unix::fs::symlink("f", fleet.hosts[0].path("d/link")).unwrap();
    share(&mut fleet, 0, "d/f", "one");
    share(&mut fleet, 0, "d/gone", "one");
    let entries = fleet.log_len();
    fleet.walk(0);
    assert_eq!((fleet.asked(0), fleet.log_len()), (&[][..], entries));
    fleet.hosts[0].write("d/f", "two");
    fleet.hosts[0].write("d/new", "new");
    std::fs::remove_file(fleet.hosts[0].path("d/gone")).unwrap();
    fleet.walk(0);
    let mut asked = fleet.asked(0).to_vec();
    asked.sort_by_key(|ask| format!("{ask:?}"));
    let examine = |path| WatchAsk::Examine(rel(path));
    assert_eq!(asked, [examine("d/f"), examine("d/new")]);
    fleet.settle();
    let there = &fleet.hosts[1];
    assert_eq!((there.read("d/f"), there.read("d/new")), ("two".into(), "new".into()));
    assert!(!there.path("d/gone").exists());
    assert_eq!(there.tree(), fleet.hosts[0].tree());
}
