//! Properties of the namespace over random changes by three nodes, each of which may be behind.

use std::collections::BTreeSet;

use pickbox_raft::core::log::Entry;
use proptest::prelude::*;

use super::Effects;
use super::world::*;
use crate::content_id::ContentId;
use crate::digest::Digest;
use crate::index::{Cursor, Index, What, recompute};
use crate::op::{At, Keep, Known, Op, Outcome, Parent, Take};
use crate::record::{Body, FileId, Record, VersionVector};

/// What a step does, in small numbers that are looked up in the world as it is then.
#[derive(Clone, Debug)]
struct Step {
    node: u64,
    acts: Vec<Act>,
}

#[derive(Clone, Debug)]
enum Act {
    Create { dir: usize, name: usize, what: usize },
    Replace { file: usize, age: usize, what: usize },
    Attributes { file: usize, mode: u16 },
    Move { file: usize, dir: usize, name: usize },
    Delete { file: usize, age: usize },
    Put { dir: usize, name: usize, what: usize },
    Remove { dir: usize, name: usize },
    Prune { age: u64 },
    Resolve { file: usize, age: usize, copy: usize, take: Take },
}

const TAKES: &[Take] = &[Take::Ours, Take::Theirs, Take::Both];

fn act() -> impl Strategy<Value = Act> {
    let (file, age, dir, name, what) =
        (0..12_usize, 0..3_usize, 0..5_usize, 0..5_usize, 0..9_usize);
    prop_oneof![
        4 => (dir.clone(), name.clone(), what.clone())
            .prop_map(|(dir, name, what)| Act::Create { dir, name, what }),
        5 => (file.clone(), age.clone(), what.clone())
            .prop_map(|(file, age, what)| Act::Replace { file, age, what }),
        1 => (file.clone(), any::<u16>()).prop_map(|(file, mode)| Act::Attributes { file, mode }),
        3 => (file.clone(), dir.clone(), name.clone())
            .prop_map(|(file, dir, name)| Act::Move { file, dir, name }),
        3 => (file, age).prop_map(|(file, age)| Act::Delete { file, age }),
        1 => (dir.clone(), name.clone(), what)
            .prop_map(|(dir, name, what)| Act::Put { dir, name, what }),
        1 => (dir, name).prop_map(|(dir, name)| Act::Remove { dir, name }),
        1 => (0..40_u64).prop_map(|age| Act::Prune { age }),
        3 => (0..12_usize, 0..2_usize, 0..4_usize, prop::sample::select(TAKES)).prop_map(
            |(file, age, copy, take)| Act::Resolve { file, age, copy, take }
        ),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (1..4_u64, prop::collection::vec(act(), 1..5));
    prop::collection::vec(step.prop_map(|(node, acts)| Step { node, acts }), 1..40)
}

/// A world with a memory: ids and versions of the past are what late nodes know.
struct Past {
    world: World,
    ids: Vec<FileId>,
    versions: Vec<(FileId, VersionVector)>,
    /// Contents that were taken, so that they must be findable.
    taken: BTreeSet<ContentId>,
    /// Contents that the history was told to forget.
    pruned: BTreeSet<ContentId>,
}

const NAMES: [&str; 5] = ["a", "b", "c", "d", ".git"];
const CONTENTS: [&str; 6] = ["", "one", "two", "three", "four", "five"];

impl Past {
    fn new() -> Self {
        let (taken, pruned) = (BTreeSet::new(), BTreeSet::new());
        Self { world: World::new(), ids: Vec::new(), versions: Vec::new(), taken, pruned }
    }

    fn directory(&self, number: usize) -> FileId {
        let all = [FileId::ROOT].into_iter().chain(self.ids.iter().copied());
        let all: Vec<FileId> = all.collect();
        all[number % all.len()]
    }

    fn file(&self, number: usize) -> FileId {
        let newest = self.ids.iter().rev();
        newest.clone().nth(number % self.ids.len().max(1)).copied().unwrap_or_default()
    }

    fn base(&self, id: FileId, age: usize) -> VersionVector {
        let mut known = self.versions.iter().rev().filter(|(of, _)| *of == id);
        known.nth(age).map(|(_, version)| version.clone()).unwrap_or_default()
    }

    fn place(&self, dir: usize, name: usize) -> At {
        let parent = self.directory(dir);
        let path = match self.world.index.path_of(parent).unwrap() {
            Some(path) if path.is_root() => NAMES[name].to_string(),
            Some(path) => format!("{path}/{}", NAMES[name]),
            None => format!("{}/{}", NAMES[dir], NAMES[name]),
        };
        let parent = if dir == 4 { Parent::Op(0) } else { Parent::Id(parent) };
        At { parent, ..at(FileId::ROOT, &path) }
    }

    fn op(&self, act: &Act) -> Op {
        match *act {
            Act::Create { dir, name, what } => {
                Op::Create { at: self.place(dir, name), new: content(what) }
            }
            Act::Replace { file, age, what } => {
                let id = self.file(file);
                let at = self.place(file % 5, age);
                let keep =
                    Keep::same(&attributes(0o644), &attributes(if age > 0 { 0o644 } else { 0 }));
                Op::Replace { id, base: self.base(id, age), at, new: content(what), keep }
            }
            Act::Attributes { file, mode } => {
                let keep = if mode & 1 == 0 { Keep::MTIME } else { Keep::NOTHING };
                Op::Attributes { id: self.file(file), attributes: attributes(mode), keep }
            }
            Act::Move { file, dir, name } => {
                Op::Move { id: self.file(file), to: self.place(dir, name) }
            }
            Act::Delete { file, age } => {
                let id = self.file(file);
                Op::Delete { id, base: self.base(id, age) }
            }
            Act::Put { dir, name, what } => {
                Op::Put { path: self.place(dir, name).path, new: content(what) }
            }
            Act::Remove { dir, name } => Op::Remove { path: self.place(dir, name).path },
            Act::Resolve { file, age, copy, take } => {
                let copies = self.world.index.copies(None, 9).unwrap();
                let copy = copies.get(copy).copied().unwrap_or_else(|| self.file(copy));
                let winner = self.world.index.record(copy).unwrap().and_then(|it| it.conflict_of);
                let known = |id| Known { id, version: self.base(id, age) };
                let file = known(winner.unwrap_or_else(|| self.file(file)));
                Op::Resolve { file, copy: known(copy), take }
            }
            Act::Prune { age } => Op::PruneHistory { before_wall_ms: age * 1000 },
        }
    }

    fn step(&mut self, step: &Step) -> Effects {
        let ops: Vec<Op> = step.acts.iter().map(|act| self.op(act)).collect();
        let What::Change { effects, .. } = self.world.change(step.node, ops.clone()).what else {
            panic!("a change is a change")
        };
        for (op, outcome) in ops.iter().zip(&effects.outcomes) {
            if !matches!(outcome, Outcome::Refused(_)) {
                self.taken.extend(brings(op));
            }
        }
        for touched in &effects.touched {
            let Some(record) = &touched.after else { continue };
            self.ids.push(touched.id);
            self.versions.push((touched.id, record.version.clone()));
            // What a node that lost has on its disk: the line, under the winner's id.
            let lines = record.losing.iter().map(|line| (touched.id, line.version.clone()));
            self.versions.extend(lines);
        }
        self.ids.sort();
        self.ids.dedup();
        let contents = effects.pruned.iter().filter_map(crate::history_rows::HistoryRow::content);
        self.pruned.extend(contents);
        effects
    }
}

fn content(what: usize) -> crate::op::Incoming {
    match what {
        6 => directory(),
        7 => symlink("a"),
        8 => symlink("b"),
        text => file(CONTENTS[text]),
    }
}

fn brings(op: &Op) -> Option<ContentId> {
    let (Op::Create { new, .. } | Op::Replace { new, .. } | Op::Put { new, .. }) = op else {
        return None;
    };
    match new.body {
        Body::File { content, .. } => Some(content),
        _ => None,
    }
}

fn all(index: &Index) -> Vec<(FileId, Record)> {
    index.records(None, usize::MAX).unwrap()
}

/// Every record lies in a directory, under a name of its own, and the way up ends at the folder.
fn check_tree(index: &Index) {
    let mut places = BTreeSet::new();
    for (id, record) in all(index) {
        if record.parent != FileId::ROOT {
            let parent = index.record(record.parent).unwrap().expect("the parent is there");
            assert_eq!(parent.body, Body::Directory);
        }
        assert!(places.insert((record.parent, record.name.clone())), "names are unique");
        assert_eq!(index.lookup(record.parent, &record.name).unwrap(), Some(id));
        let path = index.path_of(id).unwrap().expect("no path is too long here");
        assert_eq!(index.resolve(&path).unwrap(), Some(id));
    }
}

/// What is kept beside the records says the same as they do.
fn check_derived(index: &Index) {
    let sums = recompute(index).unwrap();
    assert_eq!((sums.digest, sums.counts), (index.digest(), index.counts()));
    assert_eq!((sums.names, sums.contents), (index.counts().records(), index.counts().files));
    assert_eq!(sums.copies, index.counts().conflicts);
    for (id, record) in all(index) {
        let Body::File { content, .. } = record.body else { continue };
        assert!(index.holders_of_content(content, usize::MAX).unwrap().contains(&id));
    }
}

/// A losing line and its copy know each other, and the line is at the version of the copy.
fn check_lines(index: &Index) {
    for (id, record) in all(index) {
        for line in &record.losing {
            let copy = index.record(line.copy).unwrap().expect("the copy is there");
            assert_eq!(copy.conflict_of, Some(id));
            assert_eq!(copy.version, line.version);
        }
        if let Some(winner) = record.conflict_of {
            let winner = index.record(winner).unwrap().expect("the winner is there");
            assert!(winner.losing.iter().any(|line| line.copy == id));
        }
    }
}

/// P2: what was taken is current, a copy, or in the history, until the log says to forget it.
fn check_nothing_lost(past: &Past) {
    for content in past.taken.difference(&past.pruned) {
        let index = &past.world.index;
        let current = !index.holders_of_content(*content, 1).unwrap().is_empty();
        let of = crate::history_rows::HistoryOf::Content(*content);
        let kept = !index.history(&of, None, 1).unwrap().is_empty();
        assert!(current || kept, "{content:?} is lost");
    }
}

/// A folder that does what the effects say, in their order, never meets a name that is taken or a
/// directory that is not there, and ends as the index says.
fn check_order(before: &[(FileId, Record)], effects: &Effects, after: &[(FileId, Record)]) {
    let mut folder: std::collections::BTreeMap<FileId, Record> = before.iter().cloned().collect();
    for touched in &effects.touched {
        assert_eq!(folder.get(&touched.id), touched.before.as_ref(), "before is what was there");
        match &touched.after {
            None => {
                let held = folder.values().any(|record| record.parent == touched.id);
                assert!(!held, "a directory goes when it is empty");
                folder.remove(&touched.id);
            }
            Some(record) => {
                let parent = folder.get(&record.parent).map(|parent| &parent.body);
                let there = record.parent == FileId::ROOT || parent == Some(&Body::Directory);
                assert!(there, "the directory is there first");
                let place = (record.parent, &record.name);
                let taken = folder
                    .iter()
                    .any(|(id, other)| *id != touched.id && (other.parent, &other.name) == place);
                assert!(!taken, "the name is free");
                folder.insert(touched.id, record.clone());
            }
        }
    }
    assert_eq!(folder.into_iter().collect::<Vec<_>>(), after);
}

fn exported(index: &mut Index) -> Vec<Vec<u8>> {
    let snapshot = index.snapshot().unwrap();
    let (mut cursor, mut pages) = (Some(Cursor::default()), Vec::new());
    while let Some(from) = cursor {
        let page = snapshot.page(&from, 2000).unwrap();
        pages.push(page.bytes);
        cursor = page.next;
    }
    pages
}

fn imported(pages: &[Vec<u8>]) -> Index {
    let mut index = Index::in_memory().unwrap();
    let mut importer = index.import_start().unwrap();
    for page in pages {
        index.import_page(&mut importer, page).unwrap();
    }
    index.import_install(importer).unwrap();
    index
}

fn replay(index: &mut Index, log: &[Entry]) -> Vec<Digest> {
    log.iter()
        .map(|entry| {
            index.apply(entry).unwrap();
            index.digest()
        })
        .collect()
}

/// So many cases, or as many as `PROPTEST_CASES` asks for.
fn cases(count: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").is_ok();
    let config = ProptestConfig { max_shrink_iters: 2000, ..ProptestConfig::default() };
    if asked { config } else { ProptestConfig { cases: count, ..config } }
}

proptest! {
    #![proptest_config(cases(64))]

    /// Promises P2 and P3: fault 43, fault 44, fault 45.
    #[test]
    fn the_namespace_stays_sound_and_loses_nothing(steps in steps()) {
        let mut past = Past::new();
        for step in &steps {
            let before = all(&past.world.index);
            let effects = past.step(step);
            check_order(&before, &effects, &all(&past.world.index));
            check_lines(&past.world.index);
        }
        check_tree(&past.world.index);
        check_derived(&past.world.index);
        check_nothing_lost(&past);
    }

}

proptest! {
    #![proptest_config(cases(16))]

    /// Promise P3: the same entries give the same digest after each, whether a node commits,
    /// checkpoints, restarts, or takes over another's state on the way.
    #[test]
    fn all_nodes_come_to_the_same(steps in steps(), cuts in prop::collection::vec(0..80_usize, 3)) {
        let mut past = Past::new();
        for step in &steps {
            past.step(step);
        }
        let log = &past.world.log;
        let cut = |number: usize| log.split_at(cuts[number] % (log.len() + 1));
        let mut plain = Index::in_memory().unwrap();
        let digests = replay(&mut plain, log);
        prop_assert_eq!(plain.digest(), past.world.index.digest());

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.redb");
        let mut restarted = Index::open(&path).unwrap();
        let (first, rest) = cut(0);
        replay(&mut restarted, first);
        restarted.checkpoint().unwrap();
        drop(restarted);
        let mut restarted = Index::open(&path).unwrap();
        prop_assert_eq!(replay(&mut restarted, rest), &digests[first.len()..]);

        let mut sender = Index::in_memory().unwrap();
        let (first, rest) = cut(1);
        replay(&mut sender, first);
        let mut receiver = imported(&exported(&mut sender));
        prop_assert_eq!(replay(&mut receiver, rest), &digests[first.len()..]);

        let pages = exported(&mut plain);
        prop_assert_eq!(&exported(&mut restarted), &pages);
        prop_assert_eq!(&exported(&mut receiver), &pages);
    }

}

proptest! {
    #![proptest_config(cases(32))]

    /// Design: exactly once. A copy of any earlier proposal, wherever it turns up again, moves the
    /// position and nothing else. fault 14
    #[test]
    fn copies_of_proposals_change_nothing(
        steps in steps(),
        copies in prop::collection::vec(any::<prop::sample::Index>(), 40),
    ) {
        let mut past = Past::new();
        for (step, copy) in steps.iter().zip(copies) {
            past.step(step);
            let world = &mut past.world;
            let content = copy.get(&world.log).content.clone();
            let (before, digest) = (all(&world.index), world.index.digest());
            let (sessions, rows) = (world.index.sessions().clone(), world.index.history_rows());
            let what = world.apply(content).what;
            let refused = matches!(what, What::Duplicate { .. } | What::Stale { .. });
            prop_assert!(refused, "{what:?}");
            prop_assert_eq!((all(&world.index), world.index.digest()), (before, digest));
            prop_assert_eq!(world.index.sessions(), &sessions);
            prop_assert_eq!(world.index.history_rows(), rows);
        }
    }

    /// Whatever bytes come, decoding ends well, and what it takes is taken back the same.
    #[test]
    fn any_bytes_are_decoded_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(first) = bytes.first_mut() {
            *first = super::payload::PAYLOAD_FORMAT;
        }
        if let Some(change) = super::payload::decode(&bytes) {
            let again = super::payload::encode(&change).unwrap();
            prop_assert_eq!(super::payload::decode(&again), Some(change));
        }
    }

    /// The same for changes with a few bytes turned: applying them cannot fail.
    #[test]
    fn damaged_changes_are_applied_alike(
        steps in steps(),
        turns in prop::collection::vec((any::<usize>(), any::<u8>()), 1..30),
    ) {
        use pickbox_raft::core::log::{Content, Payload};
        let mut past = Past::new();
        for step in &steps {
            past.step(step);
        }
        let mut log = past.world.log;
        for (place, value) in turns {
            let number = place % log.len();
            if let Content::Proposal(proposal) = &mut log[number].content
                && let Payload::Data(bytes) = &mut proposal.payload
            {
                let at = place / 64 % bytes.len();
                bytes[at] = value;
            }
        }
        let mut index = Index::in_memory().unwrap();
        replay(&mut index, &log);
        check_lines(&index);
        check_derived(&index);
    }
}
