//! Writing into files where they are.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::writer::Writer;

/// Pieces that a slow program writes one by one.
const PIECES: usize = 4;

/// A new file under a name that is free.
pub(super) fn create(writer: &mut Writer<'_>, path: &Path) -> io::Result<()> {
    let size = writer.size();
    let bytes = writer.fresh(0, size);
    let mut file = writer.site.create(path, "create")?;
    let pause = slow(writer);
    for (number, piece) in bytes.chunks(size.div_ceil(PIECES)).enumerate() {
        file.write_at(number * size.div_ceil(PIECES), piece)?;
        std::thread::sleep(pause);
    }
    file.close()
}

/// As `echo > file`: cut to nothing, then written.
pub(super) fn overwrite(writer: &mut Writer<'_>, path: &Path) -> io::Result<()> {
    let size = writer.size();
    let bytes = writer.fresh(0, size);
    let mut file = writer.site.open(path, "overwrite")?;
    let pause = slow(writer);
    file.truncate(0)?;
    for (number, piece) in bytes.chunks(size.div_ceil(PIECES)).enumerate() {
        std::thread::sleep(pause);
        file.write_at(number * size.div_ceil(PIECES), piece)?;
    }
    file.close()
}

pub(super) fn append(writer: &mut Writer<'_>, path: &Path) -> io::Result<()> {
    let mut file = writer.site.open(path, "append")?;
    let size = writer.size() / 4 + 10;
    let bytes = writer.fresh(file.bytes.len(), size);
    file.append(&bytes)?;
    file.close()
}

/// Some bytes in the middle; the size stays.
pub(super) fn patch(writer: &mut Writer<'_>, path: &Path) -> io::Result<()> {
    let mut file = writer.site.open(path, "patch")?;
    let length = file.bytes.len();
    let at = writer.random.below(length);
    let size = (writer.size() / 4 + 10).min(length - at.min(length));
    let bytes = writer.fresh(at, size);
    if !bytes.is_empty() {
        file.write_at(at, &bytes)?;
    }
    file.close()
}

pub(super) fn truncate(writer: &mut Writer<'_>, path: &Path) -> io::Result<()> {
    let mut file = writer.site.open(path, "truncate")?;
    // Never to nothing: an empty file says nothing of who made it.
    let length = writer.random.below(file.bytes.len()).max(50).min(file.bytes.len());
    if length < file.bytes.len() {
        file.truncate(length)?;
    }
    file.close()
}

/// Some bytes far behind the end, with a hole before them.
pub(super) fn make_sparse(writer: &mut Writer<'_>, path: &Path) -> io::Result<()> {
    let mut file = writer.site.open(path, "make sparse")?;
    let hole = usize::try_from(writer.random.between(1, 300_000)).expect("a size");
    let at = file.bytes.len() + hole;
    let bytes = writer.fresh(at, 500);
    file.write_at(at, &bytes)?;
    file.close()
}

/// Stores through a mapping (trap T7).
pub(super) fn map(writer: &mut Writer<'_>, path: &Path) -> io::Result<()> {
    let file = writer.site.open(path, "store by mmap")?;
    let length = file.bytes.len();
    let at = writer.random.below(length);
    let bytes = writer.fresh(at, (length - at.min(length)).min(20_000));
    if bytes.is_empty() {
        return file.close();
    }
    let pause = if writer.random.per_mille(300) { writer.random.between(1, 800) } else { 0 };
    file.store(at, &bytes, pause)
}

/// Opens a file, writes now and then, and closes it much later (trap T11). What happens to its name
/// meanwhile is others' business.
pub(super) fn hold(writer: &mut Writer<'_>, path: &Path) -> io::Result<()> {
    let is_new = writer.random.per_mille(250);
    let opened = if is_new {
        writer.site.create(path, "hold open")
    } else {
        writer.site.open(path, "hold open")
    };
    let mut file = opened?;
    let count = writer.random.between(1, 5);
    let most = if writer.random.per_mille(150) { 40_000 } else { 4_000 };
    let hold_ms = writer.random.between(20, most);
    for _ in 0..count {
        let size = writer.random.between(50, 9_000);
        let size = usize::try_from(size).expect("a size");
        let at = if writer.random.per_mille(600) {
            file.bytes.len()
        } else {
            writer.random.below(file.bytes.len())
        };
        let bytes = writer.fresh(at, size);
        file.write_at(at, &bytes)?;
        let mut left = hold_ms / count;
        while left > 0 && !writer.is_over() {
            let nap = left.min(100);
            std::thread::sleep(Duration::from_millis(nap));
            left -= nap;
        }
    }
    file.close()
}

/// Most programs are quick, some think between two writes.
fn slow(writer: &mut Writer<'_>) -> Duration {
    let most_ms = if writer.random.per_mille(100) { 150 } else { 0 };
    Duration::from_millis(writer.random.between(0, most_ms))
}
