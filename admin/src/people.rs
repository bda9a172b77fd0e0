//! The admin group: its users may do what the node's own user may.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::time::{Duration, Instant};

use nix::unistd::{Group, User, getgrouplist};
use pickbox_raft::credentials::{Uid, is_self_or_root};

use crate::authority::Caller;

/// How long an answer of the user database holds: a group that may live on a server of the network
/// must not be asked for each connection.
const KNOWN_FOR: Duration = Duration::from_secs(30);
/// Users that are remembered.
const KNOWN_MAX: usize = 256;

/// Whom the folder is entrusted to.
#[derive(Debug)]
pub(crate) struct People {
    group: Option<String>,
    known: BTreeMap<u32, (Instant, bool)>,
    ask: fn(u32, &str) -> bool,
}

impl People {
    /// The users of this group; of none but oneself and root, if it has no name or there is none.
    pub(crate) fn new(group: Option<String>) -> Self {
        Self { group, known: BTreeMap::new(), ask: is_member }
    }

    /// The name of the group.
    pub(crate) fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    /// What a user of this host is here.
    pub(crate) fn caller(&mut self, uid: Uid, now: Instant) -> Caller {
        if is_self_or_root(uid) {
            Caller::Own(uid)
        } else if self.is_member(uid.as_raw(), now) {
            Caller::Member(uid)
        } else {
            Caller::Stranger(uid)
        }
    }

    fn is_member(&mut self, uid: u32, now: Instant) -> bool {
        let Some(group) = &self.group else { return false };
        match self.known.get(&uid) {
            Some((asked, known)) if now.saturating_duration_since(*asked) < KNOWN_FOR => *known,
            _ => {
                let is_member = (self.ask)(uid, group);
                if self.known.len() >= KNOWN_MAX {
                    self.known.clear();
                }
                self.known.insert(uid, (now, is_member));
                is_member
            }
        }
    }
}

/// Whether a user is in a group, by its primary group or as a further one (`getgrouplist(3)`). What
/// cannot be found out is no.
fn is_member(uid: u32, group: &str) -> bool {
    let found = || {
        let group = Group::from_name(group).ok()??;
        let user = User::from_uid(uid.into()).ok()??;
        let name = CString::new(user.name).ok()?;
        let all = getgrouplist(&name, user.gid).ok()?;
        Some(all.contains(&group.gid))
    };
    found().unwrap_or(false)
}

/// The number of a group; `None` if there is none of that name.
pub(crate) fn group_number(name: &str) -> Option<u32> {
    Group::from_name(name).ok()?.map(|group| group.gid.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pickbox_raft::clock;

    /// Nobody's number on any system that this runs on.
    const STRANGER: u32 = 3_999_999_999;

    fn own() -> Uid {
        rustix::process::geteuid()
    }

    #[test]
    fn oneself_and_root_are_trusted_without_a_group() {
        for group in [None, Some("no-such-group-here".to_owned())] {
            let mut people = People::new(group);
            let now = clock::now();
            assert_eq!(people.caller(own(), now), Caller::Own(own()));
            assert_eq!(people.caller(Uid::ROOT, now), Caller::Own(Uid::ROOT));
            let stranger = Uid::from_raw(STRANGER);
            assert_eq!(people.caller(stranger, now), Caller::Stranger(stranger));
        }
    }

    /// Source: the `passwd(5)` of every system: each user has a primary group.
    #[test]
    fn a_user_is_in_its_primary_group() {
        let Some(daemon) = User::from_name("daemon").unwrap() else {
            println!("no user daemon here: nothing is shown");
            return;
        };
        let group = Group::from_gid(daemon.gid).unwrap().unwrap().name;
        assert!(is_member(daemon.uid.as_raw(), &group));
        assert!(!is_member(daemon.uid.as_raw(), "no-such-group-here"));
        assert!(!is_member(STRANGER, &group));
    }

    /// Source: `group(5)`: the fourth field names those who are in it besides.
    #[test]
    fn a_user_is_in_its_further_groups() {
        let text = std::fs::read_to_string("/etc/group").unwrap();
        let listed = text.lines().find_map(|line| {
            let mut fields = line.split(':');
            let group = fields.next()?.to_owned();
            let user = User::from_name(fields.nth(2)?.split(',').next()?).unwrap()?;
            Some((group, user))
        });
        let Some((group, user)) = listed else {
            println!("no group here has a further user: nothing is shown");
            return;
        };
        assert!(is_member(user.uid.as_raw(), &group));
    }

    #[test]
    fn the_user_database_is_asked_once_in_a_while() {
        use std::cell::Cell;
        thread_local! { static ASKED: Cell<usize> = const { Cell::new(0) }; }
        let asked = || ASKED.with(Cell::get);
        let mut people = People::new(Some("pickbox".to_owned()));
        people.ask = |uid, group| {
            ASKED.with(|asked| asked.set(asked.get() + 1));
            uid == STRANGER && group == "pickbox"
        };
        let (now, stranger) = (clock::now(), Uid::from_raw(STRANGER));
        for _ in 0..10 {
            assert_eq!(people.caller(stranger, now), Caller::Member(stranger));
        }
        assert_eq!(asked(), 1);
        people.caller(stranger, now + KNOWN_FOR);
        assert_eq!(asked(), 2);
        people.caller(own(), now);
        assert_eq!(asked(), 2, "oneself needs no group");
        for uid in 0..2 * u32::try_from(KNOWN_MAX).unwrap() {
            people.caller(Uid::from_raw(1_000_000 + uid), now);
        }
        assert!(people.known.len() <= KNOWN_MAX);
    }
}
