//! Checkpoints: the index and the files that it speaks of made durable, then the log let go.
//!
//! First the files that disk and log came to agree on since the last one are synced, on another
//! thread: those placed here, and this node's own whose proposals were committed, since the log
//! that is let go may be all that holds them. Then the index commits durably, a new journal
//! begins, and the log may drop what lies before. The position that counts is the one at which
//! the syncing began: what was placed meanwhile is in the index but perhaps not on the disk, so
//! after a power cut it is looked at again (see `startup`).

use std::collections::BTreeSet;

use pickbox_raft::core::ids::{Index as LogIndex, LogPosition};
use redb::{ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use super::adopt::ADOPTING_ROW;
use super::ports::Outgoing;
use super::{Engine, Fatal};
use crate::folder::FolderError;
use crate::index::{Index, IndexError};
use crate::placed::LocalId;
use crate::record::FileId;
use crate::syncer::{FILES_MAX, SyncDone, SyncJob};
use crate::time::Time;

/// Bytes of entries after which a checkpoint is made.
const CHECKPOINT_LOG_BYTES: u64 = 64 * 1024 * 1024;
/// A node that changed anything makes a checkpoint after so long, however little it was.
const CHECKPOINT_AGE_MS: u64 = 60_000;

/// What the engine keeps in the index beside the pictures.
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("engine");

/// What has to reach the disk before a checkpoint may let go of the log that made it.
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    rows: BTreeSet<LocalId>,
    /// More than is worth a sync each, or things that have no row.
    whole: bool,
}

impl Unsynced {
    /// Adds the thing of a row, and with it its name in its directory.
    pub(super) fn insert(&mut self, id: LocalId) {
        if !self.whole {
            self.rows.insert(id);
            self.whole = self.rows.len() > FILES_MAX;
        }
        if self.whole {
            self.rows = BTreeSet::new();
        }
    }

    /// Adds everything.
    pub(super) fn insert_all(&mut self) {
        self.whole = true;
        self.rows = BTreeSet::new();
    }

    /// The thing of a row is no more.
    pub(super) fn remove(&mut self, id: LocalId) {
        self.rows.remove(&id);
    }

    fn extend(&mut self, other: Self) {
        if other.whole {
            self.insert_all();
        }
        for id in other.rows {
            self.insert(id);
        }
    }
}

/// A power cut, from the start that noticed it until all that it may have damaged is settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cut {
    /// Files that the log changed after this are suspect; `None` once they are all in `left`.
    pub(super) since: Option<LogIndex>,
    /// When the start noticed it.
    pub(super) time: Time,
    /// Files that were suspect and not settled at the last checkpoint.
    pub(super) left: Vec<FileId>,
}

/// How far the checkpoint under way is.
#[derive(Debug, Default)]
pub(super) struct State {
    /// What the sync under way covers: owed again unless it is known to have worked.
    syncing: Unsynced,
    /// Where the syncing began; `None`: no checkpoint is under way.
    running: Option<LogPosition>,
    /// Whether the last one failed: then the next waits for its time.
    failed: bool,
    /// Whether no damage of a power cut was open when this one began.
    settles_cut: bool,
    /// Whether all that the folder held had been judged when this one began.
    ends_adoption: bool,
    /// When the last one ended.
    last_ms: u64,
    /// Up to where the disk is known to be whole.
    pub(super) floor: LogPosition,
}

impl Engine {
    pub(super) fn wants_checkpoint(&self) -> bool {
        let changed = self.bytes_since_checkpoint > 0 || self.cut.is_some();
        self.checkpoint.running.is_none() && self.is_live() && changed
    }

    pub(super) fn checkpoint_tick(&mut self) -> Result<(), Fatal> {
        if !self.wants_checkpoint() {
            return Ok(());
        }
        let old = self.now_ms.saturating_sub(self.checkpoint.last_ms) >= CHECKPOINT_AGE_MS;
        let large = self.bytes_since_checkpoint >= CHECKPOINT_LOG_BYTES;
        // As long as a cut is open, edits made while the daemon is down would be taken for damage.
        let settled = self.cut.is_some() && !self.checkpoint.failed && self.is_cut_settled()?;
        if settled || self.bytes_since_checkpoint > 0 && (old || large) {
            let job = self.begin_checkpoint()?;
            self.out.push_back(Outgoing::Sync(job));
        }
        Ok(())
    }

    pub(super) fn begin_checkpoint(&mut self) -> Result<SyncJob, Fatal> {
        self.checkpoint.running = Some(self.index.position());
        self.checkpoint.settles_cut = self.cut.is_some() && self.is_cut_settled()?;
        self.checkpoint.ends_adoption =
            self.adoption.is_some() && self.has_adopted() && !self.is_asking();
        self.bytes_since_checkpoint = 0;
        for (content, data) in self.incoming.drain() {
            // Bytes that only the log has: they must outlive it.
            self.stash(content, &data);
        }
        // A sync that is under way and not over is no sync: the node may be stopping.
        let under_way = std::mem::take(&mut self.checkpoint.syncing);
        self.unsynced.extend(under_way);
        self.checkpoint.syncing = std::mem::take(&mut self.unsynced);
        if self.checkpoint.syncing.whole {
            return Ok(SyncJob::All);
        }
        let ids: Vec<_> = self.checkpoint.syncing.rows.iter().copied().collect();
        let mut paths = Vec::with_capacity(ids.len());
        for id in ids {
            paths.extend(self.path_of_row(id)?);
        }
        Ok(SyncJob::Files(paths))
    }

    /// Syncs what was placed while the sync ran, here and now: little, and the index that is about
    /// to be durable speaks of it. Its entries would not be applied again after a power cut, and
    /// their bytes would be nowhere if all nodes were cut at once.
    fn catch_up_sync(&mut self, position: LogPosition) -> Result<Option<LogPosition>, Fatal> {
        if self.index.position() == position {
            return Ok(Some(position));
        }
        let job = self.begin_checkpoint()?;
        let now = self.checkpoint.running.take();
        let syncing = std::mem::take(&mut self.checkpoint.syncing);
        match crate::syncer::sync(&self.folder, &job) {
            Ok(()) => Ok(now),
            Err(why) => {
                log::error!("event=checkpoint_failed error=\"{why}\"");
                self.checkpoint.failed = true;
                self.unsynced.extend(syncing);
                self.bytes_since_checkpoint = self.bytes_since_checkpoint.max(1);
                Ok(None)
            }
        }
    }

    pub(super) fn synced(&mut self, done: &SyncDone) -> Result<(), Fatal> {
        let Some(position) = self.checkpoint.running.take() else { return Ok(()) };
        self.checkpoint.last_ms = self.now_ms;
        let synced = std::mem::take(&mut self.checkpoint.syncing);
        self.checkpoint.failed = done.failed.is_some();
        if let Some(why) = &done.failed {
            log::error!("event=checkpoint_failed error=\"{why}\"");
            self.unsynced.extend(synced);
            self.bytes_since_checkpoint = self.bytes_since_checkpoint.max(1);
            return Ok(());
        }
        let Some(position) = self.catch_up_sync(position)? else { return Ok(()) };
        if !self.seal(position)? {
            self.bytes_since_checkpoint = self.bytes_since_checkpoint.max(1);
            return Ok(());
        }
        self.let_go_of_log(position);
        log::debug!("event=checkpoint index={}", position.index);
        Ok(())
    }

    /// The durable commit; false if the disk is too full for it.
    fn seal(&mut self, position: LogPosition) -> Result<bool, Fatal> {
        let state = self.state.dir()?;
        if self.is_short_of_space() {
            return Ok(false);
        }
        match self.journal.rotate(&state) {
            Err(FolderError::NoSpace(_)) => return Ok(false),
            other => other?,
        }
        self.checkpoint.floor = position;
        let bytes = postcard::to_allocvec(&position).map_err(|_| Fatal::Encode)?;
        self.set_meta("floor", &bytes)?;
        if std::mem::take(&mut self.checkpoint.settles_cut) {
            self.drop_meta("cut")?;
            self.cut = None;
        } else if let Some(Cut { time, .. }) = self.cut {
            // What is settled is an edit again when it changes: one file that stays in doubt must
            // not keep the others there.
            let left = self.suspects.iter().copied().collect();
            self.note_cut(Cut { since: None, time, left })?;
        }
        if std::mem::take(&mut self.checkpoint.ends_adoption) {
            self.drop_meta(ADOPTING_ROW)?;
            self.adoption = None;
        }
        // Rows are in the index from here on; what is in flight is nowhere but in the journal.
        let flight = self.in_flight.take();
        self.note_flight(flight.as_ref());
        self.in_flight = flight;
        self.flush_journal()?;
        if !self.is_noted() {
            // The former journal still has the note about what is in flight.
            return Ok(false);
        }
        self.index.checkpoint()?;
        self.journal.remove_older(&state)?;
        Ok(true)
    }

    /// The last checkpoint, and the mark that nothing has to be looked at after it.
    pub(super) fn stop(mut self) -> Result<(), Fatal> {
        self.give_up_requests();
        if !self.is_live() || self.is_short_of_space() {
            // As after a kill: the next start finds everything in the log and the journal.
            return Ok(());
        }
        let job = self.begin_checkpoint()?;
        match crate::syncer::sync(&self.folder, &job) {
            Ok(()) => {
                self.set_meta("mark", b"clean")?;
                if !self.seal(self.index.position())? {
                    log::warn!("event=checkpoint_failed error=\"the disk is full\"");
                }
                Ok(())
            }
            Err(why) => {
                log::error!("event=checkpoint_failed error=\"{why}\"");
                Ok(())
            }
        }
    }

    /// The power cut that a former run noticed and did not come to the end of.
    pub(super) fn open_cut(&self) -> Result<Option<Cut>, Fatal> {
        Ok(self.meta("cut")?.and_then(|bytes| postcard::from_bytes(&bytes).ok()))
    }

    pub(super) fn note_cut(&mut self, cut: Cut) -> Result<(), Fatal> {
        let bytes = postcard::to_allocvec(&cut).map_err(|_| Fatal::Encode)?;
        self.cut = Some(cut);
        self.set_meta("cut", &bytes)
    }

    pub(super) fn set_meta(&mut self, key: &str, value: &[u8]) -> Result<(), Fatal> {
        set_meta_of(&self.index, key, value)
    }

    pub(super) fn drop_meta(&mut self, key: &str) -> Result<(), Fatal> {
        let drop = || -> Result<(), IndexError> {
            self.index.tables()?.open_table(META)?.remove(key)?;
            Ok(())
        };
        Ok(drop()?)
    }

    pub(super) fn meta(&self, key: &str) -> Result<Option<Vec<u8>>, Fatal> {
        meta_of(&self.index, key)
    }
}

/// Writes a row of the engine's own table.
pub(super) fn set_meta_of(index: &Index, key: &str, value: &[u8]) -> Result<(), Fatal> {
    let set = || -> Result<(), IndexError> {
        index.tables()?.open_table(META)?.insert(key, value)?;
        Ok(())
    };
    Ok(set()?)
}

/// Reads a row of the engine's own table.
pub(super) fn meta_of(index: &Index, key: &str) -> Result<Option<Vec<u8>>, Fatal> {
    let get = || -> Result<Option<Vec<u8>>, IndexError> {
        let table = index.tables()?.open_table(META)?;
        Ok(table.get(key)?.map(|value| value.value().to_vec()))
    };
    Ok(get()?)
}
