//! The index in a file of a simulated volume: kills and power cuts take from it what they take
//! from any file.

use std::io;

use redb::{Database, StorageBackend};

use super::{Index, IndexError};
use crate::folder::File;

/// A file that the database keeps itself in.
#[derive(Debug)]
struct Stored(File);

impl StorageBackend for Stored {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.stat()?.size)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Ok(self.0.resize_simulated(len)?)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
}

impl Index {
    /// Opens the database in this open file, or makes it if the file is empty.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn in_file(file: File) -> Result<Self, IndexError> {
        let mut builder = Database::builder();
        builder.set_cache_size(super::CACHE_BYTES);
        Self::start(builder.create_with_backend(Stored(file))?)
    }
}
