//! What is known of a path: gathered here, asked of the others, put together when they have answered
//! or a short time is over.

use std::collections::BTreeMap;

use pickbox_raft::core::ids::NodeId;

use super::left_out::LeftOut;
use super::place::Why;
use super::ports::{Answer, Request};
use super::questions::Question;
use super::{Engine, Fatal};
use crate::folder::{self, FolderError};
use crate::history_rows::{HistoryOf, Reason as Ended};
use crate::ignored::RuleRef;
use crate::lease::Lease;
use crate::name::RelPath;
use crate::placed::LocalId;
use crate::record::{Body, FileId, Record};
use crate::why::{
    Agreed, Deleted, Disk, Kind, NodeFacts, REASONS_MAX, Reason, Stands, Thing, WhyReport,
};

/// How long the others may take to answer.
pub(super) const OTHERS_MS: u64 = 1_000;
/// Questions of clients that wait for the others at a time; one more is answered `Busy`.
pub(super) const WHYS_MAX: usize = 64;

/// A client's question, until the others have answered.
#[derive(Debug)]
struct Asked {
    request: Request,
    report: WhyReport,
    until_ms: u64,
    /// Who has not answered, and where the answer goes.
    missing: BTreeMap<NodeId, usize>,
}

/// Questions on their way.
#[derive(Debug, Default)]
pub(super) struct Whys {
    asked: BTreeMap<u64, Asked>,
    last: u64,
}

impl Whys {
    pub(super) fn len(&self) -> usize {
        self.asked.len()
    }
}

impl Engine {
    /// Takes a question in: of how a path is.
    pub(super) fn why(&mut self, request: Request, path: &RelPath) -> Result<(), Fatal> {
        if self.barriers.whys.len() >= WHYS_MAX {
            (request.reply)(Answer::Busy);
            return Ok(());
        }
        let mut report = WhyReport {
            path: path.to_string(),
            node: self.name.clone(),
            agreed: self.agreed_at(path)?,
            deleted: self.deleted_at(path)?,
            here: self.facts_of(path)?,
            others: Vec::new(),
        };
        self.barriers.whys.last += 1;
        let number = self.barriers.whys.last;
        let mut missing = BTreeMap::new();
        for (at, peer) in self.peers().into_iter().enumerate() {
            report.others.push((self.member_name(peer), None));
            missing.insert(peer, at);
            self.ask_peer(peer, number, Question::Why { path: path.clone() })?;
        }
        let until_ms = self.now_ms.saturating_add(OTHERS_MS);
        self.barriers.whys.asked.insert(number, Asked { request, report, until_ms, missing });
        Ok(())
    }

    /// Another node tells its facts.
    pub(super) fn why_told(&mut self, from: NodeId, number: u64, facts: NodeFacts) {
        let Some(asked) = self.barriers.whys.asked.get_mut(&number) else { return };
        if let Some(at) = asked.missing.remove(&from)
            && let Some((_, slot)) = asked.report.others.get_mut(at)
        {
            *slot = Some(facts);
        }
    }

    /// Nothing can be sent to a node: its facts are not waited for.
    pub(super) fn why_untold(&mut self, peer: NodeId) {
        for asked in self.barriers.whys.asked.values_mut() {
            asked.missing.remove(&peer);
        }
    }

    /// Answers those that wait for nobody any more.
    pub(super) fn whys_turn(&mut self) {
        let now = self.now_ms;
        let is_over = |asked: &mut Asked| asked.missing.is_empty() || asked.until_ms <= now;
        let over = self.barriers.whys.asked.extract_if(.., |_, asked| is_over(asked));
        for (_, Asked { request, report, .. }) in over {
            (request.reply)(Answer::Why(Box::new(report)));
        }
    }

    /// Answers all with what is known.
    pub(super) fn give_up_whys(&mut self) {
        for (_, Asked { request, report, .. }) in std::mem::take(&mut self.barriers.whys.asked) {
            (request.reply)(Answer::Why(Box::new(report)));
        }
    }

    fn record_at(&self, path: &RelPath) -> Result<Option<(FileId, Record)>, Fatal> {
        let Some(id) = self.index.resolve(path)? else { return Ok(None) };
        Ok(self.index.record(id)?.map(|record| (id, record)))
    }

    fn agreed_at(&self, path: &RelPath) -> Result<Option<Agreed>, Fatal> {
        let Some((id, record)) = self.record_at(path)? else { return Ok(None) };
        let made = record.version.get(record.author);
        // What was there before was displaced when this came.
        let former = self.index.newest_history(&HistoryOf::File(id), 1)?;
        let wall_ms = former.first().filter(|row| row.key.index == made).map(|row| row.wall_ms);
        let version = record.version.counters();
        Ok(Some(Agreed {
            thing: thing(&record),
            author: self.author_name(record.author),
            changed: record.changed.get(),
            wall_ms,
            mtime: (record.body != Body::Directory).then_some(record.attributes.mtime.secs),
            version: version.map(|(node, index)| (self.author_name(node), index.get())).collect(),
        }))
    }

    fn deleted_at(&self, path: &RelPath) -> Result<Option<Deleted>, Fatal> {
        if self.index.resolve(path)?.is_some() {
            return Ok(None);
        }
        let rows = self.index.newest_history(&HistoryOf::Path(path), 1)?;
        let last = rows.first().filter(|row| row.reason == Ended::Deleted);
        Ok(last.map(|row| Deleted {
            index: row.key.index.get(),
            author: self.author_name(row.displaced_by),
            wall_ms: row.wall_ms,
        }))
    }

    /// How a path is on this node.
    pub(super) fn facts_of(&mut self, path: &RelPath) -> Result<NodeFacts, Fatal> {
        let record = self.record_at(path)?;
        let stat = self.stat_of(path);
        let row = self.resolve_local(path)?.filter(|id| *id != LocalId::ROOT);
        let mut reasons = Vec::new();
        self.general_reasons(&mut reasons);
        self.left_out_reasons(path, &mut reasons);
        let is_directory = stat.as_ref().is_ok_and(|stat| stat.kind == folder::Kind::Directory);
        if let Some(RuleRef { file, line, pattern }) = self.ignored_here(path, is_directory)? {
            reasons.push(Reason::Ignored { file: file.to_string(), line: line.into(), pattern });
        }
        self.outward_reasons(path, row, stat.as_ref().ok(), &mut reasons)?;
        if let Some((id, record)) = &record {
            self.inward_reasons(*id, &mut reasons);
            self.conflict_reasons(*id, record, &mut reasons)?;
        }
        reasons.truncate(REASONS_MAX);
        let disk = match stat {
            Ok(stat) => {
                let stands = stands(&stat);
                let as_agreed = self.is_what_is_agreed(row, record.as_ref(), &stat)?;
                if as_agreed { Disk::AsAgreed(stands) } else { Disk::Other(stands) }
            }
            Err(FolderError::Absent(_) | FolderError::NotDirectory(_)) => Disk::Nothing,
            Err(error) => Disk::Unreadable(error.errno().raw_os_error()),
        };
        Ok(NodeFacts {
            applied: self.index.position().index.get(),
            placed: self.placed_index().get(),
            version: record.map(|(_, record)| thing(&record)),
            disk,
            reasons,
        })
    }

    fn stat_of(&self, path: &RelPath) -> Result<folder::Stat, FolderError> {
        match path.split() {
            None => self.folder.root().stat_self(),
            Some((parent, name)) => self.folder.dir(&parent)?.stat(&name),
        }
    }

    fn is_what_is_agreed(
        &mut self,
        row: Option<LocalId>,
        record: Option<&(FileId, Record)>,
        stat: &folder::Stat,
    ) -> Result<bool, Fatal> {
        let Some((id, record)) = record else { return Ok(false) };
        if *id == FileId::ROOT {
            return Ok(true);
        }
        let Some(row) = (match row {
            Some(row) => self.row(row)?,
            None => None,
        }) else {
            return Ok(false);
        };
        let base = row.base.is_some_and(|base| base.id == *id);
        let seen = row.seen.is_some_and(|seen| {
            let same = seen.stat.same_inode(stat)
                && (stat.kind == folder::Kind::Directory || seen.stat.same_content_hint(stat));
            same && seen.body.as_ref() == Some(&record.body)
        });
        Ok(base && seen)
    }

    fn general_reasons(&self, reasons: &mut Vec<Reason>) {
        if !self.has_scanned() {
            reasons.push(Reason::Starting);
        }
        if let Some(why) = self.standstill() {
            reasons.push(Reason::Standstill(why));
        }
    }

    /// Whether the path, or a directory above it, is left out.
    fn left_out_reasons(&self, path: &RelPath, reasons: &mut Vec<Reason>) {
        let mut at = path.clone();
        loop {
            if let Some(why) = self.left_out.get(&at) {
                let shown = at.to_string();
                reasons.push(match why {
                    LeftOut::Special => Reason::Special(shown),
                    LeftOut::Mounted => Reason::Mounted(shown),
                    LeftOut::Unreadable(errno) | LeftOut::Unlisted(errno) => {
                        Reason::Unreadable(shown, errno.raw_os_error())
                    }
                    LeftOut::TooLong => Reason::TooLong(shown),
                    LeftOut::LongRules | LeftOut::Refused(_) => Reason::Refused(why.to_string()),
                });
            }
            let Some((parent, _)) = at.split() else { return };
            at = parent;
        }
    }

    /// Why what stands here is not in the log.
    fn outward_reasons(
        &mut self,
        path: &RelPath,
        row: Option<LocalId>,
        stat: Option<&folder::Stat>,
        reasons: &mut Vec<Reason>,
    ) -> Result<(), Fatal> {
        if stat.is_some_and(|stat| stat.kind == folder::Kind::File) && self.is_open(path) {
            reasons.push(Reason::Open { by: Vec::new(), hidden: true });
        }
        let Some(id) = row else {
            if stat.is_some() && !path.is_root() && reasons.is_empty() {
                reasons.push(Reason::NotSeen);
            }
            return Ok(());
        };
        if let Some(hold) = self.hold_of(id) {
            reasons.push(Reason::Held(hold));
        }
        let before = reasons.len();
        if self.guard.is_fresh(id) {
            reasons.push(Reason::Weighed);
        }
        if self.flying.contains(&id) {
            reasons.push(Reason::Proposed);
        }
        if self.offers.contains_key(&id) {
            reasons.push(Reason::Offered(self.why_on_offer(id)));
        } else if self.outbox.contains(id) {
            reasons.push(Reason::NotProposed);
        }
        if self.looks.contains_key(&id) {
            reasons.push(Reason::LookedAtAgain);
        }
        if self.limbo.contains_key(&id) {
            reasons.push(Reason::MovedAway);
        }
        if reasons.len() > before && !self.knows_leader() {
            reasons.push(Reason::NoLeader);
        }
        let seen = self.row(id)?.and_then(|row| row.seen).map(|seen| seen.stat);
        let is_known = match (&seen, stat) {
            (Some(seen), Some(stat)) if stat.kind == folder::Kind::Directory => {
                seen.same_inode(stat)
            }
            (Some(seen), Some(stat)) => seen.same_content_hint(stat),
            (None, None) => true,
            _ => false,
        };
        if !is_known {
            reasons.push(Reason::ChangedSince);
        }
        Ok(())
    }

    /// Whether a program has a file open for writing, as far as a lease can tell.
    fn is_open(&self, path: &RelPath) -> bool {
        let Some((parent, name)) = path.split() else { return false };
        let file = self.folder.dir(&parent).and_then(|dir| dir.open_read(&name));
        file.is_ok_and(|file| file.lease() == Lease::Busy)
    }

    /// Why what the log has does not stand here.
    fn inward_reasons(&self, id: FileId, reasons: &mut Vec<Reason>) {
        match self.stuck.get(&id) {
            Some(Why::Content(content)) => {
                reasons.push(Reason::Content(self.transfers.why_missing(*content)));
            }
            Some(Why::Undecided) => reasons.push(Reason::EditFirst),
            Some(Why::Together) => reasons.push(Reason::Together),
            Some(Why::Blocked(error)) => {
                let number = error.errno().raw_os_error();
                reasons.push(Reason::Blocked(error.path().to_string(), number));
            }
            None if self.todo.since_of(id).is_some() => reasons.push(Reason::Placing),
            None => {}
        }
    }

    fn conflict_reasons(
        &mut self,
        id: FileId,
        record: &Record,
        reasons: &mut Vec<Reason>,
    ) -> Result<(), Fatal> {
        if let Some(of) = record.conflict_of {
            let path = self.index.path_of(of)?;
            reasons.push(Reason::CopyOf(path.map_or_else(String::new, |path| path.to_string())));
        }
        let mut copies = Vec::new();
        for line in &record.losing {
            copies.extend(self.index.path_of(line.copy)?.map(|path| path.to_string()));
        }
        if !copies.is_empty() {
            reasons.push(Reason::Copies(copies));
        }
        for local in self.quarantined.keys().copied().collect::<Vec<_>>() {
            if let Some(row) = self.row(local)?
                && row.base.as_ref().is_some_and(|base| base.id == id)
                && self.is_written_to(&row)
            {
                reasons.push(Reason::FormerOpen);
                break;
            }
        }
        Ok(())
    }
}

fn thing(record: &Record) -> Thing {
    let index = record.version.get(record.author).get();
    match &record.body {
        Body::File { size, content } => {
            let sha256 = Some(content.to_string());
            Thing { index, kind: Kind::File, size: *size, sha256 }
        }
        Body::Directory => Thing { index, kind: Kind::Directory, size: 0, sha256: None },
        Body::Symlink { target } => {
            let size = u64::try_from(target.len()).unwrap_or(u64::MAX);
            Thing { index, kind: Kind::Symlink, size, sha256: None }
        }
    }
}

fn stands(stat: &folder::Stat) -> Stands {
    let kind = match stat.kind {
        folder::Kind::File => Kind::File,
        folder::Kind::Directory => Kind::Directory,
        folder::Kind::Symlink => Kind::Symlink,
        folder::Kind::Special => Kind::Special,
    };
    Stands { kind, size: stat.size, mtime: stat.mtime.secs, ino: stat.ino, dev: stat.dev }
}
