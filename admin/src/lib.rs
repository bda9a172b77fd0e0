//! The admin protocol: lines over TCP and a unix socket, made for `nc`.
//!
//! ```text
//! $ echo STATUS | nc 127.0.0.1 9001
//! OK  3/3 nodes  index 18204 everywhere  root 9f3c21aa..  0 pending  0 conflicts
//! node_id: node1
//! ...
//! ```
//!
//! # Requests
//!
//! One request a line, ended by a newline (a carriage return before it is ignored), at most
//! [`limits::LINE_BYTES_MAX`] long. Empty lines are ignored. Lines may come in pieces or many in
//! one packet. Answers come in the order of the requests of one connection; the next request of a
//! connection is taken up when the one before is answered. Different connections do not wait for
//! each other: `STATUS` is answered at once also while a `FORWARD` elsewhere waits for a majority.
//!
//! | request | answer |
//! |---|---|
//! | `STATUS` | a verdict (`OK`, `DEGRADED` or `NO-QUORUM` and the figures), then lines `key: value` |
//! | `STATUS json` | one line of JSON, see [`status::StatusReport`] |
//! | `FORWARD {json}` | `OK index N` when committed, see [`forward`] |
//! | `MEMBERS` | `OK` and figures, then a line a member |
//! | `MEMBERS json` | one line of JSON: a list of [`status::MemberReport`] |
//! | `ADD_VOTER`, `ADD_LEARNER`, `REMOVE`, `PROMOTE`, `DEMOTE`, `REPLACE`, `MOVE` | `OK member N: ...` when committed, see [`members`] |
//! | `TRANSFER [id]` | `OK leader id` once another node leads |
//! | `TOKEN CREATE [for NAME] [ttl DURATION]` | `OK` and the line that lets a node join, once it is committed, see [`join_tokens`] |
//! | `TOKEN LIST`, `TOKEN LIST json` | the join tokens that are not over, without their secrets: as `MEMBERS` |
//! | `TOKEN REVOKE id` | `OK token id revoked` when committed |
//! | `ROTATE_KEY [anyway]` | `OK key FINGERPRINT`: the node that is asked has a new key, and its former one counts no more |
//! | `LOG path` | `OK [json]`: the versions of the file, the newest first |
//! | `CAT [+OFFSET] path@index` | `OK {json}`: a piece of that version, base64, and the SHA-256 of all of it |
//! | `FIND sha256` | `OK [json]`: where content with this hash is or was |
//! | `CONFLICTS [after KEY]` | `OK {json}`: a page of the open conflicts, see [`conflicts`] |
//! | `LOCAL` before one of these four | the same from what this node has, at once |
//! | `RESOLVE ours\|theirs\|both [+INDEX,INDEX] path` | `OK index N`: the conflict is over; the indices are those of the two versions that the person saw, of the file and of the copy |
//! | `SESSION` | as the first line: `OK session`; the connection stays open |
//! | `AUTH token` | as the first line: `OK authenticated`; the client may do everything |
//! | `HELP` | these lines |
//!
//! Anything that cannot be done is answered `ERROR code: text`; the codes are [`node::Code`].
//!
//! # Who may
//!
//! `STATUS`, `MEMBERS`, `HELP` and `SESSION` are for every user of this host; everything else is for the
//! user that runs the node, root, the users of its admin group, and who said the token. Who a client on this
//! host is the kernel tells when it is accepted; a client elsewhere must say the token first. What a line of
//! HTTP begins, or a first line that is no command, ends at once: browsers may be sent here.
//!
//! # When a connection ends
//!
//! Once everything received is answered the server closes (otherwise `echo STATUS | nc ...` would
//! never return), unless the first line was `SESSION`. In a session an answer of more than one line
//! ends with an empty line. A client that shuts down its writing side gets all its answers first.
//! A line over the bound or slower than [`limits::Limits::line`], a client that is silent for
//! [`limits::Limits::idle`], and one that does not take its answers are told so where possible, and closed.
//!
//! # Paths
//!
//! File names are bytes. In `LOG` and `CAT` a path is written as it is, with `\xNN`, `\n`, `\t`,
//! `\r`, `\\`, `\'` and `\"` for bytes that cannot stand in a line; this is also how answers in
//! text show them. In JSON a path is a string: UTF-8 as it is, and each byte that belongs to no
//! valid UTF-8 as U+0000 followed by two hex digits (`"caf\u0000e9"`), which cannot be mistaken since
//! no path contains a zero byte. See [`path_text`].
//!
//! # Shape
//!
//! [`Admin::run`] is one mio loop for one thread. What is behind it is the trait [`Node`]: a request
//! is handed over with a [`Ticket`], and whoever has the answer gives it to the ticket, from any
//! thread. Everything is bounded: see [`limits`].

mod answer;
mod audit;
mod authority;
pub mod client;
mod command;
pub mod conflicts;
mod connection;
mod doors;
pub mod forward;
mod gate;
pub mod holds;
pub mod join_tokens;
pub mod limits;
mod lines;
pub mod members;
pub mod node;
pub mod path_text;
mod people;
#[doc(hidden)]
pub mod probe;
mod room;
mod server;
mod socket_file;
pub mod status;
mod stream;
pub mod token;
pub mod why;

pub use doors::AdminError;
pub use limits::Limits;
pub use node::{Code, Node, Refusal, Reply, Request, Ticket};
pub use server::{Admin, Options, Stopper};
pub use socket_file::fits as fits_socket;
pub use status::{StatusReport, Verdict};
