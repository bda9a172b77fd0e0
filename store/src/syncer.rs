//! The `syncer` thread: makes placed files durable before a checkpoint, away from the path of an
//! edit. One job at a time. Between the jobs it keeps the bytes of the history within their bounds,
//! which takes as long and is as little in a hurry.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use pickbox_raft::clock;

use crate::contents::history::{Evicted, HistoryStore};
use crate::folder::{Dir, Folder, FolderError};
use crate::history_rows::HISTORY_KEPT_MS;
use crate::name::RelPath;
use crate::time::Time;

/// Above this many files one `syncfs(2)` is cheaper than a sync each.
pub const FILES_MAX: usize = 1_000;

/// How often the history is held against its share of the disk.
pub const TRIM_EVERY: Duration = Duration::from_mins(1);
/// How often each object of the history is asked for its age.
pub const TRIM_AGE_EVERY: Duration = Duration::from_hours(1);

/// What to make durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncJob {
    /// These files and directories, and the directories that hold them.
    Files(Vec<RelPath>),
    /// The whole file system.
    All,
}

/// A job is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncDone {
    /// The first thing that could not be synced, if any: then nothing may be called durable.
    pub failed: Option<String>,
}

/// Runs until its channel closes.
pub fn run(
    folder: &Folder,
    history: &HistoryStore,
    jobs: &Receiver<SyncJob>,
    done: &Sender<SyncDone>,
) {
    let mut trimmer = Trimmer::default();
    loop {
        match jobs.recv_timeout(TRIM_EVERY) {
            Ok(job) => {
                let failed = sync(folder, &job).err();
                if done.send(SyncDone { failed }).is_err() {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        trimmer.turn(history, clock::now(), oldest_kept(clock::wall()));
    }
}

/// When the history was last looked at.
#[derive(Debug, Default)]
struct Trimmer {
    share: Option<Instant>,
    age: Option<Instant>,
}

impl Trimmer {
    fn turn(&mut self, history: &HistoryStore, now: Instant, oldest: Time) {
        let is_due = |last: Option<Instant>, every: Duration| {
            last.is_none_or(|last| now.saturating_duration_since(last) >= every)
        };
        if is_due(self.age, TRIM_AGE_EVERY) {
            self.age = Some(now);
            told("age", history.evict_older(oldest));
        }
        if is_due(self.share, TRIM_EVERY) {
            self.share = Some(now);
            told("share", history.limit_bytes().and_then(|limit| history.evict(limit)));
        }
    }
}

/// The moment before which nothing of the history is kept.
fn oldest_kept(wall: Duration) -> Time {
    let oldest = wall.saturating_sub(Duration::from_millis(HISTORY_KEPT_MS));
    Time { secs: i64::try_from(oldest.as_secs()).unwrap_or(i64::MAX), nanos: oldest.subsec_nanos() }
}

fn told(why: &str, evicted: Result<Evicted, FolderError>) {
    match evicted {
        Ok(Evicted { count: 0, .. }) => {}
        Ok(Evicted { count, bytes }) => {
            log::info!("event=history_evicted why={why} count={count} bytes={bytes}");
        }
        Err(error) => log::warn!("event=history_evict_failed error=\"{error}\""),
    }
}

/// Does one job.
///
/// # Errors
/// The first thing that could not be synced; a file that is gone by now is no error.
pub fn sync(folder: &Folder, job: &SyncJob) -> Result<(), String> {
    let SyncJob::Files(paths) = job else { return sync_all(folder.root()) };
    let mut directories = std::collections::BTreeSet::new();
    for path in paths {
        let Some((parent, name)) = path.split() else {
            directories.insert(path.clone());
            continue;
        };
        let Ok(dir) = folder.dir(&parent) else { continue };
        match dir.open_read(&name) {
            // Mode and time too: the log that tells them is about to be let go.
            Ok(file) => file.sync_all().map_err(|error| format!("{path}: {error}"))?,
            Err(FolderError::WrongKind(_)) => {
                directories.insert(path.clone());
            }
            Err(_) => {}
        }
        directories.insert(parent);
    }
    for directory in directories {
        if let Ok(dir) = folder.dir(&directory) {
            dir.sync().map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

fn sync_all(dir: &Dir) -> Result<(), String> {
    dir.sync_file_system().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content_id::ContentId;
    use crate::name::Name;

    /// The age of each object is asked for once an hour, of a million as of one.
    #[test]
    fn old_history_goes_within_the_hour() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("history")).unwrap();
        let open = |path: &std::path::Path| Folder::open(path).unwrap().dir(&RelPath::root());
        let history = HistoryStore::open(open(&home.path().join("history")).unwrap()).unwrap();
        let content = ContentId::of(b"old");
        let displace = || {
            std::fs::write(home.path().join("f"), b"old").unwrap();
            let from = open(home.path()).unwrap();
            history.keep(&from, &Name::new("f").unwrap(), content).unwrap();
        };
        let (start, mut trimmer) = (clock::now(), Trimmer::default());
        let (all, none) = (Time { secs: i64::MAX, nanos: 0 }, Time::default());
        displace();
        trimmer.turn(&history, start, none);
        assert!(history.has(content), "within its time and its share");
        trimmer.turn(&history, start + TRIM_AGE_EVERY / 2, all);
        assert!(history.has(content), "looked through a moment ago");
        trimmer.turn(&history, start + TRIM_AGE_EVERY, all);
        assert!(!history.has(content));
    }

    #[test]
    fn thirty_days_are_kept() {
        let day = Duration::from_hours(24);
        assert_eq!(oldest_kept(31 * day), Time { secs: 86_400, nanos: 0 });
        assert_eq!(oldest_kept(day), Time::default());
    }
}
