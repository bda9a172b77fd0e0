//! Why contents do not move: what peers say of what they are offered, and how the search for what is
//! wanted goes (trap T21). The reasons are for people: nothing is decided by them.

use std::collections::{BTreeMap, HashMap, HashSet};

use pickbox_raft::core::ids::NodeId;

use super::Engine;
use super::together::Together;
use crate::content_id::ContentId;
use crate::contents::message::CannotTake;
use crate::contents::{FetchFailure, Ticket};
use crate::placed::LocalId;

/// What hinders contents on their way. No larger than what is on offer and what is fetched.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    /// Contents that the worker was asked for and did not bring yet.
    pub(super) fetching: HashSet<ContentId>,
    pub(super) together: Together,
    refused: HashMap<LocalId, BTreeMap<NodeId, CannotTake>>,
    missing: HashMap<ContentId, FetchFailure>,
}

impl Transfers {
    /// The offer of a row is over.
    pub(super) fn offer_over(&mut self, id: LocalId) {
        self.refused.remove(&id);
        self.together.offer_over(id);
    }

    /// A content came, or is not wanted any more.
    pub(super) fn fetch_over(&mut self, content: ContentId) {
        self.missing.remove(&content);
    }

    /// A content could not be had; it is tried again.
    pub(super) fn fetch_waits(&mut self, content: ContentId, why: FetchFailure) {
        self.missing.insert(content, why);
    }

    /// Why a content that is wanted is not here yet, in words that follow a path and a colon.
    pub(super) fn why_missing(&self, content: ContentId) -> String {
        let Some(why) = self.missing.get(&content) else {
            return format!("its content {content} is on its way");
        };
        match why {
            FetchFailure::NobodyHasIt => {
                format!("no node that can be reached has its content {content}: it is asked again")
            }
            FetchFailure::NobodyReachable => {
                format!("no node can be reached that may have its content {content}")
            }
            FetchFailure::NoSpace => {
                format!("this disk has no room for its content {content}: free some")
            }
            FetchFailure::Disk => {
                format!(
                    "this disk failed to store its content {content}: see the log of the kernel"
                )
            }
            FetchFailure::Busy => format!("its content {content} waits for others"),
        }
    }
}

impl Engine {
    /// A peer cannot take what it is offered.
    pub(super) fn offer_refused(&mut self, ticket: Ticket, peer: NodeId, reason: CannotTake) {
        let Some(id) = self.tickets.get(&ticket).copied() else { return };
        let former = self.transfers.refused.entry(id).or_default().insert(peer, reason);
        // It is asked every few seconds: only what is new is said.
        if former != Some(reason) && self.may_say() {
            let name = self.member_name(peer);
            let why = words(reason);
            log::warn!("event=content_refused ticket={} peer={name} reason=\"{why}\"", ticket.0);
        }
    }

    /// How far the content of a row is with the others, in words that follow a path and a colon.
    pub(super) fn why_on_offer(&self, id: LocalId) -> String {
        let mut lines = Vec::new();
        for (peer, reason) in self.transfers.refused.get(&id).into_iter().flatten() {
            lines.push(format!("{} {}", self.member_name(*peer), words(*reason)));
        }
        if lines.is_empty() {
            return "on its way to the others".to_owned();
        }
        format!("waits for a majority that can hold it: {}", lines.join(", "))
    }

    pub(super) fn member_name(&self, id: NodeId) -> String {
        let members = &self.index.members().members;
        let found = members.iter().find(|member| member.id == id);
        found.map_or_else(|| id.to_string(), |member| member.name.clone())
    }
}

/// What a node says of itself, behind its name.
fn words(reason: CannotTake) -> &'static str {
    match reason {
        CannotTake::NoSpace => "has no room for it",
        CannotTake::Busy => "is busy with others",
        CannotTake::Disk => "cannot write to its disk",
    }
}
