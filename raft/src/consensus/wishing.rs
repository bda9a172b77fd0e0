//! How the consensus thread serves wishes to add a member.

use crossbeam_channel::Sender;
use pickbox_raft_core::Event;
use pickbox_raft_core::event::{Change, ChangeId};
use pickbox_raft_core::ids::NodeId;
use pickbox_raft_core::members::{Member, MemberRole};

use super::Consensus;
use super::wishes::{Asker, Denial, Errand};
use crate::api::AddError;
use crate::clock;
use crate::identity::check_name;
use crate::loopback_only;
use crate::net::frame::Kind;
use crate::net::hello::{self, JoinReply, JoinRequest};
use crate::net::link::resolve;
use crate::net::transport::Ticket;

impl Consensus {
    pub(super) fn wish_of_room(
        &mut self,
        name: String,
        address: String,
        reply: Sender<Result<NodeId, AddError>>,
    ) {
        self.wish(Asker::Room(reply), name, address);
    }

    pub(super) fn wish_of_joiner(&mut self, ticket: Ticket, request: JoinRequest) {
        log::info!("node asks to join: name={:?} address={:?}", request.name, request.address);
        self.wish(Asker::Joiner(ticket), request.name, request.address);
    }

    /// What another member says about wishes.
    pub(super) fn run_errand(&mut self, from: NodeId, payload: &[u8]) {
        match hello::decode(payload) {
            Some(Errand::Add { request, name, address }) => {
                self.wish(Asker::Member(from, request), name, address);
            }
            Some(Errand::Added { request, result }) => {
                // Only wishes of this room are ever passed on, so answers never go round.
                if self.wishes.is_of_room(ChangeId(request)) {
                    self.answer_wish(ChangeId(request), result);
                }
            }
            None => log::warn!("errand dropped: peer={from} reason=malformed"),
        }
    }

    /// Tries wishes again that are due, and gives up those that took too long.
    pub(super) fn tend_wishes(&mut self) {
        let now = clock::now();
        for (id, denial) in self.wishes.overdue(now) {
            self.end_wish(id, Err(denial));
        }
        for id in self.wishes.take_due(now) {
            self.ask_core(id);
        }
    }

    fn wish(&mut self, asker: Asker, name: String, address: String) {
        let is_address = address.len() <= hello::ADDRESS_BYTES_MAX
            && resolve(&address).is_some_and(|address| loopback_only(address).is_ok());
        if check_name(&name).is_err() || !is_address {
            return self.tell(asker, Err(Denial::Invalid));
        }
        match self.wishes.open(asker, name, address, clock::now()) {
            Ok(id) => self.ask_core(id),
            Err(asker) => self.tell(asker, Err(Denial::InProgress)),
        }
    }

    fn ask_core(&mut self, request: ChangeId) {
        let Some(wish) = self.wishes.get(request) else { return };
        let change = Change::Add { name: wish.name.clone(), address: wish.address.clone() };
        self.step(Event::ChangeMembers { request, change });
    }

    /// The core of this node answers, or that of the leader.
    pub(super) fn answer_wish(&mut self, id: ChangeId, result: Result<Member, Denial>) {
        match result {
            Err(Denial::NotLeader(Some(leader))) if self.pass_on(id, leader) => {}
            Err(denial) if denial.may_pass() && self.wishes.is_of_room(id) => {
                self.wishes.put_off(id, denial, clock::now());
            }
            result => self.end_wish(id, result),
        }
    }

    /// Passes a wish of this room on to the leader; whether that could be done.
    fn pass_on(&mut self, id: ChangeId, leader: NodeId) -> bool {
        let possible = self.wishes.is_of_room(id)
            && leader != self.core.id()
            && self.transport.is_connected(leader);
        let Some(wish) = self.wishes.get(id).filter(|_| possible) else { return false };
        let (name, address) = (wish.name.clone(), wish.address.clone());
        self.wishes.passed(id, leader);
        self.say(leader, &Errand::Add { request: id.0, name, address });
        true
    }

    fn end_wish(&mut self, id: ChangeId, result: Result<Member, Denial>) {
        if let Some(wish) = self.wishes.close(id) {
            self.tell(wish.asker, result);
        }
    }

    fn tell(&mut self, asker: Asker, result: Result<Member, Denial>) {
        match asker {
            Asker::Room(reply) => {
                let result = result.map(|member| member.id);
                drop(reply.try_send(result.map_err(|denial| self.add_error(denial))));
            }
            Asker::Member(from, request) => self.say(from, &Errand::Added { request, result }),
            Asker::Joiner(ticket) => {
                let reply = self.join_reply(result);
                self.transport.answer_join(ticket, &reply);
            }
        }
    }

    fn say(&mut self, to: NodeId, errand: &Errand) {
        if let Ok(payload) = postcard::to_allocvec(errand) {
            self.transport.send(to, Kind::Errand, payload);
        }
    }

    fn add_error(&self, denial: Denial) -> AddError {
        match denial {
            Denial::NotLeader(leader) => AddError::NotLeader(self.address_of(leader)),
            Denial::InProgress => AddError::InProgress,
            Denial::Taken(member) => AddError::Taken(taken(&member)),
            Denial::Invalid => AddError::Invalid,
            Denial::Unknown => AddError::Unknown,
        }
    }

    fn join_reply(&self, result: Result<Member, Denial>) -> JoinReply {
        match result {
            // It asks because it has no state; a voter without state has forgotten its votes.
            Ok(member) if member.role == MemberRole::Voter => JoinReply::Taken(format!(
                "{} is a voter already and has lost its state: give the node a new name and address",
                member.name
            )),
            Ok(member) => JoinReply::Joined {
                cluster: self.transport.me().cluster,
                node: member.id,
                members: self.core.members().clone(),
            },
            Err(Denial::NotLeader(leader)) => JoinReply::NotLeader(self.address_of(leader)),
            Err(Denial::Taken(member)) => JoinReply::Taken(taken(&member)),
            Err(Denial::Invalid) => JoinReply::Taken("not a name or address".to_owned()),
            Err(Denial::InProgress | Denial::Unknown) => JoinReply::Later,
        }
    }

    fn address_of(&self, leader: Option<NodeId>) -> Option<String> {
        let leader = leader.filter(|leader| *leader != self.core.id())?;
        self.core.members().get(leader).map(|member| member.address.clone())
    }
}

fn taken(member: &Member) -> String {
    format!("{} at {} is a member already", member.name, member.address)
}
