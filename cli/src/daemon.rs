//! The daemon: wiring of the rooms.

use std::process::ExitCode;

use crate::options::DaemonOptions;

/// Runs the node until it is told to stop.
///
/// # Errors
/// When it cannot start or go on.
pub fn run(options: &DaemonOptions) -> Result<ExitCode, Box<dyn std::error::Error>> {
    Err(format!("the daemon of {} is not built in yet", options.node_id).into())
}
