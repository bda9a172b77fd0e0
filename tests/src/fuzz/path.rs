//! Names and paths, however they come: as bytes, in a line, in JSON, in an entry.

use pickbox_admin::path_text::{from_json, from_line, to_json};
use pickbox_store::name::{Name, RelPath};

use super::world::{is_name, is_path};

/// Takes bytes for each of them.
pub(super) fn take(bytes: &[u8]) {
    assert_eq!(Name::new(bytes).is_ok(), is_name(bytes), "a name is what POSIX says");
    let path = RelPath::new(bytes);
    assert_eq!(path.is_ok(), is_path(bytes), "a path is names");
    path.iter().for_each(check);
    from_line(bytes).iter().for_each(check);
    if let Ok(text) = str::from_utf8(bytes) {
        from_json(text).iter().for_each(check);
    }
    if let Ok((name, rest)) = postcard::take_from_bytes::<Name>(bytes) {
        assert!(is_name(name.as_bytes()) && rest.len() < bytes.len(), "{name:?}");
        assert_eq!(again(&name), Some(name));
    }
    if let Ok((path, _)) = postcard::take_from_bytes::<RelPath>(bytes) {
        check(&path);
    }
}

fn again<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> Option<T> {
    postcard::from_bytes(&postcard::to_allocvec(value).ok()?).ok()
}

/// A path is one in every form, and made of its names.
fn check(path: &RelPath) {
    assert!(is_path(path.as_bytes()), "{path:?}");
    assert_eq!(from_line(path.to_string().as_bytes()).as_ref(), Ok(path), "in a line");
    assert_eq!(from_json(&to_json(path)).as_ref(), Ok(path), "in JSON");
    assert_eq!(again(path).as_ref(), Some(path), "in an entry");
    let line = path.to_string();
    assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line:?} can be shown");
    let names: Vec<Vec<u8>> = path.names().map(Vec::from).collect();
    assert_eq!(names.join(&b'/'), path.as_bytes(), "it is its names");
    if let Some((above, name)) = path.split() {
        assert!(path.is_within(&above) && !above.is_within(path), "it lies below");
        assert_eq!(above.join(&name), *path, "it is an entry of its directory");
    }
}

/// Paths, and what looks like some.
pub(super) fn examples() -> Vec<Vec<u8>> {
    let long = [b'x'; 255];
    let deep = b"d/".repeat(2047);
    let texts: [&[u8]; 18] = [
        b"",
        b"a",
        b"a/b/c",
        b"/a",
        b"a//b",
        b"a/",
        b".",
        b"a/../b",
        b"..a/.b",
        b"a\0b",
        b"caf\xe9\\",
        "caf\u{e9}/\u{1f600}".as_bytes(),
        br"a\x2fb\n\t\r\\\'",
        b"caf\x00e9",
        &long,
        b"\x03a/b",
        b" a \n",
        b"a\\x2e\\x2e/\\x00",
    ];
    let whole =
        [[&deep[..], b"x"].concat(), [&deep[..], b"xy"].concat(), [&long[..], b"x"].concat()];
    texts.iter().map(|text| text.to_vec()).chain(whole).collect()
}
