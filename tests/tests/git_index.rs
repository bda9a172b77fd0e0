//! The index of git as git itself writes it, where git is there (trap T20).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use pickbox_store::git_index::checked_out;

fn git(directory: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .current_dir(directory)
        .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// What git itself says is what is read, in each version and by each hash; without git nothing is
/// shown.
#[test]
fn an_index_of_git_is_read_as_git_reads_it() {
    for format in ["sha1", "sha256"] {
        let top = tempfile::tempdir().unwrap();
        let top = top.path();
        if git(top, &["init", "-q", &format!("--object-format={format}")]).is_none() {
            return;
        }
        let long = format!("long/{}/{}", "n".repeat(250), "m".repeat(250));
        for path in ["a", "b/c", "b/cd", "b/é", "zz/1", "zz/22", "zz/333", &long] {
            let path = top.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, path.as_os_str().as_encoded_bytes()).unwrap();
        }
        git(top, &["add", "-A"]).unwrap();
        let own = git(top, &["ls-files", "-z"]).unwrap();
        let own: Vec<&[u8]> =
            own.split('\0').filter(|path| !path.is_empty()).map(str::as_bytes).collect();
        assert_eq!(own.len(), 8);
        for version in ["2", "3", "4"] {
            git(top, &["update-index", "--index-version", version]).unwrap();
            let bytes = std::fs::read(top.join(".git/index")).unwrap();
            assert_eq!(checked_out(&bytes, <[u8]>::to_vec).unwrap(), own, "{format} {version}");
        }
        // As sparse-checkout does.
        git(top, &["update-index", "--skip-worktree", "b/c"]).unwrap();
        let bytes = std::fs::read(top.join(".git/index")).unwrap();
        let found = checked_out(&bytes, <[u8]>::to_vec).unwrap();
        assert!(found.len() == 7 && !found.contains(&b"b/c".to_vec()));
        git(top, &["update-index", "--split-index"]).unwrap();
        let bytes = std::fs::read(top.join(".git/index")).unwrap();
        assert_eq!(checked_out(&bytes, <[u8]>::len), None, "the rest stands in another file");
    }
}
