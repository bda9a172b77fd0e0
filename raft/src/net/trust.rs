//! Whose key is whose: what this node knows of the members, from its log and from members it
//! trusts.
//!
//! Three lists, each of which may know more than the others for a while: the members in force (the
//! newest in the log, perhaps not committed), the committed ones, and those that a member has told
//! of. A key in any of them is let in, so that no change of the members can cut those off who have
//! yet to learn of it; once a change is committed here, who is in none of them is out. Who was
//! removed is said by committed lists only, since it is said for good.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use pickbox_raft_core::ids::{Fingerprint, Index, NodeId};
use pickbox_raft_core::members::{Departed, JoinToken, Member, Members};
use serde::{Deserialize, Serialize};

use super::link::resolve;

/// The members as of an index, as another member tells them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vouched {
    /// Up to where the log of that member is committed.
    pub at: Index,
    /// The members as of there.
    pub members: Members,
}

/// What is known of the members.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trust {
    in_force: Members,
    committed: Members,
    vouched: Option<Vouched>,
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
    pub(crate) fn new(in_force: Members, committed: Members) -> Self {
        Self { in_force, committed, vouched: None }
    }

    /// Whether the log says something else than is known here, or as much as was told.
    pub(crate) fn is_behind(&self, in_force: &Members, committed: &Members, commit: Index) -> bool {
        let is_told = self.vouched.as_ref().is_some_and(|vouched| vouched.at <= commit);
        is_told || self.in_force != *in_force || self.committed != *committed
    }

    /// Follows the log, committed up to `commit`. What was told is forgotten once the log has it.
    pub(crate) fn follow(&mut self, in_force: &Members, committed: &Members, commit: Index) {
        self.in_force.clone_from(in_force);
        self.committed.clone_from(committed);
        self.vouched.take_if(|vouched| vouched.at <= commit);
    }

    /// Whether this was a member once and is none any more, for good.
    pub(crate) fn has_removed(&self, id: NodeId) -> bool {
        self.committed.has_removed(id)
    }

    /// A member tells of the members, in a log that is committed up to `commit` here. Whether that
    /// is news.
    pub(crate) fn vouch(&mut self, vouched: Vouched, commit: Index) -> bool {
        let newest = self.vouched.as_ref().map_or(commit, |known| known.at.max(commit));
        let is_news = vouched.at > newest && vouched.members.is_sound();
        if is_news {
            self.vouched = Some(vouched);
        }
        is_news
    }

    /// The lists, the one that is likeliest to be right first.
    fn lists(&self) -> impl Iterator<Item = &Members> {
        let told = self.vouched.iter().map(|vouched| &vouched.members);
        told.chain([&self.in_force, &self.committed])
    }

    /// The member with this key.
    pub(crate) fn member_with(&self, key: Fingerprint) -> Option<&Member> {
        self.lists().find_map(|list| list.with_key(key))
    }

    /// A member, as far as it is known.
    pub(crate) fn get(&self, id: NodeId) -> Option<&Member> {
        self.lists().find_map(|list| list.peers().find(|member| member.id == id))
    }

    /// Whether whoever has this key may speak for this member.
    pub(crate) fn is_key_of(&self, key: Fingerprint, id: NodeId) -> bool {
        self.lists().any(|list| list.with_key(key).is_some_and(|member| member.id == id))
    }

    /// The former member with this key, if it is out for good.
    pub(crate) fn departed(&self, key: Fingerprint) -> Option<&Departed> {
        let told = self.vouched.as_ref().map(|vouched| &vouched.members);
        told.into_iter().chain([&self.committed]).find_map(|list| list.departed_with(key))
    }

    /// The join token with this public key.
    pub(crate) fn token(&self, public_key: &[u8; 32]) -> Option<&JoinToken> {
        self.lists().find_map(|list| list.token(public_key))
    }

    /// Whether a member may be dialed at this address.
    pub(crate) fn is_address(&self, ip: IpAddr) -> bool {
        let at = |member: &Member| resolve(&member.address).is_some_and(|at| at.ip() == ip);
        self.lists().flat_map(Members::peers).any(at)
    }

    /// All to be dialed but `me`: who has no key yet is not there.
    pub(crate) fn contacts(&self, me: NodeId) -> Vec<Contact> {
        let mut contacts: Vec<Contact> = Vec::new();
        for member in self.lists().flat_map(Members::peers).filter(|member| member.id != me) {
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
        // Only the committed list still has those: they are on their way out.
        let goes = |id| {
            self.lists()
                .take(1 + usize::from(self.vouched.is_some()))
                .all(|list| list.peers().all(|member| member.id != id))
        };
        contacts.retain(|contact| !goes(contact.id));
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

    /// Members by number and key; key 0: none yet.
    fn members(list: &[(u64, u8)]) -> Members {
        let mut list = list.to_vec();
        list.sort_unstable();
        list.dedup_by_key(|(id, _)| *id);
        let member = |(id, of): &(u64, u8)| Member {
            id: NodeId::new(*id),
            name: format!("node{id}"),
            address: format!("127.0.0.1:{}", 8000 + id),
            role: MemberRole::Voter,
            key: (*of > 0).then(|| key(*of)),
        };
        let members = list.iter().map(member).collect();
        Members { members, next_id: NodeId::new(100), ..Members::default() }
    }

    fn told(at: u64, list: &[(u64, u8)]) -> Vouched {
        Vouched { at: Index::new(at), members: members(list) }
    }

    /// fault 70: who is removed is let in until that is committed here, and never afterwards.
    #[test]
    fn a_removal_counts_when_it_is_committed() {
        let both = members(&[(1, 1), (2, 2)]);
        let mut one = members(&[(1, 1)]);
        let gone = Departed { id: NodeId::new(2), key: key(2), at: Index::new(7) };
        one.departed.push(gone);
        let mut trust = Trust::new(one.clone(), both);
        assert!(trust.is_key_of(key(2), NodeId::new(2)) && trust.departed(key(2)).is_none());
        trust.follow(&one, &one, Index::new(7));
        assert_eq!((id_of(&trust, 2), trust.departed(key(2))), (None, Some(&gone)));
    }

    /// Rotation: while the new key is in the log and not committed both are let in, afterwards the
    /// new one alone; and a member that was away learns of it from another one.
    #[test]
    fn a_key_is_replaced_without_cutting_anybody_off() {
        let (old, new) = (members(&[(1, 1), (2, 2)]), members(&[(1, 1), (2, 3)]));
        let mut trust = Trust::new(new.clone(), old.clone());
        let two = NodeId::new(2);
        assert!(trust.is_key_of(key(2), two) && trust.is_key_of(key(3), two));
        assert_eq!(trust.contacts(NodeId::new(1))[0].keys, [key(3), key(2)]);
        trust.follow(&new, &new, Index::new(5));
        assert!(!trust.is_key_of(key(2), two) && trust.is_key_of(key(3), two));

        let mut away = Trust::new(old.clone(), old);
        assert!(away.vouch(told(9, &[(1, 1), (2, 3)]), Index::new(4)));
        assert!(away.is_key_of(key(3), two) && away.is_key_of(key(2), two));
        assert_eq!(away.contacts(NodeId::new(1))[0].keys[0], key(3));
    }

    /// A node that was away hears of members that came meanwhile; what it was told is forgotten
    /// when its own log has come so far, and older news are none.
    #[test]
    fn what_is_told_counts_until_the_log_says_it() {
        let known = members(&[(1, 1)]);
        let mut trust = Trust::new(known.clone(), known.clone());
        assert!(!trust.vouch(told(4, &[(9, 9)]), Index::new(4)), "the log has that");
        assert!(trust.vouch(told(8, &[(1, 1), (9, 9)]), Index::new(4)));
        assert!(!trust.vouch(told(8, &[(7, 7)]), Index::new(4)) && id_of(&trust, 7).is_none());
        assert!(!trust.vouch(Vouched { at: Index::new(10), ..Vouched::default() }, Index::ZERO));
        assert_eq!(id_of(&trust, 9), Some(NodeId::new(9)));
        assert!(!trust.is_behind(&known, &known, Index::new(7)));
        assert!(trust.is_behind(&known, &known, Index::new(8)));
        trust.follow(&known, &known, Index::new(8));
        assert_eq!(id_of(&trust, 9), None);
    }

    proptest! {
        /// Whatever the three lists are: a key is let in exactly if one of them has it, whoever is
        /// dialed has a key, each once, and nobody is dialed whom only an old list knows.
        #[test]
        fn a_key_is_let_in_if_a_list_has_it(
            lists in prop::collection::vec(prop::collection::vec((1_u64..6, 0_u8..6), 0..5), 3),
        ) {
            let all: Vec<Members> = lists.iter().map(|list| members(list)).collect();
            let mut trust = Trust::new(all[0].clone(), all[1].clone());
            let told = Vouched { at: Index::new(1), members: all[2].clone() };
            let has_told = trust.vouch(told, Index::ZERO);
            let lists = if has_told { &all[..] } else { &all[..2] };
            for id in 0..7 {
                for number in 0..7 {
                    let id = NodeId::new(id);
                    let has = |list: &Members| {
                        // Keys are of one member in a list; if not, the first one counts.
                        list.with_key(key(number)).is_some_and(|member| member.id == id)
                    };
                    prop_assert_eq!(trust.is_key_of(key(number), id), lists.iter().any(has));
                }
            }
            let contacts = trust.contacts(NodeId::new(1));
            for (place, contact) in contacts.iter().enumerate() {
                prop_assert!(contact.id != NodeId::new(1) && !contact.keys.is_empty());
                prop_assert!(contacts[place + 1..].iter().all(|other| other.id != contact.id));
                let current = if has_told { vec![&all[2], &all[0]] } else { vec![&all[0]] };
                prop_assert!(current.iter().any(|list| list.get(contact.id).is_some()));
            }
        }
    }
}
