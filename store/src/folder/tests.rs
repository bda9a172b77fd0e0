//! Each test falls into one trap of a folder that others work in at the same time.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::owner::Ids;
use crate::time::Time;
use crate::xattr::Xattrs;

fn name(bytes: &[u8]) -> Name {
    Name::new(bytes).unwrap()
}

fn path(bytes: &[u8]) -> RelPath {
    RelPath::new(bytes).unwrap()
}

/// A user's folder and the staging directory beside it.
struct Place {
    temp: tempfile::TempDir,
    folder: Folder,
    staging: Folder,
}

fn place() -> Place {
    let temp = tempfile::tempdir().unwrap();
    let open = |name: &str| {
        std::fs::create_dir(temp.path().join(name)).unwrap();
        Folder::open(&temp.path().join(name)).unwrap()
    };
    let (folder, staging) = (open("folder"), open("staging"));
    Place { temp, folder, staging }
}

impl Place {
    fn at(&self, below: &str) -> std::path::PathBuf {
        self.temp.path().join("folder").join(below)
    }
}

const PROPERTIES: Properties =
    Properties { mode: 0o644, mtime: Time { secs: 1_000_000_000, nanos: 7 }, owner: None };

fn with_mode(mode: u16) -> Properties {
    Properties { mode, ..PROPERTIES }
}

fn file(bytes: &[u8]) -> NewFile<'_> {
    NewFile { bytes, properties: PROPERTIES, xattrs: Xattrs::NONE }
}

/// What must stay the same over an exchange.
fn kept(stat: &Stat) -> (u64, Time, Time, u64) {
    (stat.ino, stat.btime, stat.mtime, stat.size)
}

#[test]
fn a_staged_file_has_its_content_mode_and_time() {
    let place = place();
    let stat = place.staging.root().write_new(&name(b"s"), file(b"hello")).unwrap();
    assert_eq!((stat.kind, stat.size, stat.mode, stat.nlink), (Kind::File, 5, 0o644, 1));
    assert_eq!(stat.mtime, Time { secs: 1_000_000_000, nanos: 7 });
    assert_eq!(place.staging.root().stat(&name(b"s")).unwrap(), stat);
    let again = place.staging.root().write_new(&name(b"s"), file(b"other"));
    assert!(matches!(again, Err(FolderError::Exists(_))), "{again:?}");
    let (_, bytes) = place.staging.root().read_small(&name(b"s"), 100).unwrap();
    assert_eq!(bytes.as_deref(), Some(&b"hello"[..]), "a refused write changes nothing");
}

/// trap T10: exchange first, look after: whoever was at the name comes out whole.
#[test]
fn exchange_keeps_inode_and_mtime_on_both_sides() {
    let place = place();
    let (root, staging) = (place.folder.root(), place.staging.root());
    let users = root.write_new(&name(b"f"), file(b"the user's")).unwrap();
    let ours = staging.write_new(&name(b"s"), file(b"ours")).unwrap();
    staging.exchange(&name(b"s"), root, &name(b"f")).unwrap();
    assert_eq!(kept(&root.stat(&name(b"f")).unwrap()), kept(&ours));
    assert_eq!(kept(&staging.stat(&name(b"s")).unwrap()), kept(&users));
    let moved = staging.stat(&name(b"s")).unwrap();
    assert!(moved.same_content_hint(&users) && moved.ctime >= users.ctime);
}

/// trap T10: a new path never covers what a user made a moment ago.
#[test]
fn a_name_that_the_user_took_first_stays_his() {
    let place = place();
    let (root, staging) = (place.folder.root(), place.staging.root());
    root.write_new(&name(b"f"), file(b"first")).unwrap();
    staging.write_new(&name(b"s"), file(b"second")).unwrap();
    let refused = staging.rename_no_replace(&name(b"s"), root, &name(b"f"));
    assert_eq!(refused, Err(FolderError::Exists(path(b"f"))));
    let gone = staging.exchange(&name(b"s"), root, &name(b"nothing"));
    assert_eq!(gone, Err(FolderError::Absent(path(b"nothing"))));
    staging.rename_no_replace(&name(b"s"), root, &name(b"g")).unwrap();
    assert_eq!(std::fs::read(place.at("g")).unwrap(), b"second");
}

/// trap T13: a file takes the place of a full directory, and back, with no moment between.
#[test]
fn a_file_and_a_full_directory_change_places() {
    let place = place();
    let (root, staging) = (place.folder.root(), place.staging.root());
    let dir = root.mkdir(&name(b"x"), 0o755).unwrap();
    dir.write_new(&name(b"inner"), file(b"1")).unwrap();
    staging.write_new(&name(b"s"), file(b"now a file")).unwrap();
    staging.exchange(&name(b"s"), root, &name(b"x")).unwrap();
    assert_eq!(root.stat(&name(b"x")).unwrap().kind, Kind::File);
    let out = staging.open_dir(&name(b"s")).unwrap();
    assert_eq!(out.stat(&name(b"inner")).unwrap().size, 1);
    assert_eq!(staging.rmdir(&name(b"s")), Err(FolderError::NotEmpty(path(b"s"))));
    staging.exchange(&name(b"s"), root, &name(b"x")).unwrap();
    assert!(place.at("x/inner").exists());
}

/// trap T15: raw bytes, newline, invalid UTF-8 and 255 bytes go round unchanged (fault 48).
#[test]
fn any_name_that_linux_allows_goes_round() {
    let place = place();
    let root = place.folder.root();
    let long = [b'x'; 255];
    let names = [&b"\xff\xfe"[..], b"a\nb", b" ", b"-rf", b"e\xcc\x81", b"\xc3\xa9", &long];
    for bytes in names {
        root.write_new(&name(bytes), file(bytes)).unwrap();
    }
    let mut listed: Vec<_> =
        root.list().unwrap().map(|entry| entry.unwrap().name.as_bytes().to_vec()).collect();
    listed.sort();
    let mut expected: Vec<_> = names.iter().map(|bytes| bytes.to_vec()).collect();
    expected.sort();
    assert_eq!(listed, expected);
    let there = place.temp.path().join("folder").join(OsStr::from_bytes(b"\xff\xfe"));
    assert_eq!(std::fs::read(there).unwrap(), b"\xff\xfe");
}

/// trap T17, fault 85: a symlink swapped into a parent is refused, not followed.
#[test]
fn a_symlink_planted_as_a_parent_is_refused() {
    let place = place();
    std::fs::create_dir_all(place.at("a/b")).unwrap();
    let opened = place.folder.dir(&path(b"a/b")).unwrap();
    std::fs::remove_dir(place.at("a/b")).unwrap();
    std::os::unix::fs::symlink(place.temp.path(), place.at("a/b")).unwrap();
    let refused = |below: &[u8]| place.folder.dir(&path(below)).unwrap_err();
    assert_eq!(refused(b"a/b"), FolderError::NotDirectory(path(b"a/b")));
    assert_eq!(refused(b"a/b/staging"), FolderError::NotDirectory(path(b"a/b/staging")));
    let parent = place.folder.dir(&path(b"a")).unwrap();
    let entered = parent.open_dir(&name(b"b")).unwrap_err();
    assert_eq!(entered, FolderError::NotDirectory(path(b"a/b")));
    let late = opened.write_new(&name(b"f"), file(b"x")).unwrap_err();
    assert_eq!(late, FolderError::Absent(path(b"a/b/f")), "the removed directory takes nothing");
}

/// trap T17: links are text, also where files are asked for; what they point at stays untouched.
#[test]
fn a_symlink_is_text() {
    let place = place();
    let root = place.folder.root();
    let outside = place.temp.path().join("outside");
    std::fs::write(&outside, b"secret").unwrap();
    let mode = std::fs::metadata(&outside).unwrap().permissions().mode();
    root.symlink(&name(b"l"), b"../outside").unwrap();
    let time = Time { secs: 5, nanos: 6 };
    root.attach_ours(&name(b"l"), Properties { mtime: time, ..with_mode(0o600) }).unwrap();
    let (stat, target) = root.read_link(&name(b"l")).unwrap();
    assert_eq!((stat.kind, stat.mtime), (Kind::Symlink, Time { secs: 5, nanos: 6 }));
    assert_eq!(target, b"../outside");
    let wrong = FolderError::WrongKind(path(b"l"));
    assert_eq!(root.open_read(&name(b"l")).unwrap_err(), wrong);
    let after = std::fs::metadata(&outside).unwrap();
    assert_eq!(after.permissions().mode(), mode);
    assert_ne!(after.mtime(), 5);
}

/// Pipes and sockets are seen, never opened into a wait (fault 49).
#[test]
fn a_pipe_is_special_and_blocks_nobody() {
    let place = place();
    let root = place.folder.root();
    let pipe = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, place.at("p"), pipe, rustix::fs::Mode::RWXU, 0).unwrap();
    std::os::unix::net::UnixListener::bind(place.at("s")).unwrap();
    for special in [name(b"p"), name(b"s")] {
        assert_eq!(root.stat(&special).unwrap().kind, Kind::Special);
        let refused = root.open_read(&special).unwrap_err();
        assert!(matches!(refused, FolderError::WrongKind(_)), "{refused:?}");
    }
    assert!(matches!(root.open_read(&name(b"gone")), Err(FolderError::Absent(_))));
    root.mkdir(&name(b"d"), 0o755).unwrap();
    assert!(matches!(root.open_read(&name(b"d")), Err(FolderError::WrongKind(_))));
}

/// trap T14, fault 86: set-id and sticky bits never reach a file; directories keep theirs.
#[test]
fn set_id_bits_are_masked_on_files_only() {
    let place = place();
    let root = place.folder.root();
    let new = NewFile { properties: with_mode(0o7755), ..file(b"#!") };
    assert_eq!(root.write_new(&name(b"f"), new).unwrap().mode, 0o755);
    assert_eq!(root.attach_ours(&name(b"f"), with_mode(0o4711)).unwrap().mode, 0o711);
    let dir = root.mkdir(&name(b"d"), 0o7775).unwrap();
    assert_eq!(dir.stat_self().unwrap().mode, 0o3775);
    assert_eq!(root.attach_ours(&name(b"d"), with_mode(0o6750)).unwrap().mode, 0o2750);
    std::fs::set_permissions(place.at("f"), PermissionsExt::from_mode(0o4711)).unwrap();
    let users = root.stat(&name(b"f")).unwrap();
    assert_eq!((users.mode, users.masked_mode()), (0o4711, 0o711));
}

/// fault 42: a file that grows during every try is called unstable; one that is too large for a
/// small one is looked at only.
#[test]
fn torn_reads_are_never_handed_out() {
    let place = place();
    let root = place.folder.root();
    root.write_new(&name(b"f"), file(&[b'x'; 100])).unwrap();
    let (stat, bytes) = root.read_small(&name(b"f"), 99).unwrap();
    assert_eq!((stat.size, bytes), (100, None));
    let (stat, bytes) = root.read_small(&name(b"f"), 100).unwrap();
    assert_eq!((stat.size, bytes.unwrap().len()), (100, 100));
    // /proc files say that they are empty and are not: they "grow" at every try.
    let proc = Folder::open(std::path::Path::new("/proc/self")).unwrap();
    let torn = proc.root().read_small(&name(b"status"), 1 << 20).unwrap_err();
    assert_eq!(torn, FolderError::Unstable(path(b"status")));
}

/// trap T18: same size, same mtime, another content: ctime tells.
#[test]
fn a_forged_mtime_shows_in_ctime() {
    let place = place();
    let root = place.folder.root();
    let before = root.write_new(&name(b"f"), file(b"one")).unwrap();
    let mut writer = std::fs::OpenOptions::new().write(true).open(place.at("f")).unwrap();
    writer.write_all(b"two").unwrap();
    root.attach_ours(&name(b"f"), Properties { mtime: before.mtime, ..PROPERTIES }).unwrap();
    let after = root.stat(&name(b"f")).unwrap();
    assert!(after.same_content_hint(&before));
    assert!(!after.same_to_ctime(&before));
}

/// Inode numbers come back at once; with the birth time they tell things apart (design note of
/// ext4: 200 of 200 tries).
#[test]
fn a_recycled_inode_number_is_another_thing() {
    let place = place();
    let root = place.folder.root();
    let first = root.write_new(&name(b"f"), file(b"one")).unwrap();
    root.unlink(&name(b"f")).unwrap();
    let mut second = root.write_new(&name(b"f"), file(b"one")).unwrap();
    second.ino = first.ino;
    assert!(!second.same_inode(&first));
}

#[test]
fn a_long_directory_is_listed_whole_and_once() {
    let place = place();
    let root = place.folder.root();
    for at in 0..3000 {
        root.symlink(&name(format!("entry-with-a-long-name-{at}").as_bytes()), b"x").unwrap();
    }
    let listed: std::collections::BTreeSet<_> =
        root.list().unwrap().map(|entry| entry.unwrap().name).collect();
    assert_eq!(listed.len(), 3000);
    let kinds = root.list().unwrap().filter(|e| e.as_ref().unwrap().kind == Some(Kind::Symlink));
    assert_eq!(kinds.count(), 3000, "a second listing starts anew");
}

/// trap T20: the folder stays the one that was opened, whatever happens to its path.
#[test]
fn the_folder_is_an_inode_not_a_path() {
    let place = place();
    let before = *place.folder.identity();
    std::fs::rename(place.temp.path().join("folder"), place.temp.path().join("moved")).unwrap();
    std::fs::create_dir(place.temp.path().join("folder")).unwrap();
    place.folder.root().write_new(&name(b"f"), file(b"x")).unwrap();
    assert!(place.temp.path().join("moved/f").exists());
    let other = Folder::open(&place.temp.path().join("folder")).unwrap();
    assert!(!other.identity().same_inode(&before));
}

/// trap T27, fault 51: another file system in the folder is not entered.
#[test]
fn a_foreign_mount_is_not_entered() {
    let root = Folder::open(std::path::Path::new("/")).unwrap();
    assert_eq!(root.root().stat(&name(b"proc")).unwrap().kind, Kind::Special);
    let refused = root.dir(&path(b"proc")).unwrap_err();
    assert_eq!(refused, FolderError::Blocked { path: path(b"proc"), errno: Errno::XDEV });
    assert_eq!(
        Folder::open(std::path::Path::new("/proc")).unwrap().identity().kind,
        Kind::Directory
    );
}

/// An access list that lets user 1234 read and write, as the kernel keeps it (acl(5)).
fn access_list() -> Vec<u8> {
    let none = u32::MAX;
    let entries: [(u16, u16, u32); 5] =
        [(0x01, 6, none), (0x02, 6, 1234), (0x04, 4, none), (0x10, 6, none), (0x20, 0, none)];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(rights.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// trap T14: access lists and attributes of users go along, capabilities do not, and the mode is
/// that of the new version.
#[test]
fn a_staged_file_inherits_what_was_attached_to_the_old_one() {
    use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};

    let place = place();
    let (root, staging) = (place.folder.root(), place.staging.root());
    root.write_new(&name(b"f"), file(b"old")).unwrap();
    let old = place.at("f");
    let long = vec![b'x'; 2000];
    let mut wanted = Vec::new();
    for (attribute, value) in [
        ("system.posix_acl_access", access_list()),
        ("user.note", b"mine".to_vec()),
        ("user.empty", Vec::new()),
        ("user.long", long),
    ] {
        match lsetxattr(&old, attribute, &value, XattrFlags::empty()) {
            Ok(()) => wanted.push(attribute),
            Err(errno) => println!("{attribute} cannot be set here: {errno}"),
        }
    }
    let capability = [&[1, 0, 0, 2, 0, 4, 0, 0][..], &[0; 12]].concat();
    let _ = lsetxattr(&old, "security.capability", &capability, XattrFlags::empty());
    staging
        .write_new(&name(b"s"), NewFile { properties: with_mode(0o640), ..file(b"new") })
        .unwrap();
    let expected = root.stat(&name(b"f")).unwrap();
    let as_staged = with_mode(0o640);
    staging.inherit(&name(b"s"), as_staged, root, &name(b"f"), &expected, Xattrs::NONE).unwrap();
    let new = place.temp.path().join("staging/s");
    let read = |path: &std::path::Path, attribute: &str| {
        let mut value = vec![0; 4096];
        lgetxattr(path, attribute, &mut value[..]).map(|count| value[..count].to_vec())
    };
    for attribute in wanted.iter().filter(|attribute| attribute.starts_with("user.")) {
        assert_eq!(read(&new, attribute), read(&old, attribute), "{attribute}");
    }
    if wanted.contains(&"system.posix_acl_access") {
        let list = read(&new, "system.posix_acl_access").unwrap();
        assert_eq!(list[12..20], access_list()[12..20], "user 1234 keeps its rights");
    }
    assert!(read(&new, "security.capability").is_err(), "a capability is not for other bytes");
    assert_eq!(staging.stat(&name(b"s")).unwrap().mode, 0o640);

    staging.inherit(&name(b"s"), as_staged, root, &name(b"gone"), &expected, Xattrs::NONE).unwrap();
    root.symlink(&name(b"l"), b"f").unwrap();
    staging.symlink(&name(b"sl"), b"elsewhere").unwrap();
    let expected = root.stat(&name(b"l")).unwrap();
    staging.inherit(&name(b"sl"), as_staged, root, &name(b"l"), &expected, Xattrs::NONE).unwrap();
}

/// Fault 84: the second gate. A name that no gate should have let in is refused by every call that
/// takes one, before the kernel sees it; what lies where it leads stays as it is.
#[test]
fn the_door_believes_no_name() {
    let place = place();
    let (root, staging) = (place.folder.root(), place.staging.root());
    let outside = place.temp.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("f"), b"secret").unwrap();
    let inside = root.mkdir(&name(b"d"), 0o755).unwrap();
    inside.write_new(&name(b"f"), file(b"inside")).unwrap();
    staging.write_new(&name(b"s"), file(b"ours")).unwrap();
    let expected = staging.stat(&name(b"s")).unwrap();
    let absolute = outside.join("f");
    let mut forged: Vec<&[u8]> =
        vec![b"", b".", b"..", b"../outside", b"../outside/f", b"d/f", b"d/", b"d/../../outside/f"];
    forged.push(absolute.as_os_str().as_bytes());
    forged.push(b"d\0");
    let long = [b'x'; 256];
    forged.push(&long);
    for bytes in forged {
        let (bad, good) = (Name::forged(bytes), name(b"s"));
        let taken = || name(b"taken");
        let answers = [
            ("stat", root.stat(&bad).err()),
            ("open_dir", root.open_dir(&bad).err()),
            ("open_read", root.open_read(&bad).err()),
            ("read_small", root.read_small(&bad, 10).err()),
            ("read_link", root.read_link(&bad).err()),
            ("create_new", root.create_new(&bad).err()),
            ("write_new", root.write_new(&bad, file(b"x")).err()),
            ("mkdir", root.mkdir(&bad, 0o755).err()),
            ("symlink", root.symlink(&bad, b"d").err()),
            ("attach", root.attach(&bad, &expected, PROPERTIES).err()),
            (
                "inherit",
                staging.inherit(&good, PROPERTIES, root, &bad, &expected, Xattrs::NONE).err(),
            ),
            (
                "inherit to",
                root.inherit(&bad, PROPERTIES, staging, &good, &expected, Xattrs::NONE).err(),
            ),
            ("rename to", staging.rename_no_replace(&good, root, &bad).err()),
            ("rename from", root.rename_no_replace(&bad, staging, &taken()).err()),
            ("exchange to", staging.exchange(&good, root, &bad).err()),
            ("exchange from", root.exchange(&bad, staging, &good).err()),
            ("unlink", root.unlink(&bad).err()),
            ("rmdir", root.rmdir(&bad).err()),
        ];
        for (call, error) in answers {
            let error = error.unwrap_or_else(|| panic!("{call} took {bad}"));
            assert_eq!(error.errno(), rustix::io::Errno::ILSEQ, "{call} {bad}: {error}");
        }
    }
    for bytes in [&b".."[..], b"../outside", b"d/../..", b"d/..", b"/etc", b"d//", b"./d"] {
        let error = place.folder.dir(&RelPath::forged(bytes)).unwrap_err();
        assert_eq!(error.errno(), rustix::io::Errno::ILSEQ, "{}", bytes.escape_ascii());
    }
    assert_eq!(std::fs::read(outside.join("f")).unwrap(), b"secret");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(std::fs::read(place.at("d/f")).unwrap(), b"inside");
    assert_eq!(staging.stat(&name(b"s")).unwrap(), expected);
}

/// Fault 85: owner, mode and time go to the inode that was looked at, or to none: not to another
/// that was put at its name, nor through a link.
#[test]
fn attributes_reach_no_other_inode_than_the_one_expected() {
    let place = place();
    let root = place.folder.root();
    let outside = place.temp.path().join("outside");
    std::fs::write(&outside, b"secret").unwrap();
    std::fs::set_permissions(&outside, PermissionsExt::from_mode(0o600)).unwrap();
    let before = std::fs::metadata(&outside).unwrap();
    let expected = root.write_new(&name(b"f"), file(b"x")).unwrap();
    let open = Properties { owner: Some(Ids { uid: 1234, gid: 1234 }), ..with_mode(0o666) };
    std::fs::remove_file(place.at("f")).unwrap();
    std::fs::hard_link(&outside, place.at("f")).unwrap();
    let refused = root.attach(&name(b"f"), &expected, open).unwrap_err();
    assert!(matches!(refused, FolderError::Unstable(_)), "{refused:?}");
    std::fs::remove_file(place.at("f")).unwrap();
    std::os::unix::fs::symlink(&outside, place.at("f")).unwrap();
    assert!(matches!(root.attach(&name(b"f"), &expected, open), Err(FolderError::Unstable(_))));
    // Of a link that is expected, the link itself.
    let link = root.stat(&name(b"f")).unwrap();
    root.attach(&name(b"f"), &link, open).unwrap();
    let after = std::fs::metadata(&outside).unwrap();
    let facts = |meta: &std::fs::Metadata| (meta.uid(), meta.gid(), meta.mode(), meta.mtime());
    assert_eq!(facts(&after), facts(&before));
}

/// trap T14, fault 86: what was given to one user's file, or to other bytes, does not go to the next
/// owner's: no access list, no capability, nothing trusted; and another inode than the expected one
/// hands nothing on at all.
#[test]
fn an_access_list_does_not_outlive_its_owner() {
    use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};

    let place = place();
    let (root, staging) = (place.folder.root(), place.staging.root());
    let expected = root.write_new(&name(b"f"), file(b"old")).unwrap();
    let old = place.at("f");
    let acl = lsetxattr(&old, "system.posix_acl_access", &access_list(), XattrFlags::empty());
    let capability = [&[1, 0, 0, 2, 0, 4, 0, 0][..], &[0; 12]].concat();
    let mut given = vec!["security.capability", "trusted.x"];
    for attribute in ["security.capability", "trusted.x"] {
        if let Err(errno) = lsetxattr(&old, attribute, &capability, XattrFlags::empty()) {
            println!("{attribute} cannot be set here: {errno}");
        }
    }
    if rustix::process::geteuid().is_root() && acl.is_ok() {
        given.push("system.posix_acl_access");
    }
    lsetxattr(&old, "user.note", b"mine", XattrFlags::empty()).unwrap();
    let owner = Some(Ids { uid: 1234, gid: 1234 });
    let properties = Properties { owner, ..with_mode(0o640) };
    staging.write_new(&name(b"s"), NewFile { properties, ..file(b"new") }).unwrap();
    staging.inherit(&name(b"s"), properties, root, &name(b"f"), &expected, Xattrs::NONE).unwrap();
    let new = place.temp.path().join("staging/s");
    let mut value = [0; 256];
    for attribute in given {
        assert!(lgetxattr(&new, attribute, &mut value[..]).is_err(), "{attribute} went along");
    }
    assert_eq!(lgetxattr(&new, "user.note", &mut value[..]), Ok(4));
    std::fs::write(place.at("other"), b"other").unwrap();
    std::fs::rename(place.at("other"), place.at("f")).unwrap();
    staging.write_new(&name(b"t"), file(b"new")).unwrap();
    let refused =
        staging.inherit(&name(b"t"), PROPERTIES, root, &name(b"f"), &expected, Xattrs::NONE);
    assert!(matches!(refused, Err(FolderError::Unstable(_))), "{refused:?}");
}

/// Fault 91: a file that is to belong to somebody is never readable by others on its way there: it
/// is made 0600, given away, and opened up last.
#[test]
fn a_staged_file_has_its_owner() {
    let place = place();
    let staging = place.staging.root();
    let made = staging.create_new(&name(b"s")).unwrap();
    assert_eq!(made.stat().unwrap().mode, 0o600, "whatever the umask is");
    if !rustix::process::geteuid().is_root() {
        println!("giving files away needs root");
        return;
    }
    let owner = Some(Ids { uid: 1234, gid: 4321 });
    let properties = Properties { owner, ..with_mode(0o4755) };
    let stat = staging.finish_file(&name(b"s"), &made, properties, Xattrs::NONE).unwrap();
    assert_eq!((stat.uid, stat.gid, stat.mode), (1234, 4321, 0o755));
    let dir = staging.mkdir(&name(b"d"), 0o700).unwrap();
    let stat = dir.attach_self(Properties { owner, ..with_mode(0o2775) }).unwrap();
    assert_eq!((stat.uid, stat.gid, stat.mode), (1234, 4321, 0o2775));
    let stat = dir.attach_self(Properties { owner: None, ..with_mode(0o2770) }).unwrap();
    assert_eq!((stat.uid, stat.gid, stat.mode), (1234, 4321, 0o2770));
}

/// Fault 84: whether our own directory lies in the folder is told by the disk, not by paths.
#[test]
fn a_directory_in_the_folder_is_found_by_any_path() {
    let place = place();
    let (folder, staging) = (&place.folder, &place.staging);
    let below = folder.root().mkdir(&name(b"d"), 0o755).unwrap();
    assert!(folder.holds(&below).unwrap() && folder.holds(folder.root()).unwrap());
    assert!(!folder.holds(staging.root()).unwrap());
    let link = place.temp.path().join("elsewhere");
    std::os::unix::fs::symlink(place.at("d"), &link).unwrap();
    assert!(folder.holds(Folder::open(&link).unwrap().root()).unwrap());
    let above = Folder::open(place.temp.path()).unwrap();
    assert!(above.holds(&below).unwrap() && !folder.holds(above.root()).unwrap());
}

/// Trap T14: an attribute that may not be read is not one that was taken away.
#[test]
fn attributes_that_may_not_be_read_are_not_gone() {
    let place = place();
    std::fs::write(place.at("f"), b"x").unwrap();
    if rustix::fs::setxattr(place.at("f"), "user.note", b"mine", rustix::fs::XattrFlags::empty())
        .is_err()
    {
        return;
    }
    std::fs::set_permissions(place.at("f"), std::fs::Permissions::from_mode(0o000)).unwrap();
    let found = place.folder.root().user_attributes(&name(b"f"));
    let is_root = rustix::process::geteuid().is_root();
    match found {
        Ok(found) => assert!(is_root && found.kept.get(b"note").is_some(), "{found:?}"),
        Err(error) => assert!(matches!(error, FolderError::Blocked { .. }), "{error}"),
    }
}
