//! Commands that ask a running daemon: `status`, `log`, `cat`, `find-content`.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use argh::FromArgs;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pickbox_admin::client::{Address, Target};
use pickbox_admin::node::{VersionReport, VersionState};
use pickbox_admin::token::Secret;
use pickbox_admin::{StatusReport, Verdict, client};
use pickbox_store::contents::hasher::Hasher;
use serde::Deserialize;

use crate::exit::{CliError, Exit};
use crate::output::{show, table};
use crate::secret_file;

/// How long a daemon may take for one answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(35);
/// How often a piece is asked for while its content is on its way: ten minutes in all.
const PIECE_TRIES: u32 = 20;
/// Where a daemon is asked unless told otherwise.
pub(crate) const ADDRESS_DEFAULT: &str = "127.0.0.1:9001";

fn default_address() -> String {
    ADDRESS_DEFAULT.to_owned()
}

/// Tell how the cluster is; the exit code tells it too (0 well, 1 degraded, 2 no quorum, 3 unreachable).
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "status")]
pub(crate) struct StatusArguments {
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

/// List the versions of a file, the newest first.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "log")]
pub(crate) struct LogArguments {
    /// path in the folder, as Pickbox prints it (a backslash is written twice)
    #[argh(positional)]
    path: String,

    /// admin address of a node, HOST:PORT or unix:PATH (default 127.0.0.1:9001)
    #[argh(option, default = "default_address()")]
    addr: String,

    /// file with the token of a node on another host (mode 0600)
    #[argh(option)]
    token_file: Option<PathBuf>,

    /// tell what this node has, perhaps old: also without a majority
    #[argh(switch)]
    local: bool,

    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// Print a version of a file, byte for byte. What was printed is it only if the exit code is 0.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "cat")]
pub(crate) struct CatArguments {
    /// the path and the index that `pickbox log` shows: PATH@INDEX
    #[argh(positional)]
    version: String,

    /// admin address of a node, HOST:PORT or unix:PATH (default 127.0.0.1:9001)
    #[argh(option, default = "default_address()")]
    addr: String,

    /// file with the token of a node on another host (mode 0600)
    #[argh(option)]
    token_file: Option<PathBuf>,

    /// tell what this node has, perhaps old: also without a majority
    #[argh(switch)]
    local: bool,

    /// print the pieces as lines of JSON with the fields size, sha256, offset and data (base64)
    #[argh(switch)]
    json: bool,
}

/// Tell where content is, or was, by its SHA-256.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "find-content")]
pub(crate) struct FindArguments {
    /// what sha256sum prints
    #[argh(positional)]
    sha256: String,

    /// admin address of a node, HOST:PORT or unix:PATH (default 127.0.0.1:9001)
    #[argh(option, default = "default_address()")]
    addr: String,

    /// file with the token of a node on another host (mode 0600)
    #[argh(option)]
    token_file: Option<PathBuf>,

    /// tell what this node has, perhaps old: also without a majority
    #[argh(switch)]
    local: bool,

    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// The exit code that goes with a verdict.
pub(crate) fn exit_of(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Ok => Exit::Ok,
        Verdict::Degraded => Exit::Failed,
        Verdict::NoQuorum => Exit::NoQuorum,
    }
}

/// The status of one node.
pub(crate) fn fetch_status(target: impl Into<Target>) -> Result<StatusReport, CliError> {
    parse(&ask(target, "STATUS json")?)
}

pub(crate) fn status(arguments: &StatusArguments) -> Result<Exit, CliError> {
    let answer = ask(target(&arguments.addr, arguments.token_file.as_deref())?, "STATUS json")?;
    let report: StatusReport = parse(&answer)?;
    let text = if arguments.json { format!("{answer}\n") } else { report.to_text() };
    show(text.as_bytes())?;
    Ok(exit_of(report.verdict()))
}

pub(crate) fn log(arguments: &LogArguments) -> Result<Exit, CliError> {
    let LogArguments { path, addr, token_file, local, .. } = arguments;
    let line = format!("{}LOG {}", Voucher::from(*local).prefix(), one_line(path));
    let answer = ask_ok(target(addr, token_file.as_deref())?, &line)?;
    show_versions(&answer, Output::from(arguments.json))
}

pub(crate) fn find(arguments: &FindArguments) -> Result<Exit, CliError> {
    let FindArguments { sha256, addr, token_file, local, .. } = arguments;
    let line = format!("{}FIND {}", Voucher::from(*local).prefix(), one_line(sha256));
    let answer = ask_ok(target(addr, token_file.as_deref())?, &line)?;
    show_versions(&answer, Output::from(arguments.json))
}

/// Who vouches for an answer.
#[derive(Clone, Copy)]
enum Voucher {
    Majority,
    /// The node that is asked, alone.
    Node,
}

impl From<bool> for Voucher {
    fn from(local: bool) -> Self {
        if local { Self::Node } else { Self::Majority }
    }
}

impl Voucher {
    /// What comes before the request.
    fn prefix(self) -> &'static str {
        match self {
            Self::Majority => "",
            Self::Node => "LOCAL ",
        }
    }
}

/// What standard output shall hold.
#[derive(Clone, Copy)]
pub(crate) enum Output {
    People,
    Json,
}

impl From<bool> for Output {
    fn from(json: bool) -> Self {
        if json { Self::Json } else { Self::People }
    }
}

fn show_versions(answer: &str, output: Output) -> Result<Exit, CliError> {
    let versions: Vec<VersionReport> = parse(answer)?;
    match output {
        Output::Json => show(format!("{answer}\n").as_bytes())?,
        Output::People => show(version_table(&versions).as_bytes())?,
    }
    Ok(if versions.is_empty() { Exit::Failed } else { Exit::Ok })
}

fn version_table(versions: &[VersionReport]) -> String {
    let head = ["VERSION", "CHANGE", "NODE", "SIZE", "STATE", "SHA256"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for version in versions {
        let size = version.size.map_or("-".to_owned(), |size| size.to_string());
        let state = match version.state {
            VersionState::Current => "current",
            VersionState::Kept => "kept",
            // A deletion is a line of its own, and has no bytes that could be anywhere.
            VersionState::Gone if version.change == "delete" => "-",
            VersionState::Gone => "not here",
        };
        rows.push(vec![
            format!("{}@{}", version.path, version.index),
            version.change.clone(),
            version.node_id.clone(),
            size,
            state.to_owned(),
            version.sha256.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    table(&rows)
}

/// A part of a version, as the daemon sends it.
#[derive(Deserialize)]
struct Piece {
    size: u64,
    sha256: Option<String>,
    offset: u64,
    data: String,
}

pub(crate) fn cat(arguments: &CatArguments) -> Result<Exit, CliError> {
    let target = target(&arguments.addr, arguments.token_file.as_deref())?;
    let (prefix, version) = (Voucher::from(arguments.local).prefix(), one_line(&arguments.version));
    let mut offset: u64 = 0;
    let mut hasher = Hasher::default();
    loop {
        let answer = ask_for_piece(&target, &format!("{prefix}CAT +{offset} {version}"))?;
        let piece: Piece = parse(&answer)?;
        let data =
            STANDARD.decode(&piece.data).map_err(|error| CliError::Answer(error.to_string()))?;
        if piece.offset != offset {
            return Err(CliError::Answer(format!(
                "a piece from {} instead of {offset}",
                piece.offset
            )));
        }
        match Output::from(arguments.json) {
            Output::Json => show(format!("{answer}\n").as_bytes())?,
            Output::People => show(&data)?,
        }
        hasher.update(&data);
        offset = u64::try_from(data.len()).map_or(u64::MAX, |length| offset.saturating_add(length));
        if offset >= piece.size {
            return verified(hasher, piece.sha256.as_deref());
        }
        if data.is_empty() {
            return Err(CliError::Answer(format!(
                "it ends after {offset} of {} bytes",
                piece.size
            )));
        }
    }
}

/// A piece may have to wait until its content is fetched from another node, which goes on after
/// one request for it has been given up.
fn ask_for_piece(target: &Target, line: &str) -> Result<String, CliError> {
    let mut answer = ask_ok(target, line);
    for _ in 1..PIECE_TRIES {
        match &answer {
            Err(CliError::Refused { code, .. }) if code == "unknown" => {}
            _ => break,
        }
        answer = ask_ok(target, line);
    }
    answer
}

/// The end of a version: only here it is known whether what was shown is it.
fn verified(hasher: Hasher, sha256: Option<&str>) -> Result<Exit, CliError> {
    let actual = hasher.finish().to_string();
    match sha256 {
        Some(expected) if expected != actual => Err(CliError::Damaged(format!(
            "the version has the SHA-256 {expected}, the bytes that came have {actual}"
        ))),
        _ => Ok(Exit::Ok),
    }
}

/// An argument as it can stand in a request line.
pub(crate) fn one_line(text: &str) -> String {
    text.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t")
}

/// The node that `--addr` names, and the token of `--token-file`.
pub(crate) fn target(addr: &str, token_file: Option<&Path>) -> Result<Target, CliError> {
    let address = match addr.strip_prefix("unix:") {
        Some(path) => Address::Unix(path.into()),
        None => Address::Tcp(resolve(addr)?),
    };
    let token = match token_file {
        Some(path) => {
            let secret = Secret::new(&secret_file::read(path)?);
            Some(secret.map_err(|error| secret_file::bad(path, error))?)
        }
        None => None,
    };
    Ok(Target { address, token })
}

/// The address behind `HOST:PORT`.
pub(crate) fn resolve(text: &str) -> Result<SocketAddr, CliError> {
    let found = text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    found.ok_or_else(|| {
        let shown = text.escape_debug();
        CliError::Usage(format!(
            "--addr '{shown}' is no address: say HOST:PORT, such as {ADDRESS_DEFAULT}, or unix:PATH."
        ))
    })
}

/// One request and its answer, of which an `ERROR` is none.
pub(crate) fn ask(target: impl Into<Target>, line: &str) -> Result<String, CliError> {
    ask_within(target, line, PATIENCE)
}

/// As [`ask`], of a daemon that may take so long.
pub(crate) fn ask_within(
    target: impl Into<Target>,
    line: &str,
    patience: Duration,
) -> Result<String, CliError> {
    let target = target.into();
    let address = target.address.to_string();
    let unreachable = |source| CliError::Unreachable { address, source };
    let answer = client::ask(target, line, patience).map_err(unreachable)?;
    match answer
        .strip_prefix("ERROR ")
        .map(|reason| reason.split_once(": ").unwrap_or((reason, "")))
    {
        Some((code, text)) => {
            Err(CliError::Refused { code: code.to_owned(), text: text.to_owned() })
        }
        None => Ok(answer),
    }
}

/// What follows the `OK` of an answer.
pub(crate) fn ask_ok(target: impl Into<Target>, line: &str) -> Result<String, CliError> {
    ok_of(&ask(target, line)?)
}

/// What follows the `OK` of this answer.
pub(crate) fn ok_of(answer: &str) -> Result<String, CliError> {
    match answer.strip_prefix("OK ") {
        Some(rest) => Ok(rest.to_owned()),
        None => Err(CliError::Answer(answer.chars().take(80).collect())),
    }
}

pub(crate) fn parse<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, CliError> {
    serde_json::from_str(json).map_err(|error| CliError::Answer(error.to_string()))
}
