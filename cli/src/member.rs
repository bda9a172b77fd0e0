//! `pickbox member`: who belongs to the cluster, and who leads it.

use std::path::PathBuf;
use std::time::Duration;

use argh::FromArgs;
use pickbox_admin::StatusReport;
use pickbox_admin::client::Target;
use pickbox_admin::status::{MemberReport, MemberRole, Role};
use pickbox_raft::clock;
use serde::Serialize;

use crate::ask::{self, ADDRESS_DEFAULT, Output};
use crate::exit::{CliError, Exit};
use crate::output::{say, show, table};

/// How long a member may come no nearer before nobody waits for it any more.
const STANDSTILL: Duration = Duration::from_mins(1);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Progress is told no more often than this.
const TELL: Duration = Duration::from_secs(1);

/// List the members of the cluster, or change them.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "member")]
pub(crate) struct MemberArguments {
    #[argh(subcommand)]
    action: Action,
}

#[derive(Debug, FromArgs)]
#[argh(subcommand)]
enum Action {
    List(List),
    Add(Add),
    Remove(Remove),
    Replace(Replace),
    Promote(Promote),
    Demote(Demote),
    Move(Move),
    Transfer(Transfer),
    RotateKey(RotateKey),
}

pub(crate) fn default_address() -> String {
    ADDRESS_DEFAULT.to_owned()
}

/// List the members: what they are, where, and how far.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "list")]
struct List {
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

/// List a node as a member; it takes part once it is started with --join. It votes when it has
/// caught up.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "add")]
struct Add {
    /// its name (--node-id)
    #[argh(positional)]
    name: String,

    /// where its peers will reach it, HOST:PORT
    #[argh(positional)]
    address: String,

    /// let it follow only, never vote
    #[argh(switch)]
    learner: bool,

    /// wait until it votes, and tell how far it is
    #[argh(switch)]
    wait: bool,

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

/// Take a member out; its folder stays as it is.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "remove")]
struct Remove {
    /// its name
    #[argh(positional)]
    name: String,

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

/// Put another node in the place of a member: the old one goes when the new one votes.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "replace")]
struct Replace {
    /// the name of the member that goes
    #[argh(positional)]
    old: String,

    /// the name of the node that comes
    #[argh(option)]
    node_id: String,

    /// where its peers will reach it, HOST:PORT
    #[argh(option)]
    node_addr: String,

    /// wait until it votes, and tell how far it is
    #[argh(switch)]
    wait: bool,

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

/// Make a learner a voter.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "promote")]
struct Promote {
    /// its name
    #[argh(positional)]
    name: String,

    /// wait until it votes, and tell how far it is
    #[argh(switch)]
    wait: bool,

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

/// Make a voter a learner.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "demote")]
struct Demote {
    /// its name
    #[argh(positional)]
    name: String,

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

/// Say where a member is now. Seldom needed: a node that starts at another port tells it itself.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "move")]
struct Move {
    /// its name
    #[argh(positional)]
    name: String,

    /// where its peers reach it, HOST:PORT
    #[argh(positional)]
    address: String,

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

/// Hand leadership to a voter: the one of this name, else the one that is furthest.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "transfer")]
struct Transfer {
    /// its name
    #[argh(positional)]
    name: Option<String>,

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

/// Give the node that is asked a new key: its former one counts no more. If it stopped half-way, ask again.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "rotate-key")]
struct RotateKey {
    /// also while members cannot be reached, which then may not know this node any more
    #[argh(switch)]
    anyway: bool,

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

pub(crate) fn run(arguments: &MemberArguments) -> Result<Exit, CliError> {
    match &arguments.action {
        Action::List(List { addr, token_file, json }) => {
            list(ask::target(addr, token_file.as_deref())?, Output::from(*json))
        }
        Action::Add(Add { name, address, learner, wait, addr, token_file, json }) => {
            let command = if *learner { "ADD_LEARNER" } else { "ADD_VOTER" };
            let order = Order::new(
                command,
                &[name, address],
                ask::target(addr, token_file.as_deref())?,
                Output::from(*json),
            )?;
            let is_awaited = *wait && !*learner;
            order.give_and(is_awaited.then_some(name))
        }
        Action::Remove(Remove { name, addr, token_file, json }) => Order::new(
            "REMOVE",
            &[name],
            ask::target(addr, token_file.as_deref())?,
            Output::from(*json),
        )?
        .give_and(None),
        Action::Replace(Replace { old, node_id, node_addr, wait, addr, token_file, json }) => {
            let order = Order::new(
                "REPLACE",
                &[old, node_id, node_addr],
                ask::target(addr, token_file.as_deref())?,
                Output::from(*json),
            )?;
            order.give_and(wait.then_some(node_id))
        }
        Action::Promote(Promote { name, wait, addr, token_file, json }) => Order::new(
            "PROMOTE",
            &[name],
            ask::target(addr, token_file.as_deref())?,
            Output::from(*json),
        )?
        .give_and(wait.then_some(name)),
        Action::Demote(Demote { name, addr, token_file, json }) => Order::new(
            "DEMOTE",
            &[name],
            ask::target(addr, token_file.as_deref())?,
            Output::from(*json),
        )?
        .give_and(None),
        Action::Move(Move { name, address, addr, token_file, json }) => Order::new(
            "MOVE",
            &[name, address],
            ask::target(addr, token_file.as_deref())?,
            Output::from(*json),
        )?
        .give_and(None),
        Action::Transfer(Transfer { name, addr, token_file, json }) => transfer(
            name.as_deref(),
            ask::target(addr, token_file.as_deref())?,
            Output::from(*json),
        ),
        Action::RotateKey(RotateKey { anyway, addr, token_file, json }) => {
            let line = if *anyway { "ROTATE_KEY anyway" } else { "ROTATE_KEY" };
            rotate_key(line, ask::target(addr, token_file.as_deref())?, Output::from(*json))
        }
    }
}

fn list(target: Target, output: Output) -> Result<Exit, CliError> {
    let answer = ask::ask(target, "MEMBERS json")?;
    let members: Vec<MemberReport> = ask::parse(&answer)?;
    match output {
        Output::Json => show(format!("{answer}\n").as_bytes())?,
        Output::People => show(member_table(&members).as_bytes())?,
    }
    Ok(Exit::Ok)
}

fn member_table(members: &[MemberReport]) -> String {
    let head = [
        "NODE", "NUMBER", "ROLE", "ADDRESS", "REACHED", "LEADS", "IN LOG", "APPLIED", "PLACED",
        "KEY",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let yes = |is_so: bool| if is_so { "yes" } else { "no" }.to_owned();
    let known =
        |index: Option<u64>| index.map_or_else(|| "-".to_owned(), |index| index.to_string());
    for member in members {
        rows.push(vec![
            member.node_id.clone(),
            member.number.to_string(),
            role_words(member, members),
            member.address.clone(),
            yes(member.connected),
            yes(member.leads),
            known(member.matched),
            known(member.applied),
            known(member.placed),
            member.key.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    table(&rows)
}

fn role_words(member: &MemberReport, members: &[MemberReport]) -> String {
    let Some(number) = member.replaces else { return member.role.to_string() };
    match members.iter().find(|other| other.number == number) {
        Some(other) => format!("{} for {}", member.role, other.node_id),
        None => format!("{}, was {number}", member.role),
    }
}

/// A change of the members on its way to a node.
struct Order {
    line: String,
    target: Target,
    output: Output,
}

/// What a change came to, for programs.
#[derive(Serialize)]
struct Changed<'a> {
    number: u64,
    text: &'a str,
}

impl Order {
    fn new(
        command: &str,
        words: &[&String],
        target: Target,
        output: Output,
    ) -> Result<Self, CliError> {
        let mut line = command.to_owned();
        for word in words {
            line.push(' ');
            line.push_str(one_word(word)?);
        }
        Ok(Self { line, target, output })
    }

    /// Gives it, waits for the member of this name to vote if there is one, and tells the outcome.
    fn give_and(&self, awaited: Option<&String>) -> Result<Exit, CliError> {
        let answer = ask::ask_ok(&self.target, &self.line)?;
        let (number, text) = answer
            .strip_prefix("member ")
            .and_then(|rest| rest.split_once(": "))
            .and_then(|(number, text)| Some((number.parse::<u64>().ok()?, text)))
            .ok_or_else(|| CliError::Answer(answer.clone()))?;
        let text = match awaited {
            None => text,
            Some(name) => {
                say(format_args!("member {number}: {text}"));
                match await_settled(&self.target, name)? {
                    MemberRole::Voter => "it votes",
                    _ => "it follows and does not vote",
                }
            }
        };
        match self.output {
            Output::Json => show_json(&Changed { number, text })?,
            Output::People => show(format!("member {number}: {text}\n").as_bytes())?,
        }
        Ok(Exit::Ok)
    }
}

/// Who leads, for programs.
#[derive(Serialize)]
struct Leads<'a> {
    leader_id: &'a str,
}

fn transfer(name: Option<&str>, target: Target, output: Output) -> Result<Exit, CliError> {
    let line = match name {
        Some(name) => format!("TRANSFER {}", one_word(name)?),
        None => "TRANSFER".to_owned(),
    };
    let answer = ask::ask_ok(target, &line)?;
    let leader_id =
        answer.strip_prefix("leader ").ok_or_else(|| CliError::Answer(answer.clone()))?;
    match output {
        Output::Json => show_json(&Leads { leader_id })?,
        Output::People => show(format!("{leader_id} leads\n").as_bytes())?,
    }
    Ok(Exit::Ok)
}

/// The key that a node has now, for programs.
#[derive(Serialize)]
struct Key<'a> {
    key: &'a str,
}

fn rotate_key(line: &str, target: Target, output: Output) -> Result<Exit, CliError> {
    let answer = ask::ask_ok(target, line)?;
    let key = answer.strip_prefix("key ").ok_or_else(|| CliError::Answer(answer.clone()))?;
    match output {
        Output::Json => show_json(&Key { key })?,
        Output::People => show(format!("the key is {key} now\n").as_bytes())?,
    }
    Ok(Exit::Ok)
}

pub(crate) fn show_json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string(value).map_err(|error| CliError::Answer(error.to_string()))?;
    show(format!("{text}\n").as_bytes())
}

/// An argument that is one word of a request.
pub(crate) fn one_word(text: &str) -> Result<&str, CliError> {
    let is_word = !text.is_empty() && !text.contains(char::is_whitespace);
    is_word.then_some(text).ok_or_else(|| {
        let shown = text.escape_debug();
        CliError::Usage(format!("'{shown}' is no name and no address: neither has spaces."))
    })
}

/// Waits until the member of this name is staging no more, telling how far it is. The answer is
/// what it became.
///
/// # Errors
/// When it is a member no more, or does not come nearer for [`STANDSTILL`].
pub(crate) fn await_settled(target: &Target, name: &str) -> Result<MemberRole, CliError> {
    let mut moved = (clock::now(), None);
    let mut told = (None, String::new());
    loop {
        let report = ask::fetch_status(target)?;
        if let Some(role) = settled(&report, name)? {
            return Ok(role);
        }
        let now = clock::now();
        let words = progress_words(&report, name);
        let far = Some((words.clone(), report.applied_index));
        if moved.1 != far {
            moved = (now, far);
        }
        if now.saturating_duration_since(moved.0) > STANDSTILL {
            return Err(CliError::Cluster(format!(
                "{words}, and nothing changed for {} s. It stays a member and votes once it has \
                 caught up: start it, or see its log.",
                STANDSTILL.as_secs()
            )));
        }
        if told.1 != words && told.0.is_none_or(|at| now.saturating_duration_since(at) >= TELL) {
            say(&words);
            told = (Some(now), words);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// What the member has become, if it waits for nothing any more. A node that has just joined sees
/// the members of long ago first, perhaps a former self among them.
fn settled(report: &StatusReport, name: &str) -> Result<Option<MemberRole>, CliError> {
    let is_own = report.node_id == name;
    match report.members.iter().find(|member| member.node_id == name).map(|member| member.role) {
        None if is_own => Ok(None),
        None => Err(CliError::Cluster(format!(
            "{name} is no member any more: somebody removed it while it was waited for."
        ))),
        Some(MemberRole::Staging) => Ok(None),
        Some(MemberRole::Voter) if is_own && report.role == Role::Learner => Ok(None),
        Some(role) => Ok(Some(role)),
    }
}

fn progress_words(report: &StatusReport, name: &str) -> String {
    let member = report.members.iter().find(|member| member.node_id == name);
    let far = member.and_then(|member| member.matched.or(member.applied));
    match far {
        _ if report.leader_id.is_none() => format!("waiting for {name}: no leader is known yet"),
        _ if member.is_some_and(|member| !member.connected) => {
            format!("waiting for {name}: it is not reached")
        }
        Some(far) => format!("waiting for {name}: it has {far} of {} entries", report.commit_index),
        None => format!("waiting for {name}: it is catching up"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, number: u64, role: MemberRole) -> MemberReport {
        MemberReport {
            node_id: name.to_owned(),
            number,
            address: format!("127.0.0.1:{}", 8000 + number),
            key: (number != 4).then(|| format!("{number:064x}")),
            role,
            replaces: None,
            connected: true,
            leads: number == 1,
            matched: None,
            applied: Some(5),
            placed: None,
        }
    }

    #[test]
    fn the_list_says_whom_a_newcomer_replaces() {
        let mut members = vec![
            member("node1", 1, MemberRole::Voter),
            member("node3", 3, MemberRole::Voter),
            member("node4", 4, MemberRole::Staging),
        ];
        members[2].replaces = Some(3);
        let text = member_table(&members);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("node1  1       voter"), "{text}");
        assert!(lines[3].contains("staging for node3  127.0.0.1:8004  yes"), "{text}");
        assert!(lines[1].ends_with("01") && lines[3].ends_with("  -"), "keys: {text}");
        members.remove(1);
        assert!(member_table(&members).contains("staging, was 3"));
    }

    #[test]
    fn what_is_no_word_is_not_sent() {
        assert!(one_word("node4").is_ok());
        for bad in ["", "node4 127.0.0.1:1", "a\nREMOVE node1"] {
            assert_eq!(one_word(bad).unwrap_err().exit(), Exit::Usage, "{bad:?}");
        }
    }
}
