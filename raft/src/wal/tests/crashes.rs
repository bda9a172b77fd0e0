//! A fault at every disk operation in turn: power cut, EIO, ENOSPC.

use std::collections::BTreeMap;

use super::model::{Model, Shape};
use super::*;
use crate::disk::sim::Fault;

/// What is noted of a life: the name of each thing done, and how many operations had been when it was
/// over.
#[derive(Default)]
struct Notes(Vec<(&'static str, u64)>);

impl Notes {
    fn note(&mut self, name: &'static str, disk: &SimDisk) {
        self.0.push((name, disk.operations()));
    }

    /// What was being done at this operation.
    fn name_of(&self, operation: u64) -> &'static str {
        self.0.iter().find(|(_, over)| operation < *over).unwrap().0
    }
}

/// A life of a log in few steps that come by everything: creation, votes, batches, rotation,
/// truncation, compaction, recycling, reset. Stops at the first error.
fn live(disk: &SimDisk, model: &mut Model, patience: u32) -> Result<(), WalError> {
    live_and_note(disk, model, patience, &mut Notes::default())
}

fn live_and_note(
    disk: &SimDisk,
    model: &mut Model,
    patience: u32,
    notes: &mut Notes,
) -> Result<(), WalError> {
    let mut wal = Wal::create(disk.clone(), TINY)?;
    notes.note("create", disk);
    for (name, batch) in batches() {
        model.attempt(&batch);
        let mut result = wal.commit(batch);
        for _ in 0..patience {
            if matches!(result, Err(WalError::Full(_))) {
                result = wal.commit([]);
            }
        }
        if result.is_err() {
            assert!(matches!(result, Err(WalError::Full(_) | WalError::Disk(_))));
            let again = wal.commit([hard_state(77)]);
            let is_full = matches!(result, Err(WalError::Full(_)));
            assert!(is_full || matches!(again, Err(WalError::Stopped)), "it stays stopped");
            return result;
        }
        model.acknowledge();
        assert_eq!(wal.last(), model.newest().last());
        notes.note(name, disk);
        wal.confirm()?;
        notes.note("confirm", disk);
        loop {
            let is_dropping = wal.first_obsolete().is_some();
            let maintained = wal.maintain_patiently(patience)?;
            notes.note(if is_dropping { "drop" } else { "prepare" }, disk);
            if maintained == Maintained::Idle {
                break;
            }
        }
    }
    wal.close()?;
    notes.note("close", disk);
    Ok(())
}

fn batches() -> Vec<(&'static str, Vec<LogOp>)> {
    let large = |range: std::ops::RangeInclusive<u64>, term| {
        range.map(|index| append(index, term, 400)).collect::<Vec<_>>()
    };
    let truncate = |from| LogOp::Truncate { from: Index::new(from) };
    vec![
        ("append", vec![reset(0, 0), hard_state(1), append(1, 1, 100)]),
        ("append", large(2..=4, 1)),
        ("rotate", large(5..=8, 1)),
        ("truncate", vec![hard_state(2), truncate(6), append(6, 2, 400), append(7, 2, 200)]),
        ("rotate", large(8..=20, 2)),
        ("compact", vec![compact(17, 2)]),
        ("rotate", large(21..=24, 2)),
        ("hard state", vec![hard_state(3)]),
        ("truncate", vec![truncate(23)]),
        ("append", vec![append(23, 3, 50)]),
        ("compact", vec![compact(22, 2)]),
        ("rotate", large(24..=34, 3)),
        ("reset", vec![reset(90, 3), append(91, 3, 10)]),
        ("rotate", large(92..=101, 3)),
        ("reset", vec![hard_state(4), reset(200, 4)]),
    ]
}

impl Wal<SimDisk> {
    /// Maintains; space that is missing is missing once.
    fn maintain_patiently(&mut self, patience: u32) -> Result<Maintained, WalError> {
        match self.maintain() {
            Err(WalError::Full(_)) if patience > 0 => Ok(Maintained::More),
            other => other,
        }
    }
}

/// How many operations an undisturbed life takes.
fn operations() -> u64 {
    let disk = SimDisk::new();
    live(&disk, &mut Model::new(Shape::empty()), 0).unwrap();
    disk.operations()
}

/// A log that was never whole is made anew, as a node does that has no identity yet.
fn open_or_create(disk: &SimDisk, model: &Model) -> Result<(Wal<SimDisk>, Restored), WalError> {
    match reopen_with(disk, TINY) {
        Err(WalError::NotFound) if model.newest() == &Shape::empty() => {
            Wal::create(disk.clone(), TINY).map(|wal| (wal, Restored::default()))
        }
        other => other,
    }
}

/// Opens, checks, writes on, opens again.
fn survives(disk: &SimDisk, model: &mut Model) {
    let (mut wal, restored) = open_or_create(disk, model).unwrap();
    model.found(Shape::of(&wal, &restored));
    let next = [append(wal.last().index.get() + 1, 9, 200)];
    model.attempt(&next);
    wal.commit(next).unwrap();
    model.acknowledge();
    wal.confirm().unwrap();
    let (wal, restored) = after_power_cut(disk);
    model.found(Shape::of(&wal, &restored));
}

/// Subsets of what was not synced that are tried at each power cut, beside nothing and everything.
const SUBSETS: u64 = 64;

/// Source: checklist 121, 127, 133, 134, fault 2, 21, 22: any unsynced sector and name may be
/// lost, at each operation of everything that a log does.
#[test]
fn a_power_cut_at_any_operation_loses_nothing_acknowledged() {
    let (whole, mut notes) = (SimDisk::new(), Notes::default());
    live_and_note(&whole, &mut Model::new(Shape::empty()), 0, &mut notes).unwrap();
    let mut points: BTreeMap<&str, u64> = BTreeMap::new();
    for operation in 0..whole.operations() {
        *points.entry(notes.name_of(operation)).or_default() += 1;
        let disk = SimDisk::new();
        disk.fail_at(operation, Fault::PowerOff);
        let mut model = Model::new(Shape::empty());
        live(&disk, &mut model, 0).unwrap_err();
        for keep in
            [Keep::Nothing, Keep::Everything].into_iter().chain((1..=SUBSETS).map(Keep::Any))
        {
            let disk = disk.fork();
            disk.restart(keep);
            survives(&disk, &mut model.clone());
        }
    }
    let names: Vec<_> = points.keys().copied().collect();
    let all = [
        "append",
        "close",
        "compact",
        "confirm",
        "create",
        "drop",
        "hard state",
        "prepare",
        "reset",
        "rotate",
        "truncate",
    ];
    assert_eq!(names, all);
    let count: u64 = points.values().sum();
    println!("{count} crash points, {} power cuts survived: {points:?}", count * (SUBSETS + 2));
}

/// Source: fault 3: recovery may be interrupted at any operation, twice in a row.
#[test]
fn a_power_cut_during_recovery_changes_nothing() {
    let mut points = 0;
    for operation in 0..operations() {
        let disk = SimDisk::new();
        disk.fail_at(operation, Fault::PowerOff);
        let mut model = Model::new(Shape::empty());
        live(&disk, &mut model, 0).unwrap_err();
        disk.restart(Keep::Any(operation));
        for step in 0.. {
            let disk = disk.fork();
            disk.fail_at(disk.operations() + step, Fault::PowerOff);
            let interrupted = open_or_create(&disk, &model).is_err();
            disk.clear_faults();
            disk.power_off();
            for keep in [step, step + 100].map(Keep::Any) {
                let disk = disk.fork();
                disk.restart(keep);
                survives(&disk, &mut model.clone());
            }
            if !interrupted {
                break;
            }
            points += 1;
        }
    }
    println!("{points} crash points in recoveries, {} power cuts survived", 2 * points);
}

/// Source: checklist 126, fault 24 (Rebello et al., ATC 2020): after a failed operation the log
/// stops; what the next opening believes is on the disk, whatever the page cache pretends.
#[test]
fn an_io_error_at_any_operation_stops_the_log_and_the_next_opening_trusts_no_cache() {
    for operation in 0..operations() {
        let disk = SimDisk::new();
        disk.fail_at(operation, Fault::Broken);
        let mut model = Model::new(Shape::empty());
        live(&disk, &mut model, 0).unwrap_err();
        // The process ends, the machine does not: unwritten pages are still to be seen.
        disk.restart(Keep::Everything);
        survives(&disk, &mut model);
        disk.power_off();
        disk.restart(Keep::Any(operation));
        survives(&disk, &mut model);
    }
}

/// Source: checklist 125, fault 31 (dqlite#589): without space nothing is harmed, and the log goes
/// on when there is some.
#[test]
fn no_space_at_any_operation_harms_nothing() {
    let mut waited = 0;
    for operation in 0..operations() {
        let disk = SimDisk::new();
        disk.fail_at(operation, Fault::Full);
        let mut model = Model::new(Shape::empty());
        // Space may be missing where it cannot be: in a file that has its blocks.
        match live(&disk, &mut model, 1) {
            Ok(()) => waited += 1,
            Err(_) => disk.restart(Keep::Everything),
        }
        survives(&disk, &mut model);
    }
    assert!(waited > 10, "most often it only waited: {waited}");
}

/// Source: checklist 125: a full disk holds up the log where the next segment would begin, and
/// compaction elsewhere brings it back.
#[test]
fn a_full_disk_holds_up_rotation_and_nothing_before_it() {
    let (disk, mut wal) = created();
    disk.set_capacity(Some(16 * 1024 + 100));
    let mut model = Model::new(Shape::empty());
    assert!(matches!(wal.maintain_patiently(0), Ok(Maintained::More)), "an empty file needs none");
    assert!(matches!(wal.maintain_patiently(0), Err(WalError::Full(_))));
    let batch: Vec<_> = (1..=20).map(|index| append(index, 1, 1000)).collect();
    model.attempt(&batch);
    assert!(matches!(wal.commit(batch), Err(WalError::Full(_))));
    assert!(matches!(wal.commit([]), Err(WalError::Full(_))), "still");
    let (while_full, _) = after_power_cut(&disk.fork());
    assert!(while_full.last().index.get() >= 8, "what fitted is there");
    disk.set_capacity(None);
    wal.commit([]).unwrap();
    model.acknowledge();
    assert_eq!(wal.last(), model.newest().last());
    let (wal, restored) = after_power_cut(&disk);
    model.found(Shape::of(&wal, &restored));
}

/// Source: fault 31: when the log itself fills the disk, compaction makes the space it waits for.
#[test]
fn compaction_goes_first_when_the_disk_is_full() {
    let (disk, mut wal) = created();
    disk.set_capacity(Some(3 * 16 * 1024));
    let mut result = Ok(());
    let mut index = 0;
    while result.is_ok() {
        index += 1;
        result = wal.commit([append(index, 1, 1000)]);
    }
    assert!(matches!(result, Err(WalError::Full(_))));
    assert!(matches!(wal.commit([compact(2, 1)]), Err(WalError::Full(_))), "it frees no segment");
    wal.commit([append(index + 1, 1, 1000), compact(index - 5, 1)]).unwrap();
    maintain_all(&mut wal);
    let (wal, restored) = after_power_cut(&disk);
    assert_eq!((wal.base(), wal.last()), (position(index - 5, 1), position(index + 1, 1)));
    assert_eq!(restored.last(), position(index + 1, 1));
    assert_eq!(contents(&wal).len(), 6);
}

/// Source: fault 31: compactions that free nothing use up the room kept for them, and are not lost.
#[test]
fn compactions_without_room_wait_like_entries() {
    let (disk, mut wal) = created();
    disk.set_capacity(Some(16 * 1024));
    let filled = wal.commit((1..=60).map(|index| append(index, 1, 300)));
    assert!(matches!(filled, Err(WalError::Full(_))));
    for index in 1..=28 {
        assert!(matches!(wal.commit([compact(index, 1)]), Err(WalError::Full(_))));
    }
    assert!(wal.base().index.get() > 1, "the first ones had room");
    assert!(wal.base().index.get() < 28, "the last ones had none");
    disk.set_capacity(None);
    wal.commit([]).unwrap();
    assert_eq!((wal.base(), wal.last()), (position(28, 1), position(60, 1)));
    let (wal, _) = after_power_cut(&disk);
    assert_eq!((wal.base(), wal.last()), (position(28, 1), position(60, 1)));
}

/// A log whose newest segment takes no more entries, on a disk without space for another one.
fn full() -> (SimDisk, Wal<SimDisk>, u64) {
    let (disk, mut wal) = created();
    disk.set_capacity(Some(2 * 16 * 1024));
    let mut index = 0;
    loop {
        match wal.commit([append(index + 1, 1, 300)]) {
            Ok(()) => index += 1,
            Err(WalError::Full(_)) => break,
            Err(error) => panic!("{error}"),
        }
    }
    // The daemon starts again: what waited was never promised.
    disk.restart(Keep::Everything);
    let (wal, _) = reopen(&disk).unwrap();
    assert_eq!(wal.last(), position(index, 1));
    (disk, wal, index)
}

/// Source: checklist 125, fault 31: what elections need has room kept for it, and what makes space
/// has its own, which no vote takes.
#[test]
fn a_full_disk_takes_votes_truncations_and_compactions() {
    let (disk, mut wal, last) = full();
    wal.commit([hard_state(2), LogOp::Truncate { from: Index::new(last) }]).unwrap();
    wal.confirm().unwrap();
    let mut term = 2;
    let exhausted = loop {
        match wal.commit([hard_state(term + 1)]) {
            Ok(()) => term += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(exhausted, WalError::Full(_)), "{exhausted}");
    assert!(term >= 4, "16 KiB keep 512 bytes: {term}");
    wal.commit([compact(last - 3, 1)]).unwrap();
    term += 1;
    assert_eq!(
        wal.hard_state(),
        vote(term),
        "the compaction made the space that the vote waited for"
    );
    let (wal, restored) = after_power_cut(&disk);
    assert_eq!((wal.last(), wal.hard_state()), (position(last - 1, 1), vote(term)));
    assert_eq!(restored.base(), position(last - 3, 1));
}

/// Source: checklist 125: the segment prepared ahead is begun without asking for space.
#[test]
fn a_full_disk_takes_one_more_segment() {
    let (disk, mut wal) = created();
    maintain_all(&mut wal);
    disk.set_capacity(Some(0));
    for index in 1..=20 {
        wal.commit([append(index, 1, 900)]).unwrap();
    }
    assert_eq!(wal.counters().rotations, 2);
    let (wal, _) = after_power_cut(&disk);
    assert_eq!(wal.last(), position(20, 1));
}

/// Source: checklist 125, fault 31: space that a compaction made is found, whether it came before or
/// behind the entry that needs it, and while the log waits.
#[test]
fn what_a_compaction_freed_is_found_wherever_it_stands() {
    for is_first in [true, false] {
        let (disk, mut wal, last) = full();
        let (entry, compaction) = (append(last + 1, 1, 300), compact(last - 1, 1));
        let batch = if is_first { [compaction, entry] } else { [entry, compaction] };
        wal.commit(batch).unwrap();
        let (wal, restored) = after_power_cut(&disk);
        assert_eq!((restored.base(), wal.last()), (position(last - 1, 1), position(last + 1, 1)));
    }
    let (_, mut wal, last) = full();
    assert!(matches!(wal.commit([append(last + 1, 1, 300)]), Err(WalError::Full(_))));
    wal.commit([compact(last - 1, 1)]).unwrap();
    assert_eq!(wal.last(), position(last + 1, 1));
}

/// Source: checklist 125: a node whose disk is full and which is given the whole state needs no space
/// for the entries that the state makes moot; its word about terms stays.
#[test]
fn a_state_installed_on_a_full_disk_lets_go_what_waits() {
    let (disk, mut wal, last) = full();
    let waiting = [append(last + 1, 1, 300), hard_state(5), append(last + 2, 1, 300)];
    assert!(matches!(wal.commit(waiting), Err(WalError::Full(_))));
    wal.commit([reset(500, 5), append(501, 5, 300)]).unwrap();
    assert_eq!(contents(&wal).len(), 1);
    let (wal, restored) = after_power_cut(&disk);
    assert_eq!((restored.base(), wal.last()), (position(500, 5), position(501, 5)));
    assert_eq!(wal.hard_state(), vote(5));
}
