//! The unit of systemd, looked at by `systemd-analyze`, where that is there.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The exposure, out of 10, that the unit may have at most; what is left is told at its end.
const EXPOSURE_MAX: f64 = 1.5;

fn packaging(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("packaging").join(name)
}

/// What it says; `None` where it is not.
fn analyze(arguments: &[&str], file: &Path) -> Option<Output> {
    match Command::new("systemd-analyze").args(arguments).arg(file).output() {
        Ok(output) => Some(output),
        Err(error) => {
            println!("skipped: systemd-analyze: {error}; see `make setup`");
            None
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// fault 92: what the service manager takes from the daemon before it starts.
#[test]
fn the_unit_leaves_little() {
    let arguments = ["security", "--offline=true", "--no-pager"];
    let Some(output) = analyze(&arguments, &packaging("pickboxd.service")) else { return };
    let words = text(&output.stdout);
    let exposure = words.split("Overall exposure level for pickboxd.service: ").nth(1);
    let exposure = exposure.and_then(|rest| rest.split(' ').next()).unwrap_or_else(|| {
        panic!("systemd-analyze says: {words} {}", text(&output.stderr));
    });
    assert!(exposure.parse::<f64>().unwrap() <= EXPOSURE_MAX, "{words}");
}

/// A setting that is misspelt is none: systemd goes on without it.
#[test]
fn the_unit_says_nothing_that_systemd_does_not_know() {
    let Some(output) = analyze(&["verify"], &packaging("pickboxd.service")) else { return };
    let told = text(&output.stderr);
    let about_us = told.lines().filter(|line| line.contains("pickboxd.service"));
    // It looks whether the program is there too, which it is not on the machine that builds it.
    let complaints: Vec<&str> =
        about_us.filter(|line| !line.contains("/usr/bin/pickboxd is not executable")).collect();
    assert_eq!(complaints, [""; 0]);
}
