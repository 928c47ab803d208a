//! The authorities whose certificates are trusted.

use rustls_native_certs::CertificateResult;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// Trusts what `SSL_CERT_FILE` and `SSL_CERT_DIR` name, or else the system's authorities, or else
/// those built in.
pub(super) fn tls() -> TlsConfig {
    let named = ["SSL_CERT_FILE", "SSL_CERT_DIR"]
        .into_iter()
        .find(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    trusting(rustls_native_certs::load_native_certs(), named)
}

/// Trusts what was found, or the authorities built in if that is nothing.
fn trusting(found: CertificateResult, named: Option<&str>) -> TlsConfig {
    for error in found.errors {
        match named {
            Some(name) => tracing::warn!(%error, "cannot read a certificate that {name} names"),
            None => tracing::debug!(%error, "cannot read a certificate of the system"),
        }
    }
    if found.certs.is_empty() {
        if let Some(name) = named {
            tracing::warn!("{name} names no certificate; the authorities built in are trusted");
        }
        return TlsConfig::default();
    }
    let certificates = found.certs.iter();
    let certificates =
        certificates.map(|certificate| Certificate::from_der(certificate).to_owned());
    TlsConfig::builder()
        .root_certs(RootCerts::from(certificates))
        .build()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    use rcgen::{BasicConstraints, Certificate as Signed, CertificateParams, IsCa, KeyPair};
    use rustls::crypto::ring;
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::{ServerConfig, ServerConnection, StreamOwned};
    use rustls_native_certs::load_certs_from_paths;

    use super::super::fetch::DownloadClient;
    use super::*;

    /// An authority that nobody knows, as a company's proxy has one.
    fn authority() -> (Signed, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.self_signed(&key).unwrap(), key)
    }

    /// Answers each request over TLS with `[1]`, and shows a certificate that `authority` signed.
    /// Returns the port.
    fn serve((authority, authority_key): &(Signed, KeyPair)) -> u16 {
        let key = KeyPair::generate().unwrap();
        let shown = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let shown = shown.signed_by(&key, authority, authority_key).unwrap();
        let settings = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![shown.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            );
        let settings = Arc::new(settings.unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let server = ServerConnection::new(settings.clone()).unwrap();
                let mut stream = BufReader::new(StreamOwned::new(server, connection));
                // A client that does not trust the certificate says no more.
                let asked = stream.by_ref().lines().map_while(Result::ok);
                if asked.take_while(|line| !line.is_empty()).count() > 0 {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[1]";
                    let _ = stream.get_mut().write_all(answer);
                }
            }
        });
        port
    }

    #[test]
    fn a_server_is_trusted_if_its_authority_is_named_and_refused_at_once_if_not() {
        let authority = authority();
        let url = format!("https://127.0.0.1:{}/list", serve(&authority));
        let dir = tempfile::tempdir().unwrap();
        let named = dir.path().join("authority.pem");
        std::fs::write(&named, authority.0.pem()).unwrap();
        let found = load_certs_from_paths(Some(&named), None);
        let client = DownloadClient::with_tls(trusting(found, Some("SSL_CERT_FILE")));
        let (listed, _) = client.json::<Vec<u32>>(&url).unwrap();
        assert_eq!(listed, [1]);

        // With the authorities built in; a second attempt would take longer than the test may.
        let mut client = DownloadClient::with_tls(TlsConfig::default());
        client.pause = Duration::from_secs(3600);
        let refused = client.json::<Vec<u32>>(&url).unwrap_err();
        assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");
        assert!(refused.hint().unwrap().contains("SSL_CERT_FILE"));
    }

    #[test]
    fn the_certificates_of_a_file_are_the_only_ones_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("roots.pem");
        // What stands in a certificate is looked at when a server shows one.
        let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(&path, pem.repeat(2)).unwrap();
        let found = load_certs_from_paths(Some(&path), None);
        let RootCerts::Specific(trusted) = trusting(found, None).root_certs().clone() else {
            panic!("the authorities built in are trusted");
        };
        assert_eq!(trusted.len(), 1);
        let missing = load_certs_from_paths(Some(&dir.path().join("none.pem")), None);
        let tls = trusting(missing, Some("SSL_CERT_FILE"));
        assert!(matches!(tls.root_certs(), RootCerts::WebPki));
    }
}
