//! What a line leads to: whether its client may, and what it gets.

use std::time::Instant;

use crate::answer;
use crate::audit::Audit;
use crate::authority::{Caller, denial};
use crate::command::{self, Command, Form};
use crate::connection::{Connection, Line, LineEnd};
use crate::limits::{LINE_BYTES_MAX, LINE_OF_STRANGER_BYTES_MAX};
use crate::node::{Code, Refusal, Request};
use crate::people::People;
use crate::stream::Origin;
use crate::token::{AdminToken, Failures, Said};

/// What an authenticated client is told first.
pub(crate) const AUTHENTICATED: &str = "OK authenticated\n";
/// What a browser is told, or whatever else speaks HTTP.
const NOT_HTTP: &str = "this port speaks lines, not HTTP; nothing was done. See HELP by nc";

/// Who may come in, and what was refused.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) people: People,
    token: Option<AdminToken>,
    failures: Failures,
    audit: Audit,
}

/// A command that the server answers itself, or the request for the node.
enum Taken {
    Text(&'static str),
    Request(Request, Form),
}

/// Why a line was not carried out.
enum Stopped {
    /// The client may go on.
    Refused(Refusal),
    /// It may not.
    Ended(Refusal),
}

impl From<Refusal> for Stopped {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Gate {
    pub(crate) fn new(group: Option<String>, token: Option<AdminToken>) -> Self {
        let people = People::new(group);
        Self { people, token, failures: Failures::default(), audit: Audit::new() }
    }

    /// Answers a line if that needs no node, else gives the request for it.
    pub(crate) fn respond(
        &mut self,
        connection: &mut Connection,
        line: &Line,
        now: Instant,
    ) -> Option<(Request, Form)> {
        let taken = self.take(connection, line, now);
        match &taken {
            Ok(Taken::Text(AUTHENTICATED)) => {}
            _ => connection.settle_mode(),
        }
        match taken {
            Ok(Taken::Request(request, form)) => return Some((request, form)),
            Ok(Taken::Text(text)) => connection.answer(text.as_bytes(), now),
            Err(Stopped::Refused(reason)) => connection.answer(&answer::refusal(&reason), now),
            Err(Stopped::Ended(reason)) => connection.refuse(reason.code, &reason.text, now),
        }
        None
    }

    /// A line that is longer than its client may send: the end of the connection.
    pub(crate) fn too_long(&mut self, connection: &mut Connection, now: Instant) {
        let visitor = connection.visitor;
        if visitor.caller.is_trusted() {
            let text = format!("a line is over {LINE_BYTES_MAX} bytes");
            return connection.refuse(Code::TooLong, &text, now);
        }
        self.audit.denied("LINE", visitor.caller, &visitor.origin, now);
        let what = format!("a line of over {LINE_OF_STRANGER_BYTES_MAX} bytes");
        let reason = denial(&what, visitor.caller, self.people.group());
        connection.refuse(reason.code, &reason.text, now);
    }

    fn take(
        &mut self,
        connection: &mut Connection,
        line: &Line,
        now: Instant,
    ) -> Result<Taken, Stopped> {
        if command::is_http(&line.bytes) {
            return Err(Stopped::Ended(Refusal::new(Code::BadRequest, NOT_HTTP)));
        }
        let command = match command::parse(&line.bytes) {
            // Who does not begin with a command speaks another protocol, in which the next line may
            // look like one.
            Err(reason) if reason.code == Code::UnknownCommand && connection.is_fresh() => {
                return Err(Stopped::Ended(reason));
            }
            other => other,
        };
        let caller = connection.visitor.caller;
        if caller == Caller::Remote && !matches!(command, Ok(Command::Auth(_))) {
            let word = command.as_ref().map_or("-", Command::word);
            return Err(Stopped::Ended(self.deny(connection, word, now)));
        }
        let command = command?;
        if !caller.may(command.needs()) {
            return Err(self.deny(connection, command.word(), now).into());
        }
        self.carry_out(connection, command, line.end, now)
    }

    fn deny(&mut self, connection: &Connection, word: &str, now: Instant) -> Refusal {
        let visitor = connection.visitor;
        self.audit.denied(word, visitor.caller, &visitor.origin, now);
        denial(word, visitor.caller, self.people.group())
    }

    fn carry_out(
        &mut self,
        connection: &mut Connection,
        command: Command,
        end: LineEnd,
        now: Instant,
    ) -> Result<Taken, Stopped> {
        match command {
            Command::Ask(request, _) if end == LineEnd::Input && request.is_change() => {
                let text = "the last line has no newline: it may be cut off, nothing was done";
                Err(Refusal::new(Code::BadRequest, text).into())
            }
            Command::Ask(request, form) => Ok(Taken::Request(request, form)),
            Command::Help => Ok(Taken::Text(answer::HELP)),
            Command::Session => {
                connection.begin_session()?;
                Ok(Taken::Text(answer::SESSION))
            }
            Command::Auth(said) => {
                self.authenticate(connection, &said, now)?;
                Ok(Taken::Text(AUTHENTICATED))
            }
        }
    }

    fn authenticate(
        &mut self,
        connection: &mut Connection,
        said: &Said,
        now: Instant,
    ) -> Result<(), Stopped> {
        let Some(token) = &self.token else {
            let text = "this node has no admin token: who may do what is told by the user who asks";
            return Err(Refusal::new(Code::Unsupported, text).into());
        };
        let origin = connection.visitor.origin;
        let Origin::Tcp(from) = origin else {
            let text = "at the unix socket, who may do what is told by the user who asks";
            return Err(Refusal::new(Code::Unsupported, text).into());
        };
        if self.failures.is_paused(from.ip(), now) {
            self.audit.wrong_token(self.failures.note(from.ip(), now), &origin, now);
            let text = "too many wrong tokens came from your address: try again in a minute";
            return Err(Stopped::Ended(Refusal::new(Code::Denied, text)));
        }
        if token.is(said) {
            return Ok(connection.greet()?);
        }
        self.audit.wrong_token(self.failures.note(from.ip(), now), &origin, now);
        Err(Stopped::Ended(Refusal::new(Code::Denied, "that is not the token of this node")))
    }
}
