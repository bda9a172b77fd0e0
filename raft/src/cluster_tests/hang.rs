//! A disk that hangs, under a whole node.

use std::io::IoSlice;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use crossbeam_channel::bounded;
use pickbox_raft_core::ids::LogPosition;

use super::rig::thread;
use crate::api::Command;
use crate::disk::sim::{SimDisk, SimFile};
use crate::disk::{Disk, DiskFile, DiskResult};
use crate::keys::KeyRing;
use crate::net::tests::rig::wait_until;
use crate::{Options, Parts, Start, open};

/// Holds up every sync for as long as it is closed.
#[derive(Debug, Default)]
struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
    waiting: AtomicBool,
}

impl Gate {
    fn pass(&self) {
        let closed = self.closed.lock().unwrap();
        self.waiting.store(*closed, Ordering::SeqCst);
        drop(self.opened.wait_while(closed, |closed| *closed).unwrap());
    }

    fn set(&self, closed: bool) {
        *self.closed.lock().unwrap() = closed;
        self.opened.notify_all();
    }
}

#[derive(Clone, Debug, Default)]
struct HangingDisk {
    disk: SimDisk,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct HangingFile {
    file: SimFile,
    gate: Arc<Gate>,
}

impl HangingDisk {
    fn file(&self, file: SimFile) -> HangingFile {
        HangingFile { file, gate: Arc::clone(&self.gate) }
    }
}

impl Disk for HangingDisk {
    type File = HangingFile;

    fn open(&self, path: &str) -> DiskResult<HangingFile> {
        self.disk.open(path).map(|file| self.file(file))
    }

    fn create(&self, path: &str) -> DiskResult<HangingFile> {
        self.disk.create(path).map(|file| self.file(file))
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

impl DiskFile for HangingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> DiskResult<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> DiskResult<()> {
        self.file.write_at(parts, offset)
    }

    fn sync_data(&self) -> DiskResult<()> {
        self.gate.pass();
        self.file.sync_data()
    }

    fn length(&self) -> DiskResult<u64> {
        self.file.length()
    }
}

/// A node of one, on that disk.
fn parts(disk: &HangingDisk) -> Parts<HangingDisk> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let keys = KeyRing::load_or_create(disk).unwrap();
    open(Options {
        disk: disk.clone(),
        listener,
        keys,
        name: "node1".to_owned(),
        address,
        start: Start::Bootstrap,
        applied: LogPosition::default(),
        installed: None,
        runs: crate::net::Runs::new(),
        trace: None,
        cancelled: &AtomicBool::new(false),
    })
    .unwrap()
}

/// Source: `sd_notify(3)`, `WATCHDOG=1`: the log is at work only if both of its threads are.
#[test]
fn a_log_whose_disk_hangs_has_no_pulse() {
    let disk = HangingDisk::default();
    let Parts { consensus, log_writer, bulk, handle, .. } = parts(&disk);
    // It stands for election, and its vote for itself is to be synced.
    disk.gate.set(true);
    let log_writer = thread("log-writer", move || log_writer.run());
    let bulk = thread("bulk", move || bulk.run().expect("bulk runs"));
    let consensus = thread("consensus", move || drop(consensus.run()));
    wait_until("the disk hangs", || disk.gate.waiting.load(Ordering::SeqCst));
    let (reply, beats) = bounded(1);
    assert!(handle.try_send(Command::Pulse(reply)));
    let (reply, status) = bounded(1);
    handle.send(Command::Status(reply)).unwrap();
    status.recv().unwrap();
    assert!(beats.is_empty(), "consensus is at work, the log writer hangs");
    disk.gate.set(false);
    beats.recv().unwrap();
    handle.send(Command::Shutdown).unwrap();
    for thread in [consensus, log_writer, bulk] {
        thread.join().unwrap();
    }
}

/// checklist 140: told to stop while its disk hangs in a sync, the log ends all the same; what was
/// on its way to the disk ends when the disk does.
#[test]
fn a_disk_that_hangs_does_not_hold_up_the_end() {
    let disk = HangingDisk::default();
    let parts = parts(&disk);
    disk.gate.set(true);
    let (consensus, log_writer, bulk) = (parts.consensus, parts.log_writer, parts.bulk);
    let gate = parts.gate;
    let consensus = thread("consensus", move || drop(consensus.run()));
    let log_writer = thread("log-writer", move || log_writer.run());
    let bulk = thread("bulk", move || bulk.run().expect("bulk runs"));
    let gate = thread("gate", move || gate.run().expect("the gate runs"));
    wait_until("the disk hangs", || disk.gate.waiting.load(Ordering::SeqCst));
    parts.handle.send(Command::Shutdown).unwrap();
    wait_until("the consensus ends", || consensus.is_finished());
    assert!(!log_writer.is_finished(), "the disk still hangs");
    disk.gate.set(false);
    for thread in [consensus, log_writer, bulk, gate] {
        thread.join().unwrap();
    }
}
