//! A number that is equal for two nodes that will behave alike, for model checkers.
//!
//! Every field goes in: the patterns have no `..`, so that a new one must be thought of here. Three
//! things are left out, or not taken as they are, because they tell nothing apart:
//!
//! - times count from now, for the core only ever compares them with now, or sums of them with it;
//! - tags of log operations count from the newest durable one, for they are only ever compared;
//! - the generator of random numbers. It decides over timeouts alone; a model in which an election
//!   timeout of one microsecond leaves nothing to draw loses no behaviour by that. Others would.

use core::hash::{Hash, Hasher};

use crate::journal::Journal;
use crate::machine::{Config, Core};
use crate::progress::Peer;
use crate::reads::PendingRead;
use crate::role::{Candidate, Follower, Heard, Leader, Role, Transfer};
use crate::time::Time;

impl Core {
    /// Feeds everything that decides over this node's further behaviour, except randomness, to
    /// `hasher`.
    pub fn digest(&self, hasher: &mut impl Hasher) {
        let Self {
            config,
            now,
            random: _,
            hard_state,
            log,
            journal,
            commit,
            supply,
            role,
            pending_reads,
            members_changed,
            announced,
            fatal,
            out: _,
        } = self;
        let Config {
            id,
            election_timeout,
            heartbeat_interval,
            disk_stall_timeout,
            pre_vote,
            limits,
            seed: _,
        } = config;
        (id, election_timeout, heartbeat_interval, disk_stall_timeout, pre_vote, limits)
            .hash(hasher);
        (hard_state, log, commit, supply, members_changed, announced, fatal).hash(hasher);
        journal.digest(*now, hasher);
        role.digest(*now, journal, hasher);
        for PendingRead { id, asked, deadline } in pending_reads {
            (id, asked, from(*now, *deadline)).hash(hasher);
        }
    }
}

/// How far a moment lies behind or ahead of now, in microseconds.
fn from(now: Time, moment: Time) -> (u64, u64) {
    let (now, moment) = (now.as_micros(), moment.as_micros());
    (now.saturating_sub(moment), moment.saturating_sub(now))
}

impl Role {
    fn digest(&self, now: Time, journal: &Journal, hasher: &mut impl Hasher) {
        match self {
            Self::Follower(Follower { leader, deadline }) => {
                0_u8.hash(hasher);
                let leader = leader.map(|Heard { from: id, at }| (id, at.map(|at| from(now, at))));
                (leader, from(now, *deadline)).hash(hasher);
            }
            Self::Candidate(Candidate { ballot, votes, own_vote, deadline }) => {
                1_u8.hash(hasher);
                let own_vote = journal.durable().distance_to(*own_vote);
                let mut votes = votes.clone();
                votes.sort_unstable_by_key(|(voter, _)| *voter);
                (ballot, votes, own_vote, from(now, *deadline)).hash(hasher);
            }
            Self::Leader(leader) => {
                2_u8.hash(hasher);
                leader.digest(now, hasher);
            }
        }
    }
}

impl Leader {
    fn digest(&self, now: Time, hasher: &mut impl Hasher) {
        let Self {
            peers,
            start,
            heartbeat_due,
            round,
            waiting_reads,
            confirming_reads,
            read_index,
            changes,
            transfer,
            uncommitted_bytes,
            slow_disk_pause_until,
        } = self;
        for peer in peers {
            peer.digest(now, hasher);
        }
        (start, from(now, *heartbeat_due), round, read_index, uncommitted_bytes).hash(hasher);
        (waiting_reads, confirming_reads, changes).hash(hasher);
        from(now, *slow_disk_pause_until).hash(hasher);
        let transfer =
            transfer.map(|Transfer { to, deadline, told }| (to, from(now, deadline), told));
        transfer.hash(hasher);
    }
}

impl Peer {
    fn digest(&self, now: Time, hasher: &mut impl Hasher) {
        let Self {
            id,
            matched,
            next,
            flow,
            heard,
            answered,
            round,
            applied,
            placed,
            sync_time,
            told,
            goal,
            reading,
        } = self;
        (id, matched, next, flow, from(now, *heard), answered).hash(hasher);
        (round, applied, placed, sync_time, told, reading).hash(hasher);
        goal.map(|(index, began)| (index, from(now, began))).hash(hasher);
    }
}

impl Journal {
    fn digest(&self, now: Time, hasher: &mut impl Hasher) {
        let Self {
            issued,
            durable,
            hard_state,
            log,
            appends,
            durable_index,
            held,
            waits_since,
            sample,
            sync_time,
        } = self;
        let ahead = |tag| durable.distance_to(tag);
        (ahead(*issued), ahead(*hard_state), ahead(*log), durable_index, sync_time).hash(hasher);
        for (tag, index) in appends {
            (ahead(*tag), index).hash(hasher);
        }
        for (tag, message) in held {
            (ahead(*tag), message).hash(hasher);
        }
        waits_since.map(|since| from(now, since)).hash(hasher);
        sample.map(|(tag, began)| (ahead(tag), from(now, began))).hash(hasher);
    }
}
