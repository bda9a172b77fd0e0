//! A model checker over the real core: all orders of events within small bounds.
//!
//! Three nodes, few terms, few entries, one crash, one change of members. The network is the set of
//! all messages ever sent: each may arrive any number of times, in any order, or never. A node's
//! disk syncs when it likes; a crash takes away what it had not. Time is one microsecond long: a
//! timeout may fire at any moment, and a lease may have run out before a vote arrives, or not.
//!
//! Two states are the same when [`Core::digest`] and what is written down here agree. `make model
//! STATES=5000000` looks at so many; a plain test run at a few.

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hash, Hasher};
    use std::sync::Arc;
    use std::time::Duration;

    use pickbox_raft_core::event::{Change, ChangeId, LogOp, RoleName};
    use pickbox_raft_core::ids::{Incarnation, Index, IoSeq, LogPosition, NodeId, Serial, Term};
    use pickbox_raft_core::log::{Content, Entry, HardState, Payload, Proposal};
    use pickbox_raft_core::members::{Member, MemberRole, Members};
    use pickbox_raft_core::message::{Ballot, Body, Message};
    use pickbox_raft_core::time::Time;
    use pickbox_raft_core::{Config, Core, Event, Output, PreVote, Restored};
    use stateright::{Checker, HasDiscoveries, Model, Property};

    const NODES: usize = 3;

    /// How far the world goes.
    #[derive(Clone, Copy, Debug)]
    struct Bounds {
        term_max: u64,
        entries_max: u64,
        crashes: u8,
        proposals: u8,
        /// This node may be taken out, once.
        removes: Option<u64>,
        pre_vote: PreVote,
        disk: Disk,
        start: Start,
    }

    /// When what is written is durable.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Disk {
        /// At once.
        AtOnce,
        /// At any time later.
        Later,
    }

    /// Where it begins.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Start {
        /// Nobody has done anything.
        Fresh,
        /// Node 1 leads, its first entry is committed everywhere, and nothing is on its way.
        Led,
    }

    /// What is wrong.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    enum Wrong {
        /// Two leaders in one term.
        Election,
        /// Two logs differ before an entry that they share.
        Matching,
        /// A leader lacks what was committed before its term.
        Completeness,
        /// What was committed is another thing now.
        Committed,
        /// A node stops, or its invariants do not hold.
        Broken,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    enum Action {
        Timeout(usize),
        Deliver(usize),
        /// As `Deliver`, after the receiver's lease.
        DeliverLate(usize),
        Sync(usize),
        Crash(usize),
        Propose(usize),
        Remove(usize),
    }

    /// One node: its core, its disk, and what is on its way there.
    #[derive(Clone, Debug)]
    struct Host {
        core: Core,
        now: u64,
        hard_state: HardState,
        entries: Vec<Arc<Entry>>,
        unsynced: Vec<LogOp>,
        io: IoSeq,
        /// The log as the core has it.
        log: Vec<Arc<Entry>>,
        digest: u64,
    }

    #[derive(Debug)]
    struct Sent {
        message: Message,
        digest: u64,
    }

    #[derive(Clone, Debug)]
    struct State {
        hosts: [Arc<Host>; NODES],
        /// Ordered by digest.
        sent: Vec<Arc<Sent>>,
        leaders: Vec<(Term, NodeId)>,
        /// Of each committed entry its term, and in which term it was committed first.
        committed: Vec<(Term, Term)>,
        changed: bool,
        crashes: u8,
        proposals: u8,
        removes: bool,
        wrong: Option<Wrong>,
    }

    impl Hash for State {
        fn hash<H: Hasher>(&self, hasher: &mut H) {
            for host in &self.hosts {
                host.digest.hash(hasher);
            }
            for sent in &self.sent {
                sent.digest.hash(hasher);
            }
            (&self.leaders, &self.committed, self.changed).hash(hasher);
            (self.crashes, self.proposals, self.removes, self.wrong).hash(hasher);
        }
    }

    impl PartialEq for State {
        fn eq(&self, other: &Self) -> bool {
            let digest = |state: &Self| {
                let mut hasher = DefaultHasher::new();
                state.hash(&mut hasher);
                hasher.finish()
            };
            digest(self) == digest(other)
        }
    }

    fn members() -> Members {
        let member = |id| Member {
            id: NodeId::new(id),
            name: format!("node{id}"),
            address: format!("host:{id}"),
            role: MemberRole::Voter,
            key: None,
        };
        let members = (1..=3).map(member).collect();
        Members { members, next_id: NodeId::new(4), ..Members::default() }
    }

    /// A microsecond of patience leaves nothing to draw; no heartbeats, no disk too slow.
    fn config(node: usize, pre_vote: PreVote) -> Config {
        Config {
            pre_vote,
            election_timeout: Duration::from_micros(1),
            heartbeat_interval: Duration::from_hours(1),
            disk_stall_timeout: Duration::from_hours(1_000),
            ..Config::new(NodeId::new(u64::try_from(node).unwrap() + 1), 1)
        }
    }

    /// Writes operations into a log.
    fn write(log: &mut Vec<Arc<Entry>>, hard_state: &mut HardState, op: &LogOp) {
        match op {
            LogOp::HardState(state) => *hard_state = *state,
            LogOp::Append(entries) => log.extend(entries.iter().cloned()),
            LogOp::Truncate { from } => log.truncate(usize::try_from(from.get()).unwrap() - 1),
            LogOp::Reset { .. } | LogOp::Compact { .. } => panic!("nobody needs that here"),
        }
    }

    impl Host {
        fn start(
            node: usize,
            pre_vote: PreVote,
            hard_state: HardState,
            entries: Vec<Arc<Entry>>,
        ) -> Self {
            let mut restored = Restored::default();
            let first = LogOp::Reset { at: LogPosition::default(), members: members() };
            let found = [first, LogOp::HardState(hard_state), LogOp::Append(entries.clone())];
            for op in &found {
                restored.replay(op).expect("a log of ours");
            }
            let core =
                Core::new(config(node, pre_vote), restored, Index::ZERO, Time::from_micros(0));
            let log = entries.clone();
            let unsynced = Vec::new();
            let io = IoSeq::ZERO;
            Self { core, now: 0, hard_state, entries, unsynced, io, log, digest: 0 }.digested()
        }

        fn digested(mut self) -> Self {
            let mut hasher = DefaultHasher::new();
            self.core.digest(&mut hasher);
            (self.hard_state, &self.entries, self.unsynced.len()).hash(&mut hasher);
            for op in &self.unsynced {
                match op {
                    LogOp::HardState(state) => (1, state).hash(&mut hasher),
                    LogOp::Append(entries) => (2, entries).hash(&mut hasher),
                    LogOp::Truncate { from } => (3, from).hash(&mut hasher),
                    LogOp::Reset { .. } | LogOp::Compact { .. } => {}
                }
            }
            self.digest = hasher.finish();
            self
        }

        fn last(&self) -> u64 {
            self.core.last().index.get()
        }
    }

    impl State {
        /// Lets a node take an event; `None` when that changes nothing.
        fn step(&self, node: usize, late: u64, event: Event) -> Option<Self> {
            let mut host = Host::clone(&self.hosts[node]);
            host.now += late;
            let mut out = Output::default();
            let before = host.core.commit();
            host.core.step(Time::from_micros(host.now), event, &mut out);
            let mut hard_state = host.hard_state;
            for op in &out.log_ops {
                write(&mut host.log, &mut hard_state, op);
            }
            if !out.log_ops.is_empty() {
                host.io = out.io;
                host.unsynced.append(&mut out.log_ops);
            }
            let host = host.digested();
            let is_same = host.digest == self.hosts[node].digest;
            let mut next = self.clone();
            let news = out.messages.into_iter().filter(|message| next.send(message)).count();
            if is_same && news == 0 {
                return None;
            }
            if out.fatal.is_some() || host.core.check_invariants().is_err() {
                next.wrong = Some(Wrong::Broken);
            }
            next.hosts[node] = Arc::new(host);
            if out.roles.iter().any(|change| change.role == RoleName::Leader) {
                next.lead(node);
            }
            if next.hosts[node].core.commit() != before {
                next.commit(node);
            }
            next.match_logs(node);
            Some(next)
        }

        /// Says whether the message is new.
        fn send(&mut self, message: &Message) -> bool {
            let mut hasher = DefaultHasher::new();
            message.hash(&mut hasher);
            let digest = hasher.finish();
            match self.sent.binary_search_by_key(&digest, |sent| sent.digest) {
                Ok(_) => false,
                Err(place) => {
                    let sent = Sent { message: message.clone(), digest };
                    self.sent.insert(place, Arc::new(sent));
                    true
                }
            }
        }

        fn lead(&mut self, node: usize) {
            let host = &self.hosts[node];
            let (id, term) = (host.core.id(), host.core.term());
            if self.leaders.iter().any(|(led, by)| *led == term && *by != id) {
                self.wrong = Some(Wrong::Election);
            }
            let lacks =
                |place: usize, entry: Term| host.log.get(place).is_none_or(|own| own.term != entry);
            let mut former = self.committed.iter().enumerate().filter(|(_, (_, by))| *by < term);
            if former.any(|(place, (entry, _))| lacks(place, *entry)) {
                self.wrong = Some(Wrong::Completeness);
            }
            self.leaders.push((term, id));
            self.leaders.sort_unstable();
            self.leaders.dedup();
        }

        fn commit(&mut self, node: usize) {
            let host = &self.hosts[node];
            let count = usize::try_from(host.core.commit().get()).unwrap();
            for (place, entry) in host.log.iter().take(count).enumerate() {
                match self.committed.get(place) {
                    Some((known, _)) if *known != entry.term => {
                        self.wrong = Some(Wrong::Committed);
                    }
                    Some(_) => {}
                    None => self.committed.push((entry.term, host.core.term())),
                }
                let settled = |members: &Members| members.members.len() < NODES;
                self.changed |= matches!(&entry.content, Content::Members(m) if settled(m));
            }
        }

        /// If an entry of two logs has the same index and term, all before it are the same.
        fn match_logs(&mut self, node: usize) {
            let own = &self.hosts[node].log;
            for other in &self.hosts {
                let both = own.iter().zip(&other.log);
                let shared = both.clone().rposition(|(a, b)| a.term == b.term);
                let mut shared = both.take(shared.map_or(0, |place| place + 1));
                if shared.any(|(a, b)| a != b) {
                    self.wrong = Some(Wrong::Matching);
                }
            }
        }

        fn crash(&self, node: usize, pre_vote: PreVote) -> Self {
            let host = &self.hosts[node];
            let mut next = self.clone();
            let host = Host::start(node, pre_vote, host.hard_state, host.entries.clone());
            next.hosts[node] = Arc::new(host);
            next.crashes += 1;
            next
        }

        fn all_synced(mut self) -> Self {
            while let Some(node) = self.hosts.iter().position(|host| !host.unsynced.is_empty()) {
                self = self.sync(node).unwrap_or(self);
            }
            self
        }

        fn sync(&self, node: usize) -> Option<Self> {
            let mut host = Host::clone(&self.hosts[node]);
            for op in std::mem::take(&mut host.unsynced) {
                write(&mut host.entries, &mut host.hard_state, &op);
            }
            let io = host.io;
            let mut next = self.clone();
            next.hosts[node] = Arc::new(host.digested());
            let woken = next.step(node, 0, Event::Durable(io));
            woken.or(Some(next))
        }
    }

    fn proposal(node: usize, serial: u8) -> Arc<Proposal> {
        Arc::new(Proposal {
            origin: NodeId::new(u64::try_from(node).unwrap() + 1),
            incarnation: Incarnation::new(1),
            serial: Serial::new(u64::from(serial) + 1),
            holders: None,
            payload: Payload::Data(Vec::new()),
        })
    }

    fn receiver(message: &Message) -> usize {
        usize::try_from(message.to.get()).unwrap() - 1
    }

    impl Bounds {
        /// Node 1 campaigns, and all that is said arrives.
        fn led(&self, fresh: &State) -> State {
            let mut state = self.act(fresh, Action::Timeout(0)).expect("it campaigns").all_synced();
            loop {
                let places = 0..state.sent.len();
                let mut nexts = places.filter_map(|place| self.act(&state, Action::Deliver(place)));
                match nexts.next() {
                    Some(next) => state = next.all_synced(),
                    None => return State { sent: Vec::new(), ..state },
                }
            }
        }

        fn act(&self, state: &State, action: Action) -> Option<State> {
            match action {
                Action::Timeout(node) => {
                    let host = &state.hosts[node];
                    let late = host.core.deadline().as_micros().saturating_sub(host.now);
                    state.step(node, late, Event::Tick)
                }
                Action::Deliver(place) | Action::DeliverLate(place) => {
                    let late = u64::from(matches!(action, Action::DeliverLate(_)));
                    let message = &state.sent[place].message;
                    state.step(receiver(message), late, Event::Message(message.clone()))
                }
                Action::Sync(node) => state.sync(node),
                Action::Crash(node) => Some(state.crash(node, self.pre_vote)),
                Action::Propose(node) => {
                    let proposal = proposal(node, state.proposals);
                    let mut next = state.step(node, 0, Event::Propose(proposal))?;
                    next.proposals += 1;
                    Some(next)
                }
                Action::Remove(node) => {
                    let change = Change::Remove(NodeId::new(self.removes?));
                    let request = ChangeId(1);
                    let mut next = state.step(node, 0, Event::ChangeMembers { request, change })?;
                    // A refusal leaves no trace in the log; then it may be asked for again.
                    next.removes = next.hosts[node].last() > state.hosts[node].last();
                    Some(next)
                }
            }
        }
    }

    impl Model for Bounds {
        type State = State;
        type Action = Action;

        fn init_states(&self) -> Vec<State> {
            let host = |node| Host::start(node, self.pre_vote, HardState::default(), Vec::new());
            let fresh = State {
                hosts: [0, 1, 2].map(|node| Arc::new(host(node))),
                sent: Vec::new(),
                leaders: Vec::new(),
                committed: Vec::new(),
                changed: false,
                crashes: 0,
                proposals: 0,
                removes: false,
                wrong: None,
            };
            match self.start {
                Start::Fresh => vec![fresh],
                Start::Led => vec![self.led(&fresh)],
            }
        }

        fn actions(&self, state: &State, actions: &mut Vec<Action>) {
            for (node, host) in state.hosts.iter().enumerate() {
                let leads = host.core.role() == RoleName::Leader;
                if !leads && host.core.term().get() < self.term_max {
                    actions.push(Action::Timeout(node));
                }
                if !host.unsynced.is_empty() {
                    actions.push(Action::Sync(node));
                }
                if state.crashes < self.crashes {
                    actions.push(Action::Crash(node));
                }
                if leads && state.proposals < self.proposals && host.last() < self.entries_max {
                    actions.push(Action::Propose(node));
                }
                if leads && self.removes.is_some() && !state.removes {
                    actions.push(Action::Remove(node));
                }
            }
            for (place, sent) in state.sent.iter().enumerate() {
                actions.push(Action::Deliver(place));
                let is_vote = matches!(
                    sent.message.body,
                    Body::Vote { ballot: Ballot::Pre | Ballot::Real, .. }
                );
                let host = &state.hosts[receiver(&sent.message)];
                if is_vote && host.core.leader().is_some() {
                    actions.push(Action::DeliverLate(place));
                }
            }
        }

        fn next_state(&self, state: &State, action: Action) -> Option<State> {
            let next = self.act(state, action);
            if self.disk == Disk::AtOnce { next.map(State::all_synced) } else { next }
        }

        fn within_boundary(&self, state: &State) -> bool {
            let fits = |host: &Arc<Host>| {
                host.core.term().get() <= self.term_max && host.last() <= self.entries_max
            };
            state.hosts.iter().all(fits)
        }

        fn properties(&self) -> Vec<Property<Self>> {
            let mut properties = vec![
                Property::always("election safety", |_, s: &State| {
                    s.wrong != Some(Wrong::Election)
                }),
                Property::always("log matching", |_, s: &State| s.wrong != Some(Wrong::Matching)),
                Property::always("leader completeness", |_, s: &State| {
                    s.wrong != Some(Wrong::Completeness)
                }),
                Property::always("committed is never lost", |_, s: &State| {
                    s.wrong != Some(Wrong::Committed)
                }),
                Property::always("no node stops", |_, s: &State| s.wrong != Some(Wrong::Broken)),
                Property::sometimes("something is committed", |_, s: &State| {
                    !s.committed.is_empty()
                }),
            ];
            if self.removes.is_some() {
                let changed = |_: &Self, s: &State| s.changed;
                properties.push(Property::sometimes("a member goes", changed));
            }
            properties
        }
    }

    /// How many states to look at, of each world.
    fn states(usual: usize) -> usize {
        std::env::var("MODEL_STATES").ok().map_or(usual, |text| text.parse().expect("a number"))
    }

    fn look_at(name: &str, bounds: Bounds, states: usize) {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let checker = bounds.checker().threads(threads).target_state_count(states);
        let checker = checker.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let whole = if checker.state_count() < states { " in all" } else { "" };
        println!(
            "{name}: {} states{whole}, {} of them different, to a depth of {}",
            checker.state_count(),
            checker.unique_state_count(),
            checker.max_depth()
        );
        for (property, path) in checker.discoveries() {
            let kind = bounds.properties().into_iter().find(|p| p.name == property);
            let is_bad =
                kind.is_some_and(|p| matches!(p.expectation, stateright::Expectation::Always));
            let actions: Vec<_> = path.into_actions();
            assert!(!is_bad, "{name}: {property} does not hold after {actions:?}");
            println!("{name}: {property} after {} steps", actions.len());
        }
    }

    const USUAL: Bounds = Bounds {
        term_max: 3,
        entries_max: 4,
        crashes: 1,
        proposals: 1,
        removes: None,
        pre_vote: PreVote::On,
        disk: Disk::Later,
        start: Start::Led,
    };

    #[test]
    fn elections_hold_in_every_order() {
        let fresh = Bounds { start: Start::Fresh, proposals: 0, ..USUAL };
        let small = Bounds {
            disk: Disk::AtOnce,
            crashes: 0,
            term_max: 2,
            entries_max: 2,
            pre_vote: PreVote::Off,
            ..fresh
        };
        look_at("two elections, disks at once", small, states(10_000));
        let at_once = Bounds { disk: Disk::AtOnce, crashes: 0, term_max: 2, ..fresh };
        look_at("a first election, disks at once", at_once, states(10_000));
        let crash = Bounds { pre_vote: PreVote::Off, ..fresh };
        look_at("first elections, a crash", crash, states(10_000));
    }

    #[test]
    fn commits_hold_in_every_order() {
        look_at("elections and a proposal, a crash", USUAL, states(10_000));
        let at_once = Bounds { disk: Disk::AtOnce, crashes: 0, pre_vote: PreVote::Off, ..USUAL };
        look_at("elections and a proposal, disks at once", at_once, states(10_000));
    }

    #[test]
    fn a_change_of_members_holds_in_every_order() {
        let removes = Bounds { removes: Some(3), proposals: 0, ..USUAL };
        let at_once = Bounds { disk: Disk::AtOnce, pre_vote: PreVote::Off, term_max: 2, ..removes };
        look_at("another member goes, disks at once", at_once, states(10_000));
        let itself = Bounds { removes: Some(1), ..removes };
        look_at("the leader goes, a crash", itself, states(10_000));
    }
}
