//! Certificate authorities and a peer that speaks TLS.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// A certificate authority.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
pub(super) struct Issued {
    certificate: String,
    key: String,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(super) fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    /// A certificate for a name or an address, for either side, after a change.
    pub(super) fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        Issued { certificate, key: key.serialize_pem() }
    }
}

/// Was valid, twenty years ago.
pub(super) fn expired(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2005, 1, 1);
    params.not_after = date_time_ymd(2006, 1, 1);
}

/// Will be valid, some day.
pub(super) fn not_yet(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(4000, 1, 1);
}

impl Issued {
    /// Certificate and key in one file.
    pub(super) fn identity(&self) -> Vec<u8> {
        format!("{}{}", self.certificate, self.key).into_bytes()
    }

    /// This certificate with the key of another.
    pub(super) fn with_key_of(&self, other: &Self) -> Vec<u8> {
        format!("{}{}", self.certificate, other.key).into_bytes()
    }
}

/// What a peer of TLS answers with, after the request has come in.
pub(super) const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";

/// A peer with this certificate, which wants one of `clients` from us if that is given. Its port.
pub(super) async fn tls_peer(server: &Issued, clients: Option<&Authority>) -> u16 {
    serve(TlsAcceptor::from(Arc::new(config(server, clients)))).await
}

/// A peer of HTTP/2 that sends `start` and then `more` for ever. Its port, and how many bytes it got rid of.
pub(super) async fn http2_peer(server: &Issued, start: Vec<u8>, more: Vec<u8>) -> (u16, Arc<AtomicUsize>) {
    let mut config = config(server, None);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, written) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&written);
    tokio::spawn(async move {
        let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        let mut read = Vec::new();
        while !has_headers(&read) {
            assert!(stream.read_buf(&mut read).await.unwrap() > 0);
        }
        drop(stream.write_all(&start).await);
        while stream.write_all(&more).await.is_ok() {
            count.fetch_add(more.len(), Ordering::SeqCst);
        }
    });
    (port, written)
}

/// Whether a request is among the frames after the preface of 24 bytes.
fn has_headers(read: &[u8]) -> bool {
    let mut rest = read.get(24..).unwrap_or_default();
    while let [a, b, c, kind, ..] = *rest {
        if kind == 1 {
            return true;
        }
        let length = u32::from_be_bytes([0, a, b, c]);
        rest = rest.get(9 + usize::try_from(length).unwrap()..).unwrap_or_default();
    }
    false
}

fn config(server: &Issued, clients: Option<&Authority>) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.0.der().clone()).unwrap();
            let provider = Arc::new(aws_lc_rs::default_provider());
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(server.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(server.key.as_bytes()).unwrap();
    builder.with_single_cert(chain, key).unwrap()
}

async fn serve(acceptor: TlsAcceptor) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = match acceptor.accept(stream).into_fallible().await {
                    Ok(stream) => stream,
                    Err((_said_in_an_alert, mut refused)) => {
                        // Closed with bytes unread the connection would be reset, and the alert might be lost.
                        drop(tokio::io::copy(&mut refused, &mut tokio::io::sink()).await);
                        return;
                    }
                };
                let mut request = Vec::new();
                while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                    if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                drop(stream.write_all(OK).await);
                drop(stream.shutdown().await);
            });
        }
    });
    port
}
