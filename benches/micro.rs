//! How long the pure parts take: rendering, stamping, signing, the table of transitions, and the delay before the next
//! attempt. `make micro` runs all of it, `make micro ARGS=stamping` a part.
//!
//! Times are those of this machine and this moment: criterion says whether they differ from the last run's by more than
//! chance. What must not grow unseen is counted instead, in `instructions.rs`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use criterion::{BatchSize, Criterion, Throughput};
use crvs_outbox::auth::{MintSettings, Minter, Signer, WebhookKey, WebhookSecret};
use crvs_outbox::outbox::destination::Format;
use crvs_outbox::outbox::retry::{self, Answer, Policy};
use crvs_outbox::records::fhir::{Declaration, DeclarationError, Stamp};
use crvs_outbox::records::model::{self, Status, Step};
use crvs_outbox::samples;
use crvs_outbox::workers::payload;
use crvs_outbox::workers::signature::Signing;
use time::macros::datetime;

use self::inputs::Failure;

mod inputs;

/// Bytes of a scanned page, as base64.
const SCAN: usize = 4 << 20;

fn main() -> Result<(), Failure> {
    let mut criterion = Criterion::default().configure_from_args();
    rendering(&mut criterion)?;
    stamping(&mut criterion)?;
    signing(&mut criterion)?;
    transition(&mut criterion);
    backoff(&mut criterion);
    criterion.final_summary();
    Ok(())
}

/// A claimed message to the request that is sent.
fn rendering(criterion: &mut Criterion) -> Result<(), Failure> {
    let (message, stored) = (inputs::message(), inputs::stored()?);
    let mut group = criterion.benchmark_group("rendering");
    for (name, format, declaration, document) in [
        ("cloudevents", Format::Cloudevents, Some(stored.clone()), None),
        ("opencrvs-search", Format::OpencrvsSearch, Some(stored.clone()), None),
        ("opencrvs-audit", Format::OpencrvsAudit, None, None),
        ("opencrvs-trigger", Format::OpencrvsTrigger, None, Some(stored)),
    ] {
        let source = inputs::source(declaration);
        let size = payload::render(format, &message, &source, document.clone())?.body.len();
        group.throughput(Throughput::Bytes(size as u64));
        // A worker owns what it read and gives it away.
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || document.clone(),
                |document| payload::render(format, &message, &source, document),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
    Ok(())
}

/// A declaration as it was sent to one that can be stored.
fn stamping(criterion: &mut Criterion) -> Result<(), Failure> {
    let urls = inputs::urls();
    let scanned = with_a_scan()?;
    let mut group = criterion.benchmark_group("stamping");
    let texts = samples::ALL.map(|(event, text)| (event, event, text));
    for (name, event, text) in texts.into_iter().chain([("birth-with-a-scan", "birth", scanned.as_str())]) {
        let stamp = inputs::stamp(event);
        stamped(text, &stamp, &urls)?;
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| stamped(black_box(text), &stamp, &urls)));
    }
    group.finish();
    Ok(())
}

fn stamped(text: &str, stamp: &Stamp<'_>, urls: &[String]) -> Result<String, DeclarationError> {
    Declaration::parse(text)?.stamped(stamp, urls)
}

/// A birth whose picture has the size of a scanned page.
fn with_a_scan() -> Result<String, Failure> {
    let declaration = Declaration::parse(samples::BIRTH)?;
    let picture = declaration.inline().first().ok_or("the sample has no picture")?;
    Ok(samples::BIRTH.replace(&*picture.data, &"A".repeat(SCAN)))
}

/// A body to its signatures, and tokens.
fn signing(criterion: &mut Criterion) -> Result<(), Failure> {
    let body = inputs::stored()?;
    let now = SystemTime::from(datetime!(2026-11-01 12:00 UTC));
    let mut group = criterion.benchmark_group("signing");
    let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
    let key = WebhookKey::parse("whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=")?;
    for (name, signing) in [
        ("webhook-secret", Signing::new(vec![secret], None)),
        ("webhook-key", Signing::new(Vec::new(), Some(Arc::new(key)))),
    ] {
        let signing = signing.ok_or("nothing to sign with")?;
        let headers = |body: &str| signing.headers("registered__confirm_draft-0001", now, body.as_bytes());
        headers(&body)?;
        group.bench_function(name, |bencher| bencher.iter(|| headers(black_box(&body))));
    }
    let (minter, message) = (minter()?, inputs::message());
    let record = || minter.for_record("clerk", message.record_id, message.action_id, "opencrvs:country");
    record()?;
    group.bench_function("token-of-a-record", |bencher| bencher.iter(record));
    let shared = || minter.for_delivery("clerk", &message.initiator_scopes, "opencrvs:search");
    shared()?;
    group.bench_function("token-that-is-shared", |bencher| bencher.iter(shared));
    group.finish();
    Ok(())
}

fn minter() -> Result<Minter, Failure> {
    let settings = MintSettings {
        issuer: "opencrvs:auth-service".to_owned(),
        actor: "crvs-outbox".to_owned(),
        gateway_audience: "opencrvs:gateway-user".to_owned(),
        delivery_ttl: Duration::from_mins(5),
        record_ttl: Duration::from_hours(30 * 24),
    };
    Ok(Minter::new(Arc::new(Signer::generate()?), settings)?)
}

/// Every step from every status.
fn transition(criterion: &mut Criterion) {
    criterion.bench_function("transition", |bencher| {
        bencher.iter(|| {
            for status in Status::ALL {
                for step in Step::ALL {
                    black_box(model::transition(black_box(status), None, black_box(step)).is_ok());
                }
            }
        });
    });
}

/// What becomes of a message after an attempt that failed.
fn backoff(criterion: &mut Criterion) {
    let policy = Policy::default();
    let answer = Answer::Status { code: 503, retry_after: Some(Duration::from_secs(2)) };
    criterion.bench_function("backoff", |bencher| {
        bencher.iter(|| retry::decide(&policy, black_box(answer), black_box(9), None, black_box(0.5)));
    });
}
