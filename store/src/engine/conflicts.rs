//! Which conflicts are open, and the end of one by the word of a person.

use pickbox_raft::core::ids::Index as LogIndex;

use super::ports::{Answer, ConflictKey, ConflictLine, ConflictPage, ConflictSide, Query, Request};
use super::{ApiWrite, Engine, Fatal};
use crate::history_rows::{HistoryOf, HistoryRow};
use crate::name::RelPath;
use crate::op::{Known, Op};
use crate::record::{FileId, Record};

/// Conflicts in one page.
const PAGE_MAX: usize = 100;
/// Bytes of paths in one page: as JSON they may become eight times as long.
const PAGE_PATH_BYTES_MAX: usize = 64 * 1024;
/// Copies that are named when it is not clear which is meant: all that a file may have.
const NAMED_MAX: usize = crate::agreed::LOSING_LINES_MAX;

impl Engine {
    /// A page of the conflicts: those with a copy first, then those whose loser is in the history
    /// only; each by age.
    pub(super) fn conflicts(&mut self, after: Option<ConflictKey>) -> Result<ConflictPage, Fatal> {
        let mut page = ConflictPage { open: self.index.counts().conflicts, ..Default::default() };
        let (copy, row) = match after {
            None => (None, None),
            Some(ConflictKey::Copy(id)) => (Some(id), None),
            Some(ConflictKey::Lost(key)) => (None, Some(key)),
        };
        let mut room = PAGE_PATH_BYTES_MAX;
        if row.is_none() {
            for id in self.index.copies(copy, PAGE_MAX + 1)? {
                let Some(line) = self.conflict_of_copy(id)? else { continue };
                if !take_in(&mut page, line, ConflictKey::Copy(id), &mut room) {
                    return Ok(page);
                }
            }
        }
        for row in self.index.history(&HistoryOf::Lost, row, PAGE_MAX + 1)? {
            let key = row.key;
            let line = self.conflict_in_history(row)?;
            if !take_in(&mut page, line, ConflictKey::Lost(key), &mut room) {
                return Ok(page);
            }
        }
        // Nothing is behind the last one: a page that was cut short ended above.
        page.next = None;
        Ok(page)
    }

    fn conflict_of_copy(&self, copy: FileId) -> Result<Option<ConflictLine>, Fatal> {
        let Some(loser) = self.index.record(copy)? else { return Ok(None) };
        let Some(id) = loser.conflict_of else { return Ok(None) };
        let Some(winner) = self.index.record(id)? else { return Ok(None) };
        let Some(line) = winner.losing.iter().find(|line| line.copy == copy) else {
            return Ok(None);
        };
        Ok(Some(ConflictLine {
            path: self.index.path_of(id)?.unwrap_or_default(),
            copy: Some(self.index.path_of(copy)?.unwrap_or_default()),
            since: line.since,
            wall_ms: line.wall_ms,
            loser: self.side(&loser),
            winner: Some(self.side(&winner)),
        }))
    }

    fn conflict_in_history(&self, row: HistoryRow) -> Result<ConflictLine, Fatal> {
        let winner = self.index.record(row.file)?;
        let path = self.index.path_of(row.file)?.unwrap_or(row.path);
        let author = self.author_name(row.author);
        Ok(ConflictLine {
            path,
            copy: None,
            since: row.key.index,
            wall_ms: row.wall_ms,
            loser: ConflictSide { index: row.made, author, body: row.body },
            winner: winner.map(|winner| self.side(&winner)),
        })
    }

    fn side(&self, record: &Record) -> ConflictSide {
        ConflictSide {
            index: made(record),
            author: self.author_name(record.author),
            body: record.body.clone(),
        }
    }

    /// Proposes the end of a conflict, on the versions that are current here; the log has applied
    /// by now whatever was acknowledged before the person asked.
    pub(super) fn resolve(&mut self, request: Request) -> Result<(), Fatal> {
        let Query::Resolve { path, take, seen } = &request.query else { return Ok(()) };
        let (take, seen) = (*take, *seen);
        match self.conflict_at(path)? {
            Ok((file, copy)) => {
                let versions = [self.index.record(file)?, self.index.record(copy)?];
                let [Some(winner), Some(loser)] = versions else {
                    (request.reply)(Answer::NotFound);
                    return Ok(());
                };
                let is_other = seen.is_some_and(|seen| seen != (made(&winner), made(&loser)));
                if is_other || self.is_ahead(file)? || self.is_ahead(copy)? {
                    (request.reply)(Answer::Changed);
                    return Ok(());
                }
                let file = Known { id: file, version: winner.version };
                let copy = Known { id: copy, version: loser.version };
                self.take_write(ApiWrite::new(request, Op::Resolve { file, copy, take }));
            }
            Err(answer) => (request.reply)(answer),
        }
        Ok(())
    }

    /// The two files of the conflict that a path is about.
    fn conflict_at(&self, path: &RelPath) -> Result<Result<(FileId, FileId), Answer>, Fatal> {
        let Some(id) = self.index.resolve(path)? else { return Ok(Err(Answer::NotFound)) };
        let Some(record) = self.index.record(id)? else { return Ok(Err(Answer::NotFound)) };
        if let Some(winner) = record.conflict_of {
            return Ok(Ok((winner, id)));
        }
        Ok(match record.losing.as_slice() {
            [] => Err(Answer::NotFound),
            [line] => Ok((id, line.copy)),
            lines => {
                let mut paths = Vec::new();
                for line in lines.iter().take(NAMED_MAX) {
                    paths.extend(self.index.path_of(line.copy)?);
                }
                Err(Answer::Several(paths))
            }
        })
    }

    /// Whether the folder here holds a change of a file that the log does not have yet: then what
    /// the person sees is not what the log says.
    fn is_ahead(&mut self, id: FileId) -> Result<bool, Fatal> {
        let local = self.row_of(id)?;
        Ok(local.is_some_and(|local| self.outbox.contains(local) || self.is_in_flight(local)))
    }
}

/// The entry that made the version that a file is at.
fn made(record: &Record) -> LogIndex {
    record.version.get(record.author)
}

/// Puts a line into a page; `false` when the page is full, and says where it goes on.
fn take_in(
    page: &mut ConflictPage,
    line: ConflictLine,
    key: ConflictKey,
    room: &mut usize,
) -> bool {
    let copy = line.copy.as_ref().map_or(0, |copy| copy.as_bytes().len());
    let bytes = line.path.as_bytes().len() + copy;
    if page.conflicts.len() >= PAGE_MAX || (*room < bytes && !page.conflicts.is_empty()) {
        return false;
    }
    *room = room.saturating_sub(bytes);
    page.conflicts.push(line);
    page.next = Some(key);
    true
}
