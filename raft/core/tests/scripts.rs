//! Runs the scripts in `tests/scripts`: each is a story, told in commands (`> ...`) and in what the
//! nodes do then. With `UPDATE=1` in the environment the stories are written anew: read the
//! difference before you believe it.

#[cfg(test)]
mod harness;

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::path::Path;

    use super::harness::Harness;

    /// Runs all commands of a script and returns it with what came out.
    fn replay(script: &str) -> String {
        let mut told = String::new();
        let mut harness = Harness::default();
        let lines = script.lines().filter(|line| line.starts_with(['#', '>']) || line.is_empty());
        for line in lines {
            writeln!(told, "{line}").unwrap();
            if let Some(command) = line.strip_prefix('>') {
                told += &harness.run(command.trim());
            }
        }
        told
    }

    /// Every script tells what it always told (the numbers in it are those of the checklist).
    #[test]
    fn nodes_do_what_the_scripts_say() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
        let update = std::env::var_os("UPDATE").is_some();
        let mut scripts = 0;
        let mut wrong = String::new();
        for found in std::fs::read_dir(folder).unwrap() {
            let path = found.unwrap().path();
            let script = std::fs::read_to_string(&path).unwrap();
            let told = replay(&script);
            scripts += 1;
            if told == script {
                continue;
            }
            if update {
                std::fs::write(&path, told).unwrap();
            } else {
                let at = told.lines().zip(script.lines()).position(|(a, b)| a != b);
                let line = at.unwrap_or_else(|| told.lines().count().min(script.lines().count()));
                let name = path.file_name().unwrap().to_string_lossy();
                let (is, was) = (told.lines().nth(line), script.lines().nth(line));
                writeln!(wrong, "{name}:{}: {is:?} instead of {was:?}", line + 1).unwrap();
            }
        }
        assert!(wrong.is_empty(), "scripts tell something else now:\n{wrong}");
        assert!(scripts > 0, "there are scripts");
    }
}
