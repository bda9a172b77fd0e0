//! Why a path is as it is, in words for people.

use rustix::io::Errno;

/// What the kernel meant, and what helps.
#[must_use]
pub fn errno_words(errno: Errno) -> String {
    let (what, help) = match errno {
        Errno::PERM => (
            "immutable, or not this daemon's to change",
            "look with lsattr and take an `i` or `a` away by chattr -i -a",
        ),
        Errno::ACCESS => {
            ("the daemon may not write there", "give its user the right, or the files")
        }
        Errno::ROFS => ("the file system is read-only", "mount it writable"),
        Errno::NOSPC => ("no space is left", "free some"),
        Errno::DQUOT => ("the quota is used up", "raise it or free some space"),
        Errno::XDEV => {
            ("another file system is mounted there", "unmount it, or move the path away")
        }
        Errno::NAMETOOLONG => ("the name is too long for this file system", "rename it elsewhere"),
        Errno::ILSEQ => ("this file system cannot hold the name", "rename it elsewhere"),
        Errno::BUSY => ("it is in use as a mount point or a swap file", "unmount it, or swapoff"),
        Errno::TXTBSY => ("the program is being run", "end it"),
        Errno::FBIG => ("it is too large for this file system", "make it smaller elsewhere"),
        Errno::MLINK => ("the directory has too many entries", "move some elsewhere"),
        Errno::ISDIR => ("a pipe, socket or device is in the way", "move it away"),
        Errno::IO => ("the disk fails", "look at dmesg"),
        Errno::MFILE | Errno::NFILE => ("too many files are open", "raise the limit (ulimit -n)"),
        other => return other.to_string(),
    };
    format!("{what} ({errno}): {help}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_told_with_what_helps() {
        assert!(errno_words(Errno::PERM).starts_with("immutable"));
        assert!(errno_words(Errno::ROFS).contains("mount"));
        assert!(!errno_words(Errno::NOENT).is_empty());
    }
}
