//! Who may do what: one table.
//!
//! Who a client is was found out when it was accepted (see [`crate::gate`]). What a command needs it says
//! itself: [`Command::needs`](crate::command::Command::needs) and
//! [`Request::needs`] know every command there is, so a new one does not compile until it says so.

use std::fmt;

use pickbox_raft::credentials::Uid;

use crate::node::{Code, Refusal, Request};

/// What a command needs its client to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing: it is how a client says who it is.
    Nothing,
    /// Somebody on this host: it tells how the node is, no name and no content of a file.
    Local,
    /// Somebody whom the folder is entrusted to: it reads names or contents, or changes something.
    Trust,
}

impl Request {
    /// What this needs.
    pub(crate) fn needs(&self) -> Need {
        match self {
            Self::Status => Need::Local,
            // The list of tokens too: who may be let in, and for how long, is the business of those
            // who decide it.
            Self::Forward(_)
            | Self::Change(_)
            | Self::Transfer(_)
            | Self::Token(_)
            | Self::RotateKey(_)
            | Self::Resolve { .. }
            // A flush and a wait read nothing and change nothing, but they name paths, and whoever
            // waits has a place for minutes.
            | Self::Flush { .. }
            | Self::Wait { .. }
            | Self::Read(..)
            | Self::Held
            | Self::Why(_)
            | Self::Decide(..) => Need::Trust,
        }
    }
}

/// Who a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// The user that runs this node, or root.
    Own(Uid),
    /// A user of the admin group.
    Member(Uid),
    /// Wherever it is, it said the token.
    Token,
    /// Another user of this host.
    Stranger(Uid),
    /// Somebody on this host whose socket is closed already, so that nobody knows whose it was.
    Gone,
    /// Somebody on this host, and the kernel does not tell who.
    Untold,
    /// Somebody elsewhere that has not said the token.
    Remote,
}

impl Caller {
    /// Whether the folder is entrusted to it.
    pub(crate) fn is_trusted(self) -> bool {
        match self {
            Self::Own(_) | Self::Member(_) | Self::Token => true,
            Self::Stranger(_) | Self::Gone | Self::Untold | Self::Remote => false,
        }
    }

    /// Whether it may do what needs this.
    pub(crate) fn may(self, need: Need) -> bool {
        match need {
            Need::Nothing => true,
            Need::Local => self != Self::Remote,
            Need::Trust => self.is_trusted(),
        }
    }

    /// Its user, if it has one that is known.
    fn uid(self) -> Option<Uid> {
        match self {
            Self::Own(uid) | Self::Member(uid) | Self::Stranger(uid) => Some(uid),
            Self::Token | Self::Gone | Self::Untold | Self::Remote => None,
        }
    }
}

/// For the audit: the uid, or why there is none.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.uid()) {
            (_, Some(uid)) => write!(f, "{uid}"),
            (Self::Token, _) => f.write_str("token"),
            (Self::Gone, _) => f.write_str("gone"),
            (Self::Remote, _) => f.write_str("remote"),
            _ => f.write_str("unknown"),
        }
    }
}

/// What is answered to somebody who may not: who may, who asked, and what to do. `what` is the command,
/// or another word for what is refused; `group` the admin group, if one was named.
pub(crate) fn denial(what: &str, caller: Caller, group: Option<&str>) -> Refusal {
    let own = rustix::process::geteuid();
    let people = match group {
        Some(group) => {
            format!("the user that runs this node (uid {own}), root and the group {group}")
        }
        None => format!("the user that runs this node (uid {own}) and root"),
    };
    let text = match caller {
        Caller::Gone => {
            "client went away: whose connection it was can be seen only while the client \
                         keeps it open (nc: without -q 0)"
                .to_owned()
        }
        Caller::Untold => format!(
            "{what} is for {people}, and this system does not tell who asks: use the unix socket \
             (pickbox --addr unix:STATE-DIR/admin.sock)"
        ),
        Caller::Remote => "say AUTH and the token first (pickbox --token-file FILE)".to_owned(),
        Caller::Stranger(_) | Caller::Own(_) | Caller::Member(_) | Caller::Token => {
            let advice = match group {
                Some(group) => format!(
                    "ask as one of them (sudo -u '#{own}'), or let root say: usermod -aG {group} USER"
                ),
                None => format!("ask as one of them (sudo -u '#{own}')"),
            };
            format!("{what} is for {people}; you are uid {caller}: {advice}")
        }
    };
    Refusal::new(Code::Denied, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command;

    const CALLERS: [Caller; 7] = [
        Caller::Own(Uid::ROOT),
        Caller::Member(Uid::from_raw_unchecked(1000)),
        Caller::Token,
        Caller::Stranger(Uid::from_raw_unchecked(65534)),
        Caller::Gone,
        Caller::Untold,
        Caller::Remote,
    ];

    /// Every command, with who may: a letter for each of [`CALLERS`] in their order, `-` for no.
    const TABLE: [(&str, &str); 35] = [
        ("STATUS", "omtsgu-"),
        ("STATUS json", "omtsgu-"),
        ("MEMBERS", "omtsgu-"),
        ("MEMBERS json", "omtsgu-"),
        ("HELP", "omtsgu-"),
        ("SESSION", "omtsgu-"),
        ("AUTH 0123456789abcdef", "omtsgur"),
        (r#"FORWARD {"op":"delete","path":"a"}"#, "omt----"),
        ("ADD_VOTER node4 127.0.0.1:8004", "omt----"),
        ("ADD_LEARNER node4 127.0.0.1:8004", "omt----"),
        ("REMOVE node1", "omt----"),
        ("REPLACE node1 node2 127.0.0.1:8004", "omt----"),
        ("PROMOTE node1", "omt----"),
        ("DEMOTE node1", "omt----"),
        ("MOVE node1 127.0.0.1:8004", "omt----"),
        ("TRANSFER", "omt----"),
        ("TOKEN CREATE for node4 ttl 1h", "omt----"),
        ("TOKEN LIST", "omt----"),
        ("TOKEN LIST json", "omt----"),
        ("TOKEN REVOKE 0123456789abcdef", "omt----"),
        ("ROTATE_KEY", "omt----"),
        ("LOG a", "omt----"),
        ("CAT a@1", "omt----"),
        ("FIND e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "omt----"),
        ("LOCAL LOG a", "omt----"),
        ("CONFLICTS", "omt----"),
        ("RESOLVE both a", "omt----"),
        ("FLUSH", "omt----"),
        ("WHY a", "omt----"),
        ("WAIT", "omt----"),
        ("WAIT 7 all timeout 5", "omt----"),
        ("HELD", "omt----"),
        ("HELD json", "omt----"),
        ("APPROVE node1-1", "omt----"),
        ("REJECT all", "omt----"),
    ];

    /// Source: fault 91 and the design of the admin port: reading how a node is is open to this host,
    /// everything else is for its user, root, the group, and who says the token.
    #[test]
    fn who_may_do_what() {
        for (line, who) in TABLE {
            let command = command::parse(line.as_bytes()).unwrap();
            assert!(line.contains(command.word()), "{line}: {}", command.word());
            for (caller, letter) in CALLERS.into_iter().zip(who.chars()) {
                assert_eq!(caller.may(command.needs()), letter != '-', "{line}: {caller:?}");
            }
        }
    }

    /// Every word of `HELP` is in the table.
    #[test]
    fn the_table_knows_every_command() {
        let is_word = |word: &&str| {
            word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
        };
        let lines = crate::answer::HELP.lines().skip(1);
        for word in lines.filter_map(|line| line.split(' ').next().filter(is_word)) {
            assert!(TABLE.iter().any(|(line, _)| line.split(' ').next() == Some(word)), "{word}");
        }
    }

    #[test]
    fn a_denial_says_who_may_and_what_to_do() {
        let own = rustix::process::geteuid();
        let text = |caller, group| denial("REMOVE", caller, group).to_string();
        let stranger = Caller::Stranger(Uid::from_raw(65534));
        assert_eq!(
            text(stranger, Some("pickbox")),
            format!(
                "denied: REMOVE is for the user that runs this node (uid {own}), root and the group \
                 pickbox; you are uid 65534: ask as one of them (sudo -u '#{own}'), or let root say: \
                 usermod -aG pickbox USER"
            )
        );
        assert!(!text(stranger, None).contains("group"));
        assert!(text(Caller::Gone, None).starts_with("denied: client went away"));
        assert!(text(Caller::Untold, None).contains("unix:"));
        assert!(text(Caller::Remote, None).contains("AUTH"));
    }
}
