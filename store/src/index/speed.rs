//! How long apply takes: run with `cargo test --release -p pickbox-store speed -- --ignored --nocapture`.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::agreed::world::*;
use crate::index::{Cursor, Index};
use crate::op::{At, Op, Parent};

/// CPU time of this thread: what else the machine does then does not count.
fn cpu() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}

/// Applies the entries of these changes, made beforehand; prints what one took.
fn measure(what: &str, world: &mut World, changes: Vec<Vec<Op>>) {
    let ops = changes.iter().map(Vec::len).sum::<usize>();
    let entries = world.prepare(1, changes);
    let (start, count) = (cpu(), u32::try_from(entries.len()).unwrap());
    for entry in entries {
        world.index.apply(&entry).unwrap();
    }
    let took = cpu().saturating_sub(start);
    println!(
        "{what}: {:?} an entry, {:?} an operation",
        took / count,
        took / u32::try_from(ops).unwrap()
    );
}

#[test]
#[ignore = "measures"]
fn speed_of_apply() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::over(Index::open(&folder.path().join("index.redb")).unwrap());
    let deep = world.done(1, Op::Put { path: rel("a/b/c/d/x"), new: file("x") });
    let parent = world.record(deep).parent;
    let create = |name: String, text: &str| Op::Create {
        at: At { parent: Parent::Id(parent), ..at(parent, &name) },
        new: file(text),
    };

    let batch =
        |batch: u32| (0..1000).map(|n| create(format!("{batch}-{n}"), &n.to_string())).collect();
    let changes = (0..100).map(batch).collect();
    measure("1,000 creations an entry, until there are 100,000 files", &mut world, changes);

    let changes = (0..20_000).map(|n| vec![create(format!("single-{n}"), "same")]).collect();
    measure("one creation an entry", &mut world, changes);

    let text = "x".repeat(4096);
    let edit = |n: u32| {
        let id = world.resolve(&format!("a/b/c/d/single-{n}"));
        vec![replace(id, &world.version(id), "unused", file(&text))]
    };
    let changes = (0..5_000).map(edit).collect();
    measure("one edit of 4 KiB an entry", &mut world, changes);

    let start = cpu();
    world.index.checkpoint().unwrap();
    println!("checkpoint: {:?}", cpu().saturating_sub(start));
}

#[test]
#[ignore = "measures"]
fn speed_of_pages() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::over(Index::open(&folder.path().join("index.redb")).unwrap());
    for batch in 0..100 {
        let ops =
            (0..1000).map(|n| create(&format!("{batch}-{n}"), file(&n.to_string()))).collect();
        world.change(1, ops);
    }
    let start = cpu();
    let snapshot = world.index.snapshot().unwrap();
    println!("a snapshot of 100,000 files: {:?}", cpu().saturating_sub(start));
    let (mut cursor, mut pages) = (Some(Cursor::default()), Vec::new());
    let start = cpu();
    while let Some(from) = cursor {
        let page = snapshot.page(&from, 512 * 1024).unwrap();
        pages.push(page.bytes);
        cursor = page.next;
    }
    let count = u32::try_from(pages.len()).unwrap();
    println!("{count} pages of 512 KiB, {:?} each", cpu().saturating_sub(start) / count);
    let mut index = Index::open(&folder.path().join("other.redb")).unwrap();
    let mut importer = index.import_start().unwrap();
    let start = cpu();
    for page in &pages {
        index.import_page(&mut importer, page).unwrap();
    }
    println!("taken in: {:?} each", cpu().saturating_sub(start) / count);
    let start = cpu();
    index.import_install(importer).unwrap();
    println!("put in force: {:?}", cpu().saturating_sub(start));
}
