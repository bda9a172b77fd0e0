//! What follows when the rules changed.

use std::collections::BTreeSet;

use super::Former;
use super::ground::Ground;
use crate::engine::{Engine, Fatal};
use crate::ignored::Rules;
use crate::name::RelPath;
use crate::placed::LocalId;
use crate::record::{Body, FileId};

/// What a change of the rules can mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Something more is ignored.
    Adds,
    /// Something may not be ignored any more.
    TakesBack,
    /// A directory has another path: whatever is below may be ignored now, or not any more.
    Moves,
}

impl Reach {
    pub(super) fn between(old: &Rules, new: &Rules) -> Self {
        if new.only_adds_to(old) { Self::Adds } else { Self::TakesBack }
    }
}

impl Engine {
    /// Does what new rules of a directory mean for what is known below it.
    pub(super) fn review(
        &mut self,
        dir: FileId,
        reach: Reach,
        before: &Former,
    ) -> Result<(), Fatal> {
        if !self.is_live() {
            return Ok(());
        }
        self.review_open()?;
        if reach == Reach::Adds {
            return Ok(());
        }
        let before = (reach == Reach::TakesBack).then_some(before);
        self.review_records(dir, before)?;
        let local = if dir == FileId::ROOT { Some(LocalId::ROOT) } else { self.row_of(dir)? };
        let Some(local) = local else { return Ok(()) };
        self.review_rows(local, before)?;
        // What nobody was told of while it was ignored.
        self.ask_rescan(local)
    }

    /// What is open and ignored now is not open any more.
    fn review_open(&mut self) -> Result<(), Fatal> {
        let mut ids: BTreeSet<LocalId> = self.outbox.first(usize::MAX).into_iter().collect();
        ids.extend(self.looks.keys().chain(self.limbo.keys()).chain(self.offers.keys()));
        ids.extend(&self.refused_rows);
        for id in ids {
            let Some(row) = self.row(id)? else { continue };
            if self.ground_of(id, &row)? != Ground::Counts {
                self.settle(id)?;
            }
        }
        let here = self.ignoring.here.clone();
        let counts = |path: &RelPath| here.by(path, false).is_none();
        self.left_out.retain(counts);
        self.open_for_writing.retain(counts);
        for id in self.ignoring.kept.clone() {
            self.try_kept(id)?;
        }
        Ok(())
    }

    /// What the log has below a directory, was ignored, and is not any more.
    fn review_records(&mut self, dir: FileId, before: Option<&Former>) -> Result<(), Fatal> {
        let Some(path) = self.index.path_of(dir)? else { return Ok(()) };
        let now = self.ignoring.agreed.clone();
        let mut stack = vec![(dir, path)];
        while let Some((dir, path)) = stack.pop() {
            let mut after = None;
            loop {
                let page = self.index.children(dir, after.as_ref(), 1024)?;
                let Some((last, _)) = page.last() else { break };
                after = Some(last.clone());
                for (name, id) in page {
                    let Some(record) = self.index.record(id)? else { continue };
                    let (at, is_dir) = (path.join(&name), record.body == Body::Directory);
                    if now.by(&at, is_dir).is_some() {
                        continue;
                    }
                    let was = before.is_none_or(|before| before.agreed.by(&at, is_dir).is_some());
                    if was && self.row_of(id)?.is_none() {
                        self.todo.insert(id);
                    }
                    if is_dir {
                        stack.push((id, at));
                    }
                }
            }
        }
        Ok(())
    }

    /// What stands here below a directory, was ignored, and is not any more: disk and log are
    /// compared as after a stop. What happened to it meanwhile the walk tells.
    fn review_rows(&mut self, dir: LocalId, before: Option<&Former>) -> Result<(), Fatal> {
        let mut stack = vec![dir];
        while let Some(dir) = stack.pop() {
            let mut after = None;
            loop {
                let page = self.tables()?.children(dir, after.as_ref(), 1024)?;
                let Some((last, _)) = page.last() else { break };
                after = Some(last.clone());
                for (_, id) in page {
                    let Some(row) = self.row(id)? else { continue };
                    if super::ground::is_directory(&row) {
                        stack.push(id);
                    }
                    let was = match (before, self.path_of_row(id)?) {
                        (Some(before), Some(path)) => {
                            before.here.by(&path, super::ground::is_directory(&row)).is_some()
                        }
                        _ => true,
                    };
                    if was {
                        self.settle(id)?;
                    }
                }
            }
        }
        Ok(())
    }
}
