//! States that add up and that no log comes to: what a peer may make up is refused before it is in
//! force, and nothing of it is met later. Found by the fuzz target `page`.

use std::collections::BTreeMap;

use pickbox_raft::core::ids::{Index as LogIndex, LogPosition, NodeId, Serial, Term};
use pickbox_raft::core::members::Members;
use redb::ReadableTable;

use super::state::State;
use super::tables::{LIVE, Tables};
use super::{Cursor, ImportError, Index};
use crate::agreed::world::*;
use crate::agreed::{write_history, write_row};
use crate::history_rows::{HistoryKey, HistoryRow};
use crate::op::{Incoming, Op};
use crate::record::{Attributes, FileId, LosingLine, Record, VersionVector};
use crate::sessions::{Session, Sessions};

/// What a giver would send of the small world after this was done to it behind the log's back.
fn give(forge: impl FnOnce(&mut Forger<'_>)) -> Result<(), ImportError> {
    let mut world = World::new();
    let id = world.done(1, create("f", file("one")));
    let base = world.version(id);
    world.done(1, replace(id, &base, "f", file("two")));
    world.conflict(2, replace(id, &base, "f", file("three")));
    world.done(2, Op::Put { path: rel("d/e"), new: symlink("f") });
    {
        let index = &mut world.index;
        let tables = Tables::open(index.txn.as_ref().unwrap(), &LIVE).unwrap();
        forge(&mut Forger { tables, state: &mut index.state });
    }
    let snapshot = world.index.snapshot().unwrap();
    let mut index = Index::in_memory().unwrap();
    let mut importer = index.import_start()?;
    let mut cursor = Some(Cursor::default());
    while let Some(from) = cursor {
        let page = snapshot.page(&from, 500).unwrap();
        index.import_page(&mut importer, &page.bytes)?;
        cursor = page.next;
    }
    let taken = index.import_install(importer);
    assert!(taken.is_ok() || index.counts().records() == 0, "what is in force stays");
    taken
}

/// Changes rows so that all still adds up.
struct Forger<'a> {
    tables: Tables<'a>,
    state: &'a mut State,
}

impl Forger<'_> {
    fn find(&self, name: &str) -> (FileId, Record) {
        let named = |id: &FileId| {
            let record = super::tables::record(&self.tables.records, *id).unwrap();
            record.filter(|record| record.name.to_string().starts_with(name))
        };
        let all = (1..9).flat_map(|index| (0..3).map(move |ordinal| (index, ordinal)));
        let mut all =
            all.map(|(index, ordinal)| FileId { epoch: 0, index: LogIndex::new(index), ordinal });
        all.find_map(|id| Some((id, named(&id)?))).unwrap()
    }

    /// Another record in the place of this one.
    fn alter(&mut self, name: &str, change: impl FnOnce(&mut Record)) {
        let (id, before) = self.find(name);
        let mut after = before.clone();
        change(&mut after);
        write_row(&mut self.tables, self.state, id, Some(&before), Some(&after)).unwrap();
    }

    /// One more record.
    fn add(&mut self, id: FileId, parent: FileId, new: Incoming) {
        let (_, like) = self.find("f");
        let record = Record {
            parent,
            name: name("added"),
            body: new.body,
            attributes: new.attributes,
            losing: Vec::new(),
            conflict_of: None,
            ..like
        };
        write_row(&mut self.tables, self.state, id, None, Some(&record)).unwrap();
    }

    /// One more row of the history, like the one that is there.
    fn add_history(&mut self, index: u64, alter: impl FnOnce(&mut HistoryRow)) {
        let bytes = {
            let first = self.tables.history.first().unwrap().unwrap();
            first.1.value().to_vec()
        };
        let mut row: HistoryRow = super::tables::decode(&bytes, "a row").unwrap();
        row.key = HistoryKey { index: LogIndex::new(index), ordinal: 40 };
        alter(&mut row);
        write_history(&mut self.tables, self.state, &row).unwrap();
    }

    fn session(&mut self, node: u64, session: Session) {
        let sessions = BTreeMap::from([(NodeId::new(node), session)]);
        let bytes = postcard::to_allocvec(&sessions).unwrap();
        self.state.sessions = postcard::from_bytes::<Sessions>(&bytes).unwrap();
    }
}

fn id(index: u64, ordinal: u32) -> FileId {
    FileId { epoch: 0, index: LogIndex::new(index), ordinal }
}

#[track_caller]
fn refused(what: &str, forge: impl FnOnce(&mut Forger<'_>)) {
    let error = give(forge).unwrap_err();
    assert!(
        matches!(error, ImportError::Damaged(why) | ImportError::Mismatch(why) if why == what),
        "{error}"
    );
}

/// The forger does no harm by itself.
#[test]
fn what_is_not_forged_is_taken() {
    give(|_| {}).unwrap();
    give(|forger| forger.add(id(1, 0), FileId::ROOT, file("x"))).unwrap();
}

/// faults 84 and 86: set-id bits and links that no kernel takes do not get in by a state.
#[test]
fn what_no_entry_brings_does_not_come_by_a_state() {
    let what = "a link, a mode or a time";
    refused(what, |forger| forger.alter("f", |record| record.attributes.mode = 0o4755));
    refused(what, |forger| forger.alter("d", |record| record.attributes.mode = 0o4755));
    refused(what, |forger| forger.alter("f", |record| record.attributes.mtime.nanos = 1 << 31));
    refused(what, |forger| forger.alter("e", |record| record.body = symlink("a\0b").body));
    refused(what, |forger| forger.alter("e", |record| record.body = symlink("").body));
    refused(what, |forger| forger.add_history(1, |row| row.attributes.mode = 0o4755));
    let what = "a version of a directory";
    refused(what, |forger| forger.add_history(1, |row| row.body = directory().body));
}

/// fault 61: a walk up ends at the folder.
#[test]
fn directories_are_a_tree() {
    let what = "a file lies in no directory";
    refused(what, |forger| {
        let (d, _) = forger.find("d");
        forger.alter("d", |record| record.parent = d);
    });
    refused(what, |forger| {
        let attributes = Attributes { mode: 0o755, ..Attributes::default() };
        forger.add(id(1, 0), id(2, 0), Incoming { attributes, ..directory() });
        forger.alter("d", |record| record.parent = id(1, 0));
        let (d, _) = forger.find("d");
        forger.alter("added", |record| record.parent = d);
    });
    refused(what, |forger| {
        let (f, _) = forger.find("f");
        forger.add(id(1, 0), f, file("x"));
    });
    refused(what, |forger| forger.add(id(1, 0), id(1, 1), file("x")));
}

/// The next entry mints ids and rows of the history; they must be free.
#[test]
fn nothing_is_of_an_entry_to_come() {
    let next = |forger: &Forger<'_>| forger.state.position.index.next().get();
    refused("an id of the future", |forger| {
        forger.add(id(next(forger), 0), FileId::ROOT, file("x"));
    });
    refused("an id of the future", |forger| {
        forger.add(FileId { epoch: 1, ..id(1, 0) }, FileId::ROOT, file("x"));
    });
    refused("an id of the future", |forger| forger.add(id(0, 1), FileId::ROOT, file("x")));
    refused("a displacement of the future", |forger| {
        let index = next(forger);
        forger.add_history(index, |_| {});
    });
}

/// Lines are followed when entries are applied; a missing end would stop the node.
#[test]
fn conflicts_have_both_sides() {
    let what = "a conflict lacks its other side";
    refused(what, |forger| forger.alter("f.conflict", |record| record.conflict_of = None));
    refused(what, |forger| forger.alter("f", |record| record.losing.clear()));
    refused(what, |forger| {
        forger.alter("f", |record| record.losing[0].version = VersionVector::default());
    });
    refused("a row names one that is not there", |forger| {
        let (version, copy) = (VersionVector::default(), id(1, 7));
        let line = LosingLine { version, copy, since: LogIndex::new(1), wall_ms: 0 };
        forger.alter("f", |record| record.losing.push(line));
    });
    refused("a row names one that is not there", |forger| {
        forger.alter("d", |record| record.conflict_of = Some(id(1, 7)));
    });
    refused("too many lines", |forger| {
        forger.alter("f", |record| record.losing = vec![record.losing[0].clone(); 17]);
    });
}

/// fault 62: numbers at their end, where the next one is none.
#[test]
fn numbers_have_a_next_one() {
    refused("the position", |forger| forger.state.position.index = LogIndex::new(u64::MAX));
    refused("the position", |forger| {
        forger.state.position = LogPosition { term: Term::new(u64::MAX), ..forger.state.position };
    });
    refused("the runs", |forger| {
        forger.session(1, Session { last: Serial::new(u64::MAX), ..Session::default() });
    });
    refused("the runs", |forger| {
        forger.session(1, Session { name: "\u{1b}".into(), ..Session::default() });
    });
    refused("the epoch", |forger| forger.state.epoch = 7);
    refused("the members", |forger| {
        forger.state.members = Members { next_id: NodeId::new(9), ..Members::default() };
    });
}

/// fault 62: what comes must fit into a page when it is given on.
#[test]
fn rows_are_as_short_as_ours() {
    let room = super::pages::ROW_BYTES_MAX - 64;
    assert!(super::sound::check_length(&vec![0; room]).is_ok());
    assert!(super::sound::check_length(&vec![0; room + 1]).is_err());
}
