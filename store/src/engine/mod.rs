//! The engine: one thread that owns the three pictures and makes them one.
//!
//! Everything that happens comes in as a value: committed entries, sightings of the watcher,
//! events of the content worker, requests of clients, the passing of time. What follows goes out
//! as values too ([`ports::Outgoing`]); only the folder itself is worked on directly, through its
//! one door. The walks:
//!
//! - *out*: a sighting changes a row (`observe`); the row is ahead of the log, so it waits in
//!   the outbox; the next proposal takes it along (`outbox`); where the entry is applied, the
//!   row learns what the log made of it (`applied`).
//! - *in*: an entry changes agreed (`applied`); what it touched is staged (`stage`) and
//!   exposed (`place`); the echo comes back as a sighting, compares equal and ends.

mod adopt;
mod applied;
mod barriers;
mod brought;
mod cat;
mod catchup;
mod checkpoint;
mod compare;
mod conflicts;
mod flush;
mod git;
mod guard;
mod ignoring;
mod journal_file;
mod large;
mod left_out;
mod lost;
mod observe;
mod outbox;
mod owners;
mod pictures;
mod place;
pub mod ports;
mod quarantine;
pub mod questions;
mod queue;
mod quorum;
mod racy;
mod reads;
mod requests;
mod retention;
mod root;
mod rows;
mod run;
mod space;
mod stage;
mod startup;
mod status;
#[cfg(test)]
mod tests;
mod together;
mod traffic;
mod transfers;
mod unplaced;
mod versions;
mod waits;
mod weigh;
mod why;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use pickbox_raft::core::ids::{Incarnation, Index as LogIndex, NodeId, Serial};

use self::journal_file::JournalFile;
use self::outbox::{Flight, InFlight};
use self::place::Why;
use self::ports::{Outgoing, Request};
use self::queue::{OrderedSet, SmallData};
use self::stage::Incoming;
use crate::content_id::ContentId;
use crate::contents::Ticket;
use crate::contents::history::HistoryStore;
use crate::folder::{Dir, Folder, FolderError, Stat};
use crate::index::{Index, IndexError};
use crate::name::{DEPTH_MAX, RelPath};
use crate::op::Op;
use crate::placed::LocalId;
use crate::placed::journal::FlightNote;
use crate::record::FileId;
use crate::time::Time;

pub use self::brought::BroughtRule;
pub use self::cat::CAT_PIECE_BYTES;
pub use self::catchup::ENGINE_TAG;
pub use self::lost::set_aside;
pub use self::root::{FolderRule, Strange};
pub use self::run::{Channels, Event, Reached, Taken};
pub use self::startup::{Options, Position, StateDir, open_index};

/// How long a directory whose place was taken by another may take to be found elsewhere.
const LIMBO_MS: u64 = 500;
/// Given up directories that are remembered; more, and the folder is walked.
const GIVEN_UP_MAX: usize = 1024;
/// How soon a look that nothing came of is asked for again.
const LOOK_MS: u64 = 2_000;
/// Open directories kept; the least recently opened go first.
const DIRS_MAX: usize = 256;

/// What ends the node.
#[derive(Debug)]
pub enum Fatal {
    /// The index failed.
    Index(IndexError),
    /// The folder, or our own files beside it, failed where nothing can go on without.
    Folder(FolderError),
    /// The journal of placed could not be written.
    Journal(std::io::Error),
    /// A value that cannot be encoded.
    Encode,
    /// Another thread of the store ended.
    Worker(String),
    /// The folder is not the one of the last run; nothing was changed.
    Strange(Strange),
}

impl std::fmt::Display for Fatal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Index(_) => f.write_str("the index failed"),
            Self::Folder(_) => f.write_str("the state directory or the folder failed"),
            Self::Journal(_) => f.write_str("the journal of placed cannot be written"),
            Self::Encode => f.write_str("a change cannot be encoded"),
            Self::Worker(why) => write!(f, "a worker ended: {why}"),
            Self::Strange(why) => write!(f, "the folder is another one: {why}"),
        }
    }
}

impl std::error::Error for Fatal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Index(error) => Some(error),
            Self::Folder(error) => Some(error),
            Self::Journal(error) => Some(error),
            Self::Encode | Self::Worker(_) | Self::Strange(_) => None,
        }
    }
}

impl From<IndexError> for Fatal {
    fn from(error: IndexError) -> Self {
        Self::Index(error)
    }
}

impl From<FolderError> for Fatal {
    fn from(error: FolderError) -> Self {
        Self::Folder(error)
    }
}

impl From<std::io::Error> for Fatal {
    fn from(error: std::io::Error) -> Self {
        Self::Journal(error)
    }
}

/// Who holds a large content.
#[derive(Debug)]
struct Held {
    content: ContentId,
    holders: BTreeSet<NodeId>,
}

/// A client's write, from its arrival to its answer.
#[derive(Debug)]
pub(crate) struct ApiWrite {
    request: Request,
    op: Op,
    /// Whether it was in a proposal, and may thus be in the log whatever comes of it here.
    was_sent: bool,
}

/// What the end of a conflict takes in a change: two ids with their versions, on the safe side.
const RESOLVE_BYTES: usize = 4 * 1024;

impl ApiWrite {
    fn new(request: Request, op: Op) -> Self {
        Self { request, op, was_sent: false }
    }

    fn bytes(&self) -> usize {
        match &self.op {
            Op::Put { path, new } => path.as_bytes().len() + new.bytes(),
            Op::Remove { path } => path.as_bytes().len(),
            Op::Resolve { .. } => RESOLVE_BYTES,
            _ => 0,
        }
    }

    fn op(&self) -> Op {
        self.op.clone()
    }

    fn answer(self, answer: ports::Answer) {
        (self.request.reply)(answer);
    }
}

/// How far the start has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// The log is applied up to this run's own opening; nothing is compared.
    Replaying,
    /// Disk and log are compared; the first walk of the folder is not over.
    Scanning,
    /// All that was there at the start has been looked at.
    Live,
}

/// The state of the store; see the module.
#[derive(Debug)]
pub struct Engine {
    me: NodeId,
    name: String,
    incarnation: Incarnation,
    now_ms: u64,
    next_tick_ms: u64,

    // The pictures.
    index: Index,
    journal: JournalFile,
    journal_buffer: Vec<u8>,
    next_local: LocalId,

    // The disk.
    folder: Folder,
    state: StateDir,
    space: space::Space,
    staging: Dir,
    quarantine: Dir,
    history: Arc<HistoryStore>,
    dirs: HashMap<LocalId, Arc<Dir>>,
    standing: root::Standing,
    owners: owners::Owners,

    // From the disk to the log.
    outbox: OrderedSet<LocalId>,
    /// Deletions before they may go into the outbox.
    guard: guard::Guard,
    repositories: git::Repositories,
    flying: HashSet<LocalId>,
    /// Rows that changed while a proposal about them was in flight.
    again: HashSet<LocalId>,
    in_flight: Option<InFlight>,
    /// What was in flight when the former run ended, until this run is open.
    former: Option<FlightNote>,
    landed: Vec<Flight>,
    landed_rows: Vec<LocalId>,
    last_serial: Serial,
    data: SmallData,
    limbo: BTreeMap<LocalId, u64>,
    /// Directories of which nobody here knows what they hold, though to the watcher all below them is
    /// told, by inode and birth: until they are listed where they are.
    given_up: BTreeSet<(u64, Time)>,
    /// Directories that are another thing for the log than they were: what stands in them has another
    /// place for it by that, and is compared before anything is proposed.
    renamed: BTreeSet<LocalId>,
    /// Rows to be looked at before anything is decided about them, and when to ask again; the
    /// folder itself stands for a walk, when the watcher was too busy for a request.
    looks: BTreeMap<LocalId, Look>,
    /// While a look at a large file is taken in: what nobody writes to, or has written to for so long
    /// that it is taken as it is.
    unwritten: Option<Stat>,
    left_out: left_out::AllLeftOut,
    open_for_writing: BTreeSet<RelPath>,
    /// Rows that the log will never take as they are.
    refused_rows: HashSet<LocalId>,
    ignoring: ignoring::Ignoring,
    traffic: traffic::Traffic,
    api_writes: VecDeque<ApiWrite>,
    api_bytes: usize,
    retention: retention::State,
    quorum: quorum::Quorum,
    reads: reads::Reads,
    barriers: barriers::Barriers,

    // From the log to the disk.
    todo: unplaced::Unplaced,
    stuck: BTreeMap<FileId, Why>,
    /// Up to where `stuck` was tried again.
    retried: Option<FileId>,
    incoming: Incoming,
    /// What is in quarantine, and since when.
    quarantined: BTreeMap<LocalId, u64>,
    /// The last of them that was swept; the next sweep goes on behind it.
    swept: LocalId,
    placed_count: u64,

    // Large contents.
    offers: BTreeMap<LocalId, (Ticket, Stat)>,
    tickets: BTreeMap<Ticket, LocalId>,
    next_ticket: u64,
    held: HashMap<LocalId, Held>,
    transfers: transfers::Transfers,
    cats: cat::State,

    // Start, checkpoint, catch-up.
    phase: Phase,
    /// Taking over a folder that placed knew nothing of.
    adoption: Option<adopt::Adoption>,
    /// Files that this node brought along and the cluster does not have, until somebody decides.
    strangers: BTreeSet<LocalId>,
    suspects: BTreeSet<FileId>,
    /// What may have changed unseen at the end of the former run.
    racy: racy::Racy,
    /// When this run began, if the one before ended in a power cut: a file that is empty since
    /// before that is no edit.
    cut_time: Option<Time>,
    /// A power cut whose damage is not yet settled.
    cut: Option<checkpoint::Cut>,
    recovered: u64,
    unsynced: checkpoint::Unsynced,
    bytes_since_checkpoint: u64,
    /// Whether anything was written that readers of the index do not see yet.
    index_changed: bool,
    checkpoint: checkpoint::State,
    catchup: catchup::State,
    comparison: compare::Comparison,
    reported: (LogIndex, LogIndex),

    out: VecDeque<Outgoing>,
}

/// A thing that the watcher was asked to look at once more.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// When it is asked again, in milliseconds of this run.
    at_ms: u64,
    /// Whether the thing lies outside the folder, in a directory that waits to come back: it is asked
    /// for then.
    is_away: bool,
}

impl Engine {
    /// Whether disk and log are compared.
    fn is_live(&self) -> bool {
        self.phase >= Phase::Scanning
    }

    fn has_scanned(&self) -> bool {
        self.phase == Phase::Live
    }

    fn is_in_flight(&self, id: LocalId) -> bool {
        self.flying.contains(&id)
    }

    /// Whether nothing is known to be open about a row that the log knows.
    fn is_settled(&self, id: LocalId) -> bool {
        self.suspects.is_empty()
            && !self.outbox.contains(id)
            && !self.again.contains(&id)
            && !self.offers.contains_key(&id)
            && !self.looks.contains_key(&id)
            && !self.refused_rows.contains(&id)
    }

    fn remember_data(&mut self, id: LocalId, data: Option<Vec<u8>>) {
        match data {
            Some(data) => self.data.insert(id, data),
            None => self.data.remove(id),
        }
    }

    /// The open directory of a row. It follows its inode: if a user moves the directory, what is
    /// done through it is done where it is now.
    fn dir(&mut self, id: LocalId) -> Result<Arc<Dir>, FolderError> {
        if let Some(dir) = self.dirs.get(&id) {
            return Ok(dir.clone());
        }
        let opened = self.open_dir(id)?;
        if self.dirs.len() >= DIRS_MAX {
            self.dirs.clear();
        }
        let dir = Arc::new(opened);
        self.dirs.insert(id, dir.clone());
        Ok(dir)
    }

    fn open_dir(&mut self, id: LocalId) -> Result<Dir, FolderError> {
        if id == LocalId::QUARANTINE {
            return self.quarantine.reopen();
        }
        let absent = || FolderError::Absent(RelPath::root());
        let path = self.path_of_row(id).map_err(|_| absent())?;
        let dir = match &path {
            Some(path) => self.folder.dir(path)?,
            None => self.open_away(id)?,
        };
        if id != LocalId::ROOT {
            let row = self.row(id).map_err(|_| absent())?.ok_or_else(absent)?;
            let expected = row.seen.ok_or_else(absent)?.stat;
            if !dir.stat_self()?.same_inode(&expected) {
                return Err(FolderError::Absent(path.unwrap_or_default()));
            }
        }
        Ok(dir)
    }

    /// A directory that waits in quarantine for its name, or one in such a one: what the log has in it
    /// goes there meanwhile. What has its name may wait for just that.
    fn open_away(&mut self, id: LocalId) -> Result<Dir, FolderError> {
        let absent = || FolderError::Absent(RelPath::root());
        let (mut names, mut at) = (Vec::new(), id);
        while at != LocalId::QUARANTINE {
            let row = self.row(at).map_err(|_| absent())?.ok_or_else(absent)?;
            names.push(row.name);
            at = row.parent;
            if at == LocalId::ROOT || names.len() > DEPTH_MAX {
                return Err(absent());
            }
        }
        let mut dir = self.quarantine.reopen()?;
        for name in names.iter().rev() {
            dir = dir.open_dir(name)?;
        }
        Ok(dir)
    }
}
