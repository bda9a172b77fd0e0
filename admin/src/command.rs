//! A line becomes a command.

use std::time::Duration;

use pickbox_store::name::RelPath;

use crate::authority::Need;
use crate::conflicts;
use crate::forward::Forward;
use crate::holds;
use crate::join_tokens::{self, TokenRequest};
use crate::members;
use crate::node::{Absent, Code, ContentHash, Freshness, Look, Refusal, Request, Scope};
use crate::path_text;
use crate::token::Said;

/// What a line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Answered by the server itself.
    Help,
    /// Keeps the connection open.
    Session,
    /// Says the token.
    Auth(Said),
    /// Answered by the node, shown in this way.
    Ask(Request, Form),
}

impl Command {
    /// What it needs its client to be.
    pub(crate) fn needs(&self) -> Need {
        match self {
            Self::Help | Self::Session => Need::Local,
            Self::Auth(_) => Need::Nothing,
            Self::Ask(request, _) => request.needs(),
        }
    }

    /// Its word, for the audit and for people: nothing of what the client wrote besides.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Help => "HELP",
            Self::Session => "SESSION",
            Self::Auth(_) => "AUTH",
            Self::Ask(Request::Status, Form::MembersText | Form::MembersJson) => "MEMBERS",
            Self::Ask(Request::Status, Form::Text | Form::Json) => "STATUS",
            Self::Ask(Request::Forward(_), _) => "FORWARD",
            Self::Ask(Request::Change(change), _) => change.word(),
            Self::Ask(Request::Transfer(_), _) => "TRANSFER",
            Self::Ask(Request::Token(TokenRequest::Create { .. }), _) => "TOKEN CREATE",
            Self::Ask(Request::Token(TokenRequest::List), _) => "TOKEN LIST",
            Self::Ask(Request::Token(TokenRequest::Revoke(_)), _) => "TOKEN REVOKE",
            Self::Ask(Request::RotateKey(_), _) => "ROTATE_KEY",
            Self::Ask(Request::Read(Look::Log(_), _), _) => "LOG",
            Self::Ask(Request::Read(Look::Cat { .. }, _), _) => "CAT",
            Self::Ask(Request::Read(Look::Find(_), _), _) => "FIND",
            Self::Ask(Request::Read(Look::Conflicts(_), _), _) => "CONFLICTS",
            Self::Ask(Request::Resolve { .. }, _) => "RESOLVE",
            Self::Ask(Request::Why(_), _) => "WHY",
            Self::Ask(Request::Flush { .. }, _) => "FLUSH",
            Self::Ask(Request::Wait { .. }, _) => "WAIT",
            Self::Ask(Request::Held, _) => "HELD",
            Self::Ask(Request::Decide(verdict, _), _) => verdict.word(),
        }
    }
}

/// How an answer is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Lines for people.
    Text,
    /// One line of JSON.
    Json,
    /// Of a status, what it says of the members, for people.
    MembersText,
    /// The same as one line of JSON.
    MembersJson,
}

/// Reads a line that is trimmed and not empty. Command words are not case sensitive.
pub(crate) fn parse(line: &[u8]) -> Result<Command, Refusal> {
    let (word, rest) = split_word(line);
    let ask = |request| Ok(Command::Ask(request, Form::Json));
    match word.to_ascii_uppercase().as_slice() {
        b"STATUS" => parse_status(rest),
        b"FORWARD" => ask(Request::Forward(Forward::parse(rest)?)),
        b"MEMBERS" => parse_members(rest),
        b"LOCAL" => parse_local(rest),
        b"TOKEN" => parse_token(rest),
        b"ROTATE_KEY" => parse_rotate(rest),
        b"RESOLVE" => ask(conflicts::parse_resolve(rest)?),
        b"WHY" => parse_why(rest),
        b"FLUSH" => ask(parse_flush(rest)?),
        b"WAIT" => ask(parse_wait(rest)?),
        b"HELD" => parse_held(rest),
        b"APPROVE" => ask(holds::parse(holds::Verdict::Approve, rest)?),
        b"REJECT" => ask(holds::parse(holds::Verdict::Reject, rest)?),
        b"AUTH" if !rest.is_empty() => Ok(Command::Auth(Said(rest.to_vec()))),
        b"AUTH" => Err(bad("say AUTH and the token")),
        b"SESSION" if rest.is_empty() => Ok(Command::Session),
        b"HELP" if rest.is_empty() => Ok(Command::Help),
        b"SESSION" | b"HELP" => Err(bad("this command takes no argument")),
        _ => match parse_look(word, rest) {
            Some(look) => ask(Request::Read(look?, Freshness::Fresh)),
            None => ask(members::parse(word, rest).unwrap_or_else(|| Err(unknown(word)))?),
        },
    }
}

/// Whether this is a line of HTTP, or of a protocol like it: a web page can make a browser of this host
/// send such lines, with lines of its own after them.
pub(crate) fn is_http(line: &[u8]) -> bool {
    const METHODS: [&[u8]; 11] = [
        b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH",
        b"PRI", b"QUERY",
    ];
    let (word, rest) = split_word(line);
    let last = rest.rsplit(u8::is_ascii_whitespace).next().unwrap_or_default();
    let upper = word.to_ascii_uppercase();
    METHODS.contains(&upper.as_slice())
        || (last.to_ascii_uppercase().starts_with(b"HTTP/")
            && matches!(parse(line), Err(Refusal { code: Code::UnknownCommand, .. })))
}

/// What looks something up; `None` if the word is none of those.
fn parse_look(word: &[u8], rest: &[u8]) -> Option<Result<Look, Refusal>> {
    match word.to_ascii_uppercase().as_slice() {
        b"LOG" => Some(parse_path(rest).map(Look::Log)),
        b"CAT" => Some(parse_cat(rest)),
        b"FIND" => Some(parse_find(rest)),
        b"CONFLICTS" => Some(conflicts::parse_list(rest)),
        _ => None,
    }
}

fn parse_local(rest: &[u8]) -> Result<Command, Refusal> {
    let (word, rest) = split_word(rest);
    let usage = || {
        Err(bad("say LOCAL LOG path, LOCAL CAT path@index, LOCAL FIND sha256 or LOCAL CONFLICTS"))
    };
    let look = parse_look(word, rest).unwrap_or_else(usage)?;
    Ok(Command::Ask(Request::Read(look, Freshness::Local), Form::Json))
}

pub(crate) fn bad(text: impl Into<String>) -> Refusal {
    Refusal::new(Code::BadRequest, text)
}

fn unknown(word: &[u8]) -> Refusal {
    let shown = word.get(..32).unwrap_or(word).escape_ascii();
    Refusal::new(Code::UnknownCommand, format!("no command '{shown}'; HELP lists them"))
}

/// The first word and what follows it.
pub(crate) fn split_word(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (word, rest.trim_ascii())
}

fn parse_status(rest: &[u8]) -> Result<Command, Refusal> {
    let form = match rest.to_ascii_lowercase().as_slice() {
        b"" => Form::Text,
        b"json" => Form::Json,
        _ => return Err(bad("say STATUS or STATUS json")),
    };
    Ok(Command::Ask(Request::Status, form))
}

fn parse_members(rest: &[u8]) -> Result<Command, Refusal> {
    let form = match rest.to_ascii_lowercase().as_slice() {
        b"" => Form::MembersText,
        b"json" => Form::MembersJson,
        _ => return Err(bad("say MEMBERS or MEMBERS json")),
    };
    Ok(Command::Ask(Request::Status, form))
}

fn parse_held(rest: &[u8]) -> Result<Command, Refusal> {
    let form = match rest.to_ascii_lowercase().as_slice() {
        b"" => Form::Text,
        b"json" => Form::Json,
        _ => return Err(bad("say HELD or HELD json")),
    };
    Ok(Command::Ask(Request::Held, form))
}

fn parse_token(rest: &[u8]) -> Result<Command, Refusal> {
    let text = str::from_utf8(rest).unwrap_or_default();
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let usage = "say TOKEN CREATE [for NAME] [ttl DURATION], TOKEN LIST [json] or TOKEN REVOKE id";
    let (word, rest) = words.split_first().ok_or_else(|| bad(usage))?;
    let (request, form) = match (word.to_ascii_uppercase().as_str(), rest) {
        ("CREATE", words) => (join_tokens::parse_create(words)?, Form::Text),
        ("REVOKE", words) => (join_tokens::parse_revoke(words)?, Form::Text),
        ("LIST", []) => (TokenRequest::List, Form::Text),
        ("LIST", [form]) if form.eq_ignore_ascii_case("json") => (TokenRequest::List, Form::Json),
        _ => return Err(bad(usage)),
    };
    Ok(Command::Ask(Request::Token(request), form))
}

fn parse_rotate(rest: &[u8]) -> Result<Command, Refusal> {
    let absent = match rest.to_ascii_lowercase().as_slice() {
        b"" => Absent::Refuse,
        b"anyway" => Absent::Leave,
        _ => {
            return Err(bad(
                "say ROTATE_KEY to the node whose key it is; ROTATE_KEY anyway also while \
                            members cannot be reached",
            ));
        }
    };
    Ok(Command::Ask(Request::RotateKey(absent), Form::Text))
}

/// How long a barrier may take unless the client says so.
const BARRIER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take at most.
const BARRIER_TIMEOUT_MAX: Duration = Duration::from_hours(24);

/// Words of a request, without `timeout SECONDS` at their end.
fn split_timeout(rest: &[u8]) -> Option<(Vec<&[u8]>, Duration)> {
    let mut words: Vec<&[u8]> =
        rest.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
    let at = words.iter().position(|word| word.eq_ignore_ascii_case(b"timeout"));
    let Some(at) = at else { return Some((words, BARRIER_TIMEOUT)) };
    let timeout = match words.split_off(at).as_slice() {
        [_, seconds] => Duration::from_secs(parse_number(seconds)?),
        _ => return None,
    };
    (timeout <= BARRIER_TIMEOUT_MAX).then_some((words, timeout))
}

fn parse_why(rest: &[u8]) -> Result<Command, Refusal> {
    let (path, form) = match rest.strip_prefix(b"+json ") {
        Some(path) => (path.trim_ascii(), Form::Json),
        None => (rest, Form::Text),
    };
    Ok(Command::Ask(Request::Why(parse_path(path)?), form))
}

fn parse_flush(rest: &[u8]) -> Result<Request, Refusal> {
    match split_timeout(rest) {
        Some((words, timeout)) if words.is_empty() => Ok(Request::Flush { timeout }),
        _ => Err(bad("say FLUSH or FLUSH timeout SECONDS, a day at most")),
    }
}

fn parse_wait(rest: &[u8]) -> Result<Request, Refusal> {
    let usage = "say WAIT [N] [all] [timeout SECONDS], N being an index and SECONDS a day at most";
    let (words, timeout) = split_timeout(rest).ok_or_else(|| bad(usage))?;
    let is_all = |word: &[u8]| word.eq_ignore_ascii_case(b"all");
    let (index, scope) = match words.as_slice() {
        [] => (None, Scope::Here),
        [word] if is_all(word) => (None, Scope::All),
        [number] => (Some(parse_number(number).ok_or_else(|| bad(usage))?), Scope::Here),
        [number, word] if is_all(word) => {
            (Some(parse_number(number).ok_or_else(|| bad(usage))?), Scope::All)
        }
        _ => return Err(bad(usage)),
    };
    Ok(Request::Wait { index, scope, timeout })
}

pub(crate) fn parse_path(text: &[u8]) -> Result<RelPath, Refusal> {
    let path = path_text::from_line(text).map_err(|error| bad(format!("path: {error}")))?;
    if path.is_root() { Err(bad("path: it is missing")) } else { Ok(path) }
}

fn parse_cat(rest: &[u8]) -> Result<Look, Refusal> {
    const USAGE: &str = "say CAT path@index, where LOG path tells the indices";
    let (offset, version) = match rest.strip_prefix(b"+") {
        Some(text) => {
            let (number, version) = split_word(text);
            (parse_number(number).ok_or_else(|| bad("offset: not a number"))?, version)
        }
        None => (0, rest),
    };
    let at = version.iter().rposition(|&byte| byte == b'@').ok_or_else(|| bad(USAGE))?;
    let (path, index) = version.split_at(at);
    let index = index.get(1..).and_then(parse_number).ok_or_else(|| bad(USAGE))?;
    Ok(Look::Cat { path: parse_path(path)?, index, offset })
}

pub(crate) fn parse_number(text: &[u8]) -> Option<u64> {
    let digits = text.first().is_some_and(u8::is_ascii_digit);
    digits.then(|| str::from_utf8(text).ok()?.parse().ok()).flatten()
}

fn parse_find(rest: &[u8]) -> Result<Look, Refusal> {
    let hash = str::from_utf8(rest).ok().and_then(ContentHash::parse);
    hash.map(Look::Find).ok_or_else(|| bad("say FIND and the 64 hex digits of a SHA-256"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Source: RFC 9112, 3; fault 87.
    #[test]
    fn lines_of_http_are_known() {
        for line in [
            "GET / HTTP/1.1",
            "post /status HTTP/1.0",
            "OPTIONS * HTTP/1.1",
            "GET /",
            "PRI * HTTP/2.0",
            "BREW /pot HTTP/1.1",
            "FORWARDX / http/1.1",
        ] {
            assert!(is_http(line.as_bytes()), "{line}");
        }
        for line in ["STATUS", "LOG GET / HTTP/1.1", "CAT a HTTP/1.1", "HELP", "BEGIN", ""] {
            assert!(!is_http(line.as_bytes()), "{line}");
        }
    }

    fn request(line: &str) -> Request {
        match parse(line.as_bytes()).unwrap() {
            Command::Ask(request, _) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn commands_are_read() {
        assert_eq!(parse(b"STATUS").unwrap(), Command::Ask(Request::Status, Form::Text));
        assert_eq!(parse(b"status  JSON").unwrap(), Command::Ask(Request::Status, Form::Json));
        assert_eq!(parse(b"HELP").unwrap(), Command::Help);
        assert_eq!(parse(b"SESSION").unwrap(), Command::Session);
        let path = |text: &str| RelPath::new(text.as_bytes()).unwrap();
        let find = format!("find {}", "0a".repeat(32));
        for (line, look) in [
            ("LOG a b/c", Look::Log(path("a b/c"))),
            ("CAT a@b@12", Look::Cat { path: path("a@b"), index: 12, offset: 0 }),
            ("CAT +9 a@12", Look::Cat { path: path("a"), index: 12, offset: 9 }),
            ("CONFLICTS", Look::Conflicts(None)),
            (find.as_str(), Look::Find(ContentHash([10; 32]))),
        ] {
            assert_eq!(request(line), Request::Read(look.clone(), Freshness::Fresh));
            let local = request(&format!("local  {line}"));
            assert_eq!(local, Request::Read(look, Freshness::Local));
        }
    }

    /// Trap T28.
    #[test]
    fn barriers_are_read() {
        let flush = |seconds| Request::Flush { timeout: Duration::from_secs(seconds) };
        assert_eq!(request("FLUSH"), flush(30));
        assert_eq!(request("flush  Timeout 5"), flush(5));
        let wait = |index, scope, seconds| Request::Wait {
            index,
            scope,
            timeout: Duration::from_secs(seconds),
        };
        for (line, wanted) in [
            ("WAIT", wait(None, Scope::Here, 30)),
            ("WAIT all", wait(None, Scope::All, 30)),
            ("wait 7", wait(Some(7), Scope::Here, 30)),
            ("WAIT 7 ALL timeout 86400", wait(Some(7), Scope::All, 86_400)),
            ("WAIT timeout 0", wait(None, Scope::Here, 0)),
        ] {
            assert_eq!(request(line), wanted, "{line}");
        }
        let path = RelPath::new("a b").unwrap();
        for (line, form) in [("WHY a b", Form::Text), ("why +json a b", Form::Json)] {
            let why = Command::Ask(Request::Why(path.clone()), form);
            assert_eq!(parse(line.as_bytes()).unwrap(), why, "{line}");
        }
        for line in [
            "WHY",
            "WHY +json ../a",
            "WHY ../a",
            "FLUSH 1",
            "FLUSH timeout",
            "WAIT all 7",
            "WAIT -1",
            "WAIT timeout 86401",
        ] {
            assert_eq!(parse(line.as_bytes()).unwrap_err().code, Code::BadRequest, "{line}");
        }
    }

    #[test]
    fn changes_of_members_are_read() {
        use crate::members::{Aim, MemberChange};
        use crate::node::{NodeName, PeerAddress};

        let id = |text: &str| NodeName::parse(text).unwrap();
        let address = || PeerAddress::parse("127.0.0.1:8004").unwrap();
        let [voter, learner] = [Aim::Voter, Aim::Learner].map(|aim| MemberChange::Add {
            id: id("n4"),
            address: address(),
            aim,
        });
        let (old, new) = (id("n3"), id("n4"));
        for (line, change) in [
            ("ADD_VOTER n4 127.0.0.1:8004", voter),
            ("add_learner  n4  127.0.0.1:8004", learner),
            ("REMOVE n3", MemberChange::Remove(id("n3"))),
            ("PROMOTE n3", MemberChange::Promote(id("n3"))),
            ("DEMOTE n3", MemberChange::Demote(id("n3"))),
            (
                "REPLACE n3 n4 127.0.0.1:8004",
                MemberChange::Replace { old, id: new, address: address() },
            ),
            ("MOVE n3 127.0.0.1:8004", MemberChange::Move { id: id("n3"), address: address() }),
        ] {
            let asked = request(line);
            assert!(asked.is_change(), "half of it must not be acted upon: {line}");
            assert_eq!(asked, Request::Change(change), "{line}");
        }
        assert_eq!(request("TRANSFER"), Request::Transfer(None));
        assert_eq!(request("transfer n2"), Request::Transfer(Some(id("n2"))));
        assert!(request("TRANSFER").is_change());
        let members = |form| Command::Ask(Request::Status, form);
        assert!(request("TOKEN CREATE").is_change() && request("rotate_key").is_change());
        assert!(request("token revoke 0123456789abcdef").is_change());
        let list = |form| Command::Ask(Request::Token(TokenRequest::List), form);
        assert_eq!(parse(b"TOKEN LIST").unwrap(), list(Form::Text));
        assert_eq!(parse(b"token list JSON").unwrap(), list(Form::Json));
        assert_eq!(request("ROTATE_KEY Anyway"), Request::RotateKey(Absent::Leave));
        assert_eq!(parse(b"MEMBERS").unwrap(), members(Form::MembersText));
        assert_eq!(parse(b"members JSON").unwrap(), members(Form::MembersJson));
    }

    #[test]
    fn anything_else_is_an_error_that_helps() {
        for (line, code) in [
            ("GET / HTTP/1.1", Code::UnknownCommand),
            ("STATUS xml", Code::BadRequest),
            ("ADD_VOTER node4", Code::BadRequest),
            ("ADD_VOTER -x 127.0.0.1:1", Code::BadRequest),
            ("ADD_VOTER node4 127.0.0.1:0", Code::BadRequest),
            ("ADD_LEARNER node4", Code::BadRequest),
            ("REMOVE", Code::BadRequest),
            ("REMOVE a b", Code::BadRequest),
            ("REMOVE 127.0.0.1:8004", Code::BadRequest),
            ("PROMOTE", Code::BadRequest),
            ("DEMOTE \u{e9}", Code::BadRequest),
            ("REPLACE node3 node4", Code::BadRequest),
            ("MOVE node3", Code::BadRequest),
            ("TOKEN", Code::BadRequest),
            ("TOKEN LIST xml", Code::BadRequest),
            ("TOKEN SHOW", Code::BadRequest),
            ("TOKEN CREATE node4", Code::BadRequest),
            ("TOKEN REVOKE", Code::BadRequest),
            ("TOKEN \u{e9}", Code::BadRequest),
            ("ROTATE_KEY node1", Code::BadRequest),
            ("TRANSFER a b", Code::BadRequest),
            ("MEMBERS xml", Code::BadRequest),
            ("LOG", Code::BadRequest),
            ("LOG ../x", Code::BadRequest),
            ("CAT a", Code::BadRequest),
            ("CAT a@-1", Code::BadRequest),
            ("CAT a@+1", Code::BadRequest),
            ("FIND 12", Code::BadRequest),
            ("LOCAL", Code::BadRequest),
            ("LOCAL STATUS", Code::BadRequest),
            ("LOCAL LOG", Code::BadRequest),
            ("FORWARD", Code::BadRequest),
            ("HELP me", Code::BadRequest),
            ("HELD xml", Code::BadRequest),
            ("APPROVE", Code::BadRequest),
            ("REJECT a b", Code::BadRequest),
        ] {
            assert_eq!(parse(line.as_bytes()).unwrap_err().code, code, "{line}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// fault 60: no bytes upset the parser, and its words fit on one short line.
        #[test]
        fn garbage_gets_a_short_answer(
            word in prop_oneof![Just("CAT "), Just("LOG "), Just("FORWARD {"), Just("ADD_VOTER "), Just("REPLACE "), Just("TOKEN CREATE for "), Just("")],
            tail in prop::collection::vec(any::<u8>(), 1..200),
        ) {
            let line = [word.as_bytes(), &tail].concat();
            if let Err(refusal) = parse(&line) {
                prop_assert!(refusal.text.len() < 400);
            }
        }
    }
}
