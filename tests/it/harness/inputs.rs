//! What clients send: bodies and tokens.

use std::sync::Arc;
use std::time::Duration;

use crvs_outbox::auth::{Minter, Signer};
use crvs_outbox::outbox::{Effect, NewMessage};
use crvs_outbox::samples;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{GATEWAY, key_file, settings};

/// Nothing but whoever is alone may write a comment `poison`: the database refuses it.
pub(crate) const POISON: &str = "
    create function refuse_poison() returns trigger language plpgsql as
    $$ begin if new.comment = 'poison' then raise exception 'poisoned' using errcode = '23514'; end if; return new; end $$;
    create trigger poison before insert on record_action for each row execute function refuse_poison();
    create sequence tries;
    create function count_try() returns trigger language plpgsql as $$ begin perform nextval('tries'); return null; end $$;
    create trigger tries before insert on client_transaction for each statement execute function count_try();";

/// The sample birth as the body of a submission.
pub(crate) fn birth(action: &str) -> Value {
    let declaration: Value = serde_json::from_str(samples::BIRTH).unwrap();
    json!({ "event": "birth", "action": action, "declaration": declaration })
}

/// A flat declaration as the body of a submission.
pub(crate) fn flat(action: &str) -> Value {
    json!({ "event": "birth", "action": action, "declaration": { "child.firstName": "Ada", "child.dateOfBirth": "2026-11-01" } })
}

fn minter() -> Minter {
    let settings = settings(String::new(), "http://nowhere").mint;
    Minter::new(Arc::new(Signer::load_or_generate(key_file()).unwrap()), settings).unwrap()
}

/// The token of a requested registration, for any service of this process.
pub(crate) fn record_token(record_id: Uuid, action_id: Uuid) -> String {
    minter().for_record("registrar", record_id, action_id, "country-config").unwrap()
}

/// A registrar's token for any service of this process.
pub(crate) fn user_token() -> String {
    token_of("registrar")
}

/// The token of a registrar of this name, for any service of this process.
pub(crate) fn token_of(name: &str) -> String {
    minter().for_user(name, &["register".to_owned()], GATEWAY, Duration::from_hours(1)).unwrap()
}

/// A token of ours that was good an hour ago.
pub(crate) fn expired_token() -> String {
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    let claims = json!({
        "iss": "crvs-outbox", "sub": "registrar", "aud": GATEWAY, "scope": ["register"], "iat": now - 7200, "exp": now - 3600,
    });
    Signer::from_file(key_file()).unwrap().sign(&claims).unwrap()
}

/// A message to search, of a record that only the queue knows.
pub(crate) fn message(record_id: Uuid, transaction_id: &str) -> NewMessage {
    NewMessage {
        effect: Effect::Search,
        kind: "index",
        transaction_id: transaction_id.to_owned(),
        record_id,
        action_id: Uuid::now_v7(),
        initiator_id: "somebody".to_owned(),
        owner_id: None,
        initiator_scopes: vec!["declare".to_owned()],
        traceparent: None,
        redelivery: 0,
    }
}
