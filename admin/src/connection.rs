//! One client: what it sent, what it still has to get, and when it ends.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use crate::answer;
use crate::authority::Caller;
use crate::command::Form;
use crate::limits::{GUARANTEED_BYTES, LINE_BYTES_MAX, LINE_OF_STRANGER_BYTES_MAX, Limits};
use crate::lines::{LineBuffer, TooLong};
use crate::node::{Code, Refusal};
use crate::stream::{Origin, Stream};

/// What a connection is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The client's next line, or its taking of the last answer.
    Client,
    /// The node's answer, to be shown in this form.
    Node(Form),
    /// Its answers are written, then its sending side is shut.
    Closing,
    /// Nothing: what still comes is read and dropped until the client closes.
    Draining,
}

/// Whether the connection outlives its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// No line was read yet.
    Fresh,
    /// The first line was `AUTH` and the token.
    Greeted,
    /// It ends when everything received is answered.
    Once,
    /// The first line was `SESSION`.
    Session,
}

/// A line that the client sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) bytes: Vec<u8>,
    pub(crate) end: LineEnd,
}

/// How a line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineEnd {
    /// By a newline.
    Newline,
    /// By the end of the input: it may be half of a line.
    Input,
}

/// What came of one turn.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing to do until an event.
    Wait,
    /// More to do: have another turn after the others.
    Again,
    /// A request to carry out.
    Line(Line),
    /// The line is over the bound; no more of it is kept.
    TooLong,
    /// Over: drop it.
    Close,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visitor {
    pub(crate) caller: Caller,
    pub(crate) origin: Origin,
}

/// The server's side of one connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: Stream,
    pub(crate) visitor: Visitor,
    pub(crate) phase: Phase,
    /// When the client last did something, or the phase began.
    pub(crate) touched: Instant,
    /// How long the node may take for what it is asked now, if longer than usual.
    pub(crate) patience: Option<Duration>,
    /// When the line that is coming began, or the answer that is going, or the connection.
    pressing: Option<Instant>,
    /// Whether reading may bring something; edge-triggered, so remembered.
    pub(crate) readable: bool,
    mode: Mode,
    lines: LineBuffer,
    input_ended: bool,
    output: Vec<u8>,
    written: usize,
    /// What this connection's buffers count for in the sum of all.
    charged: usize,
}

impl Connection {
    pub(crate) fn new(stream: Stream, visitor: Visitor, now: Instant) -> Self {
        Self {
            stream,
            visitor,
            phase: Phase::Client,
            touched: now,
            patience: None,
            // Who has not said the token has no time for silence either.
            pressing: (visitor.caller == Caller::Remote).then_some(now),
            readable: true,
            mode: Mode::Fresh,
            lines: LineBuffer::default(),
            input_ended: false,
            output: Vec::new(),
            written: 0,
            charged: 0,
        }
    }

    /// Brings the sum of all buffers up to date with this connection's.
    pub(crate) fn charge(&mut self, sum: &mut usize) {
        let held = self.lines.held_bytes() + self.output.capacity();
        *sum = (*sum + held).saturating_sub(self.charged);
        self.charged = held;
    }

    /// Takes this connection out of the sum of all buffers.
    pub(crate) fn discharge(self, sum: &mut usize) {
        *sum = sum.saturating_sub(self.charged);
    }

    /// Whether the client has taken every answer.
    pub(crate) fn owes_nothing(&self) -> bool {
        self.output.is_empty()
    }

    /// Whether only the client can move it on.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Client | Phase::Draining)
    }

    /// Does one bounded piece of work; `room` is how much more all buffers may hold.
    pub(crate) fn turn(&mut self, chunk: &mut [u8], room: usize, now: Instant) -> Turn {
        let result = match self.phase {
            Phase::Draining => self.drain(chunk),
            Phase::Client => self.flush(now).and_then(|flushed| match flushed {
                Flushed::All => self.next_request(chunk, room, now),
                Flushed::Part => Ok(Turn::Wait),
            }),
            Phase::Closing => self.flush(now).and_then(|flushed| match flushed {
                Flushed::All => self.shut(now),
                Flushed::Part => Ok(Turn::Wait),
            }),
            Phase::Node(_) => Ok(Turn::Wait),
        };
        result.unwrap_or_else(|error| {
            log::debug!("admin=connection error={error}");
            Turn::Close
        })
    }

    /// Queues an answer; the next turn writes it.
    pub(crate) fn answer(&mut self, bytes: &[u8], now: Instant) {
        self.output.extend_from_slice(bytes);
        self.pressing = Some(now);
        let lines = bytes.split_inclusive(|&byte| byte == b'\n').take(2).count();
        if self.mode == Mode::Session && lines > 1 {
            self.output.push(b'\n');
        }
        self.touched = now;
        if self.phase != Phase::Closing {
            self.phase = Phase::Client;
        }
    }

    /// Queues a last answer.
    pub(crate) fn refuse(&mut self, code: Code, text: &str, now: Instant) {
        self.lines.clear();
        self.phase = Phase::Closing;
        self.answer(&answer::refusal(&Refusal::new(code, text)), now);
    }

    /// Whether the client may still be anything: no line of it was a command yet.
    pub(crate) fn is_fresh(&self) -> bool {
        matches!(self.mode, Mode::Fresh | Mode::Greeted)
    }

    /// Takes the client for one that knows the token.
    ///
    /// # Errors
    /// When that is not its first line.
    pub(crate) fn greet(&mut self) -> Result<(), Refusal> {
        if self.mode == Mode::Fresh {
            self.mode = Mode::Greeted;
            self.visitor.caller = Caller::Token;
            return Ok(());
        }
        Err(Refusal::new(Code::BadRequest, "AUTH must be the first line"))
    }

    /// Makes this a session if its first line says so.
    ///
    /// # Errors
    /// When it is not the first line.
    pub(crate) fn begin_session(&mut self) -> Result<(), Refusal> {
        if self.is_fresh() {
            self.mode = Mode::Session;
            return Ok(());
        }
        Err(Refusal::new(Code::BadRequest, "SESSION must be the first line"))
    }

    /// The first line was read and is no `SESSION`.
    pub(crate) fn settle_mode(&mut self) {
        if self.is_fresh() {
            self.mode = Mode::Once;
        }
    }

    /// Whether the client has taken too long for what it is at.
    pub(crate) fn is_overdue(&self, limits: &Limits, now: Instant) -> bool {
        let pressed = self.pressing.map(|since| now.saturating_duration_since(since));
        let for_line = if self.visitor.caller.is_trusted() { limits.line } else { limits.greeting };
        let silent = now.saturating_duration_since(self.touched);
        match self.phase {
            Phase::Client | Phase::Closing => {
                silent > limits.idle || pressed.is_some_and(|pressed| pressed > for_line)
            }
            Phase::Node(_) => silent > limits.request.max(self.patience.unwrap_or_default()),
            Phase::Draining => silent > limits.linger,
        }
    }

    /// The longest line that this client may send.
    fn line_bytes_max(&self) -> usize {
        let is_trusted = self.visitor.caller.is_trusted();
        if is_trusted { LINE_BYTES_MAX } else { LINE_OF_STRANGER_BYTES_MAX }
    }

    fn next_request(&mut self, chunk: &mut [u8], room: usize, now: Instant) -> io::Result<Turn> {
        match self.lines.next_line(self.line_bytes_max()) {
            Ok(Some(bytes)) => {
                self.pressing = None;
                return Ok(Turn::Line(Line { bytes, end: LineEnd::Newline }));
            }
            Ok(None) => {}
            Err(TooLong) => return Ok(Turn::TooLong),
        }
        if self.input_ended {
            return self.last_request(now);
        }
        if self.readable {
            return self.receive(chunk, room, now);
        }
        if self.mode == Mode::Once && self.lines.is_empty() {
            return self.shut(now);
        }
        Ok(Turn::Wait)
    }

    fn last_request(&mut self, now: Instant) -> io::Result<Turn> {
        let bytes = self.lines.take_rest();
        self.pressing = None;
        if bytes.is_empty() {
            return self.shut(now);
        }
        Ok(Turn::Line(Line { bytes, end: LineEnd::Input }))
    }

    fn receive(&mut self, chunk: &mut [u8], room: usize, now: Instant) -> io::Result<Turn> {
        // Of a stranger no more is taken at a time than one line.
        let most = chunk.len().min(self.line_bytes_max());
        let Some(bytes) = read_some(&mut self.stream, chunk.get_mut(..most).unwrap_or_default())?
        else {
            self.readable = false;
            return Ok(Turn::Again);
        };
        self.touched = now;
        if !bytes.is_empty() {
            self.pressing.get_or_insert(now);
        }
        self.input_ended = bytes.is_empty();
        if self.lines.len() + bytes.len() > GUARANTEED_BYTES && bytes.len() > room {
            self.refuse(Code::Busy, "too much unanswered input from all clients; try again", now);
        } else {
            self.lines.push(bytes);
        }
        Ok(Turn::Again)
    }

    fn flush(&mut self, now: Instant) -> io::Result<Flushed> {
        while let Some(rest) = self.output.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.written += count;
                    self.touched = now;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Flushed::Part);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.written > 0 {
            self.output = Vec::new();
            self.written = 0;
            self.pressing = (!self.lines.is_empty()).then_some(now);
        }
        Ok(Flushed::All)
    }

    /// Ends our side. Closing the socket with unread input would send a reset, which can destroy
    /// the answer before the client has read it (RFC 1122, 4.2.2.13): so read on until it closes.
    fn shut(&mut self, now: Instant) -> io::Result<Turn> {
        if self.input_ended {
            return Ok(Turn::Close);
        }
        self.stream.shutdown()?;
        self.lines.clear();
        self.phase = Phase::Draining;
        self.touched = now;
        Ok(Turn::Again)
    }

    fn drain(&mut self, chunk: &mut [u8]) -> io::Result<Turn> {
        Ok(match read_some(&mut self.stream, chunk)? {
            None => Turn::Wait,
            Some([]) => Turn::Close,
            Some(_) => Turn::Again,
        })
    }
}

/// How much of the output was taken.
enum Flushed {
    All,
    Part,
}

/// Reads once; `None` when nothing is there, an empty slice at the end of the input.
fn read_some<'a>(stream: &mut Stream, chunk: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
    loop {
        match stream.read(chunk) {
            Ok(count) => return Ok(Some(chunk.get(..count).unwrap_or_default())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
