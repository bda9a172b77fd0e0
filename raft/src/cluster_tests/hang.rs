//! A disk that hangs, under a whole node.

use std::io::IoSlice;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use pickbox_raft_core::ids::LogPosition;

use super::rig::thread;
use crate::api::Command;
use crate::disk::sim::{SimDisk, SimFile};
use crate::disk::{Disk, DiskFile, DiskResult};
use crate::net::tests::rig::wait_until;
use crate::{Options, Start, open};

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

/// checklist 140: told to stop while its disk hangs in a sync, the log ends all the same; what was
/// on its way to the disk ends when the disk does.
#[test]
fn a_disk_that_hangs_does_not_hold_up_the_end() {
    let disk = HangingDisk::default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let parts = open(Options {
        disk: disk.clone(),
        listener,
        name: "node1".to_owned(),
        address,
        start: Start::Bootstrap,
        applied: LogPosition::default(),
        installed: None,
        runs: crate::net::Runs::new(),
        trace: None,
        cancelled: &AtomicBool::new(false),
    })
    .unwrap();
    disk.gate.set(true);
    let (consensus, log_writer, bulk) = (parts.consensus, parts.log_writer, parts.bulk);
    let consensus = thread("consensus", move || drop(consensus.run()));
    let log_writer = thread("log-writer", move || log_writer.run());
    let bulk = thread("bulk", move || bulk.run().expect("bulk runs"));
    wait_until("the disk hangs", || disk.gate.waiting.load(Ordering::SeqCst));
    parts.handle.send(Command::Shutdown).unwrap();
    wait_until("the consensus ends", || consensus.is_finished());
    assert!(!log_writer.is_finished(), "the disk still hangs");
    disk.gate.set(false);
    for thread in [consensus, log_writer, bulk] {
        thread.join().unwrap();
    }
}
