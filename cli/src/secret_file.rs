//! Files that hold a secret: read only if nobody else can, written so that nobody else can.

use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt as _};
use std::path::Path;

use crate::exit::CliError;

/// Longest secret file in bytes; who names a larger one has named another file.
const BYTES_MAX: u64 = 4096;

/// Reads a secret.
///
/// # Errors
/// When the file cannot be read, is no plain file or too large, belongs to another user than root or
/// oneself, or is open to others.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    let shown = path.display();
    let failed = || CliError::local(format!("Cannot read the secret in {shown}"));
    let file = File::open(path).map_err(failed())?;
    // Of the file that is open, not of what has the name by now.
    let stat = file.metadata().map_err(failed())?;
    if !stat.is_file() || stat.len() > BYTES_MAX {
        return Err(CliError::Usage(format!(
            "{shown} is not a file with a secret: it is no plain file, or over {BYTES_MAX} bytes."
        )));
    }
    let own = rustix::process::geteuid().as_raw();
    if stat.uid() != own && stat.uid() != 0 {
        return Err(CliError::Usage(format!(
            "{shown} is refused: it belongs to uid {}, who can change it. Run: chown {own} {shown}",
            stat.uid()
        )));
    }
    if stat.mode() & 0o077 != 0 {
        return Err(CliError::Usage(format!(
            "{shown} is refused: its mode {:04o} lets others read or change it. Run: chmod 600 {shown}",
            stat.mode() & 0o7777
        )));
    }
    let mut secret = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut secret).map_err(failed())?;
    Ok(secret)
}

/// A file that was not there before, for this user alone; empty yet.
#[derive(Debug)]
pub(crate) struct NewFile<'a> {
    path: &'a Path,
    file: File,
}

impl<'a> NewFile<'a> {
    /// Makes it.
    ///
    /// # Errors
    /// When the name is taken, or the file cannot be made.
    pub(crate) fn create(path: &'a Path) -> Result<Self, CliError> {
        let file = File::options().write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(CliError::local(cannot_write(path)))?;
        Ok(Self { path, file })
    }

    /// Writes the secret into it, durably.
    ///
    /// # Errors
    /// When the disk is full or failed.
    pub(crate) fn write(mut self, secret: &str) -> Result<(), CliError> {
        let written = self.file.write_all(secret.as_bytes()).and_then(|()| self.file.sync_all());
        written.map_err(CliError::local(cannot_write(self.path)))
    }

    /// Takes it away again: it is empty, and its name was free.
    pub(crate) fn discard(self) {
        let _ = fs::remove_file(self.path);
    }
}

fn cannot_write(path: &Path) -> String {
    format!("Cannot write the new file {}", path.display())
}

/// That a file does not hold what it must.
pub(crate) fn bad(path: &Path, why: impl fmt::Display) -> CliError {
    let shown = path.display();
    CliError::Usage(format!(
        "{shown} holds no token: {why}. This makes one: install -m 600 /dev/null {shown} && head -c 24 \
         /dev/urandom | base64 > {shown}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    /// fault 91: nobody else reads the file, and none that was there is written over.
    #[test]
    fn a_secret_is_written_for_its_user_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        NewFile::create(&path).unwrap().discard();
        NewFile::create(&path).unwrap().write("line\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "line\n");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(NewFile::create(&path).unwrap_err().to_string().contains("token"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "line\n");
    }

    fn place(mode: u32) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "a secret\n").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        (directory, path)
    }

    /// Source: fault 91; ssh(1) treats keys in the same way.
    #[test]
    fn a_file_that_others_can_read_is_refused_with_the_remedy() {
        for mode in [0o600, 0o400] {
            let (_directory, path) = place(mode);
            assert_eq!(read(&path).unwrap(), b"a secret\n");
        }
        for mode in [0o640, 0o604, 0o620, 0o644, 0o601, 0o777] {
            let (_directory, path) = place(mode);
            let text = read(&path).unwrap_err().to_string();
            assert!(text.contains(&format!("chmod 600 {}", path.display())), "{mode:o}: {text}");
        }
    }

    #[test]
    fn what_is_no_secret_file_is_refused() {
        let (directory, path) = place(0o600);
        assert!(read(directory.path()).unwrap_err().to_string().contains("no plain file"));
        assert!(read(&directory.path().join("none")).is_err());
        std::fs::write(&path, vec![b'x'; 5000]).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("over 4096 bytes"));
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
            std::fs::write(&path, "a secret\n").unwrap();
            assert!(read(&path).unwrap_err().to_string().contains("chown 0 "), "another's file");
        }
    }

    #[test]
    fn a_bad_token_comes_with_the_way_to_make_one() {
        let text = bad(Path::new("t"), "it is short").to_string();
        assert!(
            text.contains("it is short") && text.contains("install -m 600 /dev/null t &&"),
            "{text}"
        );
    }
}
