//! One file of the log: its name and its header, which is durable before the file gets its name.

use std::io::IoSlice;

use pickbox_raft_core::ids::Index;

use super::error::WalError;
use super::record::{u32_at, u64_at};
use super::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use crate::disk::{Disk, DiskFile};

/// The directory of the segments.
pub(super) const DIRECTORY: &str = "wal";
/// A segment that is being prepared; removed when the log is opened.
pub(super) const UNFINISHED: &str = "wal/prepare.tmp";
/// Where records begin: a page, so that no write of a record touches the header's.
pub(super) const RECORDS_FROM: u32 = 4096;

const MAGIC: [u8; 8] = *b"PBOXWAL\n";
const VERSION: u32 = 3;
const HEADER_BYTES: usize = 40;

/// One segment, open.
#[derive(Debug)]
pub(super) struct Segment<F> {
    /// Its place among the segments, from 1.
    pub(super) number: u32,
    /// Random; says which records belong to it.
    pub(super) nonce: u64,
    /// Its length in bytes, fixed.
    pub(super) length: u32,
    /// The last index of the log when it began.
    pub(super) head_last: Index,
    /// The open file.
    pub(super) file: F,
}

/// The file of a segment.
pub(super) fn path(number: u32) -> String {
    format!("{DIRECTORY}/{}", name(number))
}

fn name(number: u32) -> String {
    format!("{number:08x}.wal")
}

/// The number that a name says, if it is one of a segment.
pub(super) fn number_of(file_name: &str) -> Option<u32> {
    let digits = file_name.strip_suffix(".wal")?;
    u32::from_str_radix(digits, 16).ok().filter(|number| name(*number) == file_name)
}

/// The header of a segment.
pub(super) fn header(number: u32, nonce: u64, length: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&nonce.to_le_bytes());
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.resize(HEADER_BYTES, 0);
    let crc = header_crc(&bytes);
    if let Some(place) = bytes.get_mut(12..16) {
        place.copy_from_slice(&crc.to_le_bytes());
    }
    bytes
}

/// The CRC of a header: its own four bytes count as zero.
fn header_crc(header: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header.get(..12).unwrap_or_default());
    hasher.update(&[0; 4]);
    hasher.update(header.get(16..).unwrap_or_default());
    hasher.finalize()
}

/// Opens a segment and checks its header.
pub(super) fn open<D: Disk>(disk: &D, number: u32) -> Result<Segment<D::File>, WalError> {
    let file_path = path(number);
    let file = disk.open(&file_path)?;
    let mut bytes = [0; HEADER_BYTES];
    let read = file.read_at(&mut bytes, 0)?;
    let corrupt = |reason: &'static str| WalError::Corrupt {
        file: file_path.clone(),
        offset: 0,
        entry: None,
        reason: reason.into(),
    };
    if read < HEADER_BYTES || bytes.get(..8) != Some(&MAGIC) {
        return Err(corrupt("it does not begin as a log segment"));
    }
    let version = u32_at(&bytes, 8).unwrap_or(0);
    if version != VERSION {
        return Err(WalError::UnknownVersion { file: file_path, version });
    }
    if u32_at(&bytes, 12) != Some(header_crc(&bytes)) {
        return Err(corrupt("the checksum of its header is wrong"));
    }
    if u32_at(&bytes, 24) != Some(number) {
        return Err(corrupt("its header says another number than its name"));
    }
    let (nonce, length) = (u64_at(&bytes, 16).unwrap_or(0), u32_at(&bytes, 28).unwrap_or(0));
    if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&length) {
        return Err(corrupt("its header says an impossible length"));
    }
    Ok(Segment { number, nonce, length, head_last: Index::ZERO, file })
}

/// Writes a segment's header into a file, durably.
pub(super) fn write_header<F: DiskFile>(
    file: &F,
    number: u32,
    nonce: u64,
    length: u32,
) -> Result<(), WalError> {
    file.write_at(&[IoSlice::new(&header(number, nonce, length))], 0)?;
    file.sync_data().map_err(WalError::Disk)
}
