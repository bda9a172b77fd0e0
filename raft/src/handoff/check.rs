//! The consensus loop and the log writer hand jobs and answers to each other, under a scheduler that
//! decides at each step which thread goes on (shuttle; Burckhardt et al., ASPLOS 2010).
//!
//! What runs here is the code that ships: [`LogWriter`], [`LogPort`], the bell's [`Protocol`], the log
//! itself on a simulated disk. Channels, flag and poll are made of shuttle's locks, and much smaller,
//! so that all of them are full and empty all the time. The loop around the port is the one of
//! `Consensus::turn` in few words. A wake-up that is lost is a deadlock here: nothing has a timeout.
//! The scheduler is sequentially consistent: what weaker memory may do is not tried.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use crossbeam_channel::{RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError};
use pickbox_raft_core::event::{LogOp, LogRead, ReadPurpose};
use pickbox_raft_core::ids::{Index, IoSeq, NodeId, Term};
use pickbox_raft_core::log::{Content, Entry};
use pickbox_raft_core::members::Members;
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::DfsScheduler;
use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::sync::{Arc, Condvar, Mutex};
use shuttle::{Config, Runner, thread};

use super::{Inlet, Outlet};
use crate::consensus::port::LogPort;
use crate::disk::sim::{Keep, SimDisk};
use crate::log_writer::{Job, LogEvent, LogWriter};
use crate::net::bell::{Flag, Protocol, Wake};
use crate::wal::{Options, Wal};

const OPTIONS: Options = Options { segment_bytes: 8 * 1024, nonce_seed: 1 };
/// Schedules that are tried of each story, unless `SCHEDULES` says another number.
const SCHEDULES: usize = 200;

fn schedules() -> usize {
    std::env::var("SCHEDULES").map_or(SCHEDULES, |count| count.parse().unwrap())
}

/// A bounded channel.
struct Channel<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    capacity: usize,
}

struct State<T> {
    items: VecDeque<T>,
    is_closed: bool,
}

struct In<T>(Arc<Channel<T>>);
struct Out<T>(Arc<Channel<T>>);

fn channel<T>(capacity: usize) -> (In<T>, Out<T>) {
    let state = Mutex::new(State { items: VecDeque::new(), is_closed: false });
    let channel = Arc::new(Channel { state, changed: Condvar::new(), capacity });
    (In(channel.clone()), Out(channel))
}

impl<T> Channel<T> {
    fn close(&self) {
        self.state.lock().unwrap().is_closed = true;
        self.changed.notify_all();
    }
}

impl<T> Drop for In<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<T> Drop for Out<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<T> Inlet<T> for In<T> {
    fn send(&self, item: T) -> Result<(), SendError<T>> {
        let mut state = self.0.state.lock().unwrap();
        while state.items.len() == self.0.capacity && !state.is_closed {
            state = self.0.changed.wait(state).unwrap();
        }
        if state.is_closed {
            return Err(SendError(item));
        }
        state.items.push_back(item);
        self.0.changed.notify_all();
        Ok(())
    }

    fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        let mut state = self.0.state.lock().unwrap();
        if state.is_closed {
            return Err(TrySendError::Disconnected(item));
        }
        if state.items.len() == self.0.capacity {
            return Err(TrySendError::Full(item));
        }
        state.items.push_back(item);
        self.0.changed.notify_all();
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.0.state.lock().unwrap().items.len() == self.0.capacity
    }
}

impl<T> Outlet<T> for Out<T> {
    fn recv(&self) -> Result<T, RecvError> {
        let mut state = self.0.state.lock().unwrap();
        loop {
            if let Some(item) = state.items.pop_front() {
                self.0.changed.notify_all();
                return Ok(item);
            }
            if state.is_closed {
                return Err(RecvError);
            }
            state = self.0.changed.wait(state).unwrap();
        }
    }

    /// The time is over whenever the scheduler says so.
    fn recv_timeout(&self, _timeout: Duration) -> Result<T, RecvTimeoutError> {
        thread::yield_now();
        self.try_recv().map_err(|error| match error {
            TryRecvError::Empty => RecvTimeoutError::Timeout,
            TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
        })
    }

    fn try_recv(&self) -> Result<T, TryRecvError> {
        let mut state = self.0.state.lock().unwrap();
        match state.items.pop_front() {
            Some(item) => {
                self.0.changed.notify_all();
                Ok(item)
            }
            None if state.is_closed => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
    }

    fn is_empty(&self) -> bool {
        self.0.state.lock().unwrap().items.is_empty()
    }
}

/// A poll without sockets and without timeout, and what ends it: an eventfd in few words.
#[derive(Clone)]
struct Poll(Arc<(Mutex<bool>, Condvar)>);

impl Poll {
    fn new() -> Self {
        Self(Arc::new((Mutex::new(false), Condvar::new())))
    }

    fn wait(&self) {
        let mut is_rung = self.0.0.lock().unwrap();
        while !*is_rung {
            is_rung = self.0.1.wait(is_rung).unwrap();
        }
        *is_rung = false;
    }
}

impl Wake for Poll {
    fn wake(&self) -> io::Result<()> {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
        Ok(())
    }
}

impl Flag for AtomicBool {
    fn store(&self, value: bool) {
        self.store(value, Ordering::SeqCst);
    }

    fn swap(&self, value: bool) -> bool {
        self.swap(value, Ordering::SeqCst)
    }
}

type TestBell = Arc<Protocol<Poll, AtomicBool>>;

fn bell() -> (TestBell, Poll) {
    let poll = Poll::new();
    (Arc::new(Protocol::new(poll.clone(), AtomicBool::new(false))), poll)
}

/// Source: the bell's promise: in no order of steps is a ring lost. All orders are tried.
#[test]
fn no_schedule_loses_a_ring() {
    let scheduler = DfsScheduler::new(None, false);
    let count = Runner::new(scheduler, Config::default()).run(|| {
        let (bell, poll) = bell();
        let item = Arc::new(AtomicBool::new(false));
        let (ringer, given) = (bell.clone(), item.clone());
        let sender = thread::spawn(move || {
            Flag::store(&*given, true);
            ringer.ring();
        });
        loop {
            bell.may_sleep();
            if !item.load(Ordering::SeqCst) {
                poll.wait();
            }
            bell.awake();
            if item.swap(false, Ordering::SeqCst) {
                break;
            }
        }
        sender.join().unwrap();
    });
    println!("{count} schedules: all there are");
    assert!(count > 100);
}

/// What a story looks like.
#[derive(Clone, Copy)]
struct Story {
    jobs_max: usize,
    events_max: usize,
    /// There is no space for a second segment until the last job was asked for.
    is_short_of_space: bool,
}

/// Two of them fill a segment.
fn entry(index: u64) -> LogOp {
    let outgoing_voters = vec![NodeId::new(1); 1500];
    let content = Content::Members(Members { outgoing_voters, ..Members::default() });
    let (index, term) = (Index::new(index), Term::new(1));
    LogOp::Append(vec![std::sync::Arc::new(Entry { index, term, content })])
}

/// The jobs of a story: writes of one entry each, tagged with its index, and reads between them.
fn draw_jobs() -> VecDeque<Job> {
    let mut written = 0;
    let jobs = (0..6).map(|_| {
        if written > 0 && thread_rng().gen_bool(0.3) {
            let (from, through) = (Index::new(1), Index::new(99));
            return Job::Read(LogRead { purpose: ReadPurpose::Apply, from, through });
        }
        written += 1;
        Job::Write { io: IoSeq::new(written), ops: vec![entry(written)] }
    });
    jobs.collect()
}

/// What the consensus is asked for.
enum Command {
    Do(Job),
    Stop,
}

/// What must come back, in order, kept by the side that asks.
#[derive(Default)]
struct Expected {
    written: u64,
    /// For each read under way, how many entries it must see.
    reads: VecDeque<u64>,
    durable: u64,
}

impl Expected {
    fn asked(&mut self, job: &Job) {
        match job {
            Job::Write { io, .. } => self.written = io.get(),
            Job::Read(_) => self.reads.push_back(self.written),
            Job::Remember(_) | Job::Pulse(_) => {}
        }
    }

    fn heard(&mut self, event: &LogEvent) {
        match event {
            LogEvent::Durable { io, .. } => {
                assert!(io.get() > self.durable, "each word is news");
                assert!(io.get() <= self.written, "and about what was asked");
                self.durable = io.get();
            }
            LogEvent::Read { entries, .. } => {
                let seen = u64::try_from(entries.len()).unwrap();
                assert_eq!(Some(seen), self.reads.pop_front(), "all before it, none behind it");
                assert_eq!(seen, self.durable, "told in order");
            }
            LogEvent::Full(_) => {}
            LogEvent::Failed { text, .. } => panic!("{text}"),
        }
    }

    fn is_answered(&self) -> bool {
        self.durable == self.written && self.reads.is_empty()
    }
}

/// The consensus loop, in few words: waits, looks at everything, hands over, until all is answered.
fn consensus(
    bell: &TestBell,
    poll: &Poll,
    port: &mut LogPort<In<Job>, Out<LogEvent>>,
    commands: &Out<Command>,
) {
    let mut expected = Expected::default();
    let mut is_open = true;
    while is_open || !expected.is_answered() {
        bell.may_sleep();
        if commands.is_empty() && !port.has_news() {
            poll.wait();
        }
        bell.awake();
        while let Some(event) = port.next_event() {
            expected.heard(&event);
        }
        while let Ok(command) = commands.try_recv() {
            match command {
                Command::Do(job) => {
                    expected.asked(&job);
                    port.order(job);
                }
                Command::Stop => is_open = false,
            }
        }
        port.pump().unwrap();
    }
}

fn play(story: Story) {
    let disk = SimDisk::new();
    let wal = Wal::create(disk.clone(), OPTIONS).unwrap();
    if story.is_short_of_space {
        disk.set_capacity(Some(0));
    }
    let (jobs, inbox) = channel(story.jobs_max);
    let (outbox, events) = channel(story.events_max);
    let (bell, poll) = bell();
    let ringer = bell.clone();
    let writer = LogWriter::new(wal, inbox, outbox, Box::new(move || ringer.ring()));
    let writer = thread::spawn(move || writer.run());

    // Those who ask the consensus: they ring the same bell.
    let (asked, commands) = channel(8);
    let (ringer, space) = (bell.clone(), disk.clone());
    let all = draw_jobs();
    let written = all.iter().filter(|job| matches!(job, Job::Write { .. })).count();
    let user = thread::spawn(move || {
        for job in all {
            asked.send(Command::Do(job)).map_err(|_| ()).unwrap();
            ringer.ring();
        }
        space.set_capacity(None);
        asked.send(Command::Stop).map_err(|_| ()).unwrap();
        ringer.ring();
    });
    let mut port = LogPort::over(jobs, events);
    consensus(&bell, &poll, &mut port, &commands);
    drop(port);
    user.join().unwrap();
    writer.join().unwrap();
    disk.restart(Keep::Nothing);
    let (wal, _) = Wal::restore(disk, OPTIONS).unwrap();
    assert_eq!(wal.last().index, Index::new(u64::try_from(written).unwrap()));
}

/// Source: the log writer's promise: every job is answered once, in order, whatever is full; and in
/// no schedule does one side wait for the other for ever.
#[test]
fn every_job_is_answered_in_order_whatever_is_full() {
    for (jobs_max, events_max) in [(1, 1), (1, 2), (2, 1), (3, 2)] {
        let story = Story { jobs_max, events_max, is_short_of_space: false };
        shuttle::check_random(move || play(story), schedules());
        shuttle::check_pct(move || play(story), schedules(), 3);
    }
}

/// Source: checklist 125: the same while the writer waits for space.
#[test]
fn jobs_that_wait_for_space_are_answered_in_order() {
    for (jobs_max, events_max) in [(1, 1), (2, 1)] {
        let story = Story { jobs_max, events_max, is_short_of_space: true };
        shuttle::check_random(move || play(story), schedules());
    }
}

/// Source: `LogWriter::run`: when nobody listens any more it ends, at whatever it was, and what it
/// acknowledged stays.
#[test]
fn the_writer_ends_when_the_consensus_goes() {
    let story = || {
        let disk = SimDisk::new();
        let wal = Wal::create(disk.clone(), OPTIONS).unwrap();
        let (jobs, inbox) = channel(2);
        let (outbox, events) = channel(1);
        let writer = LogWriter::new(wal, inbox, outbox, Box::new(|| ()));
        let writer = thread::spawn(move || writer.run());
        let mut port = LogPort::over(jobs, events);
        let mut durable = 0;
        for job in draw_jobs() {
            port.order(job);
            port.pump().unwrap();
            if let Some(LogEvent::Durable { io, .. }) = port.next_event() {
                durable = io.get();
            }
        }
        drop(port);
        writer.join().unwrap();
        disk.restart(Keep::Nothing);
        let (wal, _) = Wal::restore(disk, OPTIONS).unwrap();
        assert!(wal.last().index >= Index::new(durable));
    };
    shuttle::check_random(story, schedules());
    shuttle::check_pct(story, schedules(), 3);
}
