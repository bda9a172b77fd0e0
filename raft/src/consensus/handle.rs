//! The room above's way to the consensus thread.

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::api::Command;
use crate::net::Bell;

/// Commands that wait for the consensus thread. It never waits for anybody, so a full channel
/// only slows the sender down for a moment.
const COMMANDS_MAX: usize = 1024;

/// The log has stopped: nothing more can be asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the log has stopped")
    }
}

impl std::error::Error for Closed {}

/// Sends [`Command`]s to the log. Clones send to the same one.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: Sender<Command>,
    bell: Bell,
}

impl Handle {
    pub(crate) fn new(bell: Bell) -> (Self, Receiver<Command>) {
        let (commands, inbox) = bounded(COMMANDS_MAX);
        (Self { commands, bell }, inbox)
    }

    /// Sends a command and wakes the consensus thread if it sleeps.
    ///
    /// # Errors
    /// When the log has stopped.
    pub fn send(&self, command: Command) -> Result<(), Closed> {
        self.commands.send(command).map_err(|_| Closed)?;
        self.bell.ring();
        Ok(())
    }

    /// As [`Handle::send`], for somebody who must not wait: says whether there was room for it.
    #[must_use]
    pub fn try_send(&self, command: Command) -> bool {
        let has_room = self.commands.try_send(command).is_ok();
        if has_room {
            self.bell.ring();
        }
        has_room
    }
}
