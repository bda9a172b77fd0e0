//! What must stay secret stays so: keys, tokens and contents in nothing that is written out (fault 90),
//! our own files out of reach of others (fault 91), and refused where they are not (fault 74).

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pickbox_tests::cluster::Cluster;
use rustix::fs::XattrFlags;

/// Somebody with no rights (nobody, on most systems).
const NOBODY: u32 = 65534;
/// So many bytes of a secret in a row are a part of it.
const WINDOW: usize = 16;
/// Files of a state directory that hold no secret of a node: who it and its peers are, rows, notes.
const NO_KEYS: [&str; 6] = ["identity", "index.redb", "journal.", "peers", "run", "readmission"];

/// Something that must not be found.
pub(super) struct Secret {
    name: String,
    bytes: Vec<u8>,
}

impl Secret {
    pub(super) fn new(name: &str, bytes: impl AsRef<[u8]>) -> Self {
        Self { name: name.to_owned(), bytes: bytes.as_ref().to_vec() }
    }

    /// Every part of it in each form that a program may write it in.
    fn forms(&self) -> Vec<Vec<u8>> {
        assert!(self.bytes.len() >= WINDOW, "{} is no secret", self.name);
        let mut forms = Vec::new();
        for part in self.bytes.windows(WINDOW) {
            let hex = hex(part);
            let decimal: Vec<String> = part.iter().map(u8::to_string).collect();
            forms.extend([
                part.to_vec(),
                hex.to_uppercase().into_bytes(),
                hex.into_bytes(),
                decimal.join(", ").into_bytes(),
            ]);
            // Whole groups of three, wherever such a group begins; both alphabets.
            let encoded = STANDARD.encode(part.get(..WINDOW / 3 * 3).unwrap());
            forms.push(encoded.replace('+', "-").replace('/', "_").into_bytes());
            forms.push(encoded.into_bytes());
        }
        forms
    }

    pub(super) fn assert_absent(&self, place: &str, text: &[u8]) {
        let is_in = |form: &Vec<u8>| text.windows(form.len()).any(|part| part == form);
        let found = self.forms().into_iter().find(is_in);
        assert!(found.is_none(), "{} stands in {place}", self.name);
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|half| char::from_digit(half.into(), 16).unwrap())
        .collect()
}

/// The private part of a key file: of an Ed25519 key in PEM the 32 bytes behind the header (RFC 8410,
/// section 7), for that is the same in all of them; else all of it.
fn private_part(file: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(file);
    let lines = text.lines().filter(|line| !line.starts_with("-----"));
    let header = [4, 34, 4, 32];
    match STANDARD.decode(lines.collect::<String>()) {
        Ok(der) if text.starts_with("-----BEGIN PRIVATE KEY-----") => {
            let at = der.windows(header.len()).position(|part| part == header).unwrap();
            der.get(at + header.len()..at + header.len() + 32).unwrap().to_vec()
        }
        _ => file.to_vec(),
    }
}

/// The keys and tokens that a state directory holds, whatever they are called.
fn keys_in(state: &Path) -> Vec<Secret> {
    let mut keys = Vec::new();
    for entry in fs::read_dir(state).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let is_key = entry.file_type().unwrap().is_file()
            && !NO_KEYS.iter().any(|known| name.starts_with(known));
        if is_key {
            let file = fs::read(entry.path()).unwrap();
            assert!(file.len() <= 4096, "{name} is large for a key: is it one?");
            keys.push(Secret::new(&format!("{}/{name}", state.display()), private_part(&file)));
        }
    }
    keys
}

/// Says something to a port, whatever it is, and takes what comes back for a moment.
fn say(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    // It may hang up before all was said.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// Nodes at their most talkative, with a token.
pub(super) fn talkative(token: &str) -> Cluster {
    let mut cluster = Cluster::start(0);
    let file = cluster.root().join("token");
    fs::write(&file, format!("{token}\n")).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    for _ in 0..3 {
        let number = cluster.prepare_node();
        let trace = cluster.root().join(format!("trace{number}"));
        let more = [
            "--log-level=trace".to_owned(),
            format!("--trace={}", trace.display()),
            "--admin-host=0.0.0.0".to_owned(),
            format!("--admin-token-file={}", file.display()),
        ];
        cluster.daemon_mut(number).entry.extend(more);
        cluster.restart(number);
        cluster.await_that("it serves", |cluster| {
            cluster.status(number).is_some_and(|report| report.leader_id.is_some())
        });
    }
    cluster.await_members();
    cluster
}

/// fault 90: recognisable secrets are planted, everything is done with them that is done with secrets,
/// wrong and right, and then they are looked for in all that comes out of the nodes.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn nothing_secret_is_written_out() {
    let (right, wrong) = ("canary-Right+Token/77aa55", "canary-Wrong+Token/33cc99");
    let (typed, forwarded) = ("canary typed into a file", "canary written by a program");
    let (attached, sent) = ("canary in an attribute", "canary sent to a port");
    let cluster = talkative(right);
    cluster.write(0, "file", typed);
    cluster.write(1, "large", typed.repeat(10_000));
    let file = cluster.path(0, "file");
    // Not every file system has them.
    let _ = rustix::fs::setxattr(&file, "user.x", attached.as_bytes(), XattrFlags::empty());
    assert!(cluster.forward_write(2, "other", forwarded.as_bytes()).starts_with("OK"));
    cluster.await_converged();
    let mut answers = Vec::new();
    for node in 0..3 {
        let (peers, admin) = (cluster.daemon(node).port, cluster.daemon(node).admin_port);
        for line in [
            format!("AUTH {wrong}\nSTATUS\n"),
            format!("AUTH {right}\nSTATUS json\nMEMBERS\nHELP\nLOG file\n"),
            format!("AUTH {right} {wrong}\n"),
            format!("STATUS\nAUTH {right}\n"),
            format!("FORWARD {{\"op\":\"write\",\"data\":\"{sent}\"}}\n"),
            format!("GET /{sent} HTTP/1.1\r\nAuthorization: Bearer {right}\r\n\r\n"),
        ] {
            answers.extend(say(admin, line.as_bytes()));
        }
        answers.extend(say(peers, sent.repeat(100).as_bytes()));
        // Who takes it for a command is told that there is none of that name: nobody else hears it.
        let _ = say(admin, format!("{right}\n").as_bytes());
    }
    cluster.await_converged();

    let mut secrets = vec![Secret::new("the token", right)];
    secrets.extend((0..3).flat_map(|node| keys_in(&cluster.daemon(node).state)));
    assert!(secrets.len() > 3, "each node has a key");
    let told = [wrong, typed, forwarded, attached, sent].map(|text| Secret::new(text, text));
    for node in 0..3 {
        let daemon = cluster.daemon(node);
        let proc = format!("/proc/{}", daemon.pid().unwrap());
        let trace = cluster.root().join(format!("trace{node}"));
        let log = fs::read(&daemon.log).unwrap();
        assert!(log.windows(5).any(|part| part == b"TRACE"), "it talks");
        for (place, text) in [
            ("the log", log),
            ("the trace", fs::read(trace).unwrap()),
            ("the command line", fs::read(format!("{proc}/cmdline")).unwrap()),
            ("the environment", fs::read(format!("{proc}/environ")).unwrap_or_default()),
        ] {
            assert!(!text.is_empty() || place == "the environment", "{place} is empty");
            assert_absent(&secrets, place, &text);
            assert_absent(&told, place, &text);
        }
        for directory in [daemon.state.clone(), daemon.state.join("wal")] {
            for file in fs::read_dir(directory).unwrap().flatten() {
                let name = file.file_name().into_string().unwrap();
                if file.file_type().unwrap().is_file() && !is_key_file(&daemon.state, &file.path())
                {
                    let text = without_zeros(&fs::read(file.path()).unwrap());
                    assert_absent(&secrets, &name, &text);
                }
            }
        }
    }
    assert!(!answers.is_empty(), "{}", String::from_utf8_lossy(&answers));
    assert_absent(&secrets, "an answer", &answers);
    Secret::new(wrong, wrong).assert_absent("an answer", &answers);
}

fn assert_absent(secrets: &[Secret], place: &str, text: &[u8]) {
    for secret in secrets {
        secret.assert_absent(place, text);
    }
}

fn is_key_file(state: &Path, file: &Path) -> bool {
    keys_in(state).iter().any(|key| Path::new(&key.name) == file)
}

/// Files that are made in advance are mostly zeros, and no secret is.
pub(super) fn without_zeros(text: &[u8]) -> Vec<u8> {
    text.split(|byte| *byte == 0).filter(|part| part.len() >= WINDOW).flatten().copied().collect()
}

/// A test that cannot fail is a defect: each form is found.
#[test]
fn secrets_are_found_in_each_form() {
    let secret = Secret::new("it", b"0123456789abcdefghijklmnop\xff\xfe");
    let part = b"56789abcdefghijklmnop";
    let hex = hex(part);
    let encoded = STANDARD.encode(b"xx0123456789abcdefghijklmnop");
    for text in [&part[..], hex.as_bytes(), hex.to_uppercase().as_bytes(), encoded.as_bytes()] {
        let text = [b"before ", text, b" behind"].concat();
        let found = std::panic::catch_unwind(|| secret.assert_absent("here", &text));
        assert!(found.is_err(), "{}", String::from_utf8_lossy(&text));
    }
    secret.assert_absent("here", b"0123456789, and nothing more of it");
    let key = [&[0x30, 0x2e, 4, 34, 4, 32][..], &[7; 32]].concat();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END", STANDARD.encode(key));
    assert_eq!(private_part(pem.as_bytes()), [7; 32]);
    assert_eq!(private_part(b"token"), b"token");
}

/// fault 91: a user without rights reads nothing of the state, not even names.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn another_user_reads_nothing_of_the_state() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let cluster = Cluster::start(1);
    fs::set_permissions(cluster.root(), Permissions::from_mode(0o755)).unwrap();
    cluster.write(0, "file", "for all");
    cluster.await_converged();
    let state = cluster.daemon(0).state.clone();
    let mut found = 0;
    let mut waiting = vec![state.clone()];
    while let Some(path) = waiting.pop() {
        let is_directory = path.is_dir();
        let reader = if is_directory { "ls" } else { "cat" };
        let output = Command::new(reader).arg(&path).uid(NOBODY).gid(NOBODY).output().unwrap();
        assert!(!output.status.success(), "{}: {output:?}", path.display());
        if is_directory {
            waiting.extend(fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()));
        }
        // The modes hold even if the directory's did not.
        let mode = path.symlink_metadata().unwrap().permissions().mode() & 0o777;
        let is_users = path.starts_with(state.join("history"))
            || path.starts_with(state.join("quarantine"))
            || path.starts_with(state.join("staging"));
        assert!(is_users || mode.trailing_zeros() >= 6, "{}: {mode:o}", path.display());
        found += 1;
    }
    assert!(found > 8, "{found} files");
    let public = cluster.path(0, "file");
    let output = Command::new("cat").arg(public).uid(NOBODY).gid(NOBODY).output().unwrap();
    assert_eq!(output.stdout, b"for all", "what is for all is");
}

/// fault 74: a key that others may read, or a state directory that they may enter, is refused with
/// the command that mends it; then it starts.
#[test]
#[ignore = "needs built daemons: make test-cluster"]
fn a_state_that_others_may_read_is_refused() {
    let mut cluster = Cluster::start(1);
    cluster.terminate(0);
    let state = cluster.daemon(0).state.clone();
    for (path, mode) in [(state.clone(), 0o755), (state.join("identity"), 0o644)] {
        let right = path.metadata().unwrap().permissions();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let output = cluster.daemon(0).command().stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(words.contains(&format!("chmod go-rwx '{}'", path.display())), "{words}");
        fs::set_permissions(&path, right).unwrap();
    }
    cluster.restart(0);
    cluster.await_that("it serves", |cluster| cluster.status(0).is_some());
}
