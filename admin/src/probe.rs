//! The gate where lines of clients come in, for fuzzing: it is not public otherwise.
//!
//! Nothing here is part of what this crate offers.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pickbox_store::name::RelPath;

use crate::answer;
use crate::command::{self, Command, Form};
use crate::forward::{Forward, Operation};
use crate::holds::Which;
use crate::join_tokens::TokenRequest;
use crate::limits::{FORWARD_DATA_BYTES_MAX, ORIGIN_BYTES_MAX};
use crate::lines::LineBuffer;
use crate::members::{Aim, MemberChange};
use crate::node::{Absent, Freshness, Look, Request, Scope, Take};
use crate::path_text;

/// An answer that is an error is no longer than this.
const REFUSAL_BYTES_MAX: usize = 4096;

/// Gives a stream of bytes to a connection's buffer in pieces, and takes each of its lines for a
/// command; says how many were commands.
///
/// # Panics
/// When lines depend on the pieces, when a line may be longer than `line_bytes_max`, or as
/// [`line`] does.
#[must_use]
pub fn stream(bytes: &[u8], piece: usize, line_bytes_max: usize) -> usize {
    let (mut buffer, mut lines) = (LineBuffer::default(), Vec::new());
    for piece in bytes.chunks(piece.max(1)) {
        buffer.push(piece);
        loop {
            match buffer.next_line(line_bytes_max) {
                Ok(Some(line)) => lines.push(line),
                Ok(None) => break,
                Err(_) => return lines.iter().filter(|text| line(text)).count(),
            }
        }
        assert!(buffer.len() <= line_bytes_max, "no more than a line waits");
    }
    lines.extend(Some(buffer.take_rest()).filter(|rest| !rest.is_empty()));
    let whole = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let whole: Vec<&[u8]> = whole.filter(|line| !line.is_empty()).collect();
    assert_eq!(lines, whole, "the lines are those of the whole");
    lines.iter().filter(|text| line(text)).count()
}

/// Takes a line for a command; says whether it was one.
///
/// # Panics
/// When a command cannot be said again, holds more than the line did, or names what has no name,
/// and when the answer to what is none is long or not a line.
fn line(text: &[u8]) -> bool {
    let parsed = match command::parse(text) {
        Ok(parsed) => parsed,
        Err(refusal) => {
            let answer = answer::refusal(&refusal);
            assert!(answer.len() <= REFUSAL_BYTES_MAX, "{} bytes", answer.len());
            let said = str::from_utf8(&answer).ok().and_then(|text| text.strip_suffix('\n'));
            assert!(said.is_some_and(|said| !said.chars().any(char::is_control)), "{said:?}");
            return false;
        }
    };
    if let Command::Ask(request, form) = &parsed {
        assert!(request.held_bytes() <= size_of::<Request>() + text.len(), "it holds too much");
        assert!(!paths(request).any(RelPath::is_root), "the folder itself is no file");
        let again = say(request, *form);
        assert_eq!(command::parse(again.as_bytes()).ok(), Some(parsed), "{again:?}");
    }
    true
}

fn paths(request: &Request) -> impl Iterator<Item = &RelPath> {
    let path = match request {
        Request::Forward(Forward { path, .. })
        | Request::Resolve { path, .. }
        | Request::Why(path)
        | Request::Read(Look::Log(path) | Look::Cat { path, .. }, _) => Some(path),
        _ => None,
    };
    path.into_iter()
}

/// The line that asks for this.
fn say(request: &Request, form: Form) -> String {
    match request {
        Request::Status => match form {
            Form::Text => "STATUS".into(),
            Form::Json => "STATUS json".into(),
            Form::MembersText => "MEMBERS".into(),
            Form::MembersJson => "MEMBERS json".into(),
        },
        Request::Forward(forward) => say_forward(forward),
        Request::Change(change) => say_change(change),
        Request::Transfer(None) => "TRANSFER".into(),
        Request::Transfer(Some(id)) => format!("TRANSFER {id}"),
        Request::Token(request) => say_token(request, form),
        Request::RotateKey(Absent::Refuse) => "ROTATE_KEY".into(),
        Request::RotateKey(Absent::Leave) => "ROTATE_KEY anyway".into(),
        Request::Resolve { path, take, seen } => {
            let take = match take {
                Take::Ours => "ours",
                Take::Theirs => "theirs",
                Take::Both => "both",
            };
            let seen = seen.map(|(file, copy)| format!("+{file},{copy} ")).unwrap_or_default();
            format!("RESOLVE {take} {seen}{}", say_path(path))
        }
        Request::Read(look, freshness) => {
            let local = if *freshness == Freshness::Local { "LOCAL " } else { "" };
            format!("{local}{}", say_look(look))
        }
        Request::Why(path) if form == Form::Json => format!("WHY +json {}", say_path(path)),
        Request::Why(path) => format!("WHY {}", say_path(path).replacen('+', "\\x2b", 1)),
        Request::Flush { timeout } => format!("FLUSH timeout {}", timeout.as_secs()),
        Request::Wait { index, scope, timeout } => {
            let index = index.map_or(String::new(), |index| format!(" {index}"));
            let all = if *scope == Scope::All { " all" } else { "" };
            format!("WAIT{index}{all} timeout {}", timeout.as_secs())
        }
        Request::Held if form == Form::Json => "HELD json".into(),
        Request::Held => "HELD".into(),
        Request::Decide(verdict, Which::All) => format!("{} all", verdict.word()),
        Request::Decide(verdict, Which::One(id)) => format!("{} {id}", verdict.word()),
    }
}

fn say_look(look: &Look) -> String {
    match look {
        Look::Log(path) => format!("LOG {}", say_path(path)),
        Look::Cat { path, index, offset } => format!("CAT +{offset} {}@{index}", say_path(path)),
        Look::Find(hash) => format!("FIND {hash}"),
        Look::Conflicts(None) => "CONFLICTS".into(),
        Look::Conflicts(Some(key)) => format!("CONFLICTS after {key}"),
    }
}

/// White space at its ends would be taken for that of the line.
fn say_path(path: &RelPath) -> String {
    path.to_string().replace(' ', "\\x20")
}

fn say_token(request: &TokenRequest, form: Form) -> String {
    match request {
        TokenRequest::Create { name, lifetime } => {
            let name = name.as_ref().map(|name| format!(" for {name}")).unwrap_or_default();
            format!("TOKEN CREATE{name} ttl {}s", lifetime.as_secs())
        }
        TokenRequest::List if form == Form::Json => "TOKEN LIST json".into(),
        TokenRequest::List => "TOKEN LIST".into(),
        TokenRequest::Revoke(id) => format!("TOKEN REVOKE {id}"),
    }
}

fn say_change(change: &MemberChange) -> String {
    match change {
        MemberChange::Add { id, address, aim: Aim::Voter } => format!("ADD_VOTER {id} {address}"),
        MemberChange::Add { id, address, aim: Aim::Learner } => {
            format!("ADD_LEARNER {id} {address}")
        }
        MemberChange::Remove(id) => format!("REMOVE {id}"),
        MemberChange::Promote(id) => format!("PROMOTE {id}"),
        MemberChange::Demote(id) => format!("DEMOTE {id}"),
        MemberChange::Replace { old, id, address } => format!("REPLACE {old} {id} {address}"),
        MemberChange::Move { id, address } => format!("MOVE {id} {address}"),
    }
}

fn say_forward(forward: &Forward) -> String {
    let Forward { path, operation, node_id, sequence } = forward;
    let mut json = serde_json::json!({ "path": path_text::to_json(path) });
    let mut put = |key: &str, value: serde_json::Value| {
        if let Some(fields) = json.as_object_mut() {
            fields.insert(key.into(), value);
        }
    };
    match operation {
        Operation::Write { data, hash } => {
            assert!(data.len() <= FORWARD_DATA_BYTES_MAX, "{} bytes", data.len());
            put("op", "write".into());
            put("data", STANDARD.encode(data).into());
            put("hash", hash.to_string().into());
        }
        Operation::Delete => put("op", "delete".into()),
    }
    if let Some(node_id) = node_id {
        assert!(node_id.len() <= ORIGIN_BYTES_MAX, "{node_id:?}");
        put("node_id", node_id.as_str().into());
    }
    if let Some(sequence) = sequence {
        put("sequence", (*sequence).into());
    }
    let mut line = String::new();
    // Writing to a String cannot fail.
    let _ = write!(line, "FORWARD {json}");
    line
}
