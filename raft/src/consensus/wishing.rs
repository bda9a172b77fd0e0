//! How the consensus thread serves orders to change the members or the leader.

use std::time::Duration;

use pickbox_raft_core::Event;

use pickbox_raft_core::event::{
    Change, ChangeId, ChangeRefusal, RoleName, TransferFailure, Warrant,
};
use pickbox_raft_core::ids::{Fingerprint, NodeId};
use pickbox_raft_core::members::Member;

use super::Consensus;
use super::wishes::{Asker, Errand, Order, Outcome, unknown};
use crate::clock;
use crate::identity::check_name;
use crate::net::Vouched;
use crate::net::frame::Kind;
use crate::net::hello::{self, JoinReply, Refusal, Standing};
use crate::net::join_request::JoinRequest;
use crate::net::link::resolve;
use crate::net::transport::Ticket;

/// Others are asked who the members are no more often.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

impl Consensus {
    pub(super) fn wish_of_joiner(
        &mut self,
        ticket: Ticket,
        request: JoinRequest,
        (key, warrant): (Fingerprint, Warrant),
    ) {
        let JoinRequest { name, address, .. } = request;
        let change = Change::Join { name, address, key, warrant };
        self.wish(Asker::Joiner(ticket), Order::Change(change));
    }

    /// Somebody was turned away who may be a member that this node has yet to learn of: others may
    /// know.
    pub(super) fn ask_for_peers(&mut self) {
        let now = clock::now();
        if now < self.ask_again {
            return;
        }
        self.ask_again = now + ASK_INTERVAL;
        let connected: Vec<NodeId> = self.transport.connected().collect();
        for peer in connected {
            self.ask_peers(peer);
        }
    }

    /// Asks a member who the members are.
    pub(super) fn ask_peers(&mut self, peer: NodeId) {
        self.asked.insert(peer);
        self.say(peer, &Errand::AskPeers);
    }

    fn vouched(&self) -> Vouched {
        Vouched { at: self.core.commit(), members: self.core.committed_members().clone() }
    }

    pub(super) fn standing(&self) -> Standing {
        let me = self.transport.me();
        Standing {
            cluster: me.cluster,
            epoch: me.epoch,
            node: me.node,
            name: me.name.clone(),
            term: self.core.term(),
            last: self.core.last(),
            commit: self.core.commit(),
            leader: self.core.leader(),
        }
    }

    /// What another member says about orders.
    pub(super) fn run_errand(&mut self, from: NodeId, payload: &[u8]) {
        match hello::decode(payload) {
            Some(Errand::Order { request, order }) => {
                self.wish(Asker::Member(from, request), order);
            }
            Some(Errand::Outcome { request, outcome }) => {
                // Only orders of this node are ever passed on, so answers never go round.
                if self.wishes.is_of_here(ChangeId(request)) {
                    self.answer_wish(ChangeId(request), outcome);
                }
            }
            Some(Errand::AskPeers) => {
                let vouched = self.vouched();
                self.say(from, &Errand::Peers(vouched));
            }
            Some(Errand::Peers(vouched)) => {
                // Nobody is told unasked.
                if self.asked.remove(&from) {
                    self.transport.vouch(from, vouched, &mut self.incoming);
                }
            }
            None => log::warn!("event=errand_dropped peer={from} reason=malformed"),
        }
    }

    /// Tries orders again that are due, and gives up those that took too long.
    pub(super) fn tend_wishes(&mut self) {
        let now = clock::now();
        for (id, outcome) in self.wishes.overdue(now) {
            self.end_wish(id, outcome);
        }
        for id in self.wishes.take_due(now) {
            self.ask_core(id);
        }
    }

    /// A member was lost, and with it the answers that it owes.
    pub(super) fn lose_errands(&mut self, member: NodeId) {
        for (id, outcome) in self.wishes.lost(member, clock::now()) {
            self.end_wish(id, outcome);
        }
    }

    /// Members list where this node is; it may have moved while it was away.
    pub(super) fn mind_address(&mut self) {
        let (id, address) = (self.core.id(), self.transport.me().address.clone());
        let listed = self.core.members().get(id).map(|member| member.address.as_str());
        let moved = listed.is_some_and(|listed| listed != address);
        if moved && self.core.leader().is_some() && !self.wishes.tells_move() {
            self.wish(Asker::Self_, Order::Change(Change::Readdress { id, address }));
        }
    }

    pub(super) fn wish(&mut self, asker: Asker, order: Order) {
        if !is_sound(&order) || !may_order(&asker, &order) {
            return self.tell(asker, Outcome::Changed(Err(ChangeRefusal::Invalid)));
        }
        let busy = match &order {
            Order::Change(_) => {
                Outcome::Changed(Err(ChangeRefusal::InProgress { at: self.core.commit() }))
            }
            Order::Transfer(_) => unknown(&order),
        };
        let subject = match &order {
            Order::Change(Change::Remove(id)) => self.core.members().get(*id).cloned(),
            _ => None,
        };
        match self.wishes.open(asker, order, subject, clock::now()) {
            Ok(id) => self.ask_core(id),
            Err(asker) => self.tell(asker, busy),
        }
    }

    fn ask_core(&mut self, request: ChangeId) {
        let Some(wish) = self.wishes.get(request) else { return };
        match wish.order.clone() {
            Order::Change(change) => self.step(Event::ChangeMembers { request, change }),
            Order::Transfer(to) if self.core.role() == RoleName::Leader => {
                self.step(Event::Transfer(to));
            }
            Order::Transfer(_) => {
                let outcome = Outcome::Transferred(Err(TransferFailure::NotLeader));
                self.answer_wish(request, outcome);
            }
        }
    }

    /// Leadership went to another node, or stays here.
    pub(super) fn answer_transfers(&mut self, result: Result<NodeId, TransferFailure>) {
        for id in self.wishes.transfers() {
            self.end_wish(id, Outcome::Transferred(result));
        }
    }

    /// The core of this node answers, or that of the leader.
    pub(super) fn answer_wish(&mut self, id: ChangeId, outcome: Outcome) {
        let outcome = match self.wishes.get(id) {
            // Nobody answers a node that is a member no more, but it is told that.
            Some(wish) if self.is_removed() && wish.removes(self.core.id()) => wish.done(outcome),
            Some(wish) => wish.settle(outcome),
            None => return,
        };
        let leader = match &outcome {
            Outcome::Changed(Err(ChangeRefusal::NotLeader(leader))) => *leader,
            Outcome::Transferred(Err(TransferFailure::NotLeader)) => self.core.leader(),
            _ => None,
        };
        if leader.is_some_and(|leader| self.pass_on(id, leader)) {
            return;
        }
        if self.wishes.get(id).is_some_and(|wish| wish.may_pass(&outcome)) {
            self.wishes.put_off(id, outcome, clock::now());
        } else {
            self.end_wish(id, outcome);
        }
    }

    /// Passes an order of this node on to the leader; whether that could be done.
    fn pass_on(&mut self, id: ChangeId, leader: NodeId) -> bool {
        let possible = self.wishes.is_of_here(id)
            && leader != self.core.id()
            && self.transport.is_connected(leader);
        let Some(wish) = self.wishes.get(id).filter(|_| possible) else { return false };
        let order = wish.order.clone();
        self.wishes.passed(id, leader);
        self.say(leader, &Errand::Order { request: id.0, order });
        true
    }

    fn end_wish(&mut self, id: ChangeId, outcome: Outcome) {
        if let Some(wish) = self.wishes.close(id) {
            self.tell(wish.asker, outcome);
        }
    }

    fn tell(&mut self, asker: Asker, outcome: Outcome) {
        match (asker, outcome) {
            (Asker::Room(reply), Outcome::Changed(result)) => drop(reply.try_send(result)),
            (Asker::RoomTransfer(reply), Outcome::Transferred(result)) => {
                // Who asked may have gone.
                let _ = reply.try_send(result);
            }
            (Asker::Member(from, request), outcome) => {
                self.say(from, &Errand::Outcome { request, outcome });
            }
            (Asker::Joiner(ticket), Outcome::Changed(result)) => {
                let reply = self.join_reply(result);
                self.transport.answer(ticket, &reply);
            }
            (Asker::Self_, Outcome::Changed(Err(refusal))) => {
                log::warn!("event=move_not_listed reason=\"{refusal:?}\"");
            }
            // What a peer answers to another question than it was asked.
            (Asker::Room(_) | Asker::RoomTransfer(_) | Asker::Joiner(_) | Asker::Self_, _) => {}
        }
    }

    pub(super) fn say(&mut self, to: NodeId, errand: &Errand) {
        if let Ok(payload) = postcard::to_allocvec(errand) {
            self.transport.send(to, Kind::Errand, payload);
        }
    }

    fn join_reply(&self, result: Result<Member, ChangeRefusal>) -> JoinReply {
        match result {
            Ok(member) => JoinReply::Joined {
                cluster: self.transport.me().cluster,
                epoch: self.transport.me().epoch,
                node: member.id,
                peers: self.vouched(),
            },
            Err(ChangeRefusal::NotLeader(leader)) => JoinReply::NotLeader(self.contact_of(leader)),
            Err(ChangeRefusal::Taken(member)) => JoinReply::Taken(format!(
                "{} at {} is a member already: choose another name and address",
                member.name, member.address
            )),
            Err(ChangeRefusal::Connected(member)) => JoinReply::Taken(format!(
                "a node called {} is a member, and is connected from {}: stop that one first, or choose \
                 another name",
                member.name, member.address
            )),
            Err(ChangeRefusal::TokenForOther(name)) => {
                JoinReply::Taken(format!("this join token is for a node called {name}"))
            }
            Err(ChangeRefusal::NoSuchToken | ChangeRefusal::NotListed) => {
                JoinReply::Taken(Refusal::NotAdmitted.to_string())
            }
            Err(ChangeRefusal::Invalid) => JoinReply::Taken("not a name or address".to_owned()),
            Err(ChangeRefusal::TooMany) => {
                JoinReply::Taken("there are too many members".to_owned())
            }
            Err(_) => JoinReply::Later,
        }
    }

    fn contact_of(&self, leader: Option<NodeId>) -> Option<(String, Fingerprint)> {
        let leader = leader.filter(|leader| *leader != self.core.id())?;
        let member = self.core.members().get(leader)?;
        Some((member.address.clone(), member.key?))
    }
}

/// Whether this asker may give this order. A node that joins is met by the leader itself, and a member
/// changes no key but its own.
fn may_order(asker: &Asker, order: &Order) -> bool {
    match (asker, order) {
        (Asker::Member(..), Order::Change(Change::Join { .. })) => false,
        (Asker::Member(from, _), Order::Change(Change::Rekey { id, .. })) => from == id,
        _ => true,
    }
}

/// Whether names and addresses in an order are such.
fn is_sound(order: &Order) -> bool {
    let is_address = |address: &str| {
        address.len() <= hello::ADDRESS_BYTES_MAX
            && resolve(address).is_some_and(|address| !address.ip().is_unspecified())
    };
    match order {
        Order::Change(
            Change::Add { name, address, .. }
            | Change::Join { name, address, .. }
            | Change::Replace { name, address, .. },
        ) => check_name(name).is_ok() && is_address(address),
        Order::Change(Change::Readdress { address, .. }) => is_address(address),
        Order::Change(Change::IssueToken(token)) => {
            token.name.as_deref().is_none_or(|name| check_name(name).is_ok())
        }
        Order::Change(
            Change::Remove(_)
            | Change::Promote(_)
            | Change::Demote(_)
            | Change::Rekey { .. }
            | Change::RevokeToken(_),
        )
        | Order::Transfer(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Security: a member, or who has stolen its key, changes no other one's key and lets nobody in by
    /// its word.
    #[test]
    fn a_member_orders_no_key_but_its_own() {
        let (two, key) = (NodeId::new(2), Fingerprint([1; 32]));
        let by_member = Asker::Member(two, 1);
        let rekey = |id| Order::Change(Change::Rekey { id, key });
        assert!(may_order(&by_member, &rekey(two)));
        assert!(!may_order(&by_member, &rekey(NodeId::new(1))));
        assert!(may_order(&Asker::Self_, &rekey(NodeId::new(1))));
        let (name, address) = ("node4".into(), "127.0.0.1:4".into());
        let join = Change::Join { name, address, key, warrant: Warrant::SameUser };
        assert!(!may_order(&by_member, &Order::Change(join)));
        assert!(may_order(&by_member, &Order::Change(Change::Remove(two))));
    }
}
