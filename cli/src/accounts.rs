//! Names of users and groups for a daemon of root, from a process beside it.
//!
//! Programs replace `/etc/passwd` by renaming, and the rules of the sandbox hold for the file that was
//! there at the start (`sandbox::rules`): a daemon of root would lose all names with the first
//! `useradd`, and give files to whoever has that number. So a process is started before the sandbox, which
//! answers questions about accounts and does nothing else: as nobody, in a sandbox of its own, with
//! no descriptor but its two pipes. It ends with the daemon. Modules of the name service (nss(5)) are
//! loaded there, not here.
//!
//! A question is a line, `user-name NUMBER`, `group-name NUMBER`, `user-number NAME` or `group-number NAME`; the
//! answer is one too: `is TEXT`, `none`, or `error NUMBER` (errno(3)).

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, ChildStdout, Command, ExitCode, Stdio};

use pickbox_store::folder::{NameService, Of, OwnNameService};
use pickbox_store::owner::OwnerRule;

use crate::options::DaemonOptions;
use crate::output;
use crate::sandbox::{self, Policy, SandboxMode};

/// The only argument of such a process.
const ARGUMENT: &str = "--answer-about-accounts";
/// How it is called where processes are listed.
const NAME: &str = "pickboxd-accounts";
/// The user that has no rights, on all systems: `overflowuid` (`proc_sys_kernel(5)`).
const NOBODY: u32 = 65534;

/// Whether this process was started to answer.
pub(crate) fn is_asked_for(words: &[OsString]) -> bool {
    matches!(words, [word] if word == ARGUMENT)
}

/// Answers until nobody asks any more.
pub(crate) fn serve() -> ExitCode {
    // It names no file or port: what is left are the tables of accounts. Without Landlock it is
    // still nobody's process.
    let confined = sandbox::enter(&Policy::default(), SandboxMode::Auto);
    let served = answer_all(io::stdin().lock(), &mut OwnNameService);
    drop(confined);
    if served.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn answer_all(questions: impl BufRead, service: &mut dyn NameService) -> io::Result<()> {
    for question in questions.lines() {
        let answer = match answer(&question?, service) {
            Ok(Some(text)) => format!("is {text}\n"),
            Ok(None) => "none\n".to_owned(),
            Err(error) => format!("error {}\n", error.raw_os_error().unwrap_or_default()),
        };
        output::show(answer.as_bytes()).map_err(io::Error::other)?;
    }
    Ok(())
}

fn answer(question: &str, service: &mut dyn NameService) -> io::Result<Option<String>> {
    let strange = || io::Error::from(io::ErrorKind::InvalidInput);
    let (word, of) = question.split_once(' ').ok_or_else(strange)?;
    let number = || of.parse().map_err(|_| strange());
    let text = |id: u32| id.to_string();
    match word {
        "user-name" => service.name(Of::Users, number()?),
        "group-name" => service.name(Of::Groups, number()?),
        "user-number" => Ok(service.id(Of::Users, of)?.map(text)),
        "group-number" => Ok(service.id(Of::Groups, of)?.map(text)),
        _ => Err(strange()),
    }
}

/// Whom the daemon asks: such a process, if it is root, keeps owners and enters the sandbox.
pub(crate) fn service(options: &DaemonOptions) -> Box<dyn NameService> {
    let is_needed = options.owner_rule == OwnerRule::Keep
        && options.sandbox != SandboxMode::Off
        && rustix::process::geteuid().is_root();
    if !is_needed {
        return Box::new(OwnNameService);
    }
    match Process::start() {
        Ok(process) => Box::new(process),
        Err(error) => {
            // A daemon that has begun anew has given up what it takes.
            log::warn!(
                "event=accounts_of_the_start error=\"{error}\": users and groups that come later are not \
                 known by name until the daemon is restarted"
            );
            Box::new(OwnNameService)
        }
    }
}

/// The process, seen from the daemon. It ends when its standard input does, and is not waited for: the
/// daemon, which may not even send it a signal, ends then too.
#[derive(Debug)]
struct Process {
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Process {
    fn start() -> io::Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg0(NAME)
            .arg(ARGUMENT)
            .env_clear()
            .uid(NOBODY)
            .gid(NOBODY)
            // Ctrl-C is for the daemon, which may still ask while it ends.
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let questions = child.stdin.take().ok_or_else(gone)?;
        let answers = BufReader::new(child.stdout.take().ok_or_else(gone)?);
        Ok(Self { questions, answers })
    }

    fn ask(&mut self, word: &str, of: &str) -> io::Result<Option<String>> {
        if of.contains(['\n', '\0']) {
            // No account is called so (passwd(5)).
            return Ok(None);
        }
        self.questions.write_all(format!("{word} {of}\n").as_bytes())?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        let answer = answer.strip_suffix('\n').ok_or(io::ErrorKind::UnexpectedEof)?;
        match answer.split_once(' ') {
            None if answer == "none" => Ok(None),
            Some(("is", text)) => Ok(Some(text.to_owned())),
            Some(("error", number)) => {
                Err(io::Error::from_raw_os_error(number.parse().unwrap_or_default()))
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl NameService for Process {
    fn name(&mut self, of: Of, id: u32) -> io::Result<Option<String>> {
        let word = match of {
            Of::Users => "user-name",
            Of::Groups => "group-name",
        };
        match self.ask(word, &id.to_string()) {
            Err(error) if is_end(&error) => OwnNameService.name(of, id),
            answer => answer,
        }
    }

    fn id(&mut self, of: Of, name: &str) -> io::Result<Option<u32>> {
        let word = match of {
            Of::Users => "user-number",
            Of::Groups => "group-number",
        };
        match self.ask(word, name) {
            Err(error) if is_end(&error) => OwnNameService.id(of, name),
            Err(error) => Err(error),
            Ok(None) => Ok(None),
            Ok(Some(text)) => {
                let number = text.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
                number.map(Some)
            }
        }
    }
}

/// Whether the process has ended. What this one can still see is better than nothing then.
fn is_end(error: &io::Error) -> bool {
    let is_end = matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof);
    if is_end {
        log::warn!(
            "event=accounts_of_the_start error=\"the process that knows accounts has ended\""
        );
    }
    is_end
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source: the table of questions above, asked of the system's own accounts.
    #[test]
    fn questions_have_answers() {
        let mut service = OwnNameService;
        for (question, expected) in [
            ("user-name 0", Some("root")),
            ("group-name 0", Some("root")),
            ("user-number root", Some("0")),
            ("group-number root", Some("0")),
            ("user-number no such account", None),
            ("user-name 3999999999", None),
        ] {
            let found = answer(question, &mut service).unwrap();
            assert_eq!(found.as_deref(), expected, "{question}");
        }
        for strange in ["", "user-name", "user-name x", "user-name -1", "password 0"] {
            assert!(answer(strange, &mut service).is_err(), "{strange}");
        }
    }

    #[test]
    fn only_the_one_word_asks_for_it() {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        assert!(is_asked_for(&words(&[ARGUMENT])));
        assert!(!is_asked_for(&words(&[ARGUMENT, "x"])) && !is_asked_for(&words(&["--port=1"])));
    }
}
