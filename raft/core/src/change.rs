//! What a change makes of the members: a pure function of the list in force and of who is heard.

use alloc::string::String;
use alloc::vec::Vec;

use crate::event::{Aim, Change, ChangeRefusal, Warrant};
use crate::ids::{Fingerprint, Index, NodeId, TokenId};
use crate::limits::{DEPARTED_MAX, MEMBERS_MAX, NAME_BYTES_MAX, TOKENS_MAX};
use crate::members::{Departed, JoinToken, Member, MemberRole, Members};

/// The members as a change would have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// All of them. Equal to those in force when there is nothing to do.
    pub members: Members,
    /// The one that the change is about; one that goes as it was. Of a join token: the one where it
    /// was made, or the first if that is none any more.
    pub member: Member,
}

/// A node that asks to become a member, with what it has proved.
#[derive(Clone, Copy, Debug)]
struct Joiner<'a> {
    name: &'a str,
    address: &'a str,
    key: Fingerprint,
    warrant: Warrant,
}

impl Members {
    /// These members after `change`, to be appended at `at`, where `is_connected` says who is
    /// heard. Nothing is said of the way there: see [`Members::on_the_way_to`].
    ///
    /// # Errors
    /// What makes the order impossible or unsafe.
    pub fn changed(
        &self,
        change: &Change,
        at: Index,
        is_connected: impl Fn(NodeId) -> bool,
    ) -> Result<Changed, ChangeRefusal> {
        match change {
            Change::Add { name, address, aim } => self.added(name, address, *aim),
            Change::Join { name, address, key, warrant } => {
                let joiner = Joiner { name, address, key: *key, warrant: *warrant };
                self.joined(joiner, at, is_connected)
            }
            Change::Remove(id) => self.removed(*id, at),
            Change::Replace { old, name, address } => {
                self.replaced(*old, name, address, is_connected)
            }
            Change::Promote(id) => self.promised(*id),
            Change::Demote(id) => self.altered(*id, |member| member.role = MemberRole::Learner),
            Change::Readdress { id, address } => {
                check(address)?;
                self.check_free(|other| other.id != *id && other.address == *address)?;
                self.altered(*id, |member| member.address.clone_from(address))
            }
            Change::Rekey { id, key } => {
                self.check_free(|other| other.id != *id && other.key == Some(*key))?;
                let mut changed = self.altered(*id, |member| member.key = Some(*key))?;
                changed.members.departed.retain(|departed| departed.key != *key);
                Ok(changed)
            }
            Change::IssueToken(token) => self.with_token(token),
            Change::RevokeToken(id) => self.without_token(*id),
        }
    }

    fn added(&self, name: &str, address: &str, aim: Aim) -> Result<Changed, ChangeRefusal> {
        let known = self.members.iter().find(|m| m.name == name && m.address == address);
        match (known, aim) {
            (Some(member), Aim::Voter) => self.promised(member.id),
            (Some(member), Aim::Learner) => {
                Ok(Changed { members: self.clone(), member: member.clone() })
            }
            (None, Aim::Voter) => {
                self.grown(name, address, None, MemberRole::Staging { replaces: None })
            }
            (None, Aim::Learner) => self.grown(name, address, None, MemberRole::Learner),
        }
    }

    /// Whoever has the key of a member comes back as that one; the user of this host may bring
    /// whom they like; a token lets one node in, and under the name of a member that has a key
    /// only if it was made for that name.
    fn joined(
        &self,
        joiner: Joiner<'_>,
        at: Index,
        is_connected: impl Fn(NodeId) -> bool,
    ) -> Result<Changed, ChangeRefusal> {
        let Joiner { name, address, key, warrant } = joiner;
        self.check_free(|other| other.name != name && other.key == Some(key))?;
        let former = self.members.iter().find(|member| member.name == name);
        let is_listed = former.is_some_and(|former| former.key == Some(key));
        let mut next = self.clone();
        match warrant {
            Warrant::Listed if !is_listed => return Err(ChangeRefusal::NotListed),
            Warrant::Listed | Warrant::SameUser => {}
            Warrant::Token(public_key) => {
                let token = self.token(&public_key).ok_or(ChangeRefusal::NoSuchToken)?;
                let meant = token.name.as_deref();
                if let Some(other) = meant.filter(|meant| *meant != name) {
                    return Err(ChangeRefusal::TokenForOther(String::from(other)));
                }
                let takes_over = |former: &&Member| former.key.is_some() && !is_listed;
                if let Some(former) = former.filter(takes_over).filter(|_| meant.is_none()) {
                    return Err(ChangeRefusal::Taken(former.clone()));
                }
                next.tokens.retain(|token| token.public_key != public_key);
            }
        }
        let Some(former) = former else {
            return next.grown(name, address, Some(key), MemberRole::Staging { replaces: None });
        };
        if is_connected(former.id) {
            return Err(ChangeRefusal::Connected(former.clone()));
        }
        let role = match former.role {
            MemberRole::Learner => MemberRole::Learner,
            MemberRole::Voter => MemberRole::Staging { replaces: Some(former.id) },
            MemberRole::Staging { replaces } => MemberRole::Staging { replaces },
        };
        next.without(former.id, at).grown(name, address, Some(key), role)
    }

    /// Another node is listed in the place of `old`. It gets its key when it joins.
    fn replaced(
        &self,
        old: NodeId,
        name: &str,
        address: &str,
        is_connected: impl Fn(NodeId) -> bool,
    ) -> Result<Changed, ChangeRefusal> {
        let member = self.get(old).ok_or(ChangeRefusal::NoSuchMember(old))?;
        if member.name == name {
            return self.reserved(member, address, is_connected);
        }
        let role = MemberRole::Staging { replaces: Some(old) };
        let again = |m: &&Member| m.name == name && m.address == address && m.role == role;
        match self.members.iter().find(again) {
            Some(member) => Ok(Changed { members: self.clone(), member: member.clone() }),
            None => self.grown(name, address, None, role),
        }
    }

    /// The place of a member that is not connected is kept for a node that comes under its name
    /// with no state: by the same key, or with a token for that name.
    fn reserved(
        &self,
        former: &Member,
        address: &str,
        is_connected: impl Fn(NodeId) -> bool,
    ) -> Result<Changed, ChangeRefusal> {
        if is_connected(former.id) {
            return Err(ChangeRefusal::Connected(former.clone()));
        }
        let role = match former.role {
            MemberRole::Voter => MemberRole::Staging { replaces: Some(former.id) },
            other => other,
        };
        let mut next = self.clone();
        next.members.retain(|member| member.id != former.id);
        next.grown(&former.name, address, former.key, role)
    }

    fn removed(&self, id: NodeId, at: Index) -> Result<Changed, ChangeRefusal> {
        let member = self.get(id).ok_or(ChangeRefusal::NoSuchMember(id))?.clone();
        self.without(id, at).with_a_voter(member)
    }

    /// A learner is to become a voter.
    fn promised(&self, id: NodeId) -> Result<Changed, ChangeRefusal> {
        let aim = |role| match role {
            MemberRole::Learner => MemberRole::Staging { replaces: None },
            other => other,
        };
        self.altered(id, |member| member.role = aim(member.role))
    }

    /// Tokens that were over when this one was made go with it.
    fn with_token(&self, token: &JoinToken) -> Result<Changed, ChangeRefusal> {
        token.name.as_deref().map_or(Ok(()), check)?;
        let mut members = self.clone();
        members.tokens.retain(|other| {
            other.expires_at > token.issued_at && other.public_key != token.public_key
        });
        if members.tokens.len() >= TOKENS_MAX {
            return Err(ChangeRefusal::TooManyTokens);
        }
        members.tokens.push(token.clone());
        members.about(token.issued_by)
    }

    fn without_token(&self, id: TokenId) -> Result<Changed, ChangeRefusal> {
        let token = self.tokens.iter().find(|token| token.id() == id);
        let issued_by = token.ok_or(ChangeRefusal::NoSuchToken)?.issued_by;
        let mut members = self.clone();
        members.tokens.retain(|token| token.id() != id);
        members.about(issued_by)
    }

    fn about(self, id: NodeId) -> Result<Changed, ChangeRefusal> {
        let member = self.get(id).or_else(|| self.members.first()).cloned();
        let member = member.ok_or(ChangeRefusal::NoSuchMember(id))?;
        Ok(Changed { members: self, member })
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
    fn grown(
        &self,
        name: &str,
        address: &str,
        key: Option<Fingerprint>,
        role: MemberRole,
    ) -> Result<Changed, ChangeRefusal> {
        check(name)?;
        check(address)?;
        self.check_free(|other| other.name == name || other.address == address)?;
        if self.members.len() >= MEMBERS_MAX {
            return Err(ChangeRefusal::TooMany);
        }
        let mut members = self.clone();
        let id = members.next_id;
        let (name, address) = (String::from(name), String::from(address));
        let member = Member { id, name, address, role, key };
        members.members.push(member.clone());
        members.next_id = id.next();
        members.departed.retain(|departed| Some(departed.key) != key);
        members.with_a_voter(member)
    }

    /// These members without one of them, by the entry at `at`.
    fn without(&self, id: NodeId, at: Index) -> Self {
        let mut members = self.clone();
        members.members.retain(|member| member.id != id);
        if let Some(key) = self.get(id).and_then(|member| member.key) {
            let excess = (members.departed.len() + 1).saturating_sub(DEPARTED_MAX);
            members.departed.drain(..excess);
            members.departed.push(Departed { id, key, at });
        }
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
    pub(crate) fn promoted(&self, id: NodeId, at: Index) -> Option<Self> {
        let Some(MemberRole::Staging { replaces }) = self.get(id).map(|member| member.role) else {
            return None;
        };
        let mut members = replaces.map_or_else(|| self.clone(), |old| self.without(old, at));
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
        Self { outgoing_voters: Vec::new(), leaving: Vec::new(), ..self.clone() }
    }
}

fn check(text: &str) -> Result<(), ChangeRefusal> {
    let fits = !text.is_empty() && text.len() <= NAME_BYTES_MAX;
    if fits { Ok(()) } else { Err(ChangeRefusal::Invalid) }
}
