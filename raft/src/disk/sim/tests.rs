//! The simulated disk must be as unfriendly as it says.

use std::collections::BTreeSet;

use super::*;

fn write(file: &SimFile, bytes: &[u8], offset: u64) {
    file.write_at(&[IoSlice::new(bytes)], offset).unwrap();
}

/// A durable file of four sectors of zeros.
fn prepared() -> (SimDisk, SimFile) {
    let disk = SimDisk::new();
    let file = disk.create("file").unwrap();
    file.write_zeros(0, 2048).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir("").unwrap();
    (disk, file)
}

/// Source: fdatasync(2).
#[test]
fn only_what_was_synced_survives_for_sure() {
    let (disk, file) = prepared();
    write(&file, b"synced", 0);
    file.sync_data().unwrap();
    write(&file, b"written", 600);
    disk.power_off();
    assert!(file.length().is_err() && disk.open("file").is_err(), "nothing works without power");
    disk.restart(Keep::Nothing);
    let bytes = disk.peek("file").unwrap();
    assert_eq!((&bytes[..6], &bytes[600..607]), (&b"synced"[..], &[0; 7][..]));
    assert!(file.length().is_err(), "files of before the restart are closed");
}

/// Source: ALICE; etcd#6378: unsynced sectors survive in any subset, whole or torn.
#[test]
fn any_subset_of_unsynced_sectors_may_survive() {
    let (disk, file) = prepared();
    write(&file, &[1; 2048], 0);
    let mut seen = BTreeSet::new();
    let mut torn = 0;
    for seed in 0..300 {
        let disk = disk.fork();
        disk.restart(Keep::Any(seed));
        let bytes = disk.peek("file").unwrap();
        seen.insert([0, 1, 2, 3].map(|sector| bytes[sector * SECTOR_BYTES]));
        torn += bytes.chunks(SECTOR_BYTES).filter(|s| s.contains(&0) && s.contains(&1)).count();
    }
    assert_eq!(seen.len(), 16, "all subsets");
    assert!(torn > 10, "some sectors are torn: {torn}");
}

/// Source: the same seed gives the same trace twice.
#[test]
fn the_same_seed_keeps_the_same() {
    let (disk, file) = prepared();
    for seed in 0..20 {
        write(&file, &[7; 1500], seed);
        let [first, second] = [disk.fork(), disk.fork()];
        first.restart(Keep::Any(seed));
        second.restart(Keep::Any(seed));
        assert_eq!(first.peek("file"), second.peek("file"));
    }
}

/// Source: checklist 127, fault 23: a name is durable after the sync of its directory.
#[test]
fn an_unsynced_name_may_be_lost_and_a_removed_one_come_back() {
    let (disk, _file) = prepared();
    disk.make_dir("dir").unwrap();
    disk.sync_dir("").unwrap();
    disk.create("dir/new").unwrap();
    disk.rename("file", "dir/moved").unwrap();
    let mut seen = BTreeSet::new();
    for seed in 0..60 {
        let disk = disk.fork();
        disk.restart(Keep::Any(seed));
        let names: Vec<_> =
            ["file", "dir/moved", "dir/new"].map(|name| disk.open(name).is_ok()).into();
        assert_ne!(names[0], names[1], "a rename is one step");
        seen.insert(names);
    }
    assert_eq!(seen.len(), 4);
    disk.sync_dir("dir").unwrap();
    disk.restart(Keep::Nothing);
    assert_eq!(disk.list("dir").unwrap(), ["moved", "new"]);
    assert_eq!(disk.list("").unwrap(), ["dir"]);
}

/// Source: Rebello et al., ATC 2020: after EIO the page looks clean, and is not on the disk.
#[test]
fn a_failed_sync_drops_what_it_could_not_write() {
    let (disk, file) = prepared();
    write(&file, b"lost", 0);
    disk.fail_at(disk.operations(), Fault::Broken);
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    assert_eq!(disk.peek("file").unwrap()[..4], *b"lost", "still to be seen");
    disk.restart(Keep::Everything);
    assert_eq!(disk.peek("file").unwrap()[..4], *b"lost", "as long as the machine runs");
    disk.restart(Keep::Any(1));
    assert_eq!(disk.peek("file").unwrap()[..4], [0; 4]);
}

/// Source: write(2): ENOSPC; blocks that are there can be written again.
#[test]
fn a_full_disk_refuses_growth_only() {
    let (disk, file) = prepared();
    disk.set_capacity(Some(2048));
    assert!(file.write_zeros(2000, 100).unwrap_err().is_full());
    write(&file, &[1; 2048], 0);
    disk.remove("file").unwrap();
    let other = disk.create("other").unwrap();
    other.write_zeros(0, 2048).unwrap();
}

/// Source: open(2): `O_EXCL`; the errors that callers tell apart.
#[test]
fn names_are_made_once_and_missing_ones_are_told() {
    let (disk, _file) = prepared();
    assert!(disk.create("file").is_err());
    assert!(disk.open("nothing").unwrap_err().is_not_found());
    assert!(disk.remove("nothing").unwrap_err().is_not_found());
    assert!(disk.create("nowhere/file").unwrap_err().is_not_found());
    assert!(disk.list("nowhere").unwrap_err().is_not_found());
}

/// Source: bit rot, fault 27: beneath everything.
#[test]
fn rot_changes_what_is_read_and_survives() {
    let (disk, file) = prepared();
    assert!(disk.flip_bit("file", 10, 0));
    assert!(!disk.flip_bit("file", 9999, 0));
    let mut byte = [0];
    assert_eq!(file.read_at(&mut byte, 10).unwrap(), 1);
    assert_eq!(byte, [1]);
    disk.restart(Keep::Nothing);
    assert_eq!(disk.peek("file").unwrap()[10], 1);
}

/// Source: a fault planned at an operation happens there and once.
#[test]
fn faults_happen_at_their_operation() {
    let (disk, file) = prepared();
    disk.fail_at(disk.operations() + 1, Fault::Full);
    write(&file, b"a", 0);
    assert!(file.write_at(&[IoSlice::new(b"b")], 1).unwrap_err().is_full());
    write(&file, b"c", 2);
    disk.fail_at(disk.operations(), Fault::PowerOff);
    assert!(disk.create("more").is_err());
    assert!(disk.is_off());
}
