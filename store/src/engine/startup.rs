//! Finding out, at start, what this node had done and what happened while it was away.
//!
//! The index is as of the last checkpoint; the journal brings placed up to the moment of the stop
//! (a kill takes nothing from it). An intent without its row is settled by looking which inode is
//! there. What lies in staging or quarantine is never just deleted: what hashes to its name is
//! ours; anything else is a displaced edit.
//!
//! Nothing is compared before the log has been applied up to this run's own opening entry: then
//! everything that this node had proposed is decided, one way or the other.
//!
//! A power cut takes more: renames and bytes that were never synced, of placed files and of the
//! journal alike. After one (another boot or mount, and no mark of a clean stop) the files that
//! the log changed since the last checkpoint are *suspect*: their bytes are never proposed; if
//! they differ, the agreed version is placed again, and what was found goes to history. That a cut
//! was noticed is durable until the last suspect is settled, so that a kill meanwhile, or another
//! cut, takes nothing of it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use pickbox_raft::api::Command;
use pickbox_raft::core::ids::{
    ClusterId, Incarnation, Index as LogIndex, LogPosition, NodeId, Serial,
};
use pickbox_raft::core::log::{Payload, Proposal};
use pickbox_raft::core::members::Members;

use super::barriers::Barriers;
use super::brought::BroughtRule;
use super::checkpoint::{Cut, meta_of, set_meta_of};
use super::guard::Guard;
use super::ignoring::Ignoring;
use super::journal_file::JournalFile;
use super::left_out::AllLeftOut;
use super::lost::{INDEX, was_set_aside};
use super::outbox::wall_time;
use super::owners::Owners;
use super::ports::Outgoing;
use super::queue::{OrderedSet, SmallData};
use super::racy::Racy;
use super::reads::Reads;
use super::root::{self, FolderRule, Standing};
use super::rows::Actual;
use super::stage::Incoming;
use super::traffic::Traffic;
use super::unplaced::Unplaced;
use super::{
    Engine, Fatal, Phase, adopt, cat, catchup, checkpoint, compare, quorum, retention, space,
};
use crate::breaker::HoldRule;
use crate::content_id::ContentId;
use crate::contents::history::HistoryStore;
use crate::contents::staging::hash_file;
use crate::folder::{Accounts, Dir, Folder, FolderError, Kind, Stat};
use crate::index::Index;
use crate::name::{Name, RelPath};
use crate::owner::OwnerRule;
use crate::placed::journal::{self, Note, Replay, replay};
use crate::placed::{LocalId, Placed, Seen};
use crate::reconcile::Base;
use crate::record::{Body, FileId};

/// What the engine is opened with.
#[derive(Debug)]
pub struct Options {
    /// This node.
    pub me: NodeId,
    /// Its name.
    pub name: String,
    /// This run of it.
    pub incarnation: Incarnation,
    /// The users' folder.
    pub folder: Folder,
    /// Where our own files are.
    pub state: StateDir,
    /// Displaced versions.
    pub history: Arc<HistoryStore>,
    /// The cluster, for the mark on the folder.
    pub cluster: ClusterId,
    /// Which folder may be started on.
    pub folder_rule: FolderRule,
    /// What becomes of files that the node brings along at a join.
    pub brought: BroughtRule,
    /// When deletions are held for a person to decide.
    pub holds: HoldRule,
    /// Whether owners are kept.
    pub owners: OwnerRule,
    /// The users and groups of this host.
    pub accounts: Accounts,
}

/// The state directory, opened, with the directories that the store keeps there.
#[derive(Debug)]
pub struct StateDir {
    root: Folder,
    path: PathBuf,
}

impl StateDir {
    /// Opens it and makes what is missing in it.
    ///
    /// # Errors
    /// When it cannot be worked in.
    pub fn open(path: PathBuf) -> Result<Self, FolderError> {
        let root = Folder::open(&path)?;
        Self { root, path }.whole()
    }

    fn whole(self) -> Result<Self, FolderError> {
        for name in ["staging", "quarantine", "history"] {
            self.child(name)?;
        }
        Ok(self)
    }

    /// One on a simulated volume.
    ///
    /// # Errors
    /// As [`Self::open`].
    #[cfg(any(test, feature = "simulated"))]
    pub fn simulated(root: Folder) -> Result<Self, FolderError> {
        Self { root, path: PathBuf::new() }.whole()
    }

    /// One of its directories, made if missing.
    ///
    /// # Errors
    /// When it cannot be made or opened.
    pub fn child(&self, name: &str) -> Result<Dir, FolderError> {
        let name = Name::new(name).map_err(|_| FolderError::Absent(RelPath::root()))?;
        match self.root.root().mkdir(&name, 0o700) {
            Ok(dir) => Ok(dir),
            Err(FolderError::Exists(_)) => self.root.root().open_dir(&name),
            Err(error) => Err(error),
        }
    }

    /// Whether this and the folder lie apart on the disk, whatever their paths say: our own files
    /// must not be users' files.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn is_apart(&self, folder: &Folder) -> Result<bool, FolderError> {
        Ok(!folder.holds(self.root.root())? && !self.root.holds(folder.root())?)
    }

    /// The directory itself.
    pub(super) fn dir(&self) -> Result<Dir, FolderError> {
        self.root.dir(&RelPath::root())
    }

    /// Opens the index, or makes it.
    fn index(&self) -> Result<Index, Fatal> {
        #[cfg(any(test, feature = "simulated"))]
        if self.root.simulated().is_some() {
            let name = Name::new(INDEX).map_err(|_| FolderError::Absent(RelPath::root()))?;
            return Ok(Index::in_file(self.root.root().open_simulated(&name)?)?);
        }
        Ok(Index::open(&self.path.join(INDEX))?)
    }
}

/// Where the log has to go on, and who the members were there.
#[derive(Clone, Debug)]
pub struct Position {
    /// The last entry applied.
    pub applied: LogPosition,
    /// The members as of it; empty before the first entry.
    pub members: Members,
    /// Whether it was reached by a whole state: only then may the log end before it.
    pub installed: bool,
}

/// The row of the engine's own table that says where a whole state was put in force last.
const INSTALLED_ROW: &str = "installed";

/// Notes that what becomes durable next is a whole state of this position.
pub(super) fn note_installed(index: &Index, position: LogPosition) -> Result<(), Fatal> {
    let bytes = postcard::to_allocvec(&position).map_err(|_| Fatal::Encode)?;
    set_meta_of(index, INSTALLED_ROW, &bytes)
}

/// What is known before the engine stands.
struct Ground {
    standing: Standing,
    adoption: Option<adopt::Adoption>,
    /// A new journal.
    journal: JournalFile,
    /// What the former ones say. That is not true of another folder.
    former: Vec<Vec<u8>>,
}

impl Ground {
    fn look(options: &Options, index: &Index) -> Result<Self, Fatal> {
        let Options { cluster, me, state, .. } = options;
        let owner = root::Owner { cluster: *cluster, node: *me, former: was_set_aside(state)? };
        let rules = root::Rules { folder: options.folder_rule, brought: options.brought };
        let standing = root::check(index, &options.folder, owner, rules)?;
        let (journal, former) = JournalFile::open(state.root.root())?;
        let former = if standing == Standing::Anew { Vec::new() } else { former };
        Ok(Self { standing, adoption: adopt::under_way(index)?, journal, former })
    }
}

/// Reads where the index stands, before anything else is started.
///
/// # Errors
/// When the index cannot be opened.
pub fn open_index(state: &StateDir) -> Result<(Index, Position), Fatal> {
    // Made here, so that its mode is ours and not the library's: an empty file is a new index to it.
    let name = Name::new(INDEX).map_err(|_| FolderError::Absent(RelPath::root()))?;
    match state.dir()?.create_new(&name) {
        Ok(_) | Err(FolderError::Exists(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let index = state.index()?;
    let applied = index.position();
    let row = meta_of(&index, INSTALLED_ROW)?;
    let installed: Option<LogPosition> = row.and_then(|bytes| postcard::from_bytes(&bytes).ok());
    let installed = installed == Some(applied);
    let position = Position { applied, members: index.members().clone(), installed };
    Ok((index, position))
}

impl Engine {
    /// Brings placed up to date and stands ready for the log.
    ///
    /// # Errors
    /// When the index or the state directory fails, or the folder is another one.
    pub fn open(options: Options, index: Index) -> Result<Self, Fatal> {
        let mut ground = Ground::look(&options, &index)?;
        let former = std::mem::take(&mut ground.former);
        Self::on(ground, options, index)?.recover_rows(&former)
    }

    /// As nothing is known yet but the index.
    #[expect(clippy::too_many_lines, reason = "a line for each field")]
    fn on(ground: Ground, options: Options, index: Index) -> Result<Self, Fatal> {
        let Options { me, name, incarnation, folder, state, history, holds, .. } = options;
        Ok(Self {
            me,
            name,
            incarnation,
            now_ms: 0,
            next_tick_ms: 0,
            index,
            journal: ground.journal,
            journal_buffer: Vec::new(),
            next_local: LocalId::FIRST,
            staging: state.child("staging")?,
            quarantine: state.child("quarantine")?,
            history,
            folder,
            state,
            dirs: HashMap::new(),
            space: space::Space::default(),
            standing: ground.standing,
            owners: Owners::by(options.owners, options.accounts),
            outbox: OrderedSet::default(),
            guard: Guard::by(holds),
            repositories: super::git::Repositories::default(),
            flying: HashSet::new(),
            again: HashSet::new(),
            in_flight: None,
            former: None,
            landed: Vec::new(),
            landed_rows: Vec::new(),
            last_serial: Serial::ZERO,
            data: SmallData::default(),
            limbo: BTreeMap::new(),
            given_up: BTreeSet::new(),
            renamed: BTreeSet::new(),
            looks: BTreeMap::new(),
            unwritten: None,
            left_out: AllLeftOut::default(),
            open_for_writing: BTreeSet::new(),
            refused_rows: HashSet::new(),
            ignoring: Ignoring::default(),
            traffic: Traffic::default(),
            api_writes: VecDeque::new(),
            api_bytes: 0,
            retention: retention::State::default(),
            quorum: quorum::Quorum::default(),
            reads: Reads::of(incarnation),
            barriers: Barriers::default(),
            todo: Unplaced::default(),
            stuck: BTreeMap::new(),
            retried: None,
            incoming: Incoming::default(),
            quarantined: BTreeMap::new(),
            swept: LocalId::default(),
            placed_count: 0,
            offers: BTreeMap::new(),
            tickets: BTreeMap::new(),
            next_ticket: 0,
            held: HashMap::new(),
            transfers: super::transfers::Transfers::default(),
            cats: cat::State::default(),
            phase: Phase::Replaying,
            adoption: ground.adoption,
            strangers: BTreeSet::new(),
            suspects: BTreeSet::new(),
            racy: Racy::default(),
            cut_time: None,
            cut: None,
            recovered: 0,
            unsynced: checkpoint::Unsynced::default(),
            bytes_since_checkpoint: 0,
            index_changed: false,
            checkpoint: checkpoint::State::default(),
            catchup: catchup::State::default(),
            comparison: compare::Comparison::default(),
            reported: Default::default(),
            out: VecDeque::new(),
        })
    }

    fn recover_rows(mut self, former: &[Vec<u8>]) -> Result<Self, Fatal> {
        self.notice_power_cut()?;
        let mut before = BTreeMap::new();
        for bytes in former {
            let replayed = replay(bytes);
            if replayed.valid_bytes < bytes.len() {
                log::warn!(
                    "event=journal_cut valid_bytes={} bytes={}",
                    replayed.valid_bytes,
                    bytes.len()
                );
            }
            if let Some(flight) = &replayed.flight {
                self.former.clone_from(flight);
            }
            self.replay_rows(replayed, &mut before)?;
        }
        if let Some(note) = &self.former {
            // Its outcome is in the log that is applied next, or it never got in.
            self.flying.extend(note.rows.iter().flatten().map(|row| row.id));
            journal::encode(&Note::Flight(self.former.clone()), &mut self.journal_buffer);
            self.flush_journal()?;
            if !self.is_noted() {
                return Err(Fatal::Journal(std::io::ErrorKind::StorageFull.into()));
            }
        }
        let next = self.tables()?.next_id()?;
        self.next_local = next;
        self.load_rules()?;
        self.load_verdict()?;
        self.recover_staging(&before)?;
        self.recover_quarantine()?;
        self.begin_racy()?;
        self.index.checkpoint()?;
        let state = self.state.dir()?;
        self.journal.remove_older(&state)?;
        Ok(self)
    }

    /// Whether the last run ended in a way that may have taken what the page cache held.
    fn notice_power_cut(&mut self) -> Result<(), Fatal> {
        let now = crate::folder::medium(self.folder.root());
        let floor = self.meta("floor")?;
        self.checkpoint.floor =
            floor.and_then(|bytes| postcard::from_bytes(&bytes).ok()).unwrap_or_default();
        let mark = self.meta("mark")?;
        self.cut = self.open_cut()?;
        if mark.is_some_and(|mark| mark != b"clean" && mark != now.as_bytes()) {
            let time = wall_time(&self.folder);
            let floor = self.checkpoint.floor.index;
            let former = self.cut.take();
            let earlier = former.as_ref().and_then(|former| former.since);
            let since = Some(earlier.map_or(floor, |earlier| earlier.min(floor)));
            let left = former.map_or_else(Vec::new, |former| former.left);
            self.note_cut(Cut { since, time, left })?;
        }
        if let Some(Cut { since, time, left }) = &self.cut {
            self.cut_time = Some(*time);
            let since = since.map_or(String::from("-"), |since| since.to_string());
            log::warn!("event=power_cut changed_since={since} left={}", left.len());
        }
        self.set_meta("mark", now.as_bytes())
    }

    fn replay_rows(
        &mut self,
        replayed: Replay,
        before: &mut BTreeMap<FileId, Placed>,
    ) -> Result<(), Fatal> {
        for (id, row) in replayed.rows {
            self.tables()?.put(id, row.as_ref())?;
        }
        for (id, row) in replayed.intents {
            let Some(row) = self.exposed(row) else { continue };
            if let (Some(old), Some(base)) = (self.row(id)?, &row.base) {
                before.insert(base.id, old);
            }
            self.tables()?.put(id, Some(&row))?;
        }
        Ok(())
    }

    /// The row of an intent, if its thing is where it was to be.
    fn exposed(&mut self, mut row: Placed) -> Option<Placed> {
        let seen = row.seen.clone()?;
        let stat = match self.dir(row.parent) {
            Ok(dir) => dir.stat(&row.name).ok(),
            Err(_) => None,
        };
        let stat = stat.filter(|stat| stat.same_inode(&seen.stat))?;
        if stat.same_content_hint(&seen.stat) {
            row.seen = Some(Seen { stat, ..seen });
        }
        Some(row)
    }

    fn recover_staging(&mut self, before: &BTreeMap<FileId, Placed>) -> Result<(), Fatal> {
        for name in names_in(&self.staging)? {
            let text = String::from_utf8_lossy(name.as_bytes()).into_owned();
            if text.starts_with("c.") || text.starts_with("t.") {
                // The content worker's: it looks after them itself.
                continue;
            }
            let Ok(stat) = self.staging.stat(&name) else { continue };
            let file = parse_file_id(&text);
            let hash = text.rsplit('.').next().unwrap_or_default();
            self.recover_staged(&name, stat, file, hash, before)?;
        }
        Ok(())
    }

    fn recover_staged(
        &mut self,
        name: &Name,
        stat: Stat,
        file: Option<FileId>,
        hash: &str,
        before: &BTreeMap<FileId, Placed>,
    ) -> Result<(), Fatal> {
        if stat.kind == Kind::Directory {
            let _ = self.staging.rmdir(name);
            return Ok(());
        }
        let content = match stat.kind {
            Kind::File => self.hash_staged(name),
            _ => None,
        };
        let is_outgoing = name.as_bytes().windows(5).any(|part| part == b".out.");
        if let Some(content) = content
            && !is_outgoing
            && content.to_string().get(..16) == Some(hash)
        {
            // What its name says: made here from the log, never exposed. It can be made again.
            return match self.staging.unlink(name) {
                Ok(()) => Ok(()),
                Err(error) => Err(error.into()),
            };
        }
        if self.adopts_former() && !name.as_bytes().starts_with(b"k.") {
            // Whose it was nobody remembers; whether its bytes are known is told once the log is.
            let seen = self.seen(stat, None, None);
            return self.quarantine_it(name, seen, None);
        }
        let base = match file {
            Some(file) => match before.get(&file) {
                Some(old) => old.base.clone(),
                None => match self.row_of(file)? {
                    Some(local) => self.row(local)?.and_then(|row| row.base),
                    None => None,
                },
            },
            None => None,
        };
        let body = content.map(|content| Body::File { size: stat.size, content });
        let expected = base.as_ref().is_some_and(|base| Some(&base.view.body) == body.as_ref());
        if expected || base.is_none() {
            let seen = self.seen(stat, body, None);
            return self.retire(name, &seen, None);
        }
        let seen = self.seen(stat, None, None);
        self.retire(name, &seen, base)
    }

    fn hash_staged(&self, name: &Name) -> Option<ContentId> {
        let file = self.staging.open_read(name).ok()?;
        hash_file(&file).ok().map(|(content, _)| content)
    }

    fn recover_quarantine(&mut self) -> Result<(), Fatal> {
        for name in names_in(&self.quarantine)? {
            let known = self.row_at(LocalId::QUARANTINE, &name)?;
            if let Some((id, _)) = known {
                self.quarantined.insert(id, 0);
                continue;
            }
            let Ok(stat) = self.quarantine.stat(&name) else { continue };
            if stat.kind != Kind::File || self.adopts_former() {
                // The sweep brings it back into the folder, unless the log knows what it holds.
                let id = self.new_local();
                let seen = Some(self.seen(stat, None, None));
                let row =
                    Placed { parent: LocalId::QUARANTINE, name, seen, base: None, hold: None };
                self.set_row(id, Some(&row))?;
                self.quarantined.insert(id, 0);
                self.recovered += 1;
                continue;
            }
            // Its row did not survive: the bytes stay findable by their hash.
            let Ok(file) = self.quarantine.open_read(&name) else { continue };
            if let Ok((content, _)) = hash_file(&file)
                && let Err(error) = self.history.keep(&self.quarantine, &name, content)
            {
                log::warn!("event=history_failed content={content} error=\"{error}\"");
            }
            self.recovered += 1;
        }
        Ok(())
    }

    /// Asks for this run to be opened: the first of its proposals, which closes the former run.
    pub(super) fn ask_to_open(&mut self) {
        let proposal = Proposal {
            origin: self.me,
            incarnation: self.incarnation,
            serial: Serial::new(1),
            holders: None,
            payload: Payload::Open { name: self.name.clone() },
        };
        self.out.push_back(Outgoing::Log(Command::Propose(Arc::new(proposal))));
    }

    /// The log has caught up with this run's own opening: from here on disk and log are compared.
    pub(super) fn go_live(&mut self) -> Result<(), Fatal> {
        self.phase = Phase::Scanning;
        if self.former.take().is_some() {
            // It never got into the log: what it was about is compared like everything else.
            self.flying.clear();
            self.note_flight(None);
        }
        if let Some(Cut { since, left, .. }) = self.cut.clone() {
            for id in left {
                self.doubt(id)?;
            }
            if let Some(since) = since {
                self.find_suspects(since)?;
            }
        }
        // The watcher walks the folder at its start; what it saw waits until now.
        self.compare_all()
    }

    /// The files that the log changed since the disk was last known to be whole. Nothing that
    /// placed says of their bytes is believed.
    fn find_suspects(&mut self, floor: LogIndex) -> Result<(), Fatal> {
        let mut after = None;
        loop {
            let page = self.index.records(after, 1024)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(*last);
            for (id, record) in page {
                if record.changed <= floor || id == FileId::ROOT {
                    continue;
                }
                self.doubt(id)?;
            }
        }
    }

    fn doubt(&mut self, id: FileId) -> Result<(), Fatal> {
        self.suspects.insert(id);
        let Some(local) = self.row_of(id)? else { return Ok(()) };
        let Some(mut row) = self.row(local)? else { return Ok(()) };
        if let Some(seen) = &mut row.seen
            && seen.stat.kind == Kind::File
        {
            seen.body = None;
        }
        self.set_row(local, Some(&row))
    }

    pub(super) fn walk_done(&mut self, top: &RelPath, complete: bool) {
        if top.is_root() && self.is_live() {
            if !complete {
                log::warn!("event=scan_incomplete");
            }
            self.phase = Phase::Live;
        }
    }

    /// Which file of the log a power cut left this of, if it may be that and not an edit.
    pub(super) fn suspect(&mut self, row: &Placed) -> Result<Option<FileId>, Fatal> {
        let file = match &row.base {
            Some(base) => Some(base.id),
            None => self.namesake(row)?,
        };
        let Some(file) = file else { return Ok(None) };
        if self.suspects.remove(&file) {
            return Ok(Some(file));
        }
        let (Some(cut), Some(seen)) = (self.cut_time, &row.seen) else { return Ok(None) };
        if seen.stat.kind != Kind::File || seen.stat.size > 0 || seen.stat.ctime >= cut {
            return Ok(None);
        }
        let agreed = self.index.record(file)?.map(|record| record.body);
        Ok(matches!(agreed, Some(Body::File { size, .. }) if size > 0).then_some(file))
    }

    /// The file that the log has where a file stands here whose row the cut took.
    fn namesake(&mut self, row: &Placed) -> Result<Option<FileId>, Fatal> {
        let is_file = row.seen.as_ref().is_some_and(|seen| seen.stat.kind == Kind::File);
        if self.cut.is_none() || !is_file {
            return Ok(None);
        }
        let Some(parent) = self.file_of(row.parent)? else { return Ok(None) };
        let Some(file) = self.index.lookup(parent, &row.name)? else { return Ok(None) };
        Ok(self.row_of(file)?.is_none().then_some(file))
    }

    /// Whether the folder has been walked and nothing in it is in doubt any more.
    pub(super) fn is_cut_settled(&mut self) -> Result<bool, Fatal> {
        if !self.has_scanned() {
            return Ok(false);
        }
        let ids: Vec<_> = self.suspects.iter().copied().collect();
        for id in ids {
            if !self.stands_here(id)? || self.is_asleep(id)? {
                self.suspects.remove(&id);
            }
        }
        Ok(self.suspects.is_empty())
    }

    /// Whether a file of the log is on this disk, or something without a row at its name.
    fn stands_here(&mut self, id: FileId) -> Result<bool, Fatal> {
        if self.row_of(id)?.is_some() {
            return Ok(true);
        }
        let Some(record) = self.index.record(id)? else { return Ok(false) };
        let Some(parent) = self.row_of(record.parent)? else { return Ok(false) };
        Ok(self.row_at(parent, &record.name)?.is_some_and(|(_, row)| row.base.is_none()))
    }

    /// Puts the agreed version of `file` back over what a power cut left; that goes to history.
    pub(super) fn recover(
        &mut self,
        id: LocalId,
        mut row: Placed,
        file: FileId,
    ) -> Result<(), Fatal> {
        self.recovered += 1;
        match self.actual(&row)? {
            Actual::Gone | Actual::Unread => self.set_row(id, None)?,
            Actual::Known(view) => {
                let version = crate::record::VersionVector::default();
                row.base = Some(Base { id: file, view, version });
                self.set_row(id, Some(&row))?;
            }
        }
        log::info!("event=recovered file={file} name=\"{}\"", row.name);
        self.todo.insert(file);
        Ok(())
    }
}

pub(super) fn names_in(dir: &Dir) -> Result<Vec<Name>, Fatal> {
    dir.list()?.map(|entry| Ok(entry?.name)).collect()
}

/// The file of a staged name `EPOCH.INDEX.ORDINAL.CHANGED.HASH`.
fn parse_file_id(text: &str) -> Option<FileId> {
    let mut parts = text.split('.');
    Some(FileId {
        epoch: parts.next()?.parse().ok()?,
        index: LogIndex::new(parts.next()?.parse().ok()?),
        ordinal: parts.next()?.parse().ok()?,
    })
}
