//! Looking for parts of a bundle, and saying which one is not what it has to be.

use std::borrow::Cow;

use super::DeclarationError;
use super::splice::{Array, Object, Piece};

/// The codings of a `CodeableConcept`, if there are any.
pub(super) fn codings<'t>(object: &Object<'t>, concept: &str) -> Vec<Object<'t>> {
    let concept = object.object(concept);
    concept.map(|concept| concept.objects("coding")).unwrap_or_default()
}

pub(super) fn codes(coding: &Object<'_>, system: &str, code: &str) -> bool {
    says(coding, "system", system) && says(coding, "code", code)
}

pub(super) fn says(object: &Object<'_>, name: &str, value: &str) -> bool {
    object.string(name).as_deref() == Some(value)
}

/// What has to be an object; `path` says which, should it not be one. The others likewise.
pub(super) fn object<'t>(piece: Option<Piece<'t>>, path: &str) -> Result<Object<'t>, DeclarationError> {
    let object = piece.and_then(Piece::object);
    object.ok_or_else(|| malformed(path, "an object"))
}

pub(super) fn array<'t>(piece: Piece<'t>, path: &str) -> Result<Array<'t>, DeclarationError> {
    piece.array().ok_or_else(|| malformed(path, "an array"))
}

pub(super) fn string<'t>(piece: Option<Piece<'t>>, path: &str) -> Result<Cow<'t, str>, DeclarationError> {
    let string = piece.and_then(Piece::string);
    string.ok_or_else(|| malformed(path, "a string"))
}

pub(super) fn malformed(path: &str, expected: &'static str) -> DeclarationError {
    let path = path.to_owned();
    DeclarationError::Malformed { path, expected }
}
