//! What a directory holds is not known before it was listed where it is.

use std::fs;

use super::fleet::{Fleet, rel, share};
use crate::name::Name;
use crate::observation::{Hint, Observation, Place, Seen, Sighting};

fn left_out(fleet: &mut Fleet) -> Vec<String> {
    fleet.hosts[0].engine().left_out.iter().map(|(path, _)| path.to_string()).collect()
}

fn saw(path: &str, seen: Seen) -> Sighting {
    let (place, path, hint) = (Place::Folder, rel(path), Hint::SCANNED);
    Sighting::Saw(Observation { place, path, seen, hint })
}

fn mkdir(fleet: &mut Fleet, path: &str) {
    fs::create_dir_all(fleet.hosts[0].path(path)).unwrap();
    fleet.look(0);
    fleet.settle();
}

fn cannot_be_listed(fleet: &mut Fleet, path: &str) {
    let (dir, errno) = (rel(path), rustix::io::Errno::ACCESS);
    fleet.sight(0, Sighting::Unlisted { dir, errno });
    assert_eq!(left_out(fleet), [path]);
}

fn exchange(fleet: &Fleet, one: &str, other: &str) {
    let path = |name: &str| fleet.hosts[0].path(name);
    fs::rename(path(one), path("between")).unwrap();
    fs::rename(path(other), path(one)).unwrap();
    fs::rename(path("between"), path(other)).unwrap();
}

/// Trap T28: what a look tells that is older than a directory, or that failed, says nothing of what the
/// directory holds.
#[test]
fn a_stale_look_does_not_make_up_for_a_list() {
    let mut fleet = Fleet::new(1);
    std::os::unix::fs::symlink("there", fleet.hosts[0].path("d")).unwrap();
    let link = fleet.see(0, &rel("d")).unwrap();
    fs::remove_file(fleet.hosts[0].path("d")).unwrap();
    mkdir(&mut fleet, "d");
    cannot_be_listed(&mut fleet, "d");
    let errno = rustix::io::Errno::ACCESS;
    for look in [link, saw("d", Seen::Gone), saw("d", Seen::Unreadable(errno))] {
        fleet.tell(0, look);
        let now = fleet.see(0, &rel("d")).unwrap();
        fleet.tell(0, now);
        assert_eq!(left_out(&mut fleet), ["d"]);
    }
    fleet.sight(0, Sighting::Listed { dir: rel("d"), names: Vec::<Name>::new() });
    assert!(left_out(&mut fleet).is_empty());
}

/// What stands in the place of a directory that could not be listed needs no list.
#[test]
fn what_is_no_directory_any_more_is_not_waited_for() {
    for text in [None, Some("a file")] {
        let mut fleet = Fleet::new(1);
        mkdir(&mut fleet, "d");
        cannot_be_listed(&mut fleet, "d");
        fs::remove_dir(fleet.hosts[0].path("d")).unwrap();
        if let Some(text) = text {
            fleet.hosts[0].write("d", text);
        }
        let look = fleet.see(0, &rel("d")).unwrap();
        fleet.tell(0, look);
        assert!(left_out(&mut fleet).is_empty(), "{text:?}");
        fleet.settle();
        fleet.assert_same();
    }
}

/// Nor does what was below it.
#[test]
fn what_was_below_what_is_no_directory_any_more_is_not_waited_for() {
    let mut fleet = Fleet::new(1);
    share(&mut fleet, 0, "d", "a file");
    cannot_be_listed(&mut fleet, "d/x");
    fleet.tell(0, saw("d/x", Seen::ParentGone));
    assert!(left_out(&mut fleet).is_empty());
    cannot_be_listed(&mut fleet, "d/x");
    let look = fleet.see(0, &rel("d")).unwrap();
    fleet.tell(0, look);
    assert!(left_out(&mut fleet).is_empty());
}

/// Trap T3: a directory took the place of another one, which goes half a second later. What is left out
/// below is in the new one.
#[test]
fn a_directory_that_lost_its_name_takes_nothing_along() {
    let mut fleet = Fleet::new(1);
    mkdir(&mut fleet, "d");
    mkdir(&mut fleet, "e/x");
    cannot_be_listed(&mut fleet, "e/x");
    fs::remove_dir(fleet.hosts[0].path("d")).unwrap();
    fs::rename(fleet.hosts[0].path("e"), fleet.hosts[0].path("d")).unwrap();
    let look = fleet.see_moved(0, &rel("d")).unwrap();
    fleet.tell(0, look);
    assert_eq!(left_out(&mut fleet), ["d/x"]);
    fleet.settle();
    assert_eq!(left_out(&mut fleet), ["d/x"]);
    fleet.assert_same();
}

/// Trap T3: a directory was taken for a file, found at another name and moved on before it was listed there.
#[test]
fn a_directory_that_moves_on_before_it_is_listed_is_listed_where_it_goes() {
    let mut fleet = Fleet::new(1);
    mkdir(&mut fleet, "one/in");
    share(&mut fleet, 0, "one/in/file", "in there");
    share(&mut fleet, 0, "two", "a file");
    share(&mut fleet, 0, "three", "another file");
    exchange(&fleet, "one", "two");
    let looks = [fleet.see(0, &rel("one")), fleet.see_moved(0, &rel("two"))];
    for look in looks {
        fleet.tell(0, look.unwrap());
    }
    exchange(&fleet, "two", "three");
    let looks = [fleet.see_moved(0, &rel("three")), fleet.see(0, &rel("two"))];
    for look in looks {
        fleet.tell(0, look.unwrap());
    }
    fleet.settle();
    fleet.assert_same();
}
