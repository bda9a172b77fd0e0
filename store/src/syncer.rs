//! The `syncer` thread: makes placed files durable before a checkpoint, away from the path of an
//! edit. One job at a time.

use crossbeam_channel::{Receiver, Sender};

use crate::folder::{Dir, Folder, FolderError};
use crate::name::RelPath;

/// Above this many files one `syncfs(2)` is cheaper than a sync each.
pub const FILES_MAX: usize = 1_000;

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
pub fn run(folder: &Folder, jobs: &Receiver<SyncJob>, done: &Sender<SyncDone>) {
    for job in jobs {
        let failed = sync(folder, &job).err();
        if done.send(SyncDone { failed }).is_err() {
            return;
        }
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
    rustix::fs::syncfs(dir).map_err(|errno| errno.to_string())
}
