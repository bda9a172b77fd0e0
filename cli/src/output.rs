//! The one door to standard output and standard error.

use std::fmt;
use std::io::{self, Write};

use crate::exit::CliError;

/// Writes what was asked for.
///
/// # Errors
/// When standard output does not take it. A reader that went away (`| head`) is no error: there is
/// nobody left to tell.
pub(crate) fn show(bytes: &[u8]) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(CliError::local("Cannot write to standard output")),
    }
}

/// Writes one line of talk to standard error; a closed one is not worth failing for.
pub(crate) fn say(line: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Lays rows out in columns, two spaces between them, the first row being the head.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let text = table(&[row(["NODE", "ROLE"]), row(["n", "leader"])]);
        assert_eq!(text, "NODE  ROLE\nn     leader\n");
    }
}
