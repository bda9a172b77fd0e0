//! One simulated node: what survives a crash, and what runs.

use std::collections::VecDeque;
use std::sync::Arc;

use pickbox_raft::disk::Disk;
use pickbox_raft::disk::sim::{Keep, SECTOR_BYTES, SimDisk};
use pickbox_raft::wal::{Options, Wal, WalError};
use pickbox_raft_core::event::{LogOp, LogRead, NeedState, ReadPurpose};
use pickbox_raft_core::ids::{Incarnation, Index, IoSeq, LogPosition, NodeId, ReadId, Serial};
use pickbox_raft_core::limits::Limits;
use pickbox_raft_core::log::{Entry, Payload, Proposal};
use pickbox_raft_core::members::Members;
use pickbox_raft_core::time::Time;
use pickbox_raft_core::{Config, Core, PreVote};

use super::clock::Clock;
use super::faults::Deed;
use super::machine::Machine;
use super::random::Random;
use super::shadow::{Change, Shadow, changes};

/// What a node said last has arrived after so long, or never will.
const LAST_WORDS_US: u64 = 5_000_000;

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
    pub(crate) disk: SimDisk,
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
    /// The disk and what stands above, as of some moment before.
    past: Option<Box<Past>>,
    /// Whom it went by when it ended, and when that was.
    members: Members,
    ended_at: u64,
    /// Counts starts: what was planned for a former run does not happen.
    pub(crate) run: u64,
    pub(crate) paused_until: u64,
    pub(crate) clock: Clock,
    /// So long its disk takes many times longer.
    pub(crate) slow_until: u64,
    /// So long its disk ends nothing.
    pub(crate) hangs_until: u64,
    pub(crate) up: Option<Running>,
    pub(crate) health: Health,
}

/// What a disk held once.
#[derive(Debug)]
struct Past {
    disk: SimDisk,
    shadow: Shadow,
    /// What was on its way to it: a batch that spans segments is synced in parts.
    unsynced: Vec<Change>,
    checkpoint: Machine,
}

/// Whether the log on a node's disk is what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It is.
    Sound,
    /// Something else was done to it.
    Rotten(Deed),
    /// The log refused to open, or the node was found to lack what it had: people must replace it.
    Lost,
    /// It was a member, is none any more, and was switched off.
    Retired,
}

/// What came of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Started {
    /// It runs.
    Up,
    /// Its disk refuses to work: it ended again.
    Later,
    /// It must not run.
    Lost,
}

/// What a node's disk does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing.
    Idle,
    /// It has a batch now.
    Busy,
    /// It failed: the node must end.
    Failed,
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
    /// It says behind its newest batch that it was synced.
    confirms: bool,
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
    /// When it thought of what is outstanding.
    pub(crate) asked_at: u64,
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
    /// There is no space for all of it.
    waits: bool,
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
        let first = LogOp::Reset { at: LogPosition::default(), members: members.clone() };
        let mut wal =
            Wal::create(disk.clone(), options(id.get())).map_err(|error| damaged(&error))?;
        wal.commit([first]).map_err(|error| damaged(&error))?;
        Ok(Self {
            id,
            disk,
            shadow: Shadow::new(members.clone()),
            unsynced: Vec::new(),
            checkpoint: Machine::default(),
            past: None,
            members,
            ended_at: 0,
            run: 0,
            paused_until: 0,
            clock: Clock::default(),
            slow_until: 0,
            hangs_until: 0,
            up: None,
            health: Health::Sound,
            before_newest: Shadow::default(),
            newest: Vec::new(),
        })
    }

    /// Whom it goes by, or went by when it ended.
    pub(crate) fn members(&self) -> &Members {
        self.up.as_ref().map_or(&self.members, |up| up.core.members())
    }

    /// Whether what it said last may still matter: it will speak again, or its last messages are
    /// on their way.
    pub(crate) fn counts(&self, now: u64) -> bool {
        let is_over = matches!(self.health, Health::Lost | Health::Retired);
        !is_over || now < self.ended_at + LAST_WORDS_US
    }

    /// Ends it for good.
    pub(crate) fn retire(&mut self) {
        if let Some(up) = self.up.take() {
            self.run += 1;
            self.members = up.core.members().clone();
        }
        self.health = Health::Retired;
    }

    /// All that hurts it ends, except what is wrong on its disk.
    pub(crate) fn heal(&mut self, now: u64) {
        (self.paused_until, self.slow_until, self.hangs_until) = (0, 0, 0);
        self.clock.run_as_usual(now);
        self.disk.clear_faults();
        self.disk.set_capacity(None);
        if let Some(up) = &mut self.up {
            up.tick_planned = u64::MAX;
        }
    }

    /// Whether something is on its way to the disk.
    pub(crate) fn is_syncing(&self) -> bool {
        let batch = self.up.as_ref().and_then(|up| up.batch.as_ref());
        batch.is_some_and(|batch| batch.io.is_some())
    }

    /// Ends the node at once. `keep` decides what the disk keeps of what was not synced.
    pub(crate) fn crash(&mut self, keep: Keep, now: u64) {
        let Some(up) = self.up.take() else { return };
        self.run += 1;
        self.ended_at = now;
        self.members = up.core.members().clone();
        self.unsynced = up.batch.map_or_else(Vec::new, |batch| batch.changes);
        self.disk.power_off();
        self.disk.restart(keep);
    }

    /// Starts from what is on the disk, if that is still what was written.
    pub(crate) fn start(
        &mut self,
        now: u64,
        seed: u64,
        pre_vote: PreVote,
    ) -> Result<Started, String> {
        self.run += 1;
        let (wal, restored) = match Wal::restore(self.disk.clone(), options(seed)) {
            Ok(found) => found,
            Err(WalError::Disk(_) | WalError::Full(_)) => {
                self.disk.restart(Keep::Everything);
                return Ok(Started::Later);
            }
            Err(_) if self.health != Health::Sound => {
                self.health = Health::Lost;
                return Ok(Started::Lost);
            }
            Err(error) => return Err(damaged(&error)),
        };
        let config = Config { limits: LIMITS, pre_vote, ..Config::new(self.id, seed) };
        let machine = self.checkpoint.clone();
        let time = Time::from_micros(self.clock.read(now));
        let core = Core::new(config, restored, machine.at.index, time);
        if !self.find_on_disk(&core)? {
            self.health = Health::Lost;
            return Ok(Started::Lost);
        }
        self.health = Health::Sound;
        let client = Client {
            incarnation: Incarnation::new(self.run),
            serial: Serial::ZERO,
            due: 0,
            done: false,
            asked_at: now,
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
            confirms: seed.is_multiple_of(2),
        });
        Ok(Started::Up)
    }

    /// What was synced must be there; of the rest a first part may be. `false`: something is
    /// missing, and nothing on this disk can tell.
    fn find_on_disk(&mut self, core: &Core) -> Result<bool, String> {
        let unsynced = std::mem::take(&mut self.unsynced);
        if let Some((shadow, found)) = self.shadow.find(&unsynced, core)? {
            if !found.is_empty() {
                self.before_newest = std::mem::replace(&mut self.shadow, shadow);
                self.newest = found.to_vec();
            }
            return Ok(true);
        }
        match self.health {
            Health::Rotten(Deed::BitFlip)
                if self.before_newest.find(&self.newest, core)?.is_some() =>
            {
                Ok(false)
            }
            Health::Rotten(Deed::OldImage) => {
                let Some(past) = &self.past else { return Ok(false) };
                match past.shadow.find(&past.unsynced, core)? {
                    Some(_) => Ok(false),
                    None => Err(format!("{} does not find what an old image holds", self.id)),
                }
            }
            // A whole block of the end: all records in it are gone, and what said so of them.
            Health::Rotten(Deed::Misdirected | Deed::StaleBlock) => Ok(false),
            _ => Err(format!("{} does not find on its disk what it synced", self.id)),
        }
    }

    /// Gives the disk its next batch if it is idle.
    pub(crate) fn begin_disk(&mut self) -> Result<Turn, String> {
        let Some(up) = &mut self.up else { return Ok(Turn::Idle) };
        if up.batch.is_some() || up.jobs.is_empty() {
            return Ok(Turn::Idle);
        }
        let batch = up.batch.insert(Batch::default());
        while let Some(job) = up.jobs.pop_front() {
            match job {
                Job::Write { ops, io } => {
                    batch.take(&ops, io);
                    match up.wal.write(ops) {
                        Ok(()) => {}
                        Err(WalError::Full(_)) => {
                            batch.waits = true;
                            break;
                        }
                        Err(WalError::Disk(_)) => return Ok(Turn::Failed),
                        Err(error) => return Err(damaged(&error)),
                    }
                }
                Job::Read(LogRead { purpose, from, through }) => {
                    let entries = up.wal.read(from, through).map_err(|error| damaged(&error))?;
                    batch.reads.push((purpose, entries));
                }
            }
        }
        Ok(Turn::Busy)
    }

    /// The disk is done with its batch, unless it waits for space.
    pub(crate) fn end_disk(&mut self) -> Result<(Turn, Batch), String> {
        let Some(up) = &mut self.up else { return Ok((Turn::Idle, Batch::default())) };
        match up.sync_batch() {
            Ok(()) => {}
            Err(WalError::Full(_)) => return Ok((Turn::Busy, Batch::default())),
            Err(WalError::Disk(_)) => return Ok((Turn::Failed, Batch::default())),
            Err(error) => return Err(damaged(&error)),
        }
        let mut batch = up.batch.take().unwrap_or_default();
        let changes = std::mem::take(&mut batch.changes);
        if !changes.is_empty() {
            self.before_newest.clone_from(&self.shadow);
            for change in &changes {
                self.shadow.take(change)?;
            }
            self.newest = changes;
        }
        Ok((Turn::Idle, batch))
    }
}

impl Batch {
    fn take(&mut self, ops: &[LogOp], io: IoSeq) {
        self.changes.extend(ops.iter().flat_map(changes));
        self.io = Some(io);
    }
}

/// What happens to disks.
impl Node {
    /// Keeps the disk as it is now, for later.
    pub(crate) fn remember(&mut self) {
        let (shadow, checkpoint) = (self.shadow.clone(), self.checkpoint.clone());
        let batch = self.up.as_ref().and_then(|up| up.batch.as_ref());
        let unsynced = batch.map(|batch| batch.changes.clone()).unwrap_or_default();
        self.past = Some(Box::new(Past { disk: self.disk.fork(), shadow, unsynced, checkpoint }));
    }

    /// While the node is down, something is done to its disk. Says whether that changed anything.
    pub(crate) fn rot(&mut self, deed: Deed, random: &mut Random) -> bool {
        let changed = match deed {
            Deed::BitFlip => self.flip_bit(random),
            Deed::Misdirected => self.misdirect(random),
            Deed::StaleBlock => self.age_block(random),
            Deed::OldImage => self.age(),
            _ => {
                self.disk = SimDisk::new();
                self.health = Health::Lost;
                return true;
            }
        };
        if changed {
            self.health = Health::Rotten(deed);
        }
        changed
    }

    fn pick_file(&self, random: &mut Random) -> Option<(String, Vec<u8>)> {
        let names = self.disk.list("wal").unwrap_or_default();
        let chosen = random.below(names.len());
        let path = names.get(chosen).map(|name| format!("wal/{name}"))?;
        let bytes = self.disk.peek(&path)?;
        Some((path, bytes))
    }

    fn flip_bit(&mut self, random: &mut Random) -> bool {
        let Some((path, bytes)) = self.pick_file(random) else { return false };
        // Where something is written, rather than in the zeros behind.
        let written = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
        let offset = random.between(0, u64::try_from(written).unwrap_or(0));
        self.disk.flip_bit(&path, offset, u8::try_from(random.between(0, 7)).unwrap_or(0))
    }

    /// A block that stands somewhere stands somewhere else too.
    fn misdirect(&mut self, random: &mut Random) -> bool {
        let Some((_, source)) = self.pick_file(random) else { return false };
        let Some((path, mut bytes)) = self.pick_file(random) else { return false };
        let written = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) / SECTOR_BYTES;
        let from = random.below(source.len() / SECTOR_BYTES);
        put_block(&mut bytes, random.below(written + 1), &source, from)
            && self.change_file(&path, &bytes)
    }

    /// A block says what it said some time ago.
    fn age_block(&mut self, random: &mut Random) -> bool {
        let Some((path, mut bytes)) = self.pick_file(random) else { return false };
        let old = self.past.as_ref().and_then(|past| past.disk.peek(&path)).unwrap_or_default();
        let sectors = bytes.chunks(SECTOR_BYTES).zip(old.chunks(SECTOR_BYTES)).enumerate();
        let changed: Vec<usize> =
            sectors.filter(|(_, (new, old))| new != old).map(|(place, _)| place).collect();
        let Some(place) = random.pick(&changed) else { return false };
        put_block(&mut bytes, place, &old, place) && self.change_file(&path, &bytes)
    }

    fn change_file(&self, path: &str, bytes: &[u8]) -> bool {
        self.disk.poke(path, bytes);
        true
    }

    /// The whole disk is what it was some time ago.
    fn age(&mut self) -> bool {
        let Some(past) = self.past.as_ref().filter(|past| past.shadow != self.shadow) else {
            return false;
        };
        self.disk = past.disk.fork();
        self.disk.restart(Keep::Nothing);
        self.checkpoint = past.checkpoint.clone();
        self.unsynced.clear();
        true
    }
}

/// Puts a block of other bytes into these. Says whether that changed anything.
fn put_block(bytes: &mut [u8], to: usize, other: &[u8], from: usize) -> bool {
    let block = |place: usize| place * SECTOR_BYTES..(place + 1) * SECTOR_BYTES;
    match (bytes.get_mut(block(to)), other.get(block(from))) {
        (Some(old), Some(new)) if old != new => {
            old.copy_from_slice(new);
            true
        }
        _ => false,
    }
}

impl Running {
    pub(crate) fn queue(&mut self, job: Job) {
        self.jobs.push_back(job);
    }

    /// Writes what had no space, syncs, and looks after the log, as the log writer does.
    fn sync_batch(&mut self) -> Result<(), WalError> {
        let Some(batch) = &mut self.batch else { return Ok(()) };
        if batch.waits {
            // What was asked for meanwhile joins: there may be a compaction in it, that is space.
            let mut more = Vec::new();
            while let Some(Job::Write { .. }) = self.jobs.front() {
                let Some(Job::Write { ops, io }) = self.jobs.pop_front() else { break };
                batch.take(&ops, io);
                more.extend(ops);
            }
            self.wal.write(more)?;
            batch.waits = false;
        }
        if batch.io.is_some() {
            self.wal.sync()?;
            match self.wal.maintain() {
                Ok(_) | Err(WalError::Full(_)) => {}
                Err(error) => return Err(error),
            }
            if self.confirms && self.jobs.is_empty() {
                self.wal.confirm()?;
            }
        }
        Ok(())
    }
}

impl Client {
    /// The next proposal, once the last one was seen: first the opening of this run.
    pub(crate) fn next(&mut self, origin: NodeId, bytes: usize, now: u64) -> Arc<Proposal> {
        self.asked_at = now;
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
