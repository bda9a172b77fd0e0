//! Which paths a repository of git has checked out: the names in its index, and nothing else of it.
//!
//! Source: gitformat-index(5), versions 2 to 4, of SHA-1 and SHA-256. Pure, and made for what others
//! wrote: what is not wholly understood (a version to come, an index that is split in two files, one
//! that is cut short) is no list at all, never a shorter one.

use crate::name::PATH_BYTES_MAX;

/// Bytes of an entry before its object id: ten numbers about the file.
const STAT_BYTES: usize = 40;
/// Where the mode is in these.
const MODE_AT: usize = 24;
/// The mode of a directory that a sparse index has in place of what is below it.
const MODE_SPARSE_DIRECTORY: u32 = 0o040_000;
/// Flag: a second word of flags follows.
const EXTENDED: u16 = 0x4000;
/// The length of a name, where it is less than this.
const LENGTH: u16 = 0x0fff;
/// Flag of the second word: not in the work tree, by sparse-checkout.
const SKIP_WORKTREE: u16 = 0x4000;

/// What `of` makes of each path that ought to stand in the work tree, below its top, in the order of
/// the index; none if the bytes are no whole index that is understood. One after the other, since
/// names may be written so that all together are far longer than the index.
#[must_use]
pub fn checked_out<T>(bytes: &[u8], of: impl Fn(&[u8]) -> T) -> Option<Vec<T>> {
    // Which hash a repository uses is said elsewhere; read by the wrong one nothing fits.
    [20, 32].into_iter().find_map(|hash_bytes| read(bytes, hash_bytes, &of))
}

fn read<T>(bytes: &[u8], hash_bytes: usize, of: &impl Fn(&[u8]) -> T) -> Option<Vec<T>> {
    let body = bytes.get(..bytes.len().checked_sub(hash_bytes)?)?;
    let mut rest = Rest(body);
    if rest.take(4)? != b"DIRC" {
        return None;
    }
    let version = rest.word()?;
    let count = rest.word()?;
    if !(2..=4).contains(&version) {
        return None;
    }
    let (mut found, mut last) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let entry = entry(&mut rest, version, hash_bytes, &last)?;
        let is_name = (1..=PATH_BYTES_MAX).contains(&entry.path.len());
        if entry.path < last || !is_name {
            return None;
        }
        // An entry of each stage of a merge has the same name.
        if entry.is_expected && entry.path != last {
            found.push(of(&entry.path));
        }
        last = entry.path;
    }
    extensions(rest).then_some(found)
}

struct Entry {
    path: Vec<u8>,
    /// Whether it ought to stand in the work tree.
    is_expected: bool,
}

fn entry(rest: &mut Rest<'_>, version: u32, hash_bytes: usize, last: &[u8]) -> Option<Entry> {
    let before = rest.0.len();
    let stat = rest.take(STAT_BYTES)?;
    let mode = Rest(stat.get(MODE_AT..)?).word()?;
    rest.take(hash_bytes)?;
    let flags = rest.half()?;
    let extended = if flags & EXTENDED == 0 { 0 } else { rest.half()? };
    let path = if version == 4 {
        // So many bytes of the name before go, and these come in their place.
        let kept = last.len().checked_sub(rest.offset()?)?;
        let mut path = last.get(..kept)?.to_vec();
        path.extend(rest.until_nul()?);
        path
    } else {
        let path = rest.until_nul()?.to_vec();
        let length = usize::from(flags & LENGTH);
        if length < usize::from(LENGTH) && length != path.len() {
            return None;
        }
        // One to eight of them, so that the next begins at a multiple of eight; one is taken.
        let used = before - rest.0.len();
        rest.take(used.next_multiple_of(8) - used)?;
        path
    };
    let is_expected = extended & SKIP_WORKTREE == 0 && mode != MODE_SPARSE_DIRECTORY;
    Some(Entry { path, is_expected })
}

/// Whether what follows the entries is extensions, and none of a split index.
fn extensions(mut rest: Rest<'_>) -> bool {
    while !rest.0.is_empty() {
        let Some(name) = rest.take(4) else { return false };
        let length = rest.word().and_then(|length| usize::try_from(length).ok());
        if name == b"link" || length.and_then(|length| rest.take(length)).is_none() {
            return false;
        }
    }
    true
}

/// What is not read yet.
struct Rest<'b>(&'b [u8]);

impl<'b> Rest<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn half(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    fn word(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// Bytes up to the next NUL, which is taken too.
    fn until_nul(&mut self) -> Option<&'b [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let taken = self.take(end)?;
        self.take(1)?;
        Some(taken)
    }

    /// A number as gitformat-pack(5) has offsets: seven bits a byte, one added for each that follows.
    fn offset(&mut self) -> Option<usize> {
        let mut byte = self.byte()?;
        let mut value = usize::from(byte & 0x7f);
        while byte & 0x80 != 0 {
            byte = self.byte()?;
            value =
                value.checked_add(1)?.checked_mul(128)?.checked_add(usize::from(byte & 0x7f))?;
        }
        Some(value)
    }
}

/// An index of version 2 with these files.
#[cfg(test)]
pub(crate) fn index_of(paths: &[&str]) -> Vec<u8> {
    let mut sorted = paths.to_vec();
    sorted.sort_unstable();
    let mut bytes = b"DIRC\0\0\0\x02".to_vec();
    bytes.extend(u32::try_from(sorted.len()).unwrap_or(0).to_be_bytes());
    for path in sorted {
        let start = bytes.len();
        bytes.extend([0; STAT_BYTES + 20]);
        bytes.extend(u16::try_from(path.len()).unwrap_or(0).to_be_bytes());
        bytes.extend(path.as_bytes());
        bytes.push(0);
        while !(bytes.len() - start).is_multiple_of(8) {
            bytes.push(0);
        }
    }
    bytes.extend([0; 20]);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cut_index_is_no_list() {
        let whole = index_of(&["a", "b/c", "some/longer/name"]);
        assert_eq!(checked_out(&whole, <[u8]>::len).unwrap().len(), 3);
        for length in 0..whole.len() - 20 {
            assert_eq!(checked_out(&whole[..length], <[u8]>::len), None, "{length}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_are_it_ends(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let with_head = [&b"DIRC\0\0\0\x04"[..], &bytes].concat();
            let _ = (checked_out(&bytes, <[u8]>::len), checked_out(&with_head, <[u8]>::len));
        }
    }
}
