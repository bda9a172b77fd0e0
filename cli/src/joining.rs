//! Whom a node asks to let it in, and what it shows for that.

use std::io::{self, Read as _};
use std::path::Path;

use pickbox_raft::disk::Disk;
use pickbox_raft::join::Seed;
use pickbox_raft::keys::{KeyError, KeyRing};
use pickbox_raft::token::{LINE_BYTES_MAX, Token};
use zeroize::Zeroizing;

use crate::daemon::AnyError;
use crate::options::{DaemonOptions, Entry};
use crate::secret_file;

/// The members that the command line names, and the join token.
pub(crate) fn seeds(options: &DaemonOptions) -> Result<(Vec<Seed>, Option<Token>), AnyError> {
    let token = token(options)?;
    Ok((seeds_with(options, token.as_ref()), token))
}

/// The join token. It is read here and nowhere else: only a node that joins needs it, and its file may
/// be gone afterwards.
pub(crate) fn token(options: &DaemonOptions) -> Result<Option<Token>, AnyError> {
    options.token_file.as_deref().map(read_token).transpose()
}

/// The members that the command line and this token name.
pub(crate) fn seeds_with(options: &DaemonOptions, token: Option<&Token>) -> Vec<Seed> {
    let Entry::Join(address) = &options.entry else { return Vec::new() };
    let named = address.as_ref().map(|address| Seed { address: address.to_string(), key: None });
    let of_token = token.map(|token| {
        let (address, key) = (token.address.clone(), Some(token.key));
        Seed { address, key }
    });
    let mut seeds: Vec<Seed> = of_token.into_iter().chain(named).collect();
    // Asked first where it was told to.
    seeds.reverse();
    if let [first, second] = &seeds[..]
        && first.address == second.address
    {
        seeds.remove(0);
    }
    seeds
}

/// Reads a join token; `-` is standard input.
fn read_token(path: &Path) -> Result<Token, AnyError> {
    let line = if path == Path::new("-") { from_stdin()? } else { secret_file::read(path)? };
    let line = Zeroizing::new(line);
    let token = str::from_utf8(&line).ok().and_then(Token::parse);
    token.ok_or_else(|| {
        format!(
            "{} holds no join token, or not the whole of one: bring over the one line that `pickbox token \
             create` printed",
            path.display()
        )
        .into()
    })
}

fn from_stdin() -> Result<Vec<u8>, AnyError> {
    let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX) + 1;
    let mut line = Vec::new();
    let read = io::stdin().lock().take(limit).read_to_end(&mut line);
    read.map_err(|error| format!("cannot read the join token from standard input: {error}"))?;
    Ok(line)
}

/// The keys of this node. One that has state must have them already: with others no member would
/// know it.
pub(crate) fn keys<D: Disk>(
    disk: &D,
    has_state: bool,
    is_rejoining: bool,
) -> Result<KeyRing, KeyError> {
    if has_state && !is_rejoining {
        return KeyRing::load(disk)?.ok_or(KeyError::Missing);
    }
    KeyRing::load_or_create(disk)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use pickbox_raft::core::ids::{ClusterId, Fingerprint};
    use pickbox_raft::disk::sim::SimDisk;

    use super::*;

    /// A token is read whole, from a file with or without a line end; what is none is said.
    #[test]
    fn a_token_is_read_from_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let (key, cluster) = (Fingerprint([1; 32]), ClusterId([2; 16]));
        let token = Token::generate("127.0.0.1:8001".into(), key, cluster).unwrap();
        std::fs::write(&path, format!("{}\n", *token.line())).unwrap();
        assert!(
            read_token(&path).unwrap_err().to_string().contains("chmod 600"),
            "others can read it"
        );
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_token(&path).unwrap().public_key(), token.public_key());
        std::fs::write(&path, &token.line()[..90]).unwrap();
        assert!(read_token(&path).unwrap_err().to_string().contains("token create"));
        std::fs::write(&path, "x".repeat(100_000)).unwrap();
        assert!(read_token(&path).is_err());
        let missing = read_token(&directory.path().join("none")).unwrap_err().to_string();
        assert!(missing.contains("Cannot read"), "{missing}");
    }

    /// fault 69: a node that has state and no key is told so; one that joins anew gets one.
    #[test]
    fn a_key_is_never_made_for_a_node_that_has_state() {
        let disk = SimDisk::new();
        assert!(matches!(keys(&disk, true, false), Err(KeyError::Missing)));
        let made = keys(&disk, true, true).unwrap().current().fingerprint();
        assert_eq!(keys(&disk, true, false).unwrap().current().fingerprint(), made);
    }
}
