//! The plan of the house, read from the sources: which crate may know which, and which file is the
//! one door to what. Fast, and needs nothing but the checkout.
//!
//! A door is a file (or a directory of them) in which certain words may stand. Tests may use what
//! they need: modules under `#[cfg(test)]`, `tests/` directories and the crate `tests` are not
//! looked at, except for `unsafe`. An exception from a rule has a reason, which is read as part of
//! the design; one that is not needed any more fails the test.

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::sync::LazyLock;

    /// Each crate with those of the house that it may name, from the bottom up. Arrows go down.
    const CRATES: [(&str, &str, &[&str]); 7] = [
        ("raft/core", "pickbox-raft-core", &[]),
        ("raft", "pickbox-raft", &["pickbox-raft-core"]),
        ("store", "pickbox-store", &["pickbox-raft"]),
        ("watch", "pickbox-watch", &["pickbox-raft", "pickbox-store"]),
        ("admin", "pickbox-admin", &["pickbox-raft", "pickbox-store"]),
        (
            "cli",
            "pickbox-cli",
            &["pickbox-admin", "pickbox-raft", "pickbox-store", "pickbox-watch"],
        ),
        (
            "tests",
            "pickbox-tests",
            &[
                "pickbox-admin",
                "pickbox-cli",
                "pickbox-raft",
                "pickbox-raft-core",
                "pickbox-store",
                "pickbox-watch",
            ],
        ),
    ];

    /// The crates that a daemon is made of.
    const ROOMS: [&str; 6] = ["raft/core", "raft", "store", "watch", "admin", "cli"];

    /// What must never come in, in which form ever: the loops, the threads and the consensus of
    /// Pickbox are its own.
    const BANNED: [&str; 24] = [
        "actix-rt",
        "async-executor",
        "async-global-executor",
        "async-io",
        "async-raft",
        "async-std",
        "embassy-executor",
        "futures-executor",
        "glommio",
        "hotstuff_rs",
        "little_raft",
        "monoio",
        "omnipaxos",
        "openraft",
        "paxos",
        "pollster",
        "raft",
        "raft-engine",
        "raft-proto",
        "riteraft",
        "smol",
        "tikv-raft",
        "tokio",
        "tokio-uring",
    ];

    /// Words that may stand behind one door only.
    struct Door {
        /// What is kept behind it.
        of: &'static str,
        /// Any of these words opens it.
        words: &'static [&'static str],
        /// Where it is looked for.
        within: &'static [&'static str],
        /// Where the words may stand: files, or directories ending with a slash.
        at: &'static [&'static str],
        /// Where else, and why.
        except: &'static [(&'static str, &'static str)],
    }

    const FOLDER: &str = "store/src/folder/";
    const DISK: &str = "raft/src/disk/";

    /// Calls that find a file by its name, or change what a name means.
    const BY_NAME: &[&str] = &[
        "std::fs::{",
        "std::fs;",
        "fs::read",
        "fs::write",
        "fs::create_dir",
        "fs::remove",
        "fs::rename",
        "fs::copy",
        "fs::hard_link",
        "fs::metadata",
        "fs::symlink",
        "fs::canonicalize",
        "fs::set_permissions",
        "File::open",
        "File::create",
        "File::options",
        "OpenOptions",
        "DirBuilder",
        "WalkDir",
        ".exists()",
        ".is_dir()",
        ".is_file()",
        ".metadata()",
        ".symlink_metadata()",
        ".read_dir()",
        ".canonicalize()",
    ];

    const DOORS: [Door; 18] = [
        Door {
            of: "files by name: users' in the folder, ours beside it",
            words: BY_NAME,
            within: &["raft", "store", "watch", "admin"],
            at: &[FOLDER, DISK],
            except: &[
                (
                    "watch/src/limits.rs",
                    "reads the kernel's limits below /proc/sys, no file of anybody",
                ),
                (
                    "raft/src/credentials/table.rs",
                    "reads the kernel's table of sockets below /proc/net, no file of anybody",
                ),
            ],
        },
        Door {
            of: "files by name in cli",
            words: BY_NAME,
            within: &["cli"],
            at: &["cli/src/cluster/"],
            except: &[
                (
                    "cli/src/daemon.rs",
                    "makes the folder and the state directory at the first start: there is nothing \
                     yet that a door could be opened on",
                ),
                (
                    "cli/src/openers.rs",
                    "reads what the kernel tells of processes below /proc, no file of anybody",
                ),
                ("cli/src/secret_file.rs", "reads or makes a secret that the command line names"),
            ],
        },
        Door {
            of: "system calls on files",
            words: &["rustix::fs"],
            within: &ROOMS,
            at: &[FOLDER, DISK],
            except: &[
                ("cli/src/sandbox.rs", "the type of a umask"),
                ("watch/src/source.rs", "takes an inotify watch off, by its number"),
                (
                    "admin/src/socket_file.rs",
                    "makes and removes the admin socket, no file of anybody",
                ),
            ],
        },
        Door {
            of: "devices, pipes and sockets in a directory: nobody makes any",
            words: &["mknodat", "mknod", "mkfifoat", "mkfifo"],
            within: &ROOMS,
            at: &[],
            except: &[],
        },
        Door {
            of: "users and groups of the host",
            words: &["nix::"],
            within: &ROOMS,
            at: &[FOLDER],
            except: &[("admin/src/people.rs", "whether a client's user is in the admin group")],
        },
        Door {
            of: "the opening of directory trees",
            words: &["Folder::open("],
            within: &ROOMS,
            at: &["cli/src/daemon.rs"],
            except: &[(
                "store/src/engine/startup.rs",
                "StateDir: the store's door to our own files",
            )],
        },
        Door {
            of: "the opening of the state directory for the log",
            words: &["RealDisk::open("],
            within: &ROOMS,
            at: &["cli/src/daemon.rs"],
            except: &[],
        },
        Door {
            of: "the index file",
            words: &["Database::"],
            within: &ROOMS,
            at: &["store/src/index.rs"],
            except: &[(
                "store/src/index/simulated.rs",
                "in a file of a simulated volume: compiled for tests and the simulator alone",
            )],
        },
        Door {
            of: "tables of the index",
            words: &["redb::", "TableDefinition"],
            within: &ROOMS,
            at: &["store/src/index.rs", "store/src/index/", "store/src/placed/tables.rs"],
            except: &[
                ("store/src/engine/checkpoint.rs", "two rows of its own: floor and mark"),
                ("store/src/agreed/namespace.rs", "reads and writes the tables that index opens"),
                ("store/src/agreed/tree.rs", "reads the tables that index opens"),
            ],
        },
        Door {
            of: "inotify",
            words: &["inotify"],
            within: &ROOMS,
            at: &["watch/src/"],
            except: &[],
        },
        Door {
            of: "the clock",
            words: &["Instant::now", "SystemTime", "UNIX_EPOCH", "clock_gettime", ".elapsed()"],
            within: &ROOMS,
            at: &["raft/src/clock.rs"],
            except: &[(
                "store/src/engine/run.rs",
                "Instant::elapsed, the time of one turn: the same clock, asked past its door",
            )],
        },
        Door {
            of: "sleep without an event",
            words: &["thread::sleep", "park_timeout"],
            within: &ROOMS,
            at: &[],
            except: &[
                ("raft/src/join.rs", "waits to be let in, before any thread is born"),
                ("cli/src/threads.rs", "waits for threads that have no channel left, at the end"),
                ("cli/src/cluster/ready.rs", "the tool, waiting for daemons"),
                ("cli/src/cluster/process.rs", "the tool, waiting for a process of another parent"),
                ("cli/src/member.rs", "the tool, waiting for a member to be a voter"),
                ("cli/src/wishes.rs", "its own thread, waiting for a member to be gone"),
            ],
        },
        Door {
            of: "the birth of threads",
            words: &[
                "thread::spawn",
                "thread::scope",
                "thread::Builder",
                "thread::{Builder",
                "thread::*",
                "rayon",
            ],
            within: &ROOMS,
            at: &["cli/src/threads.rs"],
            except: &[],
        },
        Door {
            of: "the birth of processes",
            words: &["process::Command", "Command::new", "process::{Child"],
            within: &ROOMS,
            at: &["cli/src/cluster/process.rs"],
            except: &[
                ("cli/src/daemon.rs", "exec: the daemon becomes itself anew, no process is born"),
                (
                    "cli/src/accounts.rs",
                    "before the sandbox: the process that may see what accounts there are now",
                ),
            ],
        },
        Door {
            of: "randomness",
            words: &["getrandom", "rustix::rand"],
            within: &ROOMS,
            at: &["raft/src/identity.rs"],
            except: &[],
        },
        Door {
            of: "peer sockets, in the log's room",
            words: &["std::net", "mio"],
            within: &["raft/core", "raft", "store"],
            at: &["raft/src/net/"],
            except: &[
                ("raft/src/bulk.rs", "the connections of contents, a loop of their own"),
                ("raft/src/credentials.rs", "asks whose a socket is, by its addresses; opens none"),
                ("raft/src/credentials/", "the same"),
                ("raft/src/join.rs", "one connection, before there is a loop"),
                ("raft/src/open.rs", "listens: the port must be had before anything is written"),
            ],
        },
        Door {
            of: "what the daemon may do",
            words: &["landlock", "rustix::thread", "umask"],
            within: &ROOMS,
            at: &["cli/src/sandbox.rs", "cli/src/sandbox/"],
            except: &[],
        },
        Door {
            of: "standard output and error",
            words: &["io::stdout", "io::stderr", "println!", "eprintln!", "print!("],
            within: &ROOMS,
            at: &["cli/src/output.rs"],
            except: &[],
        },
    ];

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
    }

    fn read(path: &str) -> String {
        fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// All files below `top`, as paths from the root, without what is built or run there.
    fn files(top: &str) -> Vec<String> {
        let (mut found, mut waiting) = (Vec::new(), vec![root().join(top)]);
        while let Some(dir) = waiting.pop() {
            for entry in fs::read_dir(&dir).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap();
                if path.is_dir() {
                    let ours = ![".git", "target", "data", "run", "corpus"].contains(&name);
                    waiting.extend(ours.then_some(path));
                } else {
                    found.push(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        found.sort();
        found
    }

    fn sources(top: &str) -> Vec<String> {
        let is_rust = |path: &String| Path::new(path).extension().is_some_and(|end| end == "rs");
        files(top).into_iter().filter(is_rust).collect()
    }

    /// The code of a file that is compiled into the daemon: without comments, without what follows
    /// `#[cfg(test)]` in a module of its own, which stands last. Line by line, empty ones kept.
    fn code(text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        let mut all = text.lines().peekable();
        while let Some(line) = all.next() {
            let opens = |next: &&str| next.contains("mod ") && next.trim_end().ends_with('{');
            if line.trim() == "#[cfg(test)]" && all.peek().is_some_and(opens) {
                break;
            }
            lines.push(without_comment(line).to_owned());
        }
        lines
    }

    fn without_comment(line: &str) -> &str {
        // `://` stands in addresses.
        let comment = line.match_indices("//").find(|(at, _)| !line[..*at].ends_with(':'));
        comment.map_or(line, |(at, _)| &line[..at])
    }

    static TEST_MODULES: LazyLock<BTreeSet<String>> = LazyLock::new(test_modules);

    /// Files and directories that hold modules under `#[cfg(test)]`.
    fn test_modules() -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for path in ROOMS.iter().flat_map(|room| sources(room)) {
            let text = read(&path);
            let mut lines = text.lines();
            while let Some(line) = lines.next() {
                if line.trim() != "#[cfg(test)]" {
                    continue;
                }
                let next = lines.next().unwrap_or_default();
                let name = next.trim_end_matches(';').rsplit(' ').next().unwrap_or_default();
                if next.ends_with(';') && next.contains("mod ") {
                    let dir = module_dir(&path);
                    found.insert(format!("{dir}/{name}.rs"));
                    found.insert(format!("{dir}/{name}/"));
                }
            }
        }
        found
    }

    /// The directory in which the modules that a file declares are.
    fn module_dir(path: &str) -> String {
        let (dir, file) = path.rsplit_once('/').unwrap();
        match file {
            "lib.rs" | "mod.rs" | "main.rs" => dir.to_owned(),
            _ => path.trim_end_matches(".rs").to_owned(),
        }
    }

    fn is_at(path: &str, place: &str) -> bool {
        path == place || place.ends_with('/') && path.starts_with(place)
    }

    /// The sources of a room that are part of the daemon.
    fn production(room: &str) -> Vec<String> {
        let mut all = sources(&format!("{room}/src"));
        all.retain(|path| !TEST_MODULES.iter().any(|place| is_at(path, place)));
        all
    }

    /// The section headers and keys of a manifest: as much of TOML as manifests here use.
    fn manifest(dir: &str) -> BTreeMap<String, Vec<String>> {
        let mut sections: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut section = String::new();
        for line in read(&format!("{dir}/Cargo.toml")).lines() {
            if let Some(name) = line.strip_prefix('[') {
                name.trim_end_matches(']').clone_into(&mut section);
            } else if let Some((key, _)) = line.split_once('=') {
                let key = key.trim().split('.').next().unwrap().to_owned();
                sections.entry(section.clone()).or_default().push(key);
            }
        }
        sections
    }

    /// Source: the design's rooms: a crate names only those below it.
    #[test]
    fn arrows_between_crates_go_down() {
        let members = read("Cargo.toml");
        let mut below: BTreeSet<&str> = BTreeSet::new();
        for (dir, name, may) in CRATES {
            assert!(members.contains(&format!("\"{dir}\"")), "{dir} is no member");
            // The table itself has no arrow upwards; `cli` is above `tests` in nothing.
            assert!(may.iter().all(|one| below.contains(one)), "{name}: the table is wrong");
            below.insert(name);
            for (section, keys) in manifest(dir) {
                if !section.ends_with("dependencies") {
                    continue;
                }
                for key in keys.iter().filter(|key| key.starts_with("pickbox-")) {
                    let allowed = may.contains(&key.as_str());
                    assert!(allowed, "{dir}/Cargo.toml, {section}: {name} may not know {key}");
                }
            }
        }
        let count = members.lines().find(|line| line.starts_with("members")).unwrap();
        assert_eq!(count.matches('"').count() / 2, CRATES.len(), "a crate is not in the table");
    }

    /// Source: consensus is a machine: no I/O, no clock, no threads.
    #[test]
    fn consensus_needs_no_std() {
        let root = read("raft/core/src/lib.rs");
        assert!(root.lines().any(|line| line == "#![no_std]"));
        let dependencies = manifest("raft/core").remove("dependencies").unwrap_or_default();
        assert_eq!(dependencies, ["serde"], "what else does consensus need?");
        for path in production("raft/core") {
            for (number, line) in code(&read(&path)).iter().enumerate() {
                let std = line.contains("std::") || line.contains("extern crate std");
                assert!(!std, "{path}:{}: {line}", number + 1);
            }
        }
    }

    /// Source: no async runtime anywhere, and Raft is hand-written.
    #[test]
    fn no_runtime_and_no_consensus_library_comes_in() {
        let lock = read("Cargo.lock");
        let names: BTreeSet<&str> =
            lock.lines().filter_map(|line| line.strip_prefix("name = ")).collect();
        assert!(names.contains("\"mio\""), "the lock file is not read right");
        let deny = read("deny.toml");
        for name in BANNED {
            assert!(!names.contains(format!("\"{name}\"").as_str()), "Cargo.lock has {name}");
            assert!(deny.contains(&format!("\"{name}\"")), "deny.toml does not ban {name}");
        }
        let registry = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
        let foreign = |line: &&str| line.starts_with("source = ") && *line != registry;
        assert_eq!(lock.lines().find(foreign), None, "a source other than crates.io");
    }

    /// Source: one door per resource.
    #[test]
    fn each_resource_has_one_door() {
        let mut broken = Vec::new();
        for door in &DOORS {
            let mut used: BTreeSet<&str> = BTreeSet::new();
            for path in door.within.iter().flat_map(|room| production(room)) {
                if door.at.iter().any(|place| is_at(&path, place)) {
                    continue;
                }
                for (number, line) in code(&read(&path)).iter().enumerate() {
                    let Some(word) = door.words.iter().find(|word| has_word(line, word)) else {
                        continue;
                    };
                    match door.except.iter().find(|(place, _)| is_at(&path, place)) {
                        Some((place, _)) => drop(used.insert(place)),
                        None => broken.push(format!(
                            "{path}:{}: `{word}` belongs behind the door of {}",
                            number + 1,
                            door.of
                        )),
                    }
                }
            }
            for (place, reason) in door.except.iter().filter(|(place, _)| !used.contains(place)) {
                broken.push(format!("{}: {place} is no exception any more ({reason})", door.of));
            }
            for place in door.at {
                assert!(root().join(place).exists(), "{place} is not there");
            }
        }
        assert!(broken.is_empty(), "\n{}", broken.join("\n"));
    }

    /// Whether a word stands in a line, not as the end of a longer one.
    fn has_word(line: &str, word: &str) -> bool {
        let joins = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let starts_name = word.bytes().next().is_some_and(joins);
        let ends_name = word.ends_with(joins_char);
        line.match_indices(word).any(|(at, _)| {
            let before = line.as_bytes().get(at.wrapping_sub(1)).copied().unwrap_or(b' ');
            let after = line.as_bytes().get(at + word.len()).copied().unwrap_or(b' ');
            // `fs::read` stands for `fs::read_dir` too; a lone name does not.
            let cut = ends_name && !word.contains("::") && joins(after);
            !(starts_name && joins(before) || cut)
        })
    }

    fn joins_char(char: char) -> bool {
        char.is_ascii_alphanumeric() || char == '_'
    }

    /// Source: `watch` knows nothing of Raft, `admin` asks the node through one trait, and must
    /// know who asks.
    #[test]
    fn watch_and_admin_take_only_the_clock_and_credentials_from_the_log() {
        let may: [(&str, &[&str]); 2] = [
            ("watch", &["pickbox_raft::clock"]),
            ("admin", &["pickbox_raft::clock", "pickbox_raft::credentials"]),
        ];
        for (room, may) in may {
            for path in production(room) {
                for (number, line) in code(&read(&path)).iter().enumerate() {
                    let rest = may.iter().fold(line.clone(), |rest, word| rest.replace(word, ""));
                    assert!(!rest.contains("pickbox_raft"), "{path}:{}: {line}", number + 1);
                }
            }
        }
    }

    /// Source: one audited module of unsafe code, tests included.
    #[test]
    fn unsafe_code_is_in_the_lease_probe_only() {
        let lease = "store/src/lease.rs";
        assert!(code(&read(lease)).iter().any(|line| has_word(line, "unsafe")));
        for path in ROOMS.into_iter().chain(["tests"]).flat_map(sources) {
            if path == lease || path == "tests/tests/house.rs" {
                continue;
            }
            for (number, line) in read(&path).lines().enumerate() {
                let line = without_comment(line);
                for word in ["unsafe", "unsafe_code", "libc::"] {
                    assert!(!has_word(line, word), "{path}:{}: {word}", number + 1);
                }
            }
        }
        assert!(read("Cargo.toml").contains("unsafe_code = \"deny\""));
        for (dir, name, _) in CRATES {
            let inherits = read(&format!("{dir}/Cargo.toml")).contains("[lints]\nworkspace = true");
            assert!(inherits, "{name} does not take the lints of the workspace");
        }
    }

    /// Source: nothing in the repository knows the machine that it was written on.
    #[test]
    fn no_path_of_a_machine_stands_anywhere() {
        let banned = [concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/ro", "ot/")];
        for path in files("") {
            let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
            for (number, line) in text.lines().enumerate() {
                let found = banned.iter().find(|word| line.contains(**word));
                assert_eq!(found, None, "{path}:{}", number + 1);
            }
        }
    }

    /// A test that cannot fail is a defect: what the rules above are made of sees what it must.
    #[test]
    fn words_are_found_where_they_stand() {
        assert!(has_word("use rustix::fs::{self};", "rustix::fs"));
        assert!(has_word("let x = fs::read_dir(p);", "fs::read"));
        assert!(has_word("unsafe { f() }", "unsafe"));
        assert!(!has_word("#![expect(unsafe_code)]", "unsafe"));
        assert!(!has_word("let offs::read = 1;", "fs::read"));
        assert!(!has_word("self.exists_here()", ".exists()"));
        assert_eq!(without_comment("f(); // std::fs"), "f(); ");
        assert_eq!(without_comment("\"http://x\""), "\"http://x\"");
        assert_eq!(module_dir("store/src/index.rs"), "store/src/index");
        assert_eq!(module_dir("watch/src/lib.rs"), "watch/src");
        let text = "a\n#[cfg(test)]\nmod tests {\n    b\n}\n";
        assert_eq!(code(text), ["a"]);
        let tests = test_modules();
        assert!(
            tests.contains("watch/src/chaos.rs") && tests.contains("store/src/index/stories.rs")
        );
        assert!(production("store").len() > 50, "the sources are not found");
    }
}
