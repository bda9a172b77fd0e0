//! The consensus thread: owns the core and the sockets of its peers, touches no disk.
//!
//! One turn: wait for sockets, the bell or the core's deadline; step every message, everything
//! that the log writer has done and every command; then act on all output at once. What is to be
//! written goes to the log writer first, so that its sync and the messages to the peers run side
//! by side. Nothing in a turn waits for anybody: what a full channel does not take waits here,
//! within bounds that the core keeps.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use pickbox_raft_core::event::{ChangeAnswer, Fatal, Handover, ReadAnswer, RoleName};
use pickbox_raft_core::ids::{Incarnation, Index, NodeId};
use pickbox_raft_core::log::{Content, Entry, Payload};
use pickbox_raft_core::members::Members;
use pickbox_raft_core::message::Message;
use pickbox_raft_core::time::Time;
use pickbox_raft_core::{Core, Event, Output};

use crate::api::{Command, Counters, Delivery, MemberStatus, RoleChange, Status};
use crate::clock;
use crate::log_writer::{Failure, Job, LogEvent};
use crate::net::backoff::Quiet;
use crate::net::frame::{CONTROL_BYTES_MAX, Kind};
use crate::net::hello::{self, JoinReply};
use crate::net::transport::{Incoming, Transport};
use crate::net::trust::Logged;
use crate::trace::{Before, Tracer};
use crate::wal::WalCounters;

mod audit;
mod handle;
mod outstanding;
pub(crate) mod port;
mod refusals;
mod upward;
pub(crate) mod wishes;
mod wishing;

use audit::Audit;
pub use handle::{Closed, Handle};
use outstanding::{Attempt, Outstanding};
use port::LogPort;
use refusals::Refusals;
use upward::Upward;
use wishes::{Asker, Order, Outcome, Wishes};

/// Commands taken in one turn before the sockets get theirs.
const COMMANDS_PER_TURN: usize = 256;
/// How often to look whether the room above has taken something. Only while its channel is full.
const STALL_POLL: Duration = Duration::from_millis(1);
/// Leadership is handed over within this time, or the thread ends as leader.
const HANDOVER_MAX: Duration = Duration::from_secs(1);
/// The last word waits no longer for room.
const LAST_WORD_MAX: Duration = Duration::from_secs(1);

/// Why the log stopped.
#[derive(Debug)]
pub enum Stop {
    /// It was asked to.
    Asked,
    /// The disk failed, or the log on it cannot be: what, in words.
    Disk(String),
    /// A state that cannot be: what, in words.
    Fatal(String),
    /// This node's state is not what the cluster knows of it: its disk has lost or changed what it
    /// held, or it is a copy or an old image. The node has to be taken in anew.
    Lost {
        /// What was found, in words.
        why: String,
        /// The members, as far as this state knows them: whom to ask.
        members: Box<Members>,
    },
    /// The kernel refuses to poll.
    Poll(io::Error),
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Asked => write!(f, "the log was asked to stop"),
            Self::Disk(text) => write!(f, "the log's disk failed: {text}"),
            Self::Fatal(text) => write!(f, "the log cannot go on: {text}"),
            Self::Lost { why, .. } => write!(f, "this node's state is not to be trusted: {why}"),
            Self::Poll(error) => write!(f, "cannot poll: {error}"),
        }
    }
}

impl std::error::Error for Stop {}

/// The consensus thread's body.
#[derive(Debug)]
pub struct Consensus {
    core: Core,
    transport: Transport,
    commands: Receiver<Command>,
    log: LogPort,
    up: Upward,
    /// The core's time begins here.
    origin: Instant,
    output: Output,
    incoming: Vec<Incoming>,
    outstanding: Outstanding,
    wishes: Wishes,
    refusals: Refusals,
    tracer: Option<Tracer>,
    applied: Index,
    placed: Index,
    incarnation: Incarnation,
    malformed: Quiet,
    audit: Audit,
    /// When it may ask again who the members are, and whose answers are to come.
    ask_again: Instant,
    asked: BTreeSet<NodeId>,
    /// Set when asked to stop: until then leadership is handed over.
    stop_by: Option<Instant>,
    wal: WalCounters,
}

/// What a [`Consensus`] is made of.
pub(crate) struct Pieces {
    pub(crate) core: Core,
    pub(crate) origin: Instant,
    pub(crate) transport: Transport,
    pub(crate) commands: Receiver<Command>,
    pub(crate) log: LogPort,
    pub(crate) applied: Index,
    pub(crate) tracer: Option<Tracer>,
}

impl Consensus {
    pub(crate) fn new(pieces: Pieces) -> (Self, Receiver<Delivery>) {
        let (up, deliveries) = Upward::new();
        let incarnation = pieces.transport.me().incarnation;
        let audit = Audit::new(pieces.core.committed_members());
        let consensus = Self {
            core: pieces.core,
            transport: pieces.transport,
            commands: pieces.commands,
            log: pieces.log,
            up,
            origin: pieces.origin,
            output: Output::default(),
            incoming: Vec::new(),
            outstanding: Outstanding::default(),
            wishes: Wishes::default(),
            refusals: Refusals::default(),
            tracer: pieces.tracer,
            applied: pieces.applied,
            placed: pieces.applied,
            incarnation,
            malformed: Quiet::default(),
            audit,
            ask_again: pieces.origin,
            asked: BTreeSet::new(),
            stop_by: None,
            wal: WalCounters::default(),
        };
        (consensus, deliveries)
    }

    /// Serves until [`Command::Shutdown`], a failed disk or a state that cannot be; says which.
    /// The room above hears it as [`Delivery::Stopped`].
    #[must_use]
    pub fn run(mut self) -> Stop {
        let stop = loop {
            if let Err(stop) = self.turn() {
                break stop;
            }
        };
        match &stop {
            Stop::Asked => log::info!("log stopped: node={}", self.transport.me().node),
            other => log::error!("log stopped: node={} reason=\"{other}\"", self.core.id()),
        }
        self.up.pump();
        self.up.last_word(stop.to_string(), LAST_WORD_MAX);
        stop
    }

    fn turn(&mut self) -> Result<(), Stop> {
        self.transport.bell().may_sleep();
        let timeout = self.timeout();
        self.transport.turn(timeout, &mut self.incoming).map_err(Stop::Poll)?;
        for item in std::mem::take(&mut self.incoming) {
            self.take(item)?;
        }
        self.take_done()?;
        self.take_commands();
        if self.now() >= self.core.deadline() {
            self.step(Event::Tick);
        }
        self.act()?;
        self.propose();
        self.tend_wishes();
        self.act()?;
        // Peers first: they are further away than the room above.
        self.transport.flush(&mut self.incoming);
        self.up.pump();
        self.stop_if_due()
    }

    fn timeout(&self) -> Option<Duration> {
        let busy = !self.commands.is_empty()
            || !self.incoming.is_empty()
            || self.log.has_news()
            || self.transport.wants_turn();
        if busy {
            return Some(Duration::ZERO);
        }
        let now = clock::now();
        let until = |at: Instant| at.saturating_duration_since(now);
        let core = self.core.deadline().since(self.now());
        let stall = self.up.is_stalled().then_some(STALL_POLL);
        let others = [self.transport.deadline(), self.wishes.deadline(), self.stop_by]
            .into_iter()
            .flatten()
            .chain(self.outstanding.deadline().filter(|_| self.core.leader().is_some()))
            .map(until);
        others.chain(stall).chain([core]).min()
    }

    /// The core's time.
    fn now(&self) -> Time {
        let elapsed = clock::now().saturating_duration_since(self.origin);
        Time::default().after(elapsed)
    }

    /// Steps the core; its output is acted upon in the next turn at the latest.
    pub(crate) fn step(&mut self, event: Event) {
        let now = self.now();
        let before = self.tracer.as_ref().map(|_| Before::new(&self.core, &event, &self.output));
        self.core.step(now, event, &mut self.output);
        if let (Some(tracer), Some(before)) = (&mut self.tracer, before) {
            tracer.note(now.as_micros(), &before, &self.core, &self.output);
        }
    }

    fn take(&mut self, incoming: Incoming) -> Result<(), Stop> {
        match incoming {
            // It may have been cut off by what came before this.
            Incoming::Frame { from, .. } if !self.transport.hears(from) => {}
            Incoming::Frame { from, kind: Kind::Errand, payload } => {
                self.run_errand(from, &payload);
            }
            Incoming::Frame { from, payload, .. } => self.hear(from, &payload),
            Incoming::Join { ticket, request, key, warrant } => {
                self.wish_of_joiner(ticket, request, (key, warrant));
            }
            Incoming::Survey(ticket) => {
                let standing = JoinReply::Standing(self.standing());
                self.transport.answer(ticket, &standing);
            }
            Incoming::Unknown => self.ask_for_peers(),
            Incoming::Up(id) => {
                self.refusals.heal(id);
                self.ask_peers(id);
            }
            Incoming::Refused(by, why) => {
                self.refusals.note(by, why, self.transport.me());
                if self.refusals.agree_on_old_state(self.core.members(), self.core.id()) {
                    return Err(self.lost(
                        "other members know of a later run of this node: this state is a copy or an old \
                         image"
                            .to_owned(),
                    ));
                }
            }
            Incoming::Down(peer) => {
                self.outstanding.lost(peer);
                self.lose_errands(peer);
                self.step(Event::Unreachable(peer));
            }
        }
        Ok(())
    }

    fn lost(&self, why: String) -> Stop {
        Stop::Lost { why, members: Box::new(self.core.members().clone()) }
    }

    /// A message of Raft, if it is what it says.
    fn hear(&mut self, from: NodeId, payload: &[u8]) {
        match hello::decode::<Message>(payload) {
            Some(message) if message.from == from && message.to == self.core.id() => {
                self.step(Event::Message(message));
            }
            _ => {
                if let Some(held_back) = self.malformed.speak(clock::now()) {
                    log::warn!("malformed message: peer={from} held_back={held_back}");
                }
            }
        }
    }

    fn take_done(&mut self) -> Result<(), Stop> {
        while let Some(done) = self.log.next_event() {
            match done {
                LogEvent::Durable { io, counters } => {
                    self.wal = counters;
                    self.step(Event::Durable(io));
                }
                LogEvent::Read { purpose, entries } => {
                    self.step(Event::LogRead { purpose, entries });
                }
                LogEvent::Full(text) => log::warn!("no space for the log: error=\"{text}\""),
                LogEvent::Failed { cause: Failure::Rotten, text } => return Err(self.lost(text)),
                LogEvent::Failed { cause: Failure::Disk, text } => return Err(Stop::Disk(text)),
            }
        }
        Ok(())
    }

    fn take_commands(&mut self) {
        for _ in 0..COMMANDS_PER_TURN {
            let Ok(command) = self.commands.try_recv() else { return };
            self.obey(command);
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Propose(proposal) => self.outstanding.put(proposal, clock::now()),
            Command::Settled(serial) => self.outstanding.settle(serial),
            Command::Read(id) => self.step(Event::ReadIndex(id)),
            Command::Progress { applied, placed } => {
                (self.applied, self.placed) = (applied, placed);
                self.step(Event::Applied { applied, placed });
            }
            Command::Checkpoint(at) => self.step(Event::Compact { through: at.index }),
            Command::StateInstalled { at, members, runs } => {
                for (node, run) in runs {
                    self.transport.set_run(node, run);
                }
                self.audit = Audit::new(&members);
                self.step(Event::StateInstalled { at, members });
            }
            Command::ChangeMembers { change, reply } => {
                self.wish(Asker::Room(reply), Order::Change(change));
            }
            Command::Transfer { to, reply } => {
                self.wish(Asker::RoomTransfer(reply), Order::Transfer(to));
            }
            Command::Status(reply) => drop(reply.try_send(self.status())),
            Command::Pulse(reply) => self.log.order(Job::Pulse(reply)),
            Command::Shutdown => {
                self.stop_by = Some(clock::now() + HANDOVER_MAX);
                self.step(Event::Transfer(None));
            }
        }
    }

    /// Gives the outstanding proposal to whoever leads, when it is time.
    fn propose(&mut self) {
        let Some(leader) = self.core.leader() else { return };
        let attempt = Attempt { leader, term: self.core.term() };
        let now = clock::now();
        let Some(proposal) = self.outstanding.due(now, attempt) else { return };
        if self.core.role() == RoleName::Leader {
            self.outstanding.appended(attempt);
            self.step(Event::Propose(proposal));
        } else if self.transport.is_connected(leader)
            && let Some(message) = self.core.forward(proposal)
        {
            self.outstanding.sent(attempt, now);
            self.send(&message);
        } else {
            self.outstanding.postpone(now);
        }
    }

    /// Acts on all that the core wants.
    fn act(&mut self) -> Result<(), Stop> {
        let output = std::mem::take(&mut self.output);
        match output.fatal {
            Some(fatal @ Fatal::LogLost { .. }) => return Err(self.lost(in_words(fatal))),
            Some(fatal) => return Err(Stop::Fatal(in_words(fatal))),
            None => {}
        }
        self.learn_runs(&output.committed)?;
        let logged = Logged {
            in_force: (self.core.members(), self.core.members_index()),
            committed: (self.core.committed_members(), self.core.commit()),
        };
        if let Some(peers) = self.transport.follow(logged, &mut self.incoming) {
            self.log.order(Job::Remember(peers));
        }
        if let Some(members) = &output.members_changed {
            self.refusals.keep(members);
        }
        self.audit.follow(&output.committed);
        if !output.log_ops.is_empty() {
            self.log.order(Job::Write { io: output.io, ops: output.log_ops });
        }
        for read in output.log_reads {
            self.log.order(Job::Read(read));
        }
        self.log.pump().map_err(|_| Stop::Disk("the log writer has ended".to_owned()))?;
        for message in &output.messages {
            self.send(message);
        }
        if let Some(Handover { to, reason }) = output.handover {
            log::info!("event=handover node={} to={to} reason={reason:?}", self.core.id());
        }
        for change in &output.roles {
            log::info!(
                "role changed: node={} role={:?} term={} leader={} reason={:?}",
                self.core.id(),
                change.role,
                change.term,
                change.leader.unwrap_or_default(),
                change.reason
            );
            self.up.tell(Delivery::Role(upward::role_change(change)));
            if let Some(leader) = change.leader.filter(|leader| *leader != self.core.id()) {
                self.answer_transfers(Ok(leader));
            }
        }
        if !output.roles.is_empty() || output.members_changed.is_some() {
            self.mind_address();
        }
        self.up.tell_entries(output.committed);
        for ReadAnswer { id, index } in output.reads {
            self.up.tell(Delivery::Read { id, index });
        }
        for refused in &output.refused {
            let reason = self.outstanding.refused(self.incarnation, refused, clock::now());
            if let Some(reason) = reason {
                self.up.tell(Delivery::Refused { serial: refused.serial, reason });
            }
        }
        for ChangeAnswer { request, result } in output.changes {
            self.answer_wish(request, Outcome::Changed(result));
        }
        if let Some(need) = output.need_state {
            self.up.tell(Delivery::NeedState { from: need.from, at_least: need.at_least });
        }
        if let Some(failure) = output.transfer_failed {
            log::info!("event=handover_failed node={} reason={failure:?}", self.core.id());
            self.answer_transfers(Err(failure));
            self.stop_by = self.stop_by.map(|_| clock::now());
        }
        Ok(())
    }

    /// The log opens a run of each member: no former one of it counts any more.
    fn learn_runs(&mut self, committed: &[Arc<Entry>]) -> Result<(), Stop> {
        for entry in committed {
            let Content::Proposal(proposal) = &entry.content else { continue };
            if !matches!(proposal.payload, Payload::Open { .. }) {
                continue;
            }
            let (node, run) = (proposal.origin, proposal.incarnation);
            if node == self.core.id() && !self.transport.me().lineage.descends_from(run) {
                return Err(self.lost(
                    "another process runs with a copy of this node's state, or of a later one"
                        .to_owned(),
                ));
            }
            self.transport.set_run(node, run);
        }
        Ok(())
    }

    fn send(&mut self, message: &Message) {
        if self.refusals.is_twin() {
            // Of two runs of one node, one at most may vote and vouch.
            return;
        }
        // Serializing into memory fails for no value of ours.
        let Ok(payload) = postcard::to_allocvec(message) else { return };
        let control = payload.len() <= CONTROL_BYTES_MAX;
        let kind = if control { Kind::Control } else { Kind::Entries };
        self.transport.send(message.to, kind, payload);
    }

    fn stop_if_due(&self) -> Result<(), Stop> {
        match self.stop_by {
            Some(by) if self.core.role() != RoleName::Leader || by <= clock::now() => {
                Err(Stop::Asked)
            }
            _ => Ok(()),
        }
    }

    fn status(&self) -> Status {
        let me = self.transport.me();
        let leader = self.core.leader();
        let role =
            RoleChange { role: upward::role(self.core.role()), term: self.core.term(), leader };
        let members = self.core.members().members.iter().map(|member| {
            let own = member.id == me.node;
            let peer = self.core.peer(member.id);
            MemberStatus {
                member: member.clone(),
                connected: own || self.transport.is_connected(member.id),
                matched: peer.map(|peer| peer.matched).unwrap_or_default(),
                applied: if own {
                    self.applied
                } else {
                    peer.map(|p| p.applied).unwrap_or_default()
                },
                placed: if own { self.placed } else { peer.map(|p| p.placed).unwrap_or_default() },
            }
        });
        Status {
            cluster: me.cluster,
            node: me.node,
            incarnation: me.incarnation,
            role,
            commit: self.core.commit(),
            last: self.core.last().index,
            first: self.core.base().index.next(),
            members: members.collect(),
            changing: self.core.is_changing_members(),
            tokens: self.core.members().tokens.clone(),
            alarms: self.alarms(),
            is_removed: self.is_removed(),
            counters: self.counters(),
        }
    }

    /// By what is committed here, or because a member says so that knows more.
    fn is_removed(&self) -> bool {
        let committed = self.core.committed_members().has_removed(self.core.id());
        committed || self.refusals.say_removed()
    }

    fn alarms(&self) -> Vec<String> {
        let me = self.core.id();
        let removed = self.core.committed_members().has_removed(me);
        let at = self.core.committed_members().departed.iter().find(|departed| departed.id == me);
        let at = at.map(|departed| departed.at).unwrap_or_default();
        let removed = removed.then(|| refusals::removed(self.transport.me(), at));
        let follows = self.core.leader().is_some();
        removed.into_iter().chain(self.refusals.alarms(self.transport.me(), follows)).collect()
    }

    fn counters(&self) -> Counters {
        let traffic = self.transport.traffic();
        Counters {
            wal_syncs: self.wal.syncs,
            wal_bytes: self.wal.bytes,
            messages_sent: traffic.messages_sent,
            bytes_sent: traffic.bytes_sent,
            refused_connections: traffic.refused,
        }
    }
}

/// What happened and what to do.
fn in_words(fatal: Fatal) -> String {
    match fatal {
        Fatal::TwoLeaders { term, first, second } => format!(
            "nodes {first} and {second} both lead term {term}: one of them has lost its vote; stop \
             the one whose state was restored or copied, remove its state, and let it join again"
        ),
        Fatal::LogLost { acknowledged, last } => format!(
            "this node once had entry {acknowledged} and now ends at {last}: its disk lost synced \
             writes, or its state is an old copy"
        ),
        Fatal::CommittedConflict { at, ours, theirs } => format!(
            "entry {at} is committed here with term {ours} and differs at the leader (term \
             {theirs}); compare the state directories before starting again"
        ),
    }
}

#[cfg(test)]
mod tests {
    use pickbox_raft_core::ids::Term;

    use super::*;

    /// checklist 55: who finds its log lost, or itself doubled, is told what happened and what to
    /// do about it.
    #[test]
    fn a_state_that_cannot_be_is_told_with_its_repair() {
        let (first, second) = (NodeId::new(1), NodeId::new(2));
        let lost = Fatal::LogLost { acknowledged: Index::new(9), last: Index::new(4) };
        let lost = in_words(lost);
        assert!(lost.contains("entry 9") && lost.contains("ends at 4"), "{lost}");
        let two = in_words(Fatal::TwoLeaders { term: Term::new(7), first, second });
        assert!(two.contains("nodes 1 and 2") && two.contains("remove its state"), "{two}");
    }
}
