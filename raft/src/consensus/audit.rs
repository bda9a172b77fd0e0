//! What was done to the members, with the log index: lines of the target `audit`, the same on every
//! node.

use std::sync::Arc;

use pickbox_raft_core::log::{Content, Entry};
use pickbox_raft_core::members::{Member, Members};

/// The members as they were audited last.
#[derive(Debug)]
pub(crate) struct Audit(Members);

impl Audit {
    pub(crate) fn new(committed: &Members) -> Self {
        Self(committed.clone())
    }

    /// Says what these entries make of the members.
    pub(crate) fn follow(&mut self, committed: &[Arc<Entry>]) {
        for entry in committed {
            if let Content::Members(members) = &entry.content {
                for line in differences(&self.0, members) {
                    log::info!(target: "audit", "{line} index={}", entry.index);
                }
                self.0.clone_from(members);
            }
        }
    }
}

/// A line for each thing that became of `before`. Tokens are named by their public half.
fn differences(before: &Members, after: &Members) -> Vec<String> {
    let mut lines = Vec::new();
    for member in &after.members {
        match before.get(member.id) {
            None => lines.push(format!("event=member_added {}", in_words(member))),
            Some(former) if former == member => {}
            Some(former) => {
                let what = if former.key == member.key { "member_changed" } else { "key_changed" };
                lines.push(format!("event={what} {}", in_words(member)));
            }
        }
    }
    let gone = before.members.iter().filter(|member| after.get(member.id).is_none());
    lines.extend(gone.map(|member| format!("event=member_removed {}", in_words(member))));
    for token in &after.tokens {
        if before.token(&token.public_key).is_none() {
            let name = token.name.as_deref().unwrap_or("-");
            let (id, by, over) = (token.id(), token.issued_by, token.expires_at);
            lines.push(format!("event=token_issued token={id} name={name} by={by} until={over}"));
        }
    }
    let used = before.tokens.iter().filter(|token| after.token(&token.public_key).is_none());
    lines.extend(used.map(|token| format!("event=token_gone token={}", token.id())));
    lines
}

fn in_words(member: &Member) -> String {
    let key = member.key.map_or_else(|| "-".to_owned(), |key| key.to_string());
    let Member { id, name, address, role, .. } = member;
    format!("id={id} name={name} address={address} role={role:?} key={key}")
}

#[cfg(test)]
mod tests {
    use pickbox_raft_core::event::{Change, Warrant};
    use pickbox_raft_core::ids::{Fingerprint, Index, NodeId};
    use pickbox_raft_core::members::JoinToken;

    use super::*;

    /// Whatever is done to members and tokens has its line.
    #[test]
    fn everything_done_to_the_members_has_a_line() {
        let mut members = Members::bootstrap("node1".into(), "host:1".into(), Fingerprint([1; 32]));
        let token = JoinToken {
            public_key: [7; 32],
            name: None,
            issued_at: 1,
            expires_at: 2,
            issued_by: NodeId::new(1),
        };
        let (key, two) = (Fingerprint([2; 32]), NodeId::new(2));
        let join = Change::Join {
            name: "node2".into(),
            address: "host:2".into(),
            key,
            warrant: Warrant::Token([7; 32]),
        };
        let address = "host:3".to_owned();
        for (change, words) in [
            (Change::IssueToken(token), &["event=token_issued token=0707070707070707"][..]),
            (join, &["event=member_added id=2 name=node2", "event=token_gone token=07"]),
            (Change::Rekey { id: two, key: Fingerprint([3; 32]) }, &["event=key_changed id=2"]),
            (Change::Readdress { id: two, address }, &["event=member_changed id=2"]),
            (Change::Remove(two), &["event=member_removed id=2 name=node2"]),
        ] {
            let after = members.changed(&change, Index::new(1), |_| false).unwrap().members;
            let lines = differences(&members, &after);
            assert_eq!(lines.len(), words.len(), "{lines:?}");
            for word in words {
                assert!(lines.iter().any(|line| line.starts_with(word)), "{lines:?}");
            }
            members = after;
        }
    }
}
