//! Whose things are: from the log's words to this disk and back.
//!
//! A row remembers in which words the owner of its thing was placed, together with the numbers that
//! the disk had then. While these numbers stay, so do the words: what a name means here may change,
//! a file system may know no owners, the daemon may not be let; none of that is a user's change.
//! Other numbers are one.

use super::Engine;
use crate::folder::{Accounts, Properties, Stat};
use crate::owner::OwnerRule;
use crate::placed::{Placed, Seen};
use crate::record::{Attributes, Body};

/// How long answers about accounts are believed.
const ACCOUNTS_MS: u64 = 60_000;

/// What this node does about owners.
#[derive(Debug)]
pub(super) struct Owners {
    pub(super) rule: OwnerRule,
    pub(super) accounts: Accounts,
    /// When the answers about accounts are too old.
    next_forget_ms: u64,
}

impl Owners {
    pub(super) fn by(rule: OwnerRule, accounts: Accounts) -> Self {
        Self { rule, accounts, next_forget_ms: 0 }
    }
}

impl Engine {
    /// What a look found, with its owner in words: those of the look before if that still holds.
    pub(super) fn seen(&mut self, stat: Stat, body: Option<Body>, before: Option<&Seen>) -> Seen {
        let owner = match (self.owners.rule, before) {
            (OwnerRule::Own, _) => None,
            (OwnerRule::Keep, Some(before)) if before.stat.ids() == stat.ids() => {
                before.owner.clone()
            }
            (OwnerRule::Keep, _) => self.owners.accounts.describe(stat.ids()),
        };
        let xattrs = before.map(|before| before.xattrs.clone()).unwrap_or_default();
        let shortfall = before.and_then(|before| before.shortfall.clone());
        Seen { stat, body, owner, xattrs, shortfall }
    }

    /// What is to be set on this disk for attributes of the log.
    pub(super) fn properties(&mut self, attributes: &Attributes) -> Properties {
        let Attributes { mode, mtime, owner, .. } = attributes;
        let owner = owner.as_ref().filter(|_| self.owners.rule == OwnerRule::Keep);
        Properties {
            mode: *mode,
            mtime: *mtime,
            owner: owner.map(|owner| self.owners.accounts.resolve(owner)),
        }
    }

    /// A row as it counts: to a node that does not keep owners there are none.
    pub(super) fn without_owner(&self, mut row: Placed) -> Placed {
        if self.owners.rule == OwnerRule::Own {
            if let Some(seen) = &mut row.seen {
                seen.owner = None;
            }
            if let Some(base) = &mut row.base {
                base.view.attributes.owner = None;
            }
        }
        row
    }

    /// Forgets what accounts were called when that is too old.
    pub(super) fn accounts_tick(&mut self) {
        if self.now_ms >= self.owners.next_forget_ms {
            self.owners.accounts.forget();
            self.owners.next_forget_ms = self.now_ms + ACCOUNTS_MS;
        }
    }
}
