//! Which programs of this host have a file open for writing, as far as whoever asks may see:
//! `/proc/PID/fd` and `/proc/PID/fdinfo` (`proc_pid_fd(5)`, `proc_pid_fdinfo(5)`).
//!
//! The daemon does not look itself: it is confined to its folder, and may see no process but its own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use pickbox_store::why::{Program, REASONS_MAX};

/// The bits of the access mode in the octal `flags` of a descriptor; zero is for reading only.
const ACCESS_MODE: u32 = 0o3;

/// The programs that write to the file with this inode, and whether some could not be looked at.
pub(crate) fn writers(dev: u64, ino: u64) -> (Vec<Program>, bool) {
    let (mut by, mut hidden) = (Vec::new(), false);
    let Ok(processes) = fs::read_dir("/proc") else { return (by, true) };
    for process in processes.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        match writes(&process.path(), dev, ino) {
            Some(true) if by.len() < REASONS_MAX => {
                let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                by.push(Program { pid, name: name.trim_end().to_owned() });
            }
            Some(_) => {}
            None => hidden = true,
        }
    }
    (by, hidden)
}

/// Whether a process writes to the file; none if its descriptors may not be seen. One that has ended
/// writes to nothing.
fn writes(process: &Path, dev: u64, ino: u64) -> Option<bool> {
    let descriptors = match fs::read_dir(process.join("fd")) {
        Ok(descriptors) => descriptors,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return None,
        Err(_) => return Some(false),
    };
    let is_it =
        |path: &Path| fs::metadata(path).is_ok_and(|file| (file.dev(), file.ino()) == (dev, ino));
    Some(descriptors.flatten().any(|descriptor| {
        is_it(&descriptor.path())
            && fs::read_to_string(process.join("fdinfo").join(descriptor.file_name()))
                .is_ok_and(|info| is_for_writing(&info))
    }))
}

/// Whether a descriptor is one for writing, by its line `flags:` in octal.
fn is_for_writing(info: &str) -> bool {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & ACCESS_MODE != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source: trap T6; `proc_pid_fd(5)`.
    #[test]
    fn who_writes_to_a_file_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "text").unwrap();
        let at = fs::metadata(&path).unwrap();
        let own = std::process::id();
        let found = || writers(at.dev(), at.ino()).0.iter().any(|program| program.pid == own);
        assert!(!found());
        let reader = fs::File::open(&path).unwrap();
        assert!(!found(), "a reader is none");
        let writer = fs::File::options().append(true).open(&path).unwrap();
        assert!(found());
        drop((reader, writer));
        assert!(!found());
    }

    #[test]
    fn flags_are_octal() {
        assert!(is_for_writing("pos:\t0\nflags:\t0100001\nmnt_id:\t29\n"));
        assert!(is_for_writing("flags:\t02\n"));
        assert!(
            !is_for_writing("flags:\t0100000\n")
                && !is_for_writing("")
                && !is_for_writing("flags: x")
        );
    }
}
