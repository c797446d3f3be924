//! What the steps put in: submissions, verdicts, answers.

use std::time::Duration;

use crvs_outbox::outbox::Claimed;
use crvs_outbox::outbox::complete::Outcome as Ending;
use crvs_outbox::records::attachments::{Attachment, IMAGES_AND_PDF};
use crvs_outbox::records::commands::{Amendment, Answer, Initiator, Submission, Verdict};
use crvs_outbox::records::fhir::{Declaration, Inline};
use crvs_outbox::records::model::Step as Move;
use serde_json::Value;
use uuid::Uuid;

use super::How;
use super::model::Stands;

pub(super) fn initiator(id: &str) -> Initiator {
    Initiator { id: id.to_owned(), scopes: vec!["register".to_owned()] }
}

pub(super) fn submission(n: u8, user: &str, declaration: &str) -> Submission {
    Submission {
        transaction_id: format!("draft-{n:08}"),
        fingerprint: [u8::try_from(declaration.len() % 251).unwrap(); 32].into(),
        initiator: initiator(user),
        traceparent: None,
        event: "birth".to_owned(),
        goal: Move::Register,
        declaration: declaration.to_owned(),
        attachments: attachments_of(declaration, true),
        comment: None,
    }
}

/// The attachment inside the sample, as a handler decodes it.
pub(super) fn attachments_of(declaration: &str, wanted: bool) -> Vec<Attachment> {
    if !wanted {
        return Vec::new();
    }
    let parsed = Declaration::parse(declaration).unwrap();
    let decode = |a: &Inline<'_>| {
        let allowed = IMAGES_AND_PDF.map(str::to_owned);
        Attachment::decode(a.kind.clone(), a.content_type.as_deref(), &a.data, &allowed).unwrap()
    };
    parsed.inline().iter().map(decode).collect()
}

pub(super) fn record_of(reply: &str) -> Uuid {
    let reply: Value = serde_json::from_str(reply).unwrap();
    reply["record"]["id"].as_str().unwrap().parse().unwrap()
}

pub(super) fn accepts(n: u8, number: u8) -> Verdict {
    Verdict::Accepted {
        registration_number: format!("N-{n}-{number}"),
        identifiers: Vec::new(),
        amendment: Amendment::default(),
        comment: None,
    }
}

pub(super) fn rejects() -> Verdict {
    Verdict::Rejected { reason: "because".to_owned(), comment: None }
}

pub(super) fn stands(verdict: &Verdict) -> Stands {
    match verdict {
        Verdict::Accepted { registration_number, .. } => Stands::Accepted(registration_number.clone()),
        Verdict::Rejected { .. } => Stands::Rejected,
    }
}

pub(super) fn ending(how: How) -> Ending {
    match how {
        How::Delivered | How::Accepts(_) | How::Rejects => Ending::Delivered,
        How::Retry => Ending::Retry(Duration::ZERO),
        How::Dead => Ending::Dead,
        How::Released => Ending::Released(Duration::ZERO),
    }
}

/// What the country config says; its numbers are unique to the record.
pub(super) fn answer(how: How, message: &Claimed) -> Answer {
    match how {
        How::Delivered => Answer::Later,
        How::Retry | How::Dead | How::Released => Answer::Nothing,
        How::Accepts(number) => Answer::Verdict(Verdict::Accepted {
            registration_number: format!("A-{}-{number}", message.record_id),
            identifiers: Vec::new(),
            amendment: Amendment::default(),
            comment: None,
        }),
        How::Rejects => Answer::Verdict(rejects()),
    }
}
