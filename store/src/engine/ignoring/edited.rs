//! Rules that were edited here and are not in the log yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ground::is_directory;
use crate::engine::{Engine, Fatal};
use crate::ignored::{IGNORE_BYTES_MAX, Ignored, Rules, is_ignore_file};
use crate::placed::{LocalId, Placed};

impl Engine {
    /// Notes rules that were edited here, or that they are not any more.
    pub(in crate::engine) fn rules_edited(&mut self, id: LocalId, row: &Placed, is_ahead: bool) {
        if !is_ignore_file(&row.name) {
            return;
        }
        let is_small = row.seen.as_ref().is_some_and(|seen| seen.stat.size <= IGNORE_BYTES_MAX);
        if is_ahead && is_small {
            let rules = self.data.get(id).map_or_else(Rules::unknown, |text| Rules::parse(text));
            self.ignoring.edited.insert(id, Arc::new(rules));
        } else {
            self.ignoring.edited.remove(&id);
        }
    }

    /// Files of rules that are ahead of the log: they are proposed before all others...
    pub(in crate::engine) fn edited_rules(&mut self) -> Vec<LocalId> {
        let Self { ignoring, outbox, flying, looks, .. } = self;
        ignoring
            .edited
            .retain(|id, _| outbox.contains(*id) || flying.contains(id) || looks.contains_key(id));
        ignoring.edited.keys().copied().collect()
    }

    /// ...by what they say, where they stand here...
    pub(in crate::engine) fn rules_to_come(&mut self) -> Result<Ignored, Fatal> {
        let mut files = BTreeMap::new();
        for (id, rules) in self.ignoring.edited.clone() {
            let Some(parent) = self.row(id)?.map(|row| row.parent) else { continue };
            if let Some(path) = self.path_of_row(parent)? {
                files.insert(path, rules);
            }
        }
        Ok(Ignored::new(files))
    }

    /// ...and what they will ignore is not proposed before that is decided.
    pub(in crate::engine) fn waits_for_rules(
        &mut self,
        id: LocalId,
        row: &Placed,
        to_come: &Ignored,
    ) -> Result<bool, Fatal> {
        if to_come.is_empty() || is_ignore_file(&row.name) {
            return Ok(false);
        }
        let Some(path) = self.path_of_row(id)? else { return Ok(false) };
        Ok(to_come.by(&path, is_directory(row)).is_some())
    }
}
