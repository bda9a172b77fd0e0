//! Recovery of a log whose bytes were changed in any way: never a panic, never more memory than the
//! bounds say, never anything but what was written.
//!
//! Two kinds of change. *Rot* changes bytes and nothing else: then a log either refuses to open or is
//! all there. A *forger* computes the checksums anew, which no disk does: so deeper code meets values
//! that it never wrote; it must refuse them or live with them.

use std::io::IoSlice;
use std::sync::Mutex;

use super::super::record::{
    Cut, HEADER_BYTES, Head, Header, Kind, Mark, PAYLOAD_BYTES_MAX, record_bytes,
};
use super::super::segment::RECORDS_FROM;
use super::model::Shape;
use super::*;
use crate::disk::sim::{Random, SimFile};
use crate::disk::{Disk, DiskFile, DiskResult};

/// A disk that measures the largest buffer that it is asked to fill.
#[derive(Clone, Debug)]
struct Watched {
    disk: SimDisk,
    largest_read: Arc<Mutex<usize>>,
}

#[derive(Debug)]
struct WatchedFile(SimFile, Arc<Mutex<usize>>);

impl Disk for Watched {
    type File = WatchedFile;

    fn open(&self, path: &str) -> DiskResult<WatchedFile> {
        Ok(WatchedFile(self.disk.open(path)?, self.largest_read.clone()))
    }

    fn create(&self, path: &str) -> DiskResult<WatchedFile> {
        Ok(WatchedFile(self.disk.create(path)?, self.largest_read.clone()))
    }

    fn make_dir(&self, path: &str) -> DiskResult<()> {
        self.disk.make_dir(path)
    }

    fn list(&self, path: &str) -> DiskResult<Vec<String>> {
        self.disk.list(path)
    }

    fn rename(&self, from: &str, to: &str) -> DiskResult<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &str) -> DiskResult<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, path: &str) -> DiskResult<()> {
        self.disk.sync_dir(path)
    }
}

impl DiskFile for WatchedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> DiskResult<usize> {
        let mut largest = self.1.lock().unwrap();
        *largest = (*largest).max(buffer.len());
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> DiskResult<()> {
        self.0.write_at(parts, offset)
    }

    fn sync_data(&self) -> DiskResult<()> {
        self.0.sync_data()
    }

    fn length(&self) -> DiskResult<u64> {
        self.0.length()
    }
}

/// A log that has come by all kinds of records, in several segments, closed in order.
fn written() -> (SimDisk, Shape) {
    let disk = SimDisk::new();
    let mut wal = Wal::create(disk.clone(), TINY).unwrap();
    let truncate = LogOp::Truncate { from: Index::new(13) };
    let batches = [
        vec![reset(10, 1), hard_state(1)],
        (11..=16).map(|index| append(index, 1, 300)).collect(),
        vec![hard_state(2), truncate, append(13, 2, 100)],
        (14..=22).map(|index| append(index, 2, 300)).collect(),
        vec![LogOp::Append(vec![Arc::new(Entry {
            index: Index::new(23),
            term: Term::new(2),
            content: Content::Members(members(3)),
        })])],
        vec![compact(12, 1), append(24, 2, 40)],
    ];
    for batch in batches {
        wal.commit(batch).unwrap();
        wal.confirm().unwrap();
        maintain_all(&mut wal);
    }
    assert!(wal.segments.len() >= 2);
    let shape = Shape::of_wal(&wal);
    wal.close().unwrap();
    disk.restart(Keep::Nothing);
    (disk, shape)
}

/// Opens a changed log; says what is in it, unless it refuses. Nothing may panic, and no buffer may be
/// larger than a record or the window.
fn recover(disk: &SimDisk) -> Result<Shape, WalError> {
    let largest_read = Arc::new(Mutex::new(0));
    let watched = Watched { disk: disk.clone(), largest_read: largest_read.clone() };
    let opened = Wal::restore(watched, Options { nonce_seed: 99, ..TINY });
    let bound = (HEADER_BYTES + PAYLOAD_BYTES_MAX).max(1024 * 1024);
    assert!(*largest_read.lock().unwrap() <= bound);
    drop(opened?);
    let (mut wal, restored) = reopen_with(disk, TINY)?;
    let shape = Shape::of(&wal, &restored);
    // It works on from there.
    let next = wal.last().index.next();
    let term = wal.last().term.get().max(wal.hard_state().term.get());
    wal.commit([append(next.get(), term, 30)]).unwrap();
    let (wal, _) = after_power_cut(disk);
    assert_eq!(wal.last(), position(next.get(), term));
    Ok(shape)
}

fn files(disk: &SimDisk) -> Vec<String> {
    segments(disk).iter().map(|name| format!("wal/{name}")).collect()
}

/// Where records begin in a file.
fn records(bytes: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut from = usize::try_from(RECORDS_FROM).unwrap();
    while let Some(header) = bytes.get(from..).and_then(Header::parse) {
        found.push(from);
        from += record_bytes(header.length);
    }
    found
}

/// Source: checklist 120, 122, 128, fault 27, 61: a grid over every byte of every file.
#[test]
fn a_changed_byte_is_noticed_or_means_nothing() {
    let (disk, shape) = written();
    let (mut refused, mut harmless) = (0, 0);
    for file in files(&disk) {
        let bytes = disk.peek(&file).unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 200;
        for offset in (0..64).chain(4096..end.clamp(4096, bytes.len())) {
            let old = bytes[offset];
            let values = [old ^ (1 << (offset % 8)), !old, 0, 0xff, old.wrapping_add(1)];
            let value = values[offset % values.len()];
            if value != old {
                let disk = disk.fork();
                let mut changed = bytes.clone();
                changed[offset] = value;
                disk.poke(&file, &changed);
                match recover(&disk) {
                    Ok(found) => {
                        assert_eq!(found, shape, "{value} at {offset} of {file}");
                        harmless += 1;
                    }
                    Err(error) => {
                        let is_version = matches!(error, WalError::UnknownVersion { .. });
                        assert!(error.is_rot() || is_version, "{error}");
                        refused += 1;
                    }
                }
            }
        }
    }
    println!("{refused} changes refused, {harmless} harmless");
    assert!(refused > 5000);
}

/// One change of a file's bytes.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    const INTERESTING: [u64; 9] =
        [0, 1, 2, 40, 64, 0x7fff_ffff, 0xffff_ffff, u64::MAX / 2, u64::MAX];
    let mut below =
        |bound: usize| usize::try_from(random.below(u64::try_from(bound.max(1)).unwrap())).unwrap();
    let (at, length) = (below(bytes.len()), 1 + below(600));
    let end = (at + length).min(bytes.len());
    match below(7) {
        0 => bytes[at] ^= 1 << below(8),
        1 => bytes[at..end].fill(0),
        2 => {
            let from = below(bytes.len() - (end - at));
            bytes.copy_within(from..from + (end - at), at);
        }
        3 => bytes.truncate(at),
        4 => drop(bytes.drain(at..end)),
        5 => {
            let value = INTERESTING[below(INTERESTING.len())].to_le_bytes();
            let at = at & !7;
            let end = (at + 8).min(bytes.len());
            bytes[at..end].copy_from_slice(&value[..end - at]);
        }
        _ => {
            let noise: Vec<u8> = (0..end - at).map(|_| u8::try_from(below(256)).unwrap()).collect();
            bytes[at..end].copy_from_slice(&noise);
        }
    }
}

/// Source: checklist 122, fault 61, 62: many changes at once, cut and shifted files.
#[test]
fn any_rot_is_refused_or_loses_only_what_nothing_confirms() {
    let (disk, shape) = written();
    let mut refused = 0;
    for seed in 0..cases(500) {
        let mut random = Random::new(seed);
        let disk = disk.fork();
        let files = files(&disk);
        for _ in 0..=random.below(4) {
            let file = &files[usize::try_from(random.below(2)).unwrap()];
            let mut bytes = disk.peek(file).unwrap();
            if bytes.is_empty() {
                continue;
            }
            mutate(&mut random, &mut bytes);
            disk.poke(file, &bytes);
        }
        match recover(&disk) {
            // What was cut off with all that confirms it looks as if it had never been there.
            Ok(found) => assert!(found.is_beginning_of(&shape), "seed {seed}: {found:?}"),
            Err(_) => refused += 1,
        }
    }
    println!("{refused} refused");
}

/// Source: checklist 122, fault 62: values that no log writes, with right checksums.
#[test]
fn a_forged_record_is_refused_or_lived_with() {
    let (disk, _) = written();
    let story = |seed| {
        let mut random = Random::new(seed);
        let disk = disk.fork();
        let files = files(&disk);
        let file = &files[usize::try_from(random.below(2)).unwrap()];
        let mut bytes = disk.peek(file).unwrap();
        let places = records(&bytes);
        let count = u64::try_from(places.len()).unwrap();
        for _ in 0..=random.below(3) {
            let at = places[usize::try_from(random.below(count)).unwrap()];
            forge(&mut random, &mut bytes, at);
        }
        disk.poke(file, &bytes);
        recover(&disk).is_err()
    };
    let mut refused = 0;
    let count = cases(2000);
    for seed in 0..count {
        let is_refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| story(seed)));
        refused += u64::from(is_refused.unwrap_or_else(|_| panic!("seed {seed}")));
    }
    println!("{refused} of {count} refused");
    assert!(refused > count / 4);
}

/// Changes a record, header or payload, and makes its checksums right.
fn forge(random: &mut Random, bytes: &mut [u8], at: usize) {
    // Where the fields of a header are, but for the checksums and the segment's nonce.
    const FIELDS: [(usize, usize); 7] =
        [(16, 8), (24, 8), (32, 8), (40, 8), (48, 4), (52, 4), (56, 1)];
    let Some(header) = Header::parse(&bytes[at..]) else { return };
    let payload = at + HEADER_BYTES..at + HEADER_BYTES + header.length;
    if payload.end > bytes.len() {
        return;
    }
    if random.below(2) == 0 {
        let (place, length) = FIELDS[usize::try_from(random.below(7)).unwrap()];
        let old = u64::from_le_bytes(bytes[at + place..at + place + 8].try_into().unwrap());
        let value = match random.below(4) {
            0 => old.wrapping_add(1),
            1 => old.wrapping_sub(1),
            2 => random.below(9),
            _ => u64::MAX >> random.below(64),
        };
        bytes[at + place..at + place + length].copy_from_slice(&value.to_le_bytes()[..length]);
    } else if header.length > 0 {
        for _ in 0..=random.below(3) {
            let chosen = payload.start
                + usize::try_from(random.below(u64::try_from(header.length.min(40)).unwrap()))
                    .unwrap();
            bytes[chosen] = match random.below(4) {
                0 => 0xff,
                1 => bytes[chosen].wrapping_add(1),
                2 => bytes[chosen].wrapping_sub(1),
                _ => u8::try_from(random.below(256)).unwrap(),
            };
        }
    }
    let payload_crc = crc32fast::hash(&bytes[payload]);
    bytes[at + 4..at + 8].copy_from_slice(&payload_crc.to_le_bytes());
    let crc = crc32fast::hash(&bytes[at + 4..at + HEADER_BYTES]);
    bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}

/// Source: checklist 122: numbers at their end, which no log reaches, are refused before one is added
/// to them.
#[test]
fn numbers_at_their_end_are_refused() {
    let end = LogPosition { index: Index::new(u64::MAX), term: Term::new(u64::MAX) };
    let mark = Mark { at: end, members: members(1), keep_from: 1 };
    let head = Head { hard_state: vote(1), last: end, members: members(1), keep_from: 1 };
    let payloads = [
        (Kind::Head, postcard::to_allocvec(&head).unwrap()),
        (Kind::HardState, postcard::to_allocvec(&vote(u64::MAX)).unwrap()),
        (Kind::Truncate, postcard::to_allocvec(&Cut { last: end, members: members(1) }).unwrap()),
        (Kind::Reset, postcard::to_allocvec(&mark).unwrap()),
        (Kind::Compact, postcard::to_allocvec(&mark).unwrap()),
        (Kind::Entry, postcard::to_allocvec(&entry(u64::MAX, u64::MAX, 10)).unwrap()),
    ];
    let (disk, shape) = written();
    let file = files(&disk)[0].clone();
    let bytes = disk.peek(&file).unwrap();
    let places = records(&bytes);
    let headers = places.iter().map(|at| Header::parse(&bytes[*at..]).unwrap());
    for (at, header) in places.iter().copied().zip(headers) {
        let mut forged: Vec<_> = payloads
            .iter()
            .map(|(kind, payload)| {
                let entry = (*kind == Kind::Entry).then_some(end);
                let payload_crc = crc32fast::hash(payload);
                let length = payload.len();
                (Header { payload_crc, length, entry, kind: *kind, ..header }, payload.clone())
            })
            .collect();
        let own = bytes[at..][header.payload()].to_vec();
        forged.push((Header { sequence: u64::MAX, ..header }, own));
        for (header, payload) in forged {
            let mut record = Vec::new();
            header.encode(&payload, &mut record);
            let mut changed = bytes.clone();
            changed[at..at + record.len()].copy_from_slice(&record);
            let disk = disk.fork();
            disk.poke(&file, &changed);
            // A compaction of what the log does not have says nothing: that one is lived with.
            match recover(&disk) {
                Err(error) => assert!(error.is_rot(), "{header:?}: {error}"),
                Ok(found) => assert!(found.is_beginning_of(&shape), "{header:?}"),
            }
        }
    }
}

fn cases(usual: u64) -> u64 {
    std::env::var("PROPTEST_CASES").map_or(usual, |count| count.parse().unwrap())
}
