//! What a change makes of the members: a pure function of the list in force and of who is heard.

use alloc::string::String;

use crate::event::{Aim, Change, ChangeRefusal};
use crate::ids::NodeId;
use crate::limits::{MEMBERS_MAX, NAME_BYTES_MAX};
use crate::members::{Member, MemberRole, Members};

/// The members as a change would have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// All of them. Equal to those in force when there is nothing to do.
    pub members: Members,
    /// The one that the change is about; one that goes as it was.
    pub member: Member,
}

impl Members {
    /// These members after `change`, where `is_connected` says who is heard. Nothing is said of
    /// the way there: see [`Members::on_the_way_to`].
    ///
    /// # Errors
    /// What makes the order impossible or unsafe.
    pub fn changed(
        &self,
        change: &Change,
        is_connected: impl Fn(NodeId) -> bool,
    ) -> Result<Changed, ChangeRefusal> {
        match change {
            Change::Add { name, address, aim } => self.added(name, address, *aim),
            Change::Join { name, address } => self.joined(name, address, is_connected),
            Change::Remove(id) => self.removed(*id),
            Change::Replace { old, name, address } => {
                self.replaced(*old, name, address, is_connected)
            }
            Change::Promote(id) => {
                let aim = |role| match role {
                    MemberRole::Learner => MemberRole::Staging { replaces: None },
                    other => other,
                };
                self.altered(*id, |member| member.role = aim(member.role))
            }
            Change::Demote(id) => self.altered(*id, |member| member.role = MemberRole::Learner),
            Change::Readdress { id, address } => {
                check(address)?;
                self.check_free(|other| other.id != *id && other.address == *address)?;
                self.altered(*id, |member| member.address.clone_from(address))
            }
        }
    }

    fn added(&self, name: &str, address: &str, aim: Aim) -> Result<Changed, ChangeRefusal> {
        let known = self.members.iter().find(|m| m.name == name && m.address == address);
        match (known, aim) {
            (Some(member), Aim::Voter) => self.changed(&Change::Promote(member.id), |_| false),
            (Some(member), Aim::Learner) => {
                Ok(Changed { members: self.clone(), member: member.clone() })
            }
            (None, Aim::Voter) => self.grown(name, address, MemberRole::Staging { replaces: None }),
            (None, Aim::Learner) => self.grown(name, address, MemberRole::Learner),
        }
    }

    fn joined(
        &self,
        name: &str,
        address: &str,
        is_connected: impl Fn(NodeId) -> bool,
    ) -> Result<Changed, ChangeRefusal> {
        let Some(former) = self.members.iter().find(|member| member.name == name) else {
            return self.grown(name, address, MemberRole::Staging { replaces: None });
        };
        if is_connected(former.id) {
            return Err(ChangeRefusal::Connected(former.clone()));
        }
        let role = match former.role {
            MemberRole::Learner => MemberRole::Learner,
            MemberRole::Voter => MemberRole::Staging { replaces: Some(former.id) },
            MemberRole::Staging { replaces } => MemberRole::Staging { replaces },
        };
        self.without(former.id).grown(name, address, role)
    }

    fn replaced(
        &self,
        old: NodeId,
        name: &str,
        address: &str,
        is_connected: impl Fn(NodeId) -> bool,
    ) -> Result<Changed, ChangeRefusal> {
        let member = self.get(old).ok_or(ChangeRefusal::NoSuchMember(old))?;
        if member.name == name {
            return self.joined(name, address, is_connected);
        }
        let role = MemberRole::Staging { replaces: Some(old) };
        let again = |m: &&Member| m.name == name && m.address == address && m.role == role;
        match self.members.iter().find(again) {
            Some(member) => Ok(Changed { members: self.clone(), member: member.clone() }),
            None => self.grown(name, address, role),
        }
    }

    fn removed(&self, id: NodeId) -> Result<Changed, ChangeRefusal> {
        let member = self.get(id).ok_or(ChangeRefusal::NoSuchMember(id))?.clone();
        self.without(id).with_a_voter(member)
    }

    /// These members, one of them altered.
    fn altered(
        &self,
        id: NodeId,
        alter: impl FnOnce(&mut Member),
    ) -> Result<Changed, ChangeRefusal> {
        let mut members = self.clone();
        let found = members.members.iter_mut().find(|member| member.id == id);
        let member = found.ok_or(ChangeRefusal::NoSuchMember(id))?;
        alter(member);
        let member = member.clone();
        members.with_a_voter(member)
    }

    /// These members and a new one.
    fn grown(&self, name: &str, address: &str, role: MemberRole) -> Result<Changed, ChangeRefusal> {
        check(name)?;
        check(address)?;
        self.check_free(|other| other.name == name || other.address == address)?;
        if self.members.len() >= MEMBERS_MAX {
            return Err(ChangeRefusal::TooMany);
        }
        let mut members = self.clone();
        let id = members.next_id;
        let (name, address) = (String::from(name), String::from(address));
        let member = Member { id, name, address, role };
        members.members.push(member.clone());
        members.next_id = id.next();
        members.with_a_voter(member)
    }

    fn without(&self, id: NodeId) -> Self {
        let mut members = self.clone();
        members.members.retain(|member| member.id != id);
        members
    }

    fn with_a_voter(self, member: Member) -> Result<Changed, ChangeRefusal> {
        let has_voter = self.voters().next().is_some();
        if has_voter {
            Ok(Changed { members: self, member })
        } else {
            Err(ChangeRefusal::LastVoter)
        }
    }

    fn check_free(&self, is_taken: impl Fn(&Member) -> bool) -> Result<(), ChangeRefusal> {
        let taken = self.members.iter().find(|member| is_taken(member));
        taken.map_or(Ok(()), |member| Err(ChangeRefusal::Taken(member.clone())))
    }

    /// A learner that has caught up becomes a voter, and whom it replaces goes.
    pub(crate) fn promoted(&self, id: NodeId) -> Option<Self> {
        let Some(MemberRole::Staging { replaces }) = self.get(id).map(|member| member.role) else {
            return None;
        };
        let mut members = replaces.map_or_else(|| self.clone(), |old| self.without(old));
        let member = members.members.iter_mut().find(|member| member.id == id)?;
        member.role = MemberRole::Voter;
        Some(members)
    }

    /// The next list on the way from these members to `target`: both sets of voters together if
    /// they differ (thesis, 4.3), `target` itself if not.
    ///
    /// # Panics
    /// When either is such a step already: a change ends before the next one begins.
    #[must_use]
    pub fn on_the_way_to(&self, target: Self) -> Self {
        assert!(!self.is_joint() && !target.is_joint(), "one change at a time");
        if self.voters().eq(target.voters()) {
            return target;
        }
        let leaves = |member: &&Member| member.role.is_voter() && target.get(member.id).is_none();
        let leaving = self.members.iter().filter(leaves).cloned().collect();
        Self { outgoing_voters: self.voters().collect(), leaving, ..target }
    }

    /// These members once their change is over.
    pub(crate) fn settled(&self) -> Self {
        let (members, next_id, epoch) = (self.members.clone(), self.next_id, self.epoch);
        Self { members, next_id, epoch, ..Self::default() }
    }
}

fn check(text: &str) -> Result<(), ChangeRefusal> {
    let fits = !text.is_empty() && text.len() <= NAME_BYTES_MAX;
    if fits { Ok(()) } else { Err(ChangeRefusal::Invalid) }
}
