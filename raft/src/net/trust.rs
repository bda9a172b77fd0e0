//! Whose key is whose: what this node knows of the members, from its log, from its state directory, and
//! from members it trusts.
//!
//! The committed members decide: whoever they do not have any more is out, whatever an older or an
//! uncommitted list says. Where the log is behind, the newest list that the state directory has is the
//! committed one. Members in force that are newer than that, and not committed, count as well, so that a
//! change cuts nobody off who has yet to learn of it. Another member may tell of members that came since,
//! and of nothing else: not of another key of somebody who is known here, which would let one whose key was
//! stolen speak for everybody. What it told is forgotten when its own key is.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use pickbox_raft_core::ids::{Fingerprint, Index, NodeId};
use pickbox_raft_core::members::{Departed, JoinToken, Member, Members};
use serde::{Deserialize, Serialize};

use super::link::resolve;

/// The members as of an index, as another member tells them, or the state directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vouched {
    /// Up to where the log was committed.
    pub at: Index,
    /// The members as of there.
    pub members: Members,
}

/// What the log says of the members.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Logged<'a> {
    /// Those in force, and the entry that they are from.
    pub(crate) in_force: (&'a Members, Index),
    /// The committed ones, and up to where the log is committed.
    pub(crate) committed: (&'a Members, Index),
}

/// What is known of the members.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trust {
    in_force: (Members, Index),
    committed: Vouched,
    /// The committed ones as the state directory has them, while the log is behind that.
    stored: Option<Vouched>,
    /// What members have told, by the number and the key of each.
    told: BTreeMap<NodeId, (Fingerprint, Members)>,
}

/// Somebody to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contact {
    pub(crate) id: NodeId,
    pub(crate) address: String,
    /// Keys that it may show, the likeliest first; never none.
    pub(crate) keys: Vec<Fingerprint>,
}

impl Trust {
    pub(crate) fn new(logged: Logged<'_>, stored: Option<Vouched>) -> Self {
        let mut trust = Self { stored, ..Self::default() };
        trust.follow(logged);
        trust
    }

    /// Whether the log says something else than is known here.
    pub(crate) fn is_behind(&self, Logged { in_force, committed }: Logged<'_>) -> bool {
        self.stored.as_ref().is_some_and(|stored| stored.at <= committed.1)
            || self.in_force.1 != in_force.1
            || self.in_force.0 != *in_force.0
            || self.committed.members != *committed.0
    }

    /// Follows the log; says whether other members are committed than before.
    pub(crate) fn follow(&mut self, Logged { in_force, committed }: Logged<'_>) -> bool {
        let is_news = self.committed.members != *committed.0;
        self.in_force = (in_force.0.clone(), in_force.1);
        self.committed = Vouched { at: committed.1, members: committed.0.clone() };
        self.stored.take_if(|stored| stored.at <= committed.1);
        let told = std::mem::take(&mut self.told);
        self.told = told.into_iter().filter(|(by, (key, _))| self.is_listed(*key, *by)).collect();
        is_news && self.stored.is_none()
    }

    /// The member `by`, with this key, tells of the members. Whether that is news.
    pub(crate) fn vouch(&mut self, by: NodeId, key: Fingerprint, vouched: Vouched) -> bool {
        let Vouched { at, members } = vouched;
        let is_ahead = at > self.newest().at && members.is_sound();
        if !is_ahead || !self.is_listed(key, by) {
            return false;
        }
        let former = self.told.insert(by, (key, members.clone()));
        former.is_none_or(|(_, former)| former != members)
    }

    /// The committed members, as far as this node knows.
    pub(crate) fn newest(&self) -> &Vouched {
        self.stored.as_ref().unwrap_or(&self.committed)
    }

    /// The lists that this node has itself, the one that is likeliest to be right first.
    fn lists(&self) -> impl Iterator<Item = &Members> {
        let newest = self.newest();
        let is_newer = self.in_force.1 > newest.at;
        is_newer.then_some(&self.in_force.0).into_iter().chain([&newest.members])
    }

    /// Members that came since, as others tell.
    fn newcomers(&self) -> impl Iterator<Item = &Member> {
        let first = self.lists().map(|list| list.next_id).max().unwrap_or_default();
        let told = self.told.values().flat_map(|(_, members)| members.peers());
        told.filter(move |member| member.id >= first)
    }

    /// All that may be talked to; a member may be among them more than once, with several keys.
    fn all(&self) -> impl Iterator<Item = &Member> {
        self.lists().flat_map(Members::peers).chain(self.newcomers())
    }

    fn is_listed(&self, key: Fingerprint, id: NodeId) -> bool {
        let mut peers = self.lists().flat_map(Members::peers);
        peers.any(|member| member.id == id && member.key == Some(key))
    }

    /// The member with this key.
    pub(crate) fn member_with(&self, key: Fingerprint) -> Option<&Member> {
        self.all().find(|member| member.key == Some(key))
    }

    /// A member, as far as it is known.
    pub(crate) fn get(&self, id: NodeId) -> Option<&Member> {
        self.all().find(|member| member.id == id)
    }

    /// Whether whoever has this key may speak for this member.
    pub(crate) fn is_key_of(&self, key: Fingerprint, id: NodeId) -> bool {
        self.all().any(|member| member.id == id && member.key == Some(key))
    }

    /// The former member with this key, if it is out for good.
    pub(crate) fn departed(&self, key: Fingerprint) -> Option<&Departed> {
        self.newest().members.departed_with(key)
    }

    /// Whether this was a member once and is none any more, for good.
    pub(crate) fn has_removed(&self, id: NodeId) -> bool {
        self.newest().members.has_removed(id)
    }

    /// The join token with this public key.
    pub(crate) fn token(&self, public_key: &[u8; 32]) -> Option<&JoinToken> {
        self.lists().find_map(|list| list.token(public_key))
    }

    /// Whether a member may be dialed at this address.
    pub(crate) fn is_address(&self, ip: IpAddr) -> bool {
        let at = |member: &Member| resolve(&member.address).is_some_and(|at| at.ip() == ip);
        self.all().any(at)
    }

    /// All to be dialed but `me`: who has no key yet is not there, and who is in an older list alone is
    /// on its way out.
    pub(crate) fn contacts(&self, me: NodeId) -> Vec<Contact> {
        let newest = self.lists().next();
        let stays = |id| {
            let is_newcomer = || self.newcomers().any(|member| member.id == id);
            newest.is_some_and(|list| list.peers().any(|m| m.id == id)) || is_newcomer()
        };
        let mut contacts: Vec<Contact> = Vec::new();
        for member in self.all().filter(|member| member.id != me && stays(member.id)) {
            let Some(key) = member.key else { continue };
            match contacts.iter_mut().find(|contact| contact.id == member.id) {
                Some(contact) if contact.keys.contains(&key) => {}
                Some(contact) => contact.keys.push(key),
                None => {
                    let (id, address) = (member.id, member.address.clone());
                    contacts.push(Contact { id, address, keys: vec![key] });
                }
            }
        }
        contacts
    }
}

/// What the consensus thread knows, for the threads that let connections in.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedTrust(Arc<Mutex<Arc<Trust>>>);

impl SharedTrust {
    pub(crate) fn get(&self) -> Arc<Trust> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set(&self, trust: Arc<Trust>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = trust;
    }
}

#[cfg(test)]
mod tests {
    use pickbox_raft_core::members::MemberRole;
    use proptest::prelude::*;

    use super::*;

    fn id_of(trust: &Trust, number: u8) -> Option<NodeId> {
        trust.member_with(key(number)).map(|member| member.id)
    }

    fn key(number: u8) -> Fingerprint {
        Fingerprint([number; 32])
    }

    fn id(number: u64) -> NodeId {
        NodeId::new(number)
    }

    /// Members by number and key; key 0: none yet.
    fn members(list: &[(u64, u8)]) -> Members {
        let mut list = list.to_vec();
        list.sort_unstable();
        list.dedup_by_key(|(id, _)| *id);
        let member = |(number, of): &(u64, u8)| Member {
            id: id(*number),
            name: format!("node{number}"),
            address: format!("127.0.0.1:{}", 8000 + number),
            role: MemberRole::Voter,
            key: (*of > 0).then(|| key(*of)),
        };
        let next_id = id(list.last().map_or(0, |(last, _)| *last) + 1);
        Members { members: list.iter().map(member).collect(), next_id, ..Members::default() }
    }

    fn without(list: &[(u64, u8)], gone: (u64, u8), at: u64) -> Members {
        let mut members = members(list);
        members.next_id = members.next_id.max(id(gone.0 + 1));
        members.departed.push(Departed { id: id(gone.0), key: key(gone.1), at: Index::new(at) });
        members
    }

    fn told(at: u64, members: &Members) -> Vouched {
        Vouched { at: Index::new(at), members: members.clone() }
    }

    fn logged<'a>(
        (in_force, from): (&'a Members, u64),
        (committed, commit): (&'a Members, u64),
    ) -> Logged<'a> {
        let (from, commit) = (Index::new(from), Index::new(commit));
        Logged { in_force: (in_force, from), committed: (committed, commit) }
    }

    /// fault 70: who is removed is let in until that is committed here, and never afterwards.
    #[test]
    fn a_removal_counts_when_it_is_committed() {
        let both = members(&[(1, 1), (2, 2)]);
        let one = without(&[(1, 1)], (2, 2), 7);
        let mut trust = Trust::new(logged((&one, 7), (&both, 6)), None);
        assert!(trust.is_key_of(key(2), id(2)) && trust.departed(key(2)).is_none());
        assert!(trust.contacts(id(1)).is_empty(), "and is dialed no more");
        assert!(trust.is_behind(logged((&one, 7), (&one, 7))));
        assert!(trust.follow(logged((&one, 7), (&one, 7))));
        assert_eq!(id_of(&trust, 2), None);
        assert_eq!(trust.departed(key(2)).map(|gone| gone.at), Some(Index::new(7)));
    }

    /// fault 70: a start, whose log is known to be committed as of the last checkpoint only, and a node
    /// that reads an old log again, know of a removal what the state directory does.
    #[test]
    fn a_removal_is_remembered_over_a_start() {
        let both = members(&[(1, 1), (2, 2)]);
        let one = without(&[(1, 1)], (2, 2), 7);
        let mut trust = Trust::new(logged((&one, 7), (&both, 3)), Some(told(9, &one)));
        assert!(!trust.is_key_of(key(2), id(2)) && trust.departed(key(2)).is_some());
        // What was in force before that removal is of no use.
        trust.follow(logged((&both, 2), (&both, 5)));
        assert!(!trust.is_key_of(key(2), id(2)) && trust.contacts(id(1)).is_empty());
        assert!(trust.follow(logged((&one, 7), (&one, 9))), "now the log has it");
        assert!(!trust.is_key_of(key(2), id(2)));
    }

    /// Rotation: while the new key is in the log and not committed both are let in, afterwards the
    /// new one alone.
    #[test]
    fn a_key_is_replaced_without_cutting_anybody_off() {
        let (old, new) = (members(&[(1, 1), (2, 2)]), members(&[(1, 1), (2, 3)]));
        let mut trust = Trust::new(logged((&new, 5), (&old, 4)), None);
        assert!(trust.is_key_of(key(2), id(2)) && trust.is_key_of(key(3), id(2)));
        assert_eq!(trust.contacts(id(1))[0].keys, [key(3), key(2)]);
        trust.follow(logged((&new, 5), (&new, 5)));
        assert!(!trust.is_key_of(key(2), id(2)) && trust.is_key_of(key(3), id(2)));
    }

    /// A node that was away hears of members that came meanwhile, from a member that it knows; what it
    /// was told is forgotten when its log has come so far.
    #[test]
    fn newcomers_are_told_of() {
        let known = members(&[(1, 1), (2, 2)]);
        let mut trust = Trust::new(logged((&known, 1), (&known, 4)), None);
        let more = members(&[(1, 1), (2, 2), (9, 9)]);
        assert!(!trust.vouch(id(2), key(2), told(4, &more)), "the log has that");
        assert!(!trust.vouch(id(3), key(3), told(8, &more)), "who says that?");
        assert!(!trust.vouch(id(2), key(2), told(8, &Members::default())), "that is no list");
        assert!(trust.vouch(id(2), key(2), told(8, &more)));
        assert!(!trust.vouch(id(2), key(2), told(9, &more)), "no news");
        assert_eq!((id_of(&trust, 9), trust.contacts(id(1)).len()), (Some(id(9)), 2));
        trust.follow(logged((&more, 8), (&more, 8)));
        assert_eq!(id_of(&trust, 9), Some(id(9)));
    }

    /// Security: a member, or who has stolen its key, cannot speak for others by what it tells, and
    /// nothing of what it told is left when it is removed.
    #[test]
    fn who_tells_lies_gains_nothing_that_lasts() {
        let all = members(&[(1, 1), (2, 2), (3, 3)]);
        let mut trust = Trust::new(logged((&all, 1), (&all, 4)), None);
        let lie = members(&[(1, 2), (2, 2), (3, 7), (100, 2), (101, 8)]);
        assert!(trust.vouch(id(2), key(2), told(u64::MAX, &lie)));
        assert!(!trust.is_key_of(key(2), id(1)) && !trust.is_key_of(key(7), id(3)));
        assert!(trust.contacts(id(3)).iter().all(|contact| contact.keys != [key(7)]));
        // Others still tell the truth.
        let truth = members(&[(1, 1), (2, 2), (3, 3), (4, 4)]);
        assert!(trust.vouch(id(1), key(1), told(9, &truth)));
        assert_eq!(id_of(&trust, 4), Some(id(4)));
        let after = without(&[(1, 1), (3, 3)], (2, 2), 5);
        trust.follow(logged((&after, 5), (&after, 5)));
        for number in [2, 7, 8] {
            assert_eq!(id_of(&trust, number), None, "key {number} is somebody's");
        }
        assert_eq!(id_of(&trust, 4), Some(id(4)));
    }

    proptest! {
        /// Whatever the lists are: whoever the committed members know to be removed is let in by none;
        /// a key is let in for a known number only if this node's own lists have it; whoever is dialed
        /// has a key, each once.
        #[test]
        fn the_committed_members_decide(
            lists in prop::collection::vec(prop::collection::vec((1_u64..6, 0_u8..6), 1..5), 4),
            (from, commit, stored, at) in (0_u64..9, 0_u64..9, 0_u64..9, 0_u64..9),
            by in (1_u64..6, 1_u8..6),
        ) {
            let all: Vec<Members> = lists.iter().map(|list| members(list)).collect();
            let log = logged((&all[0], from), (&all[1], commit));
            let mut trust = Trust::new(log, Some(told(stored, &all[2])));
            trust.vouch(id(by.0), key(by.1), told(at, &all[3]));
            let newest = if stored > commit { &all[2] } else { &all[1] };
            let mut own = vec![newest];
            if from > stored.max(commit) || (from > commit && stored <= commit) {
                own.push(&all[0]);
            }
            let has = |list: &&Members, of: Fingerprint, number: NodeId| {
                list.get(number).is_some_and(|member| member.key == Some(of))
            };
            for number in (0..7).map(id) {
                for of in (1..7).map(key) {
                    let is_own = own.iter().any(|list| has(list, of, number));
                    let is_in = trust.is_key_of(of, number);
                    prop_assert!(is_in || !is_own);
                    let is_new = own.iter().all(|list| number >= list.next_id);
                    prop_assert!(is_own || !is_in || (is_new && has(&&all[3], of, number)));
                    prop_assert!(!is_in || own.len() > 1 || !newest.has_removed(number));
                }
            }
            let contacts = trust.contacts(id(1));
            for (place, contact) in contacts.iter().enumerate() {
                prop_assert!(contact.id != id(1) && !contact.keys.is_empty());
                prop_assert!(contacts[place + 1..].iter().all(|other| other.id != contact.id));
                prop_assert!(contact.keys.iter().all(|of| trust.is_key_of(*of, contact.id)));
            }
        }
    }
}
