//! Trap T19, fault 73: a node joins with a folder that is not empty.

use super::fleet::{Fleet, Way, rel, share};
use crate::engine::BroughtRule;

/// Three nodes; node 3 has just been let in, over a folder of its own: one file as the cluster has
/// it, one that differs, one that is only there, one of each large.
fn fleet(rule: BroughtRule) -> Fleet {
    let mut fleet = Fleet::new(3);
    let large = |letter: &str| letter.repeat(40_000);
    fleet.kill(2);
    std::fs::create_dir(fleet.hosts[0].path("d")).unwrap();
    for (path, text) in [("same", "same"), ("d/differs", "the cluster's"), ("theirs", "theirs")] {
        fleet.hosts[0].write(path, text);
    }
    fleet.hosts[0].write("large-same", &large("s"));
    fleet.hosts[0].write("large-differs", &large("c"));
    fleet.look(0);
    fleet.settle();
    let folder = fleet.hosts[2].path("");
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::create_dir_all(folder.join("d")).unwrap();
    std::fs::create_dir_all(folder.join("only/here")).unwrap();
    for (path, text) in
        [("same", "same"), ("d/differs", "brought"), ("only/here/file", "brought too")]
    {
        fleet.hosts[2].write(path, text);
    }
    fleet.hosts[2].write("large-same", &large("s"));
    fleet.hosts[2].write("large-differs", &large("b"));
    std::fs::remove_dir_all(fleet.hosts[2].state()).unwrap();
    std::fs::create_dir(fleet.hosts[2].state()).unwrap();
    fleet.hosts[2].brought = rule;
    fleet.start(2);
    fleet.settle();
    fleet
}

/// Trap T19, fault 73: without a word nothing is changed here, nothing proposed, and STATUS says
/// what there is to decide. That outlives a kill.
#[test]
fn what_differs_waits_for_a_word() {
    let mut fleet = fleet(BroughtRule::Ask);
    for round in 0..2 {
        let before = fleet.hosts[0].tree();
        let status = fleet.hosts[2].engine().store_status().unwrap();
        let alarm = status.alarms.first().unwrap_or_else(|| panic!("{round}: {status:?}"));
        assert!(alarm.contains("3 files") && alarm.contains("--merge"), "{alarm}");
        assert!(alarm.contains("--discard-local"), "{alarm}");
        assert!(status.waiting.iter().any(|line| line.contains("d/differs")), "{status:?}");
        assert_eq!(status.held, 3);
        let tree = fleet.hosts[2].tree();
        assert!(!tree.contains_key("theirs"), "nothing is placed: {tree:?}");
        assert_eq!(fleet.hosts[2].read("d/differs"), "brought");
        std::fs::write(fleet.hosts[0].path("later"), format!("{round}")).unwrap();
        fleet.look(0);
        fleet.hosts[2].write("same", "edited while it waits");
        fleet.look(2);
        fleet.settle();
        assert_eq!(fleet.hosts[0].tree().len(), before.len() + 1 - round, "nothing is proposed");
        assert_eq!(fleet.hosts[1].read("same"), "same");
        fleet.checkpoint(2);
        fleet.hosts[2].write("same", "same");
        fleet.look(2);
        fleet.kill(2);
        fleet.start(2);
        fleet.settle();
    }
    fleet.kill(2);
    fleet.hosts[2].brought = BroughtRule::Merge;
    fleet.start(2);
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[0].read("only/here/file"), "brought too");
}

/// Trap T19, fault 73.
#[test]
fn merged_folders_keep_both() {
    let mut fleet = fleet(BroughtRule::Merge);
    fleet.converge();
    fleet.assert_same();
    let tree = fleet.hosts[1].tree();
    assert_eq!(fleet.hosts[1].read("d/differs"), "the cluster's");
    let copy = |name: &str| {
        let found = tree.keys().find(|path| path.starts_with(&format!("{name}.conflict-node3-")));
        fleet.hosts[1].read(found.unwrap_or_else(|| panic!("{tree:?}")))
    };
    assert_eq!(copy("d/differs"), "brought");
    assert_eq!(copy("large-differs").len(), 40_000);
    assert_eq!(fleet.hosts[1].read("only/here/file"), "brought too");
    assert_eq!(fleet.hosts[2].read("theirs"), "theirs");
}

/// Trap T19, fault 73: nothing of it is deleted: it lies beside the folder.
#[test]
fn what_is_discarded_is_moved_aside() {
    let mut fleet = fleet(BroughtRule::Discard);
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[2].read("d/differs"), "the cluster's");
    assert!(!fleet.hosts[0].tree().contains_key("only"));
    let discarded = fleet.hosts[2].state().join("discarded");
    let read = |path: &str| std::fs::read_to_string(discarded.join(path)).unwrap();
    assert_eq!(read("d/differs"), "brought");
    assert_eq!(read("only/here/file"), "brought too");
    assert_eq!(read("large-differs").len(), 40_000);
    fleet.hosts[2].write("new", "an edit like any other");
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[0].read("new"), "an edit like any other");
}

/// Trap T19: an equal folder, and an empty one, need no word; edits made later are edits.
#[test]
fn an_equal_folder_needs_no_word() {
    let mut fleet = Fleet::new(3);
    fleet.kill(2);
    for host in [0, 2] {
        fleet.hosts[host].write("same", "same");
        std::fs::create_dir(fleet.hosts[host].path("lost+found")).unwrap();
    }
    fleet.hosts[0].write("theirs", "theirs");
    fleet.look(0);
    fleet.settle();
    std::fs::remove_dir_all(fleet.hosts[2].state()).unwrap();
    std::fs::create_dir(fleet.hosts[2].state()).unwrap();
    fleet.hosts[2].brought = BroughtRule::Ask;
    fleet.start(2);
    fleet.settle();
    assert_eq!(fleet.hosts[2].read("theirs"), "theirs");
    fleet.hosts[2].write("new", "new");
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[0].read("new"), "new");
}

/// Trap T19: a node that is admitted anew over its own folder is asked nothing.
#[test]
fn a_node_that_comes_back_is_not_asked() {
    for way in [Way::Log, Way::State] {
        let mut fleet = Fleet::new(3);
        fleet.hosts[2].brought = BroughtRule::Ask;
        fleet.hosts[0].write("f", "one");
        fleet.look(0);
        fleet.settle();
        fleet.hosts[2].write("f", "edited while it was lost");
        fleet.readmit(2, way);
        fleet.converge();
        fleet.assert_same();
        assert!(fleet.hosts[0].tree().len() == 2, "{way:?}: a conflict copy, as ever");
    }
}

/// Trap T19: a node that joined with an empty folder and was killed soon after finds its adoption
/// under way still. What a user did in between was not brought along.
#[test]
fn a_node_that_is_killed_soon_after_it_joined_is_not_asked() {
    let mut fleet = Fleet::new(3);
    fleet.kill(2);
    for path in ["deleted", "edited", "renamed"] {
        fleet.hosts[0].write(path, path);
    }
    fleet.look(0);
    fleet.settle();
    let folder = fleet.hosts[2].path("");
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::create_dir(&folder).unwrap();
    std::fs::remove_dir_all(fleet.hosts[2].state()).unwrap();
    std::fs::create_dir(fleet.hosts[2].state()).unwrap();
    fleet.hosts[2].brought = BroughtRule::Ask;
    fleet.start(2);
    fleet.settle();
    assert_eq!(fleet.hosts[2].read("edited"), "edited");
    fleet.kill(2);
    fleet.hosts[2].write("edited", "while it was down");
    fleet.hosts[2].write("new", "made while it was down");
    std::fs::rename(folder.join("renamed"), folder.join("renamed to")).unwrap();
    std::fs::remove_file(folder.join("deleted")).unwrap();
    fleet.start(2);
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    let names: Vec<_> = fleet.hosts[0].tree().into_keys().collect();
    assert_eq!(names, ["edited", "new", "renamed to"]);
    assert_eq!(fleet.hosts[0].read("edited"), "while it was down");
}

/// A directory waits in quarantine for its name, with a change in it that nobody has read, and the
/// daemon is killed before it knows that its adoption is over: the next run does not wait for a look
/// at what only placing brings back.
#[test]
fn what_waits_outside_the_folder_does_not_hold_up_an_adoption() {
    let mut fleet = Fleet::new(2);
    std::fs::create_dir(fleet.hosts[1].path("d")).unwrap();
    share(&mut fleet, 1, "d/f", "one");
    fleet.kill(1);
    std::fs::remove_dir_all(fleet.hosts[1].state()).unwrap();
    std::fs::create_dir(fleet.hosts[1].state()).unwrap();
    fleet.hosts[1].brought = BroughtRule::Ask;
    fleet.start(1);
    fleet.settle();
    let engine = fleet.hosts[1].engine();
    assert!(!engine.is_asking() && engine.adoption.is_some());
    let id = engine.resolve_local(&rel("d")).unwrap().unwrap();
    let below = engine.resolve_local(&rel("d/f")).unwrap().unwrap();
    let row = engine.row(id).unwrap().unwrap();
    let kept = engine.quarantine_name(id, Some(&row.name));
    engine.set_aside(id, row, kept.clone()).unwrap();
    let mut row = engine.row(below).unwrap().unwrap();
    row.seen.as_mut().unwrap().body = None;
    engine.set_row(below, Some(&row)).unwrap();
    let away = fleet.hosts[1].state().join(format!("quarantine/{kept}"));
    std::fs::rename(fleet.hosts[1].path("d"), &away).unwrap();
    std::fs::write(away.join("f"), "two").unwrap();
    fleet.hosts[1].engine().flush_journal().unwrap();
    fleet.kill(1);
    fleet.start(1);
    fleet.hosts[1].engine().settle(below).unwrap();
    fleet.hosts[1].write("e", "another");
    fleet.settle();
    fleet.converge();
    fleet.assert_same();
    assert_eq!(fleet.hosts[0].read("d/f"), "two");
}
