//! Whose files are, on hosts that call their users by other numbers, and on hosts that may not give
//! files away. These need root, and say so where they have not got it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};

use super::fleet::{Fleet, share};
use crate::engine::ports::{Answer, Query};
use crate::folder::Accounts;
use crate::owner::OwnerRule;
use crate::owner::OwnerRule::{Keep, Own};

/// Hosts by these rules; the first two call alice 1000 and 2000. `None` without root.
fn fleet(rules: &[OwnerRule]) -> Option<Fleet> {
    if !rustix::process::geteuid().is_root() {
        println!("giving files away needs root");
        return None;
    }
    let mut fleet = Fleet::new(u64::try_from(rules.len()).unwrap());
    let hosts: [&[(&str, u32)]; 3] = [
        &[("root", 0), ("alice", 1000), ("staff", 50)],
        &[("root", 0), ("alice", 2000), ("bob", 1000), ("staff", 51)],
        &[("root", 0)],
    ];
    for (at, rule) in rules.iter().enumerate() {
        fleet.kill(at);
        let accounts = hosts[at].iter().map(|(name, id)| ((*name).to_owned(), *id));
        fleet.hosts[at].accounts = Some(accounts.collect());
        fleet.hosts[at].owner_rule = *rule;
        fleet.start(at);
    }
    fleet.settle();
    Some(fleet)
}

impl Fleet {
    fn owner(&self, at: usize, path: &str) -> (u32, u32) {
        let meta = self.hosts[at].path(path).symlink_metadata().unwrap();
        (meta.uid(), meta.gid())
    }

    fn owners(&self, path: &str) -> Vec<(u32, u32)> {
        (0..self.hosts.len()).map(|at| self.owner(at, path)).collect()
    }

    /// Gives a file to others on one host, and lets everybody see it.
    fn give_away(&mut self, at: usize, path: &str, owner: (u32, u32)) {
        lchown(self.hosts[at].path(path), Some(owner.0), Some(owner.1)).unwrap();
        self.look(at);
        self.settle();
    }

    /// Nothing is left to say, however often everybody looks.
    fn assert_quiet(&mut self) {
        self.converge();
        self.assert_same();
        let before = self.log_len();
        self.converge();
        assert_eq!(self.log_len(), before, "somebody goes on proposing");
    }
}

/// Source: the security design: owners are kept by name, then by number.
#[test]
fn an_owner_is_a_name_first_and_a_number_else() {
    let Some(mut fleet) = fleet(&[Keep, Keep, Keep]) else { return };
    fs::create_dir(fleet.hosts[0].path("d")).unwrap();
    chown(fleet.hosts[0].path("d"), Some(1000), Some(50)).unwrap();
    fleet.hosts[0].write("d/f", "alice's");
    chown(fleet.hosts[0].path("d/f"), Some(1000), Some(50)).unwrap();
    symlink("f", fleet.hosts[0].path("d/l")).unwrap();
    lchown(fleet.hosts[0].path("d/l"), Some(1000), Some(50)).unwrap();
    fleet.look(0);
    fleet.settle();
    for path in ["d", "d/f", "d/l"] {
        assert_eq!(fleet.owners(path), [(1000, 50), (2000, 51), (1000, 50)], "{path}");
    }
    fleet.assert_quiet();
    // An edit elsewhere by the same user, by way of a new inode as editors do.
    fleet.hosts[1].write("new", "hers too");
    chown(fleet.hosts[1].path("new"), Some(2000), Some(51)).unwrap();
    fs::rename(fleet.hosts[1].path("new"), fleet.hosts[1].path("d/f")).unwrap();
    fleet.look(1);
    fleet.settle();
    assert_eq!(fleet.hosts[2].read("d/f"), "hers too");
    assert_eq!(fleet.owners("d/f"), [(1000, 50), (2000, 51), (1000, 50)]);
    fleet.assert_quiet();
    // A number without a name means that number.
    fleet.give_away(0, "d/f", (4444, 0));
    assert_eq!(fleet.owners("d/f"), [(4444, 0); 3]);
    fleet.assert_quiet();
}

/// Source: the security design: an owner is versioned with the attributes, the last in the log wins,
/// and nobody gets a conflict copy.
#[test]
fn the_last_owner_in_the_log_wins_without_a_copy() {
    let Some(mut fleet) = fleet(&[Keep, Keep, Keep]) else { return };
    share(&mut fleet, 0, "f", "one");
    for (at, uid) in [(0, 1000), (1, 1000)] {
        chown(fleet.hosts[at].path("f"), Some(uid), None).unwrap();
        fleet.look(at);
    }
    fs::write(fleet.hosts[2].path("f"), "two").unwrap();
    fleet.look(2);
    fleet.settle();
    fleet.assert_quiet();
    assert_eq!(fleet.hosts[0].tree().len(), 1, "no copy");
    assert_eq!(fleet.hosts[0].read("f"), "two");
    let owners: Vec<_> = fleet.owners("f").into_iter().map(|(uid, _)| uid).collect();
    let all = [[1000, 2000, 1000], [1000, 1000, 1000], [0, 0, 0]];
    assert!(all.iter().any(|one| owners == one), "one of the three, everywhere: {owners:?}");
    // A mode changed here does not take back an owner changed there.
    fleet.give_away(0, "f", (1000, 50));
    chown(fleet.hosts[0].path("f"), Some(4444), None).unwrap();
    fs::set_permissions(fleet.hosts[1].path("f"), PermissionsExt::from_mode(0o640)).unwrap();
    fleet.look(0);
    fleet.look(1);
    fleet.settle();
    fleet.assert_quiet();
    assert_eq!(fleet.owners("f"), [(4444, 50), (4444, 51), (4444, 50)]);
    assert_eq!(fleet.hosts[2].tree()["f"].split(' ').nth(1), Some("640"));
}

/// Source: the security design: an unprivileged node neither proposes owners that it was forced to
/// choose nor undoes those of others.
#[test]
fn a_node_that_keeps_no_owners_leaves_those_of_others_alone() {
    let Some(mut fleet) = fleet(&[Keep, Own, Keep]) else { return };
    share(&mut fleet, 0, "f", "one");
    fleet.give_away(0, "f", (1000, 50));
    assert_eq!(fleet.owners("f"), [(1000, 50), (0, 0), (1000, 50)]);
    fleet.assert_quiet();
    // Content, mode and a new inode there: the owner stays everywhere else.
    share(&mut fleet, 1, "f", "two");
    fs::set_permissions(fleet.hosts[1].path("f"), PermissionsExt::from_mode(0o600)).unwrap();
    share(&mut fleet, 1, "new", "three");
    fs::rename(fleet.hosts[1].path("new"), fleet.hosts[1].path("f")).unwrap();
    fleet.look(1);
    fleet.settle();
    assert_eq!(fleet.hosts[2].read("f"), "three");
    assert_eq!(fleet.owners("f"), [(1000, 50), (0, 0), (1000, 50)]);
    // Whatever stands there, it is nobody's affair but its own.
    fleet.give_away(1, "f", (7777, 7777));
    assert_eq!(fleet.owners("f"), [(1000, 50), (7777, 7777), (1000, 50)]);
    share(&mut fleet, 1, "made there", "whose?");
    fleet.give_away(1, "made there", (7777, 7777));
    assert_eq!(fleet.owners("made there"), [(0, 0), (7777, 7777), (0, 0)]);
    let put = Query::Put { path: super::fleet::rel("put"), data: b"by a program".to_vec() };
    assert!(matches!(fleet.ask(0, put), Answer::Committed(_)));
    assert_eq!(fleet.owners("put"), [(0, 0); 3]);
    fleet.assert_quiet();
    // Who keeps them says whose it is, as soon as somebody changes that.
    fleet.give_away(2, "made there", (1234, 0));
    assert_eq!(fleet.owners("made there"), [(1234, 0), (7777, 7777), (1234, 0)]);
    fleet.assert_quiet();
    // From now on it keeps them too: what it was kept from is made up for.
    fleet.kill(1);
    fleet.hosts[1].owner_rule = Keep;
    fleet.start(1);
    fleet.settle();
    assert_eq!(fleet.owner(1, "f"), (2000, 51));
    assert_eq!(fleet.owner(1, "made there"), (1234, 0));
    fleet.assert_quiet();
}

/// What a name stands for on a host is that host's affair, also when it changes: no user did that.
#[test]
fn an_account_that_comes_later_is_no_edit() {
    let Some(mut fleet) = fleet(&[Keep, Keep]) else { return };
    fleet.hosts[1].accounts = Some(Vec::new());
    fleet.hosts[1].engine().owners.accounts = Accounts::made_up(&[]);
    share(&mut fleet, 0, "f", "one");
    fleet.give_away(0, "f", (1000, 50));
    assert_eq!(fleet.owner(1, "f"), (1000, 50), "by number: nobody is called alice");
    let before = fleet.log_len();
    let now = vec![("alice".to_owned(), 3000), ("carol".to_owned(), 1000)];
    fleet.hosts[1].accounts = Some(now);
    fleet.hosts[1].engine().owners.accounts =
        Accounts::made_up(&[("alice", 3000), ("carol", 1000)]);
    fs::File::open(fleet.hosts[1].path("f")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    fleet.look(1);
    fleet.settle();
    assert_eq!(fleet.owners("f"), [(1000, 50); 2], "alice's still");
    fleet.assert_quiet();
    assert_eq!(fleet.log_len(), before + 1, "the time, and nothing else");
    share(&mut fleet, 0, "f", "two");
    assert_eq!(fleet.owner(1, "f"), (3000, 50), "a new version goes by the name");
    fleet.assert_quiet();
}

/// Trap T14: shared folders live on set-group-id directories: neither a chmod nor a new owner
/// takes the bit; of files nothing of the kind is left.
#[test]
fn a_set_group_id_directory_changes_hands_whole() {
    let Some(mut fleet) = fleet(&[Keep, Keep]) else { return };
    let dir = fleet.hosts[0].path("d");
    fs::create_dir(&dir).unwrap();
    chown(&dir, Some(1000), Some(50)).unwrap();
    fs::set_permissions(&dir, PermissionsExt::from_mode(0o2575)).unwrap();
    let file = fleet.hosts[0].path("f");
    fs::write(&file, "#!").unwrap();
    chown(&file, Some(1000), Some(50)).unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o6755)).unwrap();
    fleet.look(0);
    fleet.settle();
    let mode = |fleet: &Fleet, path: &str| {
        fs::metadata(fleet.hosts[1].path(path)).unwrap().mode() & 0o7777
    };
    assert_eq!((fleet.owner(1, "d"), mode(&fleet, "d")), ((2000, 51), 0o2575));
    assert_eq!((fleet.owner(1, "f"), mode(&fleet, "f")), ((2000, 51), 0o755));
    fleet.give_away(0, "d", (0, 4444));
    assert_eq!((fleet.owner(1, "d"), mode(&fleet, "d")), ((0, 4444), 0o2575));
    fs::set_permissions(&dir, PermissionsExt::from_mode(0o3777)).unwrap();
    fleet.look(0);
    fleet.settle();
    assert_eq!((fleet.owner(1, "d"), mode(&fleet, "d")), ((0, 4444), 0o3777));
    fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    fleet.assert_quiet();
}
