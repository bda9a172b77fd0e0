//! What a node finds on its disk when it starts.

use alloc::format;
use alloc::string::String;

use crate::event::LogOp;
use crate::ids::LogPosition;
use crate::log::HardState;
use crate::members::Members;
use crate::view::LogView;

/// A log read back: begin with [`Restored::default`] and [`replay`](Self::replay) what is on disk,
/// in order. Needs four bytes of memory an entry plus the newest payloads
/// ([`crate::limits::RECENT_BYTES_MAX`]), however long the log is.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    pub(crate) hard_state: HardState,
    pub(crate) log: LogView,
}

impl Restored {
    /// Takes the next operation that the disk holds. [`LogOp::Compact`] may be replayed or left
    /// out; a log whose head was dropped begins with a [`LogOp::Reset`] at the position before its
    /// first entry.
    ///
    /// # Errors
    /// The operation does not fit what came before it: the log on disk is damaged. The text says
    /// how.
    pub fn replay(&mut self, op: &LogOp) -> Result<(), String> {
        match op {
            LogOp::HardState(state) if state.term < self.hard_state.term => {
                Err(format!("the term falls from {} to {}", self.hard_state.term, state.term))
            }
            LogOp::HardState(state) => {
                self.hard_state = *state;
                Ok(())
            }
            LogOp::Truncate { from } if *from <= self.log.base().index => {
                Err(format!("entry {from} is truncated below {}", self.log.base().index))
            }
            LogOp::Truncate { from } => {
                self.log.truncate(*from);
                Ok(())
            }
            LogOp::Append(entries) => {
                for entry in entries {
                    let last = self.log.last();
                    if entry.index != last.index.next() || entry.term < last.term {
                        return Err(format!(
                            "entry {} of term {} follows entry {} of term {}",
                            entry.index, entry.term, last.index, last.term
                        ));
                    }
                    self.log.append(core::slice::from_ref(entry));
                }
                Ok(())
            }
            LogOp::Reset { at, members } => {
                self.log.reset(*at, members.clone());
                Ok(())
            }
            LogOp::Compact { through, .. } => {
                if self.log.base().index < through.index && self.log.contains(*through) {
                    self.log.compact(through.index);
                }
                Ok(())
            }
        }
    }

    /// Term and vote.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// The position before the first entry.
    #[must_use]
    pub fn base(&self) -> LogPosition {
        self.log.base()
    }

    /// The position of the last entry.
    #[must_use]
    pub fn last(&self) -> LogPosition {
        self.log.last()
    }

    /// The members in force at the end of the log.
    #[must_use]
    pub fn members(&self) -> &Members {
        self.log.members()
    }
}
