//! People, their names, addresses and papers.

use async_graphql::{ID, InputObject};

use super::super::scalars::{Date, PlainDate};

#[derive(InputObject)]
pub(in super::super) struct HumanNameInput {
    #[graphql(name = "use")]
    purpose: Option<String>,
    first_names: Option<String>,
    middle_name: Option<String>,
    family_name: Option<String>,
    married_last_name: Option<String>,
}

#[derive(InputObject)]
pub(in super::super) struct IdentityInput {
    id: Option<ID>,
    #[graphql(name = "type")]
    kind: Option<String>,
    other_type: Option<String>,
    fields_modified_by_identity: Option<Vec<Option<String>>>,
}

#[derive(InputObject)]
pub(in super::super) struct ContactPointInput {
    system: Option<String>,
    value: Option<String>,
    #[graphql(name = "use")]
    purpose: Option<String>,
}

#[derive(InputObject)]
pub(in super::super) struct AddressInput {
    #[graphql(name = "use")]
    purpose: Option<String>,
    #[graphql(name = "type")]
    kind: Option<String>,
    text: Option<String>,
    line: Option<Vec<Option<String>>>,
    city: Option<String>,
    district: Option<String>,
    state: Option<String>,
    part_of: Option<String>,
    postal_code: Option<String>,
    country: Option<String>,
    from: Option<Date>,
    to: Option<Date>,
}

#[derive(InputObject)]
pub(in super::super) struct DeceasedInput {
    deceased: Option<bool>,
    death_date: Option<PlainDate>,
}

/// A scanned document: its bytes in `data`, or where OpenCRVS stored them in `uri`.
#[derive(InputObject)]
pub(in super::super) struct AttachmentInput {
    #[graphql(name = "_fhirID")]
    fhir_id: Option<ID>,
    content_type: Option<String>,
    pub(super) data: Option<String>,
    uri: Option<String>,
    status: Option<String>,
    original_file_name: Option<String>,
    system_file_name: Option<String>,
    #[graphql(name = "type")]
    kind: Option<String>,
    description: Option<String>,
    subject: Option<String>,
    created_at: Option<Date>,
}

#[derive(InputObject)]
pub(in super::super) struct PersonInput {
    #[graphql(name = "_fhirID")]
    fhir_id: Option<ID>,
    identifier: Option<Vec<Option<IdentityInput>>>,
    name: Option<Vec<Option<HumanNameInput>>>,
    telecom: Option<Vec<Option<ContactPointInput>>>,
    gender: Option<String>,
    birth_date: Option<PlainDate>,
    age: Option<f64>,
    marital_status: Option<String>,
    occupation: Option<String>,
    details_exist: Option<bool>,
    reason_not_applying: Option<String>,
    date_of_marriage: Option<Date>,
    multiple_birth: Option<i64>,
    address: Option<Vec<Option<AddressInput>>>,
    photo: Option<Vec<AttachmentInput>>,
    deceased: Option<DeceasedInput>,
    nationality: Option<Vec<Option<String>>>,
    educational_attainment: Option<String>,
    age_of_individual_in_years: Option<i64>,
    exact_date_of_birth_unknown: Option<bool>,
}

/// Whoever has a part in the event without being who it is about.
#[derive(InputObject)]
pub(in super::super) struct RelatedPersonInput {
    id: Option<ID>,
    #[graphql(name = "_fhirID")]
    fhir_id: Option<ID>,
    #[graphql(name = "_fhirIDPatient")]
    fhir_id_patient: Option<ID>,
    relationship: Option<String>,
    other_relationship: Option<String>,
    affidavit: Option<Vec<AttachmentInput>>,
    exact_date_of_birth_unknown: Option<bool>,
    identifier: Option<Vec<Option<IdentityInput>>>,
    name: Option<Vec<Option<HumanNameInput>>>,
    telecom: Option<Vec<Option<ContactPointInput>>>,
    gender: Option<String>,
    birth_date: Option<PlainDate>,
    age: Option<f64>,
    marital_status: Option<String>,
    occupation: Option<String>,
    details_exist: Option<bool>,
    reason_not_applying: Option<String>,
    date_of_marriage: Option<Date>,
    multiple_birth: Option<i64>,
    address: Option<Vec<Option<AddressInput>>>,
    photo: Option<Vec<AttachmentInput>>,
    deceased: Option<DeceasedInput>,
    nationality: Option<Vec<Option<String>>>,
    educational_attainment: Option<String>,
    age_of_individual_in_years: Option<i64>,
}
