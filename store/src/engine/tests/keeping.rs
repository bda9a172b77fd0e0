//! What must outlive a power cut, a month, and the end of a run.

use pickbox_raft::api::{Delivery, Role, RoleChange};
use pickbox_raft::core::ids::{Incarnation, NodeId, Term};
use pickbox_raft::core::log::Content;
use pickbox_raft::core::members::{Member, MemberRole};

use super::fleet::{Fleet, rel, share};
use crate::content_id::ContentId;
use crate::contents::hasher::Hasher;
use crate::contents::{ContentCommand, OfferRequest};
use crate::engine::outbox::wall_ms;
use crate::engine::ports::{Answer, Bytes, Freshness, Made, Piece, Query, Request, VersionLine};
use crate::engine::retention::PRUNE_EVERY_MS;
use crate::engine::root::Standing;
use crate::engine::{CAT_PIECE_BYTES, Event};
use crate::history_rows::HISTORY_KEPT_MS;
use crate::syncer::{SyncDone, SyncJob};

/// What a checkpoint that begins now would sync.
fn files_of(job: SyncJob) -> Vec<String> {
    let SyncJob::Files(paths) = job else { panic!("{job:?}") };
    let mut paths: Vec<_> = paths.iter().map(ToString::to_string).collect();
    paths.sort();
    paths
}

/// The log that a checkpoint lets go may be all that holds what a program wrote here.
#[test]
fn a_checkpoint_syncs_what_this_node_proposed_itself() {
    let mut fleet = Fleet::new(2);
    fleet.checkpoint(0);
    std::fs::create_dir(fleet.hosts[0].path("d")).unwrap();
    share(&mut fleet, 0, "d/f", "small, so it is nowhere but in the log");
    let job = fleet.hosts[0].engine().begin_checkpoint().unwrap();
    assert_eq!(files_of(job), ["d", "d/f"]);
}

/// Else a deleted file that a power cut brings back would be proposed as a new one.
#[test]
fn a_checkpoint_syncs_the_directory_that_lost_a_name() {
    let mut fleet = Fleet::new(2);
    std::fs::create_dir(fleet.hosts[0].path("d")).unwrap();
    share(&mut fleet, 0, "d/f", "one");
    fleet.checkpoint(0);
    fleet.checkpoint(1);
    std::fs::remove_file(fleet.hosts[0].path("d/f")).unwrap();
    fleet.look(0);
    fleet.settle();
    for at in 0..2 {
        let job = fleet.hosts[at].engine().begin_checkpoint().unwrap();
        assert_eq!(files_of(job), ["d"], "host {at}");
    }
}

#[test]
fn what_a_failed_sync_covered_is_synced_by_the_next() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, "f", "one");
    let engine = fleet.hosts[1].engine();
    assert_eq!(files_of(engine.begin_checkpoint().unwrap()), ["f"]);
    engine.synced(&SyncDone { failed: Some("f: Input/output error".into()) }).unwrap();
    assert_eq!(files_of(engine.begin_checkpoint().unwrap()), ["f"]);
    engine.synced(&SyncDone { failed: None }).unwrap();
    assert!(files_of(engine.begin_checkpoint().unwrap()).is_empty());
}

/// Bytes that wait to be placed are in no file of the folder when their log is let go.
#[test]
fn stashed_bytes_are_synced_until_that_worked() {
    let mut fleet = Fleet::new(2);
    fleet.hosts[1].engine().standing = Standing::Gone;
    share(&mut fleet, 0, "f", "one");
    let engine = fleet.hosts[1].engine();
    assert_eq!(engine.begin_checkpoint().unwrap(), SyncJob::All);
    engine.synced(&SyncDone { failed: Some("Input/output error".into()) }).unwrap();
    assert_eq!(engine.begin_checkpoint().unwrap(), SyncJob::All);
    engine.synced(&SyncDone { failed: None }).unwrap();
    assert!(files_of(engine.begin_checkpoint().unwrap()).is_empty());
}

/// The node stops while the syncer is at work: the last checkpoint does not count on it.
#[test]
fn a_sync_under_way_is_no_sync_yet() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, "f", "one");
    let engine = fleet.hosts[1].engine();
    assert_eq!(files_of(engine.begin_checkpoint().unwrap()), ["f"]);
    assert_eq!(files_of(engine.begin_checkpoint().unwrap()), ["f"]);
}

/// A fleet in which host 1 placed a version after its last checkpoint; then its power was cut, and
/// half of the file did not make it to the disk.
fn cut_short() -> Fleet {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "the old version");
    fleet.checkpoint(1);
    share(&mut fleet, 0, "f", "the newer version");
    cut_power(&mut fleet, 1);
    fleet.hosts[1].write("f", "the newer");
    fleet.start(1);
    fleet
}

/// Ends a host so that its next start finds another boot than the one that wrote last.
fn cut_power(fleet: &mut Fleet, at: usize) {
    let engine = fleet.hosts[at].engine();
    engine.set_meta("mark", b"another boot").unwrap();
    engine.index.checkpoint().unwrap();
    fleet.kill(at);
}

fn assert_recovered(mut fleet: Fleet) {
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    for host in &fleet.hosts {
        assert_eq!(host.read("f"), "the newer version");
        assert_eq!(host.tree().len(), 1);
    }
}

/// Trap T25: after a power cut, what changed since the checkpoint is suspect: it is compared, put back
/// and never proposed.
#[test]
fn what_a_power_cut_shortened_is_no_edit() {
    assert_recovered(cut_short());
}

/// Trap T25: the same when another failure comes first.
#[test]
fn a_kill_after_the_start_that_noticed_a_power_cut_forgets_no_suspect() {
    let mut fleet = cut_short();
    fleet.kill(1);
    fleet.start(1);
    assert_recovered(fleet);
}

/// Trap T25: and when a checkpoint does.
#[test]
fn a_checkpoint_between_a_power_cut_and_the_scan_forgets_no_suspect() {
    let mut fleet = cut_short();
    while fleet.deliver(1) {}
    fleet.checkpoint(1);
    fleet.kill(1);
    fleet.start(1);
    assert_recovered(fleet);
}

/// Notes on every host that it ran on another boot, and keeps its index as of a checkpoint.
fn checkpoint_all(fleet: &mut Fleet) {
    for at in 0..fleet.hosts.len() {
        fleet.hosts[at].engine().set_meta("mark", b"another boot").unwrap();
        fleet.checkpoint(at);
        let state = fleet.hosts[at].state();
        std::fs::copy(state.join("index.redb"), state.join("index.kept")).unwrap();
    }
}

/// Cuts the power of all hosts: the index is as of the checkpoint (here it was closed in order,
/// which a cut does not do), the journal happened to reach the disk.
fn cut_all(fleet: &mut Fleet) {
    for at in 0..fleet.hosts.len() {
        fleet.kill(at);
        let state = fleet.hosts[at].state();
        std::fs::rename(state.join("index.kept"), state.join("index.redb")).unwrap();
    }
}

fn start_all(fleet: &mut Fleet) {
    (0..fleet.hosts.len()).for_each(|at| fleet.start(at));
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
}

/// Fault 23: the power of every node was cut. The rows survived in the journals, the bytes on no
/// disk: they are in the log, and are taken from there.
#[test]
fn bytes_that_no_disk_kept_are_taken_from_the_log() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "the old version");
    share(&mut fleet, 0, "kept", "the old one");
    checkpoint_all(&mut fleet);
    share(&mut fleet, 0, "f", "the newer version");
    share(&mut fleet, 0, "kept", "the newer one");
    cut_all(&mut fleet);
    for host in &fleet.hosts {
        host.write("f", "the newer");
    }
    start_all(&mut fleet);
    for host in &mut fleet.hosts {
        assert_eq!(host.read("f"), "the newer version");
        assert_eq!(host.read("kept"), "the newer one");
        assert_eq!(host.tree().len(), 2);
        assert!(host.engine().incoming.drain().is_empty(), "nothing is kept that is not needed");
    }
}

/// The same with more of them than fit into memory: what turns out not to be needed leaves staging.
#[test]
fn bytes_kept_in_doubt_go_where_the_disk_has_them() {
    let mut fleet = Fleet::new(2);
    checkpoint_all(&mut fleet);
    let text = |number: u8| vec![number; 1024 * 1024];
    for number in 0..12 {
        let put = Query::Put { path: rel(&format!("f{number}")), data: text(number) };
        assert!(matches!(fleet.ask(0, put), Answer::Committed(_)));
    }
    cut_all(&mut fleet);
    for host in &fleet.hosts {
        host.write("f0", "cut");
        host.write("f11", "cut");
    }
    start_all(&mut fleet);
    for host in &mut fleet.hosts {
        for number in [0, 5, 11] {
            let found = std::fs::read(host.path(&format!("f{number}"))).unwrap();
            assert!(found == text(number), "f{number}");
        }
        assert_eq!(host.tree().len(), 12);
        assert!(host.engine().incoming.drain().is_empty());
        let staged: Vec<_> = std::fs::read_dir(host.state().join("staging")).unwrap().collect();
        assert!(staged.is_empty(), "{staged:?}");
    }
}

/// The row of a fresh file is in the journal only, which is not synced either.
#[test]
fn a_shortened_file_whose_row_was_lost_is_no_edit() {
    let mut fleet = Fleet::new(3);
    fleet.checkpoint(1);
    share(&mut fleet, 1, "f", "the newer version");
    let engine = fleet.hosts[1].engine();
    let file = engine.index.resolve(&rel("f")).unwrap().unwrap();
    let local = engine.row_of(file).unwrap().unwrap();
    engine.set_row(local, None).unwrap();
    engine.flush_journal().unwrap();
    cut_power(&mut fleet, 1);
    fleet.hosts[1].write("f", "the newer");
    fleet.start(1);
    assert_recovered(fleet);
}

/// An edit made while the daemon is down, long after a cut, is an edit.
#[test]
fn a_settled_power_cut_is_over() {
    let mut fleet = cut_short();
    fleet.settle();
    fleet.converge();
    assert!(fleet.hosts[1].engine().is_cut_settled().unwrap());
    fleet.checkpoint(1);
    fleet.kill(1);
    fleet.hosts[1].write("f", "edited while down");
    fleet.start(1);
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[0].read("f"), "edited while down");
}

/// A file that cannot be read stays in doubt for ever; the others must not stay with it.
#[test]
fn a_suspect_that_stays_keeps_no_other_file_in_doubt() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "the old version");
    share(&mut fleet, 0, "g", "unreadable");
    fleet.checkpoint(1);
    share(&mut fleet, 0, "f", "the newer version");
    cut_power(&mut fleet, 1);
    fleet.start(1);
    fleet.settle();
    let engine = fleet.hosts[1].engine();
    let stays = engine.index.resolve(&rel("g")).unwrap().unwrap();
    engine.suspects.insert(stays);
    fleet.checkpoint(1);
    assert!(fleet.hosts[1].engine().open_cut().unwrap().is_some());
    fleet.kill(1);
    fleet.hosts[1].write("f", "edited while down");
    fleet.start(1);
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[0].read("f"), "edited while down");
}

fn versions(fleet: &mut Fleet, at: usize, path: &str) -> Vec<VersionLine> {
    let Answer::Versions(lines) = fleet.ask(at, Query::Log(rel(path))) else { panic!() };
    lines
}

fn lead(fleet: &mut Fleet, at: usize) {
    let change =
        RoleChange { role: Role::Leader, term: Term::new(1), leader: Some(NodeId::new(1)) };
    fleet.give(at, Event::Log(Delivery::Role(change)));
}

/// The time rides in the entry; nobody looks at its own clock while applying.
#[test]
fn the_leader_has_versions_forgotten_after_thirty_days() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "one");
    let before = wall_ms(&fleet.hosts[0].engine().folder);
    share(&mut fleet, 1, "f", "two!");
    let after = wall_ms(&fleet.hosts[0].engine().folder);
    lead(&mut fleet, 2);
    for (at, wall_ms, count) in [
        (2, before + HISTORY_KEPT_MS, 2),
        (1, after + HISTORY_KEPT_MS + 1, 2),
        (2, after + HISTORY_KEPT_MS + 1, 1),
    ] {
        fleet.pass(at, PRUNE_EVERY_MS);
        let engine = fleet.hosts[at].engine();
        engine.retention.next_ms = 0;
        engine.retention_tick(wall_ms).unwrap();
        fleet.settle();
        for host in 0..3 {
            assert_eq!(versions(&mut fleet, host, "f").len(), count, "host {host}");
        }
    }
    fleet.assert_same();
}

/// Nothing is proposed when nothing is old, or the list was looked through a moment ago.
#[test]
fn an_idle_leader_proposes_nothing() {
    let mut fleet = Fleet::new(1);
    share(&mut fleet, 0, "f", "one");
    share(&mut fleet, 0, "f", "two!");
    lead(&mut fleet, 0);
    fleet.settle();
    let engine = fleet.hosts[0].engine();
    let index = engine.index.position().index;
    let wall_ms = wall_ms(&engine.folder);
    engine.retention_tick(wall_ms + 2 * HISTORY_KEPT_MS).unwrap();
    assert_eq!(engine.retention.before_ms, None, "looked a moment ago");
    fleet.pass(0, PRUNE_EVERY_MS);
    fleet.settle();
    assert_eq!(fleet.hosts[0].engine().index.position().index, index);
}

/// Reads one piece of what a path held at an entry.
fn cat(fleet: &mut Fleet, at: usize, line: &VersionLine, offset: u64) -> Piece {
    let query = Query::Cat { path: line.path.clone(), index: line.index, offset };
    match fleet.ask(at, query) {
        Answer::Piece(piece) => piece,
        other => panic!("{other:?}"),
    }
}

/// Reads a version as `pickbox cat` does.
fn cat_all(fleet: &mut Fleet, at: usize, line: &VersionLine) -> ContentId {
    let (mut hasher, mut offset) = (Hasher::default(), 0);
    loop {
        let piece = cat(fleet, at, line, offset);
        assert_eq!((piece.content, piece.offset), (line.content, offset));
        let len = u64::try_from(piece.data.len()).unwrap();
        assert!(len <= CAT_PIECE_BYTES);
        hasher.update(&piece.data);
        offset += len;
        if offset >= piece.size {
            return hasher.finish();
        }
    }
}

/// A version of any size is read back, from the folder and from history, by pieces.
#[test]
fn a_large_old_version_is_read_back_by_pieces() {
    let mut fleet = Fleet::new(2);
    let old = "old ".repeat(10 * 1024 * 1024);
    share(&mut fleet, 0, "big", &old);
    share(&mut fleet, 1, "big", &"new ".repeat(100_000));
    for at in 0..2 {
        let lines = versions(&mut fleet, at, "big");
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1].size, 40 * 1024 * 1024);
        for line in &lines {
            assert_eq!(Some(cat_all(&mut fleet, at, line)), line.content);
        }
    }
}

/// The copy that was fetched for a reader lies nowhere but in its open file.
#[test]
fn a_version_that_was_fetched_is_read_to_its_end() {
    let mut fleet = Fleet::new(2);
    let old = "old ".repeat(200_000);
    share(&mut fleet, 0, "big", &old);
    share(&mut fleet, 1, "big", "small");
    let content = ContentId::of(old.as_bytes());
    fleet.hosts[1].engine().history.drop_object(content).unwrap();
    let line = versions(&mut fleet, 1, "big").remove(1);
    let first = cat(&mut fleet, 1, &line, 0);
    assert_eq!(first.content, Some(content));
    // The worker was told that it may go.
    let staged = crate::engine::stage::whole_name(content);
    fleet.hosts[1].engine().staging.unlink(&staged).unwrap();
    fleet.hosts[0].engine().history.drop_object(content).unwrap();
    fleet.told.clear();
    assert_eq!(cat_all(&mut fleet, 1, &line), content);
    assert!(fleet.told.is_empty(), "nothing is fetched twice: {:?}", fleet.told);
    fleet.pass(1, 61_000);
    assert!(!fleet.hosts[1].engine().cats.is_active(), "closed after a minute of silence");
}

/// What fits into one piece is verified before it is shown; more is verified beside the reading.
#[test]
fn rotten_versions_are_not_shown_or_at_least_looked_into() {
    let mut fleet = Fleet::new(3);
    let large = "large ".repeat(100_000);
    share(&mut fleet, 0, "small", "small");
    share(&mut fleet, 0, "large", &large);
    for path in ["small", "large"] {
        share(&mut fleet, 0, path, "other");
        let line = versions(&mut fleet, 1, path).remove(1);
        let content = line.content.unwrap();
        let hex = content.to_string();
        let object = fleet.hosts[1].state().join("history").join(&hex[..2]).join(&hex);
        let mut bytes = std::fs::read(&object).unwrap();
        bytes[0] ^= 1;
        std::fs::write(&object, bytes).unwrap();
        let piece = cat_quietly(&mut fleet, 1, &line);
        assert_eq!(piece.1, [content], "the worker is to verify it");
        let whole = piece.0.size <= CAT_PIECE_BYTES;
        assert_eq!(whole, ContentId::of(&piece.0.data) == content);
    }
}

/// As [`cat`], with what the worker was asked to verify meanwhile.
fn cat_quietly(fleet: &mut Fleet, at: usize, line: &VersionLine) -> (Piece, Vec<ContentId>) {
    fleet.told.clear();
    let piece = cat(fleet, at, line, 0);
    let verified = fleet.told.iter().filter_map(|(_, told)| match told {
        ContentCommand::Verify(content) => Some(*content),
        _ => None,
    });
    (piece, verified.collect())
}

/// What was done, when, by whom, and where the bytes are now.
#[test]
fn the_log_of_a_path_tells_writes_deletions_and_where_the_bytes_are() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "one");
    share(&mut fleet, 1, "f", "two!");
    std::fs::remove_file(fleet.hosts[2].path("f")).unwrap();
    fleet.look(2);
    fleet.settle();
    share(&mut fleet, 0, "f", "three");
    let lines = versions(&mut fleet, 2, "f");
    let told = |line: &VersionLine| (line.made, line.author.clone(), line.bytes, line.size);
    let expected = [
        (Made::Write, "node1".to_owned(), Bytes::Current, 5),
        (Made::Delete, "node3".to_owned(), Bytes::Gone, 0),
        (Made::Write, "node2".to_owned(), Bytes::Gone, 4),
        (Made::Write, "node1".to_owned(), Bytes::Kept, 3),
    ];
    assert_eq!(lines.iter().map(told).collect::<Vec<_>>(), expected, "node3 deleted its only copy");
    assert_eq!(versions(&mut fleet, 0, "f")[2].bytes, Bytes::Kept);
    assert!(lines.is_sorted_by_key(|line| std::cmp::Reverse(line.index)));
    let meta = std::fs::metadata(fleet.hosts[0].path("f")).unwrap();
    let mtime = std::os::unix::fs::MetadataExt::mtime(&meta);
    assert_eq!(lines[0].mtime.unwrap().secs, mtime);
    assert_eq!(lines[1].mtime, None);
    for (line, text) in [(0, "three"), (2, "two!"), (3, "one")] {
        assert_eq!(cat(&mut fleet, 0, &lines[line], 0).data, text.as_bytes());
    }
    let (path, index) = (rel("f"), lines[1].index);
    assert_eq!(fleet.ask(0, Query::Cat { path, index, offset: 0 }), Answer::NotFound);
}

#[test]
fn a_conflict_copy_is_told_by_its_word() {
    let mut fleet = Fleet::new(2);
    std::fs::create_dir_all(fleet.hosts[0].path(".git")).unwrap();
    for path in ["f", ".git/f"] {
        share(&mut fleet, 0, path, "base");
    }
    for at in 0..2 {
        for path in ["f", ".git/f"] {
            fleet.hosts[at].write(path, &format!("by host {at}"));
        }
        fleet.look(at);
    }
    fleet.settle();
    let copy = fleet.hosts[0].tree().into_keys().find(|name| name.contains("conflict")).unwrap();
    assert_eq!(versions(&mut fleet, 0, &copy)[0].made, Made::Conflict);
    // Below .git the loser has no path of its own: it is read at the entry that lost.
    let lines = versions(&mut fleet, 0, ".git/f");
    let lost = lines.iter().find(|line| line.made == Made::Conflict).unwrap().clone();
    assert_eq!(cat(&mut fleet, 0, &lost, 0).data, b"by host 1");
}

/// A founder writes before the log has named its members.
#[test]
fn authors_have_names_before_the_members_do() {
    let mut fleet = Fleet::unnamed();
    share(&mut fleet, 0, "f", "one");
    assert_eq!(versions(&mut fleet, 0, "f")[0].author, "node1");
}

/// With more versions than are listed, the newest are.
#[test]
fn the_newest_versions_are_listed() {
    let mut fleet = Fleet::new(1);
    for round in 0..1010 {
        let data = format!("{round}").into_bytes();
        let query = Query::Put { path: rel("f"), data };
        fleet.give(
            0,
            Event::Request(Request { query, freshness: Freshness::Fresh, reply: Box::new(|_| ()) }),
        );
        fleet.commit(0);
        fleet.deliver(0);
    }
    let lines = versions(&mut fleet, 0, "f");
    assert_eq!(lines.len(), 1000);
    assert_eq!(lines[1].content, Some(ContentId::of(b"1008")));
}

/// Places a content in the staging of a host, as an offer of a peer does.
fn stage(fleet: &mut Fleet, at: usize, text: &str) -> std::path::PathBuf {
    let name = format!("c.{}", ContentId::of(text.as_bytes()));
    let path = fleet.hosts[at].state().join("staging").join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// A content that the log knows of must not go with the offer that brought it.
#[test]
fn a_closed_run_takes_its_offers_along_but_not_what_it_committed() {
    let mut fleet = Fleet::new(3);
    let (committed, offered) = ("committed ".repeat(10_000), "offered ".repeat(10_000));
    let content = ContentId::of(committed.as_bytes());
    let size = u64::try_from(committed.len()).unwrap();
    fleet.hosts[2].engine().standing = Standing::Gone;
    share(&mut fleet, 0, "big", &committed);
    stage(&mut fleet, 2, &committed);
    stage(&mut fleet, 2, &offered);
    fleet.told.clear();
    fleet.kill(0);
    fleet.start(0);
    fleet.settle();
    let close =
        ContentCommand::Close { origin: NodeId::new(1), incarnation: Incarnation::new(1001) };
    let told = |at: usize| {
        let said = fleet.told.iter().filter(|(host, _)| *host == at);
        said.map(|(_, command)| command.clone()).collect::<Vec<_>>()
    };
    assert_eq!(told(1), std::slice::from_ref(&close));
    let claim = ContentCommand::Fetch { content, size, from: Vec::new() };
    assert_eq!(told(2), [claim, close]);
}

/// A large version that another one overtook on its way here is history, and its place in staging
/// is free.
#[test]
fn a_version_that_never_stood_here_leaves_staging() {
    let mut fleet = Fleet::new(3);
    let old = "old ".repeat(10_000);
    let content = ContentId::of(old.as_bytes());
    fleet.hosts[2].engine().standing = Standing::Gone;
    share(&mut fleet, 0, "big", &old);
    let staged = stage(&mut fleet, 2, &old);
    fleet.told.clear();
    share(&mut fleet, 0, "big", "new");
    assert!(!staged.exists());
    assert!(fleet.hosts[2].engine().history.has(content));
    assert!(fleet.told.contains(&(2, ContentCommand::Adopted(content))));
}

/// What nobody needs any more is not fetched for ever.
#[test]
fn a_version_that_was_overtaken_is_not_waited_for() {
    let mut fleet = Fleet::new(3);
    let old = "old ".repeat(10_000);
    let content = ContentId::of(old.as_bytes());
    share(&mut fleet, 0, "big", &old);
    let engine = fleet.hosts[2].engine();
    let file = engine.index.resolve(&rel("big")).unwrap().unwrap();
    let local = engine.row_of(file).unwrap().unwrap();
    let mut row = engine.row(local).unwrap().unwrap();
    row.seen.as_mut().unwrap().body = None;
    engine.set_row(local, Some(&row)).unwrap();
    engine.transfers.fetching.insert(content);
    share(&mut fleet, 0, "big", "new");
    assert!(fleet.told.contains(&(2, ContentCommand::Release(content))));
    assert!(fleet.hosts[2].engine().transfers.fetching.is_empty());
}

/// Without it an offer would wait for a majority that it was never made to.
#[test]
fn offers_are_told_when_the_members_change() {
    let mut fleet = Fleet::new(1);
    fleet.hosts[0].write("big", &"large ".repeat(10_000));
    fleet.look(0);
    let offered = fleet.told.iter().find_map(|(_, told)| match told {
        ContentCommand::Offer(OfferRequest { ticket, .. }) => Some(*ticket),
        _ => None,
    });
    let ticket = offered.unwrap();
    let mut members = fleet.hosts[0].engine().index.members().clone();
    let (id, role) = (NodeId::new(2), MemberRole::Voter);
    let (name, address) = ("node2".to_owned(), "127.0.0.1:8002".to_owned());
    members.members.push(Member { id, name, address, role, key: None });
    fleet.append(Content::Members(members));
    fleet.deliver(0);
    let quorum = fleet.hosts[0].engine().quorum();
    let regroup = ContentCommand::Regroup { ticket, peers: vec![id], quorum };
    assert!(fleet.told.contains(&(0, regroup)), "{:?}", fleet.told);
}
