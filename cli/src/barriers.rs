//! Commands that wait: `flush` and `wait`.

use std::path::PathBuf;
use std::time::Duration;

use argh::FromArgs;
use serde::Serialize;

use crate::ask::{ADDRESS_DEFAULT, PATIENCE, ask_within, ok_of, parse, target};
use crate::exit::{CliError, Exit};
use crate::output::show;

/// How long a barrier may take unless it is said, in seconds.
const TIMEOUT_SECONDS: u64 = 30;

fn default_address() -> String {
    ADDRESS_DEFAULT.to_owned()
}

fn default_timeout() -> u64 {
    TIMEOUT_SECONDS
}

/// Wait until all that was changed in the folder of a node before is committed; print the index.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "flush")]
pub(crate) struct FlushArguments {
    /// give up after so many seconds (default 30)
    #[argh(option, default = "default_timeout()")]
    timeout: u64,

    /// admin address of the node, HOST:PORT or unix:PATH (default 127.0.0.1:9001)
    #[argh(option, default = "default_address()")]
    addr: String,

    /// file with the token of a node on another host (mode 0600)
    #[argh(option)]
    token_file: Option<PathBuf>,

    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// Wait until everything up to an index, or up to now, stands in the folder of a node, or of all.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "wait")]
pub(crate) struct WaitArguments {
    /// the index, as `pickbox flush` prints it (default: what is committed now)
    #[argh(positional)]
    index: Option<u64>,

    /// wait for the folders of all members, learners too
    #[argh(switch)]
    all: bool,

    /// give up after so many seconds (default 30)
    #[argh(option, default = "default_timeout()")]
    timeout: u64,

    /// admin address of the node, HOST:PORT or unix:PATH (default 127.0.0.1:9001)
    #[argh(option, default = "default_address()")]
    addr: String,

    /// file with the token of a node on another host (mode 0600)
    #[argh(option)]
    token_file: Option<PathBuf>,

    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct UpTo {
    index: u64,
}

pub(crate) fn flush(arguments: &FlushArguments) -> Result<Exit, CliError> {
    let FlushArguments { timeout, addr, token_file, json } = arguments;
    let line = format!("FLUSH timeout {timeout}");
    let answer = ask_within(target(addr, token_file.as_deref())?, &line, patience(*timeout))?;
    show_index(&answer, *json)
}

pub(crate) fn wait(arguments: &WaitArguments) -> Result<Exit, CliError> {
    let WaitArguments { index, all, timeout, addr, token_file, json } = arguments;
    let index = index.map_or(String::new(), |index| format!(" {index}"));
    let all = if *all { " all" } else { "" };
    let line = format!("WAIT{index}{all} timeout {timeout}");
    let answer = ask_within(target(addr, token_file.as_deref())?, &line, patience(*timeout))?;
    show_index(&answer, *json)
}

/// The node is the first to give up: it says what it waited for.
fn patience(timeout: u64) -> Duration {
    PATIENCE.saturating_add(Duration::from_secs(timeout))
}

fn show_index(answer: &str, json: bool) -> Result<Exit, CliError> {
    let index: u64 = parse(&ok_of(answer)?)?;
    let text = if json {
        serde_json::to_string(&UpTo { index })
            .map_err(|error| CliError::Answer(error.to_string()))?
    } else {
        index.to_string()
    };
    show(format!("{text}\n").as_bytes())?;
    Ok(Exit::Ok)
}
