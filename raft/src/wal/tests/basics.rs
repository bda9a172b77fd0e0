//! What a log does while nothing goes wrong.

use super::*;

/// Source: Raft paper, figure 2: term, vote and log outlive a crash.
#[test]
fn what_was_committed_is_there_after_a_power_cut() {
    let (disk, mut wal) = created();
    wal.commit([reset(0, 0), hard_state(3), append(1, 3, 100), append(2, 3, 10)]).unwrap();

    let (wal, restored) = after_power_cut(&disk);
    assert_eq!(wal.hard_state(), vote(3));
    assert_eq!(wal.last(), position(2, 3));
    assert_eq!(contents(&wal), [(1, 3, data(&entry(1, 3, 100))), (2, 3, data(&entry(2, 3, 10)))]);
    assert_eq!(restored.last(), position(2, 3));
    assert_eq!(restored.hard_state(), vote(3));
    assert_eq!(restored.members(), &members(1));
}

/// Source: the module's promise: one vectored write and one fdatasync a batch.
#[test]
fn a_batch_costs_one_write_and_one_sync() {
    let (disk, mut wal) = created();
    for round in 0..10 {
        let before = disk.counters();
        let first = 3 * round + 1;
        let batch = (first..first + 3).map(|index| append(index, 1, 50));
        wal.commit([hard_state(round + 1)].into_iter().chain(batch)).unwrap();
        let after = disk.counters();
        assert_eq!((after.writes - before.writes, after.syncs - before.syncs), (1, 1));
        assert_eq!(after.dir_syncs, before.dir_syncs);
    }
    assert_eq!((wal.counters().writes, wal.counters().syncs), (11, 11), "with the head's own");
}

/// Source: the module's promise: the next segment is prepared ahead.
#[test]
fn a_batch_that_begins_a_prepared_segment_costs_no_more() {
    let (disk, mut wal) = created();
    maintain_all(&mut wal);
    let mut rotations = 0;
    for index in 1..=40 {
        let before = disk.counters();
        wal.commit([append(index, 1, 1000)]).unwrap();
        let after = disk.counters();
        assert_eq!((after.writes - before.writes, after.syncs - before.syncs), (1, 1));
        rotations = wal.counters().rotations;
        maintain_all(&mut wal);
    }
    assert!(rotations >= 3, "40 entries of 1000 bytes take several segments");
    let (wal, _) = after_power_cut(&disk);
    assert_eq!(contents(&wal).len(), 40);
}

/// Source: an empty batch is no reason to wake the disk.
#[test]
fn an_empty_batch_costs_nothing() {
    let (disk, mut wal) = created();
    let before = disk.operations();
    wal.commit([]).unwrap();
    assert_eq!(disk.operations(), before);
}

/// Source: Raft paper, 5.3: a follower's conflicting suffix is replaced.
#[test]
fn a_truncated_suffix_is_gone_and_the_new_one_there() {
    let (disk, mut wal) = created();
    wal.commit((1..=5).map(|index| append(index, 1, 20))).unwrap();
    wal.commit([LogOp::Truncate { from: Index::new(3) }, append(3, 2, 30)]).unwrap();
    let before = contents(&wal);
    let terms: Vec<_> = before.iter().map(|(index, term, _)| (*index, *term)).collect();
    assert_eq!(terms, [(1, 1), (2, 1), (3, 2)]);
    assert_eq!(contents(&after_power_cut(&disk).0), before);
}

/// Source: a batch larger than a segment is cut at records, in order.
#[test]
fn a_batch_larger_than_a_segment_spans_several() {
    let (disk, mut wal) = created();
    wal.commit((1..=60).map(|index| append(index, 1, 1000))).unwrap();
    assert!(wal.counters().rotations >= 5);
    let (wal, _) = after_power_cut(&disk);
    assert_eq!(contents(&wal).len(), 60);
}

/// Source: log compaction drops whole segments, and the log stays readable from there.
#[test]
fn compaction_drops_whole_segments_and_uses_them_again() {
    let (disk, mut wal) = created();
    for index in 1..=100 {
        wal.commit([append(index, 1, 1000)]).unwrap();
        if index % 10 == 0 {
            wal.commit([compact(index - 3, 1)]).unwrap();
        }
        maintain_all(&mut wal);
        assert!(segments(&disk).len() <= 4, "{:?}", segments(&disk));
    }
    let (wal, restored) = after_power_cut(&disk);
    assert_eq!(restored.base(), position(97, 1), "the mark is in the log");
    assert_eq!(restored.last(), position(100, 1));
    assert_eq!(restored.members(), &members(1));
    assert_eq!(contents(&wal).len(), 3);
}

/// Source: a state installed from the leader replaces the log (Raft paper, 7).
#[test]
fn a_reset_empties_the_log_and_sets_its_beginning() {
    let (disk, mut wal) = created();
    wal.commit([hard_state(2)].into_iter().chain((1..=30).map(|i| append(i, 2, 1000)))).unwrap();
    wal.commit([reset(500, 2), append(501, 2, 10)]).unwrap();
    maintain_all(&mut wal);
    assert!(segments(&disk).len() <= 2, "one in use, one prepared");
    let (mut wal, restored) = after_power_cut(&disk);
    assert_eq!((wal.base(), wal.last()), (position(500, 2), position(501, 2)));
    assert_eq!(restored.base(), position(500, 2));
    assert_eq!(wal.hard_state(), vote(2));
    wal.commit([append(502, 2, 10)]).unwrap();
    assert_eq!(contents(&wal).len(), 2);
}

/// Source: the members in force are those of the last members entry that was not truncated.
#[test]
fn members_survive_rotation_compaction_and_truncation() {
    let (disk, mut wal) = created();
    let change = |index, count| {
        let content = Content::Members(members(count));
        let (index, term) = (Index::new(index), Term::new(1));
        LogOp::Append(vec![Arc::new(Entry { index, term, content })])
    };
    wal.commit([reset(0, 0), change(1, 2), append(2, 1, 10), change(3, 3)]).unwrap();
    wal.commit([LogOp::Truncate { from: Index::new(3) }]).unwrap();
    wal.commit((3..=40).map(|index| append(index, 1, 1000))).unwrap();
    let through = position(35, 1);
    wal.commit([LogOp::Compact { through, members: members(2) }]).unwrap();
    maintain_all(&mut wal);
    let (_, restored) = after_power_cut(&disk);
    assert_eq!(restored.members(), &members(2));
    assert!(restored.base().index.get() > 20, "older segments are gone");
}

/// Source: the core reads old entries back for a slow peer; what is gone is no error.
#[test]
fn a_read_gives_what_is_there() {
    let (_, mut wal) = created();
    wal.commit((1..=30).map(|index| append(index, 1, 1000))).unwrap();
    wal.commit([compact(10, 1)]).unwrap();
    let read = |from, through| {
        let entries = wal.read(Index::new(from), Index::new(through)).unwrap();
        entries.iter().map(|entry| entry.index.get()).collect::<Vec<_>>()
    };
    assert_eq!(read(12, 14), [12, 13, 14]);
    assert_eq!(read(29, 40), [29, 30]);
    assert_eq!(read(5, 12), [0_u64; 0], "it begins before the log does");
}

/// Source: a node that was never set up is told from one whose log is lost.
#[test]
fn no_log_is_a_named_error() {
    let disk = SimDisk::new();
    assert!(matches!(reopen(&disk), Err(WalError::NotFound)));
}

/// Source: a set-up that was interrupted before the identity was stored begins anew.
#[test]
fn create_removes_what_an_interrupted_creation_left() {
    let (disk, mut wal) = created();
    wal.commit([append(1, 1, 10)]).unwrap();
    let wal = Wal::create(disk.clone(), OPTIONS).unwrap();
    assert_eq!(wal.last(), position(0, 0));
    assert_eq!(contents(&after_power_cut(&disk).0), []);
}
