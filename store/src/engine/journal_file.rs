//! The files of the placed journal: `journal.N`, a new one from each checkpoint.

use std::io::ErrorKind;

use crate::folder::{Dir, File, FolderError};
use crate::name::Name;
use crate::time::Time;

/// Longest journal that is read back: the checkpoint comes long before.
const JOURNAL_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// The open journal.
#[derive(Debug)]
pub(super) struct JournalFile {
    file: File,
    /// Bytes written.
    len: u64,
    number: u64,
    /// When the last of the former journals was written.
    former_written: Option<Time>,
    /// How many bytes a test lets the disk take.
    #[cfg(test)]
    pub(super) room: Option<usize>,
}

fn name_of(number: u64) -> Option<Name> {
    Name::new(format!("journal.{number}")).ok()
}

fn number_of(name: &Name) -> Option<u64> {
    std::str::from_utf8(name.as_bytes()).ok()?.strip_prefix("journal.")?.parse().ok()
}

/// Whether a file of the state directory is a journal.
pub(super) fn is_journal(name: &Name) -> bool {
    number_of(name).is_some()
}

impl JournalFile {
    /// Reads what former journals say, oldest first, and starts a new one.
    pub(super) fn open(state: &Dir) -> Result<(Self, Vec<Vec<u8>>), FolderError> {
        let mut numbers = Self::numbers(state)?;
        numbers.sort_unstable();
        let (mut contents, mut former_written) = (Vec::new(), None);
        for number in &numbers {
            let Some(name) = name_of(*number) else { continue };
            let file = state.open_read(&name)?;
            let stat = file.stat().ok();
            former_written = stat.map(|stat| stat.mtime).or(former_written);
            let size = stat.map_or(0, |stat| stat.size.min(JOURNAL_BYTES_MAX));
            contents.extend(file.read_up_to(usize::try_from(size).unwrap_or(0)).ok());
        }
        let number = numbers.last().map_or(1, |last| last + 1);
        Ok((Self { former_written, ..Self::create(state, number)? }, contents))
    }

    /// When the last of the former journals was written, by the clock that stamps files.
    pub(super) fn former_written(&self) -> Option<Time> {
        self.former_written
    }

    fn numbers(state: &Dir) -> Result<Vec<u64>, FolderError> {
        let mut numbers = Vec::new();
        for entry in state.list()? {
            numbers.extend(number_of(&entry?.name));
        }
        Ok(numbers)
    }

    fn create(state: &Dir, number: u64) -> Result<Self, FolderError> {
        let absent = || FolderError::Absent(state.path().clone());
        let name = name_of(number).ok_or_else(absent)?;
        Ok(Self {
            file: state.create_new(&name)?,
            len: 0,
            number,
            former_written: None,
            #[cfg(test)]
            room: None,
        })
    }

    /// Writes what it can, not synced, and takes that out of `bytes`: what the disk has no room
    /// for goes on where this ended, so a note that was cut becomes whole.
    pub(super) fn append(&mut self, bytes: &mut Vec<u8>) -> std::io::Result<()> {
        let mut written = 0;
        let outcome = loop {
            match bytes.get(written..) {
                None | Some([]) => break Ok(()),
                Some(rest) => match self.write(rest) {
                    Ok(0) => break Err(ErrorKind::WriteZero.into()),
                    Ok(count) => written += count,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => break Err(error),
                },
            }
        };
        bytes.drain(..written);
        outcome
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        #[cfg(test)]
        if let Some(room) = &mut self.room {
            let count = bytes.len().min(*room);
            *room -= count;
            let full = || std::io::Error::from(ErrorKind::StorageFull);
            let part = bytes.get(..count).filter(|part| !part.is_empty()).ok_or_else(full)?;
            return self.append_some(part);
        }
        self.append_some(bytes)
    }

    fn append_some(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.file.write_at(bytes, self.len)?;
        self.len += u64::try_from(count).unwrap_or(0);
        Ok(count)
    }

    /// Starts the next journal.
    pub(super) fn rotate(&mut self, state: &Dir) -> Result<(), FolderError> {
        *self = Self::create(state, self.number + 1)?;
        Ok(())
    }

    /// Removes all journals before this one: the index is durable beyond them.
    pub(super) fn remove_older(&self, state: &Dir) -> Result<(), FolderError> {
        for number in Self::numbers(state)? {
            if number < self.number
                && let Some(name) = name_of(number)
            {
                state.unlink(&name)?;
            }
        }
        Ok(())
    }
}
