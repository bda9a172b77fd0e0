//! What deletions take away: of files that are gone, those whose content no other file took over.
//!
//! Pure. Who copies a tree and removes the original (`mv` between file systems, `rsync --delete` into
//! a tree that was moved at its source) deletes every file of it, and nothing is lost by that. So a
//! deletion is set off against a file that holds the same content and lives on, one for one: of five
//! hundred equal files that went, one that is left makes up for one.

use std::collections::BTreeMap;

use crate::content_id::ContentId;
use crate::record::FileId;

/// A file or symlink that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gone {
    /// Which.
    pub id: FileId,
    /// What it held; none of a symlink.
    pub content: Option<ContentId>,
}

/// How often each content is gone.
#[must_use]
pub fn by_content(gone: &[Gone]) -> BTreeMap<ContentId, usize> {
    let mut counts = BTreeMap::new();
    for content in gone.iter().filter_map(|gone| gone.content) {
        *counts.entry(content).or_default() += 1;
    }
    counts
}

/// Those of `gone` that nothing makes up for, in the order of their ids. `heirs`: how many files that
/// live on hold a content. The oldest of equal files count, since those may have been there at more
/// of the moments that the breaker looks at.
#[must_use]
pub fn lost(gone: &[Gone], heirs: &BTreeMap<ContentId, usize>) -> Vec<FileId> {
    let mut left = heirs.clone();
    let mut sorted = gone.to_vec();
    sorted.sort_unstable();
    let mut lost: Vec<FileId> = Vec::with_capacity(sorted.len());
    for file in sorted.into_iter().rev() {
        let heirs = file.content.and_then(|content| left.get_mut(&content));
        match heirs {
            Some(count) if *count > 0 => *count -= 1,
            _ => lost.push(file.id),
        }
    }
    lost.reverse();
    lost
}

#[cfg(test)]
mod tests {
    use pickbox_raft::core::ids::Index;
    use proptest::prelude::*;

    use super::*;
    use crate::breaker::{Breaker, HoldRule, Scale, Verdict};

    fn id(index: u64) -> FileId {
        FileId { epoch: 0, index: Index::new(index), ordinal: 0 }
    }

    fn content(number: u64) -> ContentId {
        ContentId::of(&number.to_be_bytes())
    }

    fn gone(range: std::ops::Range<u64>) -> Vec<Gone> {
        range.map(|n| Gone { id: id(n), content: Some(content(n)) }).collect()
    }

    fn verdict(gone: &[Gone], heirs: &BTreeMap<ContentId, usize>, files: u64) -> Verdict {
        let scale = Scale { now_ms: 5, files, newest: id(99_999) };
        Breaker::default().weigh(HoldRule::default(), scale, &lost(gone, heirs))
    }

    /// Trap T20: a tree that was copied and removed passes, the same number by `rm -rf` is held.
    #[test]
    fn a_copy_makes_up_for_the_original_and_nothing_else_does() {
        let all = gone(0..400);
        let copies: BTreeMap<_, _> = (0..400).map(|n| (content(n), 1)).collect();
        assert_eq!(verdict(&all, &copies, 800), Verdict::Pass);
        assert_eq!(verdict(&all, &BTreeMap::new(), 800), Verdict::Hold);
        let others: BTreeMap<_, _> = (400..800).map(|n| (content(n), 1)).collect();
        assert_eq!(verdict(&all, &others, 800), Verdict::Hold);
        let half: BTreeMap<_, _> = (0..199).map(|n| (content(n), 1)).collect();
        assert_eq!(verdict(&all, &half, 800), Verdict::Hold, "201 of 800 are too many");
    }

    /// Trap T20: one file that is left is no copy of five hundred.
    #[test]
    fn one_heir_makes_up_for_one_file() {
        let equal: Vec<_> =
            (0..500).map(|n| Gone { id: id(n), content: Some(content(7)) }).collect();
        let one = BTreeMap::from([(content(7), 1)]);
        assert_eq!(lost(&equal, &one), (0..499).map(id).collect::<Vec<_>>());
        assert_eq!(verdict(&equal, &one, 501), Verdict::Hold);
    }

    proptest! {
        /// The same files and heirs make the same loss, in whatever order they are told: as many as the
        /// heirs do not make up for, no more with more heirs, and all of it files that went.
        #[test]
        fn a_loss_depends_on_what_went_and_what_is_left_alone(
            contents in prop::collection::vec(prop::option::of(0..6_u64), 0..40),
            left in prop::collection::btree_map(0..8_u64, 0..5_usize, 0..8),
            seed in any::<prop::sample::Index>(),
        ) {
            let gone: Vec<Gone> = (0..).zip(&contents)
                .map(|(n, of)| Gone { id: id(n), content: of.map(content) })
                .collect();
            let heirs: BTreeMap<_, _> = left.iter().map(|(n, count)| (content(*n), *count)).collect();
            let found = lost(&gone, &heirs);
            let mut turned = gone.clone();
            if !turned.is_empty() {
                let by = seed.index(turned.len());
                turned.rotate_left(by);
            }
            prop_assert_eq!(&lost(&turned, &heirs), &found);
            let made_up: usize = by_content(&gone).iter()
                .map(|(content, count)| (*count).min(heirs.get(content).copied().unwrap_or(0)))
                .sum();
            prop_assert_eq!(found.len(), gone.len() - made_up);
            prop_assert!(found.iter().all(|id| gone.iter().any(|gone| gone.id == *id)));
            let more: BTreeMap<_, _> = heirs.iter().map(|(content, n)| (*content, n + 1)).collect();
            prop_assert!(lost(&gone, &more).iter().all(|id| found.contains(id)));
            prop_assert_eq!(lost(&gone, &BTreeMap::new()).len(), gone.len());
        }
    }
}
