//! What is done with names: renames, deletions, directories, links, modes.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink as link_to};
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::site::Site;
use super::writer::Writer;

pub(super) fn rename(writer: &mut Writer<'_>, from: &Path, to: &Path) -> io::Result<()> {
    if writer.random.per_mille(500) {
        return move_by(writer, from, to, RenameFlags::NOREPLACE);
    }
    replace(writer, from, to)
}

fn move_by(writer: &Writer<'_>, from: &Path, to: &Path, flags: RenameFlags) -> io::Result<()> {
    let call = || renameat_with(CWD, from, CWD, to, flags).map_err(io::Error::from);
    writer.site.moving(call)
}

fn same_inode(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let inode = |path: &Path| path.symlink_metadata().map(|metadata| metadata.ino()).ok();
    inode(one).is_some_and(|found| Some(found) == inode(other))
}

/// Two names change their files in one call: whatever they are.
pub(super) fn swap(writer: &mut Writer<'_>, one: &Path, other: &Path) -> io::Result<()> {
    let directory = writer.directory();
    let other = if writer.random.per_mille(100) { directory.as_path() } else { other };
    move_by(writer, one, other, RenameFlags::EXCHANGE)
}

pub(super) fn delete(writer: &mut Writer<'_>, path: &Path) -> io::Result<()> {
    writer.site.taking(path, "delete", || fs::remove_file(path))
}

/// One of what people do with directories.
pub(super) fn directories(writer: &mut Writer<'_>) -> (&'static str, io::Result<()>) {
    let (one, other) = (writer.directory(), writer.directory());
    match writer.random.between(0, 9) {
        0..4 => ("mkdir", fs::create_dir_all(&one)),
        // Whoever removes the folder itself ends the node.
        4 if one != writer.site.folder => ("rmdir", fs::remove_dir(&one)),
        5 => ("rm -r", remove_all(writer.site, &one)),
        6 => ("chmod directory", change_directory_mode(writer, &one)),
        7 if other != writer.site.folder => ("rename directory", replace(writer, &one, &other)),
        8 => {
            let number = writer.random.between(0, 2);
            let aside = writer.site.folder.join(format!("moved{number}"));
            ("rename directory", replace(writer, &one, &aside))
        }
        _ => {
            let number = writer.random.between(0, 2);
            let aside = writer.site.folder.join(format!("moved{number}"));
            ("rename directory", replace(writer, &aside, &one))
        }
    }
}

/// rename(2): what has the name `to` loses it. Also where directories are meant: at times files
/// have their names.
fn replace(writer: &mut Writer<'_>, from: &Path, to: &Path) -> io::Result<()> {
    if same_inode(from, to) {
        // rename(2) of one of two names of one file over the other does nothing.
        return Ok(());
    }
    writer.site.taking(to, "rename", || fs::rename(from, to))
}

/// As `rm -r`: file by file, the deepest first.
pub(super) fn remove_all(site: &Site, directory: &Path) -> io::Result<()> {
    if directory == site.folder {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    for entry in fs::read_dir(directory)?.flatten() {
        let path = entry.path();
        // What another one removed meanwhile is gone as well.
        let _ = if entry.file_type()?.is_dir() {
            remove_all(site, &path)
        } else {
            site.taking(&path, "rm -r", || fs::remove_file(&path))
        };
    }
    fs::remove_dir(directory)
}

pub(super) fn change_mode(writer: &mut Writer<'_>, path: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let modes = [0o644, 0o600, 0o755, 0o664, 0o444, 0o640];
    let mode = writer.random.pick(&modes).unwrap_or(0o644);
    let metadata = path.symlink_metadata()?;
    // A mode of one name is that of all, and is not seen under the others.
    if !metadata.is_file() || metadata.nlink() != 1 {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn change_directory_mode(writer: &mut Writer<'_>, path: &Path) -> io::Result<()> {
    if path == writer.site.folder {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    let mode = writer.random.pick(&[0o755, 0o700, 0o775, 0o2775]).unwrap_or(0o755);
    // Not by name: by now something else may stand there, and a file does not keep such a mode.
    let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::NOFOLLOW;
    let directory = rustix::fs::open(path, flags, rustix::fs::Mode::empty())?;
    fs::File::from(directory).set_permissions(fs::Permissions::from_mode(mode))
}

/// A new link, or one in place of whatever stands there.
pub(super) fn symlink(writer: &mut Writer<'_>, path: &Path) -> io::Result<()> {
    let target = writer.random.between(0, 99);
    let target = format!("../b/f{target}");
    if writer.random.per_mille(500) {
        return link_to(target, path);
    }
    let number = writer.random.between(100_000, 999_999);
    let temporary = path.with_file_name(format!(".link{number}"));
    link_to(target, &temporary)?;
    let done = writer.site.taking(path, "symlink", || fs::rename(&temporary, path));
    if done.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    done
}

/// A second name, which stays, or under which the file goes on.
pub(super) fn links(
    writer: &mut Writer<'_>,
    path: &Path,
    other: &Path,
) -> (&'static str, io::Result<()>) {
    if !path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
        return ("link", Err(io::ErrorKind::ResourceBusy.into()));
    }
    let linked = writer.site.moving(|| fs::hard_link(path, other));
    if linked.is_err() || writer.random.per_mille(300) {
        return ("link", linked);
    }
    ("move by link", writer.site.taking(path, "move by link", || fs::remove_file(path)))
}

/// A directory where a file was, or the reverse (trap T13).
pub(super) fn change_kind(writer: &mut Writer<'_>, path: &Path) -> (&'static str, io::Result<()>) {
    let is_directory = path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    if is_directory {
        let done = remove_all(writer.site, path);
        return ("file for directory", done.and_then(|()| super::edits::create(writer, path)));
    }
    let done = writer
        .site
        .taking(path, "directory for file", || fs::remove_file(path))
        .and_then(|()| fs::create_dir(path))
        .and_then(|()| super::edits::create(writer, &path.join("f0")));
    ("directory for file", done)
}
