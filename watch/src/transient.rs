//! Names that programs give to files which live for a moment (trap T8).
//!
//! They are delayed, never excluded: people also have files that are called so.

/// Whether a name looks like one of a passing file.
pub(crate) fn is_transient(name: &[u8]) -> bool {
    is_vim_probe(name)
        || is_rsync_part(name)
        || is_sed_part(name)
        || GIT_LOCKS.contains(&name)
        || ENDS.iter().any(|end| name.ends_with(end) && name.len() > end.len())
        || BEGINS.iter().any(|begin| name.starts_with(begin) && name.len() > begin.len())
        || (name.starts_with(b"#") && name.ends_with(b"#") && name.len() > 2)
}

/// vim swap and backup files, downloads.
const ENDS: [&[u8]; 8] =
    [b"~", b".swp", b".swo", b".swx", b".tmp", b".part", b".crdownload", b".filepart"];

/// What git writes and renames a moment later. Not every `.lock`: `Cargo.lock` lasts.
const GIT_LOCKS: [&[u8]; 7] = [
    b"index.lock",
    b"HEAD.lock",
    b"ORIG_HEAD.lock",
    b"config.lock",
    b"packed-refs.lock",
    b"main.lock",
    b"master.lock",
];

/// locks of emacs and offices, files in the making of GNOME, leftovers of NFS clients.
const BEGINS: [&[u8]; 5] = [b".#", b".~lock.", b"~$", b".goutputstream-", b".nfs"];

/// vim tries whether it can make files by `4913`, and 123 more each time that name is taken.
fn is_vim_probe(name: &[u8]) -> bool {
    let number = std::str::from_utf8(name).ok().and_then(|text| text.parse::<u32>().ok());
    number.is_some_and(|n| (4913..10_000).contains(&n) && (n - 4913) % 123 == 0)
}

/// rsync writes `x` as `.x.AbC123`.
fn is_rsync_part(name: &[u8]) -> bool {
    let Some((rest, tail)) = name.len().checked_sub(7).and_then(|at| name.split_at_checked(at))
    else {
        return false;
    };
    rest.len() > 1
        && rest.starts_with(b".")
        && tail.first() == Some(&b'.')
        && tail.iter().skip(1).all(u8::is_ascii_alphanumeric)
        // `.config.backup` has such a shape too; mkstemp's letters nearly always mix.
        && tail.iter().any(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
}

/// `sed -i` writes `sedAbC123`.
fn is_sed_part(name: &[u8]) -> bool {
    name.strip_prefix(b"sed").is_some_and(|tail| {
        tail.len() == 6
            && tail.iter().all(u8::is_ascii_alphanumeric)
            && tail.iter().any(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// trap T8
    #[test]
    fn passing_files_of_known_programs_are_told_from_lasting_ones() {
        let passing = [
            "4913",
            "5036",
            ".f.swp",
            "f~",
            ".#f",
            "#f#",
            ".~lock.f.odt#",
            ".f.AbC123",
            "index.lock",
            "sedq7XkZ2",
            ".goutputstream-X1",
            "f.part",
        ];
        for name in passing {
            assert!(is_transient(name.as_bytes()), "{name}");
        }
        let lasting = [
            "4914",
            "f",
            ".bashrc",
            "~",
            ".swp",
            "Cargo.toml",
            ".config.backup",
            "sediment",
            "#",
            "a.b.c",
            "Cargo.lock",
            ".a",
            "lock",
            "f.conflict-2-7",
        ];
        for name in lasting {
            assert!(!is_transient(name.as_bytes()), "{name}");
        }
    }
}
