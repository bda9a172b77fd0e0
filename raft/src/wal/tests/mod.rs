//! Stories of the log on a simulated disk.

use std::sync::Arc;

use pickbox_raft_core::Restored;
use pickbox_raft_core::event::LogOp;
use pickbox_raft_core::ids::{Fingerprint, Incarnation, Index, LogPosition, NodeId, Serial, Term};
use pickbox_raft_core::log::{Content, Entry, HardState, Payload, Proposal};
use pickbox_raft_core::members::{Member, MemberRole, Members};

use super::{Maintained, Options, Wal, WalError};
use crate::disk::sim::{Keep, SimDisk};

mod basics;
mod crashes;
mod damage;
mod model;
mod mutations;
mod random;

/// Small segments: one page of header, three pages of records.
const OPTIONS: Options = Options { segment_bytes: 16 * 1024, nonce_seed: 7 };
/// The smallest ones, for tests that live many lives.
const TINY: Options = Options { segment_bytes: super::SEGMENT_BYTES_MIN, nonce_seed: 7 };

fn position(index: u64, term: u64) -> LogPosition {
    LogPosition { index: Index::new(index), term: Term::new(term) }
}

fn hard_state(term: u64) -> LogOp {
    LogOp::HardState(vote(term))
}

fn vote(term: u64) -> HardState {
    HardState { term: Term::new(term), voted_for: Some(NodeId::new(1)) }
}

/// An entry with this many bytes of data, which tell it from others.
fn entry(index: u64, term: u64, bytes: usize) -> Entry {
    let data = format!("{index}/{term}.").into_bytes().into_iter().cycle().take(bytes).collect();
    let proposal = Proposal {
        origin: NodeId::new(1),
        incarnation: Incarnation::new(1),
        serial: Serial::new(index),
        holders: None,
        payload: Payload::Data(data),
    };
    Entry { index: Index::new(index), term: Term::new(term), content: Content::Proposal(proposal) }
}

fn append(index: u64, term: u64, bytes: usize) -> LogOp {
    LogOp::Append(vec![Arc::new(entry(index, term, bytes))])
}

fn members(count: u64) -> Members {
    let member = |id| Member {
        id: NodeId::new(id),
        name: format!("node{id}"),
        address: format!("127.0.0.1:{}", 8000 + id),
        role: MemberRole::Voter,
        key: Some(Fingerprint([u8::try_from(id).unwrap(); 32])),
    };
    Members {
        members: (1..=count).map(member).collect(),
        next_id: NodeId::new(count + 1),
        ..Members::default()
    }
}

fn compact(index: u64, term: u64) -> LogOp {
    LogOp::Compact { through: position(index, term), members: members(1) }
}

fn reset(index: u64, term: u64) -> LogOp {
    LogOp::Reset { at: position(index, term), members: members(1) }
}

fn created() -> (SimDisk, Wal<SimDisk>) {
    let disk = SimDisk::new();
    let wal = Wal::create(disk.clone(), OPTIONS).unwrap();
    (disk, wal)
}

fn reopen(disk: &SimDisk) -> Result<(Wal<SimDisk>, Restored), WalError> {
    reopen_with(disk, OPTIONS)
}

fn reopen_with(disk: &SimDisk, options: Options) -> Result<(Wal<SimDisk>, Restored), WalError> {
    // Each opening draws another seed.
    Wal::restore(disk.clone(), Options { nonce_seed: disk.operations() + 100, ..options })
}

/// Cuts the power, keeps what was synced, opens again.
fn after_power_cut(disk: &SimDisk) -> (Wal<SimDisk>, Restored) {
    disk.power_off();
    disk.restart(Keep::Nothing);
    reopen(disk).unwrap()
}

fn maintain_all(wal: &mut Wal<SimDisk>) {
    while wal.maintain().unwrap() == Maintained::More {}
}

/// All that can be read of the log, as (index, term, bytes of data).
fn contents(wal: &Wal<SimDisk>) -> Vec<(u64, u64, Vec<u8>)> {
    let entries = wal.read(wal.base().index.next(), wal.last().index).unwrap();
    entries.iter().map(|entry| (entry.index.get(), entry.term.get(), data(entry))).collect()
}

fn data(entry: &Entry) -> Vec<u8> {
    match &entry.content {
        Content::Proposal(Proposal { payload: Payload::Data(data), .. }) => data.clone(),
        _ => Vec::new(),
    }
}

fn segments(disk: &SimDisk) -> Vec<String> {
    use crate::disk::Disk;
    disk.list("wal").unwrap()
}
