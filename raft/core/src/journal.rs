//! What is on its way to the disk, and what waits for it.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::event::{LogOp, Output};
use crate::ids::{Index, IoSeq, Term};
use crate::message::Message;
use crate::time::Time;

/// A single sync counts no more than this: a disk that hung once is not slow for long.
const SYNC_TIME_MAX: Duration = Duration::from_secs(1);

/// Follows the log operations by their tags. Nothing but a tag says that something is durable:
/// (index, term) could mean an entry that was overwritten twice in between.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal {
    /// The newest tag given out.
    pub(crate) issued: IoSeq,
    /// The newest tag known to be durable.
    pub(crate) durable: IoSeq,
    /// The tag of the newest hard state.
    pub(crate) hard_state: IoSeq,
    /// The tag of the newest change of the log itself.
    pub(crate) log: IoSeq,
    /// Appends not yet durable, with the last index of each that still stands.
    pub(crate) appends: VecDeque<(IoSeq, Index)>,
    /// All entries up to here are durable.
    pub(crate) durable_index: Index,
    /// Messages that wait, in the order in which they were made.
    pub(crate) held: VecDeque<(IoSeq, Message)>,
    /// Since when something is on its way to the disk and nothing came back.
    pub(crate) waits_since: Option<Time>,
    /// A write whose way is being measured, and when it began.
    pub(crate) sample: Option<(IoSeq, Time)>,
    /// How long such ways take, smoothed.
    pub(crate) sync_time: Duration,
}

impl Journal {
    /// Of a log that was read back from disk and ends at `last`.
    pub(crate) fn restored(last: Index) -> Self {
        Self { durable_index: last, ..Self::default() }
    }

    pub(crate) fn durable_index(&self) -> Index {
        self.durable_index
    }

    pub(crate) fn durable(&self) -> IoSeq {
        self.durable
    }

    /// Since when the disk owes an answer and gave none; `None` when it owes none.
    pub(crate) fn waits_since(&self) -> Option<Time> {
        self.waits_since
    }

    /// How long it takes until something written is durable, smoothed; zero at first.
    pub(crate) fn sync_time(&self) -> Duration {
        self.sync_time
    }

    /// Outputs one operation and returns its tag.
    pub(crate) fn write(&mut self, out: &mut Output, now: Time, op: LogOp) -> IoSeq {
        self.issued = self.issued.next();
        self.waits_since.get_or_insert(now);
        self.sample.get_or_insert((self.issued, now));
        match &op {
            LogOp::HardState(_) => self.hard_state = self.issued,
            LogOp::Append(entries) => {
                self.log = self.issued;
                if let Some(last) = entries.last() {
                    self.appends.push_back((self.issued, last.index));
                }
            }
            LogOp::Truncate { from } => {
                self.log = self.issued;
                let kept = from.previous();
                self.durable_index = self.durable_index.min(kept);
                for (_, last) in &mut self.appends {
                    *last = kept.min(*last);
                }
            }
            LogOp::Reset { at, .. } => {
                self.log = self.issued;
                self.durable_index = Index::ZERO;
                self.appends.clear();
                self.appends.push_back((self.issued, at.index));
            }
            LogOp::Compact { .. } => {}
        }
        out.log_ops.push(op);
        out.io = self.issued;
        self.issued
    }

    /// Takes the disk's word up to `io`, and lets go what waited for it.
    pub(crate) fn on_durable(&mut self, out: &mut Output, io: IoSeq, now: Time) {
        assert!(io <= self.issued, "the disk acknowledges only what it was given");
        self.durable = self.durable.max(io);
        self.waits_since = (self.durable < self.issued).then_some(now);
        if let Some((_, began)) = self.sample.filter(|(tag, _)| *tag <= self.durable) {
            self.sample = None;
            let took = now.since(began);
            let is_first = self.sync_time.is_zero();
            let took = took.min(SYNC_TIME_MAX);
            self.sync_time = if is_first { took } else { (self.sync_time * 3 + took) / 4 };
        }
        while let Some((tag, last)) = self.appends.front().copied() {
            if tag > self.durable {
                break;
            }
            self.durable_index = self.durable_index.max(last);
            self.appends.pop_front();
        }
        while self.held.front().is_some_and(|(tag, _)| *tag <= self.durable) {
            out.messages.extend(self.held.pop_front().map(|(_, message)| message));
        }
    }

    /// Sends a message once this node's term and vote are durable.
    pub(crate) fn send(&mut self, out: &mut Output, message: Message) {
        self.send_after(out, self.hard_state, message);
    }

    /// Sends a message that vouches for the log up to `index`, once that is durable too.
    pub(crate) fn send_acknowledgement(
        &mut self,
        out: &mut Output,
        index: Index,
        message: Message,
    ) {
        let log = if index <= self.durable_index { IoSeq::ZERO } else { self.log };
        self.send_after(out, self.hard_state.max(log), message);
    }

    /// Drops what waits and was said in a former term: nobody listens to it any more, and what it
    /// vouches for may be truncated before it could leave.
    pub(crate) fn forget_former_terms(&mut self, term: Term) {
        self.held.retain(|(_, message)| message.term >= term || !message.body.is_of_a_term());
    }

    fn send_after(&mut self, out: &mut Output, io: IoSeq, message: Message) {
        if io <= self.durable {
            out.messages.push(message);
        } else {
            // Sorted by tag: a later message may wait for less than an earlier one.
            let place = self.held.partition_point(|(tag, _)| *tag <= io);
            self.held.insert(place, (io, message));
        }
    }

    pub(crate) fn check(&self, last: Index) -> Result<(), &'static str> {
        if self.durable_index > last {
            return Err("more is durable than the log has");
        }
        if self.appends.iter().any(|(_, index)| *index > last) {
            return Err("an append reaches beyond the log");
        }
        if self.held.iter().any(|(tag, _)| *tag <= self.durable) {
            return Err("a message is held though it need not wait");
        }
        Ok(())
    }
}
