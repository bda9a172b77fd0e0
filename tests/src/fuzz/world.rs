//! Small agreed states for inputs to be tried on, and what must be true of any.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use pickbox_raft_core::ids::{Incarnation, Index as LogIndex, LogPosition, NodeId, Serial, Term};
use pickbox_raft_core::log::{Content, Entry, Payload, Proposal};
use pickbox_store::agreed::payload;
use pickbox_store::content_id::ContentId;
use pickbox_store::digest::Digest;
use pickbox_store::index::{Applied, Index, recompute};
use pickbox_store::name::{Name, RelPath};
use pickbox_store::op::{At, Change, Incoming, Keep, Op, Parent};
use pickbox_store::owner::{Account, Owner};
use pickbox_store::record::{Attributes, Body, FileId, Record, VersionVector};
use pickbox_store::time::Time;

/// The nodes that speak in these states: `node1` and `node2`.
pub(super) const NODES: u64 = 2;

thread_local! {
    static EMPTY: RefCell<Option<Base>> = const { RefCell::new(None) };
    static SMALL: RefCell<Option<Base>> = const { RefCell::new(None) };
}

/// An index as it was when it was made.
struct Base {
    index: Index,
    position: LogPosition,
    digest: Digest,
}

/// What an input did to the index that it was tried on.
pub(super) enum Tried {
    /// Nothing that another would meet.
    Nothing,
    /// Something: it must be taken back.
    Something,
}

/// Gives `work` an index with nothing in it.
pub(super) fn with_empty(work: impl FnOnce(&mut Index) -> Tried) {
    with(&EMPTY, Vec::new, work);
}

/// Gives `work` an index with a dozen things in it: directories, a symlink, old versions, a
/// conflict and its copy, a `.git`.
pub(super) fn with_small(work: impl FnOnce(&mut Index) -> Tried) {
    with(&SMALL, entries, work);
}

fn with(
    kept: &'static std::thread::LocalKey<RefCell<Option<Base>>>,
    entries: fn() -> Vec<Entry>,
    work: impl FnOnce(&mut Index) -> Tried,
) {
    kept.with_borrow_mut(|kept| {
        // Not there if the last input panicked, too.
        let mut base = kept.take().unwrap_or_else(|| make(&entries()));
        let back = match work(&mut base.index) {
            Tried::Nothing => true,
            Tried::Something => base.index.roll_back().is_ok(),
        };
        let same = (base.index.position(), base.index.digest()) == (base.position, base.digest);
        // What was committed meanwhile stays: this one is spent.
        *kept = Some(base).filter(|_| back && same);
    });
}

fn make(entries: &[Entry]) -> Base {
    let made = Index::in_memory().and_then(|mut index| {
        for entry in entries {
            index.apply(entry)?;
        }
        index.commit()?;
        Ok(index)
    });
    let made = made.map(|index| Base { position: index.position(), digest: index.digest(), index });
    made.unwrap_or_else(|error| unreachable!("a database in memory: {error}"))
}

/// What made the small state.
fn entries() -> Vec<Entry> {
    let open = |node| (node, 1, Payload::Open { name: format!("node{node}") });
    let data = |(node, serial, ops): (u64, u64, Vec<Op>)| {
        let change = Change { wall_ms: 1000 + serial, ops };
        (node, serial, Payload::Data(payload::encode(&change).unwrap_or_default()))
    };
    let said = (1..=NODES).map(open).chain(story().into_iter().map(data));
    let entry = |(index, (node, serial, payload))| {
        let content = Content::Proposal(proposal(node, serial, payload));
        Entry { index: LogIndex::new(index), term: Term::new(1), content }
    };
    (1..).zip(said).map(entry).collect()
}

/// Who says what, in which order. The first entry after the openings has index 3.
pub(super) fn story() -> Vec<(u64, u64, Vec<Op>)> {
    let first = |ordinal| FileId { epoch: 0, index: LogIndex::new(3), ordinal };
    let base = VersionVector::default().bumped(NodeId::new(1), LogIndex::new(3));
    let create = |parent, path: &str, new| Op::Create { at: at(parent, path), new };
    let root = Parent::Id(FileId::ROOT);
    let replace = |text| {
        let (id, base) = (first(0), base.clone());
        Op::Replace { id, base, at: at(root, "a"), new: file(text), keep: Keep::XATTRS }
    };
    vec![
        (
            1,
            2,
            vec![
                create(root, "a", file("one")),
                create(root, "b", directory()),
                create(Parent::Op(1), "b/c", file("two")),
                create(Parent::Op(1), "b/l", symlink("c")),
                create(root, ".git", directory()),
                create(Parent::Op(4), ".git/x", file("x")),
            ],
        ),
        (1, 3, vec![replace("three")]),
        // From the same version: it loses, and lives on in a copy.
        (2, 2, vec![replace("four")]),
        (2, 3, vec![Op::Put { path: path("d/e/f"), new: file("five") }]),
        (2, 4, vec![Op::Remove { path: path("d/e/f") }]),
        (1, 4, vec![Op::Move { id: first(2), to: at(root, "b2") }]),
        (1, 5, vec![Op::Attributes { id: first(0), attributes: owned(), keep: Keep::MTIME }]),
        (1, 6, vec![Op::Delete { id: first(3), base: base.clone() }]),
        (2, 5, vec![Op::PruneHistory { before_wall_ms: 1 }]),
    ]
}

/// What node `node` proposes as its `serial`th.
pub(super) fn proposal(node: u64, serial: u64, payload: Payload) -> Proposal {
    Proposal {
        origin: NodeId::new(node),
        incarnation: Incarnation::new(1000 + node),
        serial: Serial::new(serial),
        holders: None,
        payload,
    }
}

/// Lets a node of these states say its next word. Whatever it is, it is no error of the index.
pub(super) fn say(index: &mut Index, node: u64, bytes: &[u8]) -> Applied {
    let session = index.sessions().get(NodeId::new(node)).cloned().unwrap_or_default();
    let payload = Payload::Data(bytes.to_vec());
    let incarnation = session.incarnation;
    let serial = session.last.get().saturating_add(1);
    let content = Content::Proposal(Proposal { incarnation, ..proposal(node, serial, payload) });
    let LogPosition { index: last, term } = index.position();
    let applied = index.apply(&Entry { index: last.next(), term, content });
    applied.unwrap_or_else(|error| unreachable!("an entry is no error: {error}"))
}

/// What is true of every state.
///
/// # Panics
/// When it is not.
pub(super) fn check(index: &Index) {
    let sums = read(recompute(index));
    assert_eq!((sums.digest, sums.counts), (index.digest(), index.counts()), "it adds up");
    assert_eq!((sums.names, sums.contents), (index.counts().records(), index.counts().files));
    let records: Records = read(index.records(None, usize::MAX)).into_iter().collect();
    let mut places = BTreeSet::new();
    for (id, record) in &records {
        assert!(is_name(record.name.as_bytes()), "{record:?} has a name");
        assert!(places.insert((record.parent, &record.name)), "names are given once");
        assert_eq!(read(index.lookup(record.parent, &record.name)), Some(*id));
        let above = records.get(&record.parent).map(|above| &above.body);
        let is_placed = record.parent == FileId::ROOT || above == Some(&Body::Directory);
        assert!(is_placed, "{record:?} has a directory");
        check_lines(&records, *id, record);
    }
    // One is walked to in the tables, as the slowest of all that is looked at.
    let last = records.keys().next_back();
    if let Some((id, path)) = last.and_then(|id| Some((*id, read(index.path_of(*id))?))) {
        assert!(is_path(path.as_bytes()), "{path:?} is a path");
        assert_eq!(read(index.resolve(&path)), Some(id));
    }
}

type Records = BTreeMap<FileId, Record>;

/// A line and its copy know each other.
fn check_lines(records: &Records, id: FileId, record: &Record) {
    for line in &record.losing {
        let copy = records.get(&line.copy).map(|copy| (copy.conflict_of, &copy.version));
        assert_eq!(copy, Some((Some(id), &line.version)), "a line has its copy");
    }
    if let Some(winner) = record.conflict_of {
        let winner = records.get(&winner);
        let is_known = winner.is_some_and(|found| found.losing.iter().any(|line| line.copy == id));
        assert!(is_known, "a copy has its line");
    }
}

fn read<T, E: std::fmt::Display>(found: Result<T, E>) -> T {
    found.unwrap_or_else(|error| unreachable!("a sound index can be read: {error}"))
}

/// What a name is, said once more: by POSIX, and `NAME_MAX`.
pub(super) fn is_name(bytes: &[u8]) -> bool {
    let dots = [&b"."[..], b".."].contains(&bytes);
    (1..=255).contains(&bytes.len()) && !dots && !bytes.iter().any(|byte| b"/\0".contains(byte))
}

/// What a path below the folder is: names, 4,095 bytes in all.
pub(super) fn is_path(bytes: &[u8]) -> bool {
    bytes.len() <= 4095 && (bytes.is_empty() || bytes.split(|byte| *byte == b'/').all(is_name))
}

/// A path that is one.
pub(super) fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap_or_default()
}

fn at(parent: Parent, text: &str) -> At {
    let path = path(text);
    let name = path.split().map(|(_, name)| name);
    let name = name.or_else(|| Name::new(&b"x"[..]).ok());
    At { parent, name: name.unwrap_or_else(|| unreachable!("x is a name")), path }
}

fn attributes(mode: u16) -> Attributes {
    Attributes { mode, mtime: Time { secs: 7, nanos: 8 }, ..Attributes::default() }
}

/// Also whose it is.
fn owned() -> Attributes {
    let account = |name: &str, id| Account::new(name.to_owned(), id);
    let owner = account("alice", 1000).zip(account("", 100));
    let owner = owner.map(|(user, group)| Owner { user, group });
    Attributes { owner, ..attributes(0o600) }
}

fn file(text: &str) -> Incoming {
    let bytes = text.as_bytes();
    let size = u64::try_from(bytes.len()).unwrap_or(0);
    let body = Body::File { size, content: ContentId::of(bytes) };
    Incoming { body, attributes: attributes(0o644), inline: Some(bytes.to_vec()) }
}

fn directory() -> Incoming {
    Incoming { body: Body::Directory, attributes: attributes(0o755), inline: None }
}

fn symlink(target: &str) -> Incoming {
    let body = Body::Symlink { target: target.as_bytes().to_vec() };
    Incoming { body, attributes: attributes(0o777), inline: None }
}
