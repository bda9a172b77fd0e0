//! One simulated node: what survives a crash, and what runs.

use std::collections::VecDeque;
use std::sync::Arc;

use pickbox_raft::disk::Disk;
use pickbox_raft::disk::sim::SimDisk;
use pickbox_raft::wal::{Options, Wal, WalError};
use pickbox_raft_core::event::{LogOp, LogRead, NeedState, ReadPurpose};
use pickbox_raft_core::ids::{Incarnation, Index, IoSeq, LogPosition, NodeId, ReadId, Serial};
use pickbox_raft_core::limits::Limits;
use pickbox_raft_core::log::{Entry, Payload, Proposal};
use pickbox_raft_core::members::Members;
use pickbox_raft_core::time::Time;
use pickbox_raft_core::{Config, Core};

use super::machine::Machine;
use super::random::Random;
use super::shadow::{Change, Shadow, changes};

/// Small, so that all bounds are reached: the usual ones would need megabytes.
const LIMITS: Limits = Limits {
    message_bytes: 600,
    inflight_bytes: 2_000,
    recent_bytes: 3_000,
    uncommitted_bytes: 4_000,
    apply_bytes: 1_200,
};

/// One node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    disk: SimDisk,
    /// What the log on disk must say.
    pub(crate) shadow: Shadow,
    /// The same before the newest batch, and that batch: a record that nothing follows cannot be
    /// told from one that was never synced.
    before_newest: Shadow,
    newest: Vec<Change>,
    /// What was on its way to the disk when the node died: any first part of it may be there.
    unsynced: Vec<Change>,
    /// The state above, as of its last checkpoint.
    pub(crate) checkpoint: Machine,
    /// Counts starts: what was planned for a former run does not happen.
    pub(crate) run: u64,
    pub(crate) paused_until: u64,
    pub(crate) up: Option<Running>,
    pub(crate) health: Health,
}

/// Whether the log on a node's disk is what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It is.
    Sound,
    /// One bit is not.
    Rotten,
    /// The log refused to open, or the node was found to lack what it had: people must replace it.
    Lost,
}

/// What a crash takes away.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) core: Core,
    wal: Wal<SimDisk>,
    /// Waits for the disk.
    jobs: VecDeque<Job>,
    /// What the disk is doing.
    batch: Option<Batch>,
    pub(crate) machine: Machine,
    pub(crate) applying: VecDeque<Arc<Entry>>,
    pub(crate) apply_planned: bool,
    pub(crate) tick_planned: u64,
    pub(crate) client: Client,
    /// Reads, each with what was committed when it began.
    pub(crate) reads: Vec<(ReadId, Index)>,
    pub(crate) need: Option<NeedState>,
}

/// The source of this node's proposals: one at a time, repeated until it is seen.
#[derive(Debug)]
pub(crate) struct Client {
    incarnation: Incarnation,
    serial: Serial,
    /// When it acts next.
    pub(crate) due: u64,
    /// It has said its last word.
    pub(crate) done: bool,
    pub(crate) outstanding: Option<Arc<Proposal>>,
}

#[derive(Debug)]
pub(crate) enum Job {
    Write { ops: Vec<LogOp>, io: IoSeq },
    Read(LogRead),
}

/// What one turn of the disk comes to.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    changes: Vec<Change>,
    pub(crate) io: Option<IoSeq>,
    pub(crate) reads: Vec<(ReadPurpose, Vec<Arc<Entry>>)>,
}

fn damaged(error: &WalError) -> String {
    format!("the log on disk: {error}")
}

fn options(nonce_seed: u64) -> Options {
    Options { segment_bytes: 16 * 1024, nonce_seed }
}

impl Node {
    /// A new node with an empty log.
    pub(crate) fn new(id: NodeId, members: Members) -> Result<Self, String> {
        let disk = SimDisk::new();
        let first = LogOp::Reset { at: LogPosition::default(), members };
        let mut wal =
            Wal::create(disk.clone(), options(id.get())).map_err(|error| damaged(&error))?;
        wal.commit([first]).map_err(|error| damaged(&error))?;
        Ok(Self {
            id,
            disk,
            shadow: Shadow::new(LogPosition::default()),
            unsynced: Vec::new(),
            checkpoint: Machine::default(),
            run: 0,
            paused_until: 0,
            up: None,
            health: Health::Sound,
            before_newest: Shadow::new(LogPosition::default()),
            newest: Vec::new(),
        })
    }

    /// Ends the node at once. `keep` decides what the disk keeps of what was not synced.
    pub(crate) fn crash(&mut self, keep: pickbox_raft::disk::sim::Keep) {
        let Some(up) = self.up.take() else { return };
        self.run += 1;
        self.unsynced = up.batch.map_or_else(Vec::new, |batch| batch.changes);
        self.disk.power_off();
        self.disk.restart(keep);
    }

    /// While the node is down, one bit of its log turns.
    pub(crate) fn rot(&mut self, random: &mut Random) {
        let names = self.disk.list("wal").unwrap_or_default();
        let count = u64::try_from(names.len()).unwrap_or(0);
        let chosen = usize::try_from(random.between(0, count.saturating_sub(1))).unwrap_or(0);
        let Some(path) = names.get(chosen).map(|name| format!("wal/{name}")) else { return };
        let bytes = self.disk.peek(&path).unwrap_or_default();
        // Where something is written, rather than in the zeros behind.
        let written = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
        let offset = random.between(0, u64::try_from(written).unwrap_or(0));
        if self.disk.flip_bit(&path, offset, u8::try_from(random.between(0, 7)).unwrap_or(0)) {
            self.health = Health::Rotten;
        }
    }

    /// Starts from what is on the disk, if that is still what was written.
    pub(crate) fn start(&mut self, now: u64, seed: u64) -> Result<(), String> {
        self.run += 1;
        let (wal, restored) = match Wal::restore(self.disk.clone(), options(seed)) {
            Ok(found) => found,
            Err(_) if self.health != Health::Sound => {
                self.health = Health::Lost;
                return Ok(());
            }
            Err(error) => return Err(damaged(&error)),
        };
        let config = Config { limits: LIMITS, ..Config::new(self.id, seed) };
        let machine = self.checkpoint.clone();
        let core = Core::new(config, restored, machine.at.index, Time::from_micros(now));
        if !self.find_on_disk(&core)? {
            self.health = Health::Lost;
            return Ok(());
        }
        self.health = Health::Sound;
        let client = Client {
            incarnation: Incarnation::new(self.run),
            serial: Serial::ZERO,
            due: 0,
            done: false,
            outstanding: None,
        };
        self.up = Some(Running {
            core,
            wal,
            jobs: VecDeque::new(),
            batch: None,
            machine,
            applying: VecDeque::new(),
            apply_planned: false,
            tick_planned: u64::MAX,
            client,
            reads: Vec::new(),
            need: None,
        });
        Ok(())
    }

    /// What was synced must be there; of the rest a first part may be. `false`: the newest batch
    /// is damaged, and nothing on this disk can tell.
    fn find_on_disk(&mut self, core: &Core) -> Result<bool, String> {
        let unsynced = std::mem::take(&mut self.unsynced);
        if let Some((shadow, found)) = self.shadow.find(&unsynced, core)? {
            if !found.is_empty() {
                self.before_newest = std::mem::replace(&mut self.shadow, shadow);
                self.newest = found.to_vec();
            }
            return Ok(true);
        }
        let is_rotten = self.health == Health::Rotten;
        if is_rotten && self.before_newest.find(&self.newest, core)?.is_some() {
            return Ok(false);
        }
        Err(format!("{} does not find on its disk what it synced", self.id))
    }

    /// Gives the disk its next batch if it is idle. Says whether it has work now.
    pub(crate) fn begin_disk(&mut self) -> Result<bool, String> {
        let Some(up) = &mut self.up else { return Ok(false) };
        if up.batch.is_some() || up.jobs.is_empty() {
            return Ok(false);
        }
        let mut batch = Batch::default();
        for job in up.jobs.drain(..) {
            match job {
                Job::Write { ops, io } => {
                    batch.changes.extend(ops.iter().flat_map(changes));
                    batch.io = Some(io);
                    up.wal.write(ops).map_err(|error| damaged(&error))?;
                }
                Job::Read(LogRead { purpose, from, through }) => {
                    let entries = up.wal.read(from, through).map_err(|error| damaged(&error))?;
                    batch.reads.push((purpose, entries));
                }
            }
        }
        up.batch = Some(batch);
        Ok(true)
    }

    /// The disk is done with its batch.
    pub(crate) fn end_disk(&mut self) -> Result<Batch, String> {
        let Some(up) = &mut self.up else { return Ok(Batch::default()) };
        let mut batch = up.batch.take().unwrap_or_default();
        if batch.io.is_some() {
            up.wal.sync().map_err(|error| damaged(&error))?;
            up.wal.maintain().map_err(|error| damaged(&error))?;
        }
        let changes = std::mem::take(&mut batch.changes);
        if !changes.is_empty() {
            self.before_newest.clone_from(&self.shadow);
            for change in &changes {
                self.shadow.take(change)?;
            }
            self.newest = changes;
        }
        Ok(batch)
    }
}

impl Running {
    pub(crate) fn queue(&mut self, job: Job) {
        self.jobs.push_back(job);
    }
}

impl Client {
    /// The next proposal, once the last one was seen: first the opening of this run.
    pub(crate) fn next(&mut self, origin: NodeId, bytes: usize) -> Arc<Proposal> {
        self.serial = self.serial.next();
        let payload = if self.serial == Serial::new(1) {
            Payload::Open { name: format!("node{origin}") }
        } else {
            Payload::Data(vec![7; bytes])
        };
        let proposal = Arc::new(Proposal {
            origin,
            incarnation: self.incarnation,
            serial: self.serial,
            holders: None,
            payload,
        });
        self.outstanding = Some(Arc::clone(&proposal));
        proposal
    }

    /// Takes note of an applied entry: it may be the one that is waited for.
    pub(crate) fn settle(&mut self, proposal: &Proposal) -> bool {
        let waits = self.outstanding.as_ref().is_some_and(|own| {
            own.origin == proposal.origin
                && own.incarnation == proposal.incarnation
                && own.serial == proposal.serial
        });
        if waits {
            self.outstanding = None;
        }
        waits
    }
}
