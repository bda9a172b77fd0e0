//! People's tool: `pickbox --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    pickbox_cli::tool::main(std::env::args_os().skip(1))
}
