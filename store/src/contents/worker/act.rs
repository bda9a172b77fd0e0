//! Doing what the protocol asks.

use super::ContentWorker;
use super::jobs::{Finishing, Job, Origin};
use super::links::Outgoing;
use super::serve::{Served, offer_over};
use crate::content_id::{ContentId, INLINE_BYTES_MAX};
use crate::contents::Ticket;
use crate::contents::live::LiveFile;
use crate::contents::machine::{Action, Done, Durability, PullFailure, PullKey};
use crate::contents::staging::{Partial, remove_staged, store_small, sync_staged};
use crate::folder::Stat;
use crate::name::RelPath;

impl ContentWorker {
    /// Does one thing; what took no time is answered at once.
    pub(super) fn act(&mut self, action: Action, payload: &[u8]) -> Option<Done> {
        match action {
            Action::Send(to, message) => self.send(to, Outgoing::Plain(message)),
            Action::Answer { to, source, offset, len } => {
                self.send(to, Outgoing::Piece { source, offset, len });
            }
            Action::AnswerSmall { to, batch, contents } => {
                self.send(to, Outgoing::Small { batch, contents });
            }
            Action::OpenOffer { ticket, path, expect } => {
                return Some(self.open_offer(ticket, &path, expect));
            }
            Action::CloseOffer(ticket) => self.close_offer(ticket),
            Action::SyncLive(ticket) => return self.sync_live(ticket),
            Action::CopyOwn(ticket) => return self.copy_own(ticket),
            Action::Begin { pull, size } => return self.begin(pull, size),
            Action::Write(pull) => return self.write(pull, payload),
            Action::Finish { pull, expect, durability } => {
                self.finish(pull, expect, durability, Origin::Peers);
            }
            Action::Abandon(pull) => self.abandon(pull),
            Action::Local { content, size } => return self.local(content, size),
            Action::StoreSmall { content, offset, len } => {
                return Some(self.store_small(content, payload.get(offset..offset + len)));
            }
            Action::SyncStaged(content) => {
                return Some(match sync_staged(&self.parts.staging, content) {
                    Ok(()) => Done::Synced(content),
                    Err(_) => Done::StagedLost(content),
                });
            }
            Action::Remove(content) => remove_staged(&self.parts.staging, content),
            Action::Verify(content) => self.verify(content),
            Action::Tell(event) => self.tell(event),
        }
        None
    }

    fn open_offer(&mut self, ticket: Ticket, path: &RelPath, expect: Stat) -> Done {
        match LiveFile::open(&self.parts.folder, path, expect) {
            Ok(live) => {
                self.jobs.push(Job::hash_offer(ticket, live.clone()));
                let size = live.size();
                self.offers.insert(ticket, live);
                Done::Opened { ticket, size }
            }
            Err(error) => offer_over(ticket, error),
        }
    }

    fn close_offer(&mut self, ticket: Ticket) {
        self.offers.remove(&ticket);
        self.jobs.retain(|job| !job.is_of_offer(ticket));
    }

    fn sync_live(&mut self, ticket: Ticket) -> Option<Done> {
        let live = self.offers.get(&ticket)?;
        Some(match live.sync().and_then(|()| live.look()) {
            Ok(_) => Done::LiveSynced(ticket),
            Err(error) => offer_over(ticket, error),
        })
    }

    fn copy_own(&mut self, ticket: Ticket) -> Option<Done> {
        let live = self.offers.get(&ticket)?.clone();
        let key = PullKey::Own(ticket);
        self.copy(key, Served::Live(live), None, Durability::Synced)
    }

    /// Starts to copy a file of this node into staging.
    fn copy(
        &mut self,
        key: PullKey,
        source: Served,
        expect: Option<ContentId>,
        durability: Durability,
    ) -> Option<Done> {
        let partial = match Partial::create(&self.parts.staging, key, source.size()) {
            Ok(partial) => partial,
            Err(reason) => return Some(Done::PullFailed { pull: key, reason }),
        };
        let cloned = match &source {
            Served::Ours(file) => partial.clone_from(file),
            Served::Live(live) => partial.clone_from(live.file()),
        };
        self.partials.insert(key, partial);
        self.jobs.push(Job::copy(key, source, cloned, expect, durability));
        None
    }

    fn begin(&mut self, pull: PullKey, size: u64) -> Option<Done> {
        match Partial::create(&self.parts.staging, pull, size) {
            Ok(partial) => {
                self.partials.insert(pull, partial);
                None
            }
            Err(reason) => Some(Done::PullFailed { pull, reason }),
        }
    }

    fn write(&mut self, pull: PullKey, payload: &[u8]) -> Option<Done> {
        match self.partials.get_mut(&pull)?.write(payload) {
            Ok(()) => None,
            Err(reason) => {
                self.abandon(pull);
                Some(Done::PullFailed { pull, reason })
            }
        }
    }

    /// Puts a whole content into the next batch.
    pub(super) fn finish(
        &mut self,
        key: PullKey,
        expect: Option<ContentId>,
        durability: Durability,
        origin: Origin,
    ) {
        if let Some(partial) = self.partials.remove(&key) {
            self.finishing.push(Finishing { key, partial, expect, durability, origin });
        }
    }

    pub(super) fn abandon(&mut self, key: PullKey) {
        self.jobs.retain(|job| !job.is_copy_of(key));
        if let Some(partial) = self.partials.remove(&key) {
            partial.remove(&self.parts.staging);
        }
        let staging = &self.parts.staging;
        self.finishing.retain(|finishing| {
            let other = finishing.key != key;
            if !other {
                finishing.partial.remove(staging);
            }
            other
        });
    }

    /// Looks for a wanted content on this node.
    fn local(&mut self, content: ContentId, size: u64) -> Option<Done> {
        let key = PullKey::Content(content);
        let absent = Some(Done::PullFailed { pull: key, reason: PullFailure::NotHere });
        if size <= INLINE_BYTES_MAX {
            return match self.read_small(content) {
                Some(bytes) => Some(self.store_small(content, Some(&bytes))),
                None => absent,
            };
        }
        match self.open_elsewhere(content) {
            Some(source) if source.size() == size => {
                self.copy(key, source, Some(content), Durability::Cached)
            }
            _ => absent,
        }
    }

    fn store_small(&mut self, content: ContentId, bytes: Option<&[u8]>) -> Done {
        let pull = PullKey::Content(content);
        let bytes = bytes.unwrap_or_default();
        let size = u64::try_from(bytes.len()).unwrap_or_default();
        match store_small(&self.parts.staging, content, bytes) {
            Ok(()) => Done::Stored { pull, content, size },
            Err(reason) => Done::PullFailed { pull, reason },
        }
    }

    fn verify(&mut self, content: ContentId) {
        self.stop_serving(content);
        if let Some(file) = self.parts.history.open_object(content)
            && !self.jobs.iter().any(|job| job.is_verify_of(content))
        {
            self.jobs.push(Job::verify(content, file));
        }
    }
}
