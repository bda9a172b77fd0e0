//! Pages of a state that a peer sends: they come to a state that adds up, or are refused.

use std::sync::OnceLock;

use pickbox_raft_core::ids::{Incarnation, Index as LogIndex, NodeId, Serial, Term};
use pickbox_raft_core::log::{Content, Entry, Payload, Proposal};
use pickbox_store::agreed::payload;
use pickbox_store::content_id::ContentId;
use pickbox_store::index::{Cursor, Index, recompute};
use pickbox_store::name::RelPath;
use pickbox_store::op::{Change, Incoming, Op};
use pickbox_store::record::{Attributes, Body};
use pickbox_store::time::Time;

/// Where the checksum stands in a page, and what it is of.
const CHECKSUM: std::ops::Range<usize> = 6..10;

/// A small state in pages of a few rows.
fn pages() -> &'static [Vec<u8>] {
    static PAGES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    PAGES.get_or_init(|| make().unwrap_or_default())
}

fn make() -> Option<Vec<Vec<u8>>> {
    let mut index = Index::in_memory().ok()?;
    let open = Payload::Open { name: "node1".into() };
    let paths = ["a", "b/c", "b/d", "e"];
    let puts = paths
        .iter()
        .map(|path| Some(Op::Put { path: RelPath::new(path.as_bytes()).ok()?, new: file(path) }));
    let change = Change { wall_ms: 1, ops: puts.collect::<Option<Vec<_>>>()? };
    let again = Change { wall_ms: 2, ops: vec![Op::Remove { path: RelPath::new(b"a").ok()? }] };
    let data = [payload::encode(&change).ok()?, payload::encode(&again).ok()?];
    let payloads = std::iter::once(open).chain(data.into_iter().map(Payload::Data));
    for (serial, payload) in (1..).zip(payloads) {
        let proposal = Proposal {
            origin: NodeId::new(1),
            incarnation: Incarnation::new(1),
            serial: Serial::new(serial),
            holders: None,
            payload,
        };
        let content = Content::Proposal(proposal);
        let entry = Entry { index: LogIndex::new(serial), term: Term::new(1), content };
        index.apply(&entry).ok()?;
    }
    let snapshot = index.snapshot().ok()?;
    let (mut cursor, mut pages) = (Some(Cursor::default()), Vec::new());
    while let Some(from) = cursor {
        let page = snapshot.page(&from, 300).ok()?;
        pages.push(page.bytes);
        cursor = page.next;
    }
    Some(pages)
}

fn file(text: &str) -> Incoming {
    let bytes = text.as_bytes();
    let size = u64::try_from(bytes.len()).unwrap_or(0);
    Incoming {
        body: Body::File { size, content: ContentId::of(bytes) },
        attributes: Attributes { mode: 0o644, mtime: Time { secs: 7, nanos: 8 }, owner: None },
        inline: Some(bytes.to_vec()),
    }
}

/// Gives these pages, each behind its length, to an empty index. The first byte says whether their
/// checksums are made right.
pub(super) fn import(bytes: &[u8]) {
    let Some((mend, mut rest)) = bytes.split_first() else { return };
    let Ok(mut index) = Index::in_memory() else { return };
    let Ok(mut importer) = index.import_start() else { return };
    while let Some((length, more)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(more.len());
        let (page, later) = more.split_at(length);
        rest = later;
        let mut page = page.to_vec();
        if mend.is_multiple_of(2)
            && let Some(body) = page.get(CHECKSUM.end..)
        {
            let checksum = crc32fast::hash(body).to_le_bytes();
            page.splice(CHECKSUM, checksum);
        }
        if index.import_page(&mut importer, &page).is_err() {
            return;
        }
    }
    if index.import_install(importer).is_ok() {
        assert!(recompute(&index).is_ok(), "what was installed adds up");
    }
}

/// All pages together, and each alone.
pub(super) fn examples() -> Vec<Vec<u8>> {
    let framed = |page: &Vec<u8>| {
        let length = u16::try_from(page.len()).unwrap_or(u16::MAX).to_be_bytes();
        [&length[..], page].concat()
    };
    let all: Vec<Vec<u8>> = pages().iter().map(framed).collect();
    let whole = [vec![0], all.concat()].concat();
    all.into_iter().map(|page| [vec![0], page].concat()).chain([whole]).collect()
}
