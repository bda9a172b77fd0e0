//! Several engines over real folders, with a log, a watcher and a content worker that a test
//! drives step by step: no thread, no clock, no socket.

mod barriers;
mod brought;
mod compare;
mod conflicts;
mod exchanges;
mod fights;
mod fleet;
mod guards;
mod identities;
mod ignoring;
mod keeping;
mod kinds;
mod lines;
mod lists;
mod losses;
mod meetings;
mod offers;
mod owners;
mod quarantine;
mod quorum;
mod racers;
mod races;
mod racy;
mod random;
mod readmission;
mod reads;
mod roots;
mod space;
mod states;
mod stories;
mod together;
mod whys;
mod xattrs;
