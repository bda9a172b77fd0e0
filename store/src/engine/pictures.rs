//! The comparison of all that log and disk have, once they may be compared: at the start, and when a
//! whole state was put in force.
//!
//! There may be a million rows, and nearly all of them say what their records say. So both are read in
//! the order in which they lie in the index, through tables that are opened once a page, and only a row
//! for which something is to be done goes the way of a single one ([`Engine::settle`]).

use std::collections::HashMap;

use super::{Engine, Fatal};
use crate::placed::{LocalId, Placed, Tables};
use crate::reconcile::{Decision, Place, View, reconcile};
use crate::record::FileId;

/// Rows that are read together.
const PAGE_ROWS: usize = 1024;

impl Engine {
    /// Compares every record with its row, and every row with its record.
    pub(super) fn compare_all(&mut self) -> Result<(), Fatal> {
        let mut after = None;
        loop {
            let page = self.index.records(after, PAGE_ROWS)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            let tables = Tables::open(self.index.tables()?)?;
            for (id, _) in page {
                if tables.of_file(id)?.is_none() {
                    self.todo.insert(id);
                }
            }
        }
        let mut after = None;
        loop {
            let page = self.tables()?.page(after, PAGE_ROWS)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(*last);
            for (id, row) in self.without_even(page)? {
                self.compare_row(id, &row)?;
            }
        }
    }

    /// The rows of a page for which there may be something to do. Where bytes are in doubt or
    /// waiting those are all: what becomes of these is told as each row is settled.
    fn without_even(
        &mut self,
        page: Vec<(LocalId, Placed)>,
    ) -> Result<Vec<(LocalId, Placed)>, Fatal> {
        let is_doubtful = self.cut.is_some() || !self.suspects.is_empty();
        if is_doubtful || self.incoming.has_any() || self.adoption.is_some() {
            return Ok(page);
        }
        let ids = page.iter().filter_map(|(_, row)| row.base.as_ref()).map(|base| base.id);
        let records = self.index.records_of(ids)?;
        let mut parents = HashMap::new();
        let mut uneven = Vec::new();
        for (id, row) in page {
            let Some(record) = row.base.as_ref().and_then(|base| records.get(&base.id)) else {
                uneven.push((id, row));
                continue;
            };
            let agreed = self.agreed_of(record);
            let own = self.without_owner(row.clone());
            let actual = self.known_view(&own, &mut parents)?;
            let decision = reconcile(Some(&agreed), own.base.as_ref(), actual.as_ref());
            let is_even = actual.is_some() && decision == Decision::Nothing;
            if !is_even || self.is_in_flight(id) || !self.is_settled(id) {
                uneven.push((id, row));
            }
        }
        Ok(uneven)
    }

    /// What is on the disk for a row of the folder, if its bytes are known. Rows of one directory lie
    /// close together: what the log calls their directories is looked up once.
    fn known_view(
        &mut self,
        row: &Placed,
        parents: &mut HashMap<LocalId, Option<FileId>>,
    ) -> Result<Option<View>, Fatal> {
        let Some(seen) = row.seen.as_ref().filter(|_| row.parent != LocalId::QUARANTINE) else {
            return Ok(None);
        };
        let Some(body) = seen.body.clone() else { return Ok(None) };
        let parent = if let Some(parent) = parents.get(&row.parent) {
            *parent
        } else {
            let parent = self.file_of(row.parent)?;
            parents.insert(row.parent, parent);
            parent
        };
        let place = Place { parent, name: row.name.clone() };
        Ok(Some(View { body, attributes: seen.attributes(), place }))
    }

    fn compare_row(&mut self, id: LocalId, row: &Placed) -> Result<(), Fatal> {
        if row.parent == LocalId::QUARANTINE {
            self.quarantined.insert(id, self.now_ms);
        }
        // The scan tells of what the log never heard of as it is then, and reads what has to be.
        let is_new = row.base.is_none() && row.parent != LocalId::QUARANTINE;
        let unread = row.seen.as_ref().is_some_and(|seen| seen.body.is_none());
        if (is_new || unread) && !self.has_scanned() { Ok(()) } else { self.settle(id) }
    }
}
