//! The start of a daemon: `pickboxd`, `pickbox node start`, `pickbox node multi`.

use std::error::Error;
use std::ffi::OsString;
use std::net::{IpAddr, TcpListener};
use std::process::ExitCode;

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::accounts;
use crate::arguments::{self, Parsed};
use crate::daemon;
use crate::exit::{CliError, Exit};
use crate::options::{DaemonArguments, DaemonOptions, OptionalPort, PortOrigin};
use crate::output;

/// Runs `pickboxd` with these arguments (without the program's name).
pub fn main(words: impl Iterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = words.collect();
    if accounts::is_asked_for(&words) {
        return accounts::serve();
    }
    run(&["pickboxd"], &arguments::split(words.into_iter())).unwrap_or_else(|error| {
        output::say(format_args!("pickboxd: {error}"));
        error.exit().into()
    })
}

/// Runs a daemon in the foreground.
pub(crate) fn run(command: &[&str], words: &[String]) -> Result<ExitCode, CliError> {
    let arguments = match arguments::parse::<DaemonArguments>(command, words)? {
        Parsed::Run(arguments) => arguments,
        Parsed::Done(exit) => return Ok(exit.into()),
    };
    if arguments.version {
        output::show(arguments::version_line("pickboxd").as_bytes())?;
        return Ok(Exit::Ok.into());
    }
    let options = arguments.check()?;
    env_logger::Builder::new().filter_level(options.log_level).format_timestamp_millis().init();
    raise_descriptor_limit();
    warn_of_taken_ports(&options);
    Ok(daemon::run(&options).unwrap_or_else(|error| {
        output::say(format_args!("pickboxd: {}", with_causes(&*error)));
        Exit::Failed.into()
    }))
}

/// An error and what caused it, in one line.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let words = source.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = source.source();
    }
    text
}

/// Takes as many descriptors as the system lets us have: a thousand idle clients must not keep the
/// daemon from opening its files. The usual soft limit of 1024 is for programs that use select(2).
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        log::warn!("limit=descriptors error={error}");
    }
}

/// Says so if a port that was asked for cannot be had; nothing is served there yet.
fn warn_of_taken_ports(options: &DaemonOptions) {
    let host = options.peer_address.ip();
    warn_if_taken("monitor", host, options.monitor);
    warn_if_taken("dashboard", host, options.dashboard);
}

fn warn_if_taken(what: &str, host: IpAddr, port: Option<OptionalPort>) {
    let Some(OptionalPort { number, origin: PortOrigin::Given }) = port else { return };
    if let Err(error) = TcpListener::bind((host, number)) {
        log::warn!("{what}=unavailable port={number} error={error}");
    }
}
