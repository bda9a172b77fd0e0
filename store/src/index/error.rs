//! What can go wrong with the index itself: each of these stops the node.

use std::fmt;

use pickbox_raft::core::ids::Index;

use super::INDEX_FORMAT;

/// The index failed. Nothing that an entry says leads here.
#[derive(Debug)]
pub enum IndexError {
    /// The database failed.
    Database(Box<redb::Error>),
    /// A row cannot be read: which table, and what is wrong.
    Corrupt(&'static str),
    /// The file was written by a program that this one does not understand.
    Format {
        /// The version found.
        found: u16,
    },
    /// An entry that is not the next one was given.
    Gap {
        /// The one that was due.
        due: Index,
        /// The one given.
        given: Index,
    },
}

impl IndexError {
    /// What the disk said, if it was the disk.
    #[must_use]
    pub fn io(&self) -> Option<&std::io::Error> {
        match self {
            Self::Database(error) => match &**error {
                redb::Error::Io(error) => Some(error),
                _ => None,
            },
            _ => None,
        }
    }
}

impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(_) => write!(f, "the index database failed"),
            Self::Corrupt(what) => write!(f, "the index is damaged: {what}"),
            Self::Format { found } => write!(
                f,
                "the state is of format {found}, this program reads and writes format {INDEX_FORMAT}: go \
                 on with the program that wrote it, or set this state directory aside and join anew over \
                 the same folder"
            ),
            Self::Gap { due, given } => write!(f, "entry {given} was given where {due} was due"),
        }
    }
}

impl std::error::Error for IndexError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Database(error) => Some(error),
            _ => None,
        }
    }
}

macro_rules! from_redb {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for IndexError {
            fn from(error: redb::$error) -> Self {
                Self::Database(Box::new(error.into()))
            }
        }
    )*};
}

from_redb!(
    CommitError,
    DatabaseError,
    SetDurabilityError,
    StorageError,
    TableError,
    TransactionError
);
