//! Members that refuse this node, and what that means for it.

use std::collections::BTreeMap;

use pickbox_raft_core::ids::NodeId;
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
        self.0.values().any(|why| *why == Outcast::Removed)
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
        Outcast::Removed => Some(removed(me)),
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
pub(crate) fn removed(me: &LocalNode) -> String {
    format!(
        "{} (number {}) was removed from the cluster: its folder is left as it is; to take part again \
         start it once with --join HOST:PORT --rejoin",
        me.name, me.node
    )
}
