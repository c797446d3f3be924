//! A verdict of the country in OpenCRVS's words.

use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::auth::RecordGrant;
use crate::handlers::extract::Caller;
use crate::handlers::problem::{Kind, Problem};
use crate::handlers::{AppState, decisions, transact};
use crate::records::commands::{Amendment, CommandError, Verdict};
use crate::records::model::Step;

/// An identifier of a person.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = OpenCrvsIdentifier)]
pub(super) struct Identifier {
    /// Its code.
    #[serde(rename = "type")]
    #[schema(pattern = r"^[^\x00]*$", examples("BIRTH_CONFIGURABLE_IDENTIFIER_1"))]
    pub(super) kind: Option<String>,
    /// Itself; empty: none was given.
    #[schema(pattern = r"^[^\x00]*$")]
    pub(super) value: Option<String>,
}

/// Registers under a number. Country configs name identifiers that they have no value for: those are left out.
pub(super) fn accepted(
    registration_number: Option<String>,
    identifiers: Vec<Identifier>,
    comment: Option<String>,
) -> Result<Verdict, Problem> {
    let registration_number = registration_number.ok_or_else(|| refused("a registration number is needed"))?;
    decisions::check_number(&registration_number)?;
    let given = |i: Identifier| {
        let full = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        Some((full(i.kind)?, full(i.value)?))
    };
    let identifiers: Vec<_> = identifiers.into_iter().filter_map(given).collect();
    let texts = identifiers.iter().flat_map(|(kind, value)| [kind, value]).chain(&comment);
    storable(texts)?;
    Ok(Verdict::Accepted { registration_number, identifiers, amendment: Amendment::default(), comment })
}

/// Does not register. Country configs have one code for every reason, `OTHER` or `other`, and say why in the comment: then
/// the comment is what people read as the reason, and the code is kept as the comment.
pub(super) fn rejected(reason: String, comment: Option<String>) -> Result<Verdict, Problem> {
    let said = comment.filter(|text| !text.trim().is_empty());
    let (reason, comment) = match said {
        Some(text) if reason.trim().eq_ignore_ascii_case("other") => (text, Some(reason)),
        said => (reason, said),
    };
    decisions::check_reason(&reason)?;
    storable(comment.iter())?;
    Ok(Verdict::Rejected { reason, comment })
}

/// Texts of GraphQL have escapes of their own, which the walk over the JSON does not see.
fn storable<'a>(mut texts: impl Iterator<Item = &'a String>) -> Result<(), Problem> {
    if texts.any(|text| text.contains('\0')) { Err(refused("a text holds a NUL character")) } else { Ok(()) }
}

fn refused(detail: &str) -> Problem {
    Problem::new(Kind::BadRequest).detail(detail)
}

/// What lets this caller give this verdict on the record of that id.
pub(super) fn grant(caller: &Caller, id: &str, verdict: &Verdict) -> Result<RecordGrant, Problem> {
    let id: Uuid = id
        .parse()
        .map_err(|_not_a_uuid: uuid::Error| Problem::new(Kind::InvalidId).detail("a record's id is a UUID"))?;
    let step = match verdict {
        Verdict::Accepted { .. } => Step::Confirm,
        Verdict::Rejected { .. } => Step::Refuse,
    };
    decisions::grant(caller, id, step)
}

/// Gives a verdict, so that one stands.
pub(super) async fn give(
    state: &AppState,
    caller: &Caller,
    id: &str,
    tracking_id: Option<String>,
    verdict: Verdict,
) -> Result<(), Problem> {
    let grant = grant(caller, id, &verdict)?;
    match transact::decide(state, decisions::decision(caller, grant, tracking_id, verdict)).await {
        // To send it again would change nothing.
        Ok(_) | Err(CommandError::AlreadyDecided | CommandError::Superseded) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_what_people_can_read() {
        let both = |reason: &str, comment: Option<&str>| match rejected(reason.to_owned(), comment.map(str::to_owned))
            .unwrap()
        {
            Verdict::Rejected { reason, comment } => (reason, comment),
            Verdict::Accepted { .. } => panic!("accepted"),
        };
        for code in ["other", "OTHER", " Other "] {
            assert_eq!(both(code, Some("No such mother")), ("No such mother".to_owned(), Some(code.to_owned())));
            assert_eq!(both(code, Some(" ")), (code.to_owned(), None));
        }
        let duplicate = ("DUPLICATE".to_owned(), Some("See the other".to_owned()));
        assert_eq!(both("DUPLICATE", Some("See the other")), duplicate);
        assert_eq!(rejected(" ".to_owned(), None).unwrap_err().kind(), Kind::BadRequest);
        assert_eq!(rejected("other".to_owned(), Some("a\0b".to_owned())).unwrap_err().kind(), Kind::BadRequest);
    }

    #[test]
    fn an_identifier_without_a_value_is_none() {
        let identifier =
            |value: &str| Identifier { kind: Some("NATIONAL_ID".to_owned()), value: Some(value.to_owned()) };
        let verdict = accepted(Some("2026B1".to_owned()), vec![identifier(""), identifier("77")], None).unwrap();
        let Verdict::Accepted { identifiers, .. } = verdict else { panic!("rejected") };
        assert_eq!(identifiers, [("NATIONAL_ID".to_owned(), "77".to_owned())]);
    }

    #[test]
    fn a_number_is_needed_and_nothing_holds_a_nul() {
        assert_eq!(accepted(None, Vec::new(), None).unwrap_err().kind(), Kind::BadRequest);
        let comment = Some("a\0b".to_owned());
        assert_eq!(accepted(Some("1".to_owned()), Vec::new(), comment).unwrap_err().kind(), Kind::BadRequest);
    }
}
