//! Certificates: whose are trusted, which are shown, and what is said of the others.

use crvs_outbox::workers::egress::{Client, ClientError, ClientSettings, build, probe};

use super::tls_peer::{Authority, Issued, expired, not_yet, tls_peer};
use super::{client_with, exchange, here, recorder, word};

const NAME: &str = "destination.example";

fn trusting(authority: &Authority) -> ClientSettings {
    ClientSettings { ca_pem: Some(authority.pem()), ..here() }
}

fn showing(authority: &Authority, identity: &Issued) -> ClientSettings {
    ClientSettings { client_identity_pem: Some(identity.identity()), ..trusting(authority) }
}

/// A client whose every name is this machine.
fn client(settings: &ClientSettings) -> Client {
    client_with(settings, |_| vec!["127.0.0.1"]).0
}

fn url(name: &str, port: u16) -> String {
    format!("https://{name}:{port}/hook")
}

/// What a delivery and a probe say of it.
async fn outcome(settings: &ClientSettings, url: &str) -> (String, Option<&'static str>) {
    let client = client(settings);
    let (exchange, probe) = (exchange(&client, url).await, probe(&client, url).await);
    assert_eq!(exchange.error, probe.error, "{probe:?}");
    (word(&exchange), probe.tls)
}

fn said(word: &str, tls: &'static str) -> (String, Option<&'static str>) {
    (word.to_owned(), Some(tls))
}

#[tokio::test]
async fn an_authority_of_one_s_own_is_trusted_instead_of_the_system_s() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let port = tls_peer(&ours.issue(NAME, |_| {}), None).await;
    assert_eq!(outcome(&trusting(&ours), &url(NAME, port)).await, said("200", "ok"));
    let unknown = said("tls", "certificate-of-unknown-issuer");
    assert_eq!(outcome(&trusting(&theirs), &url(NAME, port)).await, unknown);
    assert_eq!(outcome(&here(), &url(NAME, port)).await, unknown, "the system does not know it either");
    let both = ClientSettings { ca_pem: Some([theirs.pem(), ours.pem()].concat()), ..here() };
    assert_eq!(outcome(&both, &url(NAME, port)).await, said("200", "ok"), "a file may hold several");
}

#[tokio::test]
async fn a_certificate_must_be_of_the_name_and_of_today() {
    let ours = Authority::new("ours");
    let settings = trusting(&ours);
    for (issued, expected) in [
        (ours.issue(NAME, expired), "certificate-expired"),
        (ours.issue(NAME, not_yet), "certificate-not-valid-yet"),
        (ours.issue("another.example", |_| {}), "certificate-of-another-name"),
    ] {
        let port = tls_peer(&issued, None).await;
        assert_eq!(outcome(&settings, &url(NAME, port)).await, said("tls", expected));
    }
    let of_address = tls_peer(&ours.issue("127.0.0.1", |_| {}), None).await;
    assert_eq!(outcome(&settings, &url("127.0.0.1", of_address)).await, said("200", "ok"));
    assert_eq!(outcome(&settings, &url(NAME, of_address)).await, said("tls", "certificate-of-another-name"));
}

#[tokio::test]
async fn a_peer_that_wants_our_certificate_gets_it_and_refuses_another_or_none() {
    let (ours, clients, strangers) = (Authority::new("ours"), Authority::new("clients"), Authority::new("strangers"));
    let port = tls_peer(&ours.issue(NAME, |_| {}), Some(&clients)).await;
    let url = url(NAME, port);
    let own = clients.issue("outbox.example", |_| {});
    assert_eq!(outcome(&showing(&ours, &own), &url).await, said("200", "ok"));
    assert_eq!(outcome(&trusting(&ours), &url).await, said("tls", "client-certificate-required"));
    let strange = strangers.issue("outbox.example", |_| {});
    let (word, tls) = outcome(&showing(&ours, &strange), &url).await;
    // Which certificates it takes, the peer says beforehand; ours is of none of them and may not even be shown.
    assert_eq!(word, "tls");
    assert!(tls.is_some_and(|tls| tls.starts_with("client-certificate-")), "{tls:?}");
    let old = clients.issue("outbox.example", expired);
    assert_eq!(outcome(&showing(&ours, &old), &url).await, said("tls", "client-certificate-refused"));
    let system = ClientSettings { client_identity_pem: Some(own.identity()), ..here() };
    assert_eq!(outcome(&system, &url).await, said("tls", "certificate-of-unknown-issuer"));
}

#[tokio::test]
async fn a_peer_that_does_not_speak_tls_is_told_apart() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
            drop(tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await);
        }
    });
    assert_eq!(outcome(&here(), &url(NAME, port)).await, said("tls", "not-tls"));
}

#[test]
fn unusable_files_are_refused_when_the_client_is_built_and_never_quoted() {
    let ours = Authority::new("ours");
    let (one, other) = (ours.issue(NAME, |_| {}), ours.issue(NAME, |_| {}));
    let broken = b"-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----\n".to_vec();
    for pem in [Vec::new(), b"secret".to_vec(), b"-----BEGIN CERTIFICATE-----\nsecret".to_vec()] {
        let error = build(&ClientSettings { ca_pem: Some(pem.clone()), ..here() }).unwrap_err();
        assert!(matches!(error, ClientError::Authorities), "{error:?}");
        let error = build(&ClientSettings { client_identity_pem: Some(pem), ..here() }).unwrap_err();
        assert!(matches!(error, ClientError::Identity), "{error:?}");
        assert!(!format!("{error:?} {error}").contains("secret"));
    }
    let error = build(&ClientSettings { client_identity_pem: Some(ours.pem()), ..here() }).unwrap_err();
    assert!(matches!(error, ClientError::Identity), "a certificate without its key: {error:?}");
    for settings in [
        ClientSettings { ca_pem: Some(broken), ..here() },
        ClientSettings { client_identity_pem: Some(one.with_key_of(&other)), ..here() },
    ] {
        let error = build(&settings).unwrap_err();
        assert!(matches!(error, ClientError::Build(_)), "{error:?}");
        assert!(!format!("{settings:?}").contains("BEGIN"));
    }
    assert!(build(&showing(&ours, &one)).is_ok());
}

#[tokio::test]
async fn without_certificates_on_this_machine_plain_http_still_works() {
    if super::alone(
        "egress::tls::without_certificates_on_this_machine_plain_http_still_works",
        vec![("SSL_CERT_FILE", "/nowhere".to_owned()), ("SSL_CERT_DIR", "/nowhere".to_owned())],
    )
    .await
    {
        return;
    }
    let (plain, _) = recorder().await;
    assert_eq!(word(&exchange(&client(&here()), &plain).await), "200");
}
