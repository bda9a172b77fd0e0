//! A crash at every write of putting a state in force.

use std::io;
use std::sync::{Arc, Mutex};

use redb::{Database, StorageBackend, TableDefinition};

use super::{Cursor, Index};
use crate::agreed::world::*;

/// What a database asked of its file.
#[derive(Clone, Debug)]
enum Asked {
    Len(usize),
    Write(usize, Vec<u8>),
    Sync,
}

/// A file in memory with all that was done to it.
#[derive(Clone, Debug, Default)]
struct Tape(Arc<Mutex<(Vec<u8>, Vec<Asked>)>>);

impl Tape {
    fn over(image: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new((image, Vec::new()))))
    }

    fn ask(&self, asked: Asked) {
        let (image, log) = &mut *self.0.lock().unwrap();
        play(image, &asked);
        log.push(asked);
    }

    fn image(&self) -> Vec<u8> {
        self.0.lock().unwrap().0.clone()
    }

    fn take_log(&self) -> Vec<Asked> {
        std::mem::take(&mut self.0.lock().unwrap().1)
    }
}

fn play(image: &mut Vec<u8>, asked: &Asked) {
    match asked {
        Asked::Len(len) => image.resize(*len, 0),
        Asked::Write(at, bytes) => {
            if image.len() < at + bytes.len() {
                image.resize(at + bytes.len(), 0);
            }
            image[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        Asked::Sync => {}
    }
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

impl StorageBackend for Tape {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(u64::try_from(self.0.lock().unwrap().0.len()).unwrap())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let guard = self.0.lock().unwrap();
        out.copy_from_slice(&guard.0[place(offset)..place(offset) + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.ask(Asked::Len(place(len)));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.ask(Asked::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.ask(Asked::Write(place(offset), data.to_vec()));
        Ok(())
    }
}

fn open(tape: Tape) -> Index {
    Index::start(Database::builder().create_with_backend(tape).unwrap()).unwrap()
}

/// A table of another module: what this node has on its disk.
const OTHER: TableDefinition<'static, u64, u64> = TableDefinition::new("placed");

/// A world of so many files, one directory, and some history.
fn world_of(files: usize) -> World {
    let mut world = World::new();
    for number in 0..files {
        let id = world.done(1, create(&format!("file {number}"), file("one")));
        if number % 3 == 0 {
            let base = world.version(id);
            world.done(1, replace(id, &base, "unused", file("two")));
        }
    }
    world
}

/// Which states a start may stand on after a crash.
struct Expected {
    old: World,
    new: World,
}

impl Expected {
    /// Whether it stands on the new one.
    fn holds(&self, image: Vec<u8>, what: &str) -> bool {
        let index = open(Tape::over(image));
        let position = index.position();
        let is_new = position == self.new.index.position();
        assert!(is_new || position == self.old.index.position(), "{what}: {position:?}");
        let right = if is_new { &self.new } else { &self.old };
        assert_eq!(index.state, right.index.state, "{what}");
        index.check_sums();
        let table = index.tables().unwrap().open_table(OTHER).unwrap();
        assert_eq!(redb::ReadableTable::get(&table, 1).unwrap().unwrap().value(), 2, "{what}");
        is_new
    }
}

/// checklist 77, fault 3: a kill after any write, and a power cut that took any part of what was
/// not synced, leave the whole old state or the whole new one, and what is known of the disk.
#[test]
fn a_crash_at_any_write_leaves_the_old_state_or_the_new() {
    let expected = Expected { old: world_of(10), new: world_of(40) };
    let mut sender = world_of(40);
    let snapshot = sender.index.snapshot().unwrap();

    let tape = Tape::default();
    let mut index = open(tape.clone());
    for entry in &expected.old.log {
        index.apply(entry).unwrap();
    }
    index.tables().unwrap().open_table(OTHER).unwrap().insert(1, 2).unwrap();
    index.checkpoint().unwrap();
    let mut image = tape.image();
    drop(tape.take_log());

    let (mut importer, mut cursor) = (index.import_start().unwrap(), Some(Cursor::default()));
    while let Some(from) = cursor {
        let page = snapshot.page(&from, 500).unwrap();
        index.import_page(&mut importer, &page.bytes).unwrap();
        index.commit().unwrap();
        cursor = page.next;
    }
    index.import_install(importer).unwrap();
    let log = tape.take_log();
    let syncs = log.iter().filter(|asked| matches!(asked, Asked::Sync)).count();
    assert!(log.len() > 10 && syncs > 0, "{} writes, {syncs} syncs", log.len());

    let (mut synced, mut unsynced) = (image.clone(), Vec::new());
    let (mut was_new, mut dice) = (false, 7_u64);
    for (number, asked) in log.iter().enumerate() {
        play(&mut image, asked);
        if matches!(asked, Asked::Sync) {
            (synced, unsynced) = (image.clone(), Vec::new());
        } else {
            unsynced.push(asked.clone());
        }
        let is_new = expected.holds(image.clone(), &format!("a kill after write {number}"));
        assert!(is_new || !was_new, "what is in force stays in force");
        was_new = is_new;
        // Any part of what is not synced may be on the disk.
        let mut torn = synced.clone();
        for asked in &unsynced {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if matches!(asked, Asked::Len(_)) || dice >> 63 == 0 {
                play(&mut torn, asked);
            }
        }
        expected.holds(torn, &format!("a power cut after write {number}"));
    }
    assert!(was_new, "it came to its end");
}
