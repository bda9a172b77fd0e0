//! A wait: everything up to an entry stands in the folder, here or on all members (trap T28).
//!
//! This node knows its own folder; the others are asked ([`super::questions`]). A node that is asked
//! and cannot say yes remembers the question and answers once more when it can, so nobody asks in a
//! loop; the question is put again now and then, which tells that the node still lives. What cannot
//! succeed by itself is answered at once: something that has to be done by hand, or a node that is not
//! reached.

use std::collections::BTreeMap;

use pickbox_raft::core::ids::{Index as LogIndex, NodeId};

use super::place::Why;
use super::ports::{Answer, Query, Request, Scope};
use super::questions::{Question, Told};
use super::{Engine, Fatal};
use crate::record::FileId;
use crate::why::errno_words;

/// Waits of clients at a time; one more is answered `Busy`.
pub(super) const WAITS_MAX: usize = 256;
/// Questions of other nodes that are remembered, for each of them.
const OWED_MAX: usize = 256;
/// A question is put again after this.
pub(super) const ASK_AGAIN_MS: u64 = 1_000;
/// A node that has not said anything for so long is called unreachable.
pub(super) const SILENT_MS: u64 = 5_000;
/// A question that is not put again for so long is forgotten.
const FORGET_MS: u64 = 4 * ASK_AGAIN_MS;

/// What is known of another node that a wait is for.
#[derive(Clone, Debug)]
struct Peer {
    /// When it was asked last.
    asked_ms: u64,
    /// When it said something last, or was first asked.
    heard_ms: u64,
    /// What it waits for, in its words.
    why: Option<String>,
}

/// A client's wait.
#[derive(Debug)]
struct Wait {
    request: Request,
    index: LogIndex,
    until_ms: u64,
    /// Whether this folder shows it.
    here: bool,
    /// Those whose folders are not known to show it.
    missing: BTreeMap<NodeId, Peer>,
}

/// A question of another node that could not be answered with yes.
#[derive(Debug)]
struct Owed {
    index: LogIndex,
    asked_ms: u64,
}

/// Waits on their way, of clients and of other nodes.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// By their number, which the questions bear.
    of_clients: BTreeMap<u64, Wait>,
    owed: BTreeMap<(NodeId, u64), Owed>,
    last: u64,
}

impl Waits {
    pub(super) fn len(&self) -> usize {
        self.of_clients.len() + self.owed.len()
    }
}

/// How far this folder is, as of this moment.
#[derive(Clone, Copy, Debug)]
struct Horizon {
    /// Everything up to this stands there.
    placed: LogIndex,
    /// Since which entry something waits for a hand, and what, if it is one file.
    blocked: Option<(LogIndex, Option<FileId>)>,
}

impl Horizon {
    fn of(self, index: LogIndex) -> Standing {
        match self.blocked {
            _ if self.placed >= index => Standing::Placed,
            Some((since, file)) if since <= index => Standing::Blocked(file),
            _ => Standing::Waits,
        }
    }
}

/// Where an entry stands with this folder.
#[derive(Clone, Copy, Debug)]
enum Standing {
    Placed,
    Waits,
    /// By this file, or by what hinders everything.
    Blocked(Option<FileId>),
}

impl Engine {
    /// Takes a wait in, for an entry that is known.
    pub(super) fn wait_for(&mut self, request: Request, index: LogIndex) -> Result<(), Fatal> {
        let Query::Wait { scope, timeout_ms, .. } = request.query else { return Ok(()) };
        if self.barriers.waits.of_clients.len() >= WAITS_MAX {
            (request.reply)(Answer::Busy);
            return Ok(());
        }
        self.barriers.waits.last += 1;
        let number = self.barriers.waits.last;
        let until_ms = self.now_ms.saturating_add(timeout_ms);
        let mut missing = BTreeMap::new();
        if scope == Scope::All {
            let peer = Peer { asked_ms: self.now_ms, heard_ms: self.now_ms, why: None };
            for id in self.peers() {
                missing.insert(id, peer.clone());
                self.ask_peer(id, number, Question::Placed { index })?;
            }
        }
        let wait = Wait { request, index, until_ms, here: false, missing };
        self.barriers.waits.of_clients.insert(number, wait);
        Ok(())
    }

    /// What keeps this node from placing and proposing anything.
    pub(super) fn standstill(&self) -> Option<String> {
        let outvoted = self.digest_trouble().filter(|_| self.comparison.is_outvoted());
        self.root_trouble()
            .or_else(|| self.brought_trouble())
            .or_else(|| self.space_trouble())
            .or(outvoted)
    }

    fn horizon(&self) -> Horizon {
        let blocked = |(id, why): (&FileId, &Why)| {
            let since = self.todo.since_of(*id)?;
            matches!(why, Why::Blocked(_)).then_some((since, Some(*id)))
        };
        let blocked = if self.standstill().is_some() {
            Some((LogIndex::ZERO, None))
        } else {
            self.stuck.iter().filter_map(blocked).min()
        };
        Horizon { placed: self.placed_index(), blocked }
    }

    /// What hinders a file, or everything, and where.
    fn blocked_words(&mut self, file: Option<FileId>) -> Result<String, Fatal> {
        let Some(Why::Blocked(error)) = file.and_then(|id| self.stuck.get(&id)).cloned() else {
            let trouble = self.standstill().unwrap_or_default();
            return Ok(format!("everything on {}: {trouble}", self.name));
        };
        let path = match file {
            Some(id) => self.index.path_of(id)?,
            None => None,
        };
        let path = path.unwrap_or_else(|| error.path().clone());
        Ok(format!("{path} on {}: {}", self.name, errno_words(error.errno())))
    }

    /// What an entry waits for in this folder.
    fn waits_words(&mut self, index: LogIndex) -> Result<String, Fatal> {
        let applied = self.index.position().index;
        if applied < index {
            return Ok(format!("{} has applied the log up to {applied}", self.name));
        }
        let waits = |(id, why): (&FileId, &Why)| {
            let since = self.todo.since_of(*id)?;
            (since <= index).then_some((*id, why.clone()))
        };
        let Some((id, why)) = self.stuck.iter().find_map(waits) else {
            return Ok(format!("{} is placing what the log has", self.name));
        };
        let path = self.index.path_of(id)?.unwrap_or_default();
        let why = match why {
            Why::Content(content) => self.transfers.why_missing(content),
            Why::Together => "a large file of the same repository goes first".to_owned(),
            Why::Undecided | Why::Blocked(_) => "a change made there goes first".to_owned(),
        };
        Ok(format!("{path} on {}: {why}", self.name))
    }

    /// Answers what can be answered.
    pub(super) fn waits_turn(&mut self) -> Result<(), Fatal> {
        if self.barriers.waits.len() == 0 {
            return Ok(());
        }
        let horizon = self.horizon();
        self.owed_turn(horizon)?;
        for number in self.barriers.waits.of_clients.keys().copied().collect::<Vec<_>>() {
            let Some(wait) = self.barriers.waits.of_clients.get_mut(&number) else { continue };
            let index = wait.index;
            match horizon.of(index) {
                Standing::Placed => wait.here = true,
                _ if wait.here => {}
                Standing::Waits => continue,
                Standing::Blocked(file) => {
                    let why = self.blocked_words(file)?;
                    self.end_wait(number, Answer::Blocked(why));
                    continue;
                }
            }
            if wait.missing.is_empty() {
                self.end_wait(number, Answer::Placed(index));
            }
        }
        Ok(())
    }

    fn end_wait(&mut self, number: u64, answer: Answer) {
        if let Some(wait) = self.barriers.waits.of_clients.remove(&number) {
            (wait.request.reply)(answer);
        }
    }

    /// Another node asks whether everything up to `index` stands in this folder.
    pub(super) fn placed_for(
        &mut self,
        from: NodeId,
        number: u64,
        index: LogIndex,
    ) -> Result<Told, Fatal> {
        let told = self.told_of(self.horizon(), index)?;
        let of_it = self.barriers.waits.owed.range((from, 0)..=(from, u64::MAX)).count();
        let is_known = self.barriers.waits.owed.contains_key(&(from, number));
        if matches!(told, Told::Waits { .. }) && (is_known || of_it < OWED_MAX) {
            self.barriers.waits.owed.insert((from, number), Owed { index, asked_ms: self.now_ms });
        }
        Ok(told)
    }

    fn told_of(&mut self, horizon: Horizon, index: LogIndex) -> Result<Told, Fatal> {
        Ok(match horizon.of(index) {
            Standing::Placed => Told::Placed { index },
            Standing::Waits => Told::Waits { why: self.waits_words(index)? },
            Standing::Blocked(file) => Told::Blocked { why: self.blocked_words(file)? },
        })
    }

    /// Answers other nodes once more when there is something new to say.
    fn owed_turn(&mut self, horizon: Horizon) -> Result<(), Fatal> {
        let is_new = |index| !matches!(horizon.of(index), Standing::Waits);
        let due: Vec<_> =
            self.barriers.waits.owed.extract_if(.., |_, owed| is_new(owed.index)).collect();
        for ((to, number), Owed { index, .. }) in due {
            let told = self.told_of(horizon, index)?;
            self.tell_peer(to, number, told)?;
        }
        Ok(())
    }

    /// Another node answered a question of this one's waits.
    pub(super) fn wait_told(&mut self, from: NodeId, number: u64, told: Told) {
        let now = self.now_ms;
        let Some(wait) = self.barriers.waits.of_clients.get_mut(&number) else { return };
        let Some(peer) = wait.missing.get_mut(&from) else { return };
        match told {
            Told::Placed { index } if index >= wait.index => {
                wait.missing.remove(&from);
            }
            Told::Blocked { why } => self.end_wait(number, Answer::Blocked(why)),
            Told::Waits { why } => (peer.heard_ms, peer.why) = (now, Some(why)),
            Told::Placed { .. } | Told::Why(_) | Told::Unknown => peer.heard_ms = now,
        }
    }

    /// Nothing can be sent to a node.
    pub(super) fn peer_unreachable(&mut self, peer: NodeId) {
        let name = self.member_name(peer);
        let waits = self.barriers.waits.of_clients.iter();
        let lost: Vec<u64> = waits
            .filter(|(_, wait)| wait.missing.contains_key(&peer))
            .map(|(number, _)| *number)
            .collect();
        for number in lost {
            self.end_wait(number, Answer::Unreachable(name.clone()));
        }
        self.why_untold(peer);
        self.whys_turn();
    }

    /// Puts questions again, and ends what has waited for too long.
    pub(super) fn waits_tick(&mut self) -> Result<(), Fatal> {
        let now = self.now_ms;
        self.barriers.waits.owed.retain(|_, owed| now.saturating_sub(owed.asked_ms) < FORGET_MS);
        let members = self.peers();
        for number in self.barriers.waits.of_clients.keys().copied().collect::<Vec<_>>() {
            let Some(wait) = self.barriers.waits.of_clients.get_mut(&number) else { continue };
            // Who is no member any more is waited for no more.
            wait.missing.retain(|id, _| members.contains(id));
            let index = wait.index;
            let silent = wait
                .missing
                .iter()
                .find(|(_, peer)| now.saturating_sub(peer.heard_ms) >= SILENT_MS)
                .map(|(id, _)| *id);
            let mut again = Vec::new();
            for (id, peer) in &mut wait.missing {
                if now.saturating_sub(peer.asked_ms) >= ASK_AGAIN_MS {
                    peer.asked_ms = now;
                    again.push(*id);
                }
            }
            let is_late = wait.until_ms <= now;
            if let Some(id) = silent {
                let name = self.member_name(id);
                let why = format!("{name} does not answer");
                self.end_wait(number, Answer::Unreachable(why));
            } else if is_late {
                let why = self.what_is_missing(number)?;
                self.end_wait(number, Answer::TimedOut(why));
            } else {
                for id in again {
                    self.ask_peer(id, number, Question::Placed { index })?;
                }
            }
        }
        Ok(())
    }

    /// For what a wait waits.
    fn what_is_missing(&mut self, number: u64) -> Result<String, Fatal> {
        let Some(wait) = self.barriers.waits.of_clients.get(&number) else {
            return Ok(String::new());
        };
        let (index, here) = (wait.index, wait.here);
        let mut parts: Vec<String> = Vec::new();
        for (id, peer) in &wait.missing {
            let name = self.member_name(*id);
            parts.push(peer.why.clone().unwrap_or_else(|| format!("{name} is not that far")));
        }
        if !here {
            parts.insert(0, self.waits_words(index)?);
        }
        Ok(format!("entry {index} is not in every folder yet: {}", parts.join("; ")))
    }

    /// Refuses all that wait.
    pub(super) fn give_up_waits(&mut self, answer: &Answer) {
        for (_, wait) in std::mem::take(&mut self.barriers.waits.of_clients) {
            (wait.request.reply)(answer.clone());
        }
    }
}
