//! The world: time, what is planned, and the nodes.

use std::any::Any;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use pickbox_raft::disk::sim::Keep;
use pickbox_raft_core::event::{Aim, Change, ChangeAnswer, ChangeId, RoleName};
use pickbox_raft_core::ids::{Index, NodeId, ReadId};
use pickbox_raft_core::log::{Content, Proposal};
use pickbox_raft_core::members::{Member, MemberRole, Members};
use pickbox_raft_core::message::{Body, Message};
use pickbox_raft_core::time::Time;
use pickbox_raft_core::{Event, Output};

use super::checker::{Before, Checker};
use super::faults::Faults;
use super::machine::fold;
use super::network::Network;
use super::node::{Health, Job, Node, Running};
use super::random::Random;
use super::{Failure, Options, Report, Story};

/// How long the cluster may take to come to rest, in its own time.
const REST_US: u64 = 60_000_000;
/// Steps of a run without faults that is not at rest by then: something loops.
const REST_STEPS_MAX: u64 = 400_000;
/// Lines of a told story.
const STORY_LINES: usize = 300;
/// Members, those that join included.
const NODES_MAX: u64 = 5;

/// Something that will happen.
#[derive(Debug)]
enum Plan {
    Deliver(Message),
    Tick(NodeId, u64),
    Disk(NodeId, u64),
    Apply(NodeId, u64),
    Client(NodeId, u64),
    Fetch(NodeId, u64),
    Start(NodeId),
    Evil,
    Daily,
}

#[derive(Debug)]
struct Planned {
    at: u64,
    order: u64,
    plan: Plan,
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}
impl Eq for Planned {}
impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Planned {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct World {
    options: Options,
    random: Random,
    /// Decides over rot alone, so that worlds without it stay what they were.
    rot_random: Random,
    /// Nodes whose disks may rot: fewer than a majority of the first members.
    rot_max: u64,
    faults: Faults,
    network: Network,
    checker: Checker,
    nodes: BTreeMap<NodeId, Node>,
    plans: BinaryHeap<Reverse<Planned>>,
    planned: u64,
    now: u64,
    /// Time between a client's proposals, at most.
    think_us: u64,
    first_members: Members,
    /// The name of the node that wants to join, while one does.
    joining: Option<u64>,
    quiet: bool,
    next_name: u64,
    next_request: u64,
    report: Report,
    story: VecDeque<String>,
}

impl World {
    pub(crate) fn new(options: Options) -> Self {
        let mut random = Random::new(options.seed);
        let mut rot_random = Random::new(!options.seed);
        let rot = Faults::draw_rot(&mut rot_random);
        let faults = Faults { rot, ..Faults::draw(&mut random) };
        let size = random.pick(&[1, 2, 3, 3, 3, 4, 5]).unwrap_or(3);
        let think_us = random.pick(&[2_000, 50_000, 200_000]).unwrap_or(50_000);
        Self {
            options,
            random,
            rot_random,
            rot_max: (size - 1) / 2,
            faults,
            network: Network::default(),
            checker: Checker::default(),
            nodes: BTreeMap::new(),
            plans: BinaryHeap::new(),
            planned: 0,
            now: 1_000_000,
            think_us,
            first_members: first_members(size),
            joining: None,
            quiet: false,
            next_name: size + 1,
            next_request: 0,
            report: Report { hash: options.seed, ..Report::default() },
            story: VecDeque::new(),
        }
    }

    pub(crate) fn run(mut self) -> Result<Report, Failure> {
        // An assertion of the code under test must name its seed too.
        let lived = catch_unwind(AssertUnwindSafe(|| self.live()));
        match lived.unwrap_or_else(|panic| Err(in_panic(&*panic))) {
            Ok(()) => Ok(self.report),
            Err(reason) => Err(Failure {
                seed: self.options.seed,
                step: self.report.steps,
                reason,
                story: self.story.into(),
            }),
        }
    }

    fn live(&mut self) -> Result<(), String> {
        let members = self.first_members.clone();
        for id in members.everyone() {
            self.nodes.insert(id, Node::new(id, members.clone())?);
            self.start(id)?;
        }
        self.plan(1_000, Plan::Evil);
        self.plan(1_000, Plan::Daily);
        while self.report.steps < self.options.steps {
            self.step()?;
        }
        self.calm_down()?;
        let (deadline, steps_max) = (self.now + REST_US, self.report.steps + REST_STEPS_MAX);
        while !self.is_at_rest() {
            if self.now > deadline || self.report.steps > steps_max {
                return Err(format!("the cluster does not come to rest: {}", self.unrest()));
            }
            self.step()?;
        }
        self.report.elections = self.checker.elections();
        self.report.committed = self.checker.committed().get();
        self.check_end()
    }

    /// Ends all faults; every node wants to say one more thing.
    fn calm_down(&mut self) -> Result<(), String> {
        self.tell(|| "--- all faults end".into());
        self.quiet = true;
        self.faults = Faults::NONE;
        self.network.heal();
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            if let Some(node) = self.nodes.get_mut(&id) {
                node.paused_until = 0;
            }
            self.start(id)?;
            let run = self.run_of(id);
            self.plan_client(id, run, 0);
        }
        Ok(())
    }

    /// A client's next turn; it takes the place of the one planned before.
    fn plan_client(&mut self, id: NodeId, run: u64, after: u64) {
        let due = self.now + after;
        if let Some(up) = self.up(id) {
            up.client.due = due;
        }
        self.plan(after, Plan::Client(id, run));
    }

    fn client_due(&self, id: NodeId) -> u64 {
        let up = self.nodes.get(&id).and_then(|node| node.up.as_ref());
        up.map_or(0, |up| up.client.due)
    }

    fn is_at_rest(&self) -> bool {
        let mut running = self.nodes.values().filter_map(|node| node.up.as_ref());
        let Some(leader) = running.find(|up| up.core.role() == RoleName::Leader) else {
            return false;
        };
        let last = leader.core.last().index;
        let is_lost = |id| self.nodes.get(&id).is_some_and(|node| node.health == Health::Lost);
        let members = leader.core.members().members.iter();
        let learners = members.filter(|m| !m.role.is_voter()).any(|m| !is_lost(m.id));
        self.joining.is_none()
            && !learners
            && self.nodes.values().filter(|node| node.health != Health::Lost).all(|node| {
                node.up.as_ref().is_some_and(|up| {
                    up.client.outstanding.is_none()
                        && up.core.commit() == last
                        && up.machine.at.index == last
                })
            })
    }

    fn unrest(&self) -> String {
        let lines = self.nodes.values().map(|node| match &node.up {
            None => format!("{} is down and {:?}", node.id, node.health),
            Some(up) => format!(
                "{} {:?} term {} commit {} last {} applied {} waits for {:?} needs {:?}",
                node.id,
                up.core.role(),
                up.core.term(),
                up.core.commit(),
                up.core.last().index,
                up.machine.at.index,
                up.client.outstanding.as_ref().map(|proposal| proposal.serial.get()),
                up.need
            ),
        });
        let joining = format!("joining {:?}", self.joining);
        lines.chain([joining]).collect::<Vec<_>>().join("; ")
    }

    /// At rest all states are the same.
    fn check_end(&mut self) -> Result<(), String> {
        let mut states = self.nodes.values().filter_map(|node| node.up.as_ref());
        let Some(first) = states.next().map(|up| &up.machine) else { return Ok(()) };
        self.report.accepted = first.accepted;
        let same = |up: &Running| up.machine.hash == first.hash && up.machine.at == first.at;
        if states.all(same) { Ok(()) } else { Err("the states differ at rest".into()) }
    }

    fn plan(&mut self, after: u64, plan: Plan) {
        self.planned += 1;
        self.plans.push(Reverse(Planned { at: self.now + after, order: self.planned, plan }));
    }

    fn tell(&mut self, line: impl FnOnce() -> String) {
        if self.options.story == Story::Told {
            if self.story.len() >= STORY_LINES {
                self.story.pop_front();
            }
            self.story.push_back(format!("{:>9}us {}", self.now, line()));
        }
    }

    fn run_of(&self, id: NodeId) -> u64 {
        self.nodes.get(&id).map_or(0, |node| node.run)
    }

    fn step(&mut self) -> Result<(), String> {
        let Some(Reverse(planned)) = self.plans.pop() else {
            return Err("nothing is planned any more".into());
        };
        self.now = planned.at;
        self.report.steps += 1;
        self.report.hash = fold(self.report.hash, self.now);
        let (id, run) = match &planned.plan {
            Plan::Deliver(message) => (message.to, self.run_of(message.to)),
            Plan::Tick(id, run)
            | Plan::Disk(id, run)
            | Plan::Apply(id, run)
            | Plan::Client(id, run)
            | Plan::Fetch(id, run) => (*id, *run),
            Plan::Start(id) => return self.start(*id),
            Plan::Evil => {
                self.do_evil();
                return Ok(());
            }
            Plan::Daily => return self.do_daily(),
        };
        let Some(node) = self.nodes.get(&id).filter(|node| node.run == run) else { return Ok(()) };
        if node.up.is_none() {
            return Ok(());
        }
        if node.paused_until > self.now {
            let after = node.paused_until - self.now;
            self.plan(after, planned.plan);
            return Ok(());
        }
        self.report.hash = fold(self.report.hash, id.get());
        match planned.plan {
            Plan::Deliver(message) => {
                self.tell(|| in_words(&message));
                self.react(id, Event::Message(message))
            }
            Plan::Tick(..) => {
                if let Some(up) = self.up(id) {
                    up.tick_planned = u64::MAX;
                }
                self.react(id, Event::Tick)
            }
            Plan::Disk(..) => self.end_disk(id),
            Plan::Apply(..) => self.apply(id),
            // Only the newest of its plans counts.
            Plan::Client(..) if self.client_due(id) != self.now => Ok(()),
            Plan::Client(..) => self.propose(id),
            Plan::Fetch(..) => self.fetch(id),
            Plan::Start(_) | Plan::Evil | Plan::Daily => Ok(()),
        }
    }

    fn up(&mut self, id: NodeId) -> Option<&mut Running> {
        self.nodes.get_mut(&id)?.up.as_mut()
    }

    /// Lets a node's core take one event, checks everything, and carries out what it wants.
    fn react(&mut self, id: NodeId, event: Event) -> Result<(), String> {
        let now = Time::from_micros(self.now);
        let Some(up) = self.nodes.get_mut(&id).and_then(|node| node.up.as_mut()) else {
            return Ok(());
        };
        let before = Before { last: up.core.last(), commit: up.core.commit() };
        let mut out = Output::default();
        up.core.step(now, event, &mut out);
        up.core.check_invariants()?;
        let (commit, term) = (up.core.commit().get(), up.core.term().get());
        for number in [commit, term, up.core.last().index.get()] {
            self.report.hash = fold(self.report.hash, number);
        }
        if let Some(fatal) = out.fatal {
            return Err(format!("{id} stops: {fatal:?}"));
        }
        self.check(id, before.last.index, &out)?;
        let Some(up) = self.nodes.get_mut(&id).and_then(|node| node.up.as_mut()) else {
            return Ok(());
        };
        self.checker.on_write(&up.core, before, &out.log_ops)?;
        self.carry_out(id, out)
    }

    fn check(&mut self, id: NodeId, before: Index, out: &Output) -> Result<(), String> {
        let Self { nodes, checker, .. } = self;
        let Some(node) = nodes.get(&id) else { return Ok(()) };
        let Some(up) = &node.up else { return Ok(()) };
        if out.roles.iter().any(|change| change.role == RoleName::Leader) {
            checker.on_leader(&up.core)?;
        }
        let members = up.core.members_at(before);
        checker.on_commit(&up.core, members, |id| nodes.get(&id).map(|node| &node.shadow))?;
        for message in &out.messages {
            checker.on_send(&node.shadow, message)?;
        }
        for entry in &out.committed {
            Checker::on_hand_out(id, &node.shadow, entry)?;
        }
        Ok(())
    }

    fn carry_out(&mut self, id: NodeId, out: Output) -> Result<(), String> {
        for change in &out.roles {
            self.tell(|| format!("{id} {change:?}"));
        }
        for read in &out.log_reads {
            self.tell(|| format!("{id} {read:?}"));
        }
        for message in out.messages {
            let ways: Vec<u64> = self
                .network
                .ways(message.from, message.to, &self.faults, &mut self.random)
                .collect();
            for way in ways {
                self.plan(way, Plan::Deliver(message.clone()));
            }
        }
        for read in out.reads {
            self.end_read(id, read.id, read.index)?;
        }
        if !out.refused.is_empty() {
            let (after, run) = (self.random.between(5_000, 100_000), self.run_of(id));
            self.plan_client(id, run, after);
        }
        for answer in out.changes {
            self.joined(answer)?;
        }
        let run = self.run_of(id);
        let now = self.now;
        let late = self.random.between(0, 2_000);
        let Some(up) = self.up(id) else { return Ok(()) };
        if !out.log_ops.is_empty() {
            up.queue(Job::Write { ops: out.log_ops, io: out.io });
        }
        let reads = u64::try_from(out.log_reads.len()).unwrap_or(0);
        out.log_reads.into_iter().for_each(|read| up.queue(Job::Read(read)));
        up.applying.extend(out.committed);
        let deadline = up.core.deadline().as_micros().max(now);
        let tick = (deadline < up.tick_planned).then_some(deadline);
        up.tick_planned = up.tick_planned.min(deadline);
        let apply = !up.applying.is_empty() && !std::mem::replace(&mut up.apply_planned, true);
        if let Some(need) = out.need_state {
            up.need = Some(need);
            self.plan(5_000, Plan::Fetch(id, run));
        }
        if let Some(deadline) = tick {
            self.plan(deadline - now + late, Plan::Tick(id, run));
        }
        if apply {
            let after = self.random.between(10, 3_000);
            self.plan(after, Plan::Apply(id, run));
        }
        self.report.log_reads += reads;
        self.begin_disk(id)
    }

    fn begin_disk(&mut self, id: NodeId) -> Result<(), String> {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let run = node.run;
        if node.begin_disk()? {
            let stall = if self.random.per_mille(self.faults.stall) { 3_000_000 } else { 0 };
            let after = self.random.between(50, self.faults.sync_us) + stall;
            self.plan(after, Plan::Disk(id, run));
        }
        Ok(())
    }

    fn end_disk(&mut self, id: NodeId) -> Result<(), String> {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let batch = node.end_disk()?;
        if let Some(io) = batch.io {
            self.react(id, Event::Durable(io))?;
        }
        for (purpose, entries) in batch.reads {
            let (count, first) = (entries.len(), entries.first().map(|entry| entry.index));
            self.tell(|| format!("{id} read {count} from {first:?} for {purpose:?}"));
            self.react(id, Event::LogRead { purpose, entries })?;
        }
        self.begin_disk(id)
    }

    /// Applies some of what is committed.
    fn apply(&mut self, id: NodeId) -> Result<(), String> {
        let count = self.random.between(1, 8);
        let Self { nodes, checker, .. } = self;
        let Some(node) = nodes.get_mut(&id) else { return Ok(()) };
        let Some(up) = node.up.as_mut() else { return Ok(()) };
        let mut settled = false;
        for _ in 0..count {
            let Some(entry) = up.applying.pop_front() else { break };
            up.machine.apply(&entry)?;
            checker.on_apply(id, &entry, &up.machine)?;
            if let Content::Proposal(proposal) = &entry.content {
                settled |= up.client.settle(proposal);
            }
        }
        let more = !up.applying.is_empty();
        up.apply_planned = more;
        let (applied, run) = (up.machine.at.index, node.run);
        if more {
            let after = self.random.between(10, 3_000);
            self.plan(after, Plan::Apply(id, run));
        }
        if settled && !self.quiet {
            let after = self.random.between(0, self.think_us);
            self.plan_client(id, run, after);
        }
        self.react(id, Event::Applied { applied, placed: applied })
    }

    /// Proposes something new, or once more what was not seen yet.
    fn propose(&mut self, id: NodeId) -> Result<(), String> {
        let bytes = self.random.between(0, 400);
        let again = self.random.between(150_000, 400_000);
        let (run, quiet) = (self.run_of(id), self.quiet);
        let Some(up) = self.up(id) else { return Ok(()) };
        // In the end everybody has one last word.
        if quiet && up.client.outstanding.is_none() && std::mem::replace(&mut up.client.done, true)
        {
            return Ok(());
        }
        let proposal = match &up.client.outstanding {
            Some(proposal) => Arc::clone(proposal),
            None => up.client.next(id, usize::try_from(bytes).unwrap_or(0)),
        };
        self.plan_client(id, run, again);
        self.send_proposal(id, proposal)
    }

    fn send_proposal(&mut self, id: NodeId, proposal: Arc<Proposal>) -> Result<(), String> {
        let Some(up) = self.up(id) else { return Ok(()) };
        match up.core.forward(Arc::clone(&proposal)) {
            Some(message) => {
                let ways: Vec<u64> =
                    self.network.ways(id, message.to, &self.faults, &mut self.random).collect();
                for way in ways {
                    self.plan(way, Plan::Deliver(message.clone()));
                }
                Ok(())
            }
            None if up.core.role() == RoleName::Leader => self.react(id, Event::Propose(proposal)),
            None => Ok(()),
        }
    }

    /// Fetches a whole state from another node.
    fn fetch(&mut self, id: NodeId) -> Result<(), String> {
        let run = self.run_of(id);
        let Some(need) = self.up(id).and_then(|up| up.need) else { return Ok(()) };
        let source = self.nodes.get(&need.from).and_then(|node| node.up.as_ref());
        let found = source.filter(|up| up.machine.at.index >= need.at_least.index).map(|up| {
            let members = up.core.members_at(up.machine.at.index).clone();
            (up.machine.clone(), members)
        });
        let Some((mut machine, members)) = found.filter(|_| self.random.per_mille(700)) else {
            self.plan(50_000, Plan::Fetch(id, run));
            return Ok(());
        };
        machine.members = Some(members.clone());
        let at = machine.at;
        self.tell(|| format!("{id} installs the state of {at:?} from {}", need.from));
        self.report.installs += 1;
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        node.checkpoint = machine.clone();
        if let Some(up) = &mut node.up {
            up.need = None;
            up.machine = machine;
            up.applying.clear();
        }
        self.react(id, Event::StateInstalled { at, members })
    }

    fn start(&mut self, id: NodeId) -> Result<(), String> {
        let seed = self.random.next();
        let now = self.now;
        let is_down = |node: &&mut Node| node.up.is_none() && node.health != Health::Lost;
        let Some(node) = self.nodes.get_mut(&id).filter(is_down) else { return Ok(()) };
        node.start(now, seed)?;
        let run = node.run;
        if node.health == Health::Lost {
            self.report.lost += 1;
            self.tell(|| format!("{id} finds its log damaged and stays down"));
            return Ok(());
        }
        let ahead = node.up.as_ref().filter(|up| up.machine.at.index > up.core.last().index);
        let at = ahead.map(|up| (up.machine.at, up.machine.members.clone()));
        self.tell(|| format!("{id} starts"));
        let after = self.random.between(0, 100_000);
        self.plan_client(id, run, after);
        match at {
            // It died after a state was installed and before the log knew.
            Some((at, members)) => {
                let members = members.unwrap_or_else(|| self.first_members.clone());
                self.react(id, Event::StateInstalled { at, members })
            }
            None => self.react(id, Event::Tick),
        }
    }

    fn crash(&mut self, id: NodeId) {
        let keep = match self.random.between(0, 3) {
            0 => Keep::Nothing,
            1 => Keep::Everything,
            _ => Keep::Any(self.random.next()),
        };
        let rest = if self.random.per_mille(100) { 8_000_000 } else { 1_500_000 };
        let after = self.random.between(1_000, rest);
        self.tell(|| format!("{id} dies, its disk keeps {keep:?}"));
        let unsound = self.nodes.values().filter(|node| node.health != Health::Sound).count();
        let rots = u64::try_from(unsound).is_ok_and(|unsound| unsound < self.rot_max)
            && self.rot_random.per_mille(self.faults.rot);
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.health != Health::Lost) else {
            return;
        };
        node.crash(keep);
        self.report.crashes += 1;
        if rots {
            node.rot(&mut self.rot_random);
        }
        self.plan(after, Plan::Start(id));
    }

    /// One deed of the evil hand.
    fn do_evil(&mut self) {
        let after = self.random.between(self.faults.evil_us / 2, self.faults.evil_us * 2);
        self.plan(after, Plan::Evil);
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        let Some(victim) = self.random.pick(&ids) else { return };
        if self.random.per_mille(self.faults.crash) {
            let all = self.random.per_mille(100);
            for id in ids.iter().filter(|id| all || **id == victim) {
                self.crash(*id);
            }
        }
        if self.random.per_mille(self.faults.partition) {
            self.network.disturb(&ids, &mut self.random);
        }
        if self.random.per_mille(self.faults.pause) {
            let until = self.now + self.random.between(50_000, 2_000_000);
            if let Some(node) = self.nodes.get_mut(&victim) {
                node.paused_until = until;
            }
        }
    }

    /// What people and the rooms above do on any day.
    fn do_daily(&mut self) -> Result<(), String> {
        let after = self.random.between(20_000, 200_000);
        self.plan(after, Plan::Daily);
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        let Some(id) = self.random.pick(&ids) else { return Ok(()) };
        if self.quiet {
            return self.ask_to_join();
        }
        match self.random.between(0, 19) {
            0..=6 => self.begin_read(id),
            7..=12 => self.checkpoint(id),
            13 => {
                let to = self.random.pick(&ids).filter(|_| self.random.per_mille(500));
                self.report.transfers += 1;
                self.react(id, Event::Transfer(to))
            }
            14..=15 => {
                let peer = self.random.pick(&ids).unwrap_or(id);
                self.react(id, Event::Unreachable(peer))
            }
            16..=17 => self.ask_to_join(),
            _ => Ok(()),
        }
    }

    fn begin_read(&mut self, id: NodeId) -> Result<(), String> {
        self.next_request += 1;
        let read = ReadId::new(self.next_request);
        let floor = self.checker.committed();
        let Some(up) = self.up(id) else { return Ok(()) };
        up.reads.push((read, floor));
        self.react(id, Event::ReadIndex(read))
    }

    fn end_read(&mut self, id: NodeId, read: ReadId, index: Option<Index>) -> Result<(), String> {
        let Some(up) = self.up(id) else { return Ok(()) };
        let Some(place) = up.reads.iter().position(|(known, _)| *known == read) else {
            return Err(format!("{id} answers read {read} twice"));
        };
        let (_, floor) = up.reads.swap_remove(place);
        match index {
            Some(index) => {
                self.report.reads += 1;
                Checker::on_read(id, floor, index)
            }
            None => Ok(()),
        }
    }

    /// Makes the state above durable, and lets the log go up to some entry before it.
    fn checkpoint(&mut self, id: NodeId) -> Result<(), String> {
        let kept = self.random.between(0, 10);
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let Some(up) = &node.up else { return Ok(()) };
        node.checkpoint = up.machine.clone();
        let through = Index::new(up.machine.at.index.get().saturating_sub(kept));
        self.react(id, Event::Compact { through })
    }

    /// A new node asks to join, or asks again.
    fn ask_to_join(&mut self) -> Result<(), String> {
        if self.joining.is_none() && !self.quiet && self.next_name <= NODES_MAX {
            self.joining = Some(self.next_name);
            self.next_name += 1;
        }
        let Some(name) = self.joining else { return Ok(()) };
        let leader = self.nodes.values().find_map(|node| {
            let up = node.up.as_ref()?;
            (up.core.role() == RoleName::Leader).then_some(node.id)
        });
        let Some(leader) = leader else { return Ok(()) };
        self.next_request += 1;
        let request = ChangeId(self.next_request);
        let (name, address) = (format!("node{name}"), format!("host:{name}"));
        let change = Change::Add { name, address, aim: Aim::Voter };
        self.react(leader, Event::ChangeMembers { request, change })
    }

    fn joined(&mut self, answer: ChangeAnswer) -> Result<(), String> {
        let Ok(member) = answer.result else { return Ok(()) };
        if self.joining.is_some_and(|name| format!("node{name}") == member.name) {
            self.joining = None;
        }
        if self.nodes.contains_key(&member.id) {
            return Ok(());
        }
        self.tell(|| format!("{} joins", member.id));
        self.report.joins += 1;
        self.nodes.insert(member.id, Node::new(member.id, Members::default())?);
        self.start(member.id)
    }
}

/// What a panic said.
fn in_panic(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it panics: {}", text.unwrap_or("without words"))
}

/// A message without the bytes that it carries.
fn in_words(message: &Message) -> String {
    let Message { from, to, term, body } = message;
    let body = match body {
        Body::Append { previous, commit, entries } => {
            let last = entries.last().map_or(previous.index, |entry| entry.index);
            let previous = format!("{}@{}", previous.index, previous.term);
            format!("Append after {previous} until {last} commit {commit}")
        }
        Body::Propose(proposal) => format!("Propose {}", proposal.serial),
        other => format!("{other:?}"),
    };
    format!("{from}->{to} t{term} {body}")
}

/// The members that a cluster of this size begins with.
fn first_members(size: u64) -> Members {
    let member = |id: u64| Member {
        id: NodeId::new(id),
        name: format!("node{id}"),
        address: format!("host:{id}"),
        role: MemberRole::Voter,
    };
    Members {
        members: (1..=size).map(member).collect(),
        next_id: NodeId::new(size + 1),
        ..Members::default()
    }
}
