//! Fresh reads (promise P5): an answer that is not older than its question, on any node.
//!
//! The log is asked for the index up to which a reader must have applied (`ReadIndex`; Ongaro's
//! thesis, 6.4): the leader notes its commit index and makes sure that it still leads. No clock
//! takes part, and no lease. One question to the log stands for all reads that waited when it was
//! asked; those that come later wait for the next one, since an index noted before they came could
//! be older than they are. What nobody could confirm is asked once more, then refused.

use pickbox_raft::api::Command;
use pickbox_raft::core::ids::{Incarnation, Index as LogIndex, ReadId};

use super::ports::{Answer, Freshness, Outgoing, Query, Request};
use super::{Engine, Fatal};

/// Reads that may wait; one more is answered `Busy`.
pub(super) const READS_MAX: usize = 1_024;
/// How long one may wait in all, the time included that this node takes to apply.
pub(super) const READ_MS: u64 = 10_000;
/// Questions to the log before a read is refused.
const TRIES_MAX: u32 = 2;

/// A client's read, from its arrival to its answer.
#[derive(Debug)]
struct Waiting {
    request: Request,
    since_ms: u64,
    tries: u32,
}

/// Reads on their way.
#[derive(Debug)]
pub(super) struct Reads {
    /// Those that the next question is for.
    waiting: Vec<Waiting>,
    /// The question that is out, and those that it is for.
    asked: Option<(ReadId, Vec<Waiting>)>,
    /// Those that wait until so much is applied.
    applying: Vec<(LogIndex, Vec<Waiting>)>,
    last_id: ReadId,
}

impl Reads {
    /// For one run. Its questions have numbers of their own, so that an answer to a former run's is
    /// not taken for one of this.
    pub(super) fn of(incarnation: Incarnation) -> Self {
        let last_id = ReadId::new(incarnation.get());
        Self { waiting: Vec::new(), asked: None, applying: Vec::new(), last_id }
    }

    /// How many reads wait.
    pub(super) fn len(&self) -> usize {
        let asked = self.asked.as_ref().map_or(0, |(_, reads)| reads.len());
        let applying: usize = self.applying.iter().map(|(_, reads)| reads.len()).sum();
        self.waiting.len() + asked + applying
    }

    /// Takes out those for which `is_it` holds, wherever they wait.
    fn take(&mut self, is_it: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        let asked = self.asked.iter_mut().map(|(_, reads)| reads);
        let applying = self.applying.iter_mut().map(|(_, reads)| reads);
        let mut taken = Vec::new();
        for reads in std::iter::once(&mut self.waiting).chain(asked).chain(applying) {
            taken.extend(reads.extract_if(.., |read| is_it(read)));
        }
        self.applying.retain(|(_, reads)| !reads.is_empty());
        taken
    }
}

impl Engine {
    /// Takes a read in.
    pub(super) fn read(&mut self, request: Request) -> Result<(), Fatal> {
        if request.freshness == Freshness::Local || self.is_decided(&request.query) {
            return self.answer_read(request);
        }
        if self.is_short_of_space() {
            // It applies nothing, so it would wait for long.
            (request.reply)(Answer::NoSpace);
        } else if self.reads.len() >= READS_MAX {
            (request.reply)(Answer::Busy);
        } else {
            self.reads.waiting.push(Waiting { request, since_ms: self.now_ms, tries: 0 });
        }
        Ok(())
    }

    /// Whether nothing that the log may still say changes the answer.
    fn is_decided(&self, query: &Query) -> bool {
        matches!(query, Query::Cat { index, .. } if *index <= self.index.position().index)
    }

    /// Puts the question of this turn, for all that came in it.
    pub(super) fn ask_for_reads(&mut self) {
        if self.reads.asked.is_some() || self.reads.waiting.is_empty() {
            return;
        }
        let id = ReadId::new(self.reads.last_id.get().wrapping_add(1));
        self.reads.last_id = id;
        self.reads.asked = Some((id, std::mem::take(&mut self.reads.waiting)));
        self.out.push_back(Outgoing::Log(Command::Read(id)));
    }

    /// The log answers.
    pub(super) fn read_at(&mut self, id: ReadId, index: Option<LogIndex>) -> Result<(), Fatal> {
        let Some((_, reads)) = self.reads.asked.take_if(|(asked, _)| *asked == id) else {
            return Ok(());
        };
        if let Some(index) = index {
            let is_wait = |read: &Waiting| matches!(read.request.query, Query::Wait { .. });
            let (waits, reads) = reads.into_iter().partition(is_wait);
            self.reads.applying.push((index, reads));
            let waits: Vec<Waiting> = waits;
            for wait in waits {
                self.wait_for(wait.request, index)?;
            }
            return self.answer_applied_reads();
        }
        for read in reads {
            let tries = read.tries + 1;
            if tries >= TRIES_MAX {
                (read.request.reply)(Answer::NoQuorum);
            } else {
                self.reads.waiting.push(Waiting { tries, ..read });
            }
        }
        Ok(())
    }

    /// Answers those for which enough is applied.
    pub(super) fn answer_applied_reads(&mut self) -> Result<(), Fatal> {
        let applied = self.index.position().index;
        let ready: Vec<_> =
            self.reads.applying.extract_if(.., |(index, _)| *index <= applied).collect();
        for read in ready.into_iter().flat_map(|(_, reads)| reads) {
            self.answer_read(read.request)?;
        }
        Ok(())
    }

    /// Those that have waited for too long hear why.
    pub(super) fn reads_tick(&mut self) {
        let now = self.now_ms;
        let applying = std::mem::take(&mut self.reads.applying);
        let is_late = |read: &Waiting| now.saturating_sub(read.since_ms) >= READ_MS;
        for read in self.reads.take(is_late) {
            (read.request.reply)(Answer::NoQuorum);
        }
        self.reads.applying = applying;
        for read in self.reads.take(is_late) {
            (read.request.reply)(Answer::Behind);
        }
        // A question that nobody answers, or waits for, must not keep the next one.
        self.reads.asked.take_if(|(_, reads)| reads.is_empty());
    }

    /// Refuses all that wait: the node stops, or has no space to go on.
    pub(super) fn give_up_reads(&mut self, answer: &Answer) {
        for read in self.reads.take(|_| true) {
            (read.request.reply)(answer.clone());
        }
        self.reads.asked = None;
    }

    fn answer_read(&mut self, request: Request) -> Result<(), Fatal> {
        let lines = match &request.query {
            Query::Log(path) => self.versions(path)?,
            Query::Find(content) => self.find(*content)?,
            Query::Cat { path, index, offset } => {
                let (path, index, offset) = (path.clone(), *index, *offset);
                return self.cat(request, &path, index, offset);
            }
            Query::Conflicts(after) => {
                let page = self.conflicts(*after)?;
                (request.reply)(Answer::Conflicts(page));
                return Ok(());
            }
            Query::Resolve { .. } => return self.resolve(request),
            Query::Put { .. }
            | Query::Remove { .. }
            | Query::Status
            | Query::Flush { .. }
            | Query::Wait { .. }
            | Query::Held
            | Query::Approve(_)
            | Query::Reject(_)
            | Query::Why(_) => return Ok(()),
        };
        let found = !lines.is_empty();
        (request.reply)(if found { Answer::Versions(lines) } else { Answer::NotFound });
        Ok(())
    }
}
