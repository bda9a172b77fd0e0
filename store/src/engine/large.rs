//! Large files: brought to a majority before their change is proposed, fetched where they lack.

use std::collections::BTreeSet;

use pickbox_raft::core::ids::NodeId;

use super::ports::{Outgoing, WatchAsk};
use super::stage::content_of_whole;
use super::startup::names_in;
use super::{Engine, Fatal, Held, LOOK_MS, Look};
use crate::agreed::Touched;
use crate::content_id::ContentId;
use crate::contents::{
    ContentCommand, ContentEvent, FailReason, FetchFailure, OfferRequest, Quorum, Ticket,
};
use crate::name::RelPath;
use crate::placed::{LocalId, Placed};
use crate::record::{Body, FileId, Record};

/// Files asked for whether they still lack a content.
const HOLDERS_MAX: usize = 64;

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
        let (peers, quorum) = (self.peers(), self.quorum());
        self.offer_to(id, row, peers, quorum).map(drop)
    }

    /// The same, to these peers; the ticket of the offer unless it was made before.
    pub(super) fn offer_to(
        &mut self,
        id: LocalId,
        row: &Placed,
        peers: Vec<NodeId>,
        quorum: Quorum,
    ) -> Result<Option<Ticket>, Fatal> {
        let Some(seen) = &row.seen else { return Ok(None) };
        if let Some((ticket, offered)) = self.offers.get(&id) {
            // Of one that a majority holds nobody would tell again.
            let is_told = self.held.remove(&id).is_some();
            if offered.same_to_ctime(&seen.stat) && !is_told {
                return Ok(None);
            }
            let stale = *ticket;
            self.drop_offer(stale);
        }
        let Some(path) = self.path_of_row(id)? else { return Ok(None) };
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        let expect = seen.stat;
        self.offers.insert(id, (ticket, expect));
        self.tickets.insert(ticket, id);
        self.goes_out(id)?;
        let request = OfferRequest { ticket, path, expect, peers, quorum };
        self.out.push_back(Outgoing::Content(ContentCommand::Offer(request)));
        Ok(Some(ticket))
    }

    /// The members changed: what is on offer needs another majority, and other nodes have to hear
    /// of it.
    pub(super) fn regroup_offers(&mut self) {
        let quorum = self.quorum();
        let peers = self.peers();
        let tickets = self.tickets.keys().copied();
        let offered: Vec<_> = tickets.filter(|ticket| !self.is_read_alone(*ticket)).collect();
        for ticket in offered {
            let (peers, quorum) = (peers.clone(), quorum.clone());
            let regroup = ContentCommand::Regroup { ticket, peers, quorum };
            self.out.push_back(Outgoing::Content(regroup));
        }
    }

    pub(super) fn peers(&self) -> Vec<NodeId> {
        let members = self.index.members().members.iter();
        members.map(|member| member.id).filter(|peer| *peer != self.me).collect()
    }

    /// A node's new run is open: what its former one offered and never committed may go. What it
    /// did commit and this disk does not show yet is claimed first.
    pub(super) fn close_former(&mut self, origin: NodeId) -> Result<(), Fatal> {
        let session = self.index.sessions().get(origin);
        let Some(incarnation) = session.and_then(|session| session.closed.last().copied()) else {
            return Ok(());
        };
        for name in names_in(&self.staging)? {
            let Some(content) = content_of_whole(&name) else { continue };
            if let Some(size) = self.unplaced_size(content)? {
                // Answered at once, since it is there.
                let from = Vec::new();
                let fetch = ContentCommand::Fetch { content, size, from };
                self.out.push_back(Outgoing::Content(fetch));
            }
        }
        self.out.push_back(Outgoing::Content(ContentCommand::Close { origin, incarnation }));
        Ok(())
    }

    /// The size of a content that the log names for a file which this disk does not show yet.
    fn unplaced_size(&mut self, content: ContentId) -> Result<Option<u64>, Fatal> {
        for id in self.index.holders_of_content(content, HOLDERS_MAX)? {
            if !self.is_placed(id, content)?
                && let Some(Body::File { size, .. }) = self.index.record(id)?.map(|r| r.body)
            {
                return Ok(Some(size));
            }
        }
        Ok(None)
    }

    fn is_placed(&mut self, id: FileId, content: ContentId) -> Result<bool, Fatal> {
        let Some(local) = self.row_of(id)? else { return Ok(false) };
        Ok(self.row(local)?.and_then(|row| row.content()) == Some(content))
    }

    /// A version was superseded before it stood here: if its bytes are in staging they are history
    /// now; if they are on their way they are not waited for.
    pub(super) fn let_go_of(&mut self, touch: &Touched) -> Result<(), Fatal> {
        let Some(content) = content_of(touch.before.as_ref()) else { return Ok(()) };
        if content_of(touch.after.as_ref()) == Some(content) {
            return Ok(());
        }
        let staged = super::stage::whole_name(content);
        let is_here = self.staging.stat(&staged).is_ok();
        if !is_here && !self.transfers.fetching.contains(&content)
            || self.is_placed(touch.id, content)?
            || !self.index.holders_of_content(content, 1)?.is_empty()
        {
            return Ok(());
        }
        self.transfers.fetching.remove(&content);
        self.transfers.fetch_over(content);
        let mut command = ContentCommand::Release(content);
        if is_here {
            match self.history.keep(&self.staging, &staged, content) {
                Ok(_) => command = ContentCommand::Adopted(content),
                Err(error) => {
                    log::warn!("event=history_failed content={content} error=\"{error}\"");
                }
            }
        }
        self.out.push_back(Outgoing::Content(command));
        Ok(())
    }

    /// What a row had on offer is not wanted any more.
    pub(super) fn cancel_offer(&mut self, id: LocalId) {
        if let Some((ticket, _)) = self.offers.get(&id) {
            let ticket = *ticket;
            self.drop_offer(ticket);
        }
    }

    /// What a row has on offer ends when the row is not ahead of the log with that any more: once a
    /// majority holds it, the worker has nothing more to tell, and it would seem on its way for ever.
    pub(super) fn end_idle_offer(&mut self, id: LocalId, row: &Placed, is_ahead: bool) {
        let Some((_, offered)) = self.offers.get(&id) else { return };
        let is_the_same = row.seen.as_ref().is_some_and(|seen| {
            seen.stat.same_inode(offered) && seen.stat.same_content_hint(offered)
        });
        if !(is_ahead && is_the_same) {
            self.held.remove(&id);
            self.cancel_offer(id);
        }
    }

    fn drop_offer(&mut self, ticket: Ticket) {
        self.end_reading(ticket);
        if let Some(id) = self.tickets.remove(&ticket) {
            self.offers.remove(&id);
            self.transfers.offer_over(id);
            self.out.push_back(Outgoing::Content(ContentCommand::Cancel(ticket)));
        }
    }

    /// The change of a row is decided: its offer is over.
    pub(super) fn settle_offer(&mut self, id: LocalId) {
        if let Some((ticket, _)) = self.offers.remove(&id) {
            self.tickets.remove(&ticket);
            self.transfers.offer_over(id);
            self.out.push_back(Outgoing::Content(ContentCommand::Settle(ticket)));
        }
    }

    /// A row is gone: nothing of it is on its way any more.
    pub(super) fn forget_local(&mut self, id: LocalId) {
        self.cancel_offer(id);
        self.forget_rules_of(id);
        self.outbox.remove(id);
        self.guard.forget(id);
        self.strangers.remove(&id);
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
                if row.seen.as_ref().is_none_or(|seen| !seen.stat.same_inode(&stat)) {
                    // It was deleted or replaced meanwhile: those bytes are nobody's version.
                    self.drop_offer(ticket);
                    return self.settle(id);
                }
                let body = Some(Body::File { size, content });
                row.seen = Some(self.seen(stat, body, row.seen.as_ref()));
                self.set_row(id, Some(&row))?;
                if self.end_reading(ticket) {
                    self.drop_offer(ticket);
                    return self.settle(id);
                }
                self.racy.was_read(id);
                let holders = holders.into_iter().collect();
                self.held.insert(id, Held { content, holders });
                self.settle(id)?;
                if !self.outbox.contains(id) && !self.is_in_flight(id) {
                    self.settle_offer(id);
                }
            }
            ContentEvent::Staged { .. } => {}
            ContentEvent::Refused { ticket, peer, reason } => {
                self.offer_refused(ticket, peer, reason);
            }
            ContentEvent::Changed(ticket) => self.offer_failed(ticket)?,
            ContentEvent::Failed { ticket, reason } => {
                if let FailReason::Unreadable(why) = &reason {
                    log::warn!("event=offer_failed reason=\"{why}\"");
                }
                self.offer_failed(ticket)?;
            }
            ContentEvent::Fetched(content) => {
                self.transfers.fetching.remove(&content);
                self.transfers.fetch_over(content);
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
        self.end_reading(ticket);
        let Some(id) = self.tickets.remove(&ticket) else { return Ok(()) };
        self.offers.remove(&id);
        self.transfers.offer_over(id);
        self.held.remove(&id);
        if self.row(id)?.is_some_and(|row| row.seen.is_none()) {
            // It went, and that is known; another thing may be found by its name.
            return self.settle(id);
        }
        self.outbox.remove(id);
        self.look_again(id)
    }

    fn fetch_failed(&mut self, content: ContentId, reason: FetchFailure) {
        log::debug!("event=fetch_waits content={content} reason={reason:?}");
        self.fail_cats(content, reason);
        if reason == FetchFailure::Busy {
            self.transfers.fetching.remove(&content);
            return self.transfers.fetch_over(content);
        }
        self.transfers.fetch_waits(content, reason);
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
        let above = self.path_of_row(row.parent)?;
        self.looks.insert(id, Look { at_ms: self.now_ms + LOOK_MS, is_away: above.is_none() });
        if let Some(above) = above {
            self.ask_watch(WatchAsk::Examine(above.join(&row.name)));
        }
        Ok(())
    }

    /// Asks again for looks that nothing came of: the watcher may have been too busy.
    pub(super) fn retry_looks(&mut self) -> Result<(), Fatal> {
        let late: Vec<_> = self
            .looks
            .iter()
            .filter(|(_, look)| look.at_ms <= self.now_ms)
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            self.looks.remove(&id);
            if id == LocalId::ROOT {
                log::warn!("event=watch_busy action=\"the folder is walked\"");
                self.ask_watch(WatchAsk::Rescan(RelPath::root()));
                continue;
            }
            self.end_limbo(id)?;
        }
        Ok(())
    }
}

fn content_of(record: Option<&Record>) -> Option<ContentId> {
    match record?.body {
        Body::File { content, .. } => Some(content),
        Body::Directory | Body::Symlink { .. } => None,
    }
}
