//! Wishes to add a member: whose they are, and who has been asked.
//!
//! A wish comes from the room above, from a node that joins, or from a member that passed one on.
//! The leader's core takes it and answers once the change is committed. A node that does not lead
//! passes the wishes of its own room on, and tries again for a while when nobody leads or another
//! change is under way; a node that joins is told where the leader is, and tries again by itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use pickbox_raft_core::event::{ChangeId, ChangeRefusal};
use pickbox_raft_core::ids::NodeId;
use pickbox_raft_core::members::Member;
use serde::{Deserialize, Serialize};

use crate::api::AddError;
use crate::net::transport::Ticket;

/// Wishes under way; more are put off.
const WISHES_MAX: usize = 64;
/// A wish of the room above is tried again until so long after it was made.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often.
const RETRY: Duration = Duration::from_millis(100);

/// Who wants to know.
#[derive(Debug)]
pub(crate) enum Asker {
    /// The room above.
    Room(Sender<Result<NodeId, AddError>>),
    /// A node that joins.
    Joiner(Ticket),
    /// A member, under its own number for it.
    Member(NodeId, u64),
}

/// What a member says about wishes to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Errand {
    /// Add this member, if you lead.
    Add {
        /// Told back in the answer.
        request: u64,
        /// The name that people chose.
        name: String,
        /// Where peers will reach it.
        address: String,
    },
    /// The outcome.
    Added {
        /// Of this request.
        request: u64,
        /// The member, or why not.
        result: Result<Member, Denial>,
    },
}

/// Why a member was not added, as told between members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Denial {
    /// Another node leads.
    NotLeader(Option<NodeId>),
    /// Try again soon.
    InProgress,
    /// By this member.
    Taken(Member),
    /// Not a name or address.
    Invalid,
    /// Ask again.
    Unknown,
}

impl Denial {
    /// Whether asking again may help.
    pub(crate) const fn may_pass(&self) -> bool {
        matches!(self, Self::NotLeader(_) | Self::InProgress | Self::Unknown)
    }
}

impl From<ChangeRefusal> for Denial {
    fn from(refusal: ChangeRefusal) -> Self {
        match refusal {
            ChangeRefusal::NotLeader(leader) => Self::NotLeader(leader),
            ChangeRefusal::InProgress => Self::InProgress,
            ChangeRefusal::Taken(member) => Self::Taken(member),
            ChangeRefusal::Invalid => Self::Invalid,
            ChangeRefusal::Unknown => Self::Unknown,
        }
    }
}

/// A wish under way.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) asker: Asker,
    pub(crate) name: String,
    pub(crate) address: String,
    /// To whom it was passed on.
    passed: Option<NodeId>,
    /// When to try again; `None`: an answer is to come.
    retry_at: Option<Instant>,
    /// When to give up.
    until: Instant,
    /// Why it is not granted yet.
    denial: Denial,
}

/// All wishes under way.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    open: BTreeMap<ChangeId, Wish>,
    last: u64,
}

impl Wishes {
    /// Notes a wish under a new number, unless there are too many: then the asker comes back.
    pub(crate) fn open(
        &mut self,
        asker: Asker,
        name: String,
        address: String,
        now: Instant,
    ) -> Result<ChangeId, Asker> {
        if self.open.len() >= WISHES_MAX {
            return Err(asker);
        }
        self.last += 1;
        let id = ChangeId(self.last);
        let (until, denial) = (now + PATIENCE, Denial::Unknown);
        let wish = Wish { asker, name, address, passed: None, retry_at: None, until, denial };
        self.open.insert(id, wish);
        Ok(id)
    }

    /// The wish is over.
    pub(crate) fn close(&mut self, id: ChangeId) -> Option<Wish> {
        self.open.remove(&id)
    }

    pub(crate) fn get(&self, id: ChangeId) -> Option<&Wish> {
        self.open.get(&id)
    }

    /// Whether this is a wish of the room above: only these are passed on and tried again.
    pub(crate) fn is_of_room(&self, id: ChangeId) -> bool {
        self.open.get(&id).is_some_and(|wish| matches!(wish.asker, Asker::Room(_)))
    }

    /// It was passed on.
    pub(crate) fn passed(&mut self, id: ChangeId, to: NodeId) {
        if let Some(wish) = self.open.get_mut(&id) {
            (wish.passed, wish.retry_at) = (Some(to), None);
        }
    }

    /// It was denied, but not for good.
    pub(crate) fn put_off(&mut self, id: ChangeId, denial: Denial, now: Instant) {
        if let Some(wish) = self.open.get_mut(&id) {
            wish.denial = denial;
            wish.put_off(now);
        }
    }

    /// Answers of this member will not come any more.
    pub(crate) fn lost(&mut self, member: NodeId, now: Instant) {
        for wish in self.open.values_mut().filter(|wish| wish.passed == Some(member)) {
            wish.put_off(now);
        }
    }

    /// When the next one is to be tried again or given up.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let due = |wish: &Wish| wish.retry_at.map_or(wish.until, |at| at.min(wish.until));
        self.of_room().map(|(_, wish)| due(wish)).min()
    }

    /// Those to try again now.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<ChangeId> {
        let is_due = |wish: &Wish| wish.retry_at.is_some_and(|at| at <= now);
        let due: Vec<_> = self.of_room().filter(|(_, w)| is_due(w)).map(|(id, _)| id).collect();
        for id in &due {
            if let Some(wish) = self.open.get_mut(id) {
                wish.retry_at = None;
            }
        }
        due
    }

    /// Those to give up now, and why.
    pub(crate) fn overdue(&self, now: Instant) -> Vec<(ChangeId, Denial)> {
        let overdue = self.of_room().filter(|(_, wish)| wish.until <= now);
        overdue.map(|(id, wish)| (id, wish.denial.clone())).collect()
    }

    fn of_room(&self) -> impl Iterator<Item = (ChangeId, &Wish)> {
        let of_room = |(_, wish): &(&ChangeId, &Wish)| matches!(wish.asker, Asker::Room(_));
        self.open.iter().filter(of_room).map(|(id, wish)| (*id, wish))
    }
}

impl Wish {
    fn put_off(&mut self, now: Instant) {
        self.passed = None;
        self.retry_at = Some(now + RETRY);
    }
}
