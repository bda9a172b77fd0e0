//! `pickbox why`: why a path is as it is.

use std::path::PathBuf;

use argh::FromArgs;
use pickbox_admin::client::Target;
use pickbox_admin::why::text;
use pickbox_store::why::{Disk, Reason, Stands, WhyReport};

use crate::ask::{ADDRESS_DEFAULT, Output, ask_ok, one_line, parse, target};
use crate::exit::{CliError, Exit};
use crate::openers;
use crate::output::show;

fn default_address() -> String {
    ADDRESS_DEFAULT.to_owned()
}

/// Tell why a path is as it is: what the log, this node and the others have there, and what it waits for.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "why")]
pub(crate) struct WhyArguments {
    /// path in the folder, as Pickbox prints it (a backslash is written twice)
    #[argh(positional)]
    path: String,

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

pub(crate) fn why(arguments: &WhyArguments) -> Result<Exit, CliError> {
    let WhyArguments { path, addr, token_file, json } = arguments;
    let target = target(addr, token_file.as_deref())?;
    let is_here = is_on_this_host(&target);
    let answer = ask_ok(target, &format!("WHY +json {}", one_line(path)))?;
    let mut report: WhyReport = parse(&answer)?;
    if is_here {
        name_writers(&mut report);
    }
    let shown = match Output::from(*json) {
        Output::People => text(&report),
        Output::Json => serde_json::to_string(&report)
            .map(|text| format!("{text}\n"))
            .map_err(|error| CliError::Answer(error.to_string()))?,
    };
    show(shown.as_bytes())?;
    Ok(Exit::Ok)
}

/// Whether the processes of the daemon's host are those that can be seen here.
fn is_on_this_host(target: &Target) -> bool {
    match &target.address {
        pickbox_admin::client::Address::Unix(_) => true,
        pickbox_admin::client::Address::Tcp(address) => address.ip().is_loopback(),
    }
}

/// Finds out who has the file open, by the rights of whoever asks: the daemon may not see.
fn name_writers(report: &mut WhyReport) {
    let (Disk::AsAgreed(Stands { dev, ino, .. }) | Disk::Other(Stands { dev, ino, .. })) =
        report.here.disk
    else {
        return;
    };
    for reason in &mut report.here.reasons {
        if let Reason::Open { by, hidden } = reason {
            (*by, *hidden) = openers::writers(dev, ino);
        }
    }
}
