//! Scanned documents: a `DocumentReference` each, with the bytes where [`Declaration::inline`] finds them.
//!
//! [`Declaration::inline`]: crate::records::fhir::Declaration::inline

use serde_json::{Map, Value, json};

use super::BuildError;
use super::input::{Input, wrong};
use super::resource::{Bundle, SECTIONS, SPECS};
use crate::records::fhir::identify::concept;

/// Adds the attachments of the registration.
pub(super) fn attachments(bundle: &mut Bundle<'_>, registration: &mut Input<'_>) -> Result<(), BuildError> {
    let references = registration.each("attachments", |attachment| document(bundle, attachment, None))?;
    if !references.is_empty() {
        bundle.section(SECTIONS, "supporting-documents", "Supporting Documents", &references);
    }
    Ok(())
}

/// Adds one document and returns its reference. `about` is the person that it shows.
pub(super) fn document(
    bundle: &mut Bundle<'_>,
    attachment: &mut Input<'_>,
    about: Option<&str>,
) -> Result<String, BuildError> {
    let place = attachment.place("");
    let place = place.trim_end_matches('/').to_owned();
    let given = attachment.id("_fhirID")?.map(|id| (id, attachment.place("_fhirID")));
    let mut document = bundle.resource("DocumentReference", &place, given)?;
    document.set("status", "current");
    document.set("masterIdentifier", json!({ "system": "urn:ietf:rfc:3986", "value": bundle.id_of(&place) }));
    let kind = attachment.text("type")?;
    document.set("type", kind.map_or_else(|| json!({}), |kind| concept(&format!("{SPECS}/supporting-doc-type"), kind)));
    document.set_some("docStatus", attachment.text("status")?.map(|status| status.to_lowercase().replace('_', "-")));
    let created = attachment.text("createdAt")?;
    document.set_some("created", created);
    document.set_some("indexed", created);
    document.set_some("description", attachment.text("description")?);
    let mut subject = Map::new();
    subject.extend(about.map(|about| ("reference".to_owned(), about.into())));
    subject.extend(attachment.text("subject")?.map(|subject| ("display".to_owned(), subject.into())));
    if !subject.is_empty() {
        document.set("subject", subject);
    }
    let mut names = Vec::new();
    for (name, system) in [("originalFileName", "original-file-name"), ("systemFileName", "system-file-name")] {
        let file = attachment.text(name)?;
        names.extend(file.map(|file| json!({ "system": format!("{SPECS}/id/{system}"), "value": file })));
    }
    document.list("identifier", names);
    document.set("content", json!([{ "attachment": content(attachment, &place)? }]));
    document.keep(attachment.rest());
    let reference = document.reference();
    bundle.add_document(document, place);
    Ok(reference)
}

/// The bytes or where they are. A path into OpenCRVS's own store is written where OpenCRVS writes it, into `data`.
fn content(attachment: &mut Input<'_>, place: &str) -> Result<Value, BuildError> {
    let declared = attachment.word("contentType")?;
    let data = match attachment.word("data")? {
        Some(data) => data,
        None => attachment.word("uri")?.ok_or_else(|| wrong(place, "an attachment with data, or with a uri"))?,
    };
    let mut content = Map::new();
    let mut media_type = declared;
    if ["http://", "https://", "/attachments/"].iter().any(|url| data.starts_with(url)) {
        content.insert("url".to_owned(), data.into());
    } else {
        let (url_type, bytes) = bytes_of(data, declared);
        media_type = declared.or(url_type);
        content.insert("data".to_owned(), bytes.into());
    }
    content.extend(media_type.map(|media_type| ("contentType".to_owned(), media_type.into())));
    Ok(content.into())
}

/// The base64 of a `data:` URL and its media type. One that disagrees with the declared type stays whole, and so does one
/// without base64: who decodes it refuses it.
fn bytes_of<'t>(data: &'t str, declared: Option<&str>) -> (Option<&'t str>, &'t str) {
    let whole = (None, data);
    let scheme = data.get(..5).filter(|scheme| scheme.eq_ignore_ascii_case("data:"));
    let Some((head, bytes)) = scheme.and_then(|scheme| data.get(scheme.len()..)).and_then(|url| url.split_once(','))
    else {
        return whole;
    };
    let Some(head) = head.strip_suffix(";base64") else { return whole };
    let media_type = head.split(';').next().filter(|media_type| !media_type.is_empty());
    match (media_type, declared) {
        (Some(one), Some(other)) if !one.eq_ignore_ascii_case(other) => whole,
        (media_type, _) => (media_type, bytes),
    }
}
