//! How editors and tools save: a new file that takes the place of the old one (trap T8).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::site::Site;
use super::writer::Writer;

/// Saves a file in one of the ways that programs have.
pub(super) fn save(writer: &mut Writer<'_>, path: &Path) -> (&'static str, io::Result<()>) {
    match writer.random.between(0, 6) {
        0 | 1 => ("save by rename", by_rename(writer, path)),
        2 => ("save as vim", as_vim(writer, path)),
        3 => ("save as emacs", as_emacs(writer, path)),
        4 => ("save as git", as_git(writer, path)),
        5 => ("save as rsync", as_rsync(writer, path)),
        _ => ("save by link", by_link(writer, path)),
    }
}

fn beside(path: &Path, prefix: &str, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // A name of at most 255 bytes; copies of copies have long ones.
    let name: String = name.chars().take(120).collect();
    path.with_file_name(format!("{prefix}{name}{suffix}"))
}

/// A whole new file.
fn write(writer: &mut Writer<'_>, path: &Path, what: &'static str) -> io::Result<()> {
    let size = writer.size();
    let bytes = writer.fresh(0, size);
    let mut file = writer.site.create(path, what)?;
    file.write_at(0, &bytes)?;
    file.close()
}

/// Moves one over the other; what stood there is destroyed.
fn over(site: &Site, from: &Path, to: &Path, what: &'static str) -> io::Result<()> {
    let done = site.taking(to, what, || fs::rename(from, to));
    if done.is_err() {
        remove(site, from, what);
    }
    done
}

/// A temporary file that is not needed any more, if it is still there.
fn remove(site: &Site, path: &Path, what: &'static str) {
    let _ = site.taking(path, what, || fs::remove_file(path));
}

fn by_rename(writer: &mut Writer<'_>, path: &Path) -> io::Result<()> {
    let number = writer.random.between(100_000, 999_999);
    let temporary = beside(path, ".", &format!(".{number}.tmp"));
    write(writer, &temporary, "save by rename")?;
    over(writer.site, &temporary, path, "save by rename")
}

/// `backupcopy=no` with a backup that goes in the end: the file is renamed away and written anew.
fn as_vim(writer: &mut Writer<'_>, path: &Path) -> io::Result<()> {
    let what = "save as vim";
    let probe = path.with_file_name("4913");
    write(writer, &probe, what)?;
    writer.site.taking(&probe, what, || fs::remove_file(&probe))?;
    let swap = beside(path, ".", ".swp");
    write(writer, &swap, what)?;
    let backup = beside(path, "", "~");
    let kept = writer.site.taking(&backup, what, || fs::rename(path, &backup));
    let written = kept.and_then(|()| write(writer, path, what));
    if written.is_ok() && writer.random.per_mille(700) {
        remove(writer.site, &backup, what);
    }
    remove(writer.site, &swap, what);
    written
}

/// A lock that points nowhere, an autosaved file, the backup by rename.
fn as_emacs(writer: &mut Writer<'_>, path: &Path) -> io::Result<()> {
    let what = "save as emacs";
    let lock = beside(path, ".#", "");
    std::os::unix::fs::symlink("somebody@somewhere.1234:1700000000", &lock)?;
    let autosaved = beside(path, "#", "#");
    let work = write(writer, &autosaved, what).and_then(|()| {
        let backup = beside(path, "", "~");
        writer.site.taking(&backup, what, || fs::rename(path, &backup))?;
        write(writer, path, what)
    });
    remove(writer.site, &autosaved, what);
    let _ = fs::remove_file(&lock);
    work
}

/// A lock file that is the new content.
fn as_git(writer: &mut Writer<'_>, path: &Path) -> io::Result<()> {
    let lock = beside(path, "", ".lock");
    write(writer, &lock, "save as git")?;
    over(writer.site, &lock, path, "save as git")
}

/// A temporary file that gets its mode and time before its name.
fn as_rsync(writer: &mut Writer<'_>, path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let number = writer.random.between(100_000, 999_999);
    let temporary = beside(path, ".", &format!(".{number}"));
    write(writer, &temporary, "save as rsync")?;
    let attributes = || {
        let file = fs::File::open(&temporary)?;
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000))?;
        file.set_permissions(fs::Permissions::from_mode(0o640))
    };
    if let Err(error) = attributes() {
        remove(writer.site, &temporary, "save as rsync");
        return Err(error);
    }
    over(writer.site, &temporary, path, "save as rsync")
}

/// The backup is a second name of the old file.
fn by_link(writer: &mut Writer<'_>, path: &Path) -> io::Result<()> {
    let what = "save by link";
    let backup = beside(path, "", ".old");
    writer.site.moving(|| fs::hard_link(path, &backup))?;
    let temporary = beside(path, ".", ".new");
    let done =
        write(writer, &temporary, what).and_then(|()| over(writer.site, &temporary, path, what));
    remove(writer.site, &backup, what);
    done
}
