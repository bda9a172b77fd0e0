//! `pickbox held`, `pickbox approve`, `pickbox reject`: deletions that wait for a decision.

use std::path::{Path, PathBuf};

use argh::FromArgs;
use pickbox_admin::holds::HoldReport;

use crate::ask::{ADDRESS_DEFAULT, Output, ask, ask_ok, parse, target};
use crate::exit::{CliError, Exit};
use crate::output::{show, table};

fn default_address() -> String {
    ADDRESS_DEFAULT.to_owned()
}

/// List the deletions that the node holds until somebody decides; exit code 1 if there are any.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "held")]
pub(crate) struct HeldArguments {
    /// admin address of a node, HOST:PORT or unix:PATH (default 127.0.0.1:9001)
    #[argh(option, default = "default_address()")]
    addr: String,

    /// file with the token of a node on another host (mode 0600)
    #[argh(option)]
    token_file: Option<PathBuf>,

    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// Replicate deletions that the node holds: they were meant.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "approve")]
pub(crate) struct ApproveArguments {
    /// the hold, as `pickbox held` lists it
    #[argh(positional)]
    id: Option<String>,

    /// all that the node holds
    #[argh(switch)]
    all: bool,

    /// admin address of a node, HOST:PORT or unix:PATH (default 127.0.0.1:9001)
    #[argh(option, default = "default_address()")]
    addr: String,

    /// file with the token of a node on another host (mode 0600)
    #[argh(option)]
    token_file: Option<PathBuf>,
}

/// Undo deletions that the node holds: what was deleted is put back from the other nodes.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "reject")]
pub(crate) struct RejectArguments {
    /// the hold, as `pickbox held` lists it
    #[argh(positional)]
    id: Option<String>,

    /// all that the node holds
    #[argh(switch)]
    all: bool,

    /// admin address of a node, HOST:PORT or unix:PATH (default 127.0.0.1:9001)
    #[argh(option, default = "default_address()")]
    addr: String,

    /// file with the token of a node on another host (mode 0600)
    #[argh(option)]
    token_file: Option<PathBuf>,
}

pub(crate) fn held(arguments: &HeldArguments) -> Result<Exit, CliError> {
    let answer = ask(target(&arguments.addr, arguments.token_file.as_deref())?, "HELD json")?;
    let holds: Vec<HoldReport> = parse(&answer)?;
    match Output::from(arguments.json) {
        Output::Json => show(format!("{answer}\n").as_bytes())?,
        Output::People => show(hold_table(&holds).as_bytes())?,
    }
    Ok(if holds.is_empty() { Exit::Ok } else { Exit::Failed })
}

pub(crate) fn approve(arguments: &ApproveArguments) -> Result<Exit, CliError> {
    let ApproveArguments { id, all, addr, token_file } = arguments;
    decide("approve", (id.as_deref(), *all), addr, token_file.as_deref())
}

pub(crate) fn reject(arguments: &RejectArguments) -> Result<Exit, CliError> {
    let RejectArguments { id, all, addr, token_file } = arguments;
    decide("reject", (id.as_deref(), *all), addr, token_file.as_deref())
}

fn decide(
    verb: &str,
    which: (Option<&str>, bool),
    addr: &str,
    token_file: Option<&Path>,
) -> Result<Exit, CliError> {
    let which = match which {
        (None, true) => "all",
        (Some(id), false) if id.bytes().all(|byte| byte.is_ascii_graphic()) && !id.is_empty() => id,
        _ => {
            return Err(CliError::Usage(format!(
                "pickbox {verb} ID or pickbox {verb} --all: `pickbox held` lists the ids."
            )));
        }
    };
    let line = format!("{} {which}", verb.to_ascii_uppercase());
    let answer = ask_ok(target(addr, token_file)?, &line)?;
    show(format!("{answer}\n").as_bytes())?;
    Ok(Exit::Ok)
}

fn hold_table(holds: &[HoldReport]) -> String {
    if holds.is_empty() {
        return "No deletions are held on this node.\n".to_owned();
    }
    let mut rows =
        vec![["ID", "FILES", "DIRECTORIES", "SINCE", "AMONG THEM"].map(str::to_owned).to_vec()];
    for hold in holds {
        let paths: Vec<String> = hold.paths.iter().map(|path| path.0.to_string()).collect();
        rows.push(vec![
            hold.hold_id.clone(),
            hold.files.to_string(),
            hold.directories.to_string(),
            utc(hold.since),
            paths.join(", "),
        ]);
    }
    let mut text = table(&rows);
    text.push_str(
        "pickbox approve ID replicates the deletions, pickbox reject ID puts the files back.\n",
    );
    text
}

/// Seconds since 1970 as `YYYY-MM-DDThh:mm:ssZ` (RFC 3339).
fn utc(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    time.map_or_else(|| seconds.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::utc;

    /// Source: `date -u -d @N +%FT%TZ`.
    #[test]
    fn times_are_told_as_date_tells_them() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (1_795_571_685, "2026-11-25T01:54:45Z"),
            (u64::MAX, "18446744073709551615"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }
}
