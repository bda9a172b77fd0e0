//! A line becomes a command.

use pickbox_store::name::RelPath;

use crate::forward::Forward;
use crate::node::{Code, ContentHash, NodeName, PeerAddress, Refusal, Request};
use crate::path_text;

/// What a line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Answered by the server itself.
    Help,
    /// Keeps the connection open.
    Session,
    /// Answered by the node, shown in this way.
    Ask(Request, Form),
}

/// How a status is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Lines for people.
    Text,
    /// One line of JSON.
    Json,
}

/// Reads a line that is trimmed and not empty. Command words are not case sensitive.
pub(crate) fn parse(line: &[u8]) -> Result<Command, Refusal> {
    let (word, rest) = split_word(line);
    let ask = |request| Ok(Command::Ask(request, Form::Json));
    match word.to_ascii_uppercase().as_slice() {
        b"STATUS" => parse_status(rest),
        b"FORWARD" => ask(Request::Forward(Forward::parse(rest)?)),
        b"ADD_VOTER" => ask(parse_add_voter(rest)?),
        b"LOG" => ask(Request::Log(parse_path(rest)?)),
        b"CAT" => ask(parse_cat(rest)?),
        b"FIND" => ask(parse_find(rest)?),
        b"SESSION" if rest.is_empty() => Ok(Command::Session),
        b"HELP" if rest.is_empty() => Ok(Command::Help),
        b"SESSION" | b"HELP" => Err(bad("this command takes no argument")),
        _ => Err(unknown(word)),
    }
}

fn bad(text: impl Into<String>) -> Refusal {
    Refusal::new(Code::BadRequest, text)
}

fn unknown(word: &[u8]) -> Refusal {
    let shown = word.get(..32).unwrap_or(word).escape_ascii();
    Refusal::new(Code::UnknownCommand, format!("no command '{shown}'; HELP lists them"))
}

/// The first word and what follows it.
fn split_word(text: &[u8]) -> (&[u8], &[u8]) {
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

fn parse_add_voter(rest: &[u8]) -> Result<Request, Refusal> {
    let text = str::from_utf8(rest).unwrap_or_default();
    let mut words = text.split_ascii_whitespace();
    let (Some(id), Some(address), None) = (words.next(), words.next(), words.next()) else {
        return Err(bad("say ADD_VOTER id address, such as ADD_VOTER node4 127.0.0.1:8004"));
    };
    let id = NodeName::parse(id).ok_or_else(|| {
        bad("id: 1-64 letters, digits, dots, underscores or dashes, no dot or dash first")
    })?;
    let address = PeerAddress::parse(address).ok_or_else(|| bad("address: not HOST:PORT"))?;
    Ok(Request::AddVoter { id, address })
}

fn parse_path(text: &[u8]) -> Result<RelPath, Refusal> {
    let path = path_text::from_line(text).map_err(|error| bad(format!("path: {error}")))?;
    if path.is_root() { Err(bad("path: it is missing")) } else { Ok(path) }
}

fn parse_cat(rest: &[u8]) -> Result<Request, Refusal> {
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
    Ok(Request::Cat { path: parse_path(path)?, index, offset })
}

fn parse_number(text: &[u8]) -> Option<u64> {
    let digits = text.first().is_some_and(u8::is_ascii_digit);
    digits.then(|| str::from_utf8(text).ok()?.parse().ok()).flatten()
}

fn parse_find(rest: &[u8]) -> Result<Request, Refusal> {
    let hash = str::from_utf8(rest).ok().and_then(ContentHash::parse);
    hash.map(Request::Find).ok_or_else(|| bad("say FIND and the 64 hex digits of a SHA-256"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
        assert_eq!(request("LOG a b/c"), Request::Log(path("a b/c")));
        assert_eq!(request("CAT a@b@12"), Request::Cat { path: path("a@b"), index: 12, offset: 0 });
        assert_eq!(request("CAT +9 a@12"), Request::Cat { path: path("a"), index: 12, offset: 9 });
        assert!(matches!(request("ADD_VOTER node4 127.0.0.1:8004"), Request::AddVoter { .. }));
        assert!(matches!(request(&format!("FIND {}", "0a".repeat(32))), Request::Find(_)));
    }

    #[test]
    fn anything_else_is_an_error_that_helps() {
        for (line, code) in [
            ("GET / HTTP/1.1", Code::UnknownCommand),
            ("STATUS xml", Code::BadRequest),
            ("ADD_VOTER node4", Code::BadRequest),
            ("ADD_VOTER -x 127.0.0.1:1", Code::BadRequest),
            ("ADD_VOTER node4 127.0.0.1:0", Code::BadRequest),
            ("LOG", Code::BadRequest),
            ("LOG ../x", Code::BadRequest),
            ("CAT a", Code::BadRequest),
            ("CAT a@-1", Code::BadRequest),
            ("CAT a@+1", Code::BadRequest),
            ("FIND 12", Code::BadRequest),
            ("FORWARD", Code::BadRequest),
            ("HELP me", Code::BadRequest),
        ] {
            assert_eq!(parse(line.as_bytes()).unwrap_err().code, code, "{line}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// fault 60: no bytes upset the parser, and its words fit on one short line.
        #[test]
        fn garbage_gets_a_short_answer(
            word in prop_oneof![Just("CAT "), Just("LOG "), Just("FORWARD {"), Just("ADD_VOTER "), Just("")],
            tail in prop::collection::vec(any::<u8>(), 1..200),
        ) {
            let line = [word.as_bytes(), &tail].concat();
            if let Err(refusal) = parse(&line) {
                prop_assert!(refusal.text.len() < 400);
            }
        }
    }
}
