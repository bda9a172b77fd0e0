//! `pickbox token`: lines of text that let nodes of other hosts join.

use std::net::SocketAddr;
use std::path::PathBuf;

use argh::FromArgs;
use pickbox_admin::client::Target;
use pickbox_admin::join_tokens::TokenReport;
use pickbox_raft::token::Token;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::ask::{self, Output};
use crate::exit::{CliError, Exit};
use crate::member::{default_address, one_word, show_json};
use crate::output::{say, show, table};
use crate::secret_file::NewFile;

/// Make, list or end join tokens: each lets one node of another host become a member, once.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "token")]
pub(crate) struct TokenArguments {
    #[argh(subcommand)]
    action: Action,
}

#[derive(Debug, FromArgs)]
#[argh(subcommand)]
enum Action {
    Create(Create),
    List(List),
    Revoke(Revoke),
}

/// Print a line that lets one node join, once: it is a secret. On the other host it is read by
/// pickboxd --join HOST:PORT --token-file FILE.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "create")]
struct Create {
    /// the only name (--node-id) under which it lets a node in; needed to take the place of a member
    #[argh(option)]
    node: Option<String>,

    /// for how long, such as 30m (default 1h; from 1m to 24h)
    #[argh(option)]
    ttl: Option<String>,

    /// write it into this new file, which nobody else can read, instead of printing it
    #[argh(option, short = 'o')]
    output: Option<PathBuf>,

    /// admin address of a node, HOST:PORT or unix:PATH (default 127.0.0.1:9001)
    #[argh(option, default = "default_address()")]
    addr: String,

    /// file with the token of a node on another host (mode 0600)
    #[argh(option)]
    token_file: Option<PathBuf>,
}

/// List the join tokens that may still be used, without their secrets.
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

/// End a join token: nobody gets in with it any more.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "revoke")]
struct Revoke {
    /// what `pickbox token list` calls it
    #[argh(positional)]
    id: String,

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

pub(crate) fn run(arguments: &TokenArguments) -> Result<Exit, CliError> {
    match &arguments.action {
        Action::Create(arguments) => create(arguments),
        Action::List(List { addr, token_file, json }) => {
            list(ask::target(addr, token_file.as_deref())?, Output::from(*json))
        }
        Action::Revoke(Revoke { id, addr, token_file, json }) => {
            revoke(id, ask::target(addr, token_file.as_deref())?, Output::from(*json))
        }
    }
}

fn create(arguments: &Create) -> Result<Exit, CliError> {
    let Create { node, ttl, output, addr, token_file } = arguments;
    let mut line = "TOKEN CREATE".to_owned();
    for (word, value) in [("for", node), ("ttl", ttl)] {
        if let Some(value) = value {
            line.extend([" ", word, " ", one_word(value)?]);
        }
    }
    let target = ask::target(addr, token_file.as_deref())?;
    // Before the token exists: one that nobody can be given would have to be revoked.
    let file = output.as_deref().map(NewFile::create).transpose()?;
    let token = match ask::ask_ok(target, &line) {
        Ok(answer) => Zeroizing::new(format!("{answer}\n")),
        Err(error) => {
            if let Some(file) = file {
                file.discard();
            }
            return Err(error);
        }
    };
    match file {
        Some(file) => file.write(&token)?,
        None => show(token.as_bytes())?,
    }
    if let Some(address) = Token::parse(&token).and_then(|token| this_host(&token.address)) {
        say(format_args!(
            "pickbox: the token names {address}, which only this host reaches. For nodes of other hosts \
             start this node with --host ADDRESS, then make another token."
        ));
    }
    Ok(Exit::Ok)
}

/// The address, if no other host can reach it.
fn this_host(address: &str) -> Option<SocketAddr> {
    address.parse().ok().filter(|address: &SocketAddr| address.ip().is_loopback())
}

fn list(target: Target, output: Output) -> Result<Exit, CliError> {
    let answer = ask::ask(target, "TOKEN LIST json")?;
    let tokens: Vec<TokenReport> = ask::parse(&answer)?;
    match output {
        Output::Json => show(format!("{answer}\n").as_bytes())?,
        Output::People => show(token_table(&tokens).as_bytes())?,
    }
    Ok(Exit::Ok)
}

fn token_table(tokens: &[TokenReport]) -> String {
    let mut rows = vec![["TOKEN", "FOR", "MADE BY", "TIME LEFT"].map(str::to_owned).to_vec()];
    for TokenReport { token_id, node_id, issued_by, seconds_left } in tokens {
        rows.push(vec![
            token_id.clone(),
            node_id.clone().unwrap_or_else(|| "any name".to_owned()),
            issued_by.clone(),
            format!("{} min {} s", seconds_left / 60, seconds_left % 60),
        ]);
    }
    table(&rows)
}

/// What ended, for programs.
#[derive(Serialize)]
struct Revoked<'a> {
    revoked: &'a str,
}

fn revoke(id: &str, target: Target, output: Output) -> Result<Exit, CliError> {
    ask::ask_ok(target, &format!("TOKEN REVOKE {}", one_word(id)?))?;
    match output {
        Output::Json => show_json(&Revoked { revoked: id })?,
        Output::People => show(format!("{id} lets nobody in any more\n").as_bytes())?,
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_this_host_is_told() {
        assert!(this_host("127.0.0.1:8001").is_some() && this_host("[::1]:8001").is_some());
        assert!(this_host("10.0.0.1:8001").is_none() && this_host("host:8001").is_none());
    }

    #[test]
    fn tokens_are_listed_for_people() {
        let token = |id: &str, node_id: Option<&str>| TokenReport {
            token_id: id.to_owned(),
            node_id: node_id.map(str::to_owned),
            issued_by: "node1".to_owned(),
            seconds_left: 61,
        };
        let text = token_table(&[token("0011223344556677", None), token("ff", Some("node4"))]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "0011223344556677  any name  node1    1 min 1 s");
        assert!(lines[2].starts_with("ff                node4     node1"), "{text}");
    }
}
