//! The folder: namespace, versions, contents, the three-way comparison, placing files.

pub mod name;
