//! Programs that rewrite a file for ever, on several hosts: the log and the folder stay bounded,
//! and in the end all have what was written last.

use super::fleet::{Fleet, rel, share};

/// The watcher of a host tells of the file, and the host does what follows from it.
fn tell(fleet: &mut Fleet, at: usize, path: &str) {
    if let Some(look) = fleet.see(at, &rel(path)) {
        fleet.tell(at, look);
    }
    fleet.answer_asks(at);
}

/// What was proposed commits and comes everywhere, and so many milliseconds pass.
fn step(fleet: &mut Fleet, ms: u64) {
    for at in 0..2 {
        fleet.commit(at);
    }
    for at in 0..2 {
        while fleet.deliver(at) {}
        fleet.pass(at, ms);
    }
}

fn copies(fleet: &Fleet, at: usize) -> usize {
    fleet.hosts[at].tree().keys().filter(|name| name.contains(".conflict-")).count()
}

/// Trap T26: each rewrites the file whenever it has arrived. After some that are free, the log
/// gets one version a second of each.
#[test]
fn a_fight_over_deliveries_is_slowed_down_and_ends_with_the_last_state() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, "f", "start");
    let before = fleet.log_len();
    let mut last = [String::new(), String::new()];
    let mut writes = 0;
    for round in 0..6_000u64 {
        for (at, last) in last.iter_mut().enumerate() {
            // A program that wants its own text to stand there.
            if fleet.hosts[at].read("f") != *last {
                *last = format!("host {at} round {round}");
                fleet.hosts[at].write("f", last);
                tell(&mut fleet, at, "f");
                writes += 1;
            }
        }
        step(&mut fleet, 10);
    }
    let entries = fleet.log_len() - before;
    // A minute: 32 and one a second, of each host.
    assert!(entries <= 2 * (32 + 60 + 1), "{entries} entries for {writes} writes in a minute");
    assert!(writes > 100, "{writes}");
    fleet.converge();
    fleet.assert_same();
    assert!(last.contains(&fleet.hosts[0].read("f")), "what was written last stands there");
}

/// Trap T26: both write at the same moment, again and again: so many conflict copies, and no more.
#[test]
fn a_fight_with_crossing_writes_has_a_bounded_number_of_copies() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, "f", "start");
    for round in 0..600u64 {
        for at in 0..2 {
            let text = format!("host {at} round {round}");
            fleet.hosts[at].write("f", &text);
            tell(&mut fleet, at, "f");
        }
        step(&mut fleet, 100);
    }
    // The one that comes first in the log writes where it wrote last, at its own speed.
    let (entries, most) = (fleet.log_len(), crate::agreed::LOSING_LINES_MAX);
    assert!(entries <= 600 + 32 + 60 + 20, "{entries}");
    assert!((1..=most).contains(&copies(&fleet, 0)), "{} copies", copies(&fleet, 0));
    fleet.converge();
    fleet.assert_same();
    assert!(copies(&fleet, 0) <= most);
    assert!(fleet.hosts[0].read("f").ends_with("round 599"));
    for (at, text) in [(0, "host 0 round 599"), (1, "host 1 round 599")] {
        let content = crate::content_id::ContentId::of(text.as_bytes());
        assert!(fleet.find_bytes(content).is_some(), "the last of host {at} is somewhere");
    }
}

/// Trap T26: what waits is counted and named, and another file does not wait with it.
#[test]
fn a_file_that_has_to_wait_is_counted_and_named_and_holds_up_nobody() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, "f", "start");
    for round in 0..40 {
        fleet.hosts[1].write("f", &format!("its round {round}"));
        tell(&mut fleet, 1, "f");
        step(&mut fleet, 1);
        fleet.hosts[0].write("f", &format!("round {round}"));
        tell(&mut fleet, 0, "f");
        step(&mut fleet, 1);
    }
    let status = fleet.hosts[1].engine().store_status().unwrap();
    assert_eq!(status.undecided, 1);
    assert!(status.waiting[0].starts_with("f: it changes all the time"), "{:?}", status.waiting);
    fleet.hosts[1].write("g", "in between");
    tell(&mut fleet, 1, "g");
    step(&mut fleet, 1);
    assert_eq!(fleet.hosts[0].read("g"), "in between");
    assert_eq!(fleet.hosts[1].read("f"), "its round 39", "it waits");
    for _ in 0..20 {
        step(&mut fleet, 100);
    }
    assert_eq!(fleet.hosts[1].read("f"), "round 39", "it goes, without an event, and comes second");
    assert_eq!(copies(&fleet, 0), 1);
    fleet.converge();
    fleet.assert_same();
}

/// A save is never delayed: not the first, nor one a second for as long as one likes.
#[test]
fn who_saves_by_hand_never_waits() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, "f", "start");
    for round in 0..200 {
        let text = format!("round {round}");
        fleet.hosts[0].write("f", &text);
        tell(&mut fleet, 0, "f");
        step(&mut fleet, 1_000);
        assert_eq!(fleet.hosts[1].read("f"), text);
    }
}

/// Trap T9: two hosts whose editors run `git status` rewrite the index of each other for ever,
/// only because it arrived. It goes at its own rate; the rest of the repository does not wait.
#[test]
fn the_index_of_git_is_refreshed_at_its_own_rate() {
    let mut fleet = Fleet::new(2);
    std::fs::create_dir(fleet.hosts[0].path(".git")).unwrap();
    fleet.hosts[0].write(".git/index", "start");
    fleet.look(0);
    fleet.settle();
    let before = fleet.log_len();
    let mut last = [String::new(), String::new()];
    for round in 0..600u64 {
        for (at, last) in last.iter_mut().enumerate() {
            if fleet.hosts[at].read(".git/index") != *last {
                *last = format!("host {at} round {round}");
                fleet.hosts[at].write(".git/index", last);
                tell(&mut fleet, at, ".git/index");
            }
        }
        step(&mut fleet, 100);
    }
    let entries = fleet.log_len() - before;
    assert!(entries <= 2 * (8 + 60 / 5 + 1), "{entries} entries");
    fleet.hosts[0].write(".git/HEAD", "ref: refs/heads/main");
    tell(&mut fleet, 0, ".git/HEAD");
    step(&mut fleet, 1);
    assert_eq!(fleet.hosts[1].read(".git/HEAD"), "ref: refs/heads/main");
    fleet.converge();
    fleet.assert_same();
}

/// Who deletes and makes a file anew in turns is at the same name still.
#[test]
fn deleting_in_between_does_not_reset_the_pace() {
    let mut fleet = Fleet::new(2);
    let before = fleet.log_len();
    for round in 0..500u64 {
        fleet.hosts[0].write("f", &format!("round {round}"));
        tell(&mut fleet, 0, "f");
        step(&mut fleet, 5);
        std::fs::remove_file(fleet.hosts[0].path("f")).unwrap();
        tell(&mut fleet, 0, "f");
        step(&mut fleet, 5);
    }
    // Five seconds; each version comes and goes.
    let entries = fleet.log_len() - before;
    assert!(entries <= 2 * (32 + 5 + 2), "{entries}");
    fleet.converge();
    fleet.assert_same();
}

/// The status names what the log is used for.
#[test]
fn the_busiest_paths_are_named_on_every_host() {
    let mut fleet = Fleet::new(2);
    share(&mut fleet, 0, "small", "1");
    share(&mut fleet, 0, "large", &"x".repeat(100_000));
    share(&mut fleet, 1, "middle", &"y".repeat(1_000));
    for at in 0..2 {
        let busiest = fleet.hosts[at].engine().store_status().unwrap().busiest;
        let first: Vec<_> =
            busiest.iter().map(|(path, bytes)| (path.to_string(), *bytes)).collect();
        let expected = [("large", 100_000), ("middle", 1_000), ("small", 1)];
        assert_eq!(first, expected.map(|(path, bytes)| (path.to_owned(), bytes)));
    }
}
