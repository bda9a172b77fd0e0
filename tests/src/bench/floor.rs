//! What the disk, the loopback and the processor do at best, by plain system calls.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pickbox_raft::clock;

use super::figures::{Sample, number};
use super::work::{FILE_BYTES, PACE, file_content, write_burst};

const EDIT_BYTES: usize = 1024;
/// The file that stands for a log: written in a ring, its blocks allocated before.
const LOG_BYTES: u64 = 4 << 20;
const MIB: usize = 1 << 20;

/// One edit of 1 KiB, paced as the real ones: written and synced here in parallel with being sent
/// to a follower that writes and syncs it too and answers with one byte; then written beside and
/// renamed into place in three directories. Nothing is watched or found.
pub(super) fn latency(root: &Path, count: usize) -> Sample {
    let root = root.join("floor-latency");
    let folders: Vec<PathBuf> = (1..=3).map(|node| root.join(format!("n{node}"))).collect();
    make_all(&folders);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("a port");
    let follower_log = prepared_log(&root.join("log2"));
    let leader_log = prepared_log(&root.join("log1"));
    std::thread::scope(|scope| {
        scope.spawn(move || follow(&listener, &follower_log));
        let mut peer = TcpStream::connect(address).expect("the follower");
        peer.set_nodelay(true).expect("a socket");
        let edits = (0..count).map(|number| {
            std::thread::sleep(PACE);
            edit(number, &leader_log, &mut peer, &folders)
        });
        Sample::new(edits.collect())
    })
}

/// What a write of 1 KiB to a prepared log and its `fdatasync` take, one after the other.
pub(super) fn log_sync(root: &Path, count: usize) -> Sample {
    let log = prepared_log(&root.join("floor-log"));
    let content = file_content(0, EDIT_BYTES);
    let writes = (0..count).map(|number| {
        let begun = clock::now();
        append(&log, number, &content);
        begun.elapsed()
    });
    Sample::new(writes.collect())
}

fn make_all(folders: &[PathBuf]) {
    for folder in folders {
        fs::create_dir_all(folder).expect("a directory");
    }
}

fn prepared_log(path: &Path) -> File {
    let log = File::create(path).expect("a log");
    let zeros = vec![0; usize::try_from(LOG_BYTES).expect("small")];
    log.write_all_at(&zeros, 0).and_then(|()| log.sync_all()).expect("a log");
    log
}

fn append(log: &File, number: usize, content: &[u8]) {
    let offset = u64::try_from(number * EDIT_BYTES).expect("small") % LOG_BYTES;
    log.write_all_at(content, offset).and_then(|()| log.sync_data()).expect("a log");
}

fn follow(listener: &TcpListener, log: &File) {
    let (mut peer, _) = listener.accept().expect("the leader");
    peer.set_nodelay(true).expect("a socket");
    let mut content = [0; EDIT_BYTES];
    let mut number = 0;
    while peer.read_exact(&mut content).is_ok() {
        append(log, number, &content);
        peer.write_all(b"k").expect("the leader");
        number += 1;
    }
}

fn edit(number: usize, log: &File, peer: &mut TcpStream, folders: &[PathBuf]) -> Duration {
    let content = file_content(number, EDIT_BYTES);
    let begun = clock::now();
    peer.write_all(&content).expect("the follower");
    append(log, number, &content);
    peer.read_exact(&mut [0]).expect("the follower");
    for folder in folders {
        let beside = folder.join(format!(".t{number}"));
        fs::write(&beside, &content).expect("a file");
        fs::rename(&beside, folder.join(format!("f{number}"))).expect("a file");
    }
    begun.elapsed()
}

/// Files a second: three threads write the same files into three directories, then one `syncfs`.
pub(super) fn burst(root: &Path, count: usize) -> f64 {
    let root = root.join("floor-burst");
    let folders: Vec<PathBuf> = (1..=3).map(|node| root.join(format!("n{node}"))).collect();
    make_all(&folders);
    sync(&root);
    let begun = clock::now();
    std::thread::scope(|scope| {
        for folder in &folders {
            scope.spawn(move || write_burst(folder, count, FILE_BYTES));
        }
    });
    sync(&root);
    number(count) / begun.elapsed().as_secs_f64()
}

/// A large file to copy, and MB a second of three copies at once, each synced.
pub(super) fn large(root: &Path, mib: usize) -> (PathBuf, f64) {
    let root = root.join("floor-large");
    fs::create_dir_all(&root).expect("a directory");
    let source = root.join("source");
    let mut file = File::create(&source).expect("a file");
    (0..mib).for_each(|number| file.write_all(&file_content(number, MIB)).expect("a file"));
    drop(file);
    sync(&root);
    let begun = clock::now();
    std::thread::scope(|scope| {
        for node in 1..=3 {
            let (source, copy) = (&source, root.join(format!("n{node}")));
            scope.spawn(move || copy_synced(source, &copy).expect("a copy"));
        }
    });
    let rate = number(mib * MIB / 1000) / 1000.0 / begun.elapsed().as_secs_f64();
    (source, rate)
}

fn copy_synced(source: &Path, copy: &Path) -> io::Result<()> {
    let (mut from, mut to) = (File::open(source)?, File::create(copy)?);
    let mut chunk = vec![0; MIB];
    loop {
        let count = from.read(&mut chunk)?;
        if count == 0 {
            return to.sync_all();
        }
        to.write_all(&chunk[..count])?;
    }
}

fn sync(path: &Path) {
    let directory = File::open(path).expect("a directory");
    rustix::fs::syncfs(directory).expect("a file system");
}
