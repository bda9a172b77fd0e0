//! Reading versions back, piece by piece.
//!
//! A piece is read from an open file at its offset: from the live file between two equal looks,
//! else from staging or history. Only what fits into one piece is hashed here; the reader of more
//! hashes all of it and compares with the SHA-256 that rides with each piece, so that a version of
//! any size costs this thread one read at a time. The content worker verifies a large object of
//! the history beside that, so that a rotten one is found, removed, and had from others next time.

use pickbox_raft::core::ids::Index as LogIndex;

use super::ports::{Answer, Outgoing, Piece, Request};
use super::{Engine, Fatal};
use crate::content_id::ContentId;
use crate::contents::live::{LiveFile, read_exact};
use crate::contents::{ContentCommand, FetchFailure};
use crate::folder::File;
use crate::name::RelPath;
use crate::placed::LocalId;
use crate::record::Body;

/// Most bytes of one piece.
pub const CAT_PIECE_BYTES: u64 = 256 * 1024;
/// Requests that may wait for a content.
const WAITING_MAX: usize = 64;
/// Contents kept open between the pieces of their readers: what was fetched for a reader lies
/// nowhere else, and what is in history may be evicted meanwhile.
const OPEN_MAX: usize = 8;
/// How long one is kept open after its last piece: as long as a client may be silent.
const OPEN_MS: u64 = 60_000;

/// Readers and what is open for them.
#[derive(Debug, Default)]
pub(super) struct State {
    open: Vec<OpenContent>,
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct OpenContent {
    content: ContentId,
    file: File,
    used_ms: u64,
}

/// A reader whose content is on its way here.
#[derive(Debug)]
struct Waiting {
    part: Part,
    request: Request,
}

/// Which part of which content.
#[derive(Clone, Copy, Debug)]
struct Part {
    content: ContentId,
    size: u64,
    offset: u64,
}

impl Part {
    fn len(&self) -> usize {
        let rest = self.size.saturating_sub(self.offset);
        usize::try_from(rest.min(CAT_PIECE_BYTES)).unwrap_or_default()
    }

    fn is_whole(&self) -> bool {
        self.offset == 0 && self.size <= CAT_PIECE_BYTES
    }

    /// Whether these bytes may be it: for a part of a larger content only its reader can tell.
    fn accepts(&self, data: &[u8]) -> bool {
        !self.is_whole() || ContentId::of(data) == self.content
    }

    fn read(&self, file: &File) -> Option<Vec<u8>> {
        let mut data = vec![0; self.len()];
        read_exact(file, &mut data, self.offset).ok()?;
        self.accepts(&data).then_some(data)
    }

    fn answer(&self, data: Vec<u8>) -> Answer {
        let Self { content, size, offset } = *self;
        Answer::Piece(Piece { size, offset, content: Some(content), data })
    }
}

impl State {
    /// Whether anything is kept open for its time.
    pub(super) fn is_active(&self) -> bool {
        !self.open.is_empty()
    }

    /// Remembers an open file; the one that was not used for longest makes room.
    fn keep(&mut self, content: ContentId, file: File, used_ms: u64) {
        self.open.retain(|open| open.content != content);
        if self.open.len() >= OPEN_MAX
            && let Some((at, _)) = self.open.iter().enumerate().min_by_key(|(_, open)| open.used_ms)
        {
            self.open.remove(at);
        }
        self.open.push(OpenContent { content, file, used_ms });
    }

    fn take_waiting(&mut self, content: ContentId) -> Vec<Waiting> {
        let (taken, rest) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|waiting| waiting.part.content == content);
        self.waiting = rest;
        taken
    }
}

impl Engine {
    /// Answers with a piece of the version that a path had when entry `index` was applied.
    pub(super) fn cat(
        &mut self,
        request: Request,
        path: &RelPath,
        index: LogIndex,
        offset: u64,
    ) -> Result<(), Fatal> {
        let answer = match self.version_at(path, index)? {
            None | Some(Body::Directory) => Answer::NotFound,
            Some(Body::Symlink { target }) => link_piece(&target, offset),
            Some(Body::File { size, content }) => {
                let part = Part { content, size, offset };
                match self.piece(part)? {
                    Some(data) => part.answer(data),
                    None if self.cats.waiting.len() >= WAITING_MAX => Answer::Busy,
                    None => {
                        self.cats.waiting.push(Waiting { part, request });
                        self.fetch_from(content, size, Vec::new());
                        return Ok(());
                    }
                }
            }
        };
        (request.reply)(answer);
        Ok(())
    }

    /// Bytes of a content, if this node has them.
    fn piece(&mut self, part: Part) -> Result<Option<Vec<u8>>, Fatal> {
        if part.len() == 0 {
            return Ok(Some(Vec::new()));
        }
        let now_ms = self.now_ms;
        if let Some(open) = self.cats.open.iter_mut().find(|open| open.content == part.content) {
            open.used_ms = now_ms;
            if let Some(data) = part.read(&open.file) {
                return Ok(Some(data));
            }
            self.cats.open.retain(|open| open.content != part.content);
        }
        for id in self.index.holders_of_content(part.content, 8)? {
            let Some(local) = self.row_of(id)? else { continue };
            if let Some(data) = self.live_piece(local, part)? {
                return Ok(Some(data));
            }
        }
        Ok(self.stored_piece(part))
    }

    /// From a file of the user's, if it holds that content and goes on doing so.
    fn live_piece(&mut self, local: LocalId, part: Part) -> Result<Option<Vec<u8>>, Fatal> {
        let Some(row) = self.row(local)?.filter(|row| row.content() == Some(part.content)) else {
            return Ok(None);
        };
        let (Some(seen), Some(path)) = (row.seen, self.path_of_row(local)?) else {
            return Ok(None);
        };
        let Ok(live) = LiveFile::open(&self.folder, &path, seen.stat) else { return Ok(None) };
        let data = part.read(live.file());
        Ok(data.filter(|_| live.look().is_ok()))
    }

    /// From our own files: kept open for what is read next.
    fn stored_piece(&mut self, part: Part) -> Option<Vec<u8>> {
        let is_it = |file: &File| file.stat().is_ok_and(|stat| stat.size == part.size);
        let staged = self.staging.open_read(&super::stage::whole_name(part.content)).ok();
        if let Some(file) = staged.filter(is_it)
            && let Some(data) = part.read(&file)
        {
            self.cats.keep(part.content, file, self.now_ms);
            return Some(data);
        }
        let file = self.history.open_object(part.content)?;
        let data = if is_it(&file) { part.read(&file) } else { None };
        if data.is_none() || !part.is_whole() {
            self.out.push_back(Outgoing::Content(ContentCommand::Verify(part.content)));
        }
        let data = data?;
        self.cats.keep(part.content, file, self.now_ms);
        Some(data)
    }

    /// A content has arrived in staging: those who wait to read it are answered.
    pub(super) fn answer_cats(&mut self, content: ContentId) -> Result<(), Fatal> {
        let ready = self.cats.take_waiting(content);
        if ready.is_empty() {
            return Ok(());
        }
        for Waiting { part, request } in ready {
            let data = self.piece(part)?;
            (request.reply)(match data {
                Some(data) => part.answer(data),
                None => Answer::Unavailable("its bytes did not verify".into()),
            });
        }
        if !self.stuck.values().any(|why| *why == super::place::Why::Content(content)) {
            self.out.push_back(Outgoing::Content(ContentCommand::Release(content)));
        }
        Ok(())
    }

    pub(super) fn fail_cats(&mut self, content: ContentId, reason: FetchFailure) {
        let why = match reason {
            FetchFailure::NobodyHasIt => "no node that can be reached has its bytes any more",
            FetchFailure::NobodyReachable => "no other node can be reached",
            FetchFailure::NoSpace => "the disk is full",
            FetchFailure::Disk => "the disk failed",
            FetchFailure::Busy => "too many contents are being fetched",
        };
        for Waiting { request, .. } in self.cats.take_waiting(content) {
            (request.reply)(Answer::Unavailable(why.into()));
        }
    }

    /// Tells every reader that waits that there will be nothing.
    pub(super) fn give_up_cats(&mut self) {
        for Waiting { request, .. } in self.cats.waiting.drain(..) {
            (request.reply)(Answer::Unavailable("the node is stopping".into()));
        }
    }

    /// An object of the history turned out to hold something else.
    pub(super) fn forget_open(&mut self, content: ContentId) {
        self.cats.open.retain(|open| open.content != content);
    }

    /// Closes what nobody read from for a while.
    pub(super) fn cats_tick(&mut self) {
        let now_ms = self.now_ms;
        self.cats.open.retain(|open| now_ms.saturating_sub(open.used_ms) < OPEN_MS);
    }
}

fn link_piece(target: &[u8], offset: u64) -> Answer {
    let size = u64::try_from(target.len()).unwrap_or(u64::MAX);
    let from = usize::try_from(offset).unwrap_or(usize::MAX).min(target.len());
    let data = target.get(from..).unwrap_or_default().to_vec();
    Answer::Piece(Piece { size, offset, content: None, data })
}
