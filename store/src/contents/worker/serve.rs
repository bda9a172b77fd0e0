//! Bytes for peers: out of a file on offer, out of staging, history, or a live file.

use super::ContentWorker;
use crate::content_id::{ContentId, INLINE_BYTES_MAX};
use crate::contents::live::{LiveFile, ReadError, read_exact};
use crate::contents::machine::{Done, Input};
use crate::contents::message::{Message, SmallItem, Source, encode};
use crate::contents::staging::open_staged;
use crate::contents::{SMALL_BATCH_BYTES, Ticket};
use crate::folder::File;

/// Files kept open between the pieces of a content.
const SERVED_MAX: usize = 16;

/// A file that holds a content.
#[derive(Debug)]
pub(super) enum Served {
    /// One of ours.
    Ours(File),
    /// The user's: it may change.
    Live(LiveFile),
}

impl Served {
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), ReadError> {
        match self {
            Self::Ours(file) => read_exact(file, buffer, offset),
            Self::Live(live) => {
                live.read(buffer, offset)?;
                live.look().map(|_| ())
            }
        }
    }

    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Ours(file) => file.stat().map_or(0, |stat| stat.size),
            Self::Live(live) => live.size(),
        }
    }
}

impl ContentWorker {
    /// The frame that answers a request for a piece.
    pub(super) fn piece(&mut self, source: Source, offset: u64, len: u32) -> Vec<u8> {
        let len = usize::try_from(len).unwrap_or(0);
        let mut frame = encode(&Message::Piece { source, offset }, len);
        let header = frame.len();
        frame.resize(header + len, 0);
        let read = match frame.get_mut(header..) {
            Some(buffer) if len > 0 => self.read_source(source, buffer, offset),
            _ => Err(ReadError::Changed),
        };
        match read {
            Ok(()) => frame,
            Err(_) => encode(&Message::Gone(source), 0),
        }
    }

    fn read_source(
        &mut self,
        source: Source,
        buffer: &mut [u8],
        offset: u64,
    ) -> Result<(), ReadError> {
        match source {
            Source::Offer(id) => self.read_offer(id.ticket, buffer, offset),
            Source::Content(content) => self.read_content(content, buffer, offset),
        }
    }

    fn read_offer(
        &mut self,
        ticket: Ticket,
        buffer: &mut [u8],
        offset: u64,
    ) -> Result<(), ReadError> {
        let live = self.offers.get(&ticket).ok_or(ReadError::Changed)?;
        let read = live.read(buffer, offset).and_then(|()| live.look());
        if let Err(error) = &read {
            let done = offer_over(ticket, error.clone());
            self.input(Input::Done(done), &[]);
        }
        read.map(|_| ())
    }

    fn read_content(
        &mut self,
        content: ContentId,
        buffer: &mut [u8],
        offset: u64,
    ) -> Result<(), ReadError> {
        if !self.served.iter().any(|(open, _)| *open == content) {
            let served = self.open_content(content).ok_or(ReadError::Changed)?;
            self.served.truncate(SERVED_MAX - 1);
            self.served.push_front((content, served));
        }
        let open = self.served.iter().find(|(open, _)| *open == content);
        let read = open.map_or(Err(ReadError::Changed), |(_, file)| file.read(buffer, offset));
        if read.is_err() {
            self.stop_serving(content);
        }
        read
    }

    /// Closes the file that a content was read from.
    pub(super) fn stop_serving(&mut self, content: ContentId) {
        self.served.retain(|(open, _)| *open != content);
    }

    /// A file of this node that holds a content.
    pub(super) fn open_content(&mut self, content: ContentId) -> Option<Served> {
        let staged = open_staged(&self.parts.staging, content);
        staged.map(Served::Ours).or_else(|| self.open_elsewhere(content))
    }

    /// The same, but not out of staging.
    pub(super) fn open_elsewhere(&mut self, content: ContentId) -> Option<Served> {
        if let Some(file) = self.parts.history.open_object(content) {
            return Some(Served::Ours(file));
        }
        let places = (self.parts.locate)(content);
        let folder = &self.parts.folder;
        let mut open = places.into_iter().map(|(path, stat)| LiveFile::open(folder, &path, stat));
        open.find_map(Result::ok).map(Served::Live)
    }

    /// The frame that answers a request for small contents.
    pub(super) fn small(&mut self, batch: u64, contents: &[ContentId]) -> Vec<u8> {
        let (mut items, mut gone, mut payload) = (Vec::new(), Vec::new(), Vec::new());
        for content in contents {
            match self.read_small(*content) {
                None => gone.push(*content),
                Some(bytes) if payload.len() + bytes.len() <= SMALL_BATCH_BYTES => {
                    let len = u32::try_from(bytes.len()).unwrap_or_default();
                    items.push(SmallItem { content: *content, len });
                    payload.extend_from_slice(&bytes);
                }
                // No room: asked for again.
                Some(_) => break,
            }
        }
        let mut frame = encode(&Message::Small { batch, items, gone }, payload.len());
        frame.extend_from_slice(&payload);
        frame
    }

    /// The bytes of a small content, if a file here holds them.
    pub(super) fn read_small(&mut self, content: ContentId) -> Option<Vec<u8>> {
        let served = self.open_content(content)?;
        let size = served.size();
        if size > INLINE_BYTES_MAX {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(size).ok()?];
        served.read(&mut bytes, 0).ok()?;
        (ContentId::of(&bytes) == content).then_some(bytes)
    }
}

/// What the protocol is told when an offered file can no longer be read as expected.
pub(super) fn offer_over(ticket: Ticket, error: ReadError) -> Done {
    match error {
        ReadError::Changed => Done::OfferChanged(ticket),
        ReadError::Unreadable(words) => Done::OfferUnreadable(ticket, words),
    }
}
