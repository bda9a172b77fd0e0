//! What can be wrong with the write-ahead log, one variant per decision of the caller.

use std::borrow::Cow;
use std::fmt;

use pickbox_raft_core::ids::{Index, LogPosition};

use crate::disk::DiskError;

/// Why the write-ahead log cannot go on.
#[derive(Debug)]
pub enum WalError {
    /// The disk failed. The log has stopped: it does not know what is on the disk. Restart the
    /// process; never retry on the same files.
    Disk(DiskError),
    /// No space for the next segment. Nothing was written and nothing is lost: the same call may
    /// be made again later.
    Full(DiskError),
    /// There is no log: this node was never set up, or all of its segments are gone.
    NotFound,
    /// Bytes that were durable have changed. The log is left as it is.
    Corrupt {
        /// The file, relative to the state directory.
        file: String,
        /// The offset of the first bad record in it.
        offset: u64,
        /// Which entry it is, if it is one and its header still says so.
        entry: Option<LogPosition>,
        /// What is wrong there.
        reason: Cow<'static, str>,
    },
    /// A segment between others, or at the start, is missing.
    MissingSegment {
        /// The file that should be there.
        file: String,
    },
    /// A segment goes back behind the end of the one before it.
    Overlap {
        /// The later file.
        file: String,
    },
    /// A segment of another version of this program.
    UnknownVersion {
        /// The file.
        file: String,
        /// The version that it says.
        version: u32,
    },
    /// One record is larger than a segment holds.
    TooLarge {
        /// Its size.
        bytes: usize,
        /// What fits.
        bytes_max: usize,
    },
    /// This entry is not in the log: compacted away, or not there yet.
    NotInLog {
        /// Which one.
        index: Index,
    },
    /// The log stopped at an earlier error.
    Stopped,
}

impl WalError {
    /// Whether the disk has changed or lost bytes that were durable: what this node had promised is
    /// not all there, so it must not vote again as who it was, and can be re-admitted over the same
    /// folder. Otherwise the disk refuses to work, or the caller asked for what cannot be.
    ///
    /// [`WalError::NotFound`] counts: a log is opened only where an identity says that there was one.
    #[must_use]
    pub fn is_rot(&self) -> bool {
        match self {
            Self::Corrupt { .. }
            | Self::MissingSegment { .. }
            | Self::Overlap { .. }
            | Self::NotFound => true,
            Self::Disk(_)
            | Self::Full(_)
            | Self::UnknownVersion { .. }
            | Self::TooLarge { .. }
            | Self::NotInLog { .. }
            | Self::Stopped => false,
        }
    }
}

impl fmt::Display for WalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => write!(f, "the log's disk failed: {error}"),
            Self::Full(error) => write!(f, "no space for the log: {error}"),
            Self::NotFound => f.write_str("there is no log"),
            Self::Corrupt { file, offset, entry, reason } => {
                write!(f, "log file {file} is corrupt at offset {offset}")?;
                if let Some(entry) = entry {
                    write!(f, ", entry {} of term {}", entry.index, entry.term)?;
                }
                write!(f, ": {reason}")
            }
            Self::MissingSegment { file } => write!(f, "log file {file} is missing"),
            Self::Overlap { file } => write!(f, "log file {file} overlaps the one before it"),
            Self::UnknownVersion { file, version } => {
                write!(f, "log file {file} has format version {version}, which is unknown")
            }
            Self::TooLarge { bytes, bytes_max } => {
                write!(f, "a log record of {bytes} bytes is over the {bytes_max} that fit")
            }
            Self::NotInLog { index } => write!(f, "entry {index} is not in the log"),
            Self::Stopped => f.write_str("the log stopped at an earlier error"),
        }
    }
}

impl std::error::Error for WalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Disk(error) | Self::Full(error) => Some(error),
            _ => None,
        }
    }
}

impl From<DiskError> for WalError {
    fn from(error: DiskError) -> Self {
        if error.is_full() { Self::Full(error) } else { Self::Disk(error) }
    }
}
