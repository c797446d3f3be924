//! What is said of the registration rather than of the event.

use async_graphql::{ID, InputObject};

use super::super::scalars::{Date, FieldValue};
use super::people::{AddressInput, AttachmentInput, ContactPointInput, HumanNameInput, RelatedPersonInput};

#[derive(InputObject)]
pub(in super::super) struct LocationInput {
    #[graphql(name = "_fhirID")]
    fhir_id: Option<ID>,
    identifier: Option<Vec<Option<ID>>>,
    status: Option<String>,
    name: Option<String>,
    alias: Option<Vec<Option<String>>>,
    description: Option<String>,
    part_of: Option<String>,
    #[graphql(name = "type")]
    kind: Option<String>,
    telecom: Option<Vec<Option<ContactPointInput>>>,
    address: Option<AddressInput>,
    longitude: Option<f64>,
    latitude: Option<f64>,
    altitude: Option<f64>,
    geo_data: Option<String>,
}

#[derive(InputObject)]
pub(in super::super) struct UserIdentifierInput {
    #[graphql(name = "use")]
    purpose: Option<String>,
    system: Option<String>,
    value: Option<String>,
}

#[derive(InputObject)]
pub(in super::super) struct SignatureInput {
    data: String,
    #[graphql(name = "type")]
    kind: Option<String>,
}

#[derive(InputObject)]
pub(in super::super) struct UserInput {
    id: Option<ID>,
    name: Option<Vec<HumanNameInput>>,
    identifier: Option<Vec<Option<UserIdentifierInput>>>,
    full_honorific_name: Option<String>,
    username: Option<String>,
    mobile: Option<String>,
    status: Option<String>,
    system_role: Option<String>,
    role: Option<String>,
    email: Option<String>,
    primary_office: Option<String>,
    catchment_area: Option<Vec<Option<String>>>,
    device: Option<String>,
    signature: Option<SignatureInput>,
}

#[derive(InputObject)]
pub(in super::super) struct CommentInput {
    user: Option<UserInput>,
    comment: Option<String>,
    created_at: Option<Date>,
}

#[derive(InputObject)]
pub(in super::super) struct RegWorkflowInput {
    #[graphql(name = "type")]
    kind: Option<String>,
    user: Option<UserInput>,
    timestamp: Option<Date>,
    reason: Option<String>,
    comments: Option<Vec<Option<CommentInput>>>,
    location: Option<LocationInput>,
    #[graphql(name = "timeLoggedMS")]
    time_logged_ms: Option<i64>,
}

#[derive(InputObject)]
pub(in super::super) struct PaymentInput {
    payment_id: Option<ID>,
    #[graphql(name = "type")]
    kind: Option<String>,
    amount: Option<f64>,
    outcome: Option<String>,
    date: Option<Date>,
    data: Option<String>,
}

#[derive(InputObject)]
pub(in super::super) struct CertificateInput {
    collector: Option<RelatedPersonInput>,
    has_showed_verified_document: Option<bool>,
    payments: Option<Vec<Option<PaymentInput>>>,
    data: Option<String>,
    certificate_template_id: Option<String>,
}

#[derive(InputObject)]
pub(in super::super) struct CorrectionPaymentInput {
    #[graphql(name = "_fhirID")]
    fhir_id: Option<ID>,
    attachment_data: Option<String>,
    #[graphql(name = "type")]
    kind: String,
    amount: f64,
    outcome: String,
    date: Date,
}

#[derive(InputObject)]
pub(in super::super) struct CorrectionValueInput {
    section: String,
    field_name: String,
    old_value: Option<FieldValue>,
    new_value: FieldValue,
}

#[derive(InputObject)]
pub(in super::super) struct CorrectionInput {
    requester: String,
    requester_other: Option<String>,
    has_showed_verified_document: bool,
    no_supporting_documentation_required: bool,
    attachments: Vec<AttachmentInput>,
    payment: Option<CorrectionPaymentInput>,
    values: Vec<CorrectionValueInput>,
    location: LocationInput,
    reason: String,
    other_reason: String,
    note: String,
}

/// `contact` and `contactRelationship` are of 1.2, and still sent by data generators.
#[derive(InputObject)]
pub(in super::super) struct RegistrationInput {
    #[graphql(name = "_fhirID")]
    fhir_id: Option<ID>,
    draft_id: Option<String>,
    tracking_id: Option<String>,
    mosip_aid: Option<String>,
    registration_number: Option<String>,
    #[graphql(name = "paperFormID")]
    paper_form_id: Option<String>,
    page: Option<String>,
    book: Option<String>,
    informants_signature: Option<String>,
    groom_signature: Option<String>,
    bride_signature: Option<String>,
    witness_one_signature: Option<String>,
    witness_two_signature: Option<String>,
    informant_type: Option<String>,
    other_informant_type: Option<String>,
    contact: Option<String>,
    contact_relationship: Option<String>,
    contact_phone_number: Option<String>,
    contact_email: Option<String>,
    status: Option<Vec<Option<RegWorkflowInput>>>,
    #[graphql(name = "type")]
    kind: Option<String>,
    in_complete_fields: Option<String>,
    attachments: Option<Vec<AttachmentInput>>,
    certificates: Option<Vec<Option<CertificateInput>>>,
    location: Option<LocationInput>,
    correction: Option<CorrectionInput>,
    changed_values: Option<Vec<CorrectionValueInput>>,
}

impl RegistrationInput {
    /// Characters of the documents that it brings.
    pub(in super::super) fn size(&self) -> usize {
        let attachments = self.attachments.iter().flatten();
        attachments.filter_map(|attachment| attachment.data.as_deref()).map(str::len).sum()
    }
}
