//! The body of the `log-writer` thread: it owns the write-ahead log and syncs for the consensus.
//!
//! While it syncs, jobs gather in its channel; all of them become the next batch, which is again
//! one write and one sync. The load makes the batches, no timer. When none gathered, the log says
//! behind the batch that it was synced ([`Wal::confirm`]); otherwise the next one says so.
//!
//! Every [`Job`] is answered by at most one [`LogEvent`], and a batch of writes by one for all. So
//! a channel of events as large as the channel of jobs, plus one batch, never fills up while its
//! reader takes what is there before it sends another job.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use pickbox_raft_core::event::{LogOp, LogRead, ReadPurpose};
use pickbox_raft_core::ids::IoSeq;
use pickbox_raft_core::log::Entry;

use crate::disk::Disk;
use crate::handoff::{Inlet, Outlet};
use crate::net::Vouched;
use crate::roster;
use crate::wal::{Maintained, Wal, WalCounters, WalError};

/// Jobs that one batch takes at most.
pub const BATCH_JOBS_MAX: usize = 1024;
/// Jobs that wait for space at most; with more, the log gives up.
const HELD_JOBS_MAX: usize = 16 * BATCH_JOBS_MAX;
/// How often a full disk is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// What the consensus asks of the log.
#[derive(Debug)]
pub enum Job {
    /// Write these and make them durable; answered by [`LogEvent::Durable`] with this number or a
    /// later one.
    Write {
        /// Names the operations in the answer; grows from job to job.
        io: IoSeq,
        /// In this order.
        ops: Vec<LogOp>,
    },
    /// Read entries back; sees all jobs before it and none behind it.
    Read(LogRead),
    /// Remember who the members are, for the next start: it knows only what is committed as of the last
    /// checkpoint, and would let in who was removed since.
    Remember(Vouched),
    /// Answer when it is come by, whether or not what is before it is durable: the thread is at work.
    Pulse(Sender<()>),
}

/// What the log answers.
#[derive(Debug)]
pub enum LogEvent {
    /// All jobs up to this number are durable.
    Durable {
        /// The last one.
        io: IoSeq,
        /// Counts since the log was opened.
        counters: WalCounters,
    },
    /// The answer to [`Job::Read`]: the entries of the range, as far as they are in the log.
    Read {
        /// As asked.
        purpose: ReadPurpose,
        /// In order, from the first one wanted.
        entries: Vec<Arc<Entry>>,
    },
    /// There is no space for the log. What was asked waits, nothing is lost, and it goes on by
    /// itself when space returns.
    Full(String),
    /// The log stopped for good: nothing after the last [`LogEvent::Durable`] may be believed to
    /// be on the disk. The process must end.
    Failed {
        /// What it means for this node.
        cause: Failure,
        /// What happened, for people.
        text: String,
    },
}

/// Why a log stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Bytes that were durable have changed ([`WalError::is_rot`]): the node has to be re-admitted.
    Rotten,
    /// The disk failed: what it holds is checked at the next start.
    Disk,
}

impl From<&WalError> for Failure {
    fn from(error: &WalError) -> Self {
        if error.is_rot() { Self::Rotten } else { Self::Disk }
    }
}

/// Owns the log; [`LogWriter::run`] is the body of its thread.
pub struct LogWriter<D: Disk, J = Receiver<Job>, E = Sender<LogEvent>> {
    wal: Wal<D>,
    jobs: J,
    /// Taken from the channel and not done yet.
    held: VecDeque<Job>,
    events: E,
    wake: Box<dyn Fn() + Send>,
    maintenance: Maintained,
    /// There was no space for the next segment when it was last tried.
    is_short: bool,
}

impl<D: Disk, J, E> fmt::Debug for LogWriter<D, J, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogWriter").field("held", &self.held.len()).finish_non_exhaustive()
    }
}

/// Why the loop ends.
enum End {
    /// Nobody asks any more, or nobody listens.
    Alone,
    /// The log stopped.
    Failed(WalError),
}

impl From<WalError> for End {
    fn from(error: WalError) -> Self {
        Self::Failed(error)
    }
}

impl<D: Disk, J: Outlet<Job>, E: Inlet<LogEvent>> LogWriter<D, J, E> {
    /// Makes the writer; `wake` is called after each event, so that a reader that polls notices.
    #[must_use]
    pub fn new(wal: Wal<D>, jobs: J, events: E, wake: Box<dyn Fn() + Send>) -> Self {
        let maintenance = Maintained::More;
        Self { wal, jobs, held: VecDeque::new(), events, wake, maintenance, is_short: false }
    }

    /// Works until all senders of jobs are gone, or the log fails. What was sent before the
    /// senders went is still done, unless there is no space for it.
    pub fn run(mut self) {
        match self.work() {
            Err(End::Failed(error)) => {
                log::error!("event=log_failed error={error:?}");
                // Nobody listens any more only when the process ends anyway.
                let (cause, text) = (Failure::from(&error), error.to_string());
                let _unheard = self.tell(LogEvent::Failed { cause, text });
            }
            Err(End::Alone) | Ok(()) => {
                if let Err(error) = self.wal.close() {
                    log::warn!("event=log_not_closed error={error:?}");
                }
            }
        }
    }

    fn work(&mut self) -> Result<(), End> {
        loop {
            let job = self.next()?;
            match job {
                Job::Write { io, ops } => self.write(io, ops)?,
                Job::Read(read) => self.read(&read)?,
                Job::Remember(peers) => self.remember(&peers),
                Job::Pulse(reply) => beat(&reply),
            }
        }
    }

    /// The next job; confirms and maintains the log while there is none.
    fn next(&mut self) -> Result<Job, End> {
        loop {
            if let Some(job) = self.held.pop_front() {
                return Ok(job);
            }
            match self.jobs.try_recv() {
                Ok(job) => return Ok(job),
                Err(TryRecvError::Disconnected) => return Err(End::Alone),
                Err(TryRecvError::Empty) => {}
            }
            self.wal.confirm()?;
            match self.maintenance {
                Maintained::More => self.maintain()?,
                Maintained::Idle => return self.jobs.recv().map_err(|_| End::Alone),
            }
        }
    }

    fn maintain(&mut self) -> Result<(), WalError> {
        self.maintenance = match self.wal.maintain() {
            Ok(maintained) => maintained,
            Err(WalError::Full(error)) => {
                // Tried again after each batch, told once.
                if !self.is_short {
                    log::warn!("event=no_space_for_next_segment error={error:?}");
                }
                self.is_short = true;
                self.maintenance = Maintained::Idle;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.is_short = false;
        Ok(())
    }

    /// Writes and syncs all writes that are there already as one batch.
    fn write(&mut self, first: IoSeq, mut ops: Vec<LogOp>) -> Result<(), End> {
        let mut io = first;
        for _ in 1..BATCH_JOBS_MAX {
            let Some(job) = self.held.pop_front().or_else(|| self.jobs.try_recv().ok()) else {
                break;
            };
            match job {
                Job::Write { io: later, ops: more } => {
                    assert!(later >= io, "the numbers of writes grow");
                    io = later;
                    ops.extend(more);
                }
                Job::Read(_) | Job::Remember(_) => {
                    // A read must not see what comes behind it.
                    self.held.push_front(job);
                    break;
                }
                Job::Pulse(reply) => beat(&reply),
            }
        }
        io = self.commit(io, ops)?;
        self.maintenance = Maintained::More;
        self.tell(LogEvent::Durable { io, counters: self.wal.counters() })?;
        if self.held.is_empty() && self.jobs.is_empty() {
            self.wal.confirm()?;
        }
        // One step a batch, so that a log that is never idle prepares its next segment too.
        Ok(self.maintain()?)
    }

    /// Commits, and waits for space as long as it takes; says up to which number it came. What is
    /// written meanwhile joins the batch: there may be a compaction in it, which makes space.
    fn commit(&mut self, first: IoSeq, ops: Vec<LogOp>) -> Result<IoSeq, End> {
        let mut io = first;
        let mut result = self.wal.commit(ops);
        if let Err(WalError::Full(error)) = &result {
            log::warn!("event=no_space_for_log error={error:?}");
            self.tell(LogEvent::Full(error.to_string()))?;
        }
        let mut joined = 0;
        while let Err(WalError::Full(_)) = result {
            if joined + self.held.len() >= HELD_JOBS_MAX {
                return Err(result.map_or_else(End::Failed, |()| End::Alone));
            }
            let ops = match self.jobs.recv_timeout(RETRY_AFTER) {
                Ok(Job::Write { io: later, ops }) if self.held.is_empty() => {
                    (io, joined) = (later, joined + 1);
                    ops
                }
                Ok(Job::Pulse(reply)) => {
                    beat(&reply);
                    Vec::new()
                }
                Ok(job) => {
                    self.held.push_back(job);
                    Vec::new()
                }
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return Err(End::Alone),
            };
            result = self.wal.commit(ops);
        }
        result?;
        Ok(io)
    }

    fn read(&mut self, read: &LogRead) -> Result<(), End> {
        let entries = self.wal.read(read.from, read.through)?;
        self.tell(LogEvent::Read { purpose: read.purpose, entries })
    }

    /// Without it, too, the log says it all, later.
    fn remember(&self, peers: &Vouched) {
        if let Err(error) = roster::store(self.wal.disk(), peers) {
            log::warn!("event=peers_not_remembered error={error:?}");
        }
    }

    fn tell(&self, event: LogEvent) -> Result<(), End> {
        self.events.send(event).map_err(|_| End::Alone)?;
        (self.wake)();
        Ok(())
    }
}

/// Answers [`Job::Pulse`]; who asks makes room for one answer, or has gone.
fn beat(reply: &Sender<()>) {
    let _ = reply.try_send(());
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::{bounded, unbounded};
    use pickbox_raft_core::ids::{Index, LogPosition, Term};
    use pickbox_raft_core::log::{Content, HardState};

    use super::*;
    use crate::disk::sim::{Fault, Keep, SimDisk};
    use crate::wal::Options;

    const OPTIONS: Options = Options { segment_bytes: 16 * 1024, nonce_seed: 1 };

    fn write(io: u64, index: u64) -> Job {
        let (index, term) = (Index::new(index), Term::new(1));
        let entry = Entry { index, term, content: Content::Noop };
        Job::Write { io: IoSeq::new(io), ops: vec![LogOp::Append(vec![Arc::new(entry)])] }
    }

    fn read(from: u64, through: u64) -> Job {
        let (from, through) = (Index::new(from), Index::new(through));
        Job::Read(LogRead { purpose: ReadPurpose::Apply, from, through })
    }

    /// Runs a writer over jobs that are all there when it begins; gives what it told.
    fn run(disk: &SimDisk, wal: Wal<SimDisk>, jobs: Vec<Job>) -> Vec<LogEvent> {
        let (job_sender, job_receiver) = unbounded();
        let (event_sender, event_receiver) = unbounded();
        for job in jobs {
            job_sender.send(job).unwrap();
        }
        drop(job_sender);
        LogWriter::new(wal, job_receiver, event_sender, Box::new(|| ())).run();
        assert!(!disk.is_off());
        event_receiver.try_iter().collect()
    }

    fn durable(events: &[LogEvent]) -> Vec<u64> {
        let io = |event: &LogEvent| match event {
            LogEvent::Durable { io, .. } => Some(io.get()),
            _ => None,
        };
        events.iter().filter_map(io).collect()
    }

    /// Source: the module's promise: what gathered during a sync is one batch.
    #[test]
    fn jobs_that_wait_become_one_batch_with_one_sync() {
        let disk = SimDisk::new();
        let wal = Wal::create(disk.clone(), OPTIONS).unwrap();
        let before = wal.counters().syncs;
        let events = run(&disk, wal, (1..=20).map(|i| write(i, i)).collect());
        assert_eq!(durable(&events), [20]);
        let LogEvent::Durable { counters, .. } = events[0] else { panic!("{events:?}") };
        assert_eq!((counters.syncs, counters.confirmations), (before + 1, 0));
        disk.restart(Keep::Nothing);
        let (wal, _) = Wal::restore(disk, OPTIONS).unwrap();
        assert_eq!(wal.last(), LogPosition { index: Index::new(20), term: Term::new(1) });
    }

    /// Source: `Output::log_reads`: a read sees all that was output before it.
    #[test]
    fn a_read_sees_what_was_written_before_it_and_not_what_follows() {
        let disk = SimDisk::new();
        let wal = Wal::create(disk.clone(), OPTIONS).unwrap();
        let truncate = vec![LogOp::Truncate { from: Index::new(1) }];
        let truncate = Job::Write { io: IoSeq::new(3), ops: truncate };
        let events = run(&disk, wal, vec![write(1, 1), write(2, 2), read(1, 9), truncate]);
        assert_eq!(durable(&events), [2, 3]);
        let LogEvent::Read { entries, .. } = &events[1] else { panic!("{events:?}") };
        assert_eq!(entries.len(), 2);
    }

    /// Whether the log refuses to open after a bit of its newest entry has turned.
    fn tells_rot_in_the_newest_batch(disk: &SimDisk) -> bool {
        const FIRST: &str = "wal/00000001.wal";
        // Headers are 64 bytes, at multiples of eight, with the kind at 56: 3 is an entry.
        let bytes = disk.peek(FIRST).unwrap();
        let is_entry = |from: &usize| bytes[from + 56] == 3;
        let newest = (4096..bytes.len() - 64).step_by(8).find(is_entry).unwrap();
        assert!(disk.flip_bit(FIRST, u64::try_from(newest + 64).unwrap(), 2));
        match Wal::restore(disk.clone(), OPTIONS) {
            Err(WalError::Corrupt { .. }) => true,
            Ok((wal, _)) => {
                assert_eq!(wal.last(), LogPosition::default());
                false
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Source: checklist 120, 128: an idle log says of its newest batch that it was synced, so that
    /// rot in it is told after the process was killed.
    #[test]
    fn a_log_that_falls_idle_confirms_its_newest_batch() {
        let disk = SimDisk::new();
        let wal = Wal::create(disk.clone(), OPTIONS).unwrap();
        // Written, synced, confirmed; killed at the first step of preparing the next segment.
        disk.fail_at(disk.operations() + 3, Fault::PowerOff);
        let (jobs, job_receiver) = bounded(8);
        let (event_sender, events) = unbounded();
        jobs.send(write(1, 1)).unwrap();
        LogWriter::new(wal, job_receiver, event_sender, Box::new(|| ())).run();
        let events: Vec<_> = events.try_iter().collect();
        assert!(
            matches!(events[..], [LogEvent::Durable { .. }, LogEvent::Failed { .. }]),
            "{events:?}"
        );
        let (killed, lost) = (disk.fork(), disk);
        killed.restart(Keep::Everything);
        assert!(tells_rot_in_the_newest_batch(&killed));
        // What is not to be seen: the power fails before the kernel wrote it back.
        lost.restart(Keep::Nothing);
        assert!(!tells_rot_in_the_newest_batch(&lost));
    }

    /// Source: checklist 120, 128: after an end in order nothing is left unconfirmed.
    #[test]
    fn an_end_in_order_confirms_the_newest_batch_durably() {
        let disk = SimDisk::new();
        let wal = Wal::create(disk.clone(), OPTIONS).unwrap();
        assert_eq!(durable(&run(&disk, wal, vec![write(1, 1)])), [1]);
        disk.restart(Keep::Nothing);
        assert!(tells_rot_in_the_newest_batch(&disk));
    }

    /// Source: checklist 126, fault 24: no acknowledgement after a failed sync, and no retry.
    #[test]
    fn a_failed_sync_is_told_and_ends_the_writer() {
        let disk = SimDisk::new();
        let wal = Wal::create(disk.clone(), OPTIONS).unwrap();
        disk.fail_at(disk.operations() + 1, Fault::Broken);
        let events = run(&disk, wal, vec![write(1, 1), read(1, 1), write(2, 2)]);
        assert!(
            matches!(&events[..], [LogEvent::Failed { cause: Failure::Disk, .. }]),
            "{events:?}"
        );
    }

    /// Source: checklist 128, fault 26, 27: rot that a read finds while the node runs is told from a
    /// failed disk, with the entry, and what is rotten is not handed out.
    #[test]
    fn rot_found_by_a_read_is_told_from_a_failed_disk() {
        let disk = SimDisk::new();
        let mut wal = Wal::create(disk.clone(), OPTIONS).unwrap();
        let entries = (1..=3).map(|index| LogOp::Append(vec![big_entry(index)]));
        wal.commit(entries).unwrap();
        // Records begin at 4096: a head, then entries of a good kilobyte.
        assert!(disk.flip_bit("wal/00000001.wal", 4096 + 1600, 0));
        let events = run(&disk, wal, vec![read(1, 1), read(1, 3), write(2, 4)]);
        let [LogEvent::Read { entries, .. }, LogEvent::Failed { cause, text }] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!((entries.len(), *cause), (1, Failure::Rotten));
        assert!(text.contains("entry 2 of term 1"), "{text}");
    }

    /// Source: checklist 125, fault 31: a full disk is told, nothing is lost, it goes on by itself.
    #[test]
    fn a_full_disk_is_waited_for() {
        let disk = SimDisk::new();
        let wal = Wal::create(disk.clone(), OPTIONS).unwrap();
        disk.set_capacity(Some(20 * 1024));
        let (job_sender, job_receiver) = bounded(8);
        let (event_sender, event_receiver) = unbounded();
        let big = |index: u64| {
            let ops = (0..8).map(|place| LogOp::Append(vec![big_entry(index * 8 + place + 1)]));
            Job::Write { io: IoSeq::new(index + 1), ops: ops.collect() }
        };
        for index in 0..3 {
            job_sender.send(big(index)).unwrap();
        }
        // Space returns when the writer tells that there is none.
        let returning = disk.clone();
        let senders = std::sync::Mutex::new(Some(job_sender));
        let told = event_receiver.clone();
        let wake = move || {
            if returning.operations() > 0 && told.len() == 1 {
                returning.set_capacity(None);
                // A job arrives while it waits; then nobody asks any more.
                let sender = senders.lock().unwrap().take();
                if let Some(sender) = sender {
                    sender.send(big(3)).unwrap();
                }
            }
        };
        LogWriter::new(wal, job_receiver, event_sender, Box::new(wake)).run();
        let events: Vec<_> = event_receiver.try_iter().collect();
        assert!(matches!(events[0], LogEvent::Full(_)), "{events:?}");
        assert_eq!(durable(&events), [4], "what came meanwhile joined the batch");
        disk.restart(Keep::Nothing);
        let (wal, _) = Wal::restore(disk, OPTIONS).unwrap();
        assert_eq!(wal.last().index, Index::new(32));
    }

    /// Source: `sd_notify(3)`, `WATCHDOG=1`: to wait for space is to be at work; nobody is killed for it.
    #[test]
    fn a_full_disk_has_a_pulse() {
        let disk = SimDisk::new();
        let wal = Wal::create(disk.clone(), OPTIONS).unwrap();
        disk.set_capacity(Some(0));
        let ops = (1..100).map(|index| LogOp::Append(vec![big_entry(index)])).collect();
        let (job_sender, job_receiver) = bounded(8);
        let (event_sender, event_receiver) = unbounded();
        job_sender.send(Job::Write { io: IoSeq::new(1), ops }).unwrap();
        let writer = LogWriter::new(wal, job_receiver, event_sender, Box::new(|| ()));
        let thread = std::thread::Builder::new().spawn(move || writer.run()).unwrap();
        assert!(matches!(event_receiver.recv(), Ok(LogEvent::Full(_))));
        let (reply, beats) = bounded(1);
        job_sender.send(Job::Pulse(reply)).unwrap();
        beats.recv().unwrap();
        disk.set_capacity(None);
        drop(job_sender);
        thread.join().unwrap();
    }

    /// Source: checklist 125, fault 31: a node that starts on a full disk can vote and stand for
    /// election; only its own entries wait, and others can make a majority without it.
    #[test]
    fn a_vote_needs_no_space() {
        let disk = SimDisk::new();
        let mut wal = Wal::create(disk.clone(), OPTIONS).unwrap();
        disk.set_capacity(Some(0));
        let full =
            (1..100).find(|index| wal.commit([LogOp::Append(vec![big_entry(*index)])]).is_err());
        disk.restart(Keep::Everything);
        let (wal, _) = Wal::restore(disk.clone(), OPTIONS).unwrap();
        let vote = HardState { term: Term::new(4), voted_for: None };
        let job = Job::Write { io: IoSeq::new(1), ops: vec![LogOp::HardState(vote)] };
        let entry = Job::Write {
            io: IoSeq::new(2),
            ops: vec![LogOp::Append(vec![big_entry(full.unwrap())])],
        };
        let events = run(&disk, wal, vec![job, read(1, 1), entry]);
        assert!(
            matches!(
                events[..],
                [LogEvent::Durable { .. }, LogEvent::Read { .. }, LogEvent::Full(_)]
            ),
            "{events:?}"
        );
        disk.restart(Keep::Nothing);
        let (wal, _) = Wal::restore(disk, OPTIONS).unwrap();
        assert_eq!(wal.hard_state(), vote);
    }

    /// An entry of about a kilobyte.
    fn big_entry(index: u64) -> Arc<Entry> {
        use pickbox_raft_core::members::Members;
        let outgoing_voters = vec![pickbox_raft_core::ids::NodeId::new(1); 1000];
        let members = Members { outgoing_voters, ..Members::default() };
        let (index, term) = (Index::new(index), Term::new(1));
        Arc::new(Entry { index, term, content: Content::Members(members) })
    }

    /// Source: a node that stops is not a node that forgets.
    #[test]
    fn what_was_sent_before_the_senders_went_is_done() {
        let disk = SimDisk::new();
        let wal = Wal::create(disk.clone(), OPTIONS).unwrap();
        let vote = HardState { term: Term::new(4), voted_for: None };
        let job = Job::Write { io: IoSeq::new(1), ops: vec![LogOp::HardState(vote)] };
        assert_eq!(durable(&run(&disk, wal, vec![job])), [1]);
        disk.restart(Keep::Nothing);
        let (wal, _) = Wal::restore(disk, OPTIONS).unwrap();
        assert_eq!(wal.hard_state(), vote);
    }
}
