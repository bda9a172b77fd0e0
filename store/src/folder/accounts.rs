//! Users and groups of this host: from the log's words to numbers, and back.
//!
//! Asked of a [`NameService`]: the system's (`getpwnam_r(3)` and its kin), which may be a directory
//! server, or a process that asks that. Answers are kept until [`Accounts::forget`].

use std::collections::HashMap;
use std::fmt;
use std::io;

use nix::unistd::{Gid, Group, Uid, User};

use crate::owner::{Account, Ids, Owner};

/// Answers kept of each kind; when there are more, all are asked for anew.
const ANSWERS_MAX: usize = 4096;

/// Which of the two tables of accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Of {
    /// Users.
    Users,
    /// Groups.
    Groups,
}

/// Who knows the accounts of this host.
pub trait NameService: fmt::Debug + Send {
    /// The name of a number, if it has one.
    ///
    /// # Errors
    /// When there is no answer, which is not the answer that there is no name.
    fn name(&mut self, of: Of, id: u32) -> io::Result<Option<String>>;

    /// The number of a name, if there is an account of that name.
    ///
    /// # Errors
    /// As [`NameService::name`].
    fn id(&mut self, of: Of, name: &str) -> io::Result<Option<u32>>;
}

/// The system's, asked by this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnNameService;

impl NameService for OwnNameService {
    fn name(&mut self, of: Of, id: u32) -> io::Result<Option<String>> {
        Ok(match of {
            Of::Users => User::from_uid(Uid::from_raw(id))?.map(|user| user.name),
            Of::Groups => Group::from_gid(Gid::from_raw(id))?.map(|group| group.name),
        })
    }

    fn id(&mut self, of: Of, name: &str) -> io::Result<Option<u32>> {
        Ok(match of {
            Of::Users => User::from_name(name)?.map(|user| user.uid.as_raw()),
            Of::Groups => Group::from_name(name)?.map(|group| group.gid.as_raw()),
        })
    }
}

/// The accounts of this host, as far as they were asked for.
#[derive(Debug)]
pub struct Accounts {
    names: HashMap<(Of, u32), Account>,
    ids: HashMap<(Of, String), Option<u32>>,
    service: Box<dyn NameService>,
}

impl Default for Accounts {
    fn default() -> Self {
        Self::known_to(Box::new(OwnNameService))
    }
}

/// Accounts of a host that is not this one: (name, number), alike for users and groups.
#[cfg(test)]
#[derive(Debug)]
struct MadeUp(Vec<(String, u32)>);

#[cfg(test)]
impl NameService for MadeUp {
    fn name(&mut self, _: Of, id: u32) -> io::Result<Option<String>> {
        Ok(self.0.iter().find(|known| known.1 == id).map(|known| known.0.clone()))
    }

    fn id(&mut self, _: Of, name: &str) -> io::Result<Option<u32>> {
        Ok(self.0.iter().find(|known| known.0 == name).map(|known| known.1))
    }
}

impl Accounts {
    /// Those that this service knows.
    #[must_use]
    pub fn known_to(service: Box<dyn NameService>) -> Self {
        Self { names: HashMap::new(), ids: HashMap::new(), service }
    }

    /// Those of another host, for tests.
    #[cfg(test)]
    pub(crate) fn made_up(accounts: &[(&str, u32)]) -> Self {
        let all = accounts.iter().map(|(name, id)| ((*name).to_owned(), *id)).collect();
        Self::known_to(Box::new(MadeUp(all)))
    }

    /// What others shall call this owner: name and number, without a name where there is none.
    #[must_use]
    pub fn describe(&mut self, ids: Ids) -> Option<Owner> {
        let user = self.account(Of::Users, ids.uid)?;
        let group = self.account(Of::Groups, ids.gid)?;
        Some(Owner { user, group })
    }

    /// What an owner is called here: by name if there is one of that name, else by number.
    #[must_use]
    pub fn resolve(&mut self, owner: &Owner) -> Ids {
        Ids { uid: self.id(Of::Users, &owner.user), gid: self.id(Of::Groups, &owner.group) }
    }

    /// Forgets all answers: accounts come and go.
    pub fn forget(&mut self) {
        self.names.clear();
        self.ids.clear();
    }

    fn account(&mut self, of: Of, id: u32) -> Option<Account> {
        if let Some(known) = self.names.get(&(of, id)) {
            return Some(known.clone());
        }
        let asked = self.service.name(of, id);
        let is_answer = asked.is_ok();
        let name = asked.ok().flatten().unwrap_or_default();
        let account = Account::new(name, id).or_else(|| Account::new(String::new(), id))?;
        if is_answer {
            make_room(&mut self.names);
            self.names.insert((of, id), account.clone());
        }
        Some(account)
    }

    fn id(&mut self, of: Of, account: &Account) -> u32 {
        if account.name().is_empty() {
            return account.id();
        }
        let key = (of, account.name().to_owned());
        if let Some(known) = self.ids.get(&key) {
            return known.unwrap_or(account.id());
        }
        match self.service.id(of, account.name()) {
            Ok(found) => {
                make_room(&mut self.ids);
                self.ids.insert(key, found);
                found.unwrap_or(account.id())
            }
            Err(error) => {
                log::warn!("event=account_unknown account=\"{account}\" error=\"{error}\"");
                account.id()
            }
        }
    }
}

fn make_room<K, V>(answers: &mut HashMap<K, V>) {
    if answers.len() >= ANSWERS_MAX {
        answers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str, id: u32) -> Owner {
        let account = Account::new(name.to_owned(), id).unwrap();
        Owner { user: account.clone(), group: account }
    }

    /// Source: the security design: owners by name, then by number.
    #[test]
    fn a_name_counts_before_a_number() {
        let mut here = Accounts::made_up(&[("alice", 2000), ("bob", 1000)]);
        let ids = |id| Ids { uid: id, gid: id };
        assert_eq!(here.resolve(&owner("alice", 1000)), ids(2000), "not bob's");
        assert_eq!(here.resolve(&owner("carol", 1001)), ids(1001), "nobody has that name");
        assert_eq!(here.resolve(&owner("", 7)), ids(7));
        assert_eq!(here.describe(ids(1000)), Some(owner("bob", 1000)));
        assert_eq!(here.describe(ids(1)), Some(owner("", 1)));
        assert_eq!(here.describe(ids(u32::MAX)), None);
    }

    #[test]
    fn answers_are_kept_until_they_are_forgotten() {
        let mut here = Accounts::made_up(&[("alice", 2000)]);
        let ids = |id| Ids { uid: id, gid: id };
        assert_eq!(here.resolve(&owner("bob", 5)), ids(5));
        here.service = Box::new(MadeUp(vec![("bob".to_owned(), 6)]));
        assert_eq!(here.resolve(&owner("bob", 5)), ids(5));
        here.forget();
        assert_eq!(here.resolve(&owner("bob", 5)), ids(6));
        assert_eq!(here.describe(ids(6)), Some(owner("bob", 6)));
    }

    /// The system's own tables: the name of number 0 leads back to it.
    #[test]
    fn the_accounts_of_the_system_are_found() {
        let mut here = Accounts::default();
        let root = here.describe(Ids { uid: 0, gid: 0 }).unwrap();
        assert_eq!((root.user.name(), root.user.id()), ("root", 0));
        assert_eq!(here.resolve(&owner("root", 12345)).uid, 0);
        assert_eq!(here.resolve(&owner("no-such-account", 12345)).uid, 12345);
    }
}
