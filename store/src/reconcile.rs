//! The three-way comparison: what to do about one thing, given what the log says of it, what this
//! node last had in common with the log, and what is on the disk now.
//!
//! Pure: no I/O, no clock, no memory. Everything that may have changed, for whatever reason, goes
//! through [`reconcile`]: a hint of inotify, a start-up scan, a committed entry, the echo of our
//! own writing. An echo compares equal and ends there; so nothing has to be suppressed.
//!
//! Content, attributes and place are compared apart, since each can change without the others:
//!
//! | agreed against base | actual against base | then                                          |
//! |---------------------|---------------------|-----------------------------------------------|
//! | same                | same                | nothing                                       |
//! | same                | changed             | propose it, on that base                      |
//! | changed             | same                | place it                                      |
//! | changed             | changed, equal now  | adopt: both say the same                      |
//! | changed             | changed, different  | propose it on the old base: the log decides   |
//! | gone                | same                | remove it                                     |
//! | gone                | changed             | make it anew: an edit beats a delete          |
//! | same                | gone                | propose the deletion                          |
//! | changed             | gone                | place it: an edit beats a delete              |

use serde::{Deserialize, Serialize};

use crate::name::Name;
use crate::record::{Attributes, Body, FileId, VersionVector};

/// Where a thing stands: its directory, as the log knows it, and its name there. The directory is
/// `None` while the log does not know it yet, or when the thing lies outside the folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The directory.
    pub parent: Option<FileId>,
    /// The name.
    pub name: Name,
}

/// One picture of one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// What it is and holds.
    pub body: Body,
    /// Mode, time and owner.
    pub attributes: Attributes,
    /// Where it stands.
    pub place: Place,
}

/// What the log says of a thing now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The picture.
    pub view: View,
    /// The version of its content.
    pub version: VersionVector,
}

/// What this disk and the log last had in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Of which file.
    pub id: FileId,
    /// The picture.
    pub view: View,
    /// The version of its content.
    pub version: VersionVector,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// All three agree.
    Nothing,
    /// The disk holds what the log says: remember that they have it in common.
    Adopt,
    /// The log does not know it: ask for it to be made.
    Create,
    /// The disk is ahead: ask for these parts to be changed.
    Propose(Parts),
    /// It vanished from the disk: ask for its deletion.
    Delete,
    /// The log is ahead: bring the disk to it.
    Place(Parts),
    /// The log has deleted it: take it off the disk.
    Remove,
    /// Neither the log nor the disk has it: forget it.
    Forget,
}

/// Which parts of a thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// What it holds.
    pub content: Part,
    /// Mode, time and owner.
    pub attributes: Part,
    /// Directory and name.
    pub place: Part,
}

/// Whether a part takes part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// Leave it.
    #[default]
    Keep,
    /// It changes.
    Change,
}

/// How one part stands over the three pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shift {
    None,
    Here,
    There,
    Equal,
    Both,
}

impl Shift {
    fn of<T: PartialEq>(agreed: &T, base: &T, actual: &T) -> Self {
        match (agreed == base, actual == base) {
            (true, true) => Self::None,
            (true, false) => Self::Here,
            (false, true) => Self::There,
            (false, false) if agreed == actual => Self::Equal,
            (false, false) => Self::Both,
        }
    }

    /// A change made here is proposed also when there was another one: the log decides.
    fn is_proposed(self) -> bool {
        matches!(self, Self::Here | Self::Both)
    }
}

fn parts(shifts: [Shift; 3], takes_part: fn(Shift) -> bool) -> Option<Parts> {
    let [content, attributes, place] =
        shifts.map(|shift| if takes_part(shift) { Part::Change } else { Part::Keep });
    let found = Parts { content, attributes, place };
    (found != Parts::default()).then_some(found)
}

/// Decides. `base` is `None` for a thing that this disk and the log never had in common; then
/// `agreed` is `None` as well, since nothing says that they are the same thing.
#[must_use]
#[expect(clippy::match_same_arms, reason = "a table, row by row")]
pub fn reconcile(agreed: Option<&Agreed>, base: Option<&Base>, actual: Option<&View>) -> Decision {
    match (agreed, base, actual) {
        (None, None, None) => Decision::Forget,
        (None, None, Some(_)) => Decision::Create,
        (Some(_), None, _) => Decision::Place(Parts {
            content: Part::Change,
            attributes: Part::Change,
            place: Part::Change,
        }),
        (None, Some(_), None) => Decision::Forget,
        (None, Some(base), Some(actual)) if actual.body == base.view.body => Decision::Remove,
        (None, Some(_), Some(_)) => Decision::Create,
        (Some(agreed), Some(base), None) if agreed.version == base.version => Decision::Delete,
        (Some(_), Some(_), None) => Decision::Place(Parts {
            content: Part::Change,
            attributes: Part::Change,
            place: Part::Change,
        }),
        (Some(agreed), Some(base), Some(actual)) => compare(agreed, base, actual),
    }
}

fn compare(agreed: &Agreed, base: &Base, actual: &View) -> Decision {
    let shifts = [
        Shift::of(&agreed.view.body, &base.view.body, &actual.body),
        Shift::of(&agreed.view.attributes, &base.view.attributes, &actual.attributes),
        Shift::of(&agreed.view.place, &base.view.place, &actual.place),
    ];
    if let Some(parts) = parts(shifts, Shift::is_proposed) {
        // A proposal goes first: what is placed then is what the log made of it.
        return Decision::Propose(parts);
    }
    if let Some(parts) = parts(shifts, |shift| shift == Shift::There) {
        return Decision::Place(parts);
    }
    let common = shifts.iter().all(|shift| *shift == Shift::None) && agreed.version == base.version;
    if common { Decision::Nothing } else { Decision::Adopt }
}

/// The attributes to propose: field by field, and attribute by attribute, what was changed here, else what the log says (of the
/// owner nothing, which leaves it as it is when the proposal is applied).
#[must_use]
pub fn merged_attributes(agreed: &Attributes, base: &Attributes, actual: Attributes) -> Attributes {
    Attributes {
        mode: if actual.mode == base.mode { agreed.mode } else { actual.mode },
        mtime: if actual.mtime == base.mtime { agreed.mtime } else { actual.mtime },
        owner: actual.owner.filter(|owner| base.owner.as_ref() != Some(owner)),
        xattrs: agreed.xattrs.with_changes(&base.xattrs, &actual.xattrs),
    }
}

#[cfg(test)]
mod tests {
    use pickbox_raft::core::ids::{Index, NodeId};
    use proptest::prelude::*;

    use super::*;
    use crate::content_id::ContentId;

    /// A world small enough that every combination is met: 3 contents, 2 modes, 3 places.
    fn view(content: u8, mode: u8, place: u8) -> View {
        View {
            body: Body::File { size: 1, content: ContentId::of(&[content]) },
            attributes: Attributes { mode: u16::from(mode), ..Attributes::default() },
            place: Place {
                parent: Some(FileId::ROOT),
                name: Name::new(vec![b'a' + place]).unwrap(),
            },
        }
    }

    fn views() -> Vec<View> {
        let mut all = Vec::new();
        for content in 0..3 {
            for mode in 0..2 {
                for place in 0..3 {
                    all.push(view(content, mode, place));
                }
            }
        }
        all
    }

    fn version(n: u64) -> VersionVector {
        VersionVector::default().bumped(NodeId::new(1), Index::new(n))
    }

    /// What a decision leads to when the log grants every proposal, as one step of a model.
    fn act(
        decision: &Decision,
        agreed: &mut Option<Agreed>,
        base: &mut Option<Base>,
        actual: &mut Option<View>,
        kept: &mut Vec<View>,
        clock: u64,
    ) {
        let link = |agreed: &Agreed| {
            Some(Base {
                id: FileId::ROOT,
                view: agreed.view.clone(),
                version: agreed.version.clone(),
            })
        };
        match decision {
            Decision::Nothing => {}
            Decision::Forget => *base = None,
            Decision::Adopt => *base = agreed.as_ref().and_then(link),
            Decision::Remove => {
                kept.extend(actual.take());
                *base = None;
            }
            Decision::Delete => {
                kept.extend(agreed.take().map(|agreed| agreed.view));
                *base = None;
            }
            Decision::Place(_) => {
                kept.extend(actual.take());
                *actual = agreed.as_ref().map(|agreed| agreed.view.clone());
                *base = agreed.as_ref().and_then(link);
            }
            Decision::Create => {
                *agreed = actual.clone().map(|view| Agreed { view, version: version(clock) });
                *base = agreed.as_ref().and_then(link);
            }
            Decision::Propose(parts) => {
                let (Some(a), Some(b), Some(now)) = (&mut *agreed, &*base, &*actual) else {
                    panic!("a proposal of parts needs all three pictures");
                };
                if parts.content == Part::Change {
                    if a.version != b.version && a.view.body != b.view.body {
                        // The log makes a conflict copy of what was here.
                        kept.push(now.clone());
                        *actual = None;
                        *base = None;
                        let placed = Decision::Place(Parts::default());
                        return act(&placed, agreed, base, actual, kept, clock);
                    }
                    // What the log replaces goes to history.
                    kept.push(a.view.clone());
                    a.view.body = now.body.clone();
                    a.version = version(clock);
                }
                let (agreed, common) = (&a.view.attributes, &b.view.attributes);
                a.view.attributes = merged_attributes(agreed, common, now.attributes.clone());
                if parts.place == Part::Change {
                    a.view.place = now.place.clone();
                }
                let mut linked = b.clone();
                linked.view.attributes = now.attributes.clone();
                linked.view.place = now.place.clone();
                linked.view.body = now.body.clone();
                linked.version = a.version.clone();
                *base = Some(linked);
            }
        }
    }

    /// Every combination of three pictures settles within four steps, and no content is gone: it
    /// is what all agree on, or it was kept.
    #[test]
    fn every_triple_settles_and_keeps_every_content() {
        let mut options: Vec<Option<View>> = views().into_iter().map(Some).collect();
        options.push(None);
        for a in &options {
            for b in &options {
                for s in &options {
                    let base =
                        b.clone().map(|view| Base { id: FileId::ROOT, view, version: version(1) });
                    if base.is_none() && a.is_some() {
                        continue;
                    }
                    let newer = match (a, b) {
                        (Some(a), Some(b)) => u64::from(a.body != b.body) + 1,
                        _ => 2,
                    };
                    let agreed = a.clone().map(|view| Agreed { view, version: version(newer) });
                    settle(agreed, base, s.clone());
                }
            }
        }
    }

    fn settle(mut agreed: Option<Agreed>, mut base: Option<Base>, mut actual: Option<View>) {
        let before = (agreed.clone(), base.clone(), actual.clone());
        let mut kept = Vec::new();
        let mut done = false;
        for clock in 10..14 {
            let decision = reconcile(agreed.as_ref(), base.as_ref(), actual.as_ref());
            if decision == Decision::Nothing || (decision == Decision::Forget && base.is_none()) {
                done = true;
                break;
            }
            act(&decision, &mut agreed, &mut base, &mut actual, &mut kept, clock);
        }
        assert!(done, "did not settle: {before:?}");
        assert_eq!(agreed.as_ref().map(|agreed| &agreed.view), actual.as_ref(), "{before:?}");
        for view in before.0.iter().map(|agreed| &agreed.view).chain(before.2.iter()) {
            let safe = actual.iter().chain(&kept).any(|other| other.body == view.body);
            assert!(safe, "a content is gone: {before:?}");
        }
    }

    proptest! {
        /// Both sides untouched since they last agreed: nothing to do, whatever they hold.
        #[test]
        fn an_echo_ends_here(content in 0u8..3, mode in 0u8..2, place in 0u8..3) {
            let view = view(content, mode, place);
            let agreed = Agreed { view: view.clone(), version: version(1) };
            let base = Base { id: FileId::ROOT, view: view.clone(), version: version(1) };
            prop_assert_eq!(
                reconcile(Some(&agreed), Some(&base), Some(&view)),
                Decision::Nothing
            );
        }
    }

    /// The table at the top of this module, row by row.
    #[test]
    fn each_row_of_the_table_decides_as_it_says() {
        let all = Parts { content: Part::Change, attributes: Part::Change, place: Part::Change };
        let content = Parts { content: Part::Change, ..Parts::default() };
        let agreed =
            |content: u8, at: u64| Some(Agreed { view: view(content, 0, 0), version: version(at) });
        let seen = |content: u8| Some(view(content, 0, 0));
        let base = Base { id: FileId::ROOT, view: view(0, 0, 0), version: version(1) };
        let rows = [
            (agreed(0, 1), seen(0), Decision::Nothing),
            (agreed(0, 1), seen(1), Decision::Propose(content)),
            (agreed(1, 2), seen(0), Decision::Place(content)),
            (agreed(1, 2), seen(1), Decision::Adopt),
            (agreed(1, 2), seen(2), Decision::Propose(content)),
            (None, seen(0), Decision::Remove),
            (None, seen(1), Decision::Create),
            (agreed(0, 1), None, Decision::Delete),
            (agreed(1, 2), None, Decision::Place(all)),
            (None, None, Decision::Forget),
        ];
        for (agreed, actual, expected) in rows {
            let decision = reconcile(agreed.as_ref(), Some(&base), actual.as_ref());
            assert_eq!(decision, expected, "{agreed:?} {actual:?}");
        }
        assert_eq!(reconcile(None, None, seen(0).as_ref()), Decision::Create);
        assert_eq!(reconcile(agreed(0, 1).as_ref(), None, None), Decision::Place(all));
    }

    /// Trap T14: a mode changed here and a content changed there are no conflict.
    #[test]
    fn a_mode_here_and_a_content_there_both_survive() {
        let base = Base { id: FileId::ROOT, view: view(0, 0, 0), version: version(1) };
        let agreed = Agreed { view: view(1, 0, 0), version: version(2) };
        let decision = reconcile(Some(&agreed), Some(&base), Some(&view(0, 1, 0)));
        let Decision::Propose(parts) = decision else { panic!("{decision:?}") };
        assert_eq!((parts.content, parts.attributes), (Part::Keep, Part::Change));
    }
}
