//! What a client says to the admin port.

use pickbox_admin::probe;

/// A short line limit is reached sooner.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// A stream of bytes; the first byte says in which pieces it comes.
pub(super) fn lines(bytes: &[u8]) {
    let Some((piece, stream)) = bytes.split_first() else { return };
    let _commands = probe::stream(stream, usize::from(*piece), LINE_BYTES_MAX);
}

/// Every command.
pub(super) fn examples() -> Vec<Vec<u8>> {
    let hash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let lines = [
        "STATUS".to_owned(),
        "status  JSON\r".to_owned(),
        "MEMBERS".to_owned(),
        "MEMBERS json".to_owned(),
        r#"FORWARD {"op":"write","path":"a/b","data":"aGVsbG8="}"#.to_owned(),
        format!(r#"FORWARD {{"op":"write","path":"a","data":"aGVsbG8","hash":"{hash}"}}"#),
        r#"FORWARD {"op":"delete","path":"caf\u0000e9","node_id":"web","sequence":7}"#.to_owned(),
        r#"FORWARD {"node_id":7,"op":"write","data":"","path":"\ud83d\ude00"}"#.to_owned(),
        "ADD_VOTER node4 127.0.0.1:8004".to_owned(),
        "ADD_LEARNER node4 [::1]:8004".to_owned(),
        "REMOVE node3".to_owned(),
        "REPLACE node3 node4 127.0.0.1:8004".to_owned(),
        "PROMOTE node4".to_owned(),
        "DEMOTE node4".to_owned(),
        "MOVE node4 host.example:8005".to_owned(),
        "TRANSFER".to_owned(),
        "TRANSFER node2".to_owned(),
        r"LOG a\x20b/c\n\\\'".to_owned(),
        "CAT a@b@12".to_owned(),
        "CAT +300000 a@12".to_owned(),
        format!("FIND {hash}"),
        "LOCAL LOG a".to_owned(),
        "TOKEN CREATE".to_owned(),
        "TOKEN CREATE for node4 ttl 30m".to_owned(),
        "TOKEN LIST json".to_owned(),
        "TOKEN REVOKE 0123456789abcdef".to_owned(),
        "ROTATE_KEY".to_owned(),
        "AUTH a-secret-of-sixteen".to_owned(),
        "SESSION".to_owned(),
        "HELP".to_owned(),
        "GET / HTTP/1.1".to_owned(),
    ];
    let all = lines.join("\n");
    let streams = lines.iter().chain([&all]);
    streams.map(|text| [&[32], text.as_bytes()].concat()).collect()
}
