//! How a command ends: exit codes, and errors as sentences.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// What the caller of a program learns from its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, or all is well.
    Ok,
    /// Failed, or degraded.
    Failed,
    /// No leader or no majority.
    NoQuorum,
    /// The daemon cannot be reached.
    Unreachable,
    /// The command line is wrong.
    Usage,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::NoQuorum => 2,
            Self::Unreachable => 3,
            Self::Usage => 64,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

/// Why a command failed. Shown, each says what, why, and what to do.
#[derive(Debug)]
pub enum CliError {
    /// The command line is wrong.
    Usage(String),
    /// The daemon at this address does not answer.
    Unreachable {
        /// `HOST:PORT`.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The daemon answered `ERROR code: text`.
    Refused {
        /// The word for programs.
        code: String,
        /// The words for people.
        text: String,
    },
    /// The daemon answered something that is not understood.
    Answer(String),
    /// What came is not what it should be.
    Damaged(String),
    /// Something on this machine did not work.
    Local {
        /// What was being done, such as "cannot write the file X".
        doing: String,
        /// Why.
        source: io::Error,
    },
    /// The local cluster is not as it must be for this.
    Cluster(String),
}

impl CliError {
    /// The exit code for this error.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Unreachable { .. } => Exit::Unreachable,
            Self::Refused { code, .. } if code == "no-quorum" => Exit::NoQuorum,
            _ => Exit::Failed,
        }
    }

    /// For `map_err`: an error of this machine while doing something.
    pub fn local(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Local { doing: doing.into(), source }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Cluster(text) => f.write_str(text),
            Self::Unreachable { address, source } => write!(
                f,
                "no daemon answers at {address} ({source}). Is pickboxd running? `pickbox cluster \
                 start` starts a local cluster; --addr HOST:PORT names another admin address."
            ),
            // What to do is in the words of the node.
            Self::Refused { code, text } => write!(f, "The node refused: {text} ({code})."),
            Self::Answer(text) => write!(
                f,
                "The answer is not understood: {text}. Is this the admin port of a pickboxd of the \
                 same version?"
            ),
            Self::Damaged(text) => write!(
                f,
                "What was shown is damaged: {text}. Do not use it; ask another node (--addr), or \
                 this one again: it looks for a good copy by itself."
            ),
            Self::Local { doing, source } => write!(f, "{doing}: {source}."),
        }
    }
}

impl std::error::Error for CliError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreachable { source, .. } | Self::Local { source, .. } => Some(source),
            _ => None,
        }
    }
}
