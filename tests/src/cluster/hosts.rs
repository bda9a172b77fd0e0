//! Hosts on one network, as far as a daemon can tell: network namespaces (`ip-netns(8)`), each
//! joined by a pair of virtual interfaces (`veth(4)`) to a bridge in a namespace of its own, the
//! switch. The network is broken by rules of nftables in the switch, so that no host knows of it.
//!
//! Every network has its own switch and is reached from nowhere else; so all have the same
//! addresses, `10.77.0.1` and so on, and tests run side by side. Names hold the process id of the
//! test that made them; what a killed test left behind goes when the next one starts.

use std::fs::{self, File};
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use pickbox_raft::clock;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where `ip netns add` puts the names.
const NAMES: &str = "/run/netns";
/// Names of ours begin so; the process id follows.
const PREFIX: &str = "pickbox-";
/// How long processes that a killed test left behind may take to end.
const END: Duration = Duration::from_secs(10);
/// The table that breaks the network. (Names of tables are per namespace.)
const TABLE: &str = "broken";
/// Its only chain.
const CHAIN: &str = "between";

/// Whether this run is to use hosts of their own (`HOSTS=netns`), and can. Says why not, so that
/// it is seen though the test passes.
#[must_use]
pub fn are_wanted() -> bool {
    let why_not = why_not();
    if let Some(why_not) = why_not {
        // Past what catches the output of a test.
        let _ = writeln!(std::io::stderr(), "skipped: {why_not}");
    }
    why_not.is_none()
}

fn why_not() -> Option<&'static str> {
    if std::env::var("HOSTS").as_deref() != Ok("netns") {
        Some("it needs hosts of their own: make test-cluster HOSTS=netns, as root")
    } else if !rustix::process::geteuid().is_root() {
        Some("network namespaces need root")
    } else if !["ip", "nft"].into_iter().all(is_installed) {
        Some("ip or nft is not installed: scripts/setup")
    } else {
        None
    }
}

fn is_installed(program: &str) -> bool {
    // Both answer this without doing anything.
    Command::new(program).arg("-V").output().is_ok_and(|output| output.status.success())
}

/// A switch and what is plugged into it. Dropping it takes all of it away.
#[derive(Debug)]
pub struct Network {
    /// `pickbox-PID-NUMBER`.
    name: String,
    hosts: Vec<Host>,
}

/// One host. Clones are the same host.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its namespace.
    name: String,
    /// It, open: a thread enters it by this.
    namespace: Arc<File>,
    /// Where others reach it.
    pub address: Ipv4Addr,
    /// The switch's end of its cable.
    port: String,
}

impl Network {
    /// A switch with nothing plugged in.
    #[must_use]
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        static SWEPT: Once = Once::new();
        SWEPT.call_once(sweep);
        let (pid, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let network = Self { name: format!("{PREFIX}{pid}-{number}"), hosts: Vec::new() };
        let switch = network.switch();
        ip(&format!("netns add {switch}"));
        // Without a spanning tree a port forwards as soon as it is up.
        ip(&format!("-n {switch} link add br0 type bridge stp_state 0"));
        ip(&format!("-n {switch} link set br0 up"));
        network
    }

    /// Plugs in one more host.
    pub fn add_host(&mut self) -> Host {
        let number = u8::try_from(self.hosts.len() + 1).expect("less than a network full");
        let (name, port) = (format!("{}-{number}", self.name), format!("p{number}"));
        let (address, switch) = (Ipv4Addr::new(10, 77, 0, number), self.switch());
        ip(&format!("netns add {name}"));
        ip(&format!("link add eth0 netns {name} type veth peer name {port} netns {switch}"));
        ip(&format!("-n {switch} link set {port} master br0 up"));
        ip(&format!("-n {name} link set lo up"));
        ip(&format!("-n {name} link set eth0 up"));
        let namespace = File::open(Path::new(NAMES).join(&name)).expect("a namespace");
        let mut host = Host { name, namespace: Arc::new(namespace), address, port };
        host.assign(address);
        self.hosts.push(host.clone());
        host
    }

    /// Cuts these hosts off from the others. They still reach each other.
    pub fn cut_off(&self, hosts: &[&Host]) {
        let ports: Vec<String> = hosts.iter().map(|host| format!("{:?}", host.port)).collect();
        let ports = format!("{{ {} }}", ports.join(", "));
        self.break_by(&[
            format!("iifname {ports} oifname != {ports} drop"),
            format!("iifname != {ports} oifname {ports} drop"),
        ]);
    }

    /// Cuts these two off from each other. Both still reach all others.
    pub fn cut_between(&self, one: &Host, other: &Host) {
        let rule =
            |from: &Host, to: &Host| format!("iifname {:?} oifname {:?} drop", from.port, to.port);
        self.break_by(&[rule(one, other), rule(other, one)]);
    }

    /// Drops what each of `from` sends to `to`; not what `to` sends to them.
    pub fn drop_one_way(&self, from: &[&Host], to: &Host) {
        let rule = |from: &&Host| format!("iifname {:?} oifname {:?} drop", from.port, to.port);
        self.break_by(&from.iter().map(rule).collect::<Vec<String>>());
    }

    /// Drops so many of a hundred packets of everybody, at random; less than all of them.
    pub fn lose(&self, percent: u8) {
        self.break_by(&[format!("numgen random mod 100 < {percent} drop")]);
    }

    /// Everything is as it was.
    pub fn heal(&self) {
        self.nft(&Self::no_rules());
    }

    /// To delete a table that is not there is an error, to add one that is there is none.
    fn no_rules() -> String {
        format!("add table bridge {TABLE}\ndelete table bridge {TABLE}")
    }

    /// These rules in place of those that there were.
    fn break_by(&self, rules: &[String]) {
        let begin = [
            Self::no_rules(),
            format!("add table bridge {TABLE}"),
            format!("add chain bridge {TABLE} {CHAIN} {{ type filter hook forward priority 0; }}"),
        ];
        // Not arp(7): to send in one direction, addresses are asked for in both.
        let rule = |rule: &String| format!("add rule bridge {TABLE} {CHAIN} ether type ip {rule}");
        let script: Vec<String> = begin.into_iter().chain(rules.iter().map(rule)).collect();
        self.nft(&script.join("\n"));
    }

    fn nft(&self, script: &str) {
        let switch = self.switch();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &switch, "nft", "-f", "-"]).stdin(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("ip runs");
        // Its end is the end of the script.
        let mut input = child.stdin.take().expect("a pipe");
        input.write_all(script.as_bytes()).expect("nft reads");
        drop(input);
        let output = child.wait_with_output().expect("a child");
        assert!(output.status.success(), "nft says {output:?} to\n{script}");
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.name)
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let hosts = self.hosts.iter().map(|host| host.name.clone());
        for name in hosts.chain([self.switch()]) {
            // A name that is left behind is swept later; a test fails by its own words.
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
}

impl Host {
    /// What starts a program there; its process id stays that of the program.
    #[must_use]
    pub fn launcher(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), self.entrance()]
    }

    /// Runs there what is given to it as arguments.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(self.entrance());
        command
    }

    /// Only its network: `ip netns exec` would make a mount namespace for each program too.
    fn entrance(&self) -> String {
        format!("--net={NAMES}/{}", self.name)
    }

    /// Does something on that host: its sockets belong there for good, wherever they are used then.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        // A namespace is that of a thread (setns(2)), and this one ends afterwards.
        std::thread::scope(|scope| {
            let there = scope.spawn(|| {
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(self.namespace.as_fd(), network).expect("setns");
                work()
            });
            there.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Gives it this address in place of the one that it has.
    pub fn move_to(&mut self, address: Ipv4Addr) {
        ip(&format!("-n {} address flush dev eth0", self.name));
        self.assign(address);
    }

    fn assign(&mut self, address: Ipv4Addr) {
        ip(&format!("-n {} address add {address}/24 dev eth0", self.name));
        self.address = address;
    }
}

/// Takes away what tests left behind that do not run any more, with the daemons that run on there.
fn sweep() {
    let Ok(names) = fs::read_dir(NAMES) else { return };
    for name in names.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        if !Path::new(&format!("/proc/{pid}")).exists() {
            end_all_within(&name);
            // Another test process may sweep at the same time.
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
}

fn end_all_within(name: &str) {
    let end = clock::now() + END;
    loop {
        let output = Command::new("ip").args(["netns", "pids", name]).output().expect("ip runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let pids = text.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
        let pids: Vec<Pid> = pids.collect();
        if pids.is_empty() {
            return;
        }
        assert!(clock::now() < end, "{pids:?} in {name} do not end");
        for pid in pids {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(super::LOOK_AGAIN);
    }
}

fn ip(line: &str) {
    run("ip", &line.split(' ').collect::<Vec<&str>>());
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; see `make setup`"));
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
}
