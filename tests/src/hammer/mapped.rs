//! Stores through mappings (`mmap(2)`), by a small C program: no `unsafe` of our own.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Builds the program; none if there is no C compiler.
pub(super) fn build(directory: &Path) -> Option<PathBuf> {
    let (source, program) = (directory.join("mapped.c"), directory.join("mapped"));
    fs::write(&source, include_str!("mapped.c")).ok()?;
    let built = Command::new("cc").arg("-O1").arg("-o").arg(&program).arg(&source).status();
    built.is_ok_and(|status| status.success()).then_some(program)
}

/// Stores `bytes` at an offset of an open file. The descriptor is closed before the first store, so
/// that the mapping is the file's only writer.
pub(super) fn store(
    program: &Path,
    file: File,
    (offset, bytes): (usize, &[u8]),
    pause_ms: u64,
) -> io::Result<()> {
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    let mut command = Command::new(program);
    command.arg(path).args([offset, bytes.len()].map(|number| number.to_string()));
    command.arg(pause_ms.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut ready = [0; 6];
    child.stdout.take().expect("a pipe").read_exact(&mut ready)?;
    drop(file);
    child.stdin.take().expect("a pipe").write_all(bytes)?;
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("mapped: {status}"))) }
}
