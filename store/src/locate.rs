//! Where on this disk a content is: asked by the content worker, from a thread of its own, of
//! what the index last committed. An answer may be stale; the reader verifies what it reads.

use crate::content_id::ContentId;
use crate::contents::worker::Locate;
use crate::folder::Stat;
use crate::index::{IndexError, Reader};
use crate::name::RelPath;
use crate::placed::{ReadTables, Seen};

/// Places told at most.
const PLACES_MAX: usize = 4;

/// Looks contents up in the committed rows.
#[must_use]
pub fn locator(reader: Reader) -> Locate {
    Box::new(move |content| {
        places(&reader, content).unwrap_or_else(|error| {
            log::warn!("event=locate_failed content={content} error=\"{error}\"");
            Vec::new()
        })
    })
}

fn places(reader: &Reader, content: ContentId) -> Result<Vec<(RelPath, Stat)>, IndexError> {
    let files = reader.holders_of_content(content, PLACES_MAX)?;
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let Some(tables) = ReadTables::open(reader)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for file in files {
        let Some(row) = tables.of_file(file)? else { continue };
        if row.content() != Some(content) {
            continue;
        }
        if let (Some(Seen { stat, .. }), Some(path)) = (&row.seen, tables.path_of(&row)?) {
            found.push((path, *stat));
        }
    }
    Ok(found)
}
