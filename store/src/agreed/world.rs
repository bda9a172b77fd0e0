//! For tests: an index with nodes that propose changes to it.

use pickbox_raft::core::ids::{Incarnation, Index as LogIndex, NodeId, Serial, Term};
use pickbox_raft::core::log::{Content, Entry, Payload, Proposal};

use super::payload;
use crate::content_id::ContentId;
use crate::index::{Applied, Index, What};
use crate::name::{Name, RelPath};
use crate::op::{At, Change, Incoming, Keep, Op, Outcome, Parent};
use crate::record::{Attributes, Body, FileId, Record, VersionVector};
use crate::time::Time;

/// The index, and the entries that made it.
pub(crate) struct World {
    pub(crate) index: Index,
    pub(crate) log: Vec<Entry>,
    serials: std::collections::BTreeMap<u64, u64>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::over(Index::in_memory().unwrap())
    }

    pub(crate) fn over(index: Index) -> Self {
        Self { index, log: Vec::new(), serials: [].into() }
    }

    pub(crate) fn entry(&self, content: Content) -> Entry {
        let index = self.index.position().index.next();
        Entry { index, term: Term::new(1), content }
    }

    pub(crate) fn apply(&mut self, content: Content) -> Applied {
        let entry = self.entry(content);
        let applied = self.index.apply(&entry).unwrap();
        self.log.push(entry);
        applied
    }

    pub(crate) fn propose(&mut self, node: u64, serial: u64, payload: Payload) -> Applied {
        self.apply(proposal(node, serial, payload))
    }

    /// Node `node` says this; its run is opened first when it has not spoken yet.
    pub(crate) fn change(&mut self, node: u64, ops: Vec<Op>) -> Applied {
        if !self.serials.contains_key(&node) {
            self.propose(node, 1, Payload::Open { name: format!("node{node}") });
            self.serials.insert(node, 1);
        }
        let content = self.next(node, ops);
        self.apply(content)
    }

    /// What a node says next.
    fn next(&mut self, node: u64, ops: Vec<Op>) -> Content {
        let serial = self.serials[&node] + 1;
        self.serials.insert(node, serial);
        let wall_ms = self.index.position().index.get() * 1000;
        let bytes = payload::encode(&Change { wall_ms, ops }).unwrap();
        proposal(node, serial, Payload::Data(bytes))
    }

    /// Entries to be applied later, in this order, before anything else.
    pub(crate) fn prepare(&mut self, node: u64, changes: Vec<Vec<Op>>) -> Vec<Entry> {
        let mut index = self.index.position().index;
        let mut entry = |ops| {
            index = index.next();
            Entry { index, term: Term::new(1), content: self.next(node, ops) }
        };
        changes.into_iter().map(&mut entry).collect()
    }

    /// The same, for what became of each operation.
    pub(crate) fn outcomes(&mut self, node: u64, ops: Vec<Op>) -> Vec<Outcome> {
        match self.change(node, ops).what {
            What::Change { effects, .. } => effects.outcomes,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn outcome(&mut self, node: u64, op: Op) -> Outcome {
        self.outcomes(node, vec![op]).remove(0)
    }

    /// An operation that is simply done; returns the file.
    pub(crate) fn done(&mut self, node: u64, op: Op) -> FileId {
        match self.outcome(node, op) {
            Outcome::Done(id) => id,
            other => panic!("{other:?}"),
        }
    }

    /// An operation that loses; returns the copy.
    pub(crate) fn conflict(&mut self, node: u64, op: Op) -> FileId {
        match self.outcome(node, op) {
            Outcome::Conflict { copy } => copy,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn record(&self, id: FileId) -> Record {
        self.index.record(id).unwrap().expect("the file is there")
    }

    pub(crate) fn version(&self, id: FileId) -> VersionVector {
        self.record(id).version
    }

    pub(crate) fn resolve(&self, path: &str) -> FileId {
        self.find(path).unwrap_or_else(|| panic!("nothing at {path}"))
    }

    pub(crate) fn find(&self, path: &str) -> Option<FileId> {
        self.index.resolve(&rel(path)).unwrap()
    }

    /// The folder as text: one line a record, by path.
    pub(crate) fn listing(&self) -> Vec<String> {
        let records = self.index.records(None, usize::MAX).unwrap();
        let line = |(id, record): (FileId, Record)| {
            let path = self.index.path_of(id).unwrap().unwrap();
            match record.body {
                Body::Directory => format!("{path}/"),
                Body::Symlink { target } => format!("{path} -> {}", target.escape_ascii()),
                Body::File { content, .. } => format!("{path} {content:?}"),
            }
        };
        let mut lines: Vec<String> = records.into_iter().map(line).collect();
        lines.sort();
        lines
    }

    /// The paths alone.
    pub(crate) fn paths(&self) -> Vec<String> {
        let lines = self.listing().into_iter();
        lines.map(|line| line.split(' ').next().unwrap().to_string()).collect()
    }
}

fn proposal(node: u64, serial: u64, payload: Payload) -> Content {
    Content::Proposal(Proposal {
        origin: NodeId::new(node),
        incarnation: Incarnation::new(1000 + node),
        serial: Serial::new(serial),
        holders: None,
        payload,
    })
}

pub(crate) fn rel(path: &str) -> RelPath {
    RelPath::new(path.as_bytes()).unwrap()
}

pub(crate) fn name(name: &str) -> Name {
    Name::new(name.as_bytes()).unwrap()
}

pub(crate) fn attributes(mode: u16) -> Attributes {
    Attributes { mode, mtime: Time { secs: 7, nanos: 8 }, ..Attributes::default() }
}

pub(crate) fn file(text: &str) -> Incoming {
    let size = u64::try_from(text.len()).unwrap();
    Incoming {
        body: Body::File { size, content: ContentId::of(text.as_bytes()) },
        attributes: attributes(0o644),
        inline: Some(text.as_bytes().to_vec()),
    }
}

pub(crate) fn directory() -> Incoming {
    Incoming { body: Body::Directory, attributes: attributes(0o755), inline: None }
}

pub(crate) fn symlink(target: &str) -> Incoming {
    let body = Body::Symlink { target: target.as_bytes().to_vec() };
    Incoming { body, attributes: attributes(0o777), inline: None }
}

/// The place `path`, whose directory is `parent`.
pub(crate) fn at(parent: FileId, path: &str) -> At {
    let path = rel(path);
    let (_, name) = path.split().unwrap();
    At { parent: Parent::Id(parent), name, path }
}

/// The place `path`, whose directory operation `number` makes.
pub(crate) fn below(number: u32, path: &str) -> At {
    At { parent: Parent::Op(number), ..at(FileId::ROOT, path) }
}

pub(crate) fn create(path: &str, new: Incoming) -> Op {
    Op::Create { at: at(FileId::ROOT, path), new }
}

pub(crate) fn replace(id: FileId, base: &VersionVector, path: &str, new: Incoming) -> Op {
    let keep = Keep::NOTHING;
    Op::Replace { id, base: base.clone(), at: at(FileId::ROOT, path), new, keep }
}

pub(crate) fn rename(id: FileId, path: &str) -> Op {
    Op::Move { id, to: at(FileId::ROOT, path) }
}

pub(crate) fn delete(id: FileId, base: &VersionVector) -> Op {
    Op::Delete { id, base: base.clone() }
}

/// The last entry that was applied.
pub(crate) fn now(world: &World) -> LogIndex {
    world.index.position().index
}
