//! The line that lets a node join, as somebody copied it; and the message by which it asks.

use pickbox_raft::net::probe;
use pickbox_raft::token::{LINE_BYTES_MAX, Token};

/// Takes bytes for such a line.
pub(super) fn line(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Some(token) = Token::parse(text) else { return };
    let line = token.line();
    assert_eq!(line.as_str(), text.trim(), "one token has one form");
    assert!(line.len() <= LINE_BYTES_MAX, "{} bytes", line.len());
    let again = Token::parse(&line).map(|again| again.public_key());
    assert_eq!(again, Some(token.public_key()), "what was written can be read");
    // An address may happen to be the secret too.
    let (public, secret) = line.rsplit_once('/').unwrap_or_default();
    let shown = format!("{token:?}");
    assert!(public.contains(secret) || !shown.contains(secret), "the secret is not shown");
}

/// Lines that are right but for one thing.
pub(super) fn lines() -> Vec<Vec<u8>> {
    let hex = |digit: &str, count: usize| digit.repeat(count);
    let (key, cluster) = (hex("ab", 32), hex("0f", 16));
    let line = |address: &str, secret: &str| {
        format!("pickbox-join-1/{address}/{key}/{cluster}/{secret}").into_bytes()
    };
    let secret = hex("5e", 16);
    vec![
        line("10.0.0.1:8001", &secret),
        line("[2001:db8::1]:8001", &format!("{secret}\n")),
        line("host.example:8001", &hex("5E", 16)),
        line("", &secret),
        line(&"x".repeat(256), &secret),
        line("a b", &secret),
        line("a", &hex("5e", 15)),
        line("a", &format!("{secret}/")),
        b"pickbox-join-2/a/b/c/d".to_vec(),
    ]
}

/// Takes bytes for a request to join. Shorter ones are filled up with zeros, as its fields are.
pub(super) fn request(bytes: &[u8]) {
    let mut whole = bytes.to_vec();
    whole.resize(probe::join_request_example().len().max(bytes.len()), 0);
    let _is_one = probe::join_request(&whole);
}

/// One that is, and its parts.
pub(super) fn requests() -> Vec<Vec<u8>> {
    let whole = probe::join_request_example();
    let cuts = [8, 24, 56, 120, 121, 126, 185, 187];
    let part = |cut: usize| whole.get(..cut).unwrap_or_default().to_vec();
    cuts.into_iter().map(part).chain([whole.clone()]).collect()
}
