//! Which versions of a path there are and were, and what each held.

use pickbox_raft::core::ids::{Index as LogIndex, NodeId};

use super::ports::{Bytes, Made, VersionLine};
use super::{Engine, Fatal};
use crate::content_id::ContentId;
use crate::history_rows::{HistoryKey, HistoryOf, HistoryRow, Reason};
use crate::name::RelPath;
use crate::record::{Body, Record};

/// Versions listed at most.
const VERSIONS_MAX: usize = 1_000;
/// Rows looked through for the version of one moment: those that ended soonest after it.
const ROWS_AT_MAX: usize = 64;
/// Files asked for whether they hold a content.
const HOLDERS_MAX: usize = 8;

impl Engine {
    pub(super) fn author_name(&self, node: NodeId) -> String {
        // A founder opens its first run before the log has named any member.
        self.index.sessions().name_of(node, self.index.members())
    }

    fn current(&self, path: RelPath, record: &Record) -> VersionLine {
        let (content, size) = content_of(&record.body);
        VersionLine {
            path,
            index: record.version.get(record.author),
            content,
            size,
            author: self.author_name(record.author),
            mtime: mtime_of(&record.body, record.attributes.mtime),
            made: if record.conflict_of.is_some() { Made::Conflict } else { Made::Write },
            bytes: Bytes::Current,
        }
    }

    fn past(&mut self, row: HistoryRow) -> Result<VersionLine, Fatal> {
        let (content, size) = content_of(&row.body);
        let is_here = match content {
            Some(content) => size == 0 || self.has_bytes(content)?,
            None => true,
        };
        Ok(VersionLine {
            path: row.path,
            index: row.made,
            content,
            size,
            author: self.author_name(row.author),
            mtime: mtime_of(&row.body, row.attributes.mtime),
            made: if row.reason == Reason::Lost { Made::Conflict } else { Made::Write },
            bytes: if is_here { Bytes::Kept } else { Bytes::Gone },
        })
    }

    /// The line of what ended a version, where that made no other.
    fn deletion(&self, row: &HistoryRow) -> Option<VersionLine> {
        (row.reason == Reason::Deleted).then(|| VersionLine {
            path: row.path.clone(),
            index: row.key.index,
            content: None,
            size: 0,
            author: self.author_name(row.displaced_by),
            mtime: None,
            made: Made::Delete,
            bytes: Bytes::Gone,
        })
    }

    /// Whether a file here, or our own store, holds a content, as far as is known without reading.
    fn has_bytes(&mut self, content: ContentId) -> Result<bool, Fatal> {
        let staged = super::stage::whole_name(content);
        if self.history.has(content) || self.staging.stat(&staged).is_ok() {
            return Ok(true);
        }
        for id in self.index.holders_of_content(content, HOLDERS_MAX)? {
            if let Some(local) = self.row_of(id)?
                && self.row(local)?.and_then(|row| row.content()) == Some(content)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The versions of a path, newest first: of the file that is there now over all its names,
    /// and of those that were there before.
    pub(super) fn versions(&mut self, path: &RelPath) -> Result<Vec<VersionLine>, Fatal> {
        let mut rows = self.index.newest_history(&HistoryOf::Path(path), VERSIONS_MAX)?;
        let mut lines = Vec::new();
        if let Some(id) = self.index.resolve(path)?
            && let Some(record) = self.index.record(id)?
        {
            lines.push(self.current(path.clone(), &record));
            rows.extend(self.index.newest_history(&HistoryOf::File(id), VERSIONS_MAX)?);
        }
        rows.sort_by_key(|row| std::cmp::Reverse(row.key));
        rows.dedup_by_key(|row| row.key);
        for row in rows {
            if lines.len() >= VERSIONS_MAX {
                break;
            }
            lines.extend(self.deletion(&row));
            lines.push(self.past(row)?);
        }
        lines.truncate(VERSIONS_MAX);
        Ok(lines)
    }

    /// What a path held when entry `index` had been applied; what that entry made there, if it
    /// made anything.
    pub(super) fn version_at(
        &self,
        path: &RelPath,
        index: LogIndex,
    ) -> Result<Option<Body>, Fatal> {
        let before = LogIndex::new(index.get().saturating_sub(1));
        let after = Some(HistoryKey { index: before, ordinal: u32::MAX });
        let ended_since = |of| self.index.history(&of, after, ROWS_AT_MAX);
        let mut rows = ended_since(HistoryOf::Path(path))?;
        let mut current = None;
        if let Some(id) = self.index.resolve(path)? {
            rows.extend(ended_since(HistoryOf::File(id))?);
            current = self.index.record(id)?;
        }
        let made = current.as_ref().map(|record| record.version.get(record.author));
        if let Some(row) = rows.iter().find(|row| row.made == index && made != Some(index)) {
            return Ok(Some(row.body.clone()));
        }
        if let Some(record) = current.filter(|_| made.is_some_and(|made| made <= index)) {
            return Ok(Some(record.body));
        }
        Ok(rows.into_iter().find(|row| row.was_current_at(index)).map(|row| row.body))
    }

    /// Where a content is or was, what is current first.
    pub(super) fn find(&mut self, content: ContentId) -> Result<Vec<VersionLine>, Fatal> {
        let mut lines = Vec::new();
        for id in self.index.holders_of_content(content, VERSIONS_MAX)? {
            if let (Some(record), Some(path)) = (self.index.record(id)?, self.index.path_of(id)?) {
                lines.push(self.current(path, &record));
            }
        }
        for row in self.index.newest_history(&HistoryOf::Content(content), VERSIONS_MAX)? {
            lines.push(self.past(row)?);
        }
        Ok(lines)
    }
}

fn content_of(body: &Body) -> (Option<ContentId>, u64) {
    match body {
        Body::File { size, content } => (Some(*content), *size),
        Body::Directory | Body::Symlink { .. } => (None, 0),
    }
}

/// Times of directories are each node's own.
fn mtime_of(body: &Body, mtime: crate::time::Time) -> Option<crate::time::Time> {
    (*body != Body::Directory).then_some(mtime)
}
