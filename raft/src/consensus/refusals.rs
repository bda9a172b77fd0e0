//! Members that refuse this node, and what that means for it.

use std::collections::BTreeMap;

use pickbox_raft_core::ids::{Index, NodeId};
use pickbox_raft_core::members::Members;

use crate::net::LocalNode;
use crate::net::link::Outcast;

/// Who refuses this node, and why.
#[derive(Debug, Default)]
pub(crate) struct Refusals(BTreeMap<NodeId, Outcast>);

impl Refusals {
    /// Notes a refusal, and says so in the log when it is new.
    pub(crate) fn note(&mut self, by: NodeId, why: Outcast, me: &LocalNode) {
        if self.0.insert(by, why) != Some(why)
            && let Some(text) = in_words(why, me)
        {
            log::error!("event=outcast by={by} text=\"{text}\"");
        }
    }

    /// It talks to this node again.
    pub(crate) fn heal(&mut self, with: NodeId) {
        self.0.remove(&with);
    }

    /// Whether a member says that this node is none any more.
    pub(crate) fn say_removed(&self) -> bool {
        self.0.values().any(|why| matches!(why, Outcast::Removed(_)))
    }

    /// Forgets those who are members no more.
    pub(crate) fn keep(&mut self, members: &Members) {
        self.0.retain(|id, _| members.peers().any(|member| member.id == *id));
    }

    /// Whether somebody hears another run of this node.
    pub(crate) fn is_twin(&self) -> bool {
        self.0.values().any(|why| *why == Outcast::Twin)
    }

    /// Whether as many other members as make a majority, or all there are, say that this node's state is
    /// an old one. One alone may be wrong, and a state is given up for good.
    pub(crate) fn agree_on_old_state(&self, members: &Members, me: NodeId) -> bool {
        let others = members.voters().filter(|id| *id != me).count();
        let needed = (members.voters().count() / 2 + 1).min(others).max(1);
        self.0.values().filter(|why| **why == Outcast::OldState).count() >= needed
    }

    /// What to tell people, each thing once. `follows`: this node knows a leader.
    pub(crate) fn alarms(&self, me: &LocalNode, follows: bool) -> Vec<String> {
        let mut texts: Vec<String> = Vec::new();
        // Who has a leader is a member; whoever does not know its key has yet to learn of it.
        let counts = |why: &&Outcast| !follows || **why != Outcast::UnknownKey;
        for text in self.0.values().filter(counts).filter_map(|why| in_words(*why, me)) {
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        texts
    }
}

/// What happened and what to do; `None` when it is the other node's trouble.
fn in_words(why: Outcast, me: &LocalNode) -> Option<String> {
    match why {
        Outcast::Removed(at) => Some(removed(me, at)),
        Outcast::UnknownKey => Some(format!(
            "a member does not know the key of {} (fingerprint {}): it was removed long ago, or its node.key \
             is another one than the cluster lists (`pickbox member list` on a member); to take part \
             again start it once with --join HOST:PORT --rejoin --token-file FILE",
            me.name, me.key
        )),
        Outcast::OtherEpoch(theirs) if theirs > me.epoch => Some(format!(
            "the cluster was founded anew without this node (epoch {theirs}, here {}): its folder is left \
             as it is; to take part again start it once with --join HOST:PORT --rejoin, from another host with --token-file \
             too",
            me.epoch
        )),
        Outcast::Twin => Some(format!(
            "another process runs with the state of {} and is connected: this one says nothing to anybody; one \
             of the two must go",
            me.name
        )),
        Outcast::OldState => Some(format!(
            "a member says that the state of {} is a copy or an old image; if others say so too it is given \
             up, and this node let in anew",
            me.name
        )),
        // The other node is the one that was left behind.
        Outcast::OtherEpoch(_) => None,
    }
}

/// What a node that was removed is told.
pub(crate) fn removed(me: &LocalNode, at: Index) -> String {
    let entry = if at == Index::ZERO { String::new() } else { format!(" by entry {at}") };
    format!(
        "{} (number {}) was removed from the cluster{entry}: its folder is left as it is; to take part \
         again start it once with --join HOST:PORT --rejoin, from another host with --token-file too",
        me.name, me.node
    )
}

#[cfg(test)]
mod tests {
    use pickbox_raft_core::ids::{ClusterId, Epoch, Fingerprint, Incarnation};

    use pickbox_raft_core::members::{Member, MemberRole};

    use super::*;
    use crate::runs::Lineage;

    fn me() -> LocalNode {
        LocalNode {
            cluster: ClusterId::default(),
            epoch: Epoch::ZERO,
            node: NodeId::new(3),
            name: "node3".to_owned(),
            address: "host:3".to_owned(),
            incarnation: Incarnation::new(9),
            lineage: Lineage::of(Incarnation::new(9)),
            key: Fingerprint::default(),
        }
    }

    /// Fault 67: a run that was told of another one is silent until everybody who told it that
    /// welcomes it, or is a member no more.
    #[test]
    fn a_twin_is_one_until_all_who_said_so_welcome_it() {
        let (one, two) = (NodeId::new(1), NodeId::new(2));
        let mut refusals = Refusals::default();
        assert!(!refusals.is_twin());
        refusals.note(one, Outcast::Twin, &me());
        refusals.note(two, Outcast::Twin, &me());
        assert_eq!(refusals.alarms(&me(), false).len(), 1, "it is told once");
        refusals.heal(one);
        assert!(refusals.is_twin());
        let members = Members::bootstrap("node1".into(), "host:1".into(), Fingerprint::default());
        refusals.keep(&members);
        assert!(!refusals.is_twin() && refusals.alarms(&me(), false).is_empty());
    }

    /// fault 68: one member that says so does not make a node give up its state; a majority does, or
    /// all others there are.
    #[test]
    fn a_state_is_old_if_enough_say_so() {
        let member = |id| Member {
            id: NodeId::new(id),
            name: format!("node{id}"),
            address: format!("host:{id}"),
            role: MemberRole::Voter,
            key: None,
        };
        for (voters, needed) in [(2, 1), (3, 2), (4, 3), (5, 3)] {
            let members =
                Members { members: (1..=voters).map(member).collect(), ..Members::default() };
            let mut refusals = Refusals::default();
            for by in 1..voters {
                refusals.note(NodeId::new(by), Outcast::OldState, &me());
                let agree = refusals.agree_on_old_state(&members, NodeId::new(voters));
                assert_eq!(agree, by >= needed, "{by} of {voters}");
            }
        }
    }

    /// A member that has yet to learn of this node's key is no reason to give this node up.
    #[test]
    fn who_has_a_leader_is_not_told_to_join_again() {
        let mut refusals = Refusals::default();
        refusals.note(NodeId::new(1), Outcast::UnknownKey, &me());
        assert!(refusals.alarms(&me(), true).is_empty());
        assert!(refusals.alarms(&me(), false)[0].contains("does not know the key"));
    }

    /// checklist 136: only who is left behind is told to join again.
    #[test]
    fn the_node_of_the_earlier_epoch_is_told() {
        let mut refusals = Refusals::default();
        refusals.note(NodeId::new(1), Outcast::OtherEpoch(Epoch::new(1)), &me());
        assert!(refusals.alarms(&me(), false)[0].contains("--rejoin"));
        let ahead = LocalNode { epoch: Epoch::new(2), ..me() };
        assert!(refusals.alarms(&ahead, false).is_empty());
    }
}
