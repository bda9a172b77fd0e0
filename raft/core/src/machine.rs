//! The machine itself: its state, the dispatch of events, and what all roles share.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::event::{Event, Fatal, LogOp, Output, RoleChange, RoleName, RoleReason};
use crate::ids::{Index, IoSeq, LogPosition, NodeId, Term};
use crate::journal::Journal;
use crate::limits::Limits;
use crate::log::{Content, Entry, HardState, Proposal};
use crate::members::Members;
use crate::message::{Ballot, Body, Message, Verdict};
use crate::progress::Peer;
use crate::random::Random;
use crate::reads::PendingRead;
use crate::restored::Restored;
use crate::role::{Follower, Role};
use crate::supply::Supply;
use crate::time::Time;
use crate::view::LogView;

/// What a node is told about itself.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// This node.
    pub id: NodeId,
    /// T: without a leader for T to 2T, drawn anew each time, a voter campaigns.
    pub election_timeout: Duration,
    /// How often a leader says that it is there. Well below T.
    pub heartbeat_interval: Duration,
    /// A leader whose disk makes no progress for half as long hands over, and steps down after all
    /// of it, if others could lead.
    pub disk_stall_timeout: Duration,
    /// Whether to ask before asking for votes.
    pub pre_vote: PreVote,
    /// Bounds on bytes.
    pub limits: Limits,
    /// Seeds the draws of election timeouts; different on each node and each start.
    pub seed: u64,
}

impl Config {
    /// The usual times: T = 500 ms, a heartbeat each 100 ms.
    #[must_use]
    pub const fn new(id: NodeId, seed: u64) -> Self {
        Self {
            id,
            election_timeout: Duration::from_millis(500),
            heartbeat_interval: Duration::from_millis(100),
            disk_stall_timeout: Duration::from_millis(1_500),
            pre_vote: PreVote::On,
            limits: Limits::USUAL,
            seed,
        }
    }
}

/// Whether a node that hears no leader asks first if it would be elected (thesis, 9.6). Here for
/// tests: they compare with Raft without, and mix both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PreVote {
    /// It asks first, so that a node that was cut off disturbs nobody when it is back.
    On,
    /// It begins a new term at once.
    Off,
}

/// One node of Raft.
#[derive(Debug, Clone)]
pub struct Core {
    pub(crate) config: Config,
    pub(crate) now: Time,
    pub(crate) random: Random,
    pub(crate) hard_state: HardState,
    pub(crate) log: LogView,
    pub(crate) journal: Journal,
    pub(crate) commit: Index,
    pub(crate) supply: Supply,
    pub(crate) role: Role,
    pub(crate) pending_reads: Vec<PendingRead>,
    /// The members in force changed in this step.
    pub(crate) members_changed: bool,
    /// What was last told in [`Output::roles`].
    pub(crate) announced: (RoleName, Term, Option<NodeId>),
    /// Set once the node must not go on.
    pub(crate) fatal: Option<Fatal>,
    /// The caller's output, for the time of one step.
    pub(crate) out: Output,
}

/// What the leader knows of one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Highest index known to be in its log, durable.
    pub matched: Index,
    /// What it last said to have applied.
    pub applied: Index,
    /// What it last said to have placed.
    pub placed: Index,
    /// When it was last heard as this leader's follower.
    pub heard: Time,
}

/// Makes messages of this node's in its present term.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Envelope {
    from: NodeId,
    term: Term,
}

impl Envelope {
    pub(crate) const fn to(self, to: NodeId, body: Body) -> Message {
        Message { from: self.from, to, term: self.term, body }
    }
}

impl Core {
    /// A node that starts over with what its disk holds. `applied` is what the room above holds
    /// durably; [`Output::committed`] goes on after it. If the state above stands beyond the end of
    /// the log (it was installed just before a crash), send [`Event::StateInstalled`] first.
    #[must_use]
    pub fn new(config: Config, restored: Restored, applied: Index, now: Time) -> Self {
        let Restored { hard_state, mut log } = restored;
        log.keep_recent(config.limits.recent_bytes);
        let last = log.last().index;
        let mut core = Self {
            config,
            now,
            random: Random::new(config.seed),
            hard_state,
            journal: Journal::restored(last),
            commit: log.base().index.max(applied.min(last)),
            supply: Supply::new(applied, config.limits.apply_bytes),
            role: Role::Follower(Follower { leader: None, deadline: now }),
            log,
            pending_reads: Vec::new(),
            members_changed: false,
            announced: (RoleName::Follower, hard_state.term, None),
            fatal: None,
            out: Output::default(),
        };
        if !core.is_only_voter() {
            let deadline = core.draw_deadline();
            core.role = Role::Follower(Follower { leader: None, deadline });
        }
        core.announced = (core.role(), core.term(), None);
        core
    }

    /// Takes one event and adds to `output` what follows from it. `now` never goes back.
    pub fn step(&mut self, now: Time, event: Event, output: &mut Output) {
        if self.fatal.is_some() {
            return;
        }
        self.now = self.now.max(now);
        core::mem::swap(&mut self.out, output);
        self.dispatch(event);
        self.hand_out();
        if core::mem::take(&mut self.members_changed) {
            self.announce(RoleReason::MembersChanged);
            self.out.members_changed = Some(self.log.members().clone());
        }
        if self.fatal.is_some() {
            // Nothing that was said on the way here may leave.
            self.out = Output { fatal: self.fatal, ..Output::default() };
        }
        core::mem::swap(&mut self.out, output);
    }

    /// When [`Event::Tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Time {
        let role = match &self.role {
            Role::Follower(follower) => follower.deadline,
            Role::Candidate(candidate) => candidate.deadline,
            Role::Leader(leader) => leader.heartbeat_due,
        };
        self.pending_reads.iter().map(|read| read.deadline).fold(role, Time::min)
    }

    /// This node.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.config.id
    }

    /// The term it is in.
    #[must_use]
    pub fn term(&self) -> Term {
        self.hard_state.term
    }

    /// The part it plays.
    #[must_use]
    pub fn role(&self) -> RoleName {
        match &self.role {
            Role::Leader(_) => RoleName::Leader,
            Role::Candidate(candidate) if candidate.ballot == Ballot::Pre => RoleName::PreCandidate,
            Role::Candidate(_) => RoleName::Candidate,
            Role::Follower(_) if self.log.members().is_voter(self.config.id) => RoleName::Follower,
            Role::Follower(_) => RoleName::Learner,
        }
    }

    /// Who leads, when known.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Leader(_) => Some(self.config.id),
            Role::Follower(follower) => follower.leader.map(|heard| heard.from),
            Role::Candidate(_) => None,
        }
    }

    /// Highest index known to be committed.
    #[must_use]
    pub fn commit(&self) -> Index {
        self.commit
    }

    /// The position before the first entry of the log.
    #[must_use]
    pub fn base(&self) -> LogPosition {
        self.log.base()
    }

    /// The position of the last entry of the log.
    #[must_use]
    pub fn last(&self) -> LogPosition {
        self.log.last()
    }

    /// The term of the entry at `index`; `None` outside of what the log still has.
    #[must_use]
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.log.term_at(index)
    }

    /// The members in force.
    #[must_use]
    pub fn members(&self) -> &Members {
        self.log.members()
    }

    /// The members as far as they are committed: what they say will not be taken back.
    #[must_use]
    pub fn committed_members(&self) -> &Members {
        self.log.members_at(self.commit)
    }

    /// The entry that the members in force are from; that of the log's beginning if none is.
    #[must_use]
    pub fn members_index(&self) -> Index {
        self.log.members_index()
    }

    /// Whether the members in force are not committed, or not yet alone in force.
    #[must_use]
    pub fn is_changing_members(&self) -> bool {
        self.commit < self.log.members_index() || self.log.members().is_joint()
    }

    /// The members that were in force at `index`, which must not be below [`Core::base`].
    #[must_use]
    pub fn members_at(&self, index: Index) -> &Members {
        self.log.members_at(index)
    }

    /// Term and vote.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// What is known of a peer; `None` unless this node leads and the peer is a member.
    #[must_use]
    pub fn peer(&self, id: NodeId) -> Option<PeerStatus> {
        let Role::Leader(leader) = &self.role else { return None };
        let Peer { matched, applied, placed, heard, .. } = *leader.peer(id)?;
        Some(PeerStatus { matched, applied, placed, heard })
    }

    /// The message that sends a proposal on to the leader; `None` when none is known or this node
    /// leads itself.
    #[must_use]
    pub fn forward(&self, proposal: Arc<Proposal>) -> Option<Message> {
        let to = self.leader().filter(|leader| *leader != self.config.id)?;
        Some(self.envelope().to(to, Body::Propose(proposal)))
    }

    /// What must hold between any two steps.
    ///
    /// # Errors
    /// The text says what does not.
    pub fn check_invariants(&self) -> Result<(), String> {
        self.check().map_err(String::from)
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Tick => self.on_tick(),
            Event::Message(message) => self.on_message(message),
            Event::Propose(proposal) => self.on_own_proposal(proposal),
            Event::ReadIndex(id) => self.on_own_read(id),
            Event::Durable(io) => {
                self.journal.on_durable(&mut self.out, io, self.now);
                self.on_durable();
            }
            Event::Applied { applied, placed } => self.supply.on_applied(applied, placed),
            Event::LogRead { purpose, entries } => self.on_log_read(purpose, entries),
            Event::ChangeMembers { request, change } => self.on_change(request, &change),
            Event::Transfer(target) => self.on_transfer(target),
            Event::Compact { through } => self.on_compact(through),
            Event::StateInstalled { at, members } => self.on_state_installed(at, members),
            Event::Unreachable(peer) => self.on_unreachable(peer),
        }
    }

    fn on_tick(&mut self) {
        self.expire_reads();
        match &self.role {
            Role::Follower(Follower { deadline, .. }) if self.now >= *deadline => {
                self.on_election_timeout(*deadline);
            }
            Role::Candidate(candidate) if self.now >= candidate.deadline => {
                self.on_election_timeout(candidate.deadline);
            }
            Role::Leader(leader) if self.now >= leader.heartbeat_due => self.on_heartbeat_due(),
            _ => {}
        }
    }

    fn on_durable(&mut self) {
        match &self.role {
            Role::Candidate(_) => self.count_votes(),
            Role::Leader(_) => self.advance_commit(),
            Role::Follower(_) => {}
        }
    }

    fn on_message(&mut self, message: Message) {
        let Message { from, to, term, body } = message;
        if to != self.config.id || from == self.config.id {
            return;
        }
        if term > Term::MAX || !body.is_plausible() {
            // No counter ever gets there: who says so is broken, and would break this node too.
            return;
        }
        // What concerns no term: a proposal may be late, and a read confirms itself.
        match body {
            Body::Propose(proposal) => return self.on_forwarded_proposal(from, proposal),
            Body::ProposeRefused { incarnation, serial, reason } => {
                return self.on_refused(incarnation, serial, reason);
            }
            Body::ReadIndex { id } => return self.on_peer_read(from, id),
            Body::ReadIndexReply { id, index } => return self.on_read_answer(from, id, index),
            _ => {}
        }
        if term < self.hard_state.term {
            return self.on_stale_message(from, &body);
        }
        if term > self.hard_state.term {
            // A node that was cut off must not unseat a leader that others hear (thesis, 4.2.3).
            if matches!(&body, Body::Vote { ballot, .. } if self.is_bound_by_lease(*ballot)) {
                return;
            }
            self.adopt_term(term);
        }
        self.on_current_message(from, body);
    }

    /// A message of this node's own term.
    fn on_current_message(&mut self, from: NodeId, body: Body) {
        match body {
            Body::Vote { ballot, last } => self.on_vote(from, ballot, last),
            Body::VoteReply { ballot, verdict } => self.on_vote_reply(from, ballot, verdict),
            Body::Append { previous, commit, entries } => {
                if self.hear_leader(from) {
                    self.on_append(from, previous, commit, &entries);
                }
            }
            Body::Commit { commit } => {
                if self.hear_leader(from) {
                    self.learn_commit(commit);
                }
            }
            Body::Heartbeat { commit, matched, round } => {
                if self.hear_leader(from) {
                    self.on_heartbeat(from, matched, commit, round);
                }
            }
            Body::InstallState { at_least } => {
                if self.hear_leader(from) {
                    self.on_install_state(from, at_least);
                }
            }
            Body::TimeoutNow => self.on_timeout_now(from),
            Body::Appended { .. }
            | Body::AppendRejected { .. }
            | Body::CommittedTo { .. }
            | Body::HeartbeatReply { .. } => self.on_peer_answer(from, &body),
            Body::Propose(_)
            | Body::ProposeRefused { .. }
            | Body::ReadIndex { .. }
            | Body::ReadIndexReply { .. } => {}
        }
    }

    /// A message of a former term: whoever sent it as a leader or candidate must learn that.
    fn on_stale_message(&mut self, from: NodeId, body: &Body) {
        let answer = match body {
            Body::Vote { ballot, .. } => {
                Body::VoteReply { ballot: *ballot, verdict: Verdict::Refused }
            }
            Body::Append { .. }
            | Body::Heartbeat { .. }
            | Body::Commit { .. }
            | Body::InstallState { .. } => self.heartbeat_reply(0),
            _ => return,
        };
        self.send(from, answer);
    }

    pub(crate) fn envelope(&self) -> Envelope {
        Envelope { from: self.config.id, term: self.hard_state.term }
    }

    /// Sends a message as soon as this node's term and vote are durable.
    pub(crate) fn send(&mut self, to: NodeId, body: Body) {
        let message = self.envelope().to(to, body);
        self.journal.send(&mut self.out, message);
    }

    pub(crate) fn write_hard_state(&mut self, state: HardState) -> IoSeq {
        assert!(state.term >= self.hard_state.term, "a term never falls");
        if state.term > self.hard_state.term {
            self.journal.forget_former_terms(state.term);
        }
        self.hard_state = state;
        self.journal.write(&mut self.out, self.now, LogOp::HardState(state))
    }

    pub(crate) fn append(&mut self, entries: Vec<Arc<Entry>>) {
        self.log.append(&entries);
        self.members_changed |=
            entries.iter().any(|entry| matches!(entry.content, Content::Members(_)));
        self.journal.write(&mut self.out, self.now, LogOp::Append(entries));
    }

    pub(crate) fn truncate(&mut self, from: Index) {
        assert!(from > self.commit, "a committed entry is never truncated");
        self.members_changed |= self.log.members_index() >= from;
        self.log.truncate(from);
        self.journal.write(&mut self.out, self.now, LogOp::Truncate { from });
    }

    /// Stops this node for good.
    pub(crate) fn halt(&mut self, fatal: Fatal) {
        self.fatal = Some(fatal);
    }

    /// Tells a change of role, term or leader, if there is one.
    pub(crate) fn announce(&mut self, reason: RoleReason) {
        let state = (self.role(), self.term(), self.leader());
        if state != self.announced {
            self.announced = state;
            let (role, term, leader) = state;
            self.out.roles.push(RoleChange { role, term, leader, reason });
        }
    }

    pub(crate) fn is_only_voter(&self) -> bool {
        let members = self.log.members();
        members.outgoing_voters.is_empty() && members.voters().eq([self.config.id])
    }

    /// Drops what the state above has made needless.
    fn on_compact(&mut self, through: Index) {
        let through = through.min(self.supply.applied()).min(self.commit);
        let durable = through <= self.journal.durable_index();
        let Some(term) = self.log.term_at(through) else { return };
        if through <= self.log.base().index || !durable {
            return;
        }
        self.log.compact(through);
        let members = self.log.members_at(through).clone();
        let through = LogPosition { index: through, term };
        self.journal.write(&mut self.out, self.now, LogOp::Compact { through, members });
    }

    fn check(&self) -> Result<(), &'static str> {
        let (base, last) = (self.log.base().index, self.log.last().index);
        if self.commit < base || self.commit > last {
            return Err("the commit index is outside the log");
        }
        if self.log.last().term > self.hard_state.term {
            return Err("an entry is of a later term than the node");
        }
        self.journal.check(last)?;
        self.supply.check()?;
        match &self.role {
            Role::Leader(leader) => leader.check(&self.log, self.hard_state.term),
            Role::Candidate(_) | Role::Follower(_) => Ok(()),
        }
    }
}
