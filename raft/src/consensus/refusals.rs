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

    /// What to tell people, each thing once.
    pub(crate) fn alarms(&self, me: &LocalNode) -> Vec<String> {
        let mut texts: Vec<String> = Vec::new();
        for text in self.0.values().filter_map(|why| in_words(*why, me)) {
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
             as it is; to take part again start it once with --join HOST:PORT --rejoin",
            me.epoch
        )),
        Outcast::Twin => Some(format!(
            "another process runs with the state of {} and is connected: this one says nothing to anybody; one \
             of the two must go",
            me.name
        )),
        // The other node is the one that was left behind; or this run ends anyway.
        Outcast::OtherEpoch(_) | Outcast::OldState => None,
    }
}

/// What a node that was removed is told.
pub(crate) fn removed(me: &LocalNode, at: Index) -> String {
    let entry = if at == Index::ZERO { String::new() } else { format!(" by entry {at}") };
    format!(
        "{} (number {}) was removed from the cluster{entry}: its folder is left as it is; to take part \
         again start it once with --join HOST:PORT --rejoin",
        me.name, me.node
    )
}

#[cfg(test)]
mod tests {
    use pickbox_raft_core::ids::{ClusterId, Epoch, Fingerprint, Incarnation};

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
        assert_eq!(refusals.alarms(&me()).len(), 1, "it is told once");
        refusals.heal(one);
        assert!(refusals.is_twin());
        let members = Members::bootstrap("node1".into(), "host:1".into(), Fingerprint::default());
        refusals.keep(&members);
        assert!(!refusals.is_twin() && refusals.alarms(&me()).is_empty());
    }

    /// checklist 136: only who is left behind is told to join again.
    #[test]
    fn the_node_of_the_earlier_epoch_is_told() {
        let mut refusals = Refusals::default();
        refusals.note(NodeId::new(1), Outcast::OtherEpoch(Epoch::new(1)), &me());
        assert!(refusals.alarms(&me())[0].contains("--rejoin"));
        let ahead = LocalNode { epoch: Epoch::new(2), ..me() };
        assert!(refusals.alarms(&ahead).is_empty());
    }
}
