//! Pages of a state that a peer sends: they come to a state that adds up, or are refused.

use std::sync::OnceLock;

use pickbox_store::index::{Cursor, Importer, Index, Received};

use super::world::{self, Tried};
use super::{framed, parts};

/// Where the checksum stands in a page, and what it is of.
const CHECKSUM: std::ops::Range<usize> = 6..10;
/// Bytes of a page in the examples: some rows.
const PAGE_BYTES: usize = 600;

/// Gives these pages to an empty index; what follows the last page is said by the first node when
/// the state is in force. The first byte says whether checksums are made right, and what the rows
/// come to: a bit each.
pub(super) fn import(bytes: &[u8]) {
    let Some((mend, rest)) = bytes.split_first() else { return };
    world::with_empty(|index| {
        // What was gathered and not installed is forgotten by whoever begins next.
        let Ok(mut importer) = index.import_start() else { return Tried::Something };
        let mut rest = parts(rest);
        for page in rest.by_ref() {
            let page = if mend & 1 == 0 { mended(page) } else { page.to_vec() };
            match index.import_page(&mut importer, &page) {
                Ok(Received::More) => {}
                Ok(Received::All) => break,
                Err(_) => return Tried::Nothing,
            }
        }
        if mend & 2 == 0 {
            importer.mend();
        }
        install(index, importer, rest.next().unwrap_or_default())
    });
}

/// With the checksum that it should have.
fn mended(page: &[u8]) -> Vec<u8> {
    let mut page = page.to_vec();
    if let Some(body) = page.get(CHECKSUM.end..) {
        let checksum = crc32fast::hash(body).to_le_bytes();
        page.splice(CHECKSUM, checksum);
    }
    page
}

/// A state that was taken adds up, can be given on, and can be lived with.
fn install(index: &mut Index, importer: Importer, next: &[u8]) -> Tried {
    if index.import_install(importer).is_err() {
        return Tried::Nothing;
    }
    world::check(index);
    let Some(pages) = pages_of(index) else { unreachable!("a sound index can be read") };
    world::say(index, 1, next);
    world::check(index);
    world::with_small(|other| {
        let Ok(mut importer) = other.import_start() else { return Tried::Something };
        let mut take = |page: &Vec<u8>| other.import_page(&mut importer, page).map(drop);
        let taken = pages.iter().try_for_each(&mut take);
        assert!(taken.is_ok(), "what was taken is given on: {taken:?}");
        Tried::Nothing
    });
    Tried::Something
}

fn pages_of(index: &mut Index) -> Option<Vec<Vec<u8>>> {
    let snapshot = index.snapshot().ok()?;
    let (mut cursor, mut pages) = (Some(Cursor::default()), Vec::new());
    while let Some(from) = cursor {
        let page = snapshot.page(&from, PAGE_BYTES).ok()?;
        pages.push(page.bytes);
        cursor = page.next;
    }
    Some(pages)
}

/// The small state in pages of a few rows.
fn pages() -> &'static [Vec<u8>] {
    static PAGES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    PAGES.get_or_init(|| {
        let mut pages = Vec::new();
        world::with_small(|index| {
            pages = pages_of(index).unwrap_or_default();
            Tried::Nothing
        });
        pages
    })
}

/// All pages together, with something said afterwards, and each alone.
pub(super) fn examples() -> Vec<Vec<u8>> {
    let all: Vec<Vec<u8>> = pages().iter().map(|page| framed(page)).collect();
    let one = |page: &Vec<u8>| [&[0], page.as_slice()].concat();
    let said = super::operation::examples();
    let said = said.iter().take(3).map(|said| said.get(1..).unwrap_or_default());
    let whole = said.map(|said| [&[0][..], &all.concat(), said].concat());
    all.iter().map(one).chain(whole).collect()
}
