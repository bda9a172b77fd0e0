//! Orders about the members, on the daemon's side: names become numbers, refusals sentences. Those
//! about tokens and keys: see [`crate::admitting`].

use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, select};
use pickbox_admin::join_tokens::TokenRequest;
use pickbox_admin::members::{Aim as Wanted, MemberChange};
use pickbox_admin::node::{Absent, NodeName};
use pickbox_admin::status::{MemberReport, MemberRole};
use pickbox_admin::{Code, Refusal, Reply, Ticket};
use pickbox_raft::Handle;
use pickbox_raft::api::{
    Aim, Change, ChangeRefusal, Command, MemberStatus, Role, Status, TransferFailure,
};
use pickbox_raft::clock;
use pickbox_raft::core::ids::NodeId;
use pickbox_raft::core::limits::{MEMBERS_MAX, TOKENS_MAX};
use pickbox_raft::core::members::{Member, MemberRole as RaftRole};

use crate::admitting::Own;
use crate::node::tell;

/// How long a change of the members or the leader may take.
pub(crate) const CHANGE: Duration = Duration::from_secs(15);
/// How long something that is committed, or may be, is looked for here: an election or two.
const GOING: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A wish of a client, waiting for its turn.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) what: What,
    pub(crate) ticket: Ticket,
}

/// What is wished for.
#[derive(Debug)]
pub(crate) enum What {
    /// Other members.
    Change(MemberChange),
    /// Another leader.
    Transfer(Option<NodeName>),
    /// Something about join tokens.
    Token(TokenRequest),
    /// A new key for this node.
    RotateKey(Absent),
}

/// The body of the thread `members`: one wish at a time, and in between the files of the keys follow
/// the log.
pub(crate) fn run_wishes(wishes: &Receiver<Wish>, own: &Own) {
    let news = own.keys.news();
    loop {
        select! {
            recv(wishes) -> wish => match wish {
                Ok(Wish { what, ticket }) => ticket.answer(grant(what, own)),
                Err(_) => return,
            },
            recv(news) -> _ => own.settle(),
        }
    }
}

fn grant(what: What, own: &Own) -> Result<Reply, Refusal> {
    match what {
        What::Change(change) => change_members(change, &own.log),
        What::Transfer(to) => transfer(to.as_ref(), &own.log),
        What::Token(request) => own.tokens(request),
        What::RotateKey(absent) => own.rotate(absent),
    }
}

fn change_members(change: MemberChange, log: &Handle) -> Result<Reply, Refusal> {
    let members = status(log)?.members;
    let order = order(&change, &members)?;
    let removed = match &order {
        Change::Remove(id) => Some(*id),
        _ => None,
    };
    let answer = ask(log, |reply| Command::ChangeMembers { change: order, reply });
    match answer.unwrap_or(Err(ChangeRefusal::Unknown)) {
        Ok(member) => Ok(Reply::Changed { number: member.id.get(), change }),
        Err(ChangeRefusal::Unknown) if removed.is_some_and(|id| await_gone(id, log)) => {
            Ok(Reply::Changed { number: removed.unwrap_or_default().get(), change })
        }
        Err(refusal) => Err(not_changed(refusal)),
    }
}

/// Has a change committed.
pub(crate) fn change(log: &Handle, change: Change) -> Result<Member, Refusal> {
    let answer = ask(log, |reply| Command::ChangeMembers { change, reply });
    answer.unwrap_or(Err(ChangeRefusal::Unknown)).map_err(not_changed)
}

/// Whether a member goes, of which the leader left the answer open: a leader that removes itself
/// may be gone before its answer arrives, and then the list tells.
fn await_gone(id: NodeId, log: &Handle) -> bool {
    await_status(log, |status| {
        let is_member = status.members.iter().any(|known| known.member.id == id);
        !is_member && !status.changing
    })
}

/// Whether this node comes to see something soon.
pub(crate) fn await_status(log: &Handle, is_so: impl Fn(&Status) -> bool) -> bool {
    let end = clock::now() + GOING;
    while clock::now() < end {
        let Ok(status) = status(log) else { return false };
        if is_so(&status) {
            return true;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    false
}

fn transfer(to: Option<&NodeName>, log: &Handle) -> Result<Reply, Refusal> {
    let Status { members, role, .. } = status(log)?;
    let to = to.map(|name| find(name, &members)).transpose()?;
    let leader = if to.is_some() && to == role.leader {
        Ok(to.unwrap_or_default())
    } else {
        let answer = ask(log, |reply| Command::Transfer { to, reply });
        answer.unwrap_or(Err(TransferFailure::TimedOut))
    };
    match leader {
        Ok(leader) => Ok(Reply::Leads(name_of(leader, &members))),
        Err(failure) => {
            let to = to.map(|to| name_of(to, &members));
            Err(not_transferred(failure, to.as_deref()))
        }
    }
}

pub(crate) fn status(log: &Handle) -> Result<Status, Refusal> {
    tell(|reply| log.send(Command::Status(reply)).is_ok()).ok_or_else(|| {
        Refusal::new(Code::Stopping, "the log does not answer: the node is stopping")
    })
}

/// One answer of the log; `None` when it does not come in time.
fn ask<T>(
    log: &Handle,
    command: impl FnOnce(crossbeam_channel::Sender<T>) -> Command,
) -> Option<T> {
    let (reply, answer) = bounded(1);
    log.send(command(reply)).ok()?;
    answer.recv_timeout(CHANGE).ok()
}

/// The order that the log understands.
fn order(change: &MemberChange, members: &[MemberStatus]) -> Result<Change, Refusal> {
    let text = ToString::to_string;
    Ok(match change {
        MemberChange::Add { id, address, aim } => {
            let aim = match aim {
                Wanted::Voter => Aim::Voter,
                Wanted::Learner => Aim::Learner,
            };
            Change::Add { name: id.to_string(), address: address.to_string(), aim }
        }
        MemberChange::Remove(id) => Change::Remove(find(id, members)?),
        MemberChange::Promote(id) => Change::Promote(find(id, members)?),
        MemberChange::Demote(id) => Change::Demote(find(id, members)?),
        MemberChange::Replace { old, id, address } => {
            let old = find(old, members)?;
            Change::Replace { old, name: text(id), address: address.to_string() }
        }
        MemberChange::Move { id, address } => {
            Change::Readdress { id: find(id, members)?, address: address.to_string() }
        }
    })
}

/// The number of the member that is called so.
fn find(name: &NodeName, members: &[MemberStatus]) -> Result<NodeId, Refusal> {
    let found = members.iter().find(|known| known.member.name == name.as_str());
    found.map(|known| known.member.id).ok_or_else(|| {
        Refusal::new(Code::NotFound, format!("no member is called {name}; MEMBERS lists them"))
    })
}

pub(crate) fn name_of(id: NodeId, members: &[MemberStatus]) -> String {
    let found = members.iter().find(|known| known.member.id == id);
    found.map_or_else(|| format!("number {id}"), |known| known.member.name.clone())
}

/// Why the members were not changed: what, why, and what to do.
fn not_changed(refusal: ChangeRefusal) -> Refusal {
    let (code, text) = match refusal {
        ChangeRefusal::NotLeader(_) => (
            Code::NoQuorum,
            "no leader could be asked, so no majority can be reached: nothing was changed; see \
             STATUS, try again when there is a leader"
                .to_owned(),
        ),
        ChangeRefusal::InProgress { at } => (
            Code::InProgress,
            format!(
                "another change of the members, or of the leader, is under way (entry {at}): nothing \
                 was changed; try again in a moment, MEMBERS shows what is in force"
            ),
        ),
        ChangeRefusal::Taken(Member { name, address, .. }) => (
            Code::Taken,
            format!(
                "{name} at {address} is a member already, and names and addresses belong to one \
                 member each: choose another name and address, or REMOVE {name} first"
            ),
        ),
        ChangeRefusal::Connected(Member { name, address, .. }) => (
            Code::Connected,
            format!(
                "the member called {name} is connected from {address}, and two nodes cannot be one: \
                 stop that one first, or choose another name"
            ),
        ),
        ChangeRefusal::NoSuchMember(id) => (
            Code::NotFound,
            format!("it is a member no more (it was number {id}); MEMBERS lists those there are"),
        ),
        ChangeRefusal::LastVoter => (
            Code::LastVoter,
            "it is the only voter, and without one nothing could be decided: nothing was changed; \
             add another voter, or promote one, and wait until MEMBERS shows it as voter"
                .to_owned(),
        ),
        ChangeRefusal::TooFew { heard, needed, missing } => (
            Code::TooFew,
            format!(
                "{name} at {address} cannot be reached: of the voters that there would be {heard} \
                 are heard and {needed} are needed, so nothing could be decided any more; nothing \
                 was changed: start {name} again, or remove or replace {name} first",
                name = missing.name,
                address = missing.address
            ),
        ),
        ChangeRefusal::Invalid => (
            Code::BadRequest,
            "the name or the address cannot be used: a name has 1-64 letters, digits, dots, \
             underscores or dashes; an address is IP:PORT"
                .to_owned(),
        ),
        ChangeRefusal::TooMany => (
            Code::TooMany,
            format!("there are {MEMBERS_MAX} members, the most there may be: remove one first"),
        ),
        ChangeRefusal::Unknown => (
            Code::Unknown,
            "leadership was lost, or no answer came in time: whether it was changed is not known; \
             see MEMBERS, then ask again (asking twice is harmless)"
                .to_owned(),
        ),
        other => return not_admitted(other),
    };
    Refusal::new(code, text)
}

/// Why a join token, or a key, changed nothing.
fn not_admitted(refusal: ChangeRefusal) -> Refusal {
    let (code, text) = match refusal {
        ChangeRefusal::NoSuchToken => (
            Code::NotFound,
            "there is no such join token: it was used or revoked, or is over; TOKEN LIST shows those \
             there are"
                .to_owned(),
        ),
        ChangeRefusal::TokenForOther(name) => {
            (Code::Taken, format!("the join token is for a node called {name}"))
        }
        ChangeRefusal::TooManyTokens => (
            Code::TooMany,
            format!(
                "there are {TOKENS_MAX} join tokens, the most there may be: TOKEN LIST shows them, TOKEN \
                 REVOKE ends one"
            ),
        ),
        ChangeRefusal::NotListed => (
            Code::Taken,
            "the key is not the one that the members list for this name; MEMBERS shows them".to_owned(),
        ),
        _ => (Code::BadRequest, "the members cannot be changed like that".to_owned()),
    };
    Refusal::new(code, text)
}

/// Why leadership was not handed over.
fn not_transferred(failure: TransferFailure, to: Option<&str>) -> Refusal {
    match (failure, to) {
        (TransferFailure::NotLeader, _) => Refusal::new(
            Code::NoQuorum,
            "no leader could be asked: see STATUS, try again when there is one",
        ),
        (TransferFailure::NoTarget, Some(to)) => Refusal::new(
            Code::NotAVoter,
            format!("{to} is no voter, and only a voter can lead: PROMOTE {to} first"),
        ),
        (TransferFailure::NoTarget, None) => Refusal::new(
            Code::NotAVoter,
            "there is no other voter that could lead: add one, or promote a learner, first",
        ),
        (TransferFailure::TimedOut, to) => {
            let to = to.unwrap_or("no other voter");
            let text = format!(
                "{to} did not take over in time: the leader leads on as if nothing had been asked; \
                 see in MEMBERS who is connected and how far, then try again"
            );
            Refusal::new(Code::TimedOut, text)
        }
    }
}

/// One member, as clients are told of it.
pub(crate) fn member_report(known: &MemberStatus, log: &Status) -> MemberReport {
    let (own, leads_here) = (known.member.id == log.node, log.role.role == Role::Leader);
    let heard = own || leads_here;
    let matched = if own { log.last } else { known.matched };
    MemberReport {
        node_id: known.member.name.clone(),
        number: known.member.id.get(),
        address: known.member.address.clone(),
        key: known.member.key.map(|key| key.to_string()),
        role: match known.member.role {
            RaftRole::Voter => MemberRole::Voter,
            RaftRole::Learner => MemberRole::Learner,
            RaftRole::Staging { .. } => MemberRole::Staging,
        },
        replaces: match known.member.role {
            RaftRole::Staging { replaces } => replaces.map(NodeId::get),
            RaftRole::Voter | RaftRole::Learner => None,
        },
        connected: known.connected,
        leads: log.role.leader == Some(known.member.id),
        matched: leads_here.then_some(matched.get()),
        applied: heard.then_some(known.applied.get()),
        placed: heard.then_some(known.placed.get()),
    }
}

/// What somebody should look after, as far as the log and its members tell it.
pub(crate) fn alarms(log: &Status) -> Vec<String> {
    let lost = log.members.iter().filter_map(|known| came_back_empty(&known.member, log));
    log.alarms.iter().cloned().chain(lost).collect()
}

/// A staging member takes a place that is free already: its former self was taken out at once.
fn came_back_empty(member: &Member, log: &Status) -> Option<String> {
    let RaftRole::Staging { replaces: Some(former) } = member.role else { return None };
    let is_member = log.members.iter().any(|known| known.member.id == former);
    (!is_member).then(|| {
        format!(
            "{} came back without its state (was number {former}, is {} now) and is catching up: it \
             does not vote until then",
            member.name, member.id
        )
    })
}

#[cfg(test)]
mod tests {
    use pickbox_admin::node::PeerAddress;
    use pickbox_raft::api::{Counters, RoleChange};
    use pickbox_raft::core::ids::{ClusterId, Incarnation, Index, Term};

    use super::*;

    fn member(number: u64, role: RaftRole) -> Member {
        let (name, address) = (format!("node{number}"), format!("127.0.0.1:{}", 8000 + number));
        Member { id: NodeId::new(number), name, address, role, key: None }
    }

    /// Seen by number 1, which leads.
    fn status_of(members: Vec<Member>) -> Status {
        let known = |member| MemberStatus {
            member,
            connected: true,
            matched: Index::new(5),
            applied: Index::new(4),
            placed: Index::new(3),
        };
        let leader = Some(NodeId::new(1));
        Status {
            cluster: ClusterId::default(),
            node: NodeId::new(1),
            incarnation: Incarnation::ZERO,
            role: RoleChange { role: Role::Leader, term: Term::new(2), leader },
            commit: Index::new(6),
            last: Index::new(7),
            first: Index::new(1),
            members: members.into_iter().map(known).collect(),
            changing: false,
            tokens: Vec::new(),
            alarms: Vec::new(),
            is_removed: false,
            counters: Counters::default(),
        }
    }

    fn id(text: &str) -> NodeName {
        NodeName::parse(text).unwrap()
    }

    #[test]
    fn names_become_numbers() {
        let members = status_of(vec![member(1, RaftRole::Voter), member(7, RaftRole::Learner)]);
        let members = members.members;
        let change = order(&MemberChange::Remove(id("node7")), &members).unwrap();
        assert_eq!(change, Change::Remove(NodeId::new(7)));
        let address = PeerAddress::parse("127.0.0.1:9").unwrap();
        let replace = MemberChange::Replace { old: id("node1"), id: id("new"), address };
        let (name, address) = ("new".to_owned(), "127.0.0.1:9".to_owned());
        let expected = Change::Replace { old: NodeId::new(1), name, address };
        assert_eq!(order(&replace, &members).unwrap(), expected);
        let unknown = order(&MemberChange::Demote(id("node2")), &members).unwrap_err();
        let text = "not-found: no member is called node2; MEMBERS lists them";
        assert_eq!(unknown.to_string(), text);
    }

    /// checklist 99: a refused change says whom it is about, what is missing, and what helps.
    #[test]
    fn every_refusal_says_what_helps() {
        let three = || member(3, RaftRole::Voter);
        for (refusal, code, words) in [
            (ChangeRefusal::NotLeader(None), "no-quorum", "when there is a leader"),
            (ChangeRefusal::InProgress { at: Index::new(9) }, "in-progress", "entry 9"),
            (ChangeRefusal::Taken(three()), "taken", "node3 at 127.0.0.1:8003"),
            (ChangeRefusal::Connected(three()), "connected", "stop that one first"),
            (ChangeRefusal::NoSuchMember(NodeId::new(4)), "not-found", "number 4"),
            (ChangeRefusal::LastVoter, "last-voter", "add another voter"),
            (
                ChangeRefusal::TooFew { heard: 1, needed: 2, missing: Box::new(three()) },
                "too-few",
                "would be 1 are heard and 2 are needed",
            ),
            (ChangeRefusal::Invalid, "bad-request", "1-64 letters"),
            (ChangeRefusal::TooMany, "too-many", "64 members"),
            (ChangeRefusal::Unknown, "unknown", "asking twice is harmless"),
        ] {
            let refusal = not_changed(refusal);
            assert_eq!(refusal.code.to_string(), code, "{refusal}");
            assert!(refusal.text.contains(words), "{refusal}");
        }
    }

    #[test]
    fn a_refused_handover_says_who_could_not() {
        let text = |failure, to| not_transferred(failure, to).to_string();
        assert!(text(TransferFailure::NoTarget, Some("node4")).contains("PROMOTE node4"));
        assert!(text(TransferFailure::NoTarget, None).starts_with("not-a-voter: "));
        assert!(text(TransferFailure::TimedOut, Some("node4")).starts_with("timed-out: node4 did"));
        assert!(text(TransferFailure::NotLeader, None).starts_with("no-quorum: "));
    }

    /// checklist 101: who forgot its votes is shown until it votes again.
    #[test]
    fn a_node_that_came_back_empty_is_an_alarm() {
        let replaces = |number| RaftRole::Staging { replaces: Some(NodeId::new(number)) };
        let planned =
            vec![member(1, RaftRole::Voter), member(2, RaftRole::Voter), member(4, replaces(2))];
        assert_eq!(alarms(&status_of(planned)), Vec::<String>::new());
        let lost = vec![member(1, RaftRole::Voter), member(4, replaces(2))];
        let mut status = status_of(lost);
        status.alarms.push("the log has one too".to_owned());
        let all = alarms(&status);
        let words = "node4 came back without its state (was number 2, is 4 now) and is catching up";
        assert!(all.len() == 2 && all[1].starts_with(words), "{all:?}");
    }

    #[test]
    fn what_only_the_leader_knows_is_told_by_it_alone() {
        let replaces = Some(NodeId::new(1));
        let mut status =
            status_of(vec![member(1, RaftRole::Voter), member(2, RaftRole::Staging { replaces })]);
        let report = member_report(&status.members[1], &status);
        assert_eq!((report.matched, report.applied), (Some(5), Some(4)));
        assert_eq!((report.role, report.replaces), (MemberRole::Staging, Some(1)));
        let own = member_report(&status.members[0], &status);
        assert!(own.leads && own.matched == Some(7), "its own log is its own end");
        status.role.role = Role::Follower;
        let report = member_report(&status.members[1], &status);
        assert_eq!((report.matched, report.applied), (None, None));
    }
}
