//! Walking the tree of directories, over tables of any transaction.

use std::ops::Bound;
use std::sync::Arc;

use redb::ReadableTable;

use crate::index::IndexError;
use crate::index::tables::{PlaceKey, record};
use crate::name::{Name, PATH_BYTES_MAX, RelPath};
use crate::record::FileId;

/// A file with all directories above it, from itself up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ancestry(Vec<(FileId, Name)>);

impl Ancestry {
    /// Walks up from `id`. The folder itself has no ancestry.
    pub(crate) fn of(
        records: &impl ReadableTable<u128, &'static [u8]>,
        id: FileId,
    ) -> Result<Self, IndexError> {
        let count = records.len()?;
        let (mut id, mut names) = (id, Vec::new());
        while id != FileId::ROOT {
            let row = record(records, id)?.ok_or(IndexError::Corrupt("a parent is missing"))?;
            names.push((id, row.name));
            id = row.parent;
            let depth = u64::try_from(names.len()).unwrap_or(u64::MAX);
            assert!(depth <= count, "directories form a tree: no walk up is longer than all");
        }
        Ok(Self(names))
    }

    /// Whether `id` is the file itself or above it.
    pub(crate) fn contains_file(&self, id: FileId) -> bool {
        self.0.iter().any(|(above, _)| *above == id)
    }

    /// Whether any of the names is `.git`.
    pub(crate) fn is_git(&self) -> bool {
        self.0.iter().any(|(_, name)| name.as_bytes() == b".git")
    }

    /// Bytes of the path.
    pub(crate) fn path_bytes(&self) -> usize {
        let names: usize = self.0.iter().map(|(_, name)| name.as_bytes().len() + 1).sum();
        names.saturating_sub(1)
    }

    /// The path of an entry below, or as much of its lower end as fits.
    pub(crate) fn path_below(&self, name: &Name) -> RelPath {
        let entry = (FileId::ROOT, name.clone());
        Self([entry].into_iter().chain(self.0.iter().cloned()).collect()).path_end()
    }

    /// The path, if it is not too long to be one.
    pub(crate) fn path(&self) -> Option<RelPath> {
        (self.path_bytes() <= PATH_BYTES_MAX).then(|| self.path_end())
    }

    /// The path, or as much of its lower end as fits.
    pub(crate) fn path_end(&self) -> RelPath {
        let mut bytes = 0;
        let fits = self.0.iter().take_while(|(_, name)| {
            bytes += name.as_bytes().len() + 1;
            bytes <= PATH_BYTES_MAX + 1
        });
        let names: Vec<&Name> = fits.map(|(_, name)| name).collect();
        names.iter().rev().fold(RelPath::root(), |path, name| path.join(name))
    }
}

/// The directory last asked for with all above it: changes come in flocks, from one directory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memo(Option<(FileId, Arc<Ancestry>)>);

impl Memo {
    /// What is above this directory, itself included.
    pub(crate) fn above(
        &mut self,
        records: &impl ReadableTable<u128, &'static [u8]>,
        directory: FileId,
    ) -> Result<Arc<Ancestry>, IndexError> {
        if let Some((known, ancestry)) = &self.0
            && *known == directory
        {
            return Ok(Arc::clone(ancestry));
        }
        let ancestry = Arc::new(Ancestry::of(records, directory)?);
        self.0 = Some((directory, Arc::clone(&ancestry)));
        Ok(ancestry)
    }

    /// Whether this is the directory last asked for: it is there then.
    pub(crate) fn knows(&self, directory: FileId) -> bool {
        self.0.as_ref().is_some_and(|(known, _)| *known == directory)
    }

    /// To be called when a directory gets another place, is taken away or becomes something else.
    pub(crate) fn forget(&mut self) {
        self.0 = None;
    }
}

/// Up to `limit` entries of a directory, by name, behind `after`.
pub(crate) fn children(
    names: &impl ReadableTable<PlaceKey, u128>,
    parent: FileId,
    after: Option<&Name>,
    limit: usize,
) -> Result<Vec<(Name, FileId)>, IndexError> {
    let number = parent.to_number();
    let start = match after {
        Some(name) => Bound::Excluded((number, name.as_bytes())),
        None => Bound::Included((number, [].as_slice())),
    };
    let mut found = Vec::new();
    for row in names.range::<(u128, &[u8])>((start, Bound::Unbounded))?.take(limit) {
        let (key, id) = row?;
        let (above, name) = key.value();
        if above != number {
            break;
        }
        let name = Name::new(name).map_err(|_| IndexError::Corrupt("a name"))?;
        found.push((name, FileId::from_number(id.value())));
    }
    Ok(found)
}
