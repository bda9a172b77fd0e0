//! Orders to change the members or the leader: whose they are, and who has been asked.
//!
//! An order comes from the room above, from a node that joins, from this node itself when it has
//! moved, or from a member that passed one on. The leader's core takes it and answers once it is
//! carried out. A node that does not lead passes the orders of its own room on, and tries again for
//! a while when nobody leads or another change is under way; a node that joins is told where the
//! leader is, and tries again by itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use pickbox_raft_core::event::{Change, ChangeId, ChangeRefusal, TransferFailure};
use pickbox_raft_core::ids::NodeId;
use pickbox_raft_core::members::Member;
use serde::{Deserialize, Serialize};

use crate::net::Vouched;
use crate::net::transport::Ticket;

/// Orders under way; more are put off.
const WISHES_MAX: usize = 64;
/// An order is tried again until so long after it was given.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longer than any process runs.
const FOREVER: Duration = Duration::from_hours(24 * 365 * 10);
/// How often.
const RETRY: Duration = Duration::from_millis(100);

/// Who wants to know.
#[derive(Debug)]
pub(crate) enum Asker {
    /// The room above, about a change.
    Room(Sender<Result<Member, ChangeRefusal>>),
    /// The room above, about a handover.
    RoomTransfer(Sender<Result<NodeId, TransferFailure>>),
    /// This node itself: it has moved.
    Self_,
    /// A node that joins.
    Joiner(Ticket),
    /// A member, under its own number for it.
    Member(NodeId, u64),
}

impl Asker {
    /// Whether the order is this node's: only these are passed on and tried again.
    const fn is_here(&self) -> bool {
        matches!(self, Self::Room(_) | Self::RoomTransfer(_) | Self::Self_)
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Change the members.
    Change(Change),
    /// Hand leadership over.
    Transfer(Option<NodeId>),
}

impl Order {
    /// Whether it may be given again when it is not known whether it was carried out.
    const fn is_idempotent(&self) -> bool {
        matches!(
            self,
            Self::Change(
                Change::Add { .. }
                    | Change::Remove(_)
                    | Change::Promote(_)
                    | Change::Demote(_)
                    | Change::Readdress { .. }
                    | Change::Rekey { .. }
                    | Change::IssueToken(_)
            )
        )
    }
}

/// How an order ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// The members were changed, or not.
    Changed(Result<Member, ChangeRefusal>),
    /// Another node leads, or not.
    Transferred(Result<NodeId, TransferFailure>),
}

/// What a member says about orders to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Errand {
    /// Do this, if you lead.
    Order {
        /// Told back in the answer.
        request: u64,
        /// What.
        order: Order,
    },
    /// The outcome.
    Outcome {
        /// Of this request.
        request: u64,
        /// What came of it.
        outcome: Outcome,
    },
    /// Tell who the members are.
    AskPeers,
    /// These are.
    Peers(Vouched),
}

/// An order under way.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) asker: Asker,
    pub(crate) order: Order,
    /// To whom it was passed on.
    passed: Option<NodeId>,
    /// When to try again; `None`: an answer is to come.
    retry_at: Option<Instant>,
    /// When to give up.
    until: Instant,
    /// Why it is not carried out yet.
    so_far: Option<Outcome>,
    /// A leader had it, and its answer will not come.
    was_lost: bool,
    /// The member that it is to remove, as it was when the order was given.
    subject: Option<Member>,
}

impl Wish {
    /// What to say if nothing better is known. That it was not done is said only of what was never
    /// given to a leader whose answer was lost.
    pub(crate) fn verdict(&self) -> Outcome {
        let so_far = self.so_far.clone().filter(|_| !self.was_lost);
        so_far.unwrap_or_else(|| unknown(&self.order))
    }

    /// Whether asking again may help.
    pub(crate) fn may_pass(&self, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Changed(Err(refusal)) => match refusal {
                ChangeRefusal::NotLeader(_) | ChangeRefusal::InProgress { .. } => {
                    self.asker.is_here()
                }
                ChangeRefusal::Unknown => self.asker.is_here() && self.order.is_idempotent(),
                // Its former run may have ended only now.
                ChangeRefusal::Connected(_) => matches!(self.asker, Asker::Joiner(_)),
                _ => false,
            },
            Outcome::Transferred(Err(TransferFailure::NotLeader)) => self.asker.is_here(),
            _ => false,
        }
    }

    /// Whether it takes this member out.
    pub(crate) fn removes(&self, id: NodeId) -> bool {
        self.order == Order::Change(Change::Remove(id))
    }

    /// The removal was carried out.
    pub(crate) fn done(&self, outcome: Outcome) -> Outcome {
        self.subject.clone().map_or(outcome, |member| Outcome::Changed(Ok(member)))
    }

    /// Tells a removal that was carried out, though nobody could say so, from one of a stranger.
    pub(crate) fn settle(&self, outcome: Outcome) -> Outcome {
        match (&outcome, &self.subject) {
            (Outcome::Changed(Err(ChangeRefusal::NoSuchMember(id))), Some(member))
                if *id == member.id =>
            {
                Outcome::Changed(Ok(member.clone()))
            }
            _ => outcome,
        }
    }

    fn put_off(&mut self, now: Instant) {
        self.passed = None;
        self.retry_at = Some(now + RETRY);
    }
}

/// The outcome of an order of which nothing is known.
pub(crate) const fn unknown(order: &Order) -> Outcome {
    match order {
        Order::Change(_) => Outcome::Changed(Err(ChangeRefusal::Unknown)),
        Order::Transfer(_) => Outcome::Transferred(Err(TransferFailure::TimedOut)),
    }
}

/// All orders under way.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    open: BTreeMap<ChangeId, Wish>,
    last: u64,
}

impl Wishes {
    /// Notes an order under a new number, unless there are too many: then the asker comes back.
    pub(crate) fn open(
        &mut self,
        asker: Asker,
        order: Order,
        subject: Option<Member>,
        now: Instant,
    ) -> Result<ChangeId, Asker> {
        if self.open.len() >= WISHES_MAX {
            return Err(asker);
        }
        self.last += 1;
        let id = ChangeId(self.last);
        // A move is told until it is listed.
        let patience = if matches!(asker, Asker::Self_) { FOREVER } else { PATIENCE };
        let until = now + patience;
        let wish = Wish {
            asker,
            order,
            passed: None,
            retry_at: None,
            until,
            so_far: None,
            was_lost: false,
            subject,
        };
        self.open.insert(id, wish);
        Ok(id)
    }

    /// The order is over.
    pub(crate) fn close(&mut self, id: ChangeId) -> Option<Wish> {
        self.open.remove(&id)
    }

    pub(crate) fn get(&self, id: ChangeId) -> Option<&Wish> {
        self.open.get(&id)
    }

    /// Whether this is an order of this node's own.
    pub(crate) fn is_of_here(&self, id: ChangeId) -> bool {
        self.open.get(&id).is_some_and(|wish| wish.asker.is_here())
    }

    /// Whether this node's move is being told.
    pub(crate) fn tells_move(&self) -> bool {
        self.open.values().any(|wish| matches!(wish.asker, Asker::Self_))
    }

    /// The handovers under way at this node.
    pub(crate) fn transfers(&self) -> Vec<ChangeId> {
        let here = |wish: &Wish| matches!(wish.order, Order::Transfer(_)) && wish.passed.is_none();
        let waiting = self.open.iter().filter(|(_, wish)| here(wish) && wish.retry_at.is_none());
        waiting.map(|(id, _)| *id).collect()
    }

    /// It was passed on.
    pub(crate) fn passed(&mut self, id: ChangeId, to: NodeId) {
        if let Some(wish) = self.open.get_mut(&id) {
            (wish.passed, wish.retry_at) = (Some(to), None);
        }
    }

    /// It was refused, but not for good.
    pub(crate) fn put_off(&mut self, id: ChangeId, outcome: Outcome, now: Instant) {
        if let Some(wish) = self.open.get_mut(&id) {
            wish.was_lost |= outcome == unknown(&wish.order);
            wish.so_far = Some(outcome);
            wish.put_off(now);
        }
    }

    /// Answers of this member will not come any more.
    pub(crate) fn lost(&mut self, member: NodeId, now: Instant) -> Vec<(ChangeId, Outcome)> {
        let passed = self.open.iter_mut().filter(|(_, wish)| wish.passed == Some(member));
        let mut unknowns = Vec::new();
        for (id, wish) in passed {
            wish.was_lost = true;
            if wish.order.is_idempotent() {
                wish.put_off(now);
            } else {
                unknowns.push((*id, unknown(&wish.order)));
            }
        }
        unknowns
    }

    /// When the next one is to be tried again or given up.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let due = |wish: &Wish| wish.retry_at.map_or(wish.until, |at| at.min(wish.until));
        self.timed().map(|(_, wish)| due(wish)).min()
    }

    /// Those to try again now.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<ChangeId> {
        let is_due = |wish: &Wish| wish.retry_at.is_some_and(|at| at <= now);
        let due: Vec<_> = self.timed().filter(|(_, w)| is_due(w)).map(|(id, _)| id).collect();
        for id in &due {
            if let Some(wish) = self.open.get_mut(id) {
                wish.retry_at = None;
            }
        }
        due
    }

    /// Those to give up now, and what to say.
    pub(crate) fn overdue(&self, now: Instant) -> Vec<(ChangeId, Outcome)> {
        let overdue = self.timed().filter(|(_, wish)| wish.until <= now);
        overdue.map(|(id, wish)| (id, wish.verdict())).collect()
    }

    /// Those that this node tries again, or waits for.
    fn timed(&self) -> impl Iterator<Item = (ChangeId, &Wish)> {
        let timed =
            |(_, wish): &(&ChangeId, &Wish)| wish.asker.is_here() || wish.retry_at.is_some();
        self.open.iter().filter(timed).map(|(id, wish)| (*id, wish))
    }
}
