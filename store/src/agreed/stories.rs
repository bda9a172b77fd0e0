//! Each rule of the namespace as a story.

use super::world::*;
use crate::history_rows::HistoryOf;
use crate::op::{Outcome, Refusal};
use crate::record::FileId;

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
    let rows = world.index.history(&HistoryOf::Path(&rel("f")), None, 10).unwrap();
    let contents: Vec<_> = rows.iter().map(|row| row.body.clone()).collect();
    assert_eq!(contents, [file("one").body, file("two").body]);
}

#[test]
fn the_folder_itself_cannot_be_changed() {
    let mut world = World::new();
    let none = crate::record::VersionVector::default();
    let root = FileId::ROOT;
    for op in [rename(root, "x"), delete(root, &none), replace(root, &none, "x", file("x"))] {
        assert_eq!(world.outcome(1, op), Outcome::Refused(Refusal::Root));
    }
}
