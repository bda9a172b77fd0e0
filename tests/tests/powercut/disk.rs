//! A disk whose power can be cut: a file system on a loop device.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The smallest that `mkfs.xfs` makes; the file is sparse.
const IMAGE_BYTES: u64 = 320 << 20;

/// One image, one loop device, one file system.
pub(crate) struct Disk {
    root: tempfile::TempDir,
    device: PathBuf,
}

impl Disk {
    /// A new file system of this kind, not mounted.
    pub(crate) fn new(file_system: &str) -> Self {
        let root = tempfile::Builder::new().prefix("pickbox-powercut-").tempdir().unwrap();
        let image = root.path().join("image");
        std::fs::create_dir(root.path().join("disk")).unwrap();
        std::fs::File::create(&image).unwrap().set_len(IMAGE_BYTES).unwrap();
        run(&format!("mkfs.{file_system}"), &["-q".as_ref(), &image]);
        let device = run("losetup", &["-f".as_ref(), "--show".as_ref(), &image]);
        Self { root, device: device.trim().into() }
    }

    pub(crate) fn mountpoint(&self) -> PathBuf {
        self.root.path().join("disk")
    }

    pub(crate) fn mount(&self) {
        run("mount", &[&self.device, &self.mountpoint()]);
    }

    /// `FS_IOC_SHUTDOWN`: nothing reaches the disk any more. The journal as far as it is in memory
    /// is lost with the rest (`FS_SHUTDOWN_FLAGS_NOLOGFLUSH`), or is the last thing to be written
    /// (`..._LOGFLUSH`): names and lengths, without the bytes.
    pub(crate) fn cut(&self, journal: Journal) {
        let script = r#"open F, "<", $ARGV[0] or die $!; $x = pack("L", $ARGV[1]);
            ioctl(F, 0x8004587d, $x) or die $!"#;
        let flags = match journal {
            Journal::Written => "1",
            Journal::Lost => "2",
        };
        let mountpoint = self.mountpoint();
        run("perl", &["-e".as_ref(), script.as_ref(), &mountpoint, flags.as_ref()]);
    }

    pub(crate) fn unmount(&self) {
        run("umount", &[&self.mountpoint()]);
    }
}

/// What becomes of the file system's journal when the power fails.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Journal {
    Written,
    Lost,
}

impl Drop for Disk {
    fn drop(&mut self) {
        // After a failed test; in order it is unmounted already.
        let _gone = Command::new("umount").arg("-l").arg(self.mountpoint()).output();
        let _free = Command::new("losetup").arg("-d").arg(&self.device).output();
    }
}

fn run(program: &str, arguments: &[&Path]) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).args(arguments).env("PATH", path).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}
