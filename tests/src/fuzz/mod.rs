//! What may come in from outside, whatever it is: bytes of peers, bytes of disks.
//!
//! Each [`Target`] takes any bytes and must answer with a value or a typed error: no panic, no
//! memory beyond its bound, nothing believed that is not so. Two drivers use them: `cargo fuzz` in
//! `tests/fuzz`, which follows the branches of the program, and the test `fuzz`, which needs no
//! other toolchain and changes the examples at random.

mod change;
mod log;
mod page;

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
pub const TARGETS: [Target; 4] = [
    Target { name: "frame", run: frame, examples: streams },
    Target { name: "handshake", run: handshake, examples: payloads },
    Target { name: "log", run: log::recover, examples: log::examples },
    Target { name: "page", run: page::import, examples: page::examples },
];

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
    let phases = [0, 0, 1, 1, 4, 5, 3];
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
