//! What a log finds when its files are not as they were written.

use super::super::WalCounters;
use super::super::record::{HEADER_BYTES, Header, Kind, PAYLOAD_BYTES_MAX};
use super::super::segment::{self, RECORDS_FROM};
use super::*;
use crate::disk::sim::{Fault, Random, SECTOR_BYTES};

const FIRST: &str = "wal/00000001.wal";

fn at(offset: u32) -> usize {
    usize::try_from(offset).unwrap()
}

/// A log of one entry a batch; gives where each batch ends.
fn log_of(count: u64, bytes: usize) -> (SimDisk, Wal<SimDisk>, Vec<usize>) {
    let (disk, mut wal) = created();
    let mut ends = vec![at(wal.offset)];
    for index in 1..=count {
        wal.commit([append(index, 1, bytes)]).unwrap();
        ends.push(at(wal.offset));
    }
    (disk, wal, ends)
}

/// Opens a disk and checks that the log works on from there.
fn opens_with(disk: &SimDisk, last: u64) {
    let (mut wal, _) = reopen(disk).unwrap();
    assert_eq!(wal.last().index.get(), last);
    wal.commit([append(last + 1, 9, 100)]).unwrap();
    let (wal, _) = after_power_cut(disk);
    assert_eq!(wal.last(), position(last + 1, 9), "the next entry, and nothing stale behind it");
}

fn corrupt_at(disk: &SimDisk) -> (String, u64) {
    match reopen(disk) {
        Err(error @ WalError::Corrupt { .. }) if !error.is_rot() => panic!("{error} is rot"),
        Err(WalError::Corrupt { file, offset, .. }) => (file, offset),
        Err(error) => panic!("another error: {error}"),
        Ok((wal, _)) => panic!("opened with {:?}", wal.last()),
    }
}

/// Source: checklist 119: etcd's tear tests.
#[test]
fn a_log_cut_in_its_last_record_ends_before_it() {
    let (disk, _, ends) = log_of(3, 40);
    let whole = disk.peek(FIRST).unwrap();
    for cut in ends[2]..ends[3] {
        let expected = if whole[cut..ends[3]].iter().all(|byte| *byte == 0) { 3 } else { 2 };
        let disk = disk.fork();
        disk.poke(FIRST, &whole[..cut]);
        opens_with(&disk, expected);
        assert_eq!(disk.peek(FIRST).unwrap().len(), whole.len(), "the file has its length again");
        let mut zeroed = whole.clone();
        zeroed[cut..ends[3]].fill(0);
        disk.poke(FIRST, &zeroed);
        opens_with(&disk, expected);
    }
}

/// What a flipped bit at each byte of a record comes to: the log refuses, names the place, and the
/// entry too as long as the damage is not in the header.
fn is_told_at_every_byte(disk: &SimDisk, record: std::ops::Range<usize>, entry: LogPosition) {
    for offset in record.clone() {
        let disk = disk.fork();
        assert!(disk.flip_bit(FIRST, u64::try_from(offset).unwrap(), 3));
        match reopen(&disk).map(|(wal, _)| wal.last()) {
            Err(WalError::Corrupt { offset: at, entry: named, .. }) => {
                assert_eq!(at, u64::try_from(record.start).unwrap());
                let is_named = offset >= record.start + HEADER_BYTES;
                assert_eq!(named, is_named.then_some(entry), "a flip at {offset}");
            }
            other => panic!("a flip at {offset}: {other:?}"),
        }
    }
}

/// The record at this offset, without the zeros behind it.
fn record_at(disk: &SimDisk, start: usize) -> std::ops::Range<usize> {
    start..start + HEADER_BYTES + payload_bytes(&disk.peek(FIRST).unwrap()[start..])
}

/// Source: checklist 120, 128; Alagappan et al., FAST 2018: identifiers are kept apart from data.
#[test]
fn a_rotten_entry_is_named() {
    let (disk, _, ends) = log_of(3, 40);
    is_told_at_every_byte(&disk, record_at(&disk, ends[1]), position(2, 1));
    assert!(disk.flip_bit(FIRST, u64::try_from(ends[1] + HEADER_BYTES).unwrap(), 0));
    let text = reopen(&disk).unwrap_err().to_string();
    assert!(text.contains("entry 2 of term 1"), "{text}");
}

/// Source: checklist 120, 128: the newest batch has nothing behind it but what confirms it.
#[test]
fn rot_in_the_newest_batch_is_told_once_the_log_was_idle() {
    let (disk, mut wal, ends) = log_of(3, 40);
    let newest = record_at(&disk, ends[2]);
    let unconfirmed = disk.fork();
    assert!(unconfirmed.flip_bit(FIRST, u64::try_from(newest.end - 1).unwrap(), 3));
    opens_with(&unconfirmed, 2);
    wal.confirm().unwrap();
    is_told_at_every_byte(&disk, newest, position(3, 1));
    // The process ends, whether in order or not; the machine goes on.
    disk.restart(Keep::Everything);
    is_told_at_every_byte(&disk, record_at(&disk, ends[2]), position(3, 1));
}

/// Source: checklist 120: where the newest batch begins a segment, its head is confirmed too.
#[test]
fn rot_in_the_head_of_the_newest_segment_is_told_once_the_log_was_idle() {
    let (disk, mut wal) = created();
    maintain_all(&mut wal);
    let mut index = 0;
    while wal.counters().rotations == 1 {
        index += 1;
        wal.commit([append(index, 1, 1000)]).unwrap();
        wal.confirm().unwrap();
    }
    let path = disk.list_last();
    assert_eq!(path, "wal/00000002.wal");
    for offset in at(RECORDS_FROM)..at(wal.offset) - HEADER_BYTES {
        let disk = disk.fork();
        assert!(disk.flip_bit(&path, u64::try_from(offset).unwrap(), 3));
        let is_padding = reopen(&disk).is_ok_and(|(wal, _)| wal.last().index.get() == index);
        assert!(is_padding || corrupt_at(&disk).0 == path, "a flip at {offset}");
    }
}

/// Source: the module's promise: once a batch, no sync, and in no count of batches.
#[test]
fn a_batch_is_confirmed_once_and_without_sync() {
    let (disk, mut wal, ends) = log_of(3, 40);
    let (before, counters) = (disk.counters(), wal.counters());
    for _ in 0..10 {
        wal.confirm().unwrap();
    }
    assert_eq!(at(wal.offset), ends[3] + HEADER_BYTES, "an idle log does not grow");
    assert_eq!((disk.counters().writes, disk.counters().syncs), (before.writes + 1, before.syncs));
    assert_eq!(wal.counters(), WalCounters { confirmations: 1, ..counters });
    assert!(wal.is_synced(), "what only confirms is nothing to sync");
    wal.commit([append(4, 1, 40)]).unwrap();
    assert_eq!(disk.counters().syncs, before.syncs + 1);
    disk.restart(Keep::Everything);
    let (mut wal, _) = reopen(&disk).unwrap();
    wal.confirm().unwrap();
    let end = wal.offset;
    disk.restart(Keep::Everything);
    let (mut wal, _) = reopen(&disk).unwrap();
    wal.confirm().unwrap();
    assert_eq!((wal.offset, wal.counters().confirmations), (end, 0), "it says so already");
}

/// Source: the module's promise: what only confirms says nothing that could be lost.
#[test]
fn a_torn_or_rotten_confirming_record_harms_nothing() {
    let (disk, mut wal, ends) = log_of(3, 40);
    wal.confirm().unwrap();
    let confirmed = disk.fork();
    wal.commit([append(4, 1, 40)]).unwrap();
    let followed = disk.fork();
    wal.confirm().unwrap();
    let confirmed_again = disk.fork();
    for offset in ends[3]..ends[3] + HEADER_BYTES {
        for (disk, last) in [(&confirmed, 3), (&followed, 4), (&confirmed_again, 4)] {
            let (flipped, torn) = (disk.fork(), disk.fork());
            assert!(flipped.flip_bit(FIRST, u64::try_from(offset).unwrap(), 3));
            opens_with(&flipped, last);
            let mut image = disk.peek(FIRST).unwrap();
            image[offset..ends[3] + HEADER_BYTES].fill(0);
            torn.poke(FIRST, &image);
            opens_with(&torn, last);
        }
    }
}

/// Source: the module's promise: a confirming record that did not reach the disk before its segment
/// was full leaves no gap.
#[test]
fn a_lost_confirming_record_at_the_end_of_a_segment_leaves_no_gap() {
    let (disk, mut wal) = created();
    let mut index = 0;
    let mut confirmed = 0;
    while wal.counters().rotations == 1 {
        confirmed = at(wal.offset);
        index += 1;
        wal.confirm().unwrap();
        wal.commit([append(index, 1, 600)]).unwrap();
    }
    let mut image = disk.peek(FIRST).unwrap();
    assert!(Header::parse(&image[confirmed..]).is_some_and(|header| header.kind == Kind::Confirm));
    image[confirmed..confirmed + HEADER_BYTES].fill(0);
    disk.poke(FIRST, &image);
    opens_with(&disk, index);
}

/// Source: checklist 120, 128, fault 27; Alagappan et al., FAST 2018.
#[test]
fn a_damaged_record_before_valid_ones_is_never_cut_off() {
    let (disk, _, ends) = log_of(3, 40);
    let whole = disk.peek(FIRST).unwrap();
    // The head, the first and the second entry: a synced batch lies behind each.
    for (start, end) in [(4096, ends[0]), (ends[0], ends[1]), (ends[1], ends[2])] {
        let covered = HEADER_BYTES + payload_bytes(&whole[start..]);
        for offset in start..(start + covered).min(end) {
            let disk = disk.fork();
            assert!(disk.flip_bit(FIRST, u64::try_from(offset).unwrap(), 3));
            let damaged = disk.peek(FIRST);
            assert_eq!(corrupt_at(&disk), (FIRST.into(), u64::try_from(start).unwrap()));
            assert_eq!(disk.peek(FIRST), damaged, "evidence is left as it is");
        }
    }
}

fn payload_bytes(record: &[u8]) -> usize {
    Header::parse(record).unwrap().length
}

/// Source: checklist 130: whom a node voted for is not replaced by what it said before, whether the
/// vote has a record of its own or stands in the head of a segment.
#[test]
fn a_damaged_vote_is_never_forgotten() {
    let (disk, mut wal) = created();
    wal.commit([hard_state(3)]).unwrap();
    let start = at(wal.offset);
    wal.commit([hard_state(4)]).unwrap();
    wal.commit([append(1, 4, 10)]).unwrap();
    let covered = HEADER_BYTES + payload_bytes(&disk.peek(FIRST).unwrap()[start..]);
    for offset in start..start + covered {
        let disk = disk.fork();
        assert!(disk.flip_bit(FIRST, u64::try_from(offset).unwrap(), 6));
        assert_eq!(corrupt_at(&disk), (FIRST.into(), u64::try_from(start).unwrap()));
    }
    for index in 2..=24 {
        wal.commit([append(index, 4, 1000)]).unwrap();
    }
    wal.commit([compact(24, 4)]).unwrap();
    maintain_all(&mut wal);
    let (first, head) = (wal.segments.first_key_value().unwrap(), at(RECORDS_FROM));
    let path = segment::path(*first.0);
    assert!(*first.0 > 1, "the head is all that tells of the vote");
    let covered = HEADER_BYTES + payload_bytes(&disk.peek(&path).unwrap()[head..]);
    for offset in head..head + covered {
        let disk = disk.fork();
        assert!(disk.flip_bit(&path, u64::try_from(offset).unwrap(), 6));
        assert!(reopen(&disk).is_err(), "a flip at {offset}");
    }
}

/// Source: checklist 120, 124: damage in an older segment, and in the head of a newer one.
#[test]
fn damage_is_named_in_whichever_segment_it_is() {
    let (disk, wal, _) = log_of(40, 1000);
    let newest = wal.segments.last_key_value().map(|(number, _)| *number).unwrap();
    assert!(newest >= 3);
    for number in 1..newest {
        for offset in [4096, 4200, 9000] {
            let disk = disk.fork();
            assert!(disk.flip_bit(&segment::path(number), offset, 0));
            let (file, found) = corrupt_at(&disk);
            assert_eq!(file, segment::path(number));
            assert!(found <= offset && found + 1200 > offset, "{found} is about {offset}");
        }
    }
}

/// Source: fault 61: every byte of a segment's header counts.
#[test]
fn a_damaged_segment_header_is_named() {
    let (disk, _, _) = log_of(3, 40);
    for offset in 0..40 {
        let disk = disk.fork();
        assert!(disk.flip_bit(FIRST, offset, 5));
        match reopen(&disk) {
            Err(
                WalError::Corrupt { file, offset: 0, .. } | WalError::UnknownVersion { file, .. },
            ) => {
                assert_eq!(file, FIRST);
            }
            other => panic!("{:?}", other.err()),
        }
    }
}

/// Writes a batch of equal entries without sync, leaves each subset of its sectors on the disk,
/// opens it, and writes entries of the same size: what is stale must not fit behind them.
fn survive_any_subset(disk: &SimDisk, wal: &mut Wal<SimDisk>, path: &str) {
    let acknowledged = wal.last().index.get();
    let before = disk.peek(path).unwrap();
    wal.write((1..=6).map(|more| append(acknowledged + more, 1, 600))).unwrap();
    let after = disk.peek(path).unwrap();
    let changed = |sector: &usize| {
        let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
        before[range.clone()] != after[range]
    };
    let sectors: Vec<_> = (0..before.len() / SECTOR_BYTES).filter(changed).collect();
    assert!((7..=10).contains(&sectors.len()), "{sectors:?} make enough subsets");
    for subset in 0..1_u32 << sectors.len() {
        let mut image = before.clone();
        for (bit, sector) in sectors.iter().enumerate() {
            let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
            if subset & (1 << bit) != 0 {
                image[range.clone()].copy_from_slice(&after[range]);
            }
        }
        let disk = disk.fork();
        disk.poke(path, &image);
        let (mut wal, _) = reopen(&disk).unwrap();
        let last = wal.last().index.get();
        assert!((acknowledged..=acknowledged + 6).contains(&last));
        wal.read(Index::new(1), wal.last().index).unwrap();
        wal.commit([append(last + 1, 1, 600)]).unwrap();
        let (wal, _) = after_power_cut(&disk);
        assert_eq!(wal.last().index.get(), last + 1, "nothing stale behind it");
    }
}

/// Source: checklist 121 (etcd#6378, #11488): all subsets of the sectors of one unsynced write.
#[test]
fn any_subset_of_the_sectors_of_an_unsynced_batch_is_a_clean_end() {
    let (disk, mut wal, _) = log_of(2, 40);
    survive_any_subset(&disk, &mut wal, FIRST);
}

/// Source: checklist 121, where the batch begins a segment and its head may be what is missing.
#[test]
fn any_subset_of_the_first_batch_of_a_segment_is_a_clean_end() {
    let (disk, mut wal) = created();
    maintain_all(&mut wal);
    for index in 1.. {
        if !wal.fits(700, super::super::Room::Entries) {
            break;
        }
        wal.commit([append(index, 1, 600)]).unwrap();
    }
    survive_any_subset(&disk, &mut wal, "wal/00000002.wal");
    assert_eq!(wal.counters().rotations, 2, "the batch began the second segment");
}

/// The header that an empty record at the end of the log would have.
fn next_header(wal: &Wal<SimDisk>) -> Header {
    Header {
        payload_crc: crc32fast::hash(&[]),
        nonce: wal.segments[&1].nonce,
        sequence: wal.next_sequence,
        durable_before: wal.next_sequence,
        entry: None,
        offset: wal.offset,
        length: 0,
        kind: Kind::HardState,
    }
}

/// Source: checklist 122 (etcd#14098), fault 62: a length is believed only within its bounds.
#[test]
fn an_absurd_length_is_an_end_and_no_allocation() {
    let (disk, wal, ends) = log_of(2, 40);
    let whole = disk.peek(FIRST).unwrap();
    let end = ends[2];
    let header = Header { entry: Some(position(3, 1)), kind: Kind::Entry, ..next_header(&wal) };
    let mut record = Vec::new();
    header.encode(&[], &mut record);
    for length in [1, 16 * 1024 - 4096, 16 * 1024, 1 << 22, 1 << 31, u32::MAX] {
        record[52..56].copy_from_slice(&length.to_le_bytes());
        let crc = crc32fast::hash(&record[4..HEADER_BYTES]);
        record[..4].copy_from_slice(&crc.to_le_bytes());
        let mut image = whole.clone();
        image[end..end + record.len()].copy_from_slice(&record);
        let disk = disk.fork();
        disk.poke(FIRST, &image);
        opens_with(&disk, 2);
        let is_believed = Header::parse(&image[end..]).is_some();
        assert_eq!(is_believed, at(length) <= PAYLOAD_BYTES_MAX);
    }
}

/// Source: checklist 122: whatever stands behind the end, it is not replayed.
#[test]
fn garbage_behind_the_end_is_not_replayed() {
    let (disk, _, ends) = log_of(2, 40);
    let mut image = disk.peek(FIRST).unwrap();
    for seed in 0..20 {
        let mut random = Random::new(seed);
        image[ends[2]..].fill_with(|| random.next_u64().to_le_bytes()[0]);
        let disk = disk.fork();
        disk.poke(FIRST, &image);
        opens_with(&disk, 2);
    }
}

/// Source: checklist 123: the nonce tells old records of a recycled segment from new ones.
#[test]
fn records_of_a_recycled_segments_former_life_are_not_replayed() {
    let (disk, mut wal) = created();
    for index in 1..=24 {
        wal.commit([append(index, 1, 1000)]).unwrap();
    }
    let oldest = disk.peek(FIRST).unwrap();
    wal.commit([compact(24, 1)]).unwrap();
    maintain_all(&mut wal);
    assert!(!segments(&disk).contains(&"00000001.wal".to_owned()));
    let spare = disk.list_last();
    let recycled = disk.peek(&spare).unwrap();
    assert_eq!(recycled[4096..], oldest[4096..], "its old records are still there");
    // Fill the current segment, until the recycled one has its first records.
    let rotations = wal.counters().rotations;
    let mut index = 24;
    while wal.counters().rotations == rotations {
        index += 1;
        wal.commit([append(index, 1, 1000)]).unwrap();
    }
    let image = disk.peek(&spare).unwrap();
    let stale = (at(wal.offset)..image.len()).find_map(|from| {
        let header = Header::parse(&image[from..])?;
        let record = &image[from..];
        (at(header.offset) == from && header.whole_payload(record).is_some()).then_some(header)
    });
    assert!(stale.is_some(), "a valid record of its former life lies behind the end");
    opens_with(&disk, index);
}

impl SimDisk {
    /// The newest segment's path.
    fn list_last(&self) -> String {
        format!("wal/{}", segments(self).last().unwrap())
    }
}

/// Source: checklist 124: each way in which segments can be missing or doubled has its name.
#[test]
fn a_missing_segment_is_named() {
    let (disk, wal, _) = log_of(60, 1000);
    let newest = wal.segments.last_key_value().map(|(number, _)| *number).unwrap();
    for number in 1..newest {
        let disk = disk.fork();
        assert!(disk.lose(&segment::path(number)));
        match reopen(&disk) {
            Err(WalError::MissingSegment { file }) => assert_eq!(file, segment::path(number)),
            other => panic!("{number}: {:?}", other.err()),
        }
    }
}

/// Source: checklist 124: the oldest segment may go by compaction only.
#[test]
fn a_missing_first_segment_is_named_after_compaction_too() {
    let (disk, mut wal, _) = log_of(60, 1000);
    wal.commit([compact(30, 1)]).unwrap();
    maintain_all(&mut wal);
    let first = wal.segments.first_key_value().map(|(number, _)| *number).unwrap();
    assert!(first > 1);
    assert!(disk.lose(&segment::path(first)));
    match reopen(&disk) {
        Err(WalError::MissingSegment { file }) => assert_eq!(file, segment::path(first)),
        other => panic!("{:?}", other.err()),
    }
}

/// Source: checklist 124: a segment that tells again what the one before it told.
#[test]
fn an_overlapping_segment_is_named() {
    let (disk, wal, _) = log_of(30, 1000);
    let second = &wal.segments[&2];
    let mut image = disk.peek(&segment::path(2)).unwrap();
    let header = segment::header(3, second.nonce, second.length);
    image[..header.len()].copy_from_slice(&header);
    disk.poke(&segment::path(3), &image);
    match reopen(&disk) {
        Err(WalError::Overlap { file }) => assert_eq!(file, segment::path(3)),
        other => panic!("{:?}", other.err()),
    }
}

/// Source: checklist 124: two segments that both look like the last one.
#[test]
fn two_open_segments_are_named() {
    let (disk, _, _) = log_of(30, 1000);
    let mut image = disk.peek(&segment::path(2)).unwrap();
    image[8192..].fill(0);
    disk.poke(&segment::path(2), &image);
    assert_eq!(corrupt_at(&disk).0, segment::path(2));
}

/// Source: checklist 128: what the disk lost is told from what it refuses, and from what this
/// program does not know.
#[test]
fn lost_bytes_are_told_from_a_failed_disk_and_a_later_version() {
    let (disk, mut wal, _) = log_of(60, 1000);
    let rot = |change: &dyn Fn(&SimDisk)| {
        let disk = disk.fork();
        change(&disk);
        reopen(&disk).unwrap_err().is_rot()
    };
    let empty =
        |disk: &SimDisk| segments(disk).iter().all(|name| disk.lose(&format!("wal/{name}")));
    assert!(rot(&|disk| assert!(disk.flip_bit(FIRST, 5000, 0))), "a changed record");
    assert!(rot(&|disk| assert!(disk.lose(&segment::path(2)))), "a missing segment");
    assert!(rot(&|disk| assert!(empty(disk))), "no segment at all");
    assert!(!rot(&|disk| disk.fail_at(disk.operations(), Fault::Broken)), "a disk that fails");
    assert!(!rot(&|disk| disk.poke(FIRST, b"PBOXWAL\n\x09\0\0\0____________________________")));
    let broken = disk.operations();
    disk.fail_at(broken, Fault::Broken);
    assert!(!wal.commit([append(61, 1, 10)]).unwrap_err().is_rot());
    assert!(!wal.commit([]).unwrap_err().is_rot(), "it has stopped");
}

/// Source: checklist 124, fault 9: another version's log is refused, not guessed at.
#[test]
fn an_unknown_version_is_named() {
    let (disk, _, _) = log_of(2, 40);
    let mut image = disk.peek(FIRST).unwrap();
    for other in [2, 4] {
        image[8] = other;
        disk.poke(FIRST, &image);
        let found = reopen(&disk);
        let named = matches!(found, Err(WalError::UnknownVersion { version, .. }) if version == u32::from(other));
        assert!(named, "{found:?}");
    }
}

/// Source: checklist 120, fault 30: a misdirected block has right checksums and is no record all the
/// same, wherever it comes to lie; what it overwrote is missed.
#[test]
fn a_misdirected_write_is_told() {
    let (disk, mut wal, _) = log_of(30, 1000);
    wal.confirm().unwrap();
    let files: Vec<_> = segments(&disk).iter().map(|name| format!("wal/{name}")).collect();
    let images: Vec<_> = files.iter().map(|file| disk.peek(file).unwrap()).collect();
    let ends: Vec<_> = images
        .iter()
        .map(|image| image.iter().rposition(|byte| *byte != 0).unwrap() / SECTOR_BYTES)
        .collect();
    let mut random = Random::new(1);
    let mut told = 0;
    for (to_file, to_end) in ends.iter().enumerate() {
        for to in at(RECORDS_FROM) / SECTOR_BYTES..*to_end {
            let from_file = usize::try_from(random.below(3)).unwrap();
            let from = random.below(u64::try_from(ends[from_file] + 1).unwrap());
            let from = usize::try_from(from).unwrap() * SECTOR_BYTES;
            let sector = &images[from_file][from..from + SECTOR_BYTES];
            let mut image = images[to_file].clone();
            let place = &mut image[to * SECTOR_BYTES..(to + 1) * SECTOR_BYTES];
            if place != sector {
                place.copy_from_slice(sector);
                let disk = disk.fork();
                disk.poke(&files[to_file], &image);
                assert_eq!(corrupt_at(&disk).0, files[to_file], "{from_file}/{from} on {to}");
                told += 1;
            }
        }
    }
    assert!(told > 60, "{told}");
}

/// Source: checklist 120, fault 30: a write that never reached the disk leaves what was there
/// before: right then, and stale now. Only where all of the newest batch and what confirms it is
/// stale, nothing is left to tell.
#[test]
fn a_stale_sector_is_told() {
    let (disk, mut wal) = created();
    let mut versions = vec![disk.peek(FIRST).unwrap()];
    for index in 1..=6 {
        wal.commit([append(index, 1, 1000)]).unwrap();
        wal.confirm().unwrap();
        versions.push(disk.peek(FIRST).unwrap());
    }
    let newest = versions.last().unwrap();
    let tail = at(wal.offset) / SECTOR_BYTES;
    for old in &versions {
        for sector in (0..tail).map(|sector| sector * SECTOR_BYTES) {
            let range = sector..sector + SECTOR_BYTES;
            if old[range.clone()] != newest[range.clone()] {
                let mut image = newest.clone();
                image[range.clone()].copy_from_slice(&old[range]);
                let disk = disk.fork();
                disk.poke(FIRST, &image);
                assert_eq!(corrupt_at(&disk).0, FIRST);
            }
        }
    }
}

/// Source: fault 30: a record in another place is no record.
#[test]
fn a_record_in_another_place_is_no_record() {
    let (disk, mut wal, ends) = log_of(3, 40);
    let mut image = disk.peek(FIRST).unwrap();
    assert_eq!(ends[2] - ends[1], ends[3] - ends[2]);
    image.copy_within(ends[1]..ends[2], ends[2]);
    let unconfirmed = disk.fork();
    unconfirmed.poke(FIRST, &image);
    opens_with(&unconfirmed, 2);
    wal.confirm().unwrap();
    let mut image = disk.peek(FIRST).unwrap();
    image.copy_within(ends[1]..ends[2], ends[2]);
    disk.poke(FIRST, &image);
    assert_eq!(corrupt_at(&disk), (FIRST.into(), u64::try_from(ends[2]).unwrap()));
}

/// Source: fault 30: each thing that ties a record to its place counts by itself.
#[test]
fn a_record_with_another_sequence_offset_or_nonce_is_no_record() {
    let (disk, wal, ends) = log_of(2, 40);
    let payload = postcard::to_allocvec(&vote(7)).unwrap();
    let right = Header { payload_crc: crc32fast::hash(&payload), ..next_header(&wal) };
    let term_after = |header: Header| {
        let mut record = Vec::new();
        Header { length: payload.len(), ..header }.encode(&payload, &mut record);
        let mut image = disk.peek(FIRST).unwrap();
        image[ends[2]..ends[2] + record.len()].copy_from_slice(&record);
        let disk = disk.fork();
        disk.poke(FIRST, &image);
        reopen(&disk).map(|(wal, _)| wal.hard_state().term.get()).unwrap()
    };
    assert_eq!(term_after(right), 7, "the right one is replayed");
    assert_eq!(term_after(Header { sequence: right.sequence - 1, ..right }), 0);
    assert_eq!(term_after(Header { offset: right.offset - 8, ..right }), 0);
    assert_eq!(term_after(Header { nonce: right.nonce + 1, ..right }), 0);
}

/// Source: fault 26: an entry that rots while the node runs is named when it is read.
#[test]
fn an_entry_that_rots_under_a_running_log_is_not_handed_out() {
    let (disk, wal, ends) = log_of(3, 40);
    assert!(disk.flip_bit(FIRST, u64::try_from(ends[1]).unwrap() + 60, 1));
    let all = |wal: &Wal<SimDisk>| wal.read(Index::new(1), Index::new(3));
    match all(&wal) {
        Err(WalError::Corrupt { offset, entry, .. }) => {
            assert_eq!(at(offset.try_into().unwrap()), ends[1]);
            assert_eq!(entry, Some(position(2, 1)));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(wal.read(Index::new(3), Index::new(3)).unwrap().len(), 1);
}
