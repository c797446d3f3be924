//! All SQL of the domain: a file per table, a function per statement; and one for what a submission writes into many.
//! Private to the domain.

pub(super) mod action;
pub(super) mod attachment;
pub(super) mod blob;
pub(super) mod change;
pub(super) mod duplicate;
pub(super) mod find;
pub(super) mod record;
pub(super) mod record_match;
pub(super) mod submission;
pub(super) mod transaction;
pub(super) mod upload;
pub(super) mod version;
