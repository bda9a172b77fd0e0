//! The rules of `.pickboxignore` as this node has them, and what follows when they change.
//!
//! In force is what the log has: the same on every node from the same entry on. What is ignored
//! is, for this node, asleep: nothing that happens there is taken in, nothing that the log says of
//! it is brought there, and its rows stay as they were. So a rule that goes is like a start after
//! a stop: disk and log are compared with what they had in common when the rule came. Things that
//! the log never heard of have no rows while they are ignored.
//!
//! A rule looks at paths. What stands on this disk is judged by its path here, what the log has by
//! its path there; the two differ only while a rename is under way:
//!
//! | path here | path in the log | then                                                          |
//! |-----------|-----------------|---------------------------------------------------------------|
//! | counts    | counts          | compared as ever                                              |
//! | ignored   | ignored or gone | asleep                                                        |
//! | ignored   | counts          | brought to its path in the log                                |
//! | counts    | ignored         | goes along to that path if it is free here, else to history   |
//!
//! A thing that a user moves to an ignored place is deleted for the log; one that comes out of
//! one is new to it. Apply knows nothing of all this.
//!
//! An edit of the rules made here is not in force before the log has it; until then what it would
//! ignore waits, so that rules and files that come together do not race each other.

mod edited;
mod ground;
mod review;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::review::Reach;
use super::ports::{Outgoing, WatchAsk};
use super::{Engine, Fatal};
use crate::agreed::Touched;
use crate::content_id::{ContentId, INLINE_BYTES_MAX};
use crate::ignored::{
    BadLine, IGNORE_BYTES_MAX, IGNORE_FILE, IGNORE_FILES_MAX, Ignored, RuleRef, Rules,
    is_ignore_file,
};
use crate::name::{Name, RelPath};
use crate::op::{Change, Op};
use crate::placed::{LocalId, Placed};
use crate::record::{Body, FileId, Record};

/// The row of the engine's own table with the rules that the log has, as of the index.
const IGNORE_ROW: &str = "ignore";

/// A file of rules that the log has.
#[derive(Clone, Debug)]
struct RuleFile {
    /// The directory that it speaks of.
    dir: FileId,
    content: ContentId,
    size: u64,
    rules: Arc<Rules>,
}

/// As [`RuleFile`], in the index: its number, directory, content, size, and bytes if known.
#[derive(Debug, Serialize, Deserialize)]
struct Stored(FileId, FileId, ContentId, u64, Option<Vec<u8>>);

/// What the node knows of the rules.
#[derive(Debug, Default)]
pub(super) struct Ignoring {
    /// By the number of the file of rules; the first made come first.
    files: BTreeMap<FileId, RuleFile>,
    /// Their directories, and those above: when one of these moves, so does what is said.
    dirs: BTreeSet<FileId>,
    /// The rules by the paths that the log has...
    agreed: Arc<Ignored>,
    /// ...and by those of this disk.
    here: Arc<Ignored>,
    /// Whether a directory moved since these were put together.
    stale: bool,
    /// Whether the watcher does not know what `here` says.
    untold: bool,
    /// Rules edited here that the log does not have yet, by the row of their file.
    edited: BTreeMap<LocalId, Arc<Rules>>,
    /// Directories that the log has deleted and that hold nothing but ignored things.
    kept: BTreeSet<LocalId>,
    /// Whether the folder has been walked since the last rules became known.
    walk: Walk,
}

/// A walk of the whole folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Walk {
    #[default]
    Done,
    Asked,
    Started,
}

/// The rules before a change of them.
#[derive(Debug)]
struct Former {
    agreed: Arc<Ignored>,
    here: Arc<Ignored>,
}

impl Ignoring {
    fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The watcher was too busy to hear of the rules.
    pub(super) fn not_told(&mut self) {
        self.untold = true;
    }

    /// Whether there may be things in the folder that nobody looked at because rules were not known.
    pub(super) fn is_walk_owed(&self) -> bool {
        self.walk != Walk::Done
    }

    /// A walk of the folder begins.
    pub(super) fn walk_started(&mut self) {
        if self.walk == Walk::Asked {
            self.walk = Walk::Started;
        }
    }

    /// A walk of the folder is over.
    pub(super) fn walk_done(&mut self) {
        if self.walk == Walk::Started {
            self.walk = Walk::Done;
        }
    }

    /// Whether anything is to be tried again.
    pub(super) fn waits_for_time(&self) -> bool {
        self.untold || self.files.values().any(|file| file.rules.text().is_none())
    }

    fn former(&self) -> Former {
        Former { agreed: self.agreed.clone(), here: self.here.clone() }
    }
}

impl Engine {
    /// The line that ignores a path of the log, if one does: what STATUS, WHY and refusals name.
    pub(super) fn ignored_in_log(
        &mut self,
        path: &RelPath,
        is_dir: bool,
    ) -> Result<Option<RuleRef>, Fatal> {
        if self.ignoring.is_empty() {
            return Ok(None);
        }
        self.refresh_rules()?;
        Ok(self.ignoring.agreed.by(path, is_dir))
    }

    /// The line that ignores a path of this disk, if one does.
    pub(super) fn ignored_here(
        &mut self,
        path: &RelPath,
        is_dir: bool,
    ) -> Result<Option<RuleRef>, Fatal> {
        if self.ignoring.is_empty() {
            return Ok(None);
        }
        self.refresh_rules()?;
        Ok(self.ignoring.here.by(path, is_dir))
    }

    /// Reads what the index has of the rules; of an index that never had any, or a whole state
    /// that was just put in force, all records are looked through once.
    pub(super) fn load_rules(&mut self) -> Result<(), Fatal> {
        let stored = self.meta(IGNORE_ROW)?;
        let stored: Option<Vec<Stored>> =
            stored.and_then(|bytes| postcard::from_bytes(&bytes).ok());
        let Some(stored) = stored else { return self.find_rules() };
        for Stored(id, dir, content, size, text) in stored {
            let rules = Arc::new(match text {
                _ if size > IGNORE_BYTES_MAX => Rules::too_long(),
                Some(text) => Rules::parse(&text),
                None => Rules::unknown(),
            });
            self.ignoring.files.insert(id, RuleFile { dir, content, size, rules });
        }
        self.ignoring.stale = true;
        Ok(())
    }

    /// Looks through all records for files of rules.
    pub(super) fn find_rules(&mut self) -> Result<(), Fatal> {
        self.ignoring.files.clear();
        let mut after = None;
        loop {
            let page = self.index.records(after, 1024)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            for (id, record) in page.iter().filter(|(_, record)| is_ignore_file(&record.name)) {
                self.take_rules(*id, record, None)?;
            }
        }
        self.ignoring.stale = true;
        self.store_rules()
    }

    fn store_rules(&mut self) -> Result<(), Fatal> {
        let stored: Vec<_> = self
            .ignoring
            .files
            .iter()
            .map(|(id, file)| {
                Stored(
                    *id,
                    file.dir,
                    file.content,
                    file.size,
                    file.rules.text().map(<[u8]>::to_vec),
                )
            })
            .collect();
        let bytes = postcard::to_allocvec(&stored).map_err(|_| Fatal::Encode)?;
        self.index_changed = true;
        self.set_meta(IGNORE_ROW, &bytes)
    }

    /// A change of the log: if it made, edited, moved or deleted rules, or moved a directory with
    /// rules, they are what it made of them before anything else is done about it.
    pub(super) fn rules_touched(
        &mut self,
        change: &Change,
        touched: &[Touched],
    ) -> Result<(), Fatal> {
        let is_file = |record: &Option<Record>| {
            record.as_ref().is_some_and(|record| {
                is_ignore_file(&record.name) && matches!(record.body, Body::File { .. })
            })
        };
        let mut review = Vec::new();
        for touch in touched {
            if is_file(&touch.before) || is_file(&touch.after) {
                review.extend(self.rule_file_touched(change, touch)?);
            } else if !self.ignoring.is_empty() {
                review.extend(self.directory_touched(touch));
            }
        }
        if review.is_empty() {
            return Ok(());
        }
        let before = self.ignoring.former();
        self.refresh_rules()?;
        for (dir, reach) in review {
            self.review(dir, reach, &before)?;
        }
        Ok(())
    }

    fn rule_file_touched(
        &mut self,
        change: &Change,
        touch: &Touched,
    ) -> Result<Vec<(FileId, Reach)>, Fatal> {
        let former = self.ignoring.files.get(&touch.id).cloned();
        match touch.after.as_ref().filter(|after| is_ignore_file(&after.name)) {
            Some(after) => {
                let inline = change.ops.get(touch.op).and_then(inline_of);
                self.take_rules(touch.id, after, inline)?;
            }
            None => drop(self.ignoring.files.remove(&touch.id)),
        }
        self.ignoring.stale = true;
        self.store_rules()?;
        let now = self.ignoring.files.get(&touch.id);
        Ok(match (&former, now) {
            (Some(old), Some(new)) if (old.dir, old.content) == (new.dir, new.content) => vec![],
            (Some(old), Some(new)) if old.dir == new.dir => {
                vec![(new.dir, Reach::between(&old.rules, &new.rules))]
            }
            (old, new) => {
                let gone = old.as_ref().map(|old| (old.dir, Reach::TakesBack));
                let none = Rules::parse(&[]);
                let come = new.map(|new| (new.dir, Reach::between(&none, &new.rules)));
                gone.into_iter().chain(come).collect()
            }
        })
    }

    /// A directory that the log moved may have gone to, or come from, where it is ignored.
    fn directory_touched(&mut self, touch: &Touched) -> Option<(FileId, Reach)> {
        let after = touch.after.as_ref().filter(|after| after.body == Body::Directory)?;
        let before = touch.before.as_ref()?;
        if (before.parent, &before.name) == (after.parent, &after.name) {
            return None;
        }
        self.ignoring.stale = true;
        Some((touch.id, Reach::Moves))
    }

    fn take_rules(
        &mut self,
        id: FileId,
        record: &Record,
        inline: Option<&[u8]>,
    ) -> Result<(), Fatal> {
        let Body::File { size, content } = record.body else { return Ok(()) };
        let rules = Arc::new(if size > IGNORE_BYTES_MAX {
            Rules::too_long()
        } else {
            let inline = inline.filter(|bytes| ContentId::of(bytes) == content).map(<[u8]>::to_vec);
            let text = match inline {
                Some(text) => Some(text),
                None => self.find_rule_bytes(id, content)?,
            };
            text.map_or_else(Rules::unknown, |text| Rules::parse(&text))
        });
        for BadLine { line, why } in rules.bad() {
            log::warn!("event=bad_ignore_line file={id} line={line} error=\"{why}\"");
        }
        self.ignoring.files.insert(id, RuleFile { dir: record.parent, content, size, rules });
        Ok(())
    }

    /// The bytes of a file of rules, wherever they are at hand.
    fn find_rule_bytes(
        &mut self,
        id: FileId,
        content: ContentId,
    ) -> Result<Option<Vec<u8>>, Fatal> {
        if content == ContentId::of(&[]) {
            return Ok(Some(Vec::new()));
        }
        let known = self.ignoring.files.values().find(|file| file.content == content);
        if let Some(text) = known.and_then(|file| file.rules.text()) {
            return Ok(Some(text.to_vec()));
        }
        if let Some(bytes) = self.incoming.get(id, content) {
            return Ok(Some(bytes.to_vec()));
        }
        let is_it = |bytes: &Vec<u8>| ContentId::of(bytes) == content;
        let whole = super::stage::whole_name(content);
        let staged = self.staging.read_small(&whole, INLINE_BYTES_MAX).ok().and_then(|read| read.1);
        if let Some(bytes) = staged.filter(is_it) {
            return Ok(Some(bytes));
        }
        if let Some(local) = self.row_of(id)?
            && let Some(row) = self.row(local)?
            && let Ok(dir) = self.dir(row.parent)
            && let Some(bytes) =
                dir.read_small(&row.name, INLINE_BYTES_MAX).ok().and_then(|read| read.1)
            && is_it(&bytes)
        {
            return Ok(Some(bytes));
        }
        let bytes_max = usize::try_from(INLINE_BYTES_MAX).unwrap_or(usize::MAX);
        let kept = self.history.open_object(content);
        Ok(kept.and_then(|file| file.read_up_to(bytes_max).ok()).filter(is_it))
    }

    /// Goes on looking for the bytes of rules that are not known here, and for the watcher's ear.
    pub(super) fn rules_tick(&mut self) -> Result<(), Fatal> {
        if std::mem::take(&mut self.ignoring.untold) {
            self.tell_watcher();
            // It may have walked by the former ones meanwhile.
            self.ask_watch(WatchAsk::Rescan(RelPath::root()));
        }
        if !self.misses_rules() {
            return Ok(());
        }
        let unknown: Vec<_> = self
            .ignoring
            .files
            .iter()
            .filter(|(_, file)| file.rules.text().is_none())
            .map(|(id, _)| *id)
            .collect();
        for id in unknown {
            let Some(record) = self.index.record(id)? else { continue };
            let Body::File { content, size } = record.body else { continue };
            if let Some(bytes) = self.find_rule_bytes(id, content)? {
                let before = self.ignoring.former();
                self.take_rules(id, &record, Some(&bytes))?;
                self.ignoring.stale = true;
                self.store_rules()?;
                self.refresh_rules()?;
                self.review(record.parent, Reach::TakesBack, &before)?;
                self.walk_for_adoption();
            } else {
                self.fetch(content, size, &record);
            }
        }
        Ok(())
    }

    /// A folder that is being adopted was walked, or is, while nothing below these rules was looked
    /// at: what stands there is to be judged like the rest of it.
    fn walk_for_adoption(&mut self) {
        if self.adoption.is_some() {
            self.ignoring.walk = Walk::Asked;
            self.ask_watch(WatchAsk::Rescan(RelPath::root()));
        }
    }

    /// Whether rules are in force whose bytes are not here yet.
    pub(super) fn misses_rules(&self) -> bool {
        self.ignoring.files.values().any(|file| file.rules.text().is_none())
    }

    fn tell_watcher(&mut self) {
        let here = self.ignoring.here.clone();
        self.out.push_back(Outgoing::Watch(WatchAsk::Ignore(here)));
    }

    /// A directory of this disk has another path, or another number in the log.
    pub(super) fn rules_moved(&mut self, row: &Placed) {
        if self.ignoring.is_empty() {
            return;
        }
        let is_one = row.base.as_ref().is_some_and(|base| self.ignoring.dirs.contains(&base.id));
        self.ignoring.stale |= is_one;
    }

    /// Puts together what is said of which path.
    fn refresh_rules(&mut self) -> Result<(), Fatal> {
        if !std::mem::take(&mut self.ignoring.stale) {
            return Ok(());
        }
        let (mut agreed, mut here, mut dirs) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let files: Vec<_> = self
            .ignoring
            .files
            .values()
            .take(IGNORE_FILES_MAX)
            .map(|file| (file.dir, file.rules.clone()))
            .collect();
        for (dir, rules) in files {
            if let Some(path) = self.index.path_of(dir)? {
                agreed.insert(path, rules.clone());
            }
            let local = if dir == FileId::ROOT { Some(LocalId::ROOT) } else { self.row_of(dir)? };
            if let Some(local) = local
                && let Some(path) = self.path_of_row(local)?
            {
                here.insert(path, rules);
            }
            let mut at = dir;
            while dirs.insert(at) {
                let Some(record) = self.index.record(at)? else { break };
                at = record.parent;
            }
        }
        let here = Ignored::new(here);
        let is_news = *self.ignoring.here != here;
        self.ignoring.agreed = Arc::new(Ignored::new(agreed));
        self.ignoring.here = Arc::new(here);
        self.ignoring.dirs = dirs;
        if is_news {
            self.tell_watcher();
        }
        Ok(())
    }

    /// For STATUS: what is to be known about the rules.
    pub(super) fn ignore_lines(&mut self) -> Result<Vec<String>, Fatal> {
        let mut lines = Vec::new();
        self.refresh_rules()?;
        let agreed = self.ignoring.agreed.clone();
        for (dir, rules) in agreed.files() {
            let file = dir.join(&Name::made(IGNORE_FILE.to_owned()));
            if rules.text().is_none() {
                lines.push(format!("{file}: its content is on its way; all below waits"));
            }
            for BadLine { line, why } in rules.bad() {
                lines.push(match line {
                    0 => format!("{file}: not in force: {why}"),
                    line => format!("{file}:{line}: no rule: {why}"),
                });
            }
        }
        let files = self.ignoring.files.len();
        if files > IGNORE_FILES_MAX {
            lines.push(format!("{files} files {IGNORE_FILE}, {IGNORE_FILES_MAX} are in force"));
        }
        for id in self.ignoring.kept.clone() {
            let Some(row) = self.row(id)? else { continue };
            let is_back = match &row.base {
                Some(base) => self.index.record(base.id)?.is_some(),
                None => true,
            };
            if is_back {
                self.ignoring.kept.remove(&id);
            } else if let Some(path) = self.path_of_row(id)? {
                lines.push(format!("{path}: deleted elsewhere; here for the ignored files in it"));
            }
        }
        Ok(lines)
    }
}

fn inline_of(op: &Op) -> Option<&[u8]> {
    match op {
        Op::Create { new, .. } | Op::Replace { new, .. } | Op::Put { new, .. } => {
            new.inline.as_deref()
        }
        _ => None,
    }
}
