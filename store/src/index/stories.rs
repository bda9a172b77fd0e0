//! Entries, sessions, commits and pages as stories.

use pickbox_raft::core::ids::{Incarnation, Index as LogIndex, NodeId, Serial, Term};
use pickbox_raft::core::log::{Content, Entry, Payload};
use pickbox_raft::core::members::{Member, MemberRole, Members};
use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use super::{Cursor, ImportError, Index, IndexError, Received, What};
use crate::agreed::payload;
use crate::agreed::world::*;
use crate::op::{CHANGE_BYTES_MAX, Change, OPS_MAX, Op};

fn member(id: u64) -> Member {
    Member {
        id: NodeId::new(id),
        name: format!("m{id}"),
        address: "127.0.0.1:8001".to_string(),
        role: MemberRole::Voter,
        key: None,
    }
}

fn members(ids: &[u64]) -> Members {
    Members {
        members: ids.iter().map(|id| member(*id)).collect(),
        next_id: NodeId::new(99),
        ..Members::default()
    }
}

fn data(ops: Vec<Op>) -> Payload {
    Payload::Data(payload::encode(&Change { wall_ms: 1, ops }).unwrap())
}

/// Design: exactly once. fault 14
#[test]
fn repeated_and_stale_proposals_change_nothing() {
    let mut world = World::new();
    world.done(1, create("f", file("one")));
    let before = (world.index.digest(), world.listing());
    let (origin, serial) = (NodeId::new(1), Serial::new(2));
    let again = world.propose(1, 2, data(vec![create("g", file("two"))]));
    assert_eq!(again.what, What::Duplicate { origin, serial });
    let gap = world.propose(1, 9, data(vec![create("g", file("two"))]));
    assert!(matches!(gap.what, What::Stale { .. }));
    let stranger = world.propose(7, 2, data(vec![create("g", file("two"))]));
    assert!(matches!(stranger.what, What::Stale { .. }));
    assert_eq!((world.index.digest(), world.listing()), before);
    assert_eq!(world.index.position().index, LogIndex::new(5), "the position moves all the same");
}

#[test]
fn opening_says_which_run_of_which_node() {
    let mut world = World::new();
    let open = Payload::Open { name: "node1".to_string() };
    let opened = world.propose(1, 1, open);
    let (node, incarnation) = (NodeId::new(1), Incarnation::new(1001));
    assert_eq!(opened.what, What::Opened { node, incarnation });
    assert_eq!(world.index.sessions().get(node).unwrap().last, Serial::new(1));
}

/// trap T29: apply cannot fail for what an entry says.
#[test]
fn bytes_that_are_no_change_use_up_their_serial_and_do_nothing() {
    let mut world = World::new();
    world.done(1, create("f", file("one")));
    let digest = world.index.digest();
    let good = payload::encode(&Change { wall_ms: 1, ops: vec![rename_root()] }).unwrap();
    let cut = good[..good.len() - 1].to_vec();
    let trailing = [good.as_slice(), b"x"].concat();
    let future = [&[9], &good[1..]].concat();
    let huge = vec![payload::PAYLOAD_FORMAT; CHANGE_BYTES_MAX + 1];
    for (bytes, serial) in [Vec::new(), cut, trailing, future, huge].into_iter().zip(3..) {
        let what = world.propose(1, serial, Payload::Data(bytes)).what;
        let (origin, serial) = (NodeId::new(1), Serial::new(serial));
        assert_eq!(what, What::Undecodable { origin, serial });
    }
    let what = world.propose(1, 8, Payload::Open { name: "again".to_string() }).what;
    assert!(matches!(what, What::Undecodable { .. }), "a run opens once");
    assert_eq!(world.index.digest(), digest);
    let next = world.propose(1, 9, data(vec![create("g", file("two"))])).what;
    assert!(matches!(next, What::Change { .. }));
}

fn rename_root() -> Op {
    rename(crate::record::FileId::ROOT, "x")
}

#[test]
fn a_change_over_its_bounds_is_not_encoded() {
    let ops = vec![Op::PruneHistory { before_wall_ms: 0 }; OPS_MAX + 1];
    assert_eq!(payload::encode(&Change { wall_ms: 0, ops }), Err(payload::TooLarge));
    let big = crate::op::Incoming { inline: Some(vec![0; CHANGE_BYTES_MAX]), ..file("") };
    let ops = vec![create("f", big)];
    assert_eq!(payload::encode(&Change { wall_ms: 0, ops }), Err(payload::TooLarge));
}

#[test]
fn entries_come_without_gap() {
    let mut world = World::new();
    let entry =
        |index| Entry { index: LogIndex::new(index), term: Term::new(1), content: Content::Noop };
    world.index.apply(&entry(1)).unwrap();
    for wrong in [1, 3] {
        let error = world.index.apply(&entry(wrong)).unwrap_err();
        assert!(matches!(error, IndexError::Gap { .. }));
    }
    world.index.apply(&entry(2)).unwrap();
}

#[test]
fn members_are_kept_and_name_the_conflicts() {
    let mut world = World::new();
    world.apply(Content::Members(members(&[1, 2])));
    world.done(1, create("f", file("one")));
    let copy = world.conflict(2, create("f", file("two")));
    assert!(world.record(copy).name.to_string().contains(".conflict-m2-"));
    world.apply(Content::Members(members(&[1])));
    assert_eq!(world.index.members(), &members(&[1]));
    assert_eq!(world.index.sessions().get(NodeId::new(2)), None);
    let late = world.propose(2, 3, data(vec![create("g", file("late"))]));
    assert!(matches!(late.what, What::Stale { .. }), "a removed node says nothing any more");
}

/// Design: durable commits at checkpoints only. fault 1
#[test]
fn a_kill_takes_the_index_back_to_the_checkpoint_and_the_log_brings_it_forward() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.redb");
    let mut world = World::over(Index::open(&path).unwrap());
    world.done(1, create("f", file("one")));
    world.index.checkpoint().unwrap();
    let (position, digest) = (world.index.position(), world.index.digest());
    world.done(1, create("g", file("two")));
    world.index.commit().unwrap();
    let newest = world.index.digest();
    // What a kill leaves: the file as it is now. (Closing the database would make it durable.)
    let killed = folder.path().join("killed.redb");
    std::fs::copy(&path, &killed).unwrap();

    let mut index = Index::open(&killed).unwrap();
    assert_eq!((index.position(), index.digest()), (position, digest));
    for entry in world.log.iter().filter(|entry| entry.index > position.index) {
        index.apply(entry).unwrap();
    }
    assert_eq!(index.digest(), newest);
}

#[test]
fn the_open_transaction_is_committed_by_itself_after_many_changes() {
    let mut world = World::new();
    let before = world.index.position();
    for round in 0..3 {
        let ops = (0..500).map(|n| create(&format!("{round}-{n}"), file("x"))).collect();
        world.change(1, ops);
    }
    let seen = world.index.database.begin_read().unwrap();
    let rows = seen.open_table(super::tables::LIVE.records).unwrap().len().unwrap();
    assert_eq!(rows, 1000, "a reader sees what was committed");
    assert!(world.index.position().index > before.index);
}

fn pages(index: &mut Index, bytes_max: usize) -> Vec<Vec<u8>> {
    let snapshot = index.snapshot().unwrap();
    let (mut cursor, mut pages) = (Some(Cursor::default()), Vec::new());
    while let Some(from) = cursor {
        let page = snapshot.page(&from, bytes_max).unwrap();
        pages.push(page.bytes);
        cursor = page.next;
    }
    pages
}

fn import(index: &mut Index, pages: &[Vec<u8>]) -> Result<(), ImportError> {
    let mut importer = index.import_start()?;
    for page in pages {
        index.import_page(&mut importer, page)?;
    }
    index.import_install(importer)
}

fn small_world() -> World {
    let mut world = World::new();
    world.apply(Content::Members(members(&[1, 2])));
    let id = world.done(1, create("f", file("one")));
    let base = world.version(id);
    world.done(1, replace(id, &base, "f", file("two")));
    world.conflict(2, replace(id, &base, "f", file("three")));
    world.done(2, Op::Put { path: rel("a/b/c"), new: symlink("f") });
    world
}

/// A table of another module.
const OTHER: TableDefinition<'static, u64, u64> = TableDefinition::new("placed");

#[test]
fn pages_carry_the_whole_state_and_leave_other_tables_alone() {
    let mut world = small_world();
    for bytes_max in [1, 300, usize::MAX] {
        let sent = pages(&mut world.index, bytes_max);
        let mut other = small_world();
        other.done(1, create("own", file("own")));
        let newer = other.index.position();
        // The receiver is behind: begin from an index that has seen less.
        let mut index = Index::in_memory().unwrap();
        index.apply(&other.log[0]).unwrap();
        index.tables().unwrap().open_table(OTHER).unwrap().insert(1, 2).unwrap();
        import(&mut index, &sent).unwrap();
        assert_eq!(index.state, world.index.state);
        assert_eq!(pages(&mut index, bytes_max), sent, "what comes out is what went in");
        let table = index.tables().unwrap().open_table(OTHER).unwrap();
        assert_eq!(table.get(1).unwrap().unwrap().value(), 2);
        assert!(newer.index > index.position().index);
    }
}

#[test]
fn what_was_remembered_of_a_directory_ends_with_the_state_it_was_of() {
    let mut sender = World::new();
    let d = sender.done(1, create("d", directory()));
    let f = sender.done(1, Op::Create { at: at(d, "d/f"), new: file("one") });
    let mut index = Index::in_memory().unwrap();
    for entry in &sender.log {
        index.apply(entry).unwrap();
    }
    sender.done(1, rename(d, "e"));
    import(&mut index, &pages(&mut sender.index, 1000)).unwrap();
    let edit = replace(f, &sender.version(f), "d/f", file("two"));
    sender.done(1, edit);
    index.apply(sender.log.last().unwrap()).unwrap();
    assert_eq!(pages(&mut index, 1000), pages(&mut sender.index, 1000));
}

#[test]
fn an_older_state_is_not_installed() {
    let mut world = small_world();
    let sent = pages(&mut world.index, 1000);
    world.done(1, create("newer", file("newer")));
    let digest = world.index.digest();
    assert!(matches!(import(&mut world.index, &sent), Err(ImportError::Older)));
    assert_eq!(world.index.digest(), digest);
}

/// fault 61, fault 62
#[test]
fn damaged_pages_are_found() {
    let sent = pages(&mut small_world().index, 1000);
    let mut index = Index::in_memory().unwrap();
    for (number, page) in sent.iter().enumerate() {
        for at in 0..page.len() {
            let mut bad = sent.clone();
            bad[number][at] ^= 0x20;
            assert!(import(&mut index, &bad[..=number]).is_err(), "byte {at} of page {number}");
        }
        let mut cut = sent.clone();
        cut[number].pop();
        assert!(import(&mut index, &cut).is_err());
    }
    import(&mut index, &sent).unwrap();
}

#[test]
fn pages_out_of_order_or_of_another_state_are_refused() {
    let mut world = small_world();
    let sent = pages(&mut world.index, 30);
    assert!(sent.len() > 3);
    world.done(1, create("newer", file("newer")));
    let newer = pages(&mut world.index, 30);
    let mut index = Index::in_memory().unwrap();
    let mut importer = index.import_start().unwrap();
    assert_eq!(index.import_page(&mut importer, &sent[0]).unwrap(), Received::More);
    for wrong in [&sent[0], &sent[2], &newer[1]] {
        let error = index.import_page(&mut importer, wrong).unwrap_err();
        assert!(matches!(error, ImportError::OutOfOrder));
    }
    for page in &sent[1..] {
        index.import_page(&mut importer, page).unwrap();
    }
    index.import_install(importer).unwrap();
    let unfinished = index.import_start().unwrap();
    assert!(matches!(index.import_install(unfinished), Err(ImportError::OutOfOrder)));
}

/// A wrong state with right checksums must not get in either.
#[test]
fn a_state_that_does_not_add_up_is_refused() {
    let mut world = small_world();
    let digest = world.index.digest();
    // A digest that says more than the rows.
    world.index.state.digest.add(b"k", b"v");
    let sent = pages(&mut world.index, 1000);
    let mut index = Index::in_memory().unwrap();
    assert!(matches!(import(&mut index, &sent), Err(ImportError::Mismatch("the root digest"))));
    world.index.state.digest.remove(b"k", b"v");
    assert_eq!(world.index.digest(), digest);
    world.index.state.history_rows += 1;
    let sent = pages(&mut world.index, 1000);
    assert!(matches!(import(&mut index, &sent), Err(ImportError::Mismatch("the number of rows"))));
    assert_eq!(index.counts().records(), 0, "what is in force stays");
}

#[test]
fn index_and_snapshot_may_move_to_another_thread() {
    fn may_move<T: Send>() {}
    may_move::<Index>();
    may_move::<super::Snapshot>();
    may_move::<super::Importer>();
}

/// A state of the format before this one is told by name, not read as something else.
#[test]
fn an_index_of_another_format_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("index.redb");
    Index::open(&path).unwrap().checkpoint().unwrap();
    let older = redb::Database::create(&path).unwrap();
    let txn = older.begin_write().unwrap();
    {
        let mut table = txn.open_table(super::tables::STATE).unwrap();
        let mut row = table.get(super::STATE_ROW).unwrap().unwrap().value().to_vec();
        row[0] = 1;
        table.insert(super::STATE_ROW, row.as_slice()).unwrap();
    }
    txn.commit().unwrap();
    drop(older);
    let error = Index::open(&path).unwrap_err();
    assert!(matches!(error, IndexError::Format { found: 1 }), "{error}");
    let (found, ours) = ("format 1", format!("format {}", super::INDEX_FORMAT));
    assert!(error.to_string().contains(found) && error.to_string().contains(&ours), "{error}");
}
