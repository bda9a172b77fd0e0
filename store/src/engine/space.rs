//! A full disk: the engine rests before it is quite full, and goes on by itself (trap T21).
//!
//! The index cannot be used any more after a write of it failed (docs/decisions/space.md), so it
//! must not come to that: below [`LOW_BYTES`] nothing is applied, placed, proposed or looked at.
//! The log goes on meanwhile, and questions are answered.

use super::ports::Answer;
use super::{ApiWrite, Engine, Fatal};
use crate::contents::staging::LEFT_BYTES;
use crate::folder;

/// Fewer free bytes than this beside the state directory, and the engine rests. What one step
/// writes before the next look (a file of 1 MiB, the pages of a commit, a note) fits well into it.
const LOW_BYTES: u64 = 16 * 1024 * 1024;
/// It goes on when so many are free again: not back and forth with every file.
const ENOUGH_BYTES: u64 = 2 * LOW_BYTES;
const _: () = assert!(ENOUGH_BYTES < LEFT_BYTES);
/// Lines about trouble with the disk in one window.
const LINES_MAX: u32 = 10;
const WINDOW_MS: u64 = 60_000;

/// What is known of the disk's space.
#[derive(Debug, Default)]
pub(super) struct Space {
    short: bool,
    free_bytes: u64,
    quiet: Quiet,
    /// What a test says is free.
    #[cfg(test)]
    pub(super) told: Option<u64>,
}

/// Bounds how often trouble is logged that may be met at every file: the first lines say what it
/// is, the count says how much of it there is.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    since_ms: u64,
    said: u32,
    unsaid: u64,
}

impl Quiet {
    /// Whether one more line may be logged now.
    pub(super) fn may_say(&mut self, now_ms: u64) -> bool {
        if now_ms.saturating_sub(self.since_ms) >= WINDOW_MS {
            if self.unsaid > 0 {
                log::info!("event=not_logged lines={}", self.unsaid);
            }
            *self = Self { since_ms: now_ms, ..Self::default() };
        }
        let may = self.said < LINES_MAX;
        if may {
            self.said += 1;
        } else {
            self.unsaid = self.unsaid.saturating_add(1);
        }
        may
    }
}

impl Engine {
    /// Whether the engine has to rest. Looks at the disk: about a microsecond.
    pub fn is_short_of_space(&mut self) -> bool {
        let free = self.free_bytes();
        let needed = if self.space.short { ENOUGH_BYTES } else { LOW_BYTES };
        // Notes that could not be written are tried again whenever this is asked.
        let short = free < needed || self.write_journal().is_err() || !self.is_noted();
        if short != self.space.short {
            if short {
                log::error!("event=disk_full free_bytes={free} action=\"waiting for space\"");
            } else {
                log::warn!("event=disk_has_space free_bytes={free} action=\"going on\"");
            }
        }
        (self.space.short, self.space.free_bytes) = (short, free);
        short
    }

    /// As of the last look.
    pub(super) fn rests(&self) -> bool {
        self.space.short
    }

    fn free_bytes(&self) -> u64 {
        #[cfg(test)]
        if let Some(told) = self.space.told {
            return told;
        }
        // What cannot be asked is found out by writing.
        folder::free_bytes(&self.staging).unwrap_or(u64::MAX)
    }

    /// Whether all that was to be noted is in the journal.
    #[must_use]
    pub fn is_noted(&self) -> bool {
        self.journal_buffer.is_empty()
    }

    /// For STATUS.
    pub(super) fn space_trouble(&self) -> Option<String> {
        self.space.short.then(|| {
            format!(
                "the disk is full ({} bytes are free, {ENOUGH_BYTES} are needed): nothing is placed or \
                 proposed until there is space",
                self.space.free_bytes
            )
        })
    }

    /// Refuses the writes of clients that were not proposed yet.
    pub(super) fn refuse_writes_without_space(&mut self) {
        for write in std::mem::take(&mut self.api_writes) {
            self.api_bytes -= write.bytes();
            ApiWrite::answer(write, Answer::NoSpace);
        }
    }

    /// Whether one more line about trouble with files may be logged.
    pub(super) fn may_say(&mut self) -> bool {
        self.space.quiet.may_say(self.now_ms)
    }
}

impl Fatal {
    /// Whether the disk was full.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Journal(error) => is_full(error),
            Self::Folder(folder::FolderError::NoSpace(_)) => true,
            Self::Index(error) => error.io().is_some_and(is_full),
            _ => false,
        }
    }
}

pub(super) fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_logged_ten_times_a_minute() {
        let mut quiet = Quiet::default();
        let said = (0..100).filter(|_| quiet.may_say(5)).count();
        assert_eq!(said, 10);
        assert!(!quiet.may_say(WINDOW_MS - 1));
        assert!(quiet.may_say(WINDOW_MS));
    }
}
