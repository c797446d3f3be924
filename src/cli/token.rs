//! `token`: a token for trying things out.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::CliError;
use super::output::say;
use crate::auth::{MintSettings, Minter, Signer};

#[derive(Debug, Args)]
pub(super) struct Token {
    /// The service's private key
    #[arg(long, default_value = "data/demo/signing-key.pem", value_name = "FILE")]
    key: PathBuf,
    /// Whose token it is
    #[arg(long, default_value = "somebody")]
    sub: String,
    /// What it may do; may be given more than once
    #[arg(long, default_values_t = ["register".to_owned()])]
    scope: Vec<String>,
    /// Its issuer
    #[arg(long, default_value = "crvs-outbox")]
    issuer: String,
    /// Its audience
    #[arg(long, default_value = "opencrvs:gateway-user")]
    audience: String,
    /// Its life in minutes
    #[arg(long, default_value_t = 60)]
    minutes: u32,
}

pub(super) fn token(args: &Token) -> Result<(), CliError> {
    let signer = Arc::new(Signer::from_file(&args.key)?);
    let settings = MintSettings {
        issuer: args.issuer.clone(),
        actor: "crvs-outbox".to_owned(),
        gateway_audience: args.audience.clone(),
        delivery_ttl: Duration::from_mins(5),
        record_ttl: Duration::from_hours(24),
    };
    let minter = Minter::new(signer, settings)?;
    let life = Duration::from_mins(u64::from(args.minutes));
    say(&minter.for_user(&args.sub, &args.scope, &args.audience, life)?)
}
