//! Changes of the members that people wish for, one at a time, asked for until they are answered.

use pickbox_raft_core::Event;
use pickbox_raft_core::event::{
    Aim, Change, ChangeAnswer, ChangeId, ChangeRefusal, RoleName, Warrant,
};
use pickbox_raft_core::ids::{Fingerprint, NodeId};
use pickbox_raft_core::members::{Member, MemberRole, Members};

use super::faults::Deed;
use super::node::{Health, Node};
use super::world::World;

/// Members at the same time, at most.
const MEMBERS_MAX: usize = 7;

/// What people wish for.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    deed: Deed,
    change: Change,
    /// The newest request for it: answers to former ones say nothing of it.
    request: ChangeId,
}

impl World {
    /// People think of a change that fits what they see at the leader.
    pub(super) fn wish_for_change(&mut self) -> Result<(), String> {
        let Some(leader) = self.newest_leader() else { return Ok(()) };
        let members = self.members_of(leader);
        let deeds = [
            Deed::Join,
            Deed::Rejoin,
            Deed::Remove,
            Deed::Replace,
            Deed::Promote,
            Deed::Demote,
            Deed::Readdress,
        ];
        let Some(deed) = self.random.pick(&deeds).filter(|deed| self.faults.allows(*deed)) else {
            return Ok(());
        };
        if let Some(change) = self.think_of(deed, &members) {
            self.tell(|| format!("--- people wish for {change:?}"));
            self.wish = Some(Wish { deed, change, request: ChangeId(0) });
        }
        self.ask_again()
    }

    fn think_of(&mut self, deed: Deed, members: &Members) -> Option<Change> {
        let is_lost = |member: &&Member| !self.is_sound(member.id);
        let lost: Vec<NodeId> = members.members.iter().filter(is_lost).map(|m| m.id).collect();
        let sound: Vec<NodeId> =
            members.members.iter().map(|m| m.id).filter(|id| !lost.contains(id)).collect();
        // While somebody is gone, whoever is there must stay.
        let pick_from = if lost.is_empty() { sound } else { lost.clone() };
        let some = self.random.pick(&pick_from)?;
        let is_full = members.members.len() >= MEMBERS_MAX;
        match deed {
            Deed::Rejoin => {
                let member = members.get(some).filter(|_| !lost.is_empty())?;
                let (name, address) = (member.name.clone(), member.address.clone());
                Some(join(name, address))
            }
            Deed::Join | Deed::Replace if is_full || (deed == Deed::Join && !lost.is_empty()) => {
                None
            }
            Deed::Join => {
                let (name, address) = self.new_name();
                Some(match self.random.between(0, 3) {
                    0 | 1 => join(name, address),
                    2 => Change::Add { name, address, aim: Aim::Voter },
                    _ => Change::Add { name, address, aim: Aim::Learner },
                })
            }
            Deed::Replace => {
                let (name, address) = self.new_name();
                Some(Change::Replace { old: some, name, address })
            }
            Deed::Remove => Some(Change::Remove(some)),
            Deed::Promote => {
                let mut learners = members.members.iter().filter(|m| m.role == MemberRole::Learner);
                learners.find(|m| self.is_sound(m.id)).map(|m| Change::Promote(m.id))
            }
            Deed::Demote => Some(Change::Demote(some)),
            _ => {
                let address = self.new_name().1;
                Some(Change::Readdress { id: some, address })
            }
        }
    }

    fn new_name(&mut self) -> (String, String) {
        let number = self.next_name;
        self.next_name += 1;
        (format!("node{number}"), format!("host:{number}"))
    }

    /// Asks the leader for what people wish, once more.
    pub(super) fn ask_again(&mut self) -> Result<(), String> {
        let Some(leader) = self.newest_leader() else { return Ok(()) };
        self.next_request += 1;
        let request = ChangeId(self.next_request);
        let Some(wish) = &mut self.wish else { return Ok(()) };
        wish.request = request;
        let change = wish.change.clone();
        self.react(leader, Event::ChangeMembers { request, change })
    }

    /// The answer to a request.
    pub(super) fn on_answer(&mut self, answer: ChangeAnswer) -> Result<(), String> {
        let wish = self.wish.take_if(|wish| wish.request == answer.request);
        match answer.result {
            Ok(member) => {
                if let Some(wish) = wish {
                    self.tell(|| format!("--- people get {:?}", wish.change));
                    self.report.tally.count(wish.deed);
                }
                self.set_up(&member)
            }
            Err(
                ChangeRefusal::NotLeader(_)
                | ChangeRefusal::InProgress { .. }
                | ChangeRefusal::Unknown,
            ) => {
                // It may be in some log already: people ask until they know.
                self.wish = wish.or(self.wish.take());
                Ok(())
            }
            Err(refusal) => {
                self.tell(|| format!("--- people give up: {refusal:?}"));
                Ok(())
            }
        }
    }

    /// A member that is new has a machine of its own.
    fn set_up(&mut self, member: &Member) -> Result<(), String> {
        if self.nodes.contains_key(&member.id) {
            return Ok(());
        }
        self.tell(|| format!("{} begins", member.id));
        self.nodes.insert(member.id, Node::new(member.id, Members::default())?);
        self.start(member.id)
    }

    /// Nodes that are members no more are switched off, some time.
    pub(super) fn stop_removed(&mut self) {
        let Some(leader) = self.newest_leader() else { return };
        let Some(up) = self.up(leader) else { return };
        let members = up.core.committed_members().clone();
        let removed = self.nodes.values_mut().filter(|node| members.has_removed(node.id));
        for node in removed {
            node.retire();
        }
    }

    /// Of those that lead, the one with the highest term: the others do not know yet.
    pub(super) fn newest_leader(&self) -> Option<NodeId> {
        let leads =
            |node: &&Node| node.up.as_ref().is_some_and(|up| up.core.role() == RoleName::Leader);
        let term = |node: &&Node| node.up.as_ref().map(|up| up.core.term());
        self.nodes.values().filter(leads).max_by_key(term).map(|node| node.id)
    }

    pub(super) fn members_of(&self, id: NodeId) -> Members {
        self.nodes.get(&id).map(|node| node.members().clone()).unwrap_or_default()
    }

    /// Whether this node is there and has what it wrote.
    pub(super) fn is_sound(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.health == Health::Sound)
    }
}

/// Each name has a key of its own.
fn join(name: String, address: String) -> Change {
    let key = key_of(&name);
    Change::Join { name, address, key, warrant: Warrant::SameUser }
}

/// The key of the node of this name.
pub(super) fn key_of(name: &str) -> Fingerprint {
    let mut key = [0; 32];
    key.iter_mut().zip(name.bytes()).for_each(|(place, byte)| *place = byte);
    Fingerprint(key)
}
