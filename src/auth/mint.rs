//! Tokens of our own, made when they are needed and in the initiator's name.
//!
//! They are delegation tokens (RFC 8693 section 4.1): `sub` is the initiator, `act` this service,
//! so a receiver can tell the two apart.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use uuid::Uuid;

use super::exchange::{Exchange, Exchanged, Target};
use super::scopes::{CONFIRM_REGISTRATION, REJECT_REGISTRATION};
use super::share::{SharedTokens, Use};
use super::signer::{Signer, SignerError};

/// The longest lifetime of a token for a delivery.
pub const MAX_DELIVERY_TTL: Duration = Duration::from_mins(5);
/// How far `nbf` lies before `iat`, in seconds: receivers whose clock is behind often allow for no
/// difference.
const NOT_BEFORE_SLACK: u64 = 30;

/// How tokens are made.
#[derive(Debug, Clone)]
pub struct MintSettings {
    /// The `iss` of the tokens.
    pub issuer: String,
    /// The name of this service in `act.sub`, such as `crvs-outbox`.
    pub actor: String,
    /// The second audience of a token for a record: whoever passes the callback on.
    pub gateway_audience: String,
    /// The lifetime of a token for a delivery: more than 0, at most [`MAX_DELIVERY_TTL`].
    pub delivery_ttl: Duration,
    /// The lifetime of a token for a record, such as 30 days: as long as the country's own system
    /// may take to decide.
    pub record_ttl: Duration,
}

/// Makes tokens and shares those for deliveries among deliveries that are alike.
pub struct Minter {
    signer: Arc<Signer>,
    settings: MintSettings,
    shared: SharedTokens,
}

/// The claims of a token (RFC 7519 section 4.1, RFC 8693 section 4).
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Actor<'a>>,
    aud: Audience<'a>,
    scope: &'a [&'a str],
    iat: u64,
    nbf: u64,
    exp: u64,
    jti: Uuid,
    #[serde(rename = "recordId", skip_serializing_if = "Option::is_none")]
    record_id: Option<Uuid>,
    #[serde(rename = "eventId", skip_serializing_if = "Option::is_none")]
    event_id: Option<Uuid>,
    #[serde(rename = "actionId", skip_serializing_if = "Option::is_none")]
    action_id: Option<Uuid>,
}

#[derive(Serialize)]
struct Actor<'a> {
    sub: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Audience<'a> {
    One(&'a str),
    Several([&'a str; 2]),
}

impl std::fmt::Debug for Minter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Minter").finish_non_exhaustive()
    }
}

impl Minter {
    /// Fails with [`SignerError::Lifetime`] when a lifetime is shorter than a second, or that of a
    /// delivery is longer than [`MAX_DELIVERY_TTL`].
    pub fn new(signer: Arc<Signer>, settings: MintSettings) -> Result<Self, SignerError> {
        let too_short = settings.delivery_ttl.min(settings.record_ttl) < Duration::from_secs(1);
        if too_short || settings.delivery_ttl > MAX_DELIVERY_TTL {
            return Err(SignerError::Lifetime);
        }
        Ok(Self { signer, settings, shared: SharedTokens::default() })
    }

    /// A token for sending something to one audience in the initiator's name.
    ///
    /// Deliveries with the same initiator, scopes and audience share a token while at least half of
    /// its life is left.
    pub fn for_delivery(&self, initiator_id: &str, scopes: &[String], audience: &str) -> Result<Arc<str>, SignerError> {
        self.delivery_at(now(), initiator_id, scopes, audience)
    }

    fn delivery_at(
        &self,
        now: u64,
        initiator: &str,
        scopes: &[String],
        audience: &str,
    ) -> Result<Arc<str>, SignerError> {
        let wanted = Use { initiator: initiator.to_owned(), scopes: scopes.to_vec(), audience: audience.to_owned() };
        if let Some(token) = self.shared.get(&wanted, now) {
            return Ok(token);
        }
        let ttl = self.settings.delivery_ttl.as_secs();
        let words: Vec<&str> = scopes.iter().map(String::as_str).collect();
        let claims =
            Claims { act: Some(self.actor()), ..self.claims(now, ttl, initiator, Audience::One(audience), &words) };
        let token: Arc<str> = self.signer.sign(&claims)?.into();
        self.shared.put(wanted, Arc::clone(&token), now, ttl);
        Ok(token)
    }

    /// A token with which the country's own system may confirm or reject this one registration.
    ///
    /// It lives as long as that system may take, and is never shared.
    pub fn for_record(
        &self,
        initiator_id: &str,
        record_id: Uuid,
        action_id: Uuid,
        audience: &str,
    ) -> Result<String, SignerError> {
        self.deciding(initiator_id, action_id, audience, |claims| Claims { record_id: Some(record_id), ..claims })
    }

    /// The same as OpenCRVS 1.9 writes it: the record is the claim `eventId`.
    pub fn for_event(
        &self,
        initiator_id: &str,
        record_id: Uuid,
        action_id: Uuid,
        audience: &str,
    ) -> Result<String, SignerError> {
        self.deciding(initiator_id, action_id, audience, |claims| Claims { event_id: Some(record_id), ..claims })
    }

    /// A token for one verdict; `of` says of which record.
    fn deciding(
        &self,
        initiator_id: &str,
        action_id: Uuid,
        audience: &str,
        of: impl FnOnce(Claims<'_>) -> Claims<'_>,
    ) -> Result<String, SignerError> {
        let both = Audience::Several([audience, &self.settings.gateway_audience]);
        let scopes = [CONFIRM_REGISTRATION, REJECT_REGISTRATION];
        let ttl = self.settings.record_ttl.as_secs();
        let claims = self.claims(now(), ttl, initiator_id, both, &scopes);
        self.signer.sign(&of(Claims { act: Some(self.actor()), action_id: Some(action_id), ..claims }))
    }

    /// The audience of this service.
    pub fn gateway_audience(&self) -> &str {
        &self.settings.gateway_audience
    }

    /// A token for one record in exchange for another token (RFC 8693), for this service alone. `None` when the other ends
    /// before this one could be used.
    pub fn for_exchange(&self, exchange: &Exchange) -> Result<Option<Exchanged>, SignerError> {
        let now = now();
        let left = exchange.until.map_or(u64::MAX, |until| until.saturating_sub(now));
        let ttl = self.settings.record_ttl.as_secs().min(left);
        if ttl == 0 {
            return Ok(None);
        }
        let (record_id, event_id) = match exchange.target {
            Target::Record(id) => (Some(id), None),
            Target::Action { event_id, .. } => (None, Some(event_id)),
        };
        let audience = Audience::One(&self.settings.gateway_audience);
        let token = self.signer.sign(&Claims {
            act: Some(self.actor()),
            record_id,
            event_id,
            action_id: exchange.action_id,
            ..self.claims(now, ttl, &exchange.subject, audience, &exchange.scopes)
        })?;
        Ok(Some(Exchanged { token, expires_in: Duration::from_secs(ttl), scopes: exchange.scopes.clone() }))
    }

    /// A token as a login would give it, without an actor: for demonstrations and trials only.
    ///
    /// `ttl` counts in whole seconds and must be at least one.
    pub fn for_user(&self, sub: &str, scopes: &[String], audience: &str, ttl: Duration) -> Result<String, SignerError> {
        if ttl < Duration::from_secs(1) {
            return Err(SignerError::Lifetime);
        }
        let words: Vec<&str> = scopes.iter().map(String::as_str).collect();
        let audience = Audience::One(audience);
        let claims = self.claims(now(), ttl.as_secs(), sub, audience, &words);
        self.signer.sign(&claims)
    }

    fn claims<'a>(&'a self, now: u64, ttl: u64, sub: &'a str, aud: Audience<'a>, scope: &'a [&'a str]) -> Claims<'a> {
        Claims {
            iss: &self.settings.issuer,
            sub,
            act: None,
            aud,
            scope,
            iat: now,
            nbf: now.saturating_sub(NOT_BEFORE_SLACK),
            exp: now.saturating_add(ttl),
            jti: Uuid::new_v4(),
            record_id: None,
            event_id: None,
            action_id: None,
        }
    }

    fn actor(&self) -> Actor<'_> {
        Actor { sub: &self.settings.actor }
    }
}

/// Seconds since 1970, as tokens count time (RFC 7519 section 2, `NumericDate`).
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{self, AUDIENCE, ISSUER};
    use super::super::{KeySource, RecordGrant, Right};
    use super::*;

    fn settings() -> MintSettings {
        MintSettings {
            issuer: ISSUER.to_owned(),
            actor: "crvs-outbox".to_owned(),
            gateway_audience: "opencrvs:gateway-user".to_owned(),
            delivery_ttl: Duration::from_mins(1),
            record_ttl: Duration::from_hours(30 * 24),
        }
    }

    fn minter() -> Minter {
        Minter::new(testing::signer(), settings()).unwrap()
    }

    fn claims_of(token: &str) -> Value {
        jsonwebtoken::dangerous::insecure_decode_claims(token).unwrap()
    }

    fn scopes() -> Vec<String> {
        vec!["declare".to_owned(), "register".to_owned()]
    }

    #[tokio::test]
    async fn a_delivery_token_speaks_for_the_initiator_to_one_audience() {
        let token = minter().for_delivery("user-1", &scopes(), AUDIENCE).unwrap();
        let own = testing::verifier(KeySource::Own(testing::signer()));
        let caller = own.verify(&token).await.unwrap();
        assert_eq!((caller.id.as_str(), caller.record), ("user-1", None));
        assert_eq!(caller.scopes.as_slice(), scopes());
        let claims = claims_of(&token);
        assert_eq!(claims["act"], json!({"sub": "crvs-outbox"}));
        assert_eq!(claims["aud"], json!(AUDIENCE));
        let times = ["iat", "nbf", "exp"].map(|name| claims[name].as_u64().unwrap());
        assert_eq!(times, [times[0], times[0] - 30, times[0] + 60]);
        assert!(claims["jti"].as_str().unwrap().parse::<Uuid>().is_ok());
    }

    #[tokio::test]
    async fn a_record_token_is_bound_to_its_record_and_action_and_may_only_decide() {
        let (record_id, action_id) = (Uuid::new_v4(), Uuid::new_v4());
        let minter = minter();
        let mint = || minter.for_record("user-1", record_id, action_id, "opencrvs:country");
        let token = mint().unwrap();
        let claims = claims_of(&token);
        assert_eq!(claims["aud"], json!(["opencrvs:country", "opencrvs:gateway-user"]));
        assert_eq!(claims["exp"].as_u64(), claims["iat"].as_u64().map(|at| at + 2_592_000));
        assert_ne!(claims["jti"], claims_of(&mint().unwrap())["jti"]);
        let token = minter.for_record("user-1", record_id, action_id, AUDIENCE).unwrap();
        let own = testing::verifier(KeySource::Own(testing::signer()));
        let caller = own.verify(&token).await.unwrap();
        let action_id = Some(action_id);
        assert_eq!(caller.record, Some(RecordGrant { record_id, action_id }));
        assert!(caller.scopes.allows(Right::ConfirmRegistration, "birth"));
        assert!(caller.scopes.allows(Right::RejectRegistration, "birth"));
        assert!(!caller.scopes.allows(Right::Reject, "birth"));
        assert_eq!(caller.scopes.as_slice().len(), 2);
    }

    #[test]
    fn deliveries_that_are_alike_share_a_token_for_half_of_its_life() {
        let minter = minter();
        let at = |now| minter.delivery_at(now, "user-1", &scopes(), AUDIENCE).unwrap();
        let start = testing::now();
        let first = at(start);
        assert!(Arc::ptr_eq(&first, &at(start + 30)));
        let later = at(start + 31);
        assert!(!Arc::ptr_eq(&first, &later));
        assert!(Arc::ptr_eq(&later, &at(start + 32)));
        let narrower = minter.delivery_at(start + 32, "user-1", &scopes()[..1], AUDIENCE);
        assert_eq!(claims_of(&narrower.unwrap())["scope"], json!(["declare"]));
    }

    #[tokio::test]
    async fn a_user_token_has_no_actor() {
        let ttl = Duration::from_secs(5);
        let token = minter().for_user("user-2", &scopes(), AUDIENCE, ttl).unwrap();
        let own = testing::verifier(KeySource::Own(testing::signer()));
        assert_eq!(own.verify(&token).await.unwrap().id, "user-2");
        assert_eq!(claims_of(&token).get("act"), None);
    }

    #[test]
    fn lifetimes_out_of_range_are_refused() {
        let refused = |change: fn(&mut MintSettings)| {
            let mut settings = settings();
            change(&mut settings);
            matches!(Minter::new(testing::signer(), settings), Err(SignerError::Lifetime))
        };
        assert!(refused(|it| it.delivery_ttl = Duration::from_secs(301)));
        assert!(refused(|it| it.delivery_ttl = Duration::ZERO));
        assert!(refused(|it| it.record_ttl = Duration::ZERO));
        assert!(!refused(|it| it.delivery_ttl = MAX_DELIVERY_TTL));
        let none = minter().for_user("u", &[], AUDIENCE, Duration::ZERO);
        assert!(matches!(none, Err(SignerError::Lifetime)));
    }
}
