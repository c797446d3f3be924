//! What clients send: the input objects of OpenCRVS 1.6 to 1.8 and of pull request 7559, under their names.
//!
//! Nothing of them is read by name but the registration's id and how much it brings: they say what may come, and the builder
//! ([`crate::records::fhir::build`]) takes it from there. Where OpenCRVS has an enum, this has a text: their values differ
//! from version to version, countries add their own, and an error would quote the value. A user's `password` is not taken.

mod people;
mod registration;

use async_graphql::InputObject;

use self::people::{PersonInput, RelatedPersonInput};
use self::registration::LocationInput;
pub(super) use self::registration::RegistrationInput;
use super::scalars::Date;

/// The ids that a client knows of an earlier time.
#[derive(InputObject)]
pub(super) struct ObservationFHIRIDS {
    male_dependents_of_deceased: Option<String>,
    female_dependents_of_deceased: Option<String>,
    manner_of_death: Option<String>,
    death_description: Option<String>,
    cause_of_death_established: Option<String>,
    cause_of_death_method: Option<String>,
    cause_of_death: Option<String>,
    birth_type: Option<String>,
    type_of_marriage: Option<String>,
    weight_at_birth: Option<String>,
    attendant_at_birth: Option<String>,
    children_born_alive_to_mother: Option<String>,
    foetal_deaths_to_mother: Option<String>,
    last_previous_live_birth: Option<String>,
}

/// The ids that a client knows of an earlier time.
#[derive(InputObject)]
#[graphql(name = "FHIRIDMap")]
pub(super) struct FhirIdMap {
    composition: Option<String>,
    encounter: Option<String>,
    event_location: Option<String>,
    questionnaire_response: Option<String>,
    observation: Option<ObservationFHIRIDS>,
}

/// A question that a country added to the form.
#[derive(InputObject)]
pub(super) struct QuestionnaireQuestionInput {
    field_id: Option<String>,
    value: Option<String>,
}

/// Who attended a death.
#[derive(InputObject)]
pub(super) struct MedicalPractitionerInput {
    name: Option<String>,
    qualification: Option<String>,
    last_visit_date: Option<Date>,
}

/// A birth.
#[derive(InputObject)]
pub(super) struct BirthRegistrationInput {
    #[graphql(name = "_fhirIDMap")]
    fhir_id_map: Option<FhirIdMap>,
    pub(super) registration: Option<RegistrationInput>,
    child: Option<PersonInput>,
    mother: Option<PersonInput>,
    father: Option<PersonInput>,
    informant: Option<RelatedPersonInput>,
    event_location: Option<LocationInput>,
    birth_type: Option<String>,
    questionnaire: Option<Vec<Option<QuestionnaireQuestionInput>>>,
    weight_at_birth: Option<f64>,
    attendant_at_birth: Option<String>,
    other_attendant_at_birth: Option<String>,
    children_born_alive_to_mother: Option<i64>,
    foetal_deaths_to_mother: Option<i64>,
    last_previous_live_birth: Option<Date>,
    created_at: Option<Date>,
    updated_at: Option<Date>,
}

/// A death.
#[derive(InputObject)]
pub(super) struct DeathRegistrationInput {
    #[graphql(name = "_fhirIDMap")]
    fhir_id_map: Option<FhirIdMap>,
    pub(super) registration: Option<RegistrationInput>,
    deceased: Option<PersonInput>,
    informant: Option<RelatedPersonInput>,
    mother: Option<PersonInput>,
    father: Option<PersonInput>,
    spouse: Option<PersonInput>,
    event_location: Option<LocationInput>,
    questionnaire: Option<Vec<Option<QuestionnaireQuestionInput>>>,
    manner_of_death: Option<String>,
    death_description: Option<String>,
    cause_of_death_method: Option<String>,
    cause_of_death_established: Option<String>,
    cause_of_death: Option<String>,
    male_dependents_of_deceased: Option<f64>,
    female_dependents_of_deceased: Option<f64>,
    medical_practitioner: Option<MedicalPractitionerInput>,
    created_at: Option<Date>,
    updated_at: Option<Date>,
}

/// A marriage.
#[derive(InputObject)]
pub(super) struct MarriageRegistrationInput {
    #[graphql(name = "_fhirIDMap")]
    fhir_id_map: Option<FhirIdMap>,
    pub(super) registration: Option<RegistrationInput>,
    informant: Option<RelatedPersonInput>,
    bride: Option<PersonInput>,
    groom: Option<PersonInput>,
    witness_one: Option<RelatedPersonInput>,
    witness_two: Option<RelatedPersonInput>,
    event_location: Option<LocationInput>,
    type_of_marriage: Option<String>,
    questionnaire: Option<Vec<Option<QuestionnaireQuestionInput>>>,
    created_at: Option<Date>,
    updated_at: Option<Date>,
}

#[cfg(test)]
mod tests {
    /// Of what OpenCRVS's own schema says, the names that a rule of renaming could get wrong.
    #[test]
    fn the_schema_has_the_names_that_clients_use() {
        let sdl = super::super::schema(true).sdl();
        for line in [
            "createBirthRegistration(details: BirthRegistrationInput!): Void!",
            "createDeathRegistration(details: DeathRegistrationInput!): Void!",
            "createMarriageRegistration(details: MarriageRegistrationInput!): Void!",
            "fetchRecordStatus(draftId: ID!): RecordStatus!",
            "union RecordStatus = RecordProcessing | RecordProcessed",
            "processed: Boolean!",
            "recordId: ID!",
            "trackingId: String!",
            "hasPotentialDuplicates: Boolean!",
            "_fhirIDMap: FHIRIDMap",
            "observation: ObservationFHIRIDS",
            "_fhirIDPatient: ID",
            "paperFormID: String",
            "inCompleteFields: String",
            "timeLoggedMS: Int",
            "witnessOne: RelatedPersonInput",
            "name: [HumanNameInput]",
            "attachments: [AttachmentInput!]",
            "photo: [AttachmentInput!]",
            "status: [RegWorkflowInput]",
            "newValue: FieldValue!",
            "birthDate: PlainDate",
            "use: String",
            "type: String",
        ] {
            assert!(sdl.lines().any(|l| l.trim() == line), "{line}\n{sdl}");
        }
        assert!(!sdl.contains("password"));
    }
}
