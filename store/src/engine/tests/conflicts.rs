//! Conflicts as people see and end them.

use super::fleet::{Fleet, rel, share};
use crate::content_id::ContentId;
use crate::engine::ports::{Answer, ConflictKey, ConflictPage, Query};
use crate::op::Take;
use crate::record::Body;

impl Fleet {
    fn conflicts(&mut self, at: usize) -> ConflictPage {
        match self.ask(at, Query::Conflicts(None)) {
            Answer::Conflicts(page) => page,
            other => panic!("{other:?}"),
        }
    }

    fn resolve(&mut self, at: usize, path: &str, take: Take) -> Answer {
        self.ask(at, Query::Resolve { path: rel(path), take, seen: None })
    }

    /// Each of these hosts writes to a file before it hears of the others; the first keeps the name.
    fn fall_out(&mut self, path: &str, texts: &[(usize, &str)]) {
        for (at, text) in texts {
            self.hosts[*at].write(path, text);
            self.look(*at);
        }
        for (at, _) in texts {
            self.commit(*at);
        }
        self.settle();
    }
}

fn at_odds(left: &str, right: &str) -> (Fleet, String) {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "base");
    fleet.fall_out("f", &[(0, left), (1, right)]);
    let page = fleet.conflicts(2);
    let copy = page.conflicts[0].copy.clone().unwrap();
    (fleet, copy.to_string())
}

fn size_of(body: &Body) -> u64 {
    match body {
        Body::File { size, .. } => *size,
        other => panic!("{other:?}"),
    }
}

/// Issue: each open conflict with its paths, whose version lost, index, when, sizes, and whether
/// the content differs still.
#[test]
fn a_conflict_is_listed_on_every_node_until_it_is_over() {
    let (mut fleet, copy) = at_odds("left", "right!");
    let pages: Vec<ConflictPage> = (0..3).map(|at| fleet.conflicts(at)).collect();
    assert!(pages.iter().all(|page| *page == pages[0]), "{pages:?}");
    let page = &pages[0];
    assert_eq!((page.open, page.conflicts.len(), page.next), (1, 1, None));
    let line = &page.conflicts[0];
    let winner = line.winner.as_ref().unwrap();
    assert_eq!((line.path.clone(), winner.author.as_str()), (rel("f"), "node1"));
    assert_eq!((size_of(&winner.body), size_of(&line.loser.body)), (4, 6));
    assert_eq!((line.loser.author.as_str(), line.since), ("node2", line.loser.index));
    assert!(line.differs() && line.wall_ms > 1_600_000_000_000);
    assert!(copy.ends_with(&format!("-{}", line.since)), "{copy}");
    // The next one that has the name does not end it; the same content is told.
    share(&mut fleet, 2, "f", "right!");
    let page = fleet.conflicts(1);
    assert!(!page.conflicts[0].differs(), "{page:?}");
    fs_remove(&fleet, 0, &copy);
    fleet.look(0);
    fleet.settle();
    assert_eq!(fleet.conflicts(2), ConflictPage::default(), "the copy was deleted: it is over");
}

fn fs_remove(fleet: &Fleet, at: usize, path: &str) {
    std::fs::remove_file(fleet.hosts[at].path(path)).unwrap();
}

/// Design: deleting, renaming or editing the copy by hand ends the conflict.
#[test]
fn what_people_do_to_a_copy_by_hand_ends_the_conflict() {
    for end in ["rename", "edit", "delete"] {
        let (mut fleet, copy) = at_odds("left", "right");
        match end {
            "rename" => {
                std::fs::rename(fleet.hosts[2].path(&copy), fleet.hosts[2].path("mine")).unwrap();
            }
            "edit" => fleet.hosts[2].write(&copy, "merged by hand"),
            _ => fs_remove(&fleet, 2, &copy),
        }
        fleet.look(2);
        fleet.settle();
        assert_eq!(fleet.conflicts(0), ConflictPage::default(), "{end}");
        fleet.converge();
        fleet.assert_same();
    }
}

/// Issue: `resolve --take`, whichever of the two paths is named, small and large.
#[test]
fn each_end_of_a_conflict_is_the_same_on_every_node() {
    let large = "large ".repeat(20_000);
    for right in ["right", large.as_str()] {
        for by_copy in [false, true] {
            for take in [Take::Ours, Take::Theirs, Take::Both] {
                let (mut fleet, copy) = at_odds("left", right);
                let named = if by_copy { copy.as_str() } else { "f" };
                let answer = fleet.resolve(2, named, take);
                assert!(matches!(answer, Answer::Committed(_)), "{answer:?}");
                fleet.converge();
                fleet.assert_same();
                let tree = fleet.hosts[1].tree();
                let shown: Vec<&str> = tree.keys().map(String::as_str).collect();
                let (text, left) = match take {
                    Take::Ours => ("left", vec!["f"]),
                    Take::Theirs => (right, vec!["f"]),
                    Take::Both => ("left", vec!["f", copy.as_str()]),
                };
                assert_eq!((shown, fleet.hosts[0].read("f").as_str()), (left, text));
                assert_eq!(fleet.conflicts(1), ConflictPage::default());
                for text in ["left", right] {
                    let content = ContentId::of(text.as_bytes());
                    assert!(fleet.find_bytes(content).is_some(), "what went is in the history");
                }
                let again = fleet.resolve(0, "f", take);
                assert_eq!(again, Answer::NotFound, "it is over");
            }
        }
    }
}

/// Issue: refused with `changed` if either is not what the person saw, be it in the log or in the
/// folder of the node that is asked.
#[test]
fn what_the_person_did_not_see_is_not_decided_upon() {
    let (mut fleet, copy) = at_odds("left", "right");
    let line = fleet.conflicts(0).conflicts[0].clone();
    let seen = Some((line.winner.unwrap().index, line.loser.index));
    let ask = |seen| Query::Resolve { path: rel("f"), take: Take::Ours, seen };
    share(&mut fleet, 2, "f", "newer");
    assert_eq!(fleet.ask(1, ask(seen)), Answer::Changed);
    // Seen by the watcher, not in the log yet.
    fleet.hosts[1].write(&copy, "right, and more");
    fleet.look(1);
    let answer = fleet.ask_only(1, ask(None));
    assert_eq!(answer.try_recv(), Ok(Answer::Changed));
    // Asked elsewhere, it is the log that decides: the edit comes first there.
    let early = fleet.ask_only(0, ask(None));
    fleet.commit(1);
    fleet.commit(0);
    fleet.settle();
    assert_eq!(early.try_recv(), Ok(Answer::Changed));
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[0].read(&copy), "right, and more");
    // The other way round the edit has lost nothing: it makes the copy anew.
    let (mut fleet, copy) = at_odds("left", "right");
    fleet.hosts[1].write(&copy, "right, and more");
    fleet.look(1);
    let early = fleet.ask_only(0, ask(None));
    fleet.commit(0);
    fleet.commit(1);
    fleet.settle();
    assert!(matches!(early.try_recv(), Ok(Answer::Committed(_))));
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[2].read(&copy), "right, and more");
}

/// Issue: with several copies the one has to be named; the error lists them.
#[test]
fn of_several_copies_one_is_named() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "base");
    fleet.fall_out("f", &[(0, "one"), (1, "two"), (2, "three")]);
    let page = fleet.conflicts(0);
    let copies: Vec<_> = page.conflicts.into_iter().map(|line| line.copy.unwrap()).collect();
    assert_eq!(fleet.resolve(1, "f", Take::Theirs), Answer::Several(copies.clone()));
    let third = copies[1].to_string();
    assert!(matches!(fleet.resolve(1, &third, Take::Theirs), Answer::Committed(_)));
    fleet.converge();
    assert_eq!(fleet.hosts[0].read("f"), "three");
    assert!(matches!(fleet.resolve(1, "f", Take::Ours), Answer::Committed(_)), "one is left");
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[0].tree().len(), 1);
}

/// Issue: losers that went to the history only are listed as long as it keeps them.
#[test]
fn a_loser_below_git_is_listed_without_a_copy() {
    let mut fleet = Fleet::new(3);
    std::fs::create_dir(fleet.hosts[0].path(".git")).unwrap();
    share(&mut fleet, 0, ".git/HEAD", "base");
    fleet.fall_out(".git/HEAD", &[(0, "left"), (1, "right")]);
    let page = fleet.conflicts(2);
    assert_eq!((page.open, page.conflicts.len()), (0, 1));
    let line = &page.conflicts[0];
    assert_eq!((line.path.clone(), line.copy.clone()), (rel(".git/HEAD"), None));
    assert_eq!((line.loser.author.as_str(), size_of(&line.loser.body)), ("node2", 5));
    let lost = Query::Cat { path: line.path.clone(), index: line.loser.index, offset: 0 };
    let Answer::Piece(piece) = fleet.ask(1, lost) else { panic!() };
    assert_eq!(piece.data, b"right");
    assert_eq!(fleet.resolve(0, ".git/HEAD", Take::Ours), Answer::NotFound);
}

/// Traps T9 and T26: the same name made on two nodes below `.git` is settled by one entry each: the
/// node that lost takes over what won, and does not go on proposing its own.
#[test]
fn a_file_that_two_nodes_make_below_git_is_settled_once() {
    for size in [10, 50_000] {
        let mut fleet = Fleet::new(3);
        std::fs::create_dir(fleet.hosts[0].path(".git")).unwrap();
        fleet.look(0);
        fleet.settle();
        let (left, right) = ("left".repeat(size), "right".repeat(size));
        fleet.fall_out(".git/ORIG_HEAD", &[(0, &left), (1, &right)]);
        fleet.converge();
        fleet.assert_same();
        assert_eq!(fleet.hosts[1].read(".git/ORIG_HEAD"), left);
        let before = fleet.log_len();
        fleet.converge();
        assert_eq!((fleet.log_len(), fleet.conflicts(0).conflicts.len()), (before, 1));
        assert!(fleet.find_bytes(ContentId::of(right.as_bytes())).is_some());
    }
}

/// Promise P8: a page is bounded, and the next begins behind it.
#[test]
fn a_long_list_comes_in_pages() {
    let mut fleet = Fleet::new(2);
    let count = 230;
    std::fs::create_dir(fleet.hosts[0].path(".git")).unwrap();
    fleet.look(0);
    fleet.settle();
    let paths: Vec<String> = (0..count)
        .map(|number| format!("{}{number}", if number < 120 { "f" } else { ".git/f" }))
        .collect();
    for at in 0..2 {
        for path in &paths {
            fleet.hosts[at].write(path, &format!("{at} {path}"));
        }
        fleet.look(at);
    }
    fleet.settle();
    let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let Answer::Conflicts(page) = fleet.ask(0, Query::Conflicts(after)) else { panic!() };
        assert_eq!(page.open, 120);
        assert!(page.conflicts.len() <= 100);
        found.extend(page.conflicts.into_iter().map(|line| line.path.to_string()));
        pages += 1;
        // What is shown is what is asked with.
        after = page.next.map(|key| ConflictKey::parse(&key.to_string()).unwrap());
        if after.is_none() {
            break;
        }
    }
    found.sort();
    let mut expected = paths;
    expected.sort();
    assert_eq!((found, pages), (expected, 3));
}
