//! Large files: brought to a majority before their change is proposed, fetched where they lack.

use std::collections::BTreeSet;

use pickbox_raft::core::ids::NodeId;

use super::ports::Outgoing;
use super::{Engine, Fatal, Held, LOOK_MS};
use crate::contents::{
    ContentCommand, ContentEvent, FailReason, FetchFailure, OfferRequest, Quorum, Ticket,
};
use crate::placed::{LocalId, Placed, Seen};
use crate::record::Body;

impl Engine {
    pub(super) fn quorum(&self) -> Quorum {
        let members = self.index.members();
        let voters = members
            .members
            .iter()
            .filter(|member| member.role == pickbox_raft::core::members::MemberRole::Voter)
            .map(|member| member.id)
            .collect();
        Quorum { sets: vec![voters, members.outgoing_voters.clone()] }
    }

    pub(super) fn is_majority(&self, nodes: &BTreeSet<NodeId>) -> bool {
        self.quorum().satisfied(|node| nodes.contains(&node))
    }

    /// Starts to bring the file of a row to the others, unless that is under way.
    pub(super) fn offer(&mut self, id: LocalId, row: &Placed) -> Result<(), Fatal> {
        let Some(seen) = &row.seen else { return Ok(()) };
        if let Some((ticket, offered)) = self.offers.get(&id) {
            if offered.same_to_ctime(&seen.stat) {
                return Ok(());
            }
            let stale = *ticket;
            self.drop_offer(stale);
        }
        let Some(path) = self.path_of_row(id)? else { return Ok(()) };
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        let peers = self.index.members().members.iter().map(|member| member.id);
        let peers = peers.filter(|peer| *peer != self.me).collect();
        let (expect, quorum) = (seen.stat, self.quorum());
        self.offers.insert(id, (ticket, expect));
        self.tickets.insert(ticket, id);
        let request = OfferRequest { ticket, path, expect, peers, quorum };
        self.out.push_back(Outgoing::Content(ContentCommand::Offer(request)));
        Ok(())
    }

    fn drop_offer(&mut self, ticket: Ticket) {
        if let Some(id) = self.tickets.remove(&ticket) {
            self.offers.remove(&id);
            self.out.push_back(Outgoing::Content(ContentCommand::Cancel(ticket)));
        }
    }

    /// The change of a row is decided: its offer is over.
    pub(super) fn settle_offer(&mut self, id: LocalId) {
        if let Some((ticket, _)) = self.offers.remove(&id) {
            self.tickets.remove(&ticket);
            self.out.push_back(Outgoing::Content(ContentCommand::Settle(ticket)));
        }
    }

    /// A row is gone: nothing of it is on its way any more.
    pub(super) fn forget_local(&mut self, id: LocalId) {
        if let Some((ticket, _)) = self.offers.get(&id) {
            let ticket = *ticket;
            self.drop_offer(ticket);
        }
        self.outbox.remove(id);
        self.data.remove(id);
        self.held.remove(&id);
        self.unsynced.remove(id);
        self.looks.remove(&id);
        self.refused_rows.remove(&id);
    }

    pub(super) fn content_event(&mut self, event: ContentEvent) -> Result<(), Fatal> {
        match event {
            ContentEvent::Held { ticket, content, size, stat, holders } => {
                let Some(id) = self.tickets.get(&ticket).copied() else { return Ok(()) };
                let Some(mut row) = self.row(id)? else { return Ok(()) };
                row.seen = Some(Seen { stat, body: Some(Body::File { size, content }) });
                let holders = holders.into_iter().collect();
                self.held.insert(id, Held { content, holders });
                self.set_row(id, Some(&row))?;
                self.settle(id)?;
                if !self.outbox.contains(id) && !self.is_in_flight(id) {
                    self.settle_offer(id);
                }
            }
            ContentEvent::Staged { .. } => {}
            ContentEvent::Changed(ticket) => self.offer_failed(ticket)?,
            ContentEvent::Failed { ticket, reason } => {
                if let FailReason::Unreadable(why) = &reason {
                    log::warn!("event=offer_failed reason=\"{why}\"");
                }
                self.offer_failed(ticket)?;
            }
            ContentEvent::Fetched(content) => {
                self.fetching.remove(&content);
                self.answer_cats(content)?;
                self.retry_stuck()?;
            }
            ContentEvent::FetchFailed { content, reason } => self.fetch_failed(content, reason),
            ContentEvent::Rotten(content) => {
                log::warn!("event=rotten_history content={content}");
                self.forget_open(content);
            }
            ContentEvent::Stopped(why) => return Err(Fatal::Worker(why)),
        }
        Ok(())
    }

    fn offer_failed(&mut self, ticket: Ticket) -> Result<(), Fatal> {
        let Some(id) = self.tickets.remove(&ticket) else { return Ok(()) };
        self.offers.remove(&id);
        self.held.remove(&id);
        self.outbox.remove(id);
        self.look_again(id)
    }

    fn fetch_failed(&mut self, content: crate::content_id::ContentId, reason: FetchFailure) {
        log::debug!("event=fetch_waits content={content} reason={reason:?}");
        self.fail_cats(content, reason);
        if reason == FetchFailure::Busy {
            self.fetching.remove(&content);
        }
    }

    /// Has the thing of a row read again; until that is done nothing is decided about it.
    pub(super) fn look_again(&mut self, id: LocalId) -> Result<(), Fatal> {
        let Some(mut row) = self.row(id)? else { return Ok(()) };
        if row.parent == LocalId::QUARANTINE {
            // The sweep reads what is there.
            if let Some(seen) = &mut row.seen {
                seen.body = None;
            }
            self.quarantined.entry(id).or_insert(self.now_ms);
            return self.set_row(id, Some(&row));
        }
        self.looks.insert(id, self.now_ms + LOOK_MS);
        self.ask_examine(row.parent, &row.name)
    }

    /// Asks again for looks that nothing came of: the watcher may have been too busy.
    pub(super) fn retry_looks(&mut self) -> Result<(), Fatal> {
        let late: Vec<_> =
            self.looks.iter().filter(|(_, at)| **at <= self.now_ms).map(|(id, _)| *id).collect();
        for id in late {
            self.looks.remove(&id);
            self.end_limbo(id)?;
        }
        Ok(())
    }
}
