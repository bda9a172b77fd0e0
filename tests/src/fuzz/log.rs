//! A log on a disk that is not what was written: it opens as something that can be, or it says why
//! not, and what opened once opens again as the same.

use std::sync::{Arc, OnceLock};

use pickbox_raft::disk::Disk;
use pickbox_raft::disk::sim::{Keep, SimDisk};
use pickbox_raft::wal::{Options, Wal};
use pickbox_raft_core::event::LogOp;
use pickbox_raft_core::ids::{Fingerprint, Incarnation, Index, LogPosition, NodeId, Serial, Term};
use pickbox_raft_core::log::{Content, Entry, HardState, Payload, Proposal};
use pickbox_raft_core::members::Members;

const OPTIONS: Options = Options { segment_bytes: 8 * 1024, nonce_seed: 7 };
/// What one change says: which file, where, how many bytes, and these.
const CHANGE_BYTES: usize = 4;

/// A disk with a log of three segments.
fn disk() -> SimDisk {
    static DISK: OnceLock<SimDisk> = OnceLock::new();
    // A clone would be the same disk.
    DISK.get_or_init(write_one).fork()
}

fn write_one() -> SimDisk {
    let disk = SimDisk::new();
    let Ok(mut wal) = Wal::create(disk.clone(), OPTIONS) else { return disk };
    let members = Members::bootstrap("node1".into(), "host:1".into(), Fingerprint([1; 32]));
    let first = LogOp::Reset { at: LogPosition::default(), members };
    let mut written = wal.commit([first]);
    for index in 1..=40 {
        let entry = Arc::new(entry(index));
        let voted_for = Some(NodeId::new(1));
        let state = LogOp::HardState(HardState { term: entry.term, voted_for });
        written = written.and_then(|()| wal.commit([state, LogOp::Append(vec![entry])]));
        written = written.and_then(|()| wal.maintain().map(|_| ()));
    }
    let cut = LogOp::Truncate { from: Index::new(40) };
    written = written.and_then(|()| wal.commit([cut]));
    written = written.and_then(|()| wal.confirm());
    assert!(written.is_ok(), "a disk that works: {written:?}");
    disk
}

/// What was written at this index.
fn entry(index: u64) -> Entry {
    let proposal = Proposal {
        origin: NodeId::new(1),
        incarnation: Incarnation::new(1),
        serial: Serial::new(index),
        holders: None,
        payload: Payload::Data(vec![7; 100]),
    };
    let is_noop = index.is_multiple_of(7);
    let content = if is_noop { Content::Noop } else { Content::Proposal(proposal) };
    Entry { index: Index::new(index), term: Term::new(1 + index / 10), content }
}

/// Changes the disk as the bytes say, then opens the log.
pub(super) fn recover(bytes: &[u8]) {
    let disk = disk();
    let names = disk.list("wal").unwrap_or_default();
    let mut rest = bytes;
    while let Some(([file, high, low, count], more)) = rest.split_first_chunk::<CHANGE_BYTES>() {
        let new = more.get(..usize::from(*count)).unwrap_or(more);
        rest = more.get(new.len()..).unwrap_or_default();
        let Some(name) = names.get(usize::from(*file) % names.len().max(1)) else { return };
        let path = format!("wal/{name}");
        let mut content = disk.peek(&path).unwrap_or_default();
        let at = usize::from(u16::from_be_bytes([*high, *low]));
        match content.get_mut(at..at + new.len()) {
            Some(old) if !new.is_empty() => old.copy_from_slice(new),
            // Nothing to write: the file ends here.
            Some(_) => content.truncate(at),
            None => content.extend_from_slice(new),
        }
        disk.poke(&path, &content);
    }
    open(&disk);
}

fn open(disk: &SimDisk) {
    let Ok((mut wal, restored)) = Wal::restore(disk.clone(), OPTIONS) else { return };
    let (base, last) = (restored.base(), restored.last());
    if base.index < last.index {
        let read = wal.read(base.index.next(), last.index).unwrap_or_default();
        assert!(!read.is_empty(), "what opened can be read");
        // Who sees the comparisons of checksums, as libFuzzer does, can forge them.
        let is_true = |found: &Arc<Entry>| **found == entry(found.index.get());
        assert!(cfg!(fuzzing) || read.iter().all(is_true), "what opened is what was written");
    }
    let entry = Arc::new(Entry {
        index: last.index.next(),
        term: last.term.max(restored.hard_state().term),
        content: Content::Noop,
    });
    let position = entry.position();
    assert!(wal.commit([LogOp::Append(vec![entry])]).is_ok(), "what opened can be written to");
    drop(wal);
    disk.restart(Keep::Nothing);
    let again = Wal::restore(disk.clone(), OPTIONS).map(|(_, restored)| restored.last());
    assert_eq!(again.ok(), Some(position), "what was synced is there");
}

/// Changes that are worth changing.
pub(super) fn examples() -> Vec<Vec<u8>> {
    let disk = disk();
    let mut examples = vec![Vec::new(), vec![0, 0, 0, 0]];
    for (file, name) in disk.list("wal").unwrap_or_default().iter().enumerate() {
        let content = disk.peek(&format!("wal/{name}")).unwrap_or_default();
        let file = u8::try_from(file).unwrap_or(0);
        // Pieces of the file itself, one where it stands and one where it does not.
        for at in [0_u16, 64, 4_096, 4_160, 5_000, 8_000] {
            let from = usize::from(at);
            let piece = content.get(from..from + 128).unwrap_or_default();
            for to in [at, at + 64] {
                let [high, low] = to.to_be_bytes();
                examples.push([&[file, high, low, 128], piece].concat());
            }
        }
    }
    examples
}
