//! The node as the admin protocol sees it: requests go to the engine, the log and the watcher.

use std::collections::BTreeMap;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use pickbox_admin::forward::Operation;
use pickbox_admin::holds::{HoldReport, Shown, Verdict, Which};
use pickbox_admin::limits::PIECE_BYTES_MAX;
use pickbox_admin::node::{Freshness, Look, Piece, Scope, Take, VersionReport, VersionState};
use pickbox_admin::status::{BusyPath, Pending, Role as ShownRole};
use pickbox_admin::{Code, Node, Refusal, Reply, Request, StatusReport, Ticket};
use pickbox_raft::api::{Command, Role, Status};
use pickbox_raft::core::ids::Index;
use pickbox_store::content_id::ContentId;
use pickbox_store::engine::CAT_PIECE_BYTES;
use pickbox_store::engine::ports::{
    Answer, Bytes, Freshness as Age, HoldChoice, HoldLine, Partial, Piece as Part, Query,
    Request as Asked, Scope as Of, StoreStatus, VersionLine,
};
use pickbox_store::ignored::{IGNORE_BYTES_MAX, line_for};
use pickbox_store::name::RelPath;
use pickbox_store::op::{self as store, Refusal as Cannot};
use pickbox_watch::{Ask, Counts, HotPolicy};

use crate::conflicts;
use crate::wishes::{What, Wish, alarms, member_report};

/// How long the log or the watcher may take to tell how they are.
const TELL: Duration = Duration::from_millis(500);

const _: () = assert!(CAT_PIECE_BYTES == 1 << PIECE_BYTES_MAX.ilog2());

/// How the watcher stands.
#[derive(Debug)]
struct Seen {
    counts: Counts,
    untaken: usize,
}

/// What answers clients.
#[derive(Debug)]
pub(crate) struct DaemonNode {
    pub(crate) engine: Sender<Asked>,
    pub(crate) wishes: Sender<Wish>,
    pub(crate) log: pickbox_raft::Handle,
    pub(crate) watch: pickbox_watch::Handle,
    pub(crate) name: String,
}

impl Node for DaemonNode {
    fn submit(&self, request: Request, ticket: Ticket) {
        match request {
            Request::Status => self.status(ticket),
            Request::Forward(forward) => {
                log::debug!(
                    "event=forward path=\"{}\" node_id={:?} sequence={:?}",
                    forward.path,
                    forward.node_id,
                    forward.sequence
                );
                let path = forward.path;
                let query = match forward.operation {
                    Operation::Write { data, .. } => Query::Put { path, data },
                    Operation::Delete => Query::Remove { path },
                };
                self.ask(query, ticket, |answer| match answer {
                    Answer::Committed(index) => Ok(Reply::Committed { index: index.get() }),
                    other => Err(refusal(other)),
                });
            }
            Request::Change(change) => self.wish(What::Change(change), ticket),
            Request::Transfer(to) => self.wish(What::Transfer(to), ticket),
            Request::Token(request) => self.wish(What::Token(request), ticket),
            Request::RotateKey(absent) => self.wish(What::RotateKey(absent), ticket),
            Request::Resolve { path, take, seen } => self.resolve(path, take, seen, ticket),
            Request::Read(look, freshness) => self.read(look, freshness, ticket),
            Request::Why(path) => self.ask(Query::Why(path), ticket, |answer| match answer {
                Answer::Why(report) => Ok(Reply::Why(report)),
                other => Err(refusal(other)),
            }),
            Request::Flush { timeout } => {
                let query = Query::Flush { timeout_ms: millis(timeout) };
                self.ask(query, ticket, barrier);
            }
            Request::Wait { index, scope, timeout } => {
                let query = Query::Wait {
                    index: index.map(Index::new),
                    scope: match scope {
                        Scope::Here => Of::Here,
                        Scope::All => Of::All,
                    },
                    timeout_ms: millis(timeout),
                };
                self.ask(query, ticket, barrier);
            }
            Request::Held => self.ask(Query::Held, ticket, |answer| match answer {
                Answer::Held(lines) => {
                    Ok(Reply::Holds(lines.into_iter().map(hold_report).collect()))
                }
                other => Err(refusal(other)),
            }),
            Request::Decide(verdict, which) => self.decide(verdict, which, ticket),
        }
    }
}

impl DaemonNode {
    fn read(&self, look: Look, freshness: Freshness, ticket: Ticket) {
        let read: fn(Answer) -> Result<Reply, Refusal> = match look {
            Look::Log(_) => |answer| match answer {
                Answer::Versions(lines) => Ok(Reply::Versions(reports(lines))),
                other => Err(unread(other)),
            },
            Look::Cat { .. } => |answer| match answer {
                Answer::Piece(part) => Ok(Reply::Piece(piece(part))),
                other => Err(unread(other)),
            },
            Look::Find(_) => |answer| match answer {
                Answer::Versions(lines) => Ok(Reply::Found(reports(lines))),
                other => Err(unread(other)),
            },
            Look::Conflicts(_) => |answer| match answer {
                Answer::Conflicts(page) => Ok(Reply::Conflicts(conflicts::list(page))),
                other => Err(unread(other)),
            },
        };
        let query = match look {
            Look::Log(path) => Query::Log(path),
            Look::Cat { path, index, offset } => {
                Query::Cat { path, index: Index::new(index), offset }
            }
            Look::Find(hash) => Query::Find(ContentId(hash.0)),
            Look::Conflicts(after) => Query::Conflicts(after),
        };
        let freshness = match freshness {
            Freshness::Fresh => Age::Fresh,
            Freshness::Local => Age::Local,
        };
        let reply = Box::new(move |answer| ticket.answer(read(answer)));
        self.send(Asked { query, freshness, reply });
    }

    fn resolve(&self, path: RelPath, take: Take, seen: Option<(u64, u64)>, ticket: Ticket) {
        let take = match take {
            Take::Ours => store::Take::Ours,
            Take::Theirs => store::Take::Theirs,
            Take::Both => store::Take::Both,
        };
        let seen = seen.map(|(file, copy)| (Index::new(file), Index::new(copy)));
        self.ask(Query::Resolve { path, take, seen }, ticket, |answer| match answer {
            Answer::Committed(index) => Ok(Reply::Committed { index: index.get() }),
            other => Err(conflicts::unresolved(other).unwrap_or_else(unread)),
        });
    }

    fn decide(&self, verdict: Verdict, which: Which, ticket: Ticket) {
        let choice = match which {
            Which::All => HoldChoice::All,
            Which::One(id) => HoldChoice::One(id.as_str().to_owned()),
        };
        let query = match verdict {
            Verdict::Approve => Query::Approve(choice),
            Verdict::Reject => Query::Reject(choice),
        };
        self.ask(query, ticket, move |answer| match answer {
            Answer::Decided { count } => {
                Ok(Reply::Decided(verdict, u64::try_from(count).unwrap_or(u64::MAX)))
            }
            other => Err(refusal(other)),
        });
    }

    fn ask(
        &self,
        query: Query,
        ticket: Ticket,
        read: impl FnOnce(Answer) -> Result<Reply, Refusal> + Send + 'static,
    ) {
        let reply = Box::new(move |answer| ticket.answer(read(answer)));
        self.send(Asked { query, freshness: Age::default(), reply });
    }

    fn send(&self, asked: Asked) {
        if let Err(error) = self.engine.try_send(asked) {
            let Asked { reply, .. } = error.into_inner();
            reply(Answer::Busy);
        }
    }

    fn wish(&self, what: What, ticket: Ticket) {
        if let Err(error) = self.wishes.try_send(Wish { what, ticket }) {
            error.into_inner().ticket.answer(Err(busy()));
        }
    }

    fn status(&self, ticket: Ticket) {
        let (log, watch, name) = (self.log.clone(), self.watch.clone(), self.name.clone());
        self.ask(Query::Status, ticket, move |answer| {
            let Answer::Status(store) = answer else { return Err(refusal(answer)) };
            let log = tell(|reply| log.send(Command::Status(reply)).is_ok());
            // This runs where sightings are taken: what was open at the moment of `store` is still
            // with the watcher when that is asked, or has been handed on and is counted after it.
            let counts = tell(|reply| watch.ask(Ask::Status(reply)).is_ok());
            let watch = counts.map(|counts| Seen { counts, untaken: watch.untaken() });
            match log {
                Some(log) => {
                    Ok(Reply::Status(Box::new(report(name, &store, &log, watch.as_ref()))))
                }
                None => Err(Refusal::new(
                    Code::Stopping,
                    "the log does not answer: the node is stopping",
                )),
            }
        });
    }
}

/// What the log or the watcher answers, unless it takes too long.
pub(crate) fn tell<T>(ask: impl FnOnce(Sender<T>) -> bool) -> Option<T> {
    let (reply, answer) = bounded(1);
    if ask(reply) { answer.recv_timeout(TELL).ok() } else { None }
}

fn busy() -> Refusal {
    Refusal::new(Code::Busy, "too much is waiting already: try again in a moment")
}

fn refusal(answer: Answer) -> Refusal {
    match answer {
        Answer::Busy => busy(),
        Answer::NoQuorum => Refusal::new(
            Code::NoQuorum,
            "no leader is known, so no majority of the voters can be reached: nothing was done; \
             see STATUS, try again when there is one",
        ),
        Answer::Unknown => Refusal::new(
            Code::Unknown,
            "it was proposed, then the majority was lost: it may still be committed later; \
             look (LOG PATH) before asking again",
        ),
        Answer::NoSpace => Refusal::new(
            Code::NoSpace,
            "the disk of this node is full, nothing was done: free some space or ask another node",
        ),
        Answer::Ignored(rule) => {
            Refusal::new(Code::Ignored, format!("by {rule}: nothing was done"))
        }
        Answer::RulesTooLong => Refusal::new(
            Code::TooLarge,
            format!(
                "a file of rules may have {IGNORE_BYTES_MAX} bytes: spread the lines over \
                 directories; nothing was done"
            ),
        ),
        Answer::NotFound => Refusal::new(Code::NotFound, "no such file, version or content"),
        Answer::NoHold(why) => Refusal::new(Code::NotFound, why),
        Answer::Unavailable(why) => Refusal::new(Code::Gone, why),
        Answer::Refused(Cannot::IsADirectory) => {
            Refusal::new(Code::IsADirectory, "a directory has that path: delete it first")
        }
        Answer::Refused(Cannot::NotADirectory) => Refusal::new(
            Code::NotADirectory,
            "the path leads through a file or a symlink: nothing was changed",
        ),
        Answer::Refused(Cannot::NotEmpty) => Refusal::new(
            Code::IsADirectory,
            "the directory is not empty: delete what is in it first; nothing was changed",
        ),
        Answer::Refused(other) => {
            Refusal::new(Code::BadRequest, format!("it cannot be done: {other:?}"))
        }
        _ => Refusal::new(Code::Unsupported, "an answer of another kind"),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The answer to a flush or a wait.
fn barrier(answer: Answer) -> Result<Reply, Refusal> {
    Err(match answer {
        Answer::Flushed(index) | Answer::Placed(index) => {
            return Ok(Reply::UpTo { index: index.get() });
        }
        Answer::Partial(partial) => Refusal::new(Code::Partial, partial_words(&partial)),
        Answer::Blocked(why) => Refusal::new(Code::Blocked, why),
        Answer::Unreachable(why) => Refusal::new(Code::Unreachable, why),
        Answer::TimedOut(why) => Refusal::new(Code::TimedOut, why),
        Answer::NoQuorum => Refusal::new(
            Code::NoQuorum,
            "no leader is known, so no majority of the voters can be reached: nothing is lost, and what \
             is written is committed when there is one",
        ),
        Answer::NoSpace => Refusal::new(
            Code::Blocked,
            "the disk of this node is full: nothing is committed or placed here until there is space",
        ),
        Answer::Unavailable(why) => Refusal::new(Code::Stopping, why),
        other => unread(other),
    })
}

/// What a flush could not bring into the log.
fn partial_words(partial: &Partial) -> String {
    let Partial { index, open, held, unreadable } = partial;
    let mut parts = vec![format!(
        "{} open, {} held, {} unreadable; all else is committed at {index}",
        open.count, held.count, unreadable.count
    )];
    for (what, named) in [("open", open), ("held", held), ("unreadable", unreadable)] {
        parts.extend(named.paths.iter().map(|path| format!("{what}: {path}")));
        if named.count > named.paths.len() {
            parts.push(format!("{what}: {} more", named.count - named.paths.len()));
        }
    }
    parts.join("; ")
}

/// Why a read was not answered.
fn unread(answer: Answer) -> Refusal {
    match answer {
        Answer::NoQuorum => Refusal::new(
            Code::NoQuorum,
            "no leader could confirm with a majority of the voters what is newest: try again, or ask \
             another node; LOCAL before the request (pickbox: --local) tells what this node has, perhaps old",
        ),
        Answer::Behind => Refusal::new(
            Code::Busy,
            "this node has not yet applied what the majority has: try again, or ask another node; LOCAL \
             before the request (pickbox: --local) tells what it has, perhaps old",
        ),
        other => refusal(other),
    }
}

fn piece(part: Part) -> Piece {
    let Part { size, offset, content, data } = part;
    Piece { size, sha256: content.map(|content| content.to_string()), offset, data }
}

fn reports(lines: Vec<VersionLine>) -> Vec<VersionReport> {
    lines.into_iter().map(version_report).collect()
}

fn version_report(line: VersionLine) -> VersionReport {
    let is_file = line.content.is_some();
    VersionReport {
        path: line.path,
        index: line.index.get(),
        change: line.made.to_string(),
        node_id: line.author,
        size: is_file.then_some(line.size),
        sha256: line.content.map(|content| content.to_string()),
        mtime: line.mtime.map(|mtime| mtime.secs),
        state: match line.bytes {
            Bytes::Current => VersionState::Current,
            Bytes::Kept => VersionState::Kept,
            Bytes::Gone => VersionState::Gone,
        },
    }
}

fn hold_report(line: HoldLine) -> HoldReport {
    HoldReport {
        hold_id: line.id,
        node_id: line.node,
        since: line.since_ms / 1000,
        files: line.files,
        directories: line.directories,
        paths: line.paths.into_iter().map(Shown).collect(),
    }
}

fn report(name: String, store: &StoreStatus, log: &Status, watch: Option<&Seen>) -> StatusReport {
    let name_of = |id| {
        let found = log.members.iter().find(|known| known.member.id == id);
        found.map(|known| known.member.name.clone())
    };
    let watched = |lines: fn(&Counts) -> &Vec<String>| {
        watch.map_or_else(Vec::new, |watch| lines(&watch.counts).clone())
    };
    let parts = pending(store, watch);
    let placed = store.placed.get();
    StatusReport {
        node_id: name,
        cluster_id: log.cluster.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        role: match log.role.role {
            Role::Leader => ShownRole::Leader,
            Role::Follower => ShownRole::Follower,
            Role::Candidate => ShownRole::Candidate,
            Role::Learner => ShownRole::Learner,
        },
        is_removed: log.is_removed,
        is_changing: log.changing,
        leader_id: log.role.leader.and_then(name_of),
        term: log.role.term.get(),
        commit_index: log.commit.get(),
        applied_index: store.applied.get(),
        placed_index: placed,
        pending: parts.total(),
        pending_parts: parts,
        waiting: waiting(store, watch),
        ignoring: store.ignoring.clone(),
        busiest: store.busiest.iter().map(|(path, bytes)| busy_path(path, *bytes)).collect(),
        alarms: [store.alarms.clone(), alarms(log), watched(|counts| &counts.alarms)].concat(),
        notices: watched(|counts| &counts.notices),
        conflicts: store.conflicts,
        root_digest: store.digest.clone(),
        members: log.members.iter().map(|known| member_report(known, log)).collect(),
        counters: counters(store, log, watch),
    }
}

fn busy_path(path: &RelPath, bytes_per_hour: u64) -> BusyPath {
    BusyPath { path: path.clone(), bytes_per_hour, ignore_line: line_for(path) }
}

/// What the store waits for, and what programs keep open.
fn waiting(store: &StoreStatus, watch: Option<&Seen>) -> Vec<String> {
    let open = watch.iter().flat_map(|watch| &watch.counts.open_files).map(|file| {
        let what = match (file.is_hot, file.policy) {
            (true, _) => "stays open for writing: taken as it is, again when it changed",
            (false, HotPolicy::Skip) => "open for writing: waits until it is closed (--hot)",
            (false, HotPolicy::Snapshot) => "open for writing",
        };
        format!("{}: {what}", file.path)
    });
    store.waiting.iter().cloned().chain(open).collect()
}

fn pending(store: &StoreStatus, watch: Option<&Seen>) -> Pending {
    let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let mut parts = Pending {
        undecided: store.undecided,
        unplaced: store.unplaced - store.blocked.min(store.unplaced),
        blocked: store.blocked,
        held: store.held,
        ..Pending::default()
    };
    match watch {
        Some(Seen { counts, untaken }) => {
            parts.unread_bytes = counts.unread_bytes;
            parts.open = wide(counts.open_for_writing);
            let marked = counts.dirty.saturating_sub(counts.open_for_writing);
            parts.dirty = wide(marked + counts.outbox + counts.asked + counts.walks + untaken);
        }
        // A watcher that does not answer has not said that there is nothing.
        None => parts.dirty = 1,
    }
    parts
}

fn counters(store: &StoreStatus, log: &Status, watch: Option<&Seen>) -> BTreeMap<String, u64> {
    let counts = &log.counters;
    let mut all = BTreeMap::from([
        ("wal_syncs".to_owned(), counts.wal_syncs),
        ("wal_bytes".to_owned(), counts.wal_bytes),
        ("messages_sent".to_owned(), counts.messages_sent),
        ("bytes_sent".to_owned(), counts.bytes_sent),
        ("refused_connections".to_owned(), counts.refused_connections),
        ("log_first".to_owned(), log.first.get()),
        ("log_last".to_owned(), log.last.get()),
        ("records".to_owned(), store.records),
        ("recovered".to_owned(), store.recovered),
        ("left_out".to_owned(), store.left_out),
    ]);
    if let Some(Seen { counts: watch, .. }) = watch {
        all.insert("watch_overflows".to_owned(), watch.overflows);
        let mut insert = |name: &str, count| {
            all.insert(name.to_owned(), u64::try_from(count).unwrap_or(u64::MAX));
        };
        insert("unwatched", watch.unwatched);
        insert("watches", watch.watches.used);
        insert("hot", watch.hot);
        insert("linked", watch.linked);
    }
    all
}
