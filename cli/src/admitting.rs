//! Orders about join tokens, and about this node's own key.

use std::time::{Duration, Instant};

use pickbox_admin::join_tokens::{JoinLine, TokenId as ShownId, TokenReport, TokenRequest};
use pickbox_admin::node::{Absent, NodeName};
use pickbox_admin::{Code, Refusal, Reply};
use pickbox_raft::Handle;
use pickbox_raft::api::{Change, MemberStatus, Status};
use pickbox_raft::clock;
use pickbox_raft::core::ids::{Fingerprint, TokenId};
use pickbox_raft::core::members::{JoinToken, Member};
use pickbox_raft::disk::{Disk, RealDisk};
use pickbox_raft::keys::{KeyError, KeyRing};
use pickbox_raft::token::Token;

use crate::wishes::{CHANGE, await_status, change, name_of, status};

/// What changes the key of this node.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) log: Handle,
    pub(crate) keys: KeyRing,
    pub(crate) disk: RealDisk,
}

impl Own {
    /// Makes, lists or ends join tokens.
    pub(crate) fn tokens(&self, request: TokenRequest) -> Result<Reply, Refusal> {
        match request {
            TokenRequest::Create { name, lifetime } => self.create(name.as_ref(), lifetime),
            TokenRequest::List => status(&self.log).map(|status| Reply::Tokens(list(&status))),
            TokenRequest::Revoke(id) => self.revoke(id),
        }
    }

    /// A new join token, which names this node. Its secret exists in this answer only.
    fn create(&self, name: Option<&NodeName>, lifetime: Duration) -> Result<Reply, Refusal> {
        let status = status(&self.log)?;
        let me = own_entry(&status)?;
        let key = self.keys.current().fingerprint();
        let token = Token::generate(me.address.clone(), key, status.cluster).map_err(|error| {
            Refusal::new(Code::Unsupported, format!("no random bytes: {error}"))
        })?;
        let now = clock::wall();
        let listed = JoinToken {
            public_key: token.public_key(),
            name: name.map(ToString::to_string),
            issued_at: now.as_secs(),
            expires_at: now.saturating_add(lifetime).as_secs(),
            issued_by: me.id,
        };
        let id = listed.id();
        change(&self.log, Change::IssueToken(listed))?;
        // The leader has it; who comes with it asks this node first.
        await_status(&self.log, |status| status.tokens.iter().any(|token| token.id() == id));
        Ok(Reply::Token(JoinLine(token.line())))
    }

    fn revoke(&self, id: ShownId) -> Result<Reply, Refusal> {
        change(&self.log, Change::RevokeToken(TokenId(id.0))).map(|_| Reply::Revoked(id))
    }

    /// Gives this node a new key. Each step is durable before the next one, and a step that was
    /// taken already is not taken again: asked for a second time it goes on where it stopped.
    pub(crate) fn rotate(&self, absent: Absent) -> Result<Reply, Refusal> {
        let status = status(&self.log)?;
        let me = own_entry(&status)?.id;
        if let (Absent::Refuse, Some(missing)) = (absent, unreached(&status)) {
            return Err(not_reached(missing));
        }
        let next = self.keys.prepare_next(&self.disk).map_err(|error| no_key(&error))?;
        let key = next.fingerprint();
        change(&self.log, Change::Rekey { id: me, key })?;
        if !self.await_in_force(key, clock::now() + CHANGE) {
            return Err(Refusal::new(
                Code::Unknown,
                "the members list the new key, but this node has not learned of it in time: it goes over to \
                 it by itself when it does; MEMBERS shows the key that is in force",
            ));
        }
        self.keys.settle(&self.disk).map_err(|error| not_settled(&error))?;
        Ok(Reply::KeyChanged(key.to_string()))
    }

    /// Waits until the log of this node has the key as the one in force.
    fn await_in_force(&self, key: Fingerprint, end: Instant) -> bool {
        let news = self.keys.news();
        while self.keys.current().fingerprint() != key {
            let left = end.saturating_duration_since(clock::now());
            if news.recv_timeout(left).is_err() {
                break;
            }
        }
        self.keys.current().fingerprint() == key
    }

    /// The log has put another key in force: the state directory is to say so too. A failure leaves
    /// both keys there, and the next start or change does it.
    pub(crate) fn settle(&self) {
        settle(&self.keys, &self.disk);
    }
}

fn settle<D: Disk>(keys: &KeyRing, disk: &D) {
    let key = keys.current().fingerprint();
    match keys.settle(disk) {
        Ok(()) => log::info!("event=key_in_force key={key}"),
        Err(error) => log::error!("event=key_not_settled key={key} error=\"{error}\""),
    }
}

fn own_entry(status: &Status) -> Result<&Member, Refusal> {
    let own = status.members.iter().find(|known| known.member.id == status.node);
    own.map(|known| &known.member).ok_or_else(|| {
        Refusal::new(
            Code::NotFound,
            "this node is no member (any more): ask one that is, MEMBERS lists them",
        )
    })
}

/// A member that was there once, and cannot be reached now.
fn unreached(status: &Status) -> Option<&Member> {
    let is_away = |known: &&MemberStatus| !known.connected && known.member.key.is_some();
    status.members.iter().find(is_away).map(|known| &known.member)
}

fn not_reached(Member { name, address, .. }: &Member) -> Refusal {
    let text = format!(
        "{name} at {address} cannot be reached, and if the others change their keys too before it is back, \
         it knows nobody any more: nothing was changed; start {name} again, or remove it, first. If the key \
         is stolen do not wait: ROTATE_KEY anyway (pickbox: --anyway)"
    );
    Refusal::new(Code::TooFew, text)
}

fn no_key(error: &KeyError) -> Refusal {
    let code = match error {
        KeyError::Disk(error) if error.is_full() => Code::NoSpace,
        _ => Code::Unsupported,
    };
    Refusal::new(code, format!("a new key cannot be stored: {error}; nothing was changed"))
}

fn not_settled(error: &KeyError) -> Refusal {
    let text = format!(
        "the new key is in force, but the file node.key still holds the former one: {error}; free some space \
         and do not remove node.key.next: the next start puts it in place"
    );
    Refusal::new(Code::Unknown, text)
}

/// The join tokens that still let somebody in.
fn list(status: &Status) -> Vec<TokenReport> {
    let now = clock::wall().as_secs();
    let report = |token: &JoinToken| {
        let seconds_left = token.expires_at.checked_sub(now).filter(|left| *left > 0)?;
        Some(TokenReport {
            token_id: token.id().to_string(),
            node_id: token.name.clone(),
            issued_by: name_of(token.issued_by, &status.members),
            seconds_left,
        })
    };
    status.tokens.iter().filter_map(report).collect()
}
