//! Each rule of the namespace as a story.

use super::world::*;
use crate::content_id::{ContentId, INLINE_BYTES_MAX};
use crate::history_rows::{HistoryOf, Reason};
use crate::name::{NAME_BYTES_MAX, Name, PATH_BYTES_MAX, RelPath};
use crate::op::{At, Keep, Op, Outcome, PUT_BYTES_MAX, Parent, Refusal};
use crate::record::{Body, FileId, VersionVector};
use crate::time::Time;

fn contents_of(world: &World, path: &str) -> Vec<Body> {
    let rows = world.index.history(&HistoryOf::Path(&rel(path)), None, 100).unwrap();
    rows.into_iter().map(|row| row.body).collect()
}

#[test]
fn a_file_is_made_edited_and_deleted() {
    let mut world = World::new();
    let id = world.done(1, create("f", file("one")));
    let first = world.version(id);
    assert_eq!(world.resolve("f"), id);
    assert_eq!(world.done(2, replace(id, &first, "f", file("two"))), id);
    let second = world.version(id);
    assert!(second.covers(&first) && !first.covers(&second));
    assert_eq!(world.done(1, delete(id, &second)), id);
    assert_eq!(world.listing(), Vec::<String>::new());
    assert_eq!(contents_of(&world, "f"), [file("one").body, file("two").body]);
    assert_eq!(world.index.counts(), crate::index::Counts::default());
}

#[test]
fn ids_come_from_the_place_in_the_log_and_are_never_used_again() {
    let mut world = World::new();
    let first = world.done(1, create("f", file("one")));
    assert_eq!(first, FileId { epoch: 0, index: now(&world), ordinal: 0 });
    let version = world.version(first);
    world.done(1, delete(first, &version));
    let outcomes = world.outcomes(1, vec![create("f", file("one")), create("g", file("two"))]);
    let id = |ordinal| FileId { epoch: 0, index: now(&world), ordinal };
    assert_eq!(outcomes, [Outcome::Done(id(0)), Outcome::Done(id(1))]);
}

#[test]
fn the_folder_itself_cannot_be_changed() {
    let mut world = World::new();
    let none = VersionVector::default();
    let root = FileId::ROOT;
    let put = Op::Put { path: RelPath::root(), new: file("x") };
    let remove = Op::Remove { path: RelPath::root() };
    let chmod = Op::Attributes { id: root, attributes: attributes(0o700), keep: Keep::NOTHING };
    let replace = replace(root, &none, "x", file("x"));
    for op in [rename(root, "x"), delete(root, &none), replace, put, remove, chmod] {
        assert_eq!(world.outcome(1, op), Outcome::Refused(Refusal::Root));
    }
}

#[test]
fn making_a_directory_that_is_there_joins_it() {
    let mut world = World::new();
    let id = world.done(1, create("d", directory()));
    let version = world.version(id);
    let mut other = directory();
    other.attributes.mode = 0o2770;
    assert_eq!(world.outcome(2, create("d", other)), Outcome::Merged(id));
    let record = world.record(id);
    assert_eq!(record.attributes.mode, 0o2770, "the last mode wins");
    assert_eq!(record.version, version, "a directory's version is that of its creation");
}

#[test]
fn equal_contents_at_one_name_merge_without_a_word() {
    let mut world = World::new();
    let id = world.done(1, create("f", file("same")));
    let mut again = file("same");
    again.attributes.mode = 0o600;
    assert_eq!(world.outcome(2, create("f", again)), Outcome::Merged(id));
    assert_eq!(world.record(id).attributes.mode, 0o600);
    assert_eq!(world.paths(), ["f"]);
}

/// Design: two different things at one name, the first in the log keeps it. fault 43
#[test]
fn the_second_of_two_files_at_one_name_becomes_a_copy() {
    let mut world = World::new();
    let first = world.done(1, create("f.conf", file("one")));
    let copy = world.conflict(2, create("f.conf", file("two")));
    let index = now(&world);
    assert_eq!(world.resolve("f.conf"), first);
    assert_eq!(world.resolve(&format!("f.conf.conflict-node2-{index}")), copy);
    assert_eq!(world.record(copy).conflict_of, Some(first));
    assert_eq!(world.record(first).losing[0].copy, copy);
    assert_eq!(world.index.counts().conflicts, 1);
}

#[test]
fn children_follow_a_directory_that_lost_its_name() {
    let mut world = World::new();
    let first = world.done(1, create("x", file("one")));
    let inner = Op::Create { at: below(0, "x/f"), new: file("two") };
    let outcomes = world.outcomes(2, vec![create("x", directory()), inner]);
    let [Outcome::Conflict { copy }, Outcome::Done(child)] = outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert_eq!(world.record(child).parent, copy);
    assert_eq!(world.resolve("x"), first);
}

#[test]
fn children_of_a_directory_made_in_the_same_change_find_it_when_it_joined_another() {
    let mut world = World::new();
    let first = world.done(1, create("d", directory()));
    let inner = Op::Create { at: below(0, "d/f"), new: file("two") };
    world.outcomes(2, vec![create("d", directory()), inner]);
    let child = world.resolve("d/f");
    assert_eq!(world.record(child).parent, first);
}

/// Design: concurrent edits keep both. fault 43
#[test]
fn of_two_concurrent_edits_the_first_keeps_the_name() {
    let mut world = World::new();
    let id = world.done(1, create("f", file("base")));
    let base = world.version(id);
    world.done(1, replace(id, &base, "f", file("one")));
    let copy = world.conflict(2, replace(id, &base, "f", file("two")));
    assert_eq!(world.record(id).body, file("one").body);
    assert_eq!(world.record(copy).body, file("two").body);
    assert_eq!(world.record(copy).attributes, file("two").attributes);
    assert!(world.version(copy).covers(&base) && !world.version(copy).covers(&world.version(id)));
}

/// Trap T14: a mode changed by one node and a content by another both come about, whichever is first
/// in the log, and so do a time and an attribute.
#[test]
fn what_an_operation_did_not_change_stays_as_the_log_has_it() {
    for first in 0..2 {
        let mut world = World::new();
        let id = world.done(1, create("f", file("base")));
        let version = world.version(id);
        let chmod = Op::Attributes {
            id,
            attributes: crate::record::Attributes { mtime: Time::default(), ..attributes(0o600) },
            keep: Keep::MTIME,
        };
        let mut edit = replace(id, &version, "f", file("edited"));
        if let Op::Replace { new, keep, .. } = &mut edit {
            new.attributes.mtime.secs = 9;
            *keep = Keep::MODE;
        }
        let mut ops = [chmod, edit];
        ops.rotate_left(first);
        for (node, op) in (1..).zip(ops) {
            world.done(node, op);
        }
        let after = world.record(id);
        assert_eq!((after.attributes.mode, after.attributes.mtime.secs), (0o600, 9));
        assert_eq!(after.body, file("edited").body);
    }
}

/// Design: the record keeps {losing base -> copy}, so that the next edit of that line updates it.
#[test]
fn the_next_edit_of_a_line_that_lost_goes_to_its_copy() {
    let mut world = World::new();
    let id = world.done(1, create("f", file("base")));
    let base = world.version(id);
    world.done(1, replace(id, &base, "f", file("one")));
    let copy = world.conflict(2, replace(id, &base, "f", file("two")));
    for text in ["three", "four"] {
        let line = world.version(copy);
        let edit = replace(id, &line, "f", file(text));
        assert_eq!(world.conflict(2, edit), copy);
        assert_eq!(world.record(copy).body, file(text).body);
        assert_eq!(world.record(id).losing[0].version, world.version(copy));
    }
    assert_eq!(world.paths().len(), 2, "no flood of copies (trap T26)");
}

/// Design: as above, where the node that lost knows already that its file is a copy, and has it
/// still under the name that it lost: its user goes on writing.
#[test]
fn an_edit_of_a_copy_that_has_not_left_its_name_goes_on_with_the_line() {
    let mut world = World::new();
    let id = world.done(1, create("f", file("one")));
    let copy = world.conflict(2, create("f", file("two")));
    for text in ["three", "four"] {
        let line = world.version(copy);
        assert_eq!(world.done(2, replace(copy, &line, "f", file(text))), copy);
        assert_eq!(world.record(copy).body, file(text).body);
        assert_eq!(world.record(id).losing[0].version, world.version(copy));
    }
    assert_eq!(world.index.counts().conflicts, 1, "nobody has dealt with it");
}

/// Design: deleting, renaming or editing the copy by its own name ends the line.
#[test]
fn a_copy_that_is_edited_renamed_or_deleted_is_a_copy_no_more() {
    let ends: [fn(&World, FileId) -> Op; 3] = [
        |world, copy| {
            let path = world.index.path_of(copy).unwrap().unwrap().to_string();
            replace(copy, &world.version(copy), &path, file("new"))
        },
        |_, copy| rename(copy, "mine"),
        |world, copy| delete(copy, &world.version(copy)),
    ];
    for end in ends {
        let mut world = World::new();
        let id = world.done(1, create("f", file("one")));
        let copy = world.conflict(2, create("f", file("two")));
        let line = world.version(copy);
        let op = end(&world, copy);
        world.done(1, op);
        assert_eq!(world.record(id).losing, []);
        assert_eq!(world.index.counts().conflicts, 0);
        let again = world.conflict(2, replace(id, &line, "f", file("late")));
        assert_ne!(again, copy, "the line has ended: a later edit of it is a new conflict");
    }
}

#[test]
fn copies_of_a_deleted_file_are_files_of_their_own() {
    let mut world = World::new();
    let id = world.done(1, create("f", file("one")));
    let copy = world.conflict(2, create("f", file("two")));
    let version = world.version(id);
    world.done(1, delete(id, &version));
    assert_eq!(world.record(copy).conflict_of, None);
}

#[test]
fn concurrent_edits_to_equal_contents_merge() {
    let mut world = World::new();
    let id = world.done(1, create("f", file("base")));
    let base = world.version(id);
    world.done(1, replace(id, &base, "f", file("same")));
    let version = world.version(id);
    assert_eq!(world.outcome(2, replace(id, &base, "f", file("same"))), Outcome::Merged(id));
    assert_eq!(world.version(id), version.joined(&base));
    assert_eq!(world.paths(), ["f"]);
}

#[test]
fn two_losers_with_equal_contents_share_one_copy() {
    let mut world = World::new();
    world.done(1, create("f", file("one")));
    let copy = world.conflict(2, create("f", file("two")));
    assert_eq!(world.conflict(3, create("f", file("two"))), copy);
    let line = world.version(copy);
    let id = world.resolve("f");
    assert_eq!(world.conflict(3, replace(id, &line, "f", file("three"))), copy);
}

/// Design: losers below `.git` go to history only. trap T9
#[test]
fn below_git_the_loser_goes_to_history_only() {
    let mut world = World::new();
    world.outcomes(
        1,
        vec![
            create(".git", directory()),
            Op::Create { at: below(0, ".git/index"), new: file("one") },
        ],
    );
    let id = world.resolve(".git/index");
    let base = world.version(id);
    world.done(1, replace(id, &base, ".git/index", file("two")));
    let late = replace(id, &base, ".git/index", file("three"));
    assert!(matches!(world.outcome(2, late), Outcome::History { .. }));
    let git = world.resolve(".git");
    let made = Op::Create { at: at(git, ".git/index"), new: file("four") };
    assert!(matches!(world.outcome(2, made), Outcome::History { .. }));
    assert_eq!(world.paths(), [".git/", ".git/index"]);
    let bodies = ["one", "three", "four"].map(|text| file(text).body);
    assert_eq!(contents_of(&world, ".git/index"), bodies);
    let rows = world.index.history(&HistoryOf::File(id), None, 9).unwrap();
    assert_eq!(rows[1].reason, Reason::Lost);
    assert!(!rows[1].was_current_at(now(&world)));
}

/// Design: edit beats delete.
#[test]
fn an_edit_of_a_deleted_file_makes_it_anew_with_its_directories() {
    let mut world = World::new();
    world.outcomes(
        1,
        vec![
            create("a", directory()),
            Op::Create { at: below(0, "a/b"), new: directory() },
            Op::Create { at: below(1, "a/b/f"), new: file("one") },
        ],
    );
    let (a, b, f) = (world.resolve("a"), world.resolve("a/b"), world.resolve("a/b/f"));
    let version = world.version(f);
    let gone = [f, b, a].map(|id| delete(id, &world.version(id)));
    assert_eq!(world.outcomes(1, gone.into()), [f, b, a].map(Outcome::Done));
    let keep = Keep::NOTHING;
    let edit = Op::Replace { id: f, base: version, at: at(b, "a/b/f"), new: file("two"), keep };
    let id = world.done(2, edit);
    assert_ne!(id, f);
    assert_eq!(world.resolve("a/b/f"), id);
    assert_eq!(world.record(world.resolve("a/b")).attributes.mode, 0o755);
}

#[test]
fn a_deletion_after_an_edit_is_not_done() {
    let mut world = World::new();
    let id = world.done(1, create("f", file("one")));
    let old = world.version(id);
    world.done(1, replace(id, &old, "f", file("two")));
    assert_eq!(world.outcome(2, delete(id, &old)), Outcome::Kept(id));
    assert_eq!(world.record(id).body, file("two").body);
}

#[test]
fn a_directory_goes_only_when_empty() {
    let mut world = World::new();
    let id = world.done(1, create("d", directory()));
    let version = world.version(id);
    let f = world.done(2, Op::Create { at: at(id, "d/f"), new: file("new") });
    assert_eq!(world.outcome(1, delete(id, &version)), Outcome::Kept(id));
    let whole = vec![delete(f, &world.version(f)), delete(id, &version)];
    assert_eq!(world.outcomes(1, whole), [Outcome::Done(f), Outcome::Done(id)]);
}

#[test]
fn a_file_follows_its_directory() {
    let mut world = World::new();
    let d = world.done(1, create("d", directory()));
    let f = world.done(1, Op::Create { at: at(d, "d/f"), new: file("one") });
    let base = world.version(f);
    world.done(1, rename(d, "e"));
    let keep = Keep::NOTHING;
    let edit = Op::Replace { id: f, base, at: at(d, "d/f"), new: file("two"), keep };
    assert_eq!(world.done(2, edit), f);
    assert_eq!(world.index.path_of(f).unwrap(), Some(rel("e/f")));
    let new = Op::Create { at: at(d, "d/g"), new: file("new") };
    let g = world.done(2, new);
    assert_eq!(world.index.path_of(g).unwrap(), Some(rel("e/g")), "so does a new one");
}

/// Design: a move that would make a cycle is refused. fault 44
#[test]
fn a_move_below_itself_is_refused_and_makes_nothing() {
    let mut world = World::new();
    let a = world.done(1, create("a", directory()));
    let b = world.done(1, create("b", directory()));
    // Both at once: a into b, b into a.
    world.done(1, Op::Move { id: a, to: at(b, "b/a") });
    let cycle = Outcome::Refused(Refusal::Cycle);
    assert_eq!(world.outcome(2, Op::Move { id: b, to: at(a, "a/b") }), cycle);
    assert_eq!(world.outcome(2, Op::Move { id: b, to: at(b, "b/b") }), cycle);
    let gone = FileId { ordinal: 9, ..a };
    let remade = Op::Move { id: b, to: At { parent: Parent::Id(gone), ..at(a, "b/x/y/b") } };
    assert_eq!(world.outcome(2, remade), cycle);
    assert_eq!(world.paths(), ["b/", "b/a/"]);
}

#[test]
fn the_last_of_two_moves_wins() {
    let mut world = World::new();
    let id = world.done(1, create("f", file("one")));
    let version = world.version(id);
    world.done(1, rename(id, "g"));
    world.done(2, rename(id, "h"));
    assert_eq!(world.paths(), ["h"]);
    assert_eq!(world.version(id), version, "a name is no content");
    assert_eq!(world.outcome(1, rename(id, "h")), Outcome::Merged(id));
}

#[test]
fn a_move_to_a_taken_name_goes_beside_it() {
    let mut world = World::new();
    let f = world.done(1, create("f", file("one")));
    let g = world.done(1, create("g", file("two")));
    assert_eq!(world.conflict(2, rename(g, "f")), g);
    let copy = format!("f.conflict-node2-{}", now(&world));
    assert_eq!(world.resolve(&copy), g);
    assert_eq!(world.record(g).conflict_of, Some(f));
    assert_eq!(world.find("g"), None);
}

/// fault 44: swaps and longer rings.
#[test]
fn names_can_be_swapped_in_one_change() {
    let mut world = World::new();
    let [a, b, c] = ["a", "b", "c"].map(|path| world.done(1, create(path, file(path))));
    let ring = vec![rename(a, "b"), rename(b, "c"), rename(c, "a")];
    assert_eq!(world.outcomes(1, ring), [a, b, c].map(Outcome::Done));
    assert_eq!([world.resolve("b"), world.resolve("c"), world.resolve("a")], [a, b, c]);
    assert_eq!(world.index.counts().conflicts, 0);
    assert!([a, b, c].iter().all(|id| world.record(*id).losing.is_empty()));
}

#[test]
fn a_move_gets_a_name_that_a_later_operation_of_its_change_frees() {
    let mut world = World::new();
    let [a, b] = ["a", "b"].map(|path| world.done(1, create(path, file(path))));
    let gone = delete(b, &world.version(b));
    let outcomes = world.outcomes(1, vec![rename(a, "b"), gone]);
    assert_eq!(outcomes, [Outcome::Done(a), Outcome::Done(b)]);
    assert_eq!(world.paths(), ["b"]);
}

#[test]
fn of_two_moves_in_one_change_the_later_wins_whatever_becomes_free() {
    let mut world = World::new();
    let [a, b] = ["a", "b"].map(|path| world.done(1, create(path, file(path))));
    world.outcomes(1, vec![rename(a, "b"), rename(a, "c"), rename(b, "d")]);
    assert_eq!([world.resolve("c"), world.resolve("d")], [a, b]);
    assert_eq!(world.index.counts().conflicts, 0);
}

/// What is remembered of the directory last used must not outlive a change of it.
#[test]
fn a_directory_that_was_just_used_and_then_moved_is_at_its_new_place() {
    let mut world = World::new();
    let outer = world.done(1, create("outer", directory()));
    let d = world.done(1, create("d", directory()));
    let f = world.done(1, Op::Create { at: at(d, "d/f"), new: file("one") });
    world.done(1, Op::Move { id: d, to: at(outer, "outer/e") });
    let base = world.version(f);
    world.done(1, replace(f, &base, "d/f", file("two")));
    assert_eq!(contents_of(&world, "outer/e/f"), [file("one").body]);
    world.done(1, Op::Create { at: at(d, "d/g"), new: file("two") });
    world.done(1, rename(outer, ".git"));
    assert!(matches!(
        world.outcome(2, Op::Create { at: at(d, "d/g"), new: file("x") }),
        Outcome::History { .. }
    ));
}

#[test]
fn a_directory_that_was_just_used_and_then_deleted_is_gone() {
    let mut world = World::new();
    let d = world.done(1, create("d", directory()));
    let f = world.done(1, Op::Create { at: at(d, "d/f"), new: file("one") });
    let [base, empty] = [f, d].map(|id| world.version(id));
    world.outcomes(1, vec![delete(f, &base), delete(d, &empty)]);
    let g = world.done(1, Op::Create { at: at(d, "d/g"), new: file("two") });
    assert_eq!(world.resolve("d/g"), g);
    assert_ne!(world.resolve("d"), d, "ids are not used again");
}

#[test]
fn a_move_below_git_to_a_taken_name_leaves_the_content_to_history() {
    let mut world = World::new();
    let git = world.done(1, create(".git", directory()));
    let [a, b] = ["a", "b"].map(|name| {
        let path = format!(".git/{name}");
        world.done(1, Op::Create { at: at(git, &path), new: file(name) })
    });
    let onto = Op::Move { id: b, to: at(git, ".git/a") };
    assert!(matches!(world.outcome(2, onto), Outcome::History { .. }));
    assert_eq!(world.paths(), [".git/", ".git/a"]);
    assert_eq!(contents_of(&world, ".git/a"), [file("b").body]);
    assert_eq!(world.record(a).losing, []);
}

#[test]
fn a_lost_parent_is_made_anew_and_a_file_in_its_way_stays() {
    let mut world = World::new();
    let d = world.done(1, create("d", directory()));
    let version = world.version(d);
    world.done(1, delete(d, &version));
    world.done(1, create("d", file("in the way")));
    world.outcomes(2, Vec::new());
    // Even if a file has the very name that the directory beside it would get.
    let index = now(&world).next().next();
    world.done(1, create(&format!("d.conflict-node2-{index}"), file("also in the way")));
    let late = |name: &str| Op::Create { at: at(d, &format!("d/e/{name}")), new: file(name) };
    let outcomes = world.outcomes(2, vec![late("f"), late("g")]);
    assert_eq!(now(&world), index);
    let beside = format!("d.conflict-node2-{index}-2");
    let ids = ["f", "g"].map(|name| world.resolve(&format!("{beside}/e/{name}")));
    assert_eq!(outcomes, ids.map(Outcome::Done), "both found the same directory");
    assert_eq!(world.record(world.resolve("d")).body, file("in the way").body);
}

/// fault 45
#[test]
fn a_file_may_become_a_link_and_a_directory() {
    let mut world = World::new();
    let id = world.done(1, create("x", file("one")));
    for new in [symlink("target"), directory(), file("two")] {
        let body = new.body.clone();
        let base = world.version(id);
        assert_eq!(world.done(1, replace(id, &base, "x", new)), id);
        assert_eq!(world.record(id).body, body);
    }
    assert_eq!(contents_of(&world, "x"), [file("one").body, symlink("target").body]);
    let counts = world.index.counts();
    assert_eq!((counts.files, counts.symlinks, counts.directories), (1, 0, 0));
}

#[test]
fn a_directory_that_holds_something_does_not_become_a_file() {
    let mut world = World::new();
    let id = world.done(1, create("x", directory()));
    let base = world.version(id);
    world.done(2, Op::Create { at: at(id, "x/f"), new: file("inner") });
    let copy = world.conflict(1, replace(id, &base, "x", file("outer")));
    assert_eq!(world.record(copy).body, file("outer").body);
    assert!(world.find("x/f").is_some());
}

#[test]
fn attributes_are_masked_and_the_last_wins() {
    let mut world = World::new();
    let f = world.done(1, create("f", file("one")));
    let d = world.done(1, create("d", directory()));
    let version = world.version(f);
    for id in [f, d] {
        let all = Op::Attributes { id, attributes: attributes(0o7777), keep: Keep::NOTHING };
        assert_eq!(world.outcome(1, all.clone()), Outcome::Done(id));
        assert_eq!(world.outcome(2, all), Outcome::Merged(id));
    }
    assert_eq!(world.record(f).attributes.mode, 0o777, "no set-id bits on files");
    assert_eq!(world.record(d).attributes.mode, 0o3777, "shared folders live on setgid");
    assert_eq!(world.record(d).attributes.mtime, crate::time::Time::default());
    assert_eq!(world.version(f), version, "mode is no content");
    let gone = FileId { ordinal: 9, ..f };
    let late = Op::Attributes { id: gone, attributes: attributes(0o600), keep: Keep::NOTHING };
    assert_eq!(world.outcome(1, late), Outcome::Nothing);
}

#[test]
fn put_replaces_whatever_is_there_and_makes_parents() {
    let mut world = World::new();
    let put = |path: &str, new| Op::Put { path: rel(path), new };
    let id = world.done(1, put("a/b/f", file("one")));
    assert_eq!(world.done(2, put("a/b/f", file("two"))), id);
    assert_eq!(world.outcome(1, put("a/b/f", file("two"))), Outcome::Merged(id));
    let refused = |refusal| Outcome::Refused(refusal);
    assert_eq!(world.outcome(1, put("a", file("x"))), refused(Refusal::IsADirectory));
    let through = put("a/b/f/g/h", file("x"));
    assert_eq!(world.outcome(1, through), refused(Refusal::NotADirectory));
    assert_eq!(contents_of(&world, "a/b/f"), [file("one").body]);
    assert_eq!(world.paths(), ["a/", "a/b/", "a/b/f"], "a refusal makes no parents");
}

#[test]
fn remove_takes_what_is_there_and_nothing_is_no_error() {
    let mut world = World::new();
    world.done(1, Op::Put { path: rel("a/f"), new: file("one") });
    let remove = |path: &str| Op::Remove { path: rel(path) };
    let (a, f) = (world.resolve("a"), world.resolve("a/f"));
    assert_eq!(world.outcome(2, remove("a")), Outcome::Kept(a));
    assert_eq!(world.outcome(2, remove("a/none/x")), Outcome::Nothing);
    assert_eq!(world.outcome(2, remove("a/f/x")), Outcome::Refused(Refusal::NotADirectory));
    assert_eq!(world.outcome(2, remove("a/f")), Outcome::Done(f));
    assert_eq!(world.outcome(2, remove("a")), Outcome::Done(a));
    assert_eq!(world.outcome(2, remove("a")), Outcome::Nothing);
}

#[test]
fn history_is_pruned_by_the_log_alone_and_by_age() {
    let mut world = World::new();
    let id = world.done(1, create("f", file("0")));
    for text in ["1", "2", "3"] {
        let base = world.version(id);
        world.done(1, replace(id, &base, "f", file(text)));
    }
    let rows = world.index.history(&HistoryOf::File(id), None, 9).unwrap();
    assert_eq!(rows.len(), 3);
    assert!(rows[1].was_current_at(rows[1].made) && !rows[1].was_current_at(rows[1].key.index));
    let prune = Op::PruneHistory { before_wall_ms: rows[2].wall_ms };
    assert_eq!(world.outcome(2, prune.clone()), Outcome::Pruned(2));
    assert_eq!(world.outcome(2, prune), Outcome::Nothing);
    assert_eq!(world.index.history_rows(), 1);
    assert_eq!(world.index.history(&HistoryOf::File(id), None, 9).unwrap(), rows[2..]);
    let content = HistoryOf::Content(ContentId::of(b"0"));
    assert_eq!(world.index.history(&content, None, 9).unwrap(), []);
}

#[test]
fn history_is_found_by_path_file_and_content_page_by_page() {
    let mut world = World::new();
    let id = world.done(1, create("f", file("0")));
    world.done(1, create("f2", file("0")));
    for text in ["1", "0", "1"] {
        let base = world.version(id);
        world.done(1, replace(id, &base, "f", file(text)));
    }
    for of in [HistoryOf::Path(&rel("f")), HistoryOf::File(id)] {
        let all = world.index.history(&of, None, 9).unwrap();
        assert_eq!(all.len(), 3);
        let first = world.index.history(&of, None, 1).unwrap();
        assert_eq!(first, all[..1]);
        assert_eq!(world.index.history(&of, Some(first[0].key), 9).unwrap(), all[1..]);
    }
    let zero = HistoryOf::Content(ContentId::of(b"0"));
    assert_eq!(world.index.history(&zero, None, 9).unwrap().len(), 2);
}

#[test]
fn holders_of_a_content_are_found() {
    let mut world = World::new();
    let [f, g] = ["f", "g"].map(|path| world.done(1, create(path, file("same"))));
    let content = ContentId::of(b"same");
    assert_eq!(world.index.holders_of_content(content, 9).unwrap(), [f, g]);
    let base = world.version(f);
    world.done(1, replace(f, &base, "f", file("other")));
    assert_eq!(world.index.holders_of_content(content, 9).unwrap(), [g]);
}

#[test]
fn entries_of_a_directory_are_listed_by_name_page_by_page() {
    let mut world = World::new();
    for path in ["b", "a", "c", "B"] {
        world.done(1, create(path, file(path)));
    }
    let d = world.done(1, create("d", directory()));
    world.done(1, Op::Create { at: at(d, "d/a"), new: file("inner") });
    let list = |after: Option<&Name>, limit| {
        let rows = world.index.children(FileId::ROOT, after, limit).unwrap();
        rows.into_iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(list(None, 9), "B a b c d");
    assert_eq!(list(None, 2), "B a");
    assert_eq!(list(Some(&name("a")), 2), "b c");
}

#[test]
fn conflict_names_fit_and_do_not_collide() {
    let mut world = World::new();
    let long = "é".repeat(NAME_BYTES_MAX / 2);
    world.done(1, create(&long, file("0")));
    let ops = ["1", "2", "3"].map(|text| create(&long, file(text)));
    let outcomes = world.outcomes(2, ops.into());
    let names: Vec<String> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Outcome::Conflict { copy } => world.record(*copy).name,
            other => panic!("{other:?}"),
        })
        .map(|name| String::from_utf8(name.into()).expect("cut between characters"))
        .collect();
    let mark = format!(".conflict-node2-{}", now(&world));
    assert!(names.iter().all(|name| name.len() > 250 && name.len() <= NAME_BYTES_MAX));
    for (name, end) in names.iter().zip(["", "-2", "-3"]) {
        assert!(name.ends_with(&format!("{mark}{end}")), "{name}");
    }
}

#[test]
fn too_long_a_path_is_refused() {
    let mut world = World::new();
    let mut path = String::new();
    while path.len() + 250 < PATH_BYTES_MAX {
        path = format!("{path}{}/", "x".repeat(249));
    }
    let deep = format!("{path}{}", "y".repeat(PATH_BYTES_MAX - path.len()));
    let id = world.done(1, Op::Put { path: rel(&deep), new: file("1") });
    let parent = world.record(id).parent;
    let (_, short) = rel(&deep).split().unwrap();
    let longer = Name::new([short.as_bytes(), b"y"].concat()).unwrap();
    let to = At { parent: Parent::Id(parent), name: longer, path: rel("unused") };
    let refused = Outcome::Refused(Refusal::NameTooLong);
    assert_eq!(world.outcome(1, Op::Move { id, to: to.clone() }), refused);
    assert_eq!(world.outcome(1, Op::Create { at: to, new: file("2") }), refused);
    let taken = At { parent: Parent::Id(parent), name: short, path: rel("unused") };
    let copy = world.outcome(1, Op::Create { at: taken, new: file("3") });
    assert_eq!(copy, refused, "the conflict name would be too long");
}

#[test]
fn operations_that_make_no_sense_are_refused() {
    let mut world = World::new();
    let mut torn = file("one");
    torn.inline = Some(b"on".to_vec());
    let mut lying = file("one");
    lying.inline = Some(b"two".to_vec());
    let mut stuffed = directory();
    stuffed.inline = Some(Vec::new());
    for new in [torn, lying, stuffed, symlink(""), symlink("a\0b"), symlink(&"x".repeat(5000))] {
        let outcome = world.outcome(1, create("f", new.clone()));
        assert_eq!(outcome, Outcome::Refused(Refusal::Malformed));
        let put = Op::Put { path: rel("f"), new };
        assert_eq!(world.outcome(1, put), Outcome::Refused(Refusal::Malformed));
    }
    assert_eq!(world.listing(), Vec::<String>::new());
}

/// Only a client's write may carry more than small contents, and not more than an entry holds.
#[test]
fn puts_carry_more_than_other_operations() {
    let mut world = World::new();
    let sized = |bytes: u64| file(&"x".repeat(usize::try_from(bytes).unwrap()));
    for (bytes, created, put) in [
        (INLINE_BYTES_MAX, true, true),
        (INLINE_BYTES_MAX + 1, false, true),
        (PUT_BYTES_MAX, false, true),
        (PUT_BYTES_MAX + 1, false, false),
    ] {
        let outcome = world.outcome(1, create(&format!("c{bytes}"), sized(bytes)));
        assert_eq!(matches!(outcome, Outcome::Done(_)), created, "{bytes}: {outcome:?}");
        let op = Op::Put { path: rel(&format!("p{bytes}")), new: sized(bytes) };
        let outcome = world.outcome(1, op);
        assert_eq!(matches!(outcome, Outcome::Done(_)), put, "{bytes}: {outcome:?}");
    }
}

/// Trap T26: a file has so many copies at a time, and whoever loses then is in the history, until
/// somebody deals with one of them.
#[test]
fn a_file_has_a_bounded_number_of_copies_and_the_rest_is_history() {
    let mut world = World::new();
    let id = world.done(1, create("f", file("0")));
    let copies: Vec<FileId> = (0..super::LOSING_LINES_MAX)
        .map(|n| world.conflict(2, create("f", file(&format!("lost {n}")))))
        .collect();
    assert_eq!(world.record(id).losing.len(), super::LOSING_LINES_MAX);
    let before = world.paths();
    let outcome = world.outcome(2, create("f", file("one more")));
    assert!(matches!(outcome, Outcome::History { .. }), "{outcome:?}");
    assert_eq!(world.paths(), before);
    // Its bytes are found as those of any version.
    let content = ContentId::of(b"one more");
    let rows = world.index.newest_history(&HistoryOf::Content(content), 1).unwrap();
    assert_eq!(rows.len(), 1);
    // What is there already is no new copy.
    assert_eq!(world.conflict(3, create("f", file("lost 3"))), copies[3]);
    let base = world.record(copies[0]).version;
    world.done(1, Op::Delete { id: copies[0], base });
    world.conflict(2, create("f", file("and again")));
}
