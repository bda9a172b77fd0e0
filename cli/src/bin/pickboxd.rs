//! The daemon: `pickboxd --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    pickbox_cli::start::main(std::env::args_os().skip(1))
}
