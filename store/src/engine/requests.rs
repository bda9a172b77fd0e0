//! What clients ask: writes through the log, and which versions there are.

use pickbox_raft::core::ids::{Index as LogIndex, NodeId};

use super::ports::{Answer, Query, Request, VersionLine};
use super::{ApiWrite, Engine, Fatal};
use crate::content_id::ContentId;
use crate::history_rows::{HistoryOf, HistoryRow, Reason};
use crate::name::RelPath;
use crate::op::{Incoming, Op};
use crate::record::{Attributes, Body, Record};
use crate::time::Time;

/// Most bytes of one file written through the API: it travels inside one entry.
pub const API_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of writes that may wait; one more is answered `Busy`.
const API_WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Versions listed at most.
const VERSIONS_MAX: usize = 1_000;
/// Mode of a file that a client made.
const API_MODE: u16 = 0o644;

/// One version, current or not.
struct Version {
    line: VersionLine,
    body: Body,
    until: Option<LogIndex>,
}

impl Engine {
    pub(super) fn request(&mut self, request: Request) -> Result<(), Fatal> {
        match request.query.clone() {
            Query::Put { path, data } => self.put(request, path, data),
            Query::Remove { path } => {
                self.take_write(ApiWrite { request, op: Op::Remove { path } });
            }
            Query::Status => {
                let status = self.store_status()?;
                (request.reply)(Answer::Status(Box::new(status)));
            }
            Query::Log(path) => {
                let versions = self.versions(&path)?;
                let lines: Vec<_> = versions.into_iter().map(|version| version.line).collect();
                let found = !lines.is_empty();
                (request.reply)(if found { Answer::Versions(lines) } else { Answer::NotFound });
            }
            Query::Cat { path, index, offset } => self.cat(request, &path, index, offset)?,
            Query::Find(content) => {
                let lines = self.find(content)?;
                let found = !lines.is_empty();
                (request.reply)(if found { Answer::Versions(lines) } else { Answer::NotFound });
            }
        }
        Ok(())
    }

    fn put(&mut self, request: Request, path: RelPath, data: Vec<u8>) {
        let now = pickbox_raft::clock::wall();
        let mtime = Time {
            secs: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
            nanos: now.subsec_nanos(),
        };
        let size = u64::try_from(data.len()).unwrap_or(u64::MAX);
        let body = Body::File { size, content: ContentId::of(&data) };
        let attributes = Attributes { mode: API_MODE, mtime };
        let op = Op::Put { path, new: Incoming { body, attributes, inline: Some(data) } };
        self.take_write(ApiWrite { request, op });
    }

    fn take_write(&mut self, write: ApiWrite) {
        if write.bytes() > API_BYTES_MAX + 8192
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
        self.give_up_cats();
    }

    fn author_name(&self, node: NodeId) -> String {
        let members = &self.index.members().members;
        let name = members.iter().find(|member| member.id == node).map(|member| &member.name);
        name.cloned().unwrap_or_else(|| format!("#{node}"))
    }

    fn current(&self, path: RelPath, record: &Record) -> Version {
        let made = record.version.get(record.author);
        let state = if record.conflict_of.is_some() { "conflict copy" } else { "current" };
        let (content, size) = content_of(&record.body);
        let author = self.author_name(record.author);
        let state = state.to_owned();
        let line = VersionLine { path, index: made, content, size, author, wall_ms: 0, state };
        Version { line, body: record.body.clone(), until: None }
    }

    fn past(&self, row: HistoryRow) -> Version {
        let (content, size) = content_of(&row.body);
        let until = row.key.index;
        let state = match row.reason {
            Reason::Replaced => format!("replaced at {until}"),
            Reason::Deleted => format!("deleted at {until}"),
            Reason::Lost => format!("lost a conflict at {until}"),
        };
        let author = self.author_name(row.author);
        let line = VersionLine {
            path: row.path,
            index: row.made,
            content,
            size,
            author,
            wall_ms: row.wall_ms,
            state,
        };
        Version { line, body: row.body, until: Some(until) }
    }

    /// The versions of a path, newest first: of the file that is there now over all its names,
    /// and of those that were there before.
    fn versions(&self, path: &RelPath) -> Result<Vec<Version>, Fatal> {
        let mut rows = self.index.history(&HistoryOf::Path(path), None, VERSIONS_MAX)?;
        let mut versions = Vec::new();
        if let Some(id) = self.index.resolve(path)?
            && let Some(record) = self.index.record(id)?
        {
            versions.push(self.current(path.clone(), &record));
            let of_file = self.index.history(&HistoryOf::File(id), None, VERSIONS_MAX)?;
            rows.extend(of_file);
        }
        rows.sort_by_key(|row| std::cmp::Reverse(row.key));
        rows.dedup_by_key(|row| row.key);
        versions.extend(rows.into_iter().map(|row| self.past(row)));
        Ok(versions)
    }

    fn find(&self, content: ContentId) -> Result<Vec<VersionLine>, Fatal> {
        let mut lines = Vec::new();
        for id in self.index.holders_of_content(content, VERSIONS_MAX)? {
            if let (Some(record), Some(path)) = (self.index.record(id)?, self.index.path_of(id)?) {
                lines.push(self.current(path, &record).line);
            }
        }
        let rows = self.index.history(&HistoryOf::Content(content), None, VERSIONS_MAX)?;
        lines.extend(rows.into_iter().rev().map(|row| self.past(row).line));
        Ok(lines)
    }

    /// What a path held when entry `index` had been applied.
    pub(super) fn version_at(
        &self,
        path: &RelPath,
        index: LogIndex,
    ) -> Result<Option<Body>, Fatal> {
        let wanted = self.versions(path)?.into_iter().find(|version| {
            version.line.index <= index && version.until.is_none_or(|until| index < until)
        });
        Ok(wanted.map(|version| version.body))
    }
}

fn content_of(body: &Body) -> (Option<ContentId>, u64) {
    match body {
        Body::File { size, content } => (Some(*content), *size),
        Body::Directory | Body::Symlink { .. } => (None, 0),
    }
}
