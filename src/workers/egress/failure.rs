//! Failures as classes. Never texts: texts can hold URLs and what a peer said.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};

use super::address::Refused;

/// The class of a failure: `timeout`, `refused-address`, `dns`, `tls`, `connect`, `unsendable-request` or
/// `connection-lost`.
pub fn class(error: &reqwest::Error) -> &'static str {
    if find(error, |cause| cause.is::<Refused>().then_some(())).is_some() {
        return REFUSED_ADDRESS;
    }
    if error.is_timeout() {
        return "timeout";
    }
    // Also after the handshake: with TLS 1.3 a peer says only then that it wanted another certificate of ours.
    if tls_class(error).is_some() {
        return "tls";
    }
    if error.is_dns() {
        return "dns";
    }
    if error.is_connect() {
        return "connect";
    }
    if error.is_builder() { "unsendable-request" } else { "connection-lost" }
}

/// The class of an address that may not be reached.
pub const REFUSED_ADDRESS: &str = "refused-address";

/// What TLS says of the failure, more closely than [`class`]; `None` if TLS has no part in it.
pub fn tls_class(error: &reqwest::Error) -> Option<&'static str> {
    find(error, |cause| cause.downcast_ref::<rustls::Error>().map(of_tls))
}

fn of_tls(error: &rustls::Error) -> &'static str {
    if let rustls::Error::InvalidCertificate(why) = error {
        return of_certificate(why);
    }
    if let rustls::Error::AlertReceived(alert) = error {
        return of_alert(*alert);
    }
    if matches!(error, rustls::Error::InvalidMessage(_)) { "not-tls" } else { "handshake-failed" }
}

/// The peer's certificate.
fn of_certificate(why: &CertificateError) -> &'static str {
    if matches!(why, CertificateError::Expired | CertificateError::ExpiredContext { .. }) {
        "certificate-expired"
    } else if matches!(why, CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) {
        "certificate-not-valid-yet"
    } else if matches!(why, CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) {
        "certificate-of-another-name"
    } else if matches!(why, CertificateError::UnknownIssuer) {
        "certificate-of-unknown-issuer"
    } else if matches!(why, CertificateError::Revoked) {
        "certificate-revoked"
    } else {
        "certificate-invalid"
    }
}

/// What the peer did not like, of ours.
fn of_alert(alert: AlertDescription) -> &'static str {
    let refusals = [
        AlertDescription::CertificateRequired,
        AlertDescription::BadCertificate,
        AlertDescription::UnsupportedCertificate,
        AlertDescription::CertificateRevoked,
        AlertDescription::CertificateExpired,
        AlertDescription::CertificateUnknown,
        AlertDescription::UnknownCA,
        AlertDescription::AccessDenied,
    ];
    if alert == AlertDescription::CertificateRequired {
        "client-certificate-required"
    } else if refusals.contains(&alert) {
        "client-certificate-refused"
    } else if alert == AlertDescription::UnrecognisedName {
        "name-unknown-to-peer"
    } else {
        "handshake-failed"
    }
}

/// Looks through the causes, also into I/O errors, which hide the error they are made of.
fn find<T>(error: &reqwest::Error, look: impl Fn(&(dyn Error + 'static)) -> Option<T>) -> Option<T> {
    let mut next: Option<&(dyn Error + 'static)> = error.source();
    while let Some(cause) = next {
        if let Some(found) = look(cause) {
            return Some(found);
        }
        let inside = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = inside.map(|inner| inner as &(dyn Error + 'static)).or_else(|| cause.source());
    }
    None
}
