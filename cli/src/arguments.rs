//! Arguments on their way to `argh`: it knows no `--flag=value`, no other exit code than 1, and
//! no file name that is not UTF-8.

use std::ffi::OsString;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;

use argh::FromArgs;

use crate::exit::{CliError, Exit};
use crate::output;

/// Makes the arguments text, and two of each `--flag=value` before a `--`. Bytes that are not UTF-8
/// become `\xNN`, which is how paths write them.
pub(crate) fn split(arguments: impl Iterator<Item = OsString>) -> Vec<String> {
    let mut words = Vec::new();
    let mut all_flags_seen = false;
    for argument in arguments {
        let word = to_text(&argument);
        all_flags_seen |= word == "--";
        match word.split_once('=') {
            Some((flag, value)) if !all_flags_seen && is_long_flag(flag) => {
                words.push(flag.to_owned());
                words.push(value.to_owned());
            }
            _ => words.push(word),
        }
    }
    words
}

fn to_text(argument: &OsString) -> String {
    let mut text = String::new();
    for chunk in argument.as_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

fn is_long_flag(word: &str) -> bool {
    word.strip_prefix("--").is_some_and(|name| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
    })
}

/// What parsing came to.
#[derive(Debug)]
pub(crate) enum Parsed<T> {
    /// Run with these.
    Run(T),
    /// Everything was said already (`--help`).
    Done(Exit),
}

/// Parses `words` as the arguments of `command`.
///
/// # Errors
/// With [`CliError::Usage`] when they are wrong.
pub(crate) fn parse<T: FromArgs>(
    command: &[&str],
    words: &[String],
) -> Result<Parsed<T>, CliError> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match T::from_args(command, &words) {
        Ok(arguments) => Ok(Parsed::Run(arguments)),
        Err(early) if early.status.is_ok() => {
            output::show(early.output.as_bytes())?;
            Ok(Parsed::Done(Exit::Ok))
        }
        Err(early) => {
            let help = command.join(" ");
            Err(CliError::Usage(format!(
                "{}\n`{help} --help` lists what there is.",
                early.output.trim()
            )))
        }
    }
}

/// The line that `--version` prints.
pub(crate) fn version_line(program: &str) -> String {
    format!("{program} {}\n", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    fn split_words(words: &[&str]) -> Vec<String> {
        split(words.iter().map(OsString::from))
    }

    #[test]
    fn a_flag_and_its_value_may_be_one_word() {
        assert_eq!(split_words(&["--port=1", "-p", "2"]), ["--port", "1", "-p", "2"]);
        assert_eq!(split_words(&["--data-dir=a=b", "x=y"]), ["--data-dir", "a=b", "x=y"]);
        assert_eq!(split_words(&["--", "--a=b"]), ["--", "--a=b"]);
    }

    #[test]
    fn bytes_that_are_no_text_are_escaped() {
        let word = OsString::from_vec(b"caf\xe9".to_vec());
        assert_eq!(split([word].into_iter()), ["caf\\xe9"]);
    }
}
