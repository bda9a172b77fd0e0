//! What a daemon is told on its command line, checked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use argh::FromArgs;
use log::LevelFilter;
use pickbox_admin::node::{NodeName, PeerAddress};
use pickbox_store::breaker::HoldRule;
use pickbox_store::engine::{BroughtRule, FolderRule};
use pickbox_store::owner::OwnerRule;
use pickbox_watch::{HotRules, WatchOptions};
use rustix::process::{Uid, geteuid};

use crate::exit::CliError;
use crate::sandbox::SandboxMode;

/// The admin port lies this far above the port, unless given.
const ADMIN_PORT_ABOVE: u16 = 1000;
/// The monitor port lies this far below the port, unless given.
const MONITOR_PORT_BELOW: u16 = 2000;

/// Seconds between two scans of the whole folder, at least: rarer than a scan takes.
const SCAN_INTERVAL_MIN_S: u64 = 5;
/// At most: a year.
const SCAN_INTERVAL_MAX_S: u64 = 365 * 24 * 60 * 60;

/// Keep a folder the same on several hosts: the daemon of one node.
#[derive(Debug, FromArgs)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct DaemonArguments {
    /// name of this node: 1-64 letters, digits, dots, underscores or dashes
    #[argh(option)]
    node_id: Option<String>,

    /// address to listen on for peers, an IP address of this host (default 127.0.0.1)
    #[argh(option, default = "String::from(\"127.0.0.1\")")]
    host: String,

    /// port for peers, such as 8001
    #[argh(option)]
    port: Option<u16>,

    /// where peers reach this node, if not at HOST:PORT: IP:PORT, for a host behind another address
    #[argh(option)]
    advertise: Option<String>,

    /// port for `pickbox` and `nc` (default: port + 1000)
    #[argh(option)]
    admin_port: Option<u16>,

    /// address for `pickbox` and `nc` (default: loopback); one that other hosts reach is taken besides
    /// loopback, and needs --admin-token-file
    #[argh(option)]
    admin_host: Option<String>,

    /// file with the secret that clients on other hosts must say; mode 0600, at least 16 characters
    #[argh(option)]
    admin_token_file: Option<PathBuf>,

    /// group whose users may do what this daemon's user may (default pickbox)
    #[argh(option, default = "String::from(\"pickbox\")")]
    admin_group: String,

    /// unix socket for `pickbox`, or none (default: admin.sock in the state directory)
    #[argh(option)]
    admin_socket: Option<PathBuf>,

    /// port for metrics (default: port - 2000); accepted, not served yet
    #[argh(option)]
    monitor_port: Option<u16>,

    /// port for the dashboard; accepted, not served yet
    #[argh(option)]
    dashboard_port: Option<u16>,

    /// the folder (default data/NODE-ID)
    #[argh(option)]
    data_dir: Option<PathBuf>,

    /// where the daemon keeps its own files, on the same file system as the folder (default
    /// .FOLDER.pickbox beside the folder)
    #[argh(option)]
    state_dir: Option<PathBuf>,

    /// found a cluster with this node as its first; ignored if the node has state
    #[argh(switch)]
    bootstrap: bool,

    /// join the cluster of the node at HOST:PORT; ignored if the node has state. On this host, for the
    /// user that runs it, that is enough; else see --token-file
    #[argh(option)]
    join: Option<String>,

    /// the join token that `pickbox token create` printed on a member, in a file; - for standard input.
    /// Without --join the member that it names is asked
    #[argh(option)]
    token_file: Option<PathBuf>,

    /// write one line of JSON to this file for each step of the consensus; grows quickly
    #[argh(option)]
    trace: Option<PathBuf>,

    /// take part anew, as a new member over the same folder, though there is state: for a node that was
    /// removed, or that is of a cluster which was founded anew; needs --join
    #[argh(switch)]
    rejoin: bool,

    /// take the folder as it is, though it is not the one of the last run: nothing that is
    /// missing from it counts as deleted
    #[argh(switch)]
    accept_folder: bool,

    /// join though the folder has files that the cluster does not have: keep both
    #[argh(switch)]
    merge: bool,

    /// join though the folder has files that the cluster does not have: move them to discarded/ in the
    /// state directory
    #[argh(switch)]
    discard_local: bool,

    /// hold deletions until somebody approves when within ten minutes there are more than so many files
    /// and more than so much of a hundred: FILES,PERCENT, or off (default 100,25)
    #[argh(option)]
    hold_deletes: Option<String>,

    /// whose files are: `keep` replicates users and groups, by name, else by number (default for
    /// root); `own` makes new files the daemon's own (default for everybody else)
    #[argh(option)]
    owners: Option<String>,

    /// seconds after which the whole folder is looked at again, at most, though no event says that anything
    /// changed (default 3600; 0: never): finds what raises no event, such as writes through mmap
    #[argh(option, default = "3600")]
    scan_interval: u64,

    /// what to do with files that stay open for writing: PATTERN=snapshot takes them as they are after 30
    /// s and again whenever they changed (default), PATTERN=skip waits until they are closed. A pattern as
    /// in .gitignore; may be given again, the last that matches decides
    #[argh(option)]
    hot: Vec<String>,

    /// error, warn, info, debug or trace (default info)
    #[argh(option, default = "LevelFilter::Info")]
    log_level: LevelFilter,

    /// auto: give up every right that is not needed, as far as the kernel can; require: start only if it
    /// can; off: for debuggers (default auto)
    #[argh(option, default = "SandboxMode::default()")]
    sandbox: SandboxMode,

    /// print the version
    #[argh(switch)]
    pub(crate) version: bool,
}

/// What a daemon needs to know, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonOptions {
    /// The node's name.
    pub node_id: NodeName,
    /// Where peers reach it.
    pub peer_address: SocketAddr,
    /// Where it listens to them.
    pub listen_address: SocketAddr,
    /// Where the admin protocol is served over TCP, loopback first, and who may use it.
    pub admin: AdminOptions,
    /// Where metrics will be served.
    pub monitor: Option<OptionalPort>,
    /// Where the dashboard will be served.
    pub dashboard: Option<OptionalPort>,
    /// The folder, an absolute path.
    pub data_dir: PathBuf,
    /// The daemon's own files, an absolute path; neither inside the folder nor around it.
    pub state_dir: PathBuf,
    /// What a node without state does.
    pub entry: Entry,
    /// Where each step of the consensus is told, if anywhere.
    pub trace: Option<PathBuf>,
    /// Where the join token is; `-` for standard input.
    pub token_file: Option<PathBuf>,
    /// Whether to leave the state behind and become a new member.
    pub rejoin: bool,
    /// Whether another folder than that of the last run will do.
    pub folder_rule: FolderRule,
    /// What becomes of files that the node brings along when it joins.
    pub brought_rule: BroughtRule,
    /// When deletions made here are held.
    pub hold_rule: HoldRule,
    /// Whether users and groups are replicated.
    pub owner_rule: OwnerRule,
    /// How the folder is watched.
    pub watch: WatchOptions,
    /// How much is logged.
    pub log_level: LevelFilter,
    /// How much of the sandbox there must be.
    pub sandbox: SandboxMode,
}

/// How a daemon is asked, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminOptions {
    /// Addresses of TCP; if one is not loopback there is a token file.
    pub addresses: Vec<SocketAddr>,
    /// The file with the secret that clients on other hosts say; an absolute path.
    pub token_file: Option<PathBuf>,
    /// The group whose users may do what the daemon's user may.
    pub group: String,
    /// The unix socket, if there is to be one.
    pub socket: Option<AdminSocket>,
}

/// Where the unix socket is; an absolute path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminSocket {
    /// The command line says so: without it the daemon does not start.
    Given(PathBuf),
    /// In the state directory.
    Default(PathBuf),
}

impl AdminSocket {
    /// The path.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Given(path) | Self::Default(path) => path,
        }
    }
}

/// A port whose being taken is no reason to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionalPort {
    /// The port.
    pub number: u16,
    /// Who chose it.
    pub origin: PortOrigin,
}

/// Who chose a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortOrigin {
    /// The command line.
    Given,
    /// The rule for defaults.
    Default,
}

/// What a node without state does; with state it goes on with what it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Nothing was said: without state this is an error.
    None,
    /// Found a cluster.
    Bootstrap,
    /// Ask the node at this address to be let in, or the one that the join token names.
    Join(Option<PeerAddress>),
}

impl DaemonArguments {
    /// Checks everything that can be checked without touching the machine but for its current
    /// directory.
    ///
    /// # Errors
    /// With [`CliError::Usage`], a sentence each.
    pub(crate) fn check(self) -> Result<DaemonOptions, CliError> {
        let node_id = parse_node_id(self.node_id.as_deref())?;
        let host = parse_address("--host", &self.host)?;
        let port = self.port.filter(|&port| port != 0).ok_or_else(|| {
            usage(
                "--port PORT is missing: where do peers reach this node? For example --port 8001.",
            )
        })?;
        let admin_port = admin_port(port, self.admin_port)?;
        let admin_host = self.admin_host.as_deref();
        let token_file = self.admin_token_file.as_deref().map(absolute).transpose()?;
        let admin_hosts = admin_hosts(host, admin_host, token_file.as_deref())?;
        let data_dir = self.data_dir.unwrap_or_else(|| Path::new("data").join(node_id.as_str()));
        let data_dir = absolute(&data_dir)?;
        let state_dir = match self.state_dir {
            Some(path) => absolute(&path)?,
            None => default_state_dir(&data_dir)?,
        };
        check_apart(&data_dir, &state_dir)?;
        let socket = admin_socket(self.admin_socket.as_deref(), &data_dir, &state_dir)?;
        let entry = parse_entry(self.bootstrap, self.join.as_deref(), self.token_file.as_deref())?;
        if self.rejoin && !matches!(entry, Entry::Join(_)) {
            return Err(usage(
                "--rejoin needs --join HOST:PORT or --token-file FILE: which member shall take this node in \
                 again?",
            ));
        }
        Ok(DaemonOptions {
            node_id,
            peer_address: advertised(SocketAddr::new(host, port), self.advertise.as_deref())?,
            listen_address: SocketAddr::new(host, port),
            admin: AdminOptions {
                addresses: admin_hosts.map(|host| SocketAddr::new(host, admin_port)).collect(),
                token_file,
                group: self.admin_group,
                socket,
            },
            monitor: optional_port(self.monitor_port, port.checked_sub(MONITOR_PORT_BELOW)),
            dashboard: optional_port(self.dashboard_port, None),
            data_dir,
            state_dir,
            entry,
            token_file: self.token_file,
            trace: self.trace.as_deref().map(absolute).transpose()?,
            rejoin: self.rejoin,
            folder_rule: if self.accept_folder { FolderRule::Accept } else { FolderRule::Marked },
            brought_rule: parse_brought(self.bootstrap, self.merge, self.discard_local)?,
            hold_rule: parse_holds(self.hold_deletes.as_deref())?,
            owner_rule: parse_owners(self.owners.as_deref(), geteuid())?,
            watch: watch_options(self.scan_interval, &self.hot)?,
            log_level: self.log_level,
            sandbox: self.sandbox,
        })
    }
}

fn watch_options(scan_interval: u64, hot: &[String]) -> Result<WatchOptions, CliError> {
    let hot = HotRules::parse(hot.iter().map(String::as_str))
        .map_err(|error| usage(format!("--hot {error}. For example --hot '*.db=skip'.")))?;
    if (1..SCAN_INTERVAL_MIN_S).contains(&scan_interval) || scan_interval > SCAN_INTERVAL_MAX_S {
        return Err(usage(format!(
            "--scan-interval {scan_interval} is out of range: say seconds, {SCAN_INTERVAL_MIN_S} to \
             {SCAN_INTERVAL_MAX_S}, or 0 for never."
        )));
    }
    let scan_every = (scan_interval > 0).then(|| Duration::from_secs(scan_interval));
    Ok(WatchOptions { scan_every, hot })
}

fn usage(text: impl Into<String>) -> CliError {
    CliError::Usage(text.into())
}

fn parse_node_id(text: Option<&str>) -> Result<NodeName, CliError> {
    let text = text.ok_or_else(|| {
        usage("--node-id NAME is missing: how is this node called? For example --node-id node1.")
    })?;
    NodeName::parse(text).ok_or_else(|| {
        usage(format!(
            "--node-id '{}' cannot be used: take 1-64 letters, digits, dots, underscores or dashes, \
             and no dot or dash first.",
            text.escape_debug()
        ))
    })
}

fn parse_address(flag: &str, text: &str) -> Result<IpAddr, CliError> {
    let address = match text {
        "localhost" => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        _ => text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>(),
    };
    address.map_err(|_| {
        usage(format!(
            "{flag} '{}' is no IP address: use one of this host, such as 10.0.0.1, or 127.0.0.1 to try things \
             out.",
            text.escape_debug()
        ))
    })
}

/// Where the admin protocol is served: on loopback whatever the host of the peers is, unless
/// something else was said.
fn admin_hosts(
    peers: IpAddr,
    given: Option<&str>,
    token_file: Option<&Path>,
) -> Result<impl Iterator<Item = IpAddr>, CliError> {
    let loopback = match peers {
        host if host.is_loopback() => host,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    let address = given.map(|text| parse_address("--admin-host", text)).transpose()?;
    let (first, second) = match address {
        None => (loopback, None),
        Some(address) if address.to_canonical().is_loopback() => (address, None),
        Some(address) if token_file.is_none() => {
            return Err(usage(format!(
                "--admin-host {address} can be reached from other hosts: say --admin-token-file FILE too, a \
                 file of mode 0600 with the secret that clients there must say. Or leave it out and ask \
                 from elsewhere by ssh."
            )));
        }
        // It is loopback as well.
        Some(address) if address.is_unspecified() => (address, None),
        Some(address) => (loopback, Some(address)),
    };
    Ok([first].into_iter().chain(second))
}

fn admin_socket(
    given: Option<&Path>,
    data_dir: &Path,
    state_dir: &Path,
) -> Result<Option<AdminSocket>, CliError> {
    let Some(path) = given else {
        return Ok(Some(AdminSocket::Default(state_dir.join("admin.sock"))));
    };
    if path == "none" {
        return Ok(None);
    }
    let path = absolute(path)?;
    if path.starts_with(data_dir) {
        let shown = path.display();
        return Err(usage(format!(
            "--admin-socket {shown} lies in the folder, which holds users' files and nothing else."
        )));
    }
    if !pickbox_admin::fits_socket(&path) {
        let shown = path.display();
        return Err(usage(format!(
            "--admin-socket {shown} is too long: no unix socket can have a path of over 107 bytes."
        )));
    }
    Ok(Some(AdminSocket::Given(path)))
}

/// Where peers reach a node that listens there.
fn advertised(listen: SocketAddr, given: Option<&str>) -> Result<SocketAddr, CliError> {
    let Some(text) = given else {
        if listen.ip().is_unspecified() {
            return Err(usage(format!(
                "--host {} is every address of this host, and peers need one: say --advertise IP:PORT too.",
                listen.ip()
            )));
        }
        return Ok(listen);
    };
    let address = text
        .parse()
        .ok()
        .filter(|address: &SocketAddr| !address.ip().is_unspecified() && address.port() != 0);
    address.ok_or_else(|| {
        usage(format!(
            "--advertise '{}' is not IP:PORT, such as 10.0.0.1:8001.",
            text.escape_debug()
        ))
    })
}

fn admin_port(port: u16, given: Option<u16>) -> Result<u16, CliError> {
    let admin = given.or_else(|| port.checked_add(ADMIN_PORT_ABOVE)).filter(|&admin| admin != 0);
    match admin {
        Some(admin) if admin == port => Err(usage(format!(
            "--admin-port {admin} is the same as --port: the two need one each."
        ))),
        Some(admin) => Ok(admin),
        None => {
            Err(usage(format!("--admin-port is needed: {port} + {ADMIN_PORT_ABOVE} is no port.")))
        }
    }
}

fn optional_port(given: Option<u16>, default: Option<u16>) -> Option<OptionalPort> {
    let chosen = match given {
        Some(number) => OptionalPort { number, origin: PortOrigin::Given },
        None => OptionalPort { number: default?, origin: PortOrigin::Default },
    };
    (chosen.number != 0).then_some(chosen)
}

fn parse_entry(
    bootstrap: bool,
    join: Option<&str>,
    token_file: Option<&Path>,
) -> Result<Entry, CliError> {
    match (bootstrap, join, token_file) {
        (false, None, None) => Ok(Entry::None),
        (false, None, Some(_)) => Ok(Entry::Join(None)),
        (true, None, None) => Ok(Entry::Bootstrap),
        (true, ..) => Err(usage(
            "--bootstrap excludes --join and --token-file: the first node of a cluster is started with \
             --bootstrap, each further one with --join HOST:PORT.",
        )),
        (false, Some(text), _) => {
            PeerAddress::parse(text).map(Some).map(Entry::Join).ok_or_else(|| {
                let shown = text.escape_debug();
                usage(format!("--join '{shown}' is not HOST:PORT, such as 127.0.0.1:8001."))
            })
        }
    }
}

/// What a daemon of this user does about owners: only root may give files away (chown(2)).
fn parse_owners(text: Option<&str>, daemon: Uid) -> Result<OwnerRule, CliError> {
    match text {
        None | Some("keep") if daemon.is_root() => Ok(OwnerRule::Keep),
        None | Some("own") => Ok(OwnerRule::Own),
        Some("keep") => Err(usage(format!(
            "--owners keep needs root: this daemon runs as user {daemon}, and the system lets nobody \
             else give files away. Start it as root, or leave the flag out: what is placed is then the \
             daemon's own."
        ))),
        Some(other) => Err(usage(format!(
            "--owners '{}' is neither keep (replicate users and groups) nor own (the daemon's own).",
            other.escape_debug()
        ))),
    }
}

/// What becomes of what a node brings along: its founder's folder is the cluster's.
fn parse_brought(founds: bool, merge: bool, discard: bool) -> Result<BroughtRule, CliError> {
    match (founds, merge, discard) {
        (_, true, true) => Err(usage(
            "--merge excludes --discard-local: shall the files that the cluster does not have be kept, or moved \
             aside?",
        )),
        (true, _, true) => Err(usage(
            "--discard-local excludes --bootstrap: the first node's folder is what the cluster has.",
        )),
        (false, false, true) => Ok(BroughtRule::Discard),
        (true, ..) | (_, true, _) => Ok(BroughtRule::Merge),
        (false, false, false) => Ok(BroughtRule::Ask),
    }
}

/// When deletions are held.
fn parse_holds(text: Option<&str>) -> Result<HoldRule, CliError> {
    let bounds = |text: &str| {
        let (files, percent) = text.split_once(',')?;
        let (files, percent) = (files.trim().parse().ok()?, percent.trim().parse().ok()?);
        (percent < 100).then_some(HoldRule::Above { files, percent })
    };
    match text {
        None => Ok(HoldRule::default()),
        Some("off") => Ok(HoldRule::Off),
        Some(text) => bounds(text).ok_or_else(|| {
            usage(format!(
                "--hold-deletes '{}' is neither FILES,PERCENT, such as 100,25, with a percentage under 100, nor \
                 off.",
                text.escape_debug()
            ))
        }),
    }
}

/// The path from the root, without `.` and `..` where that is safe.
fn absolute(path: &Path) -> Result<PathBuf, CliError> {
    let shown = path.display();
    std::path::absolute(path)
        .map_err(CliError::local(format!("Cannot make {shown} an absolute path")))
}

/// `.NAME.pickbox` beside the folder NAME: one folder, one state, whatever the node is called.
pub(crate) fn default_state_dir(data_dir: &Path) -> Result<PathBuf, CliError> {
    let name = data_dir.file_name().ok_or_else(|| {
        let shown = data_dir.display();
        usage(format!("--data-dir {shown} has no name of its own: say --state-dir DIR too."))
    })?;
    let mut state = std::ffi::OsString::from(".");
    state.push(name);
    state.push(".pickbox");
    Ok(data_dir.with_file_name(state))
}

fn check_apart(data_dir: &Path, state_dir: &Path) -> Result<(), CliError> {
    if data_dir.starts_with(state_dir) || state_dir.starts_with(data_dir) {
        return Err(usage(format!(
            "--data-dir {} and --state-dir {} must not lie inside each other: the folder holds users' \
             files and nothing else.",
            data_dir.display(),
            state_dir.display()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments;

    fn check(line: &str) -> Result<DaemonOptions, CliError> {
        let words = arguments::split(line.split_whitespace().map(Into::into));
        match arguments::parse::<DaemonArguments>(&["pickboxd"], &words)? {
            arguments::Parsed::Run(arguments) => arguments.check(),
            arguments::Parsed::Done(_) => panic!("done"),
        }
    }

    fn refusal(line: &str) -> String {
        let error = check(line).unwrap_err();
        assert_eq!(error.exit().number(), 64, "{error}");
        error.to_string()
    }

    #[test]
    fn few_flags_are_enough() {
        let options = check("--node-id node2 --port 8002 --join 127.0.0.1:8001").unwrap();
        assert_eq!(options.peer_address, "127.0.0.1:8002".parse().unwrap());
        assert_eq!(options.admin.addresses, ["127.0.0.1:9002".parse().unwrap()]);
        assert_eq!(options.admin.group, "pickbox");
        let socket = options.admin.socket.unwrap();
        assert!(socket.path().ends_with("data/.node2.pickbox/admin.sock"), "{socket:?}");
        assert_eq!(options.monitor.unwrap().number, 6002);
        assert!(options.data_dir.is_absolute() && options.data_dir.ends_with("data/node2"));
        assert!(options.state_dir.ends_with("data/.node2.pickbox"));
        assert!(
            matches!(options.entry, Entry::Join(Some(address)) if address.as_str() == "127.0.0.1:8001")
        );
    }

    /// Peers are met on any address, clients on this host alone.
    #[test]
    fn an_address_of_the_network_is_for_peers() {
        let options = check("--node-id a --port 1 --host 10.0.0.7").unwrap();
        assert_eq!(options.peer_address, "10.0.0.7:1".parse().unwrap());
        assert_eq!(options.admin.addresses, ["127.0.0.1:1001".parse().unwrap()]);
        let line = "--node-id a --port 1 --host 0.0.0.0 --advertise 10.0.0.7:9 --token-file t";
        let options = check(line).unwrap();
        assert_eq!(options.listen_address, "0.0.0.0:1".parse().unwrap());
        assert_eq!(options.peer_address, "10.0.0.7:9".parse().unwrap());
        assert_eq!((options.entry, options.token_file), (Entry::Join(None), Some("t".into())));
        let options = check("--node-id a --port 1 --host fe80::1").unwrap();
        assert_eq!(options.admin.addresses, ["[::1]:1001".parse().unwrap()]);
    }

    #[test]
    fn every_flag_may_be_written_with_an_equals_sign() {
        let options = check(
            "--node-id=node1 --host=localhost --port=18001 --admin-port=19001 --monitor-port=1 \
             --dashboard-port=2 --data-dir=/tmp/x --state-dir=/tmp/y --bootstrap --log-level=debug",
        )
        .unwrap();
        assert_eq!(options.admin.addresses, ["127.0.0.1:19001".parse().unwrap()]);
        assert_eq!(options.monitor, Some(OptionalPort { number: 1, origin: PortOrigin::Given }));
        assert_eq!(options.state_dir, Path::new("/tmp/y"));
        assert_eq!((options.entry, options.log_level), (Entry::Bootstrap, LevelFilter::Debug));
    }

    /// Source: the admin port is for this host, whatever address the peers have.
    #[test]
    fn the_admin_protocol_is_on_loopback_unless_said_otherwise() {
        let base = "--node-id a --port 1";
        let addresses = |more: &str| {
            let options = check(&format!("{base} {more}")).unwrap();
            let all = options.admin.addresses.iter().map(ToString::to_string);
            all.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(addresses("--host ::1"), "[::1]:1001");
        assert_eq!(addresses("--admin-host 127.0.0.2"), "127.0.0.2:1001");
        let token = "--admin-token-file t";
        assert_eq!(
            addresses(&format!("--admin-host 10.0.0.5 {token}")),
            "127.0.0.1:1001 10.0.0.5:1001"
        );
        assert_eq!(addresses(&format!("--admin-host 0.0.0.0 {token}")), "0.0.0.0:1001");
        let elsewhere: Vec<IpAddr> =
            admin_hosts("2001:db8::1".parse().unwrap(), None, None).unwrap().collect();
        assert_eq!(elsewhere, [IpAddr::V6(Ipv6Addr::LOCALHOST)]);
    }

    #[test]
    fn the_admin_socket_is_where_one_says() {
        let base = "--node-id a --port 1";
        let socket = |more: &str| check(&format!("{base} {more}")).unwrap().admin.socket;
        assert_eq!(socket("--admin-socket none"), None);
        let given = AdminSocket::Given("/run/pickbox/admin.sock".into());
        assert_eq!(socket("--admin-socket /run/pickbox/admin.sock"), Some(given));
        let long = format!("{base} --admin-socket /{}", "x".repeat(107));
        assert!(refusal(&long).contains("too long"));
    }

    #[test]
    fn what_cannot_work_is_refused_with_a_reason() {
        for (line, words) in [
            ("--port 1", "--node-id NAME is missing"),
            ("--node-id a", "--port PORT is missing"),
            ("--node-id -a --port 1", "--node-id"),
            ("--node-id a/b --port 1", "cannot be used"),
            ("--node-id a --port 1 --bootstrap --join b:1", "excludes --join"),
            ("--node-id a --port 1 --bootstrap --token-file t", "excludes --join"),
            ("--node-id a --port 1 --rejoin", "--rejoin needs"),
            ("--node-id a --port 1 --advertise b", "is not IP:PORT"),
            ("--node-id a --port 1 --join b", "is not HOST:PORT"),
            ("--node-id a --port 1 --host 0.0.0.0", "--advertise"),
            ("--node-id a --port 1 --host example.org", "is no IP address"),
            ("--node-id a --port 1 --admin-host 0.0.0.0", "say --admin-token-file FILE too"),
            ("--node-id a --port 1 --admin-host 10.0.0.5", "say --admin-token-file FILE too"),
            ("--node-id a --port 1 --admin-host x", "--admin-host 'x' is no IP address"),
            ("--node-id a --port 1 --data-dir /x --admin-socket /x/s", "lies in the folder"),
            ("--node-id a --port 65000", "--admin-port is needed"),
            ("--node-id a --port 5 --admin-port 5", "one each"),
            ("--node-id a --port 1 --data-dir /x --state-dir /x/y", "inside each other"),
            ("--node-id a --port 1 --data-dir /x/y --state-dir /x", "inside each other"),
            ("--node-id a --port 1 --data-dir /", "--state-dir"),
            ("--node-id a --port x", "--help"),
            ("--node-id a --port 1 --colour", "--help"),
            ("--node-id a --port 1 --owners mine", "neither keep"),
            ("--node-id a --port 1 --merge --discard-local", "excludes"),
            ("--node-id a --port 1 --bootstrap --discard-local", "excludes"),
            ("--node-id a --port 1 --hold-deletes 5", "neither FILES,PERCENT"),
            ("--node-id a --port 1 --hold-deletes 5,100", "under 100"),
            ("--node-id a --port 1 --hold-deletes -1,5", "neither FILES,PERCENT"),
        ] {
            let text = refusal(line);
            assert!(text.contains(words), "{line}: {text}");
        }
    }

    #[test]
    fn deletions_are_held_as_one_says() {
        let rule = |more: &str| check(&format!("--node-id a --port 1 {more}")).unwrap().hold_rule;
        assert_eq!(rule(""), HoldRule::Above { files: 100, percent: 25 });
        assert_eq!(rule("--hold-deletes 0,0"), HoldRule::Above { files: 0, percent: 0 });
        assert_eq!(rule("--hold-deletes off"), HoldRule::Off);
    }

    /// Source: the security design: root keeps owners, everybody else makes what is placed his own.
    #[test]
    fn only_root_keeps_owners() {
        let (root, user) = (Uid::ROOT, Uid::from_raw(1000));
        let rule = |text, daemon| parse_owners(text, daemon).unwrap();
        assert_eq!((rule(None, root), rule(None, user)), (OwnerRule::Keep, OwnerRule::Own));
        assert_eq!(rule(Some("keep"), root), OwnerRule::Keep);
        assert_eq!(
            (rule(Some("own"), root), rule(Some("own"), user)),
            (OwnerRule::Own, OwnerRule::Own)
        );
        let why = parse_owners(Some("keep"), user).unwrap_err().to_string();
        assert!(why.contains("needs root") && why.contains("user 1000"), "{why}");
    }
}
