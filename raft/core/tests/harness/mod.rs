//! A cluster of cores on a table: nothing moves unless a command says so, and everything that a
//! core does is told in one line each.

mod tell;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use pickbox_raft_core::event::{Aim, Change, ChangeId, LogOp, LogRead, Warrant};
use pickbox_raft_core::ids::{
    Fingerprint, Incarnation, Index, IoSeq, LogPosition, NodeId, ReadId, Serial, Term,
};
use pickbox_raft_core::limits::Limits;
use pickbox_raft_core::log::{Content, Entry, HardState, Payload, Proposal};
use pickbox_raft_core::members::{Member, MemberRole, Members};
use pickbox_raft_core::message::{Ballot, Body, Message, Verdict};
use pickbox_raft_core::time::Time;
use pickbox_raft_core::{Config, Core, Event, Output, PreVote, Restored};

/// One node: its core, its disk, and what waits for the disk.
struct Node {
    core: Option<Core>,
    durable: Vec<LogOp>,
    unsynced: Vec<LogOp>,
    io: IoSeq,
    /// The last entry that was handed out.
    applied: Index,
    asked: Vec<LogRead>,
    /// The disk syncs by itself when the network is run.
    disk_works: bool,
    starts: u64,
}

/// The cluster.
#[derive(Default)]
pub(crate) struct Harness {
    nodes: BTreeMap<u64, Node>,
    wire: Vec<Message>,
    cut: BTreeSet<(u64, u64)>,
    now: u64,
    serial: u64,
    told: String,
    limits: Option<Limits>,
    /// Nodes that vote without asking first.
    blunt: Vec<u64>,
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("a number, not {text:?}"))
}

fn position(text: &str) -> LogPosition {
    let (index, term) = text.split_once('@').expect("INDEX@TERM");
    LogPosition { index: Index::new(number(index)), term: Term::new(number(term)) }
}

/// The value of `key=value` among the words.
fn value<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

fn members(voters: &[u64], learners: &[u64]) -> Members {
    let role = |id| {
        if learners.contains(&id) { MemberRole::Learner } else { MemberRole::Voter }
    };
    let mut all: Vec<u64> = voters.iter().chain(learners).copied().collect();
    all.sort_unstable();
    let member = |id: u64| Member {
        id: NodeId::new(id),
        name: format!("node{id}"),
        address: format!("host:{}", 8000 + id),
        role: role(id),
        key: Some(key(&format!("node{id}"))),
    };
    let next_id = NodeId::new(all.last().copied().unwrap_or(0) + 1);
    let members = all.iter().map(|id| member(*id)).collect();
    Members { members, next_id, ..Members::default() }
}

/// The member that a command is about.
fn id(words: &[&str]) -> NodeId {
    NodeId::new(number(words[2]))
}

fn add(words: &[&str], aim: Aim) -> Change {
    Change::Add { name: words[2].into(), address: words[3].into(), aim }
}

fn join(words: &[&str]) -> Change {
    let (name, address) = (words[2].into(), words[3].into());
    Change::Join { name, address, key: key(words[2]), warrant: Warrant::SameUser }
}

/// Each name has a key of its own.
fn key(name: &str) -> Fingerprint {
    let mut key = [0; 32];
    key[..name.len()].copy_from_slice(name.as_bytes());
    Fingerprint(key)
}

impl Harness {
    /// Does what one command line says and returns what happened.
    pub(crate) fn run(&mut self, command: &str) -> String {
        self.told.clear();
        let words: Vec<&str> = command.split_whitespace().collect();
        let node = words.get(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        match words[0] {
            "cluster" => self.cluster(&words[1..]),
            "log" => self.preset(node, &words[2..]),
            "tick" => self.tick(node),
            "lead" => {
                self.tick(node);
                self.stabilize();
                self.told.clear();
            }
            "limits" => self.limit(&words[1..]),
            "advance" => self.now += node * 1000,
            "sync" => self.sync(node),
            "applied" => self.applied(node),
            "readback" => self.read_back(node),
            "disk" => self.node(node).disk_works = words[2] == "works",
            "deliver" => self.deliver(value(&words, "from"), value(&words, "to")),
            "run" => self.stabilize(),
            "drop" => self.wire.clear(),
            "repeat" => self.wire.extend(self.wire.clone()),
            "reverse" => self.wire.reverse(),
            "cut" => self.cut_links(&words[1..]),
            "heal" => self.cut.clear(),
            "crash" => self.crash(node),
            "start" => self.start(node),
            "propose" => self.propose(node, &words[2..]),
            "forward" => self.forward(node),
            "read" => self.step(node, Event::ReadIndex(ReadId::new(number(words[2])))),
            "send" => self.forge(&words[1..]),
            "add" => self.change(node, add(&words, Aim::Voter)),
            "add-learner" => self.change(node, add(&words, Aim::Learner)),
            "join" => self.change(node, join(&words)),
            "remove" => self.change(node, Change::Remove(id(&words))),
            "promote" => self.change(node, Change::Promote(id(&words))),
            "demote" => self.change(node, Change::Demote(id(&words))),
            "readdress" => {
                let address = words[3].into();
                self.change(node, Change::Readdress { id: id(&words), address });
            }
            "replace" => {
                let (name, address) = (words[3].into(), words[4].into());
                self.change(node, Change::Replace { old: id(&words), name, address });
            }
            "fresh" => self.fresh(node, Members::default()),
            "transfer" => {
                let to = words.get(2).map(|word| NodeId::new(number(word)));
                self.step(node, Event::Transfer(to));
            }
            "unreachable" => {
                self.step(node, Event::Unreachable(NodeId::new(number(words[2]))));
            }
            "compact" => {
                self.step(node, Event::Compact { through: Index::new(number(words[2])) });
            }
            "installed" => self.installed(node, words[2], number(words[3])),
            "logs" => self.tell_logs(),
            "status" => self.tell_status(),
            other => panic!("no such command: {other}"),
        }
        std::mem::take(&mut self.told)
    }

    fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).unwrap_or_else(|| panic!("no node {id}"))
    }

    /// `cluster 1 2 3 learner=4 joiner=5`: fresh nodes with an empty log.
    fn cluster(&mut self, words: &[&str]) {
        *self =
            Self { told: std::mem::take(&mut self.told), limits: self.limits, ..Self::default() };
        let voters: Vec<u64> = words.iter().filter_map(|word| word.parse().ok()).collect();
        let learners: Vec<u64> = value(words, "learner").map(number).into_iter().collect();
        let joiner = value(words, "joiner").map(number);
        let blunt = value(words, "no-prevote").unwrap_or_default();
        self.blunt = blunt.split_terminator(',').map(number).collect();
        let all = members(&voters, &learners);
        for id in voters.iter().chain(&learners).copied().chain(joiner) {
            let members = if Some(id) == joiner { Members::default() } else { all.clone() };
            self.fresh(id, members);
        }
    }

    /// `fresh 4`: a node that has just begun, with an empty log.
    fn fresh(&mut self, id: u64, members: Members) {
        let first = LogOp::Reset { at: LogPosition::default(), members };
        let node = Node {
            core: None,
            durable: vec![first],
            unsynced: Vec::new(),
            io: IoSeq::ZERO,
            applied: Index::ZERO,
            asked: Vec::new(),
            disk_works: true,
            starts: 0,
        };
        self.nodes.insert(id, node);
        self.start(id);
    }

    /// `log 2 1 1 2 term=3 vote=1`: starts over with entries of these terms on disk.
    fn preset(&mut self, id: u64, words: &[&str]) {
        let terms = words.iter().filter_map(|word| word.parse::<u64>().ok());
        let entries: Vec<Arc<Entry>> = (1..)
            .zip(terms)
            .map(|(index, term)| {
                let (index, term) = (Index::new(index), Term::new(term));
                Arc::new(Entry { index, term, content: Content::Noop })
            })
            .collect();
        let last = entries.last().map_or(Term::ZERO, |entry| entry.term);
        let term = value(words, "term").map_or(last, |term| Term::new(number(term)));
        let voted_for = value(words, "vote").map(|vote| NodeId::new(number(vote)));
        let node = self.node(id);
        node.durable.truncate(1);
        node.durable.push(LogOp::HardState(HardState { term, voted_for }));
        node.durable.push(LogOp::Append(entries));
        self.start(id);
    }

    fn start(&mut self, id: u64) {
        let now = Time::from_micros(self.now);
        let limits = self.limits.unwrap_or(Limits::USUAL);
        let pre_vote = if self.blunt.contains(&id) { PreVote::Off } else { PreVote::On };
        let node = self.node(id);
        let mut restored = Restored::default();
        for op in &node.durable {
            restored.replay(op).unwrap();
        }
        node.starts += 1;
        node.io = IoSeq::ZERO;
        let seed = id * 1000 + node.starts;
        let config = Config { limits, pre_vote, ..Config::new(NodeId::new(id), seed) };
        node.core = Some(Core::new(config, restored, node.applied, now));
    }

    /// `limits message=300 apply=200`: bounds for the next cluster.
    fn limit(&mut self, words: &[&str]) {
        let usual = Limits::USUAL;
        let bytes = |key, usual| value(words, key).map_or(usual, number);
        self.limits = Some(Limits {
            message_bytes: bytes("message", usual.message_bytes),
            inflight_bytes: bytes("inflight", usual.inflight_bytes),
            recent_bytes: bytes("recent", usual.recent_bytes),
            uncommitted_bytes: bytes("uncommitted", usual.uncommitted_bytes),
            apply_bytes: bytes("apply", usual.apply_bytes),
        });
    }

    /// Stops a node at once: what its disk was not done with is lost.
    fn crash(&mut self, id: u64) {
        let node = self.node(id);
        node.core = None;
        node.unsynced.clear();
        node.asked.clear();
    }

    /// Lets time pass until this node's deadline, and ticks it.
    fn tick(&mut self, id: u64) {
        let deadline = self.node(id).core.as_ref().expect("runs").deadline();
        self.now = self.now.max(deadline.as_micros());
        self.step(id, Event::Tick);
    }

    fn step(&mut self, id: u64, event: Event) {
        let now = Time::from_micros(self.now);
        let node = self.nodes.get_mut(&id).expect("a node");
        let Some(core) = node.core.as_mut() else { return };
        let mut out = Output::default();
        core.step(now, event, &mut out);
        core.check_invariants().unwrap();
        node.unsynced.extend(out.log_ops.iter().cloned());
        node.io = node.io.max(out.io);
        node.asked.extend(&out.log_reads);
        self.told += &tell::output(id, &out);
        if let Some(last) = out.committed.last() {
            node.applied = last.index;
        }
        if out.fatal.is_some() {
            node.core = None;
        } else {
            self.wire.extend(out.messages);
        }
    }

    /// The room above says that it has applied all that it got.
    fn applied(&mut self, id: u64) {
        let applied = self.node(id).applied;
        self.step(id, Event::Applied { applied, placed: applied });
    }

    /// The log answers the oldest question that a node asked.
    fn read_back(&mut self, id: u64) {
        let node = self.node(id);
        if node.asked.is_empty() {
            return;
        }
        let LogRead { purpose, from, through } = node.asked.remove(0);
        let mut log: Vec<Arc<Entry>> = Vec::new();
        for op in node.durable.iter().chain(&node.unsynced) {
            match op {
                LogOp::Append(entries) => log.extend(entries.iter().cloned()),
                LogOp::Truncate { from } => log.retain(|entry| entry.index < *from),
                LogOp::Reset { .. } => log.clear(),
                LogOp::Compact { through, .. } => log.retain(|entry| entry.index > through.index),
                LogOp::HardState(_) => {}
            }
        }
        log.retain(|entry| from <= entry.index && entry.index <= through);
        self.step(id, Event::LogRead { purpose, entries: log });
    }

    fn sync(&mut self, id: u64) {
        let node = self.node(id);
        if node.unsynced.is_empty() {
            return;
        }
        node.durable.append(&mut node.unsynced);
        let io = node.io;
        self.step(id, Event::Durable(io));
    }

    /// Delivers what is on the wire now (not the answers), from or to one node if so said.
    fn deliver(&mut self, from: Option<&str>, to: Option<&str>) {
        let (from, to) = (from.map(number), to.map(number));
        let chosen = |message: &Message| {
            from.is_none_or(|id| id == message.from.get())
                && to.is_none_or(|id| id == message.to.get())
        };
        let (now, later): (Vec<Message>, Vec<Message>) =
            std::mem::take(&mut self.wire).into_iter().partition(chosen);
        self.wire = later;
        for message in now {
            let (from, to) = (message.from.get(), message.to.get());
            if !self.cut.contains(&(from, to)) && self.nodes.contains_key(&to) {
                self.step(to, Event::Message(message));
            }
        }
    }

    /// Delivers and syncs until nothing moves any more.
    fn stabilize(&mut self) {
        for _ in 0..100 {
            let ids: Vec<u64> = self.nodes.keys().copied().collect();
            for id in ids {
                if self.node(id).disk_works && self.node(id).core.is_some() {
                    self.sync(id);
                    self.applied(id);
                }
            }
            let busy = |node: &Node| node.disk_works && !node.unsynced.is_empty();
            if self.wire.is_empty() && !self.nodes.values().any(busy) {
                return;
            }
            self.deliver(None, None);
        }
        panic!("the cluster does not come to rest");
    }

    /// `cut 1-2 3>1`: both ways, or one.
    fn cut_links(&mut self, links: &[&str]) {
        for link in links {
            if let Some((a, b)) = link.split_once('>') {
                self.cut.insert((number(a), number(b)));
            } else if let Some((a, b)) = link.split_once('-') {
                self.cut.insert((number(a), number(b)));
                self.cut.insert((number(b), number(a)));
            } else {
                let id = number(link);
                for other in self.nodes.keys() {
                    self.cut.insert((id, *other));
                    self.cut.insert((*other, id));
                }
            }
        }
    }

    /// `propose 1 [holders=1,2] [bytes=N]`.
    fn propose(&mut self, id: u64, words: &[&str]) {
        let proposal = self.proposal(id, words);
        self.step(id, Event::Propose(proposal));
    }

    fn proposal(&mut self, id: u64, words: &[&str]) -> Arc<Proposal> {
        self.serial += 1;
        let holders = value(words, "holders")
            .map(|list| list.split(',').map(|id| NodeId::new(number(id))).collect());
        let bytes = value(words, "bytes").map_or(1, number);
        Arc::new(Proposal {
            origin: NodeId::new(id),
            incarnation: Incarnation::new(1),
            serial: Serial::new(self.serial),
            holders,
            payload: Payload::Data(vec![0; usize::try_from(bytes).unwrap()]),
        })
    }

    /// A follower's proposal, sent to the leader that it knows.
    fn forward(&mut self, id: u64) {
        let proposal = self.proposal(id, &[]);
        let message = self.node(id).core.as_ref().and_then(|core| core.forward(proposal));
        let Some(message) = message else {
            writeln!(self.told, "{id} knows no leader to forward to").unwrap();
            return;
        };
        self.told += &tell::message(&message);
        self.wire.push(message);
    }

    fn change(&mut self, id: u64, change: Change) {
        self.serial += 1;
        self.step(id, Event::ChangeMembers { request: ChangeId(self.serial), change });
    }

    /// `installed 3 5@2 1`: node 3 has a whole state of 5@2, with node 1's members of then.
    fn installed(&mut self, id: u64, at: &str, from: u64) {
        let at = position(at);
        let core = self.node(from).core.as_ref().expect("runs");
        let members = core.members_at(at.index).clone();
        self.node(id).applied = at.index;
        self.step(id, Event::StateInstalled { at, members });
    }

    /// `send 2>1 term=3 heartbeat commit=4`: a message that no node made.
    fn forge(&mut self, words: &[&str]) {
        let (from, to) = words[0].split_once('>').expect("FROM>TO");
        let index = |key| Index::new(value(words, key).map_or(0, number));
        let place = |key| value(words, key).map(position).unwrap_or_default();
        let term = Term::new(value(words, "term").map_or(0, number));
        let entries = value(words, "entries").map_or_else(Vec::new, |list| {
            let entry = |at: &str| {
                let LogPosition { index, term } = position(at);
                Arc::new(Entry { index, term, content: Content::Noop })
            };
            list.split(',').map(entry).collect()
        });
        let body = match words[2] {
            "heartbeat" => {
                let matched = index("matched").max(index("commit"));
                Body::Heartbeat { commit: index("commit"), matched, round: 0 }
            }
            "append" => {
                Body::Append { previous: place("previous"), commit: index("commit"), entries }
            }
            "appended" => Body::Appended { matched: index("matched") },
            "rejected" => Body::AppendRejected { previous: index("previous"), hint: place("hint") },
            "alive" => {
                let round = value(words, "round").map_or(0, number);
                let sync_us = value(words, "sync").map_or(0, number).try_into().unwrap();
                Body::HeartbeatReply { round, applied: Index::ZERO, placed: Index::ZERO, sync_us }
            }
            "vote" => Body::Vote { ballot: Ballot::Real, last: place("last") },
            "prevote" => Body::Vote { ballot: Ballot::Pre, last: place("last") },
            "handover" => Body::Vote { ballot: Ballot::Handover, last: place("last") },
            "yes" => Body::VoteReply { ballot: Ballot::Real, verdict: Verdict::Granted },
            "no" => Body::VoteReply { ballot: Ballot::Real, verdict: Verdict::Refused },
            "preyes" => Body::VoteReply { ballot: Ballot::Pre, verdict: Verdict::Granted },
            "preno" => Body::VoteReply { ballot: Ballot::Pre, verdict: Verdict::Refused },
            "install" => Body::InstallState { at_least: place("at") },
            "committed" => Body::CommittedTo { at: place("at") },
            "timeout-now" => Body::TimeoutNow,
            other => panic!("no such message: {other}"),
        };
        let from = NodeId::new(number(from));
        let message = Message { from, to: NodeId::new(number(to)), term, body };
        self.step(message.to.get(), Event::Message(message));
    }

    fn tell_logs(&mut self) {
        for (id, node) in &self.nodes {
            if let Some(core) = &node.core {
                self.told += &tell::log(*id, core);
            }
        }
    }

    fn tell_status(&mut self) {
        for (id, node) in &self.nodes {
            match &node.core {
                Some(core) => self.told += &tell::status(*id, core),
                None => writeln!(self.told, "{id}: stopped").unwrap(),
            }
        }
    }
}
