//! Lines of edits over partitions: hosts that cannot reach the majority go on editing, several
//! times, over several rounds. For each line that lost there is exactly one copy, no content is
//! gone, and all folders end equal.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::fleet::{Fleet, share};
use crate::content_id::ContentId;

/// What the users of one host do in one round.
#[derive(Clone, Debug)]
struct Part {
    /// Whether the host is cut off from the others.
    cut_off: bool,
    /// So many edits one after the other, each noticed.
    edits: usize,
    /// Whether its first change is on its way to the leader before the cut, to be committed later.
    killed: bool,
    /// Whether it also changes the mode.
    chmod: Option<u16>,
}

fn part() -> impl Strategy<Value = Part> {
    let mode = prop_oneof![2 => Just(None), 1 => Just(Some(0o600)), 1 => Just(Some(0o755))];
    (any::<bool>(), 0..4_usize, prop::bool::weighted(0.2), mode)
        .prop_map(|(cut_off, edits, killed, chmod)| Part { cut_off, edits, killed, chmod })
}

/// Rounds of as many parts as there are hosts, and the order in which the cut ones come back.
fn rounds() -> impl Strategy<Value = Vec<Vec<Part>>> {
    (3..=5_usize)
        .prop_flat_map(|hosts| prop::collection::vec(prop::collection::vec(part(), hosts), 1..4))
}

struct Story {
    fleet: Fleet,
    number: usize,
    written: Vec<String>,
    /// What the name and the copies should hold: text by which line made it.
    copies: Vec<String>,
    current: String,
}

impl Story {
    fn save(&mut self, at: usize, round: usize) -> String {
        self.number += 1;
        let text = format!("round {round} host {at} edit {}", self.number);
        // Not over itself: of another length each time, so that no tick of the clock matters.
        let text = format!("{text}{}", ".".repeat(self.number));
        self.fleet.hosts[at].write("f", &text);
        self.fleet.look(at);
        self.written.push(text.clone());
        text
    }

    fn round(&mut self, round: usize, parts: &[Part]) {
        let mut last: BTreeMap<usize, String> = BTreeMap::new();
        // Those that are cut off edit at once, from what all had in common.
        for (at, part) in parts.iter().enumerate().filter(|(_, part)| part.cut_off) {
            for _ in 0..part.edits {
                let text = self.save(at, round);
                last.insert(at, text);
            }
            self.chmod(at, part);
            if part.killed {
                self.fleet.kill(at);
            }
        }
        // The others hear of each other, and edit one after the other.
        let together: Vec<usize> = (0..parts.len()).filter(|at| !parts[*at].cut_off).collect();
        for &at in &together {
            for _ in 0..parts[at].edits {
                self.current = self.save(at, round);
                self.settle_only(&together);
            }
            self.chmod(at, &parts[at]);
            self.settle_only(&together);
        }
        let is_changed = together.iter().any(|at| parts[*at].edits > 0);
        // The cut is over: in the order of the hosts, whatever was on its way comes first.
        let mut lines: Vec<(usize, String)> = last.into_iter().collect();
        for (at, _) in parts.iter().enumerate().filter(|(_, part)| part.killed && part.cut_off) {
            self.fleet.start(at);
        }
        self.fleet.settle();
        self.fleet.converge();
        if !is_changed && !lines.is_empty() {
            // One of them is the first in the log, and keeps the name with its whole line.
            let text = self.fleet.hosts[0].read("f");
            let first = lines.iter().position(|(_, line)| *line == text);
            self.current = lines.remove(first.expect("a line keeps the name")).1;
        }
        self.copies.extend(lines.into_iter().map(|(_, text)| text));
    }

    fn chmod(&mut self, at: usize, part: &Part) {
        use std::os::unix::fs::PermissionsExt;
        let Some(mode) = part.chmod else { return };
        let path = self.fleet.hosts[at].path("f");
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode.into())).unwrap();
        self.fleet.look(at);
    }

    fn settle_only(&mut self, together: &[usize]) {
        for _ in 0..4 {
            for &at in together {
                self.fleet.commit(at);
            }
            for &at in together {
                while self.fleet.deliver(at) {}
                self.fleet.answer_asks(at);
                self.fleet.pass(at, 1_000);
            }
        }
    }

    fn check(&mut self) {
        self.fleet.assert_same();
        let tree = self.fleet.hosts[0].tree();
        let mut held: Vec<String> = Vec::new();
        for name in tree.keys() {
            assert!(name == "f" || name.starts_with("f.conflict-node"), "{name}");
            if name != "f" {
                held.push(self.fleet.hosts[0].read(name));
            }
        }
        assert_eq!(self.fleet.hosts[0].read("f"), self.current);
        held.sort();
        self.copies.sort();
        assert_eq!(held, self.copies, "exactly one copy a line, with the last edit of it");
        let open = self.fleet.hosts[0].engine().store_status().unwrap().conflicts;
        assert_eq!(usize::try_from(open).unwrap(), held.len(), "each waits for somebody");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|it| it.parse().ok()).unwrap_or(24),
        max_shrink_iters: 400,
        ..ProptestConfig::default()
    })]

    /// Fault 43, traps T10, T14 and T26: offline and minority edits of several hosts over several
    /// rounds. A change of mode on either side makes no copy.
    #[test]
    fn each_line_that_lost_has_one_copy(rounds in rounds()) {
        let hosts = u64::try_from(rounds[0].len()).unwrap();
        let mut fleet = Fleet::new(hosts);
        share(&mut fleet, 0, "f", "base");
        let (written, copies) = (vec!["base".to_owned()], Vec::new());
        let mut story = Story { fleet, number: 0, written, copies, current: "base".to_owned() };
        for (number, parts) in rounds.iter().enumerate() {
            story.round(number, parts);
            story.check();
        }
    }
}

/// Trap T10, fault 43: two programs that write the same on both sides of a cut are of one mind.
#[test]
fn equal_edits_on_both_sides_of_a_cut_are_no_conflict() {
    let mut fleet = Fleet::new(3);
    share(&mut fleet, 0, "f", "base");
    for at in 0..3 {
        fleet.hosts[at].write("f", "the same");
        fleet.look(at);
    }
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[1].tree().len(), 1);
    // The next edit of any of them is a successor, not a rival.
    share(&mut fleet, 2, "f", "next");
    share(&mut fleet, 1, "f", "after next");
    fleet.assert_same();
    assert_eq!(fleet.hosts[0].tree().len(), 1);
    assert!(fleet.find_bytes(ContentId::of(b"next")).is_some());
}

/// Trap T12: an edit made in the minority beats a deletion by the majority, in whatever round, and
/// the other way round; the content that was deleted is not mixed up with the new one.
#[test]
fn an_edit_beats_a_deletion_over_a_cut() {
    for editor in 0..3 {
        for round in 0..2 {
            let mut fleet = Fleet::new(3);
            share(&mut fleet, 0, "f", "base");
            for _ in 0..round {
                share(&mut fleet, 1, "f", "another");
            }
            fleet.hosts[editor].write("f", "edited, and longer");
            fleet.look(editor);
            let deleter = (editor + 1) % 3;
            std::fs::remove_file(fleet.hosts[deleter].path("f")).unwrap();
            fleet.look(deleter);
            fleet.settle();
            fleet.converge();
            fleet.assert_same();
            assert_eq!(fleet.hosts[deleter].read("f"), "edited, and longer");
            assert_eq!(fleet.hosts[0].tree().len(), 1, "no copy of it");
        }
    }
}
