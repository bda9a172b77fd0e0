//! The world: the log, the nodes, and which step comes next.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pickbox_raft::core::ids::{Index, NodeId, Serial, Term};
use pickbox_raft::core::log::{Content, Entry, Payload, Proposal};
use pickbox_raft::core::members::{Member, MemberRole, Members};
use pickbox_store::agreed::payload;
use pickbox_store::content_id::ContentId;
use pickbox_store::op::Op;
use pickbox_store::record::Body;

use super::host::Host;
use super::people::{Shared, Written, lock};
use super::{Failure, Options, Report};
use crate::sim::{Random, fold};

/// Lines of a story.
const STORY_LINES: usize = 2_000;

pub(super) struct World {
    random: Random,
    pub(super) hosts: Vec<Host>,
    pub(super) log: Vec<Entry>,
    /// Large contents that a majority has.
    pub(super) held: HashMap<ContentId, Vec<u8>>,
    /// All contents that the log names.
    committed: std::collections::BTreeSet<ContentId>,
    pub(super) written: Shared<Written>,
    pub(super) epoch: Instant,
    pub(super) now_us: u64,
    /// Hosts that the log does not reach.
    cut_off: Vec<bool>,
    pub(super) report: Report,
    kills: u64,
    cuts: bool,
    /// Some directories have no watch, and are listed now and then.
    pub(super) unwatched: bool,
}

fn members(count: usize) -> Members {
    let count = u64::try_from(count).unwrap_or(1);
    let member = |id| Member {
        id: NodeId::new(id),
        name: format!("node{id}"),
        address: format!("127.0.0.1:{}", 8000 + id),
        role: MemberRole::Voter,
        key: None,
    };
    let members = (1..=count).map(member).collect();
    Members { members, next_id: NodeId::new(count + 1), ..Members::default() }
}

fn in_panic(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    format!("panic: {}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("?"))
}

impl World {
    pub(super) fn live(options: Options) -> Result<Report, Failure> {
        let mut world = Self::new(options.seed);
        let lived = catch_unwind(AssertUnwindSafe(|| world.run(options.steps)));
        match lived.unwrap_or_else(|panic| Err(in_panic(&*panic))) {
            Ok(()) => Ok(world.report),
            Err(reason) => {
                world.tell("--- it fails".to_owned());
                for host in &world.hosts {
                    let last = &lock(&host.between).last;
                    let last: Vec<_> = last.iter().cloned().collect();
                    world.report.story.push(format!("{} called {}", host.name(), last.join(", ")));
                }
                Err(Failure { seed: options.seed, reason, story: world.report.story })
            }
        }
    }

    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let written = Arc::new(Mutex::new(Written::default()));
        let count = random.pick(&[1, 2, 3, 3]).unwrap_or(3);
        let hosts: Vec<_> =
            (0..count).map(|at| Host::new(at, random.next(), written.clone())).collect();
        let users = random.pick(&[0, 2, 10, 40]).unwrap_or(0);
        let refusals = random.pick(&[0, 0, 5]).unwrap_or(0);
        let queue = random.pick(&[8, 16, 64, 64]).unwrap_or(64);
        let watches = random.pick(&[usize::MAX, usize::MAX, usize::MAX, 6]).unwrap_or(6);
        let stamp = random.pick(&[1, 1, 4_000_000]).unwrap_or(1);
        for host in &hosts {
            let mut between = lock(&host.between);
            (between.users, between.refusals) = (users, refusals);
            host.fs.set_notifier_limits(queue, watches);
            host.fs.set_stamps(Duration::from_nanos(stamp));
        }
        let kills = random.pick(&[0, 5, 20]).unwrap_or(0);
        let mut world = Self {
            kills,
            cuts: random.per_mille(300),
            unwatched: watches < usize::MAX,
            random,
            hosts,
            log: Vec::new(),
            held: HashMap::new(),
            committed: std::collections::BTreeSet::new(),
            written,
            epoch: pickbox_raft::clock::now(),
            now_us: 0,
            cut_off: vec![false; count],
            report: Report { hash: seed, ..Report::default() },
        };
        world.append(Content::Members(members(count)));
        world.tell(format!(
            "{count} hosts, users {users}, refusals {refusals}, kills {kills}, queue {queue}, \
             watches {watches}, stamps {stamp} ns"
        ));
        world
    }

    fn append(&mut self, content: Content) {
        let index = Index::new(u64::try_from(self.log.len()).unwrap_or(0) + 1);
        self.log.push(Entry { index, term: Term::new(1), content });
    }

    pub(super) fn tell(&mut self, line: String) {
        for host in &self.hosts {
            self.report.story.append(&mut lock(&host.people).story);
        }
        self.report.story.push(line);
        if self.report.story.len() > 2 * STORY_LINES {
            self.report.story.drain(..STORY_LINES);
        }
    }

    fn run(&mut self, steps: u64) -> Result<(), String> {
        for at in 0..self.hosts.len() {
            self.start(at)?;
        }
        for _ in 0..steps {
            self.step()?;
            self.note();
        }
        self.come_to_rest()?;
        self.check_rest()?;
        self.note();
        for host in &self.hosts {
            let between = lock(&host.between);
            self.report.calls += between.calls;
            self.report.in_between += between.deeds;
            let people = lock(&host.people);
            self.report.deeds += people.deeds;
            self.report.tally.add(&people.tally);
            self.report.tally.add(&between.tally);
            self.report.tally.note_times("a queue overflowed", host.overflows());
        }
        self.report.entries = u64::try_from(self.log.len()).unwrap_or(0);
        Ok(())
    }

    /// Folds what can be told apart into the hash.
    fn note(&mut self) {
        let mut hash = fold(self.report.hash, u64::try_from(self.log.len()).unwrap_or(0));
        for host in &self.hosts {
            hash = fold(hash, lock(&host.between).calls);
            hash = fold(hash, u64::try_from(host.next).unwrap_or(0));
        }
        self.report.hash = hash;
    }

    pub(super) fn start(&mut self, at: usize) -> Result<(), String> {
        let (epoch, now) = (self.epoch, self.now_us);
        let Some(host) = self.hosts.get_mut(at) else { return Ok(()) };
        if !host.start(epoch, now)? {
            return Ok(());
        }
        let (origin, incarnation, name) = (host.id(), host.incarnation(), host.name());
        self.tell(format!("host {at}: starts"));
        let payload = Payload::Open { name };
        let serial = Serial::new(1);
        let open = Proposal { origin, incarnation, serial, holders: None, payload };
        self.append(Content::Proposal(open));
        Ok(())
    }

    pub(super) fn pass(&mut self, us: u64) {
        self.now_us += us;
        for host in &self.hosts {
            host.fs.pass(Duration::from_micros(us));
            lock(&host.people).now_us = self.now_us;
        }
    }

    fn step(&mut self) -> Result<(), String> {
        let at = self.random.below(self.hosts.len());
        let us = self.random.pick(&[100, 1_000, 20_000, 300_000]).unwrap_or(100);
        self.pass(us);
        if self.hosts.get_mut(at).is_some_and(Host::is_down) {
            if self.random.per_mille(700) {
                self.act(at);
                return Ok(());
            }
            return self.start(at);
        }
        let what = self.random.below(1000);
        match u64::try_from(what).unwrap_or(0) {
            chance if chance < self.kills => {
                self.end(at);
                Ok(())
            }
            20..=30 => {
                let was = self.cut_off.get(at).copied().unwrap_or(false);
                if !was {
                    self.report.tally.note("cut off from the log");
                }
                self.cut_off[at] = !was;
                self.tell(format!(
                    "host {at}: {}",
                    if was { "hears the log" } else { "is cut off" }
                ));
                Ok(())
            }
            31..=35 => {
                let us = 1_000_000 * (1 + u64::try_from(self.random.below(40)).unwrap_or(0));
                self.tell(format!("{} s pass", us / 1_000_000));
                self.report.tally.note("nothing happens for seconds");
                self.pass(us);
                Ok(())
            }
            36..=40 => {
                self.tell(format!("host {at}: the kernel writes back"));
                self.report.tally.note("the kernel writes back");
                self.hosts[at].fs.write_back();
                Ok(())
            }
            41..=220 => {
                self.act(at);
                Ok(())
            }
            _ => {
                let part = self.random.below(8);
                self.machinery(at, part).map(|_| ())
            }
        }
    }

    pub(super) fn heal(&mut self, at: usize) {
        self.cut_off[at] = false;
    }

    fn act(&mut self, at: usize) {
        lock(&self.hosts[at].people).act();
        self.check_story();
    }

    fn check_story(&mut self) {
        self.tell(String::new());
        self.report.story.pop();
    }

    /// Kills a daemon, or takes its power, now or at one of its next calls.
    fn end(&mut self, at: usize) {
        if self.random.per_mille(600) {
            let calls = u64::try_from(self.random.below(60)).unwrap_or(0);
            self.tell(format!("host {at}: will be killed after {calls} calls"));
            lock(&self.hosts[at].between).dies_in = Some(calls);
            return;
        }
        self.hosts[at].kill();
        if self.cuts && self.random.per_mille(500) {
            self.tell(format!("host {at}: power cut"));
            let random = &mut self.random;
            self.hosts[at].fs.cut_power(&mut |below| {
                u64::try_from(random.below(usize::try_from(below).unwrap_or(1))).unwrap_or(0)
            });
            let committed = &self.committed;
            lock(&self.hosts[at].people).after_cut(|content| committed.contains(&content));
            self.report.tally.note("a power cut");
        } else {
            self.tell(format!("host {at}: killed"));
            self.report.tally.note("a kill");
        }
    }

    /// One step of one part of a daemon; whether there was anything to do.
    pub(super) fn machinery(&mut self, at: usize, part: usize) -> Result<bool, String> {
        let (epoch, now) = (self.epoch, self.now_us);
        let heard = !self.cut_off[at];
        let name = ["look", "hear", "commit", "deliver", "turn", "sync", "offer", "fetch"];
        let host = &mut self.hosts[at];
        let did = match part {
            0 => host.look(epoch, now).map(|()| false)?,
            1 => host.hear(now)?,
            2 if heard => self.commit(at)?,
            3 if heard => {
                let log = std::mem::take(&mut self.log);
                let did = self.hosts[at].deliver(now, &log);
                self.log = log;
                did?
            }
            4 => host.turn(now).map(|()| false)?,
            5 => host.sync(now)?,
            6 if heard => match host.offer(now)? {
                Some(offered) => {
                    self.held.insert(offered.content, offered.bytes);
                    true
                }
                None => false,
            },
            7 if heard => self.fetch(at)?,
            _ => false,
        };
        if did && part != 1 {
            self.tell(format!("host {at}: {}", name.get(part).copied().unwrap_or("?")));
        }
        Ok(did)
    }

    fn commit(&mut self, at: usize) -> Result<bool, String> {
        let Some(proposal) = self.hosts[at].up.as_mut().and_then(|up| up.proposed.take()) else {
            return Ok(false);
        };
        self.check_proposal(at, &proposal)?;
        self.append(Content::Proposal((*proposal).clone()));
        Ok(true)
    }

    /// Nothing is committed that no program ever finished.
    fn check_proposal(&mut self, at: usize, proposal: &Proposal) -> Result<(), String> {
        let Payload::Data(bytes) = &proposal.payload else { return Ok(()) };
        let change = payload::decode(bytes).ok_or("a change that cannot be read")?;
        let told = format!(
            "host {at}: proposes {:?}",
            change.ops.iter().map(in_short).collect::<Vec<_>>()
        );
        self.tell(told);
        for op in &change.ops {
            let (Op::Create { new, .. } | Op::Replace { new, .. }) = op else { continue };
            let Body::File { content, .. } = new.body else { continue };
            if !lock(&self.written).may_commit(content, self.now_us) {
                let bytes = new.inline.as_deref().unwrap_or_default();
                return Err(format!(
                    "host {at} commits what nobody finished: {}",
                    String::from_utf8_lossy(bytes)
                ));
            }
            self.committed.insert(content);
        }
        Ok(())
    }

    fn fetch(&mut self, at: usize) -> Result<bool, String> {
        let Some(content) = self.hosts[at].wants() else { return Ok(false) };
        let bytes = self.held.get(&content).cloned().or_else(|| self.find(content));
        let Some(bytes) = bytes else { return Ok(false) };
        let now = self.now_us;
        self.hosts[at].fetched(now, content, &bytes)?;
        Ok(true)
    }
}

fn in_short(op: &Op) -> String {
    let text = match op {
        Op::Create { at, new } => format!("create {} {:?}", at.path, new.body),
        Op::Replace { at, new, .. } => format!("replace {} {:?}", at.path, new.body),
        Op::Move { id, to } => format!("move {id} to {}", to.path),
        Op::Delete { id, .. } => format!("delete {id}"),
        Op::Attributes { id, attributes, .. } => format!("mode {id} {:o}", attributes.mode),
        other => format!("{other:?}"),
    };
    text.chars().take(110).collect()
}
