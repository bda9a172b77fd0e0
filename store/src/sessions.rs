//! Exactly once: which run of each node is open, and how far it has come.
//!
//! A node draws an incarnation when it starts, and its first proposal opens it. From then on apply
//! takes exactly the next serial of that incarnation. So a proposal that was sent twice takes
//! effect once, and one from a run that has ended takes effect never.

use std::collections::BTreeMap;

use pickbox_raft::core::ids::{Incarnation, NodeId, Serial};
use pickbox_raft::core::log::{Payload, Proposal};
use pickbox_raft::core::members::Members;
use serde::{Deserialize, Serialize};

/// How many closed incarnations of a node are remembered, so that a late copy of the entry that
/// opened one of them cannot open it again.
pub const CLOSED_KEPT: usize = 16;
/// Longest node name in bytes; what is longer is cut.
pub const NODE_NAME_BYTES_MAX: usize = 64;

/// What the log knows of one node's runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The run that is open.
    pub incarnation: Incarnation,
    /// The last of its proposals that was taken.
    pub last: Serial,
    /// Runs that ended, oldest first, at most [`CLOSED_KEPT`].
    pub closed: Vec<Incarnation>,
    /// The name that it opened with.
    pub name: String,
}

/// Whether a proposal counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It opened a new run.
    Opened,
    /// The next one of the open run.
    Next,
    /// Taken before.
    Duplicate,
    /// Of a run that is not open, or ahead of the next serial.
    Stale,
}

/// One row a member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions(BTreeMap<NodeId, Session>);

impl Sessions {
    /// What is known of `node`.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<&Session> {
        self.0.get(&node)
    }

    /// The newest run of each node.
    pub fn runs(&self) -> impl Iterator<Item = (NodeId, Incarnation)> + '_ {
        self.0.iter().map(|(node, session)| (*node, session.incarnation))
    }

    /// Decides over a proposal and notes it.
    pub(crate) fn admit(&mut self, proposal: &Proposal, members: &Members) -> Verdict {
        if let Some(session) = self.0.get_mut(&proposal.origin)
            && session.incarnation == proposal.incarnation
        {
            return session.advance(proposal.serial);
        }
        match &proposal.payload {
            Payload::Open { name }
                if proposal.serial == Serial::ZERO.next() && knows(members, proposal.origin) =>
            {
                self.open(proposal.origin, proposal.incarnation, name)
            }
            _ => Verdict::Stale,
        }
    }

    /// Whether proposals to this log can have made these.
    pub(crate) fn are_sound(&self, members: &Members) -> bool {
        self.0.iter().all(|(node, session)| {
            knows(members, *node)
                && session.last <= Serial::MAX
                && session.closed.len() <= CLOSED_KEPT
                && safe(&session.name) == session.name
        })
    }

    /// Forgets nodes that are no members any more.
    pub(crate) fn retain(&mut self, members: &Members) {
        self.0.retain(|node, _| knows(members, *node));
    }

    /// The name of a node as conflict names carry it: `[A-Za-z0-9._-]` only.
    pub(crate) fn name_of(&self, node: NodeId, members: &Members) -> String {
        let member = members.members.iter().find(|member| member.id == node);
        let name = member.map(|member| member.name.as_str());
        let name = name.or_else(|| self.get(node).map(|session| session.name.as_str()));
        let name = safe(name.unwrap_or_default());
        if name.is_empty() { format!("node{node}") } else { name }
    }

    fn open(&mut self, node: NodeId, incarnation: Incarnation, name: &str) -> Verdict {
        let session = self.0.entry(node).or_default();
        if session.closed.contains(&incarnation) {
            return Verdict::Stale;
        }
        if session.last != Serial::ZERO {
            session.closed.push(session.incarnation);
            let surplus = session.closed.len().saturating_sub(CLOSED_KEPT);
            session.closed.drain(..surplus);
        }
        session.incarnation = incarnation;
        session.last = Serial::ZERO.next();
        session.name = safe(name);
        Verdict::Opened
    }
}

impl Session {
    fn advance(&mut self, serial: Serial) -> Verdict {
        if serial <= self.last {
            return Verdict::Duplicate;
        }
        if serial != self.last.next() {
            return Verdict::Stale;
        }
        self.last = serial;
        Verdict::Next
    }
}

/// Whether `node` may have a row. Until the log has named members, anybody may.
fn knows(members: &Members, node: NodeId) -> bool {
    members.members.is_empty()
        || members.members.iter().any(|member| member.id == node)
        || members.outgoing_voters.contains(&node)
}

fn safe(name: &str) -> String {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || "._-".contains(*c);
    name.chars().filter(allowed).take(NODE_NAME_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pickbox_raft::core::members::{Member, MemberRole};

    fn proposal(incarnation: u64, serial: u64) -> Proposal {
        let payload = match serial {
            1 => Payload::Open { name: "node1".to_string() },
            _ => Payload::Data(Vec::new()),
        };
        Proposal {
            origin: NodeId::new(1),
            incarnation: Incarnation::new(incarnation),
            serial: Serial::new(serial),
            holders: None,
            payload,
        }
    }

    fn verdicts(steps: &[(u64, u64)]) -> Vec<Verdict> {
        let (mut sessions, members) = (Sessions::default(), Members::default());
        steps
            .iter()
            .map(|&(run, serial)| sessions.admit(&proposal(run, serial), &members))
            .collect()
    }

    /// Design: apply accepts exactly serial last + 1.
    #[test]
    fn exactly_the_next_serial_counts() {
        use Verdict::{Duplicate, Next, Opened, Stale};
        let steps = [(7, 2), (7, 1), (7, 1), (7, 3), (7, 2), (7, 2), (7, 3)];
        assert_eq!(
            verdicts(&steps),
            [Stale, Opened, Duplicate, Stale, Next, Duplicate, Next],
            "a gap is refused, a repetition is told"
        );
    }

    #[test]
    fn a_new_run_closes_the_former_for_good() {
        use Verdict::{Next, Opened, Stale};
        let steps = [(7, 1), (8, 1), (7, 2), (7, 1), (8, 2)];
        assert_eq!(verdicts(&steps), [Opened, Opened, Stale, Stale, Next]);
    }

    #[test]
    fn closed_runs_are_remembered_up_to_a_bound() {
        let mut sessions = Sessions::default();
        for run in 1..100 {
            sessions.admit(&proposal(run, 1), &Members::default());
        }
        assert_eq!(sessions.get(NodeId::new(1)).unwrap().closed.len(), CLOSED_KEPT);
    }

    #[test]
    fn rows_of_removed_members_go_and_strangers_get_none() {
        let mut sessions = Sessions::default();
        sessions.admit(&proposal(7, 1), &Members::default());
        let other = Member {
            id: NodeId::new(2),
            name: "node2".to_string(),
            address: String::new(),
            role: MemberRole::Voter,
            key: None,
        };
        let members = Members { members: vec![other], ..Members::default() };
        sessions.retain(&members);
        assert_eq!(sessions.get(NodeId::new(1)), None);
        assert_eq!(sessions.admit(&proposal(8, 1), &members), Verdict::Stale);
    }

    #[test]
    fn names_are_made_safe_for_file_names() {
        let mut sessions = Sessions::default();
        let mut hostile = proposal(7, 1);
        hostile.payload = Payload::Open { name: "../no de\0/é".to_string() };
        sessions.admit(&hostile, &Members::default());
        assert_eq!(sessions.name_of(NodeId::new(1), &Members::default()), "..node");
        assert_eq!(sessions.name_of(NodeId::new(9), &Members::default()), "node9");
    }
}
