//! Programs that keep files open (traps T7 and T11): they write through descriptors and mappings, now
//! and much later, wherever the file has gone meanwhile.

use pickbox_store::content_id::ContentId;

use super::{HOT_US, Holding, OPEN_MAX, People, lock};

/// A file that is closed is taken at once, however long it was open.
const LONG_US: u64 = HOT_US + 10_000_000;

impl People {
    pub(super) fn open(&mut self, path: &str) -> Option<&'static str> {
        if self.holding.len() >= OPEN_MAX {
            return None;
        }
        let file = self.fs.open(path).ok()?;
        // It may have been made just now.
        if let Ok(bytes) = file.read() {
            lock(&self.written).finished.insert(ContentId::of(&bytes));
        }
        self.holding.push(Holding { file, since_us: self.now_us, wrote: false });
        Some("open")
    }

    pub(super) fn go_on(&mut self) -> Option<&'static str> {
        if self.holding.is_empty() {
            return None;
        }
        let at = self.random.below(self.holding.len());
        let (text, what) = (self.text(), self.random.below(6));
        let written = self.written.clone();
        let holding = self.holding.get_mut(at)?;
        let before = holding.file.read().ok()?;
        let (kind, done) = match what {
            0 => return self.close(at),
            1 | 2 if !before.is_empty() => {
                ("store through a mapping", holding.file.store(&text, 0))
            }
            3 => ("cut what is open", holding.file.truncate(before.len() / 2)),
            _ => ("write to what is open", holding.file.append(&text)),
        };
        done.ok()?;
        let was_removed = holding.file.stat().is_ok_and(|stat| stat.nlink == 0);
        holding.wrote = true;
        let mut written = lock(&written);
        written.kept.remove(&ContentId::of(&before));
        if let Ok(bytes) = holding.file.read() {
            written.passed.insert(ContentId::of(&bytes), holding.since_us);
        }
        Some(if was_removed { "write to what was removed" } else { kind })
    }

    pub(super) fn close(&mut self, at: usize) -> Option<&'static str> {
        if at >= self.holding.len() {
            return None;
        }
        let holding = self.holding.swap_remove(at);
        if holding.wrote
            && let (Ok(bytes), Ok(stat)) = (holding.file.read(), holding.file.stat())
        {
            lock(&self.written).finished.insert(ContentId::of(&bytes));
            // Of a file that its user has deleted nothing is expected.
            if stat.nlink > 0 {
                self.finished(&bytes);
            }
        }
        let long = holding.wrote && self.now_us > holding.since_us + LONG_US;
        Some(if long { "close what was long open" } else { "close" })
    }
}
