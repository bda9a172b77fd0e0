//! `TOKEN`: lines of text that let one node each become a member. See `pickbox_raft::token`.

use std::fmt;
use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::node::{Code, NodeName, Refusal};
use crate::path_text::hex_byte;

/// How long a join token lets somebody in, unless told otherwise.
pub const LIFETIME_DEFAULT: Duration = Duration::from_hours(1);
/// Shorter ones would be over before they are brought over.
pub const LIFETIME_MIN: Duration = Duration::from_mins(1);
/// Longer ones would be forgotten while they still let somebody in.
pub const LIFETIME_MAX: Duration = Duration::from_hours(24);

const _: () = assert!(
    LIFETIME_MIN.as_secs() <= LIFETIME_DEFAULT.as_secs()
        && LIFETIME_DEFAULT.as_secs() <= LIFETIME_MAX.as_secs()
);

/// What a token is called, shown as 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenId(pub [u8; 8]);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What is asked about join tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenRequest {
    /// Make one; answered when it is committed.
    Create {
        /// The only name under which it lets a node in; `None`: under any that is free.
        name: Option<NodeName>,
        /// From [`LIFETIME_MIN`] to [`LIFETIME_MAX`].
        lifetime: Duration,
    },
    /// Which there are.
    List,
    /// End one; answered when it is committed.
    Revoke(TokenId),
}

/// The line that lets a node in. It is written to the client and shown nowhere else.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinLine(pub Zeroizing<String>);

impl fmt::Debug for JoinLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinLine")
    }
}

/// One join token that is not over, without its secret. As JSON its fields keep these names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenReport {
    /// What it is called, 16 hex digits.
    pub token_id: String,
    /// The only name under which it lets a node in, if it was made for one.
    pub node_id: Option<String>,
    /// The name of the member where it was made.
    pub issued_by: String,
    /// For how many more seconds it lets a node in, by the clock of the node that was asked.
    pub seconds_left: u64,
}

impl fmt::Display for TokenReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { token_id, node_id, issued_by, seconds_left } = self;
        let name = node_id.as_deref().unwrap_or("-");
        write!(f, "token.{token_id}: for {name} issued_by {issued_by} seconds_left {seconds_left}")
    }
}

/// All lines of `TOKEN LIST`.
pub(crate) fn list_text(tokens: &[TokenReport]) -> String {
    let mut text = format!("OK  {} join tokens\n", tokens.len());
    for token in tokens {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{token}");
    }
    text
}

/// Reads what follows `TOKEN CREATE`.
pub(crate) fn parse_create(words: &[&str]) -> Result<TokenRequest, Refusal> {
    let usage = || {
        bad("say TOKEN CREATE [for NAME] [ttl DURATION], such as TOKEN CREATE for node4 ttl 30m")
    };
    let (mut name, mut lifetime) = (None, None);
    let (pairs, rest) = words.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(usage());
    }
    for [word, value] in pairs {
        if word.eq_ignore_ascii_case("for") && name.is_none() {
            name = Some(parse_name(value)?);
        } else if word.eq_ignore_ascii_case("ttl") && lifetime.is_none() {
            lifetime = Some(parse_lifetime(value)?);
        } else {
            return Err(usage());
        }
    }
    Ok(TokenRequest::Create { name, lifetime: lifetime.unwrap_or(LIFETIME_DEFAULT) })
}

/// Reads what follows `TOKEN REVOKE`.
pub(crate) fn parse_revoke(words: &[&str]) -> Result<TokenRequest, Refusal> {
    let id = match words {
        [id] => parse_id(id),
        _ => None,
    };
    let usage = "say TOKEN REVOKE and the 16 hex digits that TOKEN LIST shows";
    id.map(TokenRequest::Revoke).ok_or_else(|| bad(usage))
}

fn parse_id(text: &str) -> Option<TokenId> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes: Option<Vec<u8>> = pairs.iter().map(|pair| hex_byte(pair)).collect();
    let id = bytes?.try_into().ok()?;
    rest.is_empty().then_some(TokenId(id))
}

fn parse_name(text: &str) -> Result<NodeName, Refusal> {
    NodeName::parse(text).ok_or_else(|| {
        bad("for: a name has 1-64 letters, digits, dots, underscores or dashes, no dot or dash first")
    })
}

fn parse_lifetime(text: &str) -> Result<Duration, Refusal> {
    let shape = || bad("ttl: a number and s, m or h, such as 90s, 30m or 2h");
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(shape)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        _ => return Err(shape()),
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    if !is_number {
        return Err(shape());
    }
    let seconds = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    let lifetime = seconds.map(Duration::from_secs);
    lifetime.filter(|lifetime| (LIFETIME_MIN..=LIFETIME_MAX).contains(lifetime)).ok_or_else(|| {
        bad("ttl: from 1m to 24h: a shorter one is over before it is brought over, a longer one is forgotten")
    })
}

fn bad(text: &str) -> Refusal {
    Refusal::new(Code::BadRequest, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(words: &str) -> Result<(Option<String>, u64), Refusal> {
        let words: Vec<&str> = words.split_ascii_whitespace().collect();
        match parse_create(&words)? {
            TokenRequest::Create { name, lifetime } => {
                Ok((name.map(|name| name.to_string()), lifetime.as_secs()))
            }
            other => panic!("{other:?}"),
        }
    }

    /// Source: fault 93: a token has an end, and not a far one.
    #[test]
    fn a_token_ends_within_a_day() {
        let node4 = || Some("node4".to_owned());
        assert_eq!(create(""), Ok((None, 3600)));
        assert_eq!(create("for node4"), Ok((node4(), 3600)));
        assert_eq!(create("ttl 60s"), Ok((None, 60)));
        assert_eq!(create("TTL 1440m FOR node4"), Ok((node4(), 24 * 3600)));
        for wrong in [
            "for",
            "node4",
            "ttl",
            "ttl 60",
            "ttl h",
            "ttl -1h",
            "ttl +1h",
            "ttl 59s",
            "ttl 0h",
            "ttl 25h",
            "ttl 1441m",
            "ttl 1\u{e9}",
            "ttl 99999999999999999999h",
            "ttl 18446744073709551615h",
            "ttl 1h ttl 1h",
            "for a for b",
            "for ../a",
            "for node4 1h",
        ] {
            assert_eq!(create(wrong).unwrap_err().code, Code::BadRequest, "{wrong}");
        }
    }

    #[test]
    fn a_token_is_named_as_it_is_listed() {
        let id = TokenId([0, 0x1f, 2, 3, 4, 5, 6, 0xff]);
        assert_eq!(parse_revoke(&[&id.to_string()]), Ok(TokenRequest::Revoke(id)));
        for wrong in ["", "00", "001f0203040506f", "001f0203040506ff00", "001f0203040506fg"] {
            assert!(parse_revoke(&[wrong]).is_err(), "{wrong}");
        }
        assert!(parse_revoke(&[]).is_err());
    }

    #[test]
    fn tokens_are_listed_a_line_each() {
        let report = TokenReport {
            token_id: "001f0203040506ff".to_owned(),
            node_id: None,
            issued_by: "node1".to_owned(),
            seconds_left: 59,
        };
        assert_eq!(
            list_text(&[report]),
            "OK  1 join tokens\ntoken.001f0203040506ff: for - issued_by node1 seconds_left 59\n"
        );
    }

    /// fault 90: what is logged of an answer has no secret in it.
    #[test]
    fn a_line_is_not_shown() {
        let line = JoinLine(Zeroizing::new("the secret".to_owned()));
        assert!(!format!("{line:?}").contains("secret"));
    }
}
