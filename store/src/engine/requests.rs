//! What clients ask, and their writes through the log.

use super::outbox::wall_time;
use super::ports::{Answer, Freshness, Query, Request};
use super::{ApiWrite, Engine, Fatal};
use crate::content_id::ContentId;
use crate::ignored::{IGNORE_BYTES_MAX, is_ignore_file};
use crate::name::RelPath;
use crate::op::{CHANGE_BYTES_MAX, Incoming, Op};
use crate::record::{Attributes, Body};

/// Most bytes of one file written through the API, and of its path and frame: it travels inside
/// one entry.
const API_WRITE_BYTES_MAX: usize = CHANGE_BYTES_MAX;
/// Bytes of writes that may wait; one more is answered `Busy`.
const API_WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Mode of a file that a client made.
const API_MODE: u16 = 0o644;

impl Engine {
    pub(super) fn request(&mut self, request: Request) -> Result<(), Fatal> {
        match request.query.clone() {
            Query::Put { path, data } => {
                if let Some(rule) = self.ignored_in_log(&path, false)? {
                    (request.reply)(Answer::Ignored(rule));
                } else if is_too_long(&path, &data) {
                    (request.reply)(Answer::RulesTooLong);
                } else {
                    self.put(request, path, data);
                }
            }
            Query::Remove { path } => {
                if let Some(rule) = self.ignored_in_log(&path, false)? {
                    (request.reply)(Answer::Ignored(rule));
                    return Ok(());
                }
                self.take_write(ApiWrite::new(request, Op::Remove { path }));
            }
            Query::Status => {
                let status = self.store_status()?;
                (request.reply)(Answer::Status(Box::new(status)));
            }
            Query::Held => {
                let holds = self.holds()?;
                (request.reply)(Answer::Held(holds));
            }
            Query::Approve(choice) => {
                let answer = self.approve(&choice)?;
                (request.reply)(answer);
            }
            Query::Reject(choice) => {
                let answer = self.reject(&choice)?;
                (request.reply)(answer);
            }
            Query::Log(_)
            | Query::Cat { .. }
            | Query::Find(_)
            | Query::Conflicts(_)
            | Query::Resolve { .. } => self.read(request)?,
            Query::Why(path) => self.why(request, &path)?,
            Query::Flush { timeout_ms } => self.flush(request, timeout_ms),
            Query::Wait { index: Some(index), .. } => self.wait_for(request, index)?,
            Query::Wait { index: None, .. } => {
                // Only a majority can say what is committed.
                self.read(Request { freshness: Freshness::Fresh, ..request })?;
            }
        }
        Ok(())
    }

    fn put(&mut self, request: Request, path: RelPath, data: Vec<u8>) {
        let size = u64::try_from(data.len()).unwrap_or(u64::MAX);
        let body = Body::File { size, content: ContentId::of(&data) };
        let mtime = wall_time(&self.folder);
        let attributes = Attributes { mode: API_MODE, mtime, ..Attributes::default() };
        let op = Op::Put { path, new: Incoming { body, attributes, inline: Some(data) } };
        self.take_write(ApiWrite::new(request, op));
    }

    pub(super) fn take_write(&mut self, write: ApiWrite) {
        if !self.knows_leader() {
            write.answer(Answer::NoQuorum);
            return;
        }
        if write.bytes() > API_WRITE_BYTES_MAX
            || self.api_bytes + write.bytes() > API_WAITING_BYTES_MAX
        {
            write.answer(Answer::Busy);
            return;
        }
        self.api_bytes += write.bytes();
        self.api_writes.push_back(write);
    }

    /// Tells every client that waits that its outcome will not be known here.
    pub(super) fn give_up_requests(&mut self) {
        for write in self.api_writes.drain(..) {
            write.answer(Answer::Unavailable("the node is stopping".into()));
        }
        self.give_up_reads(&Answer::Unavailable("the node is stopping".into()));
        self.give_up_flushes(&Answer::Unavailable("the node is stopping".into()));
        self.give_up_whys();
        self.give_up_waits(&Answer::Unavailable("the node is stopping".into()));
        self.give_up_cats();
    }
}

/// Whether this would be a file of rules that cannot be in force.
fn is_too_long(path: &RelPath, data: &[u8]) -> bool {
    let is_long = u64::try_from(data.len()).is_ok_and(|size| size > IGNORE_BYTES_MAX);
    is_long && path.split().is_some_and(|(_, name)| is_ignore_file(&name))
}
