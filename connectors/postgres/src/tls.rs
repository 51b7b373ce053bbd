//! What is verified of a server's certificate, in libpq's words.
//!
//! | `sslmode` | TLS | authority | host |
//! | --- | --- | --- | --- |
//! | `disable` | never | | |
//! | `allow`, `prefer` | where the server offers it | no | no |
//! | `require` | always | only with `sslrootcert`, as libpq does | no |
//! | `verify-ca` | always | yes | no |
//! | `verify-full` | always | yes | yes |
//!
//! The certificate's signature over the handshake is verified in all modes.

use std::{path::Path, sync::Arc};

use pontoon_core::{Code, Error, Result};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};

use crate::socket::Encryption;

/// The words of `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SslMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl SslMode {
    /// Reads libpq's word.
    pub(crate) fn parse(word: &str) -> Option<SslMode> {
        Some(match word {
            "disable" => SslMode::Disable,
            "allow" | "prefer" => SslMode::Prefer,
            "require" => SslMode::Require,
            "verify-ca" => SslMode::VerifyCa,
            "verify-full" => SslMode::VerifyFull,
            _ => return None,
        })
    }
}

/// What a socket has to do for this mode. Reads the authorities' file, or the system's.
pub(crate) fn encryption(mode: SslMode, authority: Option<&Path>) -> Result<Encryption> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verified = match mode {
        SslMode::Disable => return Ok(Encryption::Off),
        SslMode::Prefer => Verified::Nothing,
        SslMode::Require if authority.is_none() => Verified::Nothing,
        SslMode::Require | SslMode::VerifyCa => Verified::Authority(roots(authority)?),
        SslMode::VerifyFull => Verified::Host(roots(authority)?),
    };
    let config = client_config(provider, verified)?;
    Ok(if mode == SslMode::Prefer { Encryption::Offered(config) } else { Encryption::Demanded(config) })
}

enum Verified {
    Nothing,
    Authority(RootCertStore),
    Host(RootCertStore),
}

fn client_config(provider: Arc<CryptoProvider>, verified: Verified) -> Result<Arc<ClientConfig>> {
    // With the provider named here, no process-wide default is needed, and none is fought over.
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(Code::TlsFailed, error.to_string()))?;
    let lax = |roots| Arc::new(LaxVerifier { provider, roots });
    let config = match verified {
        Verified::Host(roots) => builder.with_root_certificates(roots),
        Verified::Authority(roots) => builder.dangerous().with_custom_certificate_verifier(lax(Some(roots))),
        Verified::Nothing => builder.dangerous().with_custom_certificate_verifier(lax(None)),
    };
    Ok(Arc::new(config.with_no_client_auth()))
}

fn roots(authority: Option<&Path>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(path) = authority else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return Err(Error::new(Code::TlsFailed, "the system has no certificate authorities")
                .hint("install ca-certificates, or name a file with sslrootcert"));
        }
        return Ok(roots);
    };
    let unfit = |text: String| {
        Error::new(Code::Config, format!("sslrootcert: {}: {text}", path.display()))
            .hint("the file must hold certificates in PEM form and be readable to pontoon")
    };
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unfit(error.to_string()))? {
        let certificate = certificate.map_err(|error| unfit(error.to_string()))?;
        roots.add(certificate).map_err(|error| unfit(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unfit("no certificate in it".into()));
    }
    Ok(roots)
}

/// Verifies the chain where it is given roots, never the host's name.
#[derive(Debug)]
struct LaxVerifier {
    provider: Arc<CryptoProvider>,
    roots: Option<RootCertStore>,
}

impl ServerCertVerifier for LaxVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
