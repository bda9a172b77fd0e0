//! How programs save: in place, beside and renamed, with a backup; at once, or with the daemon at
//! work between two of their calls (trap T8).

use pickbox_store::content_id::ContentId;
use pickbox_store::folder::Kind;

use super::{People, Step, lock};

impl People {
    pub(super) fn save(&mut self, path: &str) -> bool {
        let text = self.text();
        self.save_as(path, &text)
    }

    pub(super) fn save_as(&mut self, path: &str, text: &[u8]) -> bool {
        if self.fs.open(path).is_err() {
            return false;
        }
        self.end(path);
        let done = self.fs.write(path, text).is_ok();
        if done {
            self.finished(text);
        }
        done
    }

    pub(super) fn append(&mut self, path: &str) -> bool {
        let (text, Ok(before)) = (self.text(), self.fs.read(path)) else { return false };
        self.end(path);
        let done = self.fs.open(path).and_then(|file| file.append(&text)).is_ok();
        self.finished(&[before, text].concat());
        done
    }

    /// Cuts a small file by its last byte: what is left is as unique as it was.
    pub(super) fn truncate(&mut self, path: &str) -> bool {
        let Ok(mut bytes) = self.fs.read(path) else { return false };
        if bytes.pop().is_none() {
            return false;
        }
        self.end(path);
        let done = self.fs.open(path).and_then(|file| file.truncate(bytes.len())).is_ok();
        self.finished(&bytes);
        done
    }

    /// Trap T18: what is there is written over, and keeps its length, and perhaps its time.
    pub(super) fn overwrite(&mut self, path: &str) -> bool {
        let mut text = self.text();
        let Ok(before) = self.fs.read(path) else { return false };
        if text.len() > before.len() || before.len() > 1000 {
            return false;
        }
        text.resize(before.len(), b'.');
        self.end(path);
        let done = self.fs.open(path).and_then(|file| file.write_at(&text, 0)).is_ok();
        self.finished(&text);
        done
    }

    pub(super) fn save_beside(&mut self, path: &str) -> bool {
        // Its name may be in use.
        self.finish_steps();
        let (text, beside) = (self.text(), format!("folder/.tmp{}", self.host));
        self.end(&beside);
        if self.fs.write(&beside, &text).is_err() {
            return false;
        }
        self.finished(&text);
        // It may be seen before it has its name.
        let step = Step::RenameOrRemove { from: beside, to: path.to_owned() };
        self.now_or_later(vec![step])
    }

    /// The old file becomes a backup, the new one is written at the name, the backup goes.
    pub(super) fn save_as_vim(&mut self, path: &str) -> bool {
        if self.kind(path) != Some(Kind::File) {
            return false;
        }
        let backup = format!("{path}~");
        if !self.rename_over(path, &backup) {
            return false;
        }
        self.now_or_later(vec![Step::Save(path.to_owned()), Step::Unlink(backup)])
    }

    /// As logrotate does: the log is moved on, a new one begins.
    pub(super) fn rotate_log(&mut self, path: &str) -> bool {
        if self.kind(path) != Some(Kind::File) {
            return false;
        }
        self.rename_over(path, &format!("{path}.1")) && self.save(path)
    }

    /// Three names change places, one after the other.
    pub(super) fn rotate_names(&mut self, one: &str, two: &str, three: &str) -> bool {
        if [one, two, three].iter().any(|path| self.kind(path).is_none()) {
            return false;
        }
        self.finish_steps();
        let away = format!("folder/.away{}", self.host);
        let rename = |from: &str, to: &str| Step::Rename { from: from.into(), to: to.into() };
        let done = self.kind(&away).is_none() && self.fs.rename(one, &away).is_ok();
        done && self.now_or_later(vec![rename(two, one), rename(three, two), rename(&away, three)])
    }

    /// Does the rest now, or with the daemon at work in between.
    fn now_or_later(&mut self, steps: Vec<Step>) -> bool {
        self.steps.extend(steps);
        if self.random.per_mille(500) {
            self.finish_steps();
        }
        true
    }

    /// Who is at work ends it.
    pub(super) fn finish_steps(&mut self) {
        while !self.steps.is_empty() {
            self.next_step();
        }
    }

    /// A program goes on.
    pub(super) fn next_step(&mut self) -> bool {
        let Some(step) = self.steps.pop_front() else { return false };
        self.story.push(format!("host {} user: then {step:?}", self.host));
        match step {
            Step::Rename { from, to } => self.rename_over(&from, &to),
            Step::RenameOrRemove { from, to } => {
                let done = self.rename_over(&from, &to);
                if !done {
                    self.end(&from);
                    let _ = self.fs.unlink(&from);
                }
                done
            }
            Step::Save(path) => self.save(&path),
            Step::Unlink(path) => {
                self.end(&path);
                self.fs.unlink(&path).is_ok()
            }
        }
    }

    /// A rename over whatever is there; what it ends is expected no more.
    pub(super) fn rename_over(&mut self, from: &str, to: &str) -> bool {
        let same = match (self.fs.stat(from), self.fs.stat(to)) {
            (Ok(one), Ok(other)) => one.same_inode(&other),
            (Err(_), _) => return false,
            _ => false,
        };
        let ended = self.fs.read(to).ok().filter(|_| !same);
        let done = self.fs.rename(from, to).is_ok();
        // A rename that fails ends nothing.
        if let Some(bytes) = ended.filter(|_| done) {
            lock(&self.written).kept.remove(&ContentId::of(&bytes));
        }
        done
    }
}
