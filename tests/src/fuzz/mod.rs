//! What may come in from outside, whatever it is: bytes of peers, bytes of disks.
//!
//! Each [`Target`] takes any bytes and must answer with a value or a typed error: no panic, no
//! memory beyond its bound, nothing believed that is not so. Two drivers use them: `cargo fuzz` in
//! `tests/fuzz`, which follows the branches of the program, and the test `fuzz`, which needs no
//! other toolchain and changes the examples at random.

mod admin;
mod change;
mod content;
mod hard_state;
mod journal;
mod log;
mod operation;
mod page;
mod path;
mod question;
mod token;
mod world;

use pickbox_raft::net::probe;

pub use change::Changer;

/// One gate.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What it is called; `tests/fuzz/fuzz_targets` has one of that name.
    pub name: &'static str,
    /// Takes any bytes.
    ///
    /// # Panics
    /// When something is wrong.
    pub run: fn(&[u8]),
    /// Bytes that are all right.
    pub examples: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 13] = [
    Target { name: "admin", run: admin::lines, examples: admin::examples },
    Target { name: "content", run: content::take, examples: content::examples },
    Target { name: "frame", run: frame, examples: streams },
    Target { name: "handshake", run: handshake, examples: payloads },
    Target { name: "hard_state", run: hard_state::read, examples: hard_state::examples },
    Target { name: "join", run: token::request, examples: token::requests },
    Target { name: "journal", run: journal::read, examples: journal::examples },
    Target { name: "log", run: log::recover, examples: log::examples },
    Target { name: "operation", run: operation::apply, examples: operation::examples },
    Target { name: "page", run: page::import, examples: page::examples },
    Target { name: "path", run: path::take, examples: path::examples },
    Target { name: "question", run: question::take, examples: question::examples },
    Target { name: "token", run: token::line, examples: token::lines },
];

/// Gives bytes to the target of this name.
///
/// # Panics
/// When something is wrong, or there is no such target.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.unwrap_or_else(|| unreachable!("no target is called {name}"));
    (target.run)(bytes);
}

/// A stream of bytes on a connection. The first byte says in which phase it is, the second in which
/// pieces it comes, the third whether checksums are made right.
fn frame(bytes: &[u8]) {
    let Some(([phase, piece, mend], stream)) = bytes.split_first_chunk::<3>() else { return };
    let mut stream = stream.to_vec();
    if mend % 2 == 0 {
        probe::mend(&mut stream);
    }
    let _count = probe::frames(*phase, usize::from(*piece), &stream);
}

fn streams() -> Vec<Vec<u8>> {
    let one = |phase: u8, stream: &[u8]| [&[phase, 32, 0], stream].concat();
    // Those of members come last.
    let phases = [0, 0, 1, 1, 2, 4, 3].into_iter().chain(std::iter::repeat(2));
    probe::examples().iter().zip(phases).map(|(stream, phase)| one(phase, stream)).collect()
}

/// The payload of a frame.
fn handshake(bytes: &[u8]) {
    probe::payloads(bytes);
}

/// A frame's head is ten bytes; the rest is its payload.
fn payloads() -> Vec<Vec<u8>> {
    let payload = |stream: &Vec<u8>| stream.get(10..).unwrap_or_default().to_vec();
    probe::examples().iter().map(payload).collect()
}

/// Cuts bytes into parts, each behind its length (two bytes, the larger first). A length that is
/// too long takes what there is.
fn parts(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (length, more) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length)).min(more.len());
        let (part, later) = more.split_at(length);
        rest = later;
        Some(part)
    })
}

/// A part behind its length.
fn framed(part: &[u8]) -> Vec<u8> {
    let length = u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&length[..], part].concat()
}
