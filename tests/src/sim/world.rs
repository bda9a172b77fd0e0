//! The world: time, what is planned, and the nodes.

use std::any::Any;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use pickbox_raft_core::event::RoleName;
use pickbox_raft_core::ids::{Index, NodeId};
use pickbox_raft_core::log::Content;
use pickbox_raft_core::members::{Member, MemberRole, Members};
use pickbox_raft_core::message::{Body, Message};
use pickbox_raft_core::time::Time;
use pickbox_raft_core::{Event, Output, PreVote};

use super::checker::{Before, Checker};
use super::faults::{Deed, Faults};
use super::machine::fold;
use super::network::Network;
use super::node::{Health, Job, Node, Running, Started, Turn};
use super::random::Random;
use super::wishes::{Wish, key_of};
use super::{Failure, Options, Report, Story};

/// How long it may take until something new is accepted: twenty election timeouts.
const ACCEPT_US: u64 = 20 * 500_000;
/// How long the cluster may take to come to rest, in its own time.
const REST_US: u64 = 60_000_000;
/// Steps of a run without faults that is not at rest by then: something loops.
const REST_STEPS_MAX: u64 = 400_000;
/// Lines of a told story.
const STORY_LINES: usize = 300;
/// How many times as long a slow disk takes.
const SLOWER: u64 = 30;

/// Something that will happen.
#[derive(Debug)]
pub(super) enum Plan {
    Deliver(Message),
    /// Of a node's run, due at this moment.
    Tick(NodeId, u64, u64),
    Disk(NodeId, u64),
    Apply(NodeId, u64),
    Client(NodeId, u64),
    Fetch(NodeId, u64),
    Start(NodeId),
    Space(NodeId),
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
    pub(super) random: Random,
    pub(super) faults: Faults,
    pub(super) network: Network,
    pub(super) checker: Checker,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    plans: BinaryHeap<Reverse<Planned>>,
    planned: u64,
    pub(super) now: u64,
    /// Time between a client's proposals, at most.
    pub(super) think_us: u64,
    first_members: Members,
    /// The change of the members that people wish for.
    pub(super) wish: Option<Wish>,
    pub(super) quiet: bool,
    /// Some nodes vote without asking, as long as the world lasts.
    has_blunt_votes: bool,
    /// When all faults ended, and when something proposed after that took effect.
    quiet_at: u64,
    accepted_at: Option<u64>,
    pub(super) next_name: u64,
    pub(super) next_request: u64,
    pub(super) report: Report,
    story: VecDeque<String>,
}

impl World {
    pub(crate) fn new(options: Options) -> Self {
        let mut random = Random::new(options.seed);
        // By a chance of its own: worlds without it stay what they are.
        let faults = Faults::draw(&mut random).with_blunt_votes(&mut Random::new(!options.seed));
        let has_blunt_votes = faults.allows(Deed::BluntVote);
        let size = random.pick(&[1, 2, 3, 3, 3, 4, 5]).unwrap_or(3);
        let think_us = random.pick(&[2_000, 50_000, 200_000]).unwrap_or(50_000);
        Self {
            options,
            random,
            faults,
            network: Network::default(),
            checker: Checker::default(),
            nodes: BTreeMap::new(),
            plans: BinaryHeap::new(),
            planned: 0,
            now: 1_000_000,
            think_us,
            first_members: first_members(size),
            wish: None,
            quiet: false,
            has_blunt_votes,
            quiet_at: 0,
            accepted_at: None,
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
            Ok(()) => {
                self.report.story = self.story.into();
                Ok(self.report)
            }
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
        let (faults, size) = (self.faults.to_string(), members.members.len());
        self.tell(|| format!("--- {size} nodes in a world of {faults}"));
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
        self.come_to_rest()?;
        self.report.elections = self.checker.elections();
        self.report.committed = self.checker.committed().get();
        self.check_end()
    }

    /// Ends all faults; every node wants to say one more thing.
    fn calm_down(&mut self) -> Result<(), String> {
        self.tell(|| "--- all faults end".into());
        self.quiet = true;
        self.quiet_at = self.now;
        self.faults = Faults::none();
        self.network.heal();
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            if let Some(node) = self.nodes.get_mut(&id) {
                node.heal(self.now);
            }
            self.start(id)?;
            let run = self.run_of(id);
            self.plan_client(id, run, 0);
            self.plan(0, Plan::Disk(id, run));
            self.plan_tick(id);
        }
        Ok(())
    }

    /// Without faults something new must be accepted soon, and all must agree in the end.
    fn come_to_rest(&mut self) -> Result<(), String> {
        let steps_max = self.report.steps + REST_STEPS_MAX;
        // Who votes without asking makes others wait anew each time, and one whose disk was slow
        // waits longer for a while (seed 2390): these only end up well.
        let accept_us = if self.has_blunt_votes { REST_US } else { ACCEPT_US };
        while !self.is_at_rest() {
            let waited = self.now - self.quiet_at;
            if self.accepted_at.is_none() && waited > accept_us {
                return Err(format!("nothing new is accepted: {}", self.unrest()));
            }
            if waited > REST_US || self.report.steps > steps_max {
                return Err(format!("the cluster does not come to rest: {}", self.unrest()));
            }
            self.step()?;
        }
        self.report.accept_us = self.accepted_at.map_or(0, |at| at - self.quiet_at);
        Ok(())
    }

    /// A client's next turn; it takes the place of the one planned before.
    pub(super) fn plan_client(&mut self, id: NodeId, run: u64, after: u64) {
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

    /// All members that are there have everything, and nobody wants anything more.
    fn is_at_rest(&self) -> bool {
        let Some(leader) = self.newest_leader() else { return false };
        let Some(up) = self.nodes.get(&leader).and_then(|node| node.up.as_ref()) else {
            return false;
        };
        let (last, members) = (up.core.last().index, up.core.members());
        // Who was listed and never came, or came and was lost, stays what it is.
        let there = || members.members.iter().filter(|member| self.is_sound(member.id));
        let is_staging = |m: &Member| matches!(m.role, MemberRole::Staging { .. });
        self.wish.is_none()
            && !members.is_joint()
            && !there().any(is_staging)
            && there().filter_map(|member| self.nodes.get(&member.id)).all(|node| {
                node.up.as_ref().is_some_and(|up| {
                    up.client.outstanding.is_none()
                        && up.core.commit() == last
                        && up.machine.at.index == last
                })
            })
    }

    fn unrest(&self) -> String {
        let there = self.nodes.values().filter(|node| node.health != Health::Retired);
        let lines = there.map(|node| match &node.up {
            None => format!("{} is down and {:?}", node.id, node.health),
            Some(up) => format!(
                "{} {:?} term {} commit {} last {} applied {} waits for {:?} needs {:?} of {}",
                node.id,
                up.core.role(),
                up.core.term(),
                up.core.commit(),
                up.core.last().index,
                up.machine.at.index,
                up.client.outstanding.as_ref().map(|proposal| proposal.serial.get()),
                up.need,
                voters_of(up.core.members())
            ),
        });
        let wish = format!("people wish for {:?}", self.wish);
        let members = self.newest_leader().map(|leader| self.members_of(leader));
        lines.chain([wish, format!("{members:?}")]).collect::<Vec<_>>().join("; ")
    }

    /// At rest all states are the same.
    fn check_end(&mut self) -> Result<(), String> {
        let members =
            self.newest_leader().map(|leader| self.members_of(leader)).unwrap_or_default();
        let nodes = self.nodes.values().filter(|node| members.get(node.id).is_some());
        let mut states = nodes.filter_map(|node| node.up.as_ref());
        let Some(first) = states.next().map(|up| &up.machine) else { return Ok(()) };
        self.report.accepted = first.accepted;
        let same = |up: &Running| up.machine.hash == first.hash && up.machine.at == first.at;
        if states.all(same) { Ok(()) } else { Err("the states differ at rest".into()) }
    }

    pub(super) fn plan(&mut self, after: u64, plan: Plan) {
        self.planned += 1;
        self.plans.push(Reverse(Planned { at: self.now + after, order: self.planned, plan }));
    }

    pub(super) fn tell(&mut self, line: impl FnOnce() -> String) {
        if self.options.story != Story::Untold {
            if self.options.story == Story::Last && self.story.len() >= STORY_LINES {
                self.story.pop_front();
            }
            self.story.push_back(format!("{:>9}us {}", self.now, line()));
        }
    }

    pub(super) fn run_of(&self, id: NodeId) -> u64 {
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
            Plan::Tick(id, run, _)
            | Plan::Disk(id, run)
            | Plan::Apply(id, run)
            | Plan::Client(id, run)
            | Plan::Fetch(id, run) => (*id, *run),
            Plan::Start(id) => return self.start(*id),
            Plan::Space(id) => {
                if let Some(node) = self.nodes.get(id) {
                    node.disk.set_capacity(None);
                }
                return Ok(());
            }
            Plan::Evil => return self.do_evil(),
            Plan::Daily => return self.do_daily(),
        };
        let Some(node) = self.nodes.get(&id).filter(|node| node.run == run) else { return Ok(()) };
        if node.up.is_none() {
            return Ok(());
        }
        let is_disk = matches!(planned.plan, Plan::Disk(..));
        let free_at =
            if is_disk { node.hangs_until.max(node.paused_until) } else { node.paused_until };
        if free_at > self.now {
            let deed =
                if is_disk && node.hangs_until > self.now { Deed::HungDisk } else { Deed::Pause };
            self.report.tally.count(deed);
            self.plan(free_at - self.now, planned.plan);
            return Ok(());
        }
        self.report.hash = fold(self.report.hash, id.get());
        self.carry_on(id, planned.plan)
    }

    /// Whether the receiver lets the sender in. The transport refuses whom it knows to be removed;
    /// the core needs that only where nodes vote without asking, for these disturb without end.
    fn is_refused(&self, message: &Message) -> bool {
        let receiver = self.nodes.get(&message.to).and_then(|node| node.up.as_ref());
        self.has_blunt_votes
            && receiver.is_some_and(|up| up.core.committed_members().has_removed(message.from))
    }

    /// What was planned for a node happens.
    fn carry_on(&mut self, id: NodeId, plan: Plan) -> Result<(), String> {
        match plan {
            Plan::Deliver(message) if self.is_refused(&message) => {
                self.tell(|| format!("{id} refuses {}", in_words(&message)));
                Ok(())
            }
            Plan::Deliver(message) => {
                self.tell(|| in_words(&message));
                self.react(id, Event::Message(message))
            }
            // Only the newest of its plans counts, as for clients.
            Plan::Tick(.., due) if self.up(id).is_none_or(|up| up.tick_planned != due) => Ok(()),
            Plan::Tick(..) => {
                self.tell(|| format!("{id} looks at its clock"));
                if let Some(up) = self.up(id) {
                    up.tick_planned = u64::MAX;
                }
                self.react(id, Event::Tick)
            }
            Plan::Disk(..) => self.end_disk(id),
            Plan::Apply(..) => self.apply(id),
            Plan::Client(..) if self.client_due(id) != self.now => Ok(()),
            Plan::Client(..) => self.propose(id),
            Plan::Fetch(..) => self.fetch(id),
            Plan::Start(_) | Plan::Space(_) | Plan::Evil | Plan::Daily => Ok(()),
        }
    }

    pub(super) fn up(&mut self, id: NodeId) -> Option<&mut Running> {
        self.nodes.get_mut(&id)?.up.as_mut()
    }

    /// Lets a node's core take one event, checks everything, and carries out what it wants.
    pub(super) fn react(&mut self, id: NodeId, event: Event) -> Result<(), String> {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let now = Time::from_micros(node.clock.read(self.now));
        let Some(up) = node.up.as_mut() else { return Ok(()) };
        let before = Before { last: up.core.last(), commit: up.core.commit() };
        let mut out = Output::default();
        up.core.step(now, event, &mut out);
        up.core.check_invariants()?;
        let (commit, term) = (up.core.commit().get(), up.core.term().get());
        for number in [commit, term, up.core.last().index.get()] {
            self.report.hash = fold(self.report.hash, number);
        }
        if up.core.commit() < before.commit {
            return Err(format!("{id} takes back what it committed"));
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
            self.send(&message);
        }
        for read in out.reads {
            self.end_read(id, read.id, read.index)?;
        }
        if !out.refused.is_empty() {
            let (after, run) = (self.random.between(5_000, 100_000), self.run_of(id));
            self.plan_client(id, run, after);
        }
        for answer in out.changes {
            self.on_answer(answer)?;
        }
        let run = self.run_of(id);
        let Some(up) = self.up(id) else { return Ok(()) };
        if !out.log_ops.is_empty() {
            up.queue(Job::Write { ops: out.log_ops, io: out.io });
        }
        let reads = u64::try_from(out.log_reads.len()).unwrap_or(0);
        out.log_reads.into_iter().for_each(|read| up.queue(Job::Read(read)));
        up.applying.extend(out.committed);
        let apply = !up.applying.is_empty() && !std::mem::replace(&mut up.apply_planned, true);
        if let Some(need) = out.need_state {
            up.need = Some(need);
            self.plan(5_000, Plan::Fetch(id, run));
        }
        self.plan_tick(id);
        if apply {
            let after = self.random.between(10, 3_000);
            self.plan(after, Plan::Apply(id, run));
        }
        self.report.log_reads += reads;
        self.begin_disk(id)
    }

    /// Puts a message on its way, or loses it.
    pub(super) fn send(&mut self, message: &Message) {
        let Self { network, faults, random, report, now, .. } = self;
        let link = (message.from, message.to);
        let ways = network.ways(link, *now, faults, random, &mut report.tally);
        for way in ways {
            self.plan(way, Plan::Deliver(message.clone()));
        }
    }

    /// Lets a node look at its clock when it wants to, by that clock.
    pub(super) fn plan_tick(&mut self, id: NodeId) {
        let (now, late) = (self.now, self.random.between(0, 2_000));
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let (run, clock) = (node.run, node.clock);
        let Some(up) = &mut node.up else { return };
        let due = clock.when(up.core.deadline().as_micros()).max(now);
        if due < up.tick_planned {
            up.tick_planned = due;
            self.plan(due - now + late, Plan::Tick(id, run, due));
        }
    }

    fn begin_disk(&mut self, id: NodeId) -> Result<(), String> {
        let sync_us = self.random.between(50, self.faults.sync_us);
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let (run, slow) = (node.run, node.slow_until > self.now);
        match node.begin_disk()? {
            Turn::Idle => {}
            Turn::Busy if slow => {
                self.report.tally.count(Deed::SlowDisk);
                self.plan(sync_us * SLOWER, Plan::Disk(id, run));
            }
            Turn::Busy => self.plan(sync_us, Plan::Disk(id, run)),
            Turn::Failed => self.end_after_disk_error(id),
        }
        Ok(())
    }

    fn end_disk(&mut self, id: NodeId) -> Result<(), String> {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let run = node.run;
        let (turn, batch) = node.end_disk()?;
        match turn {
            Turn::Idle => {}
            Turn::Busy => {
                self.tell(|| format!("{id} has no space for its log"));
                self.report.tally.count(Deed::NoSpace);
                self.plan(200_000, Plan::Disk(id, run));
                return Ok(());
            }
            Turn::Failed => {
                self.end_after_disk_error(id);
                return Ok(());
            }
        }
        if let Some(io) = batch.io {
            self.tell(|| format!("{id} has synced {io}"));
        }
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
        self.tell(|| format!("{id} applies up to {count} entries"));
        let Self { nodes, checker, .. } = self;
        let Some(node) = nodes.get_mut(&id) else { return Ok(()) };
        let Some(up) = node.up.as_mut() else { return Ok(()) };
        let mut settled = false;
        for _ in 0..count {
            let Some(entry) = up.applying.pop_front() else { break };
            if up.machine.apply(&entry)? {
                checker.on_effect(&entry)?;
            }
            checker.on_apply(id, &entry, &up.machine)?;
            if let Content::Proposal(proposal) = &entry.content
                && up.client.settle(proposal)
            {
                settled = true;
                checker.on_acknowledged(proposal)?;
                if self.quiet && up.client.asked_at >= self.quiet_at {
                    self.accepted_at.get_or_insert(self.now);
                }
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

    pub(super) fn start(&mut self, id: NodeId) -> Result<(), String> {
        let seed = self.random.next();
        let now = self.now;
        let is_over = |node: &Node| matches!(node.health, Health::Lost | Health::Retired);
        let is_down = |node: &&mut Node| node.up.is_none() && !is_over(node);
        let Some(node) = self.nodes.get_mut(&id).filter(is_down) else { return Ok(()) };
        let blunt = self.has_blunt_votes && id.get().is_multiple_of(2);
        let pre_vote = if blunt { PreVote::Off } else { PreVote::On };
        if blunt {
            self.report.tally.count(Deed::BluntVote);
        }
        let started = node.start(now, seed, pre_vote)?;
        let run = node.run;
        match started {
            Started::Up => {}
            Started::Later => {
                self.tell(|| format!("{id} cannot start: its disk does not work"));
                self.plan(500_000, Plan::Start(id));
                return Ok(());
            }
            Started::Lost => {
                self.report.lost += 1;
                self.tell(|| format!("{id} finds its log damaged and stays down"));
                return Ok(());
            }
        }
        let Some(node) = self.nodes.get(&id) else { return Ok(()) };
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
}

/// The voters, of both sets while there are two, and the others.
fn voters_of(members: &Members) -> String {
    let ids = |ids: &mut dyn Iterator<Item = NodeId>| {
        ids.map(|id| id.to_string()).collect::<Vec<_>>().join(",")
    };
    let others = members.members.iter().filter(|m| !m.role.is_voter()).map(|m| m.id);
    format!(
        "{{{}}} and {{{}}} beside {{{}}}",
        ids(&mut members.voters()),
        ids(&mut members.outgoing_voters.iter().copied()),
        ids(&mut others.into_iter())
    )
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
        key: Some(key_of(&format!("node{id}"))),
    };
    Members {
        members: (1..=size).map(member).collect(),
        next_id: NodeId::new(size + 1),
        ..Members::default()
    }
}
