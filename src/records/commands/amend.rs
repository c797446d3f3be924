//! What the country adds to a declaration with its acceptance: identifiers of the child, fields, notes.
//!
//! Nothing of it may cost the acceptance: what does not fit the declaration is kept with the verdict, or left out.

use serde_json::value::RawValue;
use sqlx::PgConnection;

use super::CommandError;
use crate::json;
use crate::records::duplicates::{self, Keys, PossibleDuplicate};
use crate::records::fhir::{Declaration, DeclarationError, Form, Stamp};
use crate::records::store::attachment;
use crate::records::store::record::Row;
use crate::records::store::version::{self, NewVersion};

/// What the country adds to what was declared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amendment {
    /// Fields of a flat declaration, as a JSON object. A bundle has no fields: it stays as it is.
    pub declaration: Option<String>,
    /// Notes beside it, as a JSON object.
    pub annotation: Option<String>,
}

impl Amendment {
    /// Of both parts what is an object with members, and can be stored.
    pub fn new(declaration: Option<&RawValue>, annotation: Option<&RawValue>) -> Self {
        let kept = |part: Option<&RawValue>| {
            let text = part?.get();
            let is_object = text.starts_with('{') && text[1..].trim_start() != "}";
            (is_object && json::digest(text.as_bytes()).is_ok()).then(|| text.to_owned())
        };
        Self { declaration: kept(declaration), annotation: kept(annotation) }
    }

    /// Whether there is nothing to add.
    pub fn is_empty(&self) -> bool {
        self.declaration.is_none() && self.annotation.is_none()
    }
}

/// What a new version of the declaration is made with.
pub(super) struct Given<'a> {
    pub(super) by: &'a str,
    pub(super) registration_number: Option<&'a str>,
    /// Of the child: type code and value.
    pub(super) identifiers: &'a [(String, String)],
    pub(super) fields: Option<&'a str>,
}

/// Makes a new version of the declaration with what was given, if that changes it; returns what it resembles then.
pub(super) async fn amend(
    conn: &mut PgConnection,
    row: &mut Row,
    given: &Given<'_>,
) -> Result<Vec<PossibleDuplicate>, CommandError> {
    let mut found = Vec::new();
    if given.identifiers.is_empty() && given.fields.is_none() {
        return Ok(found);
    }
    let Some(text) = version::declaration(conn, row.id, row.version).await? else {
        return Ok(found);
    };
    let declaration = Declaration::parse(&text)?;
    let Some(amended) = amended(&declaration, row, given)?.filter(|amended| *amended != text) else {
        return Ok(found);
    };
    if given.fields.is_some() {
        // Fields that make something else of a declaration are none.
        let Some(flat) = Declaration::parse(&amended).ok().filter(|now| now.form() == Form::Flat) else {
            return Ok(found);
        };
        // It is found, and compared with others, by what it says now.
        let keys = Keys::of(&row.event, &flat);
        found = duplicates::compare_again(conn, (row.id, &row.event, &keys), given.by).await?;
    }
    row.version += 1;
    let new = NewVersion { record_id: row.id, version: row.version, declaration: &amended, created_by: given.by };
    version::insert(conn, &[new]).await?;
    attachment::carry(conn, row.id, row.version - 1, row.version).await?;
    Ok(found)
}

fn amended(declaration: &Declaration<'_>, row: &Row, given: &Given<'_>) -> Result<Option<String>, CommandError> {
    if declaration.form() == Form::Flat {
        return Ok(given.fields.and_then(|fields| declaration.amended(fields)));
    }
    if given.identifiers.is_empty() {
        return Ok(None);
    }
    let stamp = Stamp {
        record_id: row.id,
        event: &row.event,
        tracking_id: &row.tracking_id,
        status: row.status.reg_status(),
        registration_number: given.registration_number,
        identifiers: given.identifiers,
    };
    match declaration.stamped(&stamp, &[]) {
        // A declaration without a child to give them to is no reason to refuse a registration.
        Err(DeclarationError::NoChild) => Ok(None),
        stamped => Ok(Some(stamped?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_objects_that_can_be_stored_are_kept() {
        let of = |text: &str| {
            let raw = RawValue::from_string(text.to_owned()).unwrap();
            Amendment::new(Some(&raw), None).declaration
        };
        assert_eq!(of(r#"{"a":1}"#).as_deref(), Some(r#"{"a":1}"#));
        for nothing in ["{}", "{ }", "[]", "null", "5", r#"{"a":1,"a":2}"#, "{\"a\":\"\\u0000\"}"] {
            assert_eq!(of(nothing), None, "{nothing}");
        }
    }
}
