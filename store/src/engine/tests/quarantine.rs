//! What lies outside the folder, and how it comes back.

use std::fs;

use super::fleet::{Fleet, rel, share};
use crate::content_id::ContentId;
use crate::name::Name;
use crate::placed::LocalId;

/// A file waits in quarantine for its name, and the log deletes it behind the back of a run that is
/// killed: the next run does not leave it there.
#[test]
fn what_waits_for_its_name_is_not_left_when_the_log_has_it_no_more() {
    let mut fleet = Fleet::new(1);
    share(&mut fleet, 0, "f", "one");
    let engine = fleet.hosts[0].engine();
    let id = engine.resolve_local(&rel("f")).unwrap().unwrap();
    let mut row = engine.row(id).unwrap().unwrap();
    let kept = engine.quarantine_name(id, Some(&row.name));
    row.base.as_mut().unwrap().id.ordinal = 1_000;
    engine.set_aside(id, row, kept.clone()).unwrap();
    let away = fleet.hosts[0].state().join(format!("quarantine/{kept}"));
    fs::rename(fleet.hosts[0].path("f"), &away).unwrap();
    let engine = fleet.hosts[0].engine();
    engine.quarantined.insert(id, 0);
    engine.flush_journal().unwrap();
    fleet.settle();
    assert!(!away.exists());
    assert!(fleet.hosts[0].engine().row(id).unwrap().is_none());
    assert!(fleet.find_bytes(ContentId::of(b"one")).is_some(), "its bytes are history");
}

/// Two things come back out of quarantine under one name, to a directory that is no more.
#[test]
fn what_comes_back_finds_a_name_and_a_place() {
    let mut fleet = Fleet::new(1);
    fs::create_dir(fleet.hosts[0].path("d")).unwrap();
    for path in ["d/f", "d/g"] {
        share(&mut fleet, 0, path, path);
    }
    let engine = fleet.hosts[0].engine();
    let ids = ["d/f", "d/g"].map(|path| engine.resolve_local(&rel(path)).unwrap().unwrap());
    let mut rows = Vec::new();
    for (number, id) in ids.into_iter().enumerate() {
        let mut row = engine.row(id).unwrap().unwrap();
        (row.parent, row.name) = (LocalId::QUARANTINE, Name::new(format!("{number}")).unwrap());
        row.base.as_mut().unwrap().view.place.name = Name::new("f").unwrap();
        engine.set_row(id, Some(&row)).unwrap();
        rows.push((id, row));
    }
    for (number, path) in ["d/f", "d/g"].iter().enumerate() {
        let away = fleet.hosts[0].state().join(format!("quarantine/{number}"));
        fs::rename(fleet.hosts[0].path(path), away).unwrap();
    }
    fs::remove_dir(fleet.hosts[0].path("d")).unwrap();
    let engine = fleet.hosts[0].engine();
    engine.dirs.clear();
    for (id, row) in rows {
        engine.surface(id, row).unwrap();
    }
    let tree = fleet.hosts[0].tree();
    let names: Vec<_> = tree.keys().map(String::as_str).collect();
    let index = fleet.hosts[0].engine().index.position().index;
    let name = format!("f.conflict-node1-{index}");
    assert_eq!(names, [name.as_str(), format!("{name}-2").as_str()]);
}

/// A row stands for another directory than before: what was open for it is not used for that.
#[test]
fn a_directory_that_is_another_one_is_opened_anew() {
    let mut fleet = Fleet::new(1);
    for path in ["d", "e"] {
        fs::create_dir(fleet.hosts[0].path(path)).unwrap();
    }
    share(&mut fleet, 0, "d/f", "one");
    share(&mut fleet, 0, "e/g", "two");
    let engine = fleet.hosts[0].engine();
    let [id, other] = ["d", "e"].map(|path| engine.resolve_local(&rel(path)).unwrap().unwrap());
    assert!(engine.dir(id).unwrap().stat(&Name::new("f").unwrap()).is_ok());
    let (mut row, stands) = (engine.row(id).unwrap().unwrap(), engine.row(other).unwrap().unwrap());
    row.name = stands.name;
    row.seen = stands.seen;
    engine.set_row(id, Some(&row)).unwrap();
    assert!(engine.dir(id).unwrap().stat(&Name::new("g").unwrap()).is_ok());
}
