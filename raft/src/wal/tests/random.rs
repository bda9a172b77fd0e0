//! Random lives with random faults, against the model.

use super::model::{Model, Shape};
use super::*;
use crate::disk::sim::{Fault, Random};

/// Seeds that each test run tries.
const LIVES: u64 = 120;
/// Operations in one life.
const STEPS: u64 = 60;

/// A batch that the core could output now.
fn batch(random: &mut Random, shape: &Shape) -> Vec<LogOp> {
    let (base, last) = (shape.base().index.get(), shape.last().index.get());
    let term = shape.term().max(1);
    let appended = |from: u64, term: u64, random: &mut Random| {
        let count = 1 + random.below(5);
        let bytes = 1 + random.below(400);
        let bytes = usize::try_from(bytes).unwrap();
        LogOp::Append((from..from + count).map(|i| Arc::new(entry(i, term, bytes))).collect())
    };
    match random.below(10) {
        0 => vec![hard_state(term + 1)],
        1 if last > base => {
            let from = base + 1 + random.below(last - base);
            let truncate = LogOp::Truncate { from: Index::new(from) };
            vec![hard_state(term + 1), truncate, appended(from, term + 1, random)]
        }
        2 if last > base => {
            let through = shape.position_of(base + 1 + random.below(last - base));
            vec![LogOp::Compact { through, members: members(1) }]
        }
        3 if random.below(4) == 0 => vec![reset(last + 1 + random.below(50), term)],
        _ => vec![appended(last + 1, term, random)],
    }
}

fn crash(disk: &SimDisk, random: &mut Random) {
    disk.clear_faults();
    disk.power_off();
    disk.restart(match random.below(6) {
        0 => Keep::Nothing,
        1 => Keep::Everything,
        _ => Keep::Any(random.next_u64()),
    });
}

/// Opens the log as often as it takes; sometimes the power fails again meanwhile.
fn recover(disk: &SimDisk, random: &mut Random, model: &mut Model) -> Wal<SimDisk> {
    loop {
        if random.below(4) == 0 {
            disk.fail_at(disk.operations() + random.below(6), Fault::PowerOff);
        }
        match reopen_with(disk, TINY) {
            Ok((wal, restored)) => {
                disk.clear_faults();
                model.found(Shape::of(&wal, &restored));
                return wal;
            }
            Err(WalError::Disk(_)) if disk.is_off() => crash(disk, random),
            Err(error) => panic!("{error}"),
        }
    }
}

fn step(wal: &mut Wal<SimDisk>, random: &mut Random, model: &mut Model) -> Result<(), WalError> {
    match random.below(10) {
        0..=2 => {
            for _ in 0..=random.below(4) {
                wal.maintain()?;
            }
        }
        3 => wal.confirm()?,
        4 => {
            // Written, not synced: a crash may come between.
            let ops = batch(random, model.newest());
            model.attempt(&ops);
            let mut result = wal.write(ops);
            while let Err(WalError::Full(_)) = result {
                result = wal.write([]);
            }
            result?;
        }
        _ => {
            let ops = batch(random, model.newest());
            model.attempt(&ops);
            let mut result = wal.commit(ops);
            while let Err(WalError::Full(_)) = result {
                result = wal.commit([]);
            }
            result?;
            model.acknowledge();
            assert_eq!(wal.last(), model.newest().last());
        }
    }
    Ok(())
}

fn live(seed: u64) {
    let mut random = Random::new(seed);
    let disk = SimDisk::new();
    let mut model = Model::new(Shape::empty());
    let mut wal = Wal::create(disk.clone(), TINY).unwrap();
    for _ in 0..STEPS {
        if random.below(12) == 0 {
            let fault = [Fault::PowerOff, Fault::Broken, Fault::Full];
            let fault = fault[usize::try_from(random.below(3)).unwrap()];
            disk.fail_at(disk.operations() + random.below(5), fault);
        }
        let result = step(&mut wal, &mut random, &mut model);
        let is_over = !matches!(result, Ok(()) | Err(WalError::Full(_)));
        if is_over || random.below(15) == 0 {
            crash(&disk, &mut random);
            wal = recover(&disk, &mut random, &mut model);
        }
    }
}

/// Source: checklist 119-127, 133, 134: what was acknowledged survives any life, never as a mix.
#[test]
fn a_log_keeps_its_word_through_any_life() {
    for seed in 0..LIVES {
        assert!(std::panic::catch_unwind(|| live(seed)).is_ok(), "seed {seed}");
    }
}
