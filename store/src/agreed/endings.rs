//! How a conflict ends by the word of a person, as stories.

use super::world::*;
use crate::history_rows::{HistoryOf, Reason};
use crate::op::{Known, Op, Outcome, Refusal, Take};
use crate::record::{Body, FileId};

fn resolve(world: &World, file: FileId, copy: FileId, take: Take) -> Op {
    let known = |id| Known { id, version: world.version(id) };
    Op::Resolve { file: known(file), copy: known(copy), take }
}

/// Two nodes at odds: the file and its copy.
fn at_odds() -> (World, FileId, FileId) {
    let mut world = World::new();
    let id = world.done(1, create("f", file("one")));
    let copy = world.conflict(2, create("f", file("two")));
    (world, id, copy)
}

fn kept(world: &World, text: &str) -> Vec<Reason> {
    let Body::File { content, .. } = file(text).body else { panic!() };
    let rows = world.index.history(&HistoryOf::Content(content), None, 9).unwrap();
    rows.into_iter().map(|row| row.reason).collect()
}

/// Issue: ours: the version that has the name stays, the copy goes to history.
#[test]
fn ours_lets_the_copy_go() {
    let (mut world, id, copy) = at_odds();
    let (op, before) = (resolve(&world, id, copy, Take::Ours), world.version(id));
    assert_eq!(world.done(3, op), id);
    assert_eq!((world.paths(), world.version(id)), (vec!["f".to_owned()], before));
    assert_eq!(kept(&world, "two"), [Reason::Deleted]);
    assert_eq!((world.record(id).losing, world.index.counts().conflicts), (vec![], 0));
    assert_eq!(world.index.copies(None, 9).unwrap(), []);
}

/// Issue: theirs: the copy's content takes the name, the former goes to history. The file stays
/// the one that it was, so that its name changes in one step.
#[test]
fn theirs_puts_the_copy_in_its_place() {
    let (mut world, id, copy) = at_odds();
    let seen = world.version(id).joined(&world.version(copy));
    let op = resolve(&world, id, copy, Take::Theirs);
    assert_eq!(world.done(3, op), id);
    assert_eq!((world.paths(), world.resolve("f")), (vec!["f".to_owned()], id));
    assert_eq!(world.record(id).body, file("two").body);
    assert!(world.version(id).covers(&seen), "who edits it now is a successor of both");
    assert_eq!(kept(&world, "one"), [Reason::Replaced]);
    assert_eq!(world.index.counts().conflicts, 0);
}

/// Issue: both stay, the copy is an ordinary file.
#[test]
fn both_makes_the_copy_a_file_like_any_other() {
    let (mut world, id, copy) = at_odds();
    let (op, line) = (resolve(&world, id, copy, Take::Both), world.version(copy));
    assert_eq!(world.done(3, op), id);
    assert_eq!(world.paths().len(), 2);
    assert_eq!((world.record(copy).conflict_of, world.record(id).losing), (None, vec![]));
    let again = world.conflict(2, replace(id, &line, "f", file("late")));
    assert_ne!(again, copy, "the line has ended");
}

/// Issue: decided from the log alone, with the versions that the person saw.
#[test]
fn an_edit_of_either_side_comes_before_the_word_of_who_did_not_see_it() {
    for take in [Take::Ours, Take::Theirs, Take::Both] {
        for side in 0..2 {
            let (mut world, id, copy) = at_odds();
            let op = resolve(&world, id, copy, take);
            let edited = [id, copy][side];
            // As the node that lost sees it: its line goes on.
            world.done(2, replace(edited, &world.version(edited), "f", file("new")));
            let before = world.listing();
            assert_eq!(world.outcome(3, op.clone()), Outcome::Changed);
            assert_eq!((world.listing(), world.index.counts().conflicts), (before, 1));
            let op = resolve(&world, id, copy, take);
            assert_eq!(world.done(3, op), id, "once it was seen it is done");
        }
    }
}

#[test]
fn a_conflict_ends_once() {
    for end in [Take::Ours, Take::Theirs, Take::Both] {
        let (mut world, id, copy) = at_odds();
        let op = resolve(&world, id, copy, Take::Ours);
        let end = resolve(&world, id, copy, end);
        world.done(2, end);
        let before = world.listing();
        assert_eq!(world.outcome(3, op), Outcome::Changed);
        assert_eq!(world.listing(), before);
    }
}

/// Of several copies the one that is named goes; the others wait for their own word.
#[test]
fn each_copy_has_an_end_of_its_own() {
    let (mut world, id, copy) = at_odds();
    let other = world.conflict(3, create("f", file("three")));
    let op = resolve(&world, id, copy, Take::Theirs);
    world.done(1, op);
    assert_eq!(world.record(other).conflict_of, Some(id));
    assert_eq!(world.index.copies(None, 9).unwrap(), [other]);
    let op = resolve(&world, id, other, Take::Theirs);
    world.done(1, op);
    assert_eq!(world.listing().len(), 1);
    assert_eq!(world.record(id).body, file("three").body);
}

/// A directory that lost to a file takes the name with all below it.
#[test]
fn a_directory_takes_the_name_whole() {
    let mut world = World::new();
    let id = world.done(1, create("x", file("one")));
    let inner = Op::Create { at: below(0, "x/f"), new: file("two") };
    let outcomes = world.outcomes(2, vec![create("x", directory()), inner]);
    let [Outcome::Conflict { copy }, Outcome::Done(child)] = outcomes[..] else {
        panic!("{outcomes:?}")
    };
    let ours = resolve(&world, id, copy, Take::Ours);
    assert_eq!(world.outcome(3, ours), Outcome::Refused(Refusal::NotEmpty), "it holds something");
    let op = resolve(&world, id, copy, Take::Theirs);
    assert_eq!(world.done(3, op), copy);
    assert_eq!((world.resolve("x"), world.resolve("x/f")), (copy, child));
    assert_eq!(kept(&world, "one"), [Reason::Deleted]);
    assert_eq!(world.index.counts().conflicts, 0);
}

/// A file that lost to a directory takes its name only if nothing is in it.
#[test]
fn a_file_takes_the_place_of_an_empty_directory_only() {
    let mut world = World::new();
    let id = world.done(1, create("x", directory()));
    let copy = world.conflict(2, create("x", file("two")));
    let inner = world.done(1, Op::Create { at: at(id, "x/f"), new: file("in it") });
    let op = resolve(&world, id, copy, Take::Theirs);
    assert_eq!(world.outcome(3, op.clone()), Outcome::Refused(Refusal::NotEmpty));
    world.done(1, delete(inner, &world.version(inner)));
    assert_eq!(world.done(3, op), copy);
    assert_eq!(world.listing().len(), 1);
}

/// The file was moved into the directory that lost against it: it cannot be taken away with it.
#[test]
fn a_directory_does_not_take_the_place_of_what_it_holds() {
    let mut world = World::new();
    let id = world.done(1, create("x", file("one")));
    let copy = world.conflict(2, create("x", directory()));
    let to = at(copy, "x.conflict/y");
    world.done(1, Op::Move { id, to });
    let op = resolve(&world, id, copy, Take::Theirs);
    assert_eq!(world.outcome(3, op), Outcome::Refused(Refusal::Cycle));
}
