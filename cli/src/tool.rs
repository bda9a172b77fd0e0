//! `pickbox`: which command was meant.

use std::ffi::OsString;
use std::process::ExitCode;

use argh::FromArgs;

use crate::accounts;
use crate::arguments::{self, Parsed};
use crate::ask::{self, CatArguments, FindArguments, LogArguments, StatusArguments};
use crate::barriers::{self, FlushArguments, WaitArguments};
use crate::cluster::{self, ClusterArguments};
use crate::conflicts::{self, ConflictsArguments, ResolveArguments};
use crate::exit::{CliError, Exit};
use crate::holds::{self, ApproveArguments, HeldArguments, RejectArguments};
use crate::member::{self, MemberArguments};
use crate::recover::{self, RecoverArguments};
use crate::token::{self, TokenArguments};
use crate::why::{self, WhyArguments};
use crate::{output, start};

/// Keep a folder the same on several hosts: people's tool.
#[derive(Debug, FromArgs)]
struct Tool {
    /// print the version
    #[argh(switch)]
    version: bool,

    #[argh(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, FromArgs)]
#[argh(subcommand)]
enum Command {
    Status(StatusArguments),
    Log(LogArguments),
    Cat(CatArguments),
    Find(FindArguments),
    Conflicts(ConflictsArguments),
    Resolve(ResolveArguments),
    Flush(FlushArguments),
    Wait(WaitArguments),
    Why(WhyArguments),
    Member(MemberArguments),
    Token(TokenArguments),
    Cluster(ClusterArguments),
    Recover(RecoverArguments),
    Node(NodeArguments),
    Held(HeldArguments),
    Approve(ApproveArguments),
    Reject(RejectArguments),
}

/// Run a node in the foreground: `pickbox node start` or `pickbox node multi`, flags as `pickboxd`.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "node")]
struct NodeArguments {
    /// start or multi
    #[argh(positional)]
    action: Option<String>,
}

/// Runs `pickbox` with these arguments (without the program's name).
pub fn main(words: impl Iterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = words.collect();
    if accounts::is_asked_for(&words) {
        // A node that runs in this program started it.
        return accounts::serve();
    }
    run(&arguments::split(words.into_iter())).unwrap_or_else(|error| {
        output::say(format_args!("pickbox: {error}"));
        error.exit().into()
    })
}

fn run(words: &[String]) -> Result<ExitCode, CliError> {
    // A node's flags are those of pickboxd: one structure for both, so its words are split off here.
    if let [node, action, rest @ ..] = words
        && node == "node"
        && ["start", "multi"].contains(&action.as_str())
    {
        return start::run(&["pickbox", node, action], rest);
    }
    let tool = match arguments::parse::<Tool>(&["pickbox"], words)? {
        Parsed::Run(tool) => tool,
        Parsed::Done(exit) => return Ok(exit.into()),
    };
    if tool.version {
        output::show(arguments::version_line("pickbox").as_bytes())?;
        return Ok(Exit::Ok.into());
    }
    dispatch(tool.command).map(ExitCode::from)
}

fn dispatch(command: Option<Command>) -> Result<Exit, CliError> {
    match command {
        Some(Command::Status(arguments)) => ask::status(&arguments),
        Some(Command::Log(arguments)) => ask::log(&arguments),
        Some(Command::Cat(arguments)) => ask::cat(&arguments),
        Some(Command::Find(arguments)) => ask::find(&arguments),
        Some(Command::Conflicts(arguments)) => conflicts::list_conflicts(&arguments),
        Some(Command::Resolve(arguments)) => conflicts::resolve(&arguments),
        Some(Command::Flush(arguments)) => barriers::flush(&arguments),
        Some(Command::Wait(arguments)) => barriers::wait(&arguments),
        Some(Command::Why(arguments)) => why::why(&arguments),
        Some(Command::Member(arguments)) => member::run(&arguments),
        Some(Command::Token(arguments)) => token::run(&arguments),
        Some(Command::Cluster(arguments)) => cluster::run(&arguments),
        Some(Command::Recover(arguments)) => recover::run(&arguments),
        Some(Command::Held(arguments)) => holds::held(&arguments),
        Some(Command::Approve(arguments)) => holds::approve(&arguments),
        Some(Command::Reject(arguments)) => holds::reject(&arguments),
        Some(Command::Node(arguments)) => Err(CliError::Usage(format!(
            "pickbox node {}: say `pickbox node start` and the flags of pickboxd; `pickbox node start \
             --help` lists them.",
            arguments.action.unwrap_or_default().escape_debug()
        ))),
        None => Err(CliError::Usage(
            "A command is missing: status, log, cat, find-content, conflicts, resolve, flush, wait, why, member, token, cluster, recover, held, approve, reject or node. `pickbox --help` \
             tells what each does."
                .to_owned(),
        )),
    }
}
