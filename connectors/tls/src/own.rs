//! A certificate of our own, which the status page shows.
//!
//! It is read for every connection, as those of databases are, so that a renewed one is used without a restart.
//!
//! Another process of the same configuration, `pontoon status` for one, asks the page at an address that the certificate need not be for. It has the
//! file, and so trusts who shows that very certificate and has its key, and nobody else.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use pontoon_core::{Code, Error, Result};
use rustls::{ClientConfig, RootCertStore, ServerConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::{
    files::{self, Identity},
    options::Words,
    verify::{Shown, Verified, Verifier},
};

/// The words of the configuration.
const WORDS: Words = Words { mode: "", authority: "", certificate: "tls_cert", key: "tls_key", modes: &[] };

/// The files of a certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    certificate: PathBuf,
    key: PathBuf,
}

impl Own {
    /// Takes two files that belong together. Errors (configuration), which begin with `tls_cert` or `tls_key`: one cannot be read or used.
    pub fn new(certificate: &Path, key: &Path) -> Result<Own> {
        let own = Own { certificate: certificate.to_owned(), key: key.to_owned() };
        own.config()?;
        Ok(own)
    }

    fn identity(&self) -> Result<Identity> {
        files::identity(&self.certificate, &self.key, &WORDS)
    }

    fn config(&self) -> Result<ServerConfig> {
        let Identity { chain, key, .. } = self.identity()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(not_set_up)?
            .with_no_client_auth();
        builder.with_single_cert(chain, key).map_err(|error| files::not_of(&self.key, &error, &WORDS))
    }

    /// The handshake with who has connected. Errors: files that cannot be used any more; a client that breaks it off.
    pub async fn accept(&self, stream: TcpStream) -> Result<server::TlsStream<TcpStream>> {
        let accepted = TlsAcceptor::from(Arc::new(self.config()?)).accept(stream).await;
        accepted.map_err(|error| Error::new(Code::TlsFailed, format!("the handshake failed: {error}")))
    }

    /// The handshake with a server that has to show this certificate. Errors: it does not.
    pub async fn connect(&self, stream: TcpStream) -> Result<client::TlsStream<TcpStream>> {
        let failed = |why: &str| Error::new(Code::TlsFailed, format!("the handshake failed: {why}"));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let shown = Shown::default();
        let verified = Verified::Nothing;
        let verifier =
            Verifier { provider: provider.clone(), verified, roots: RootCertStore::empty(), shown: shown.clone() };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(not_set_up)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        // The verifier does not look at names.
        let name = ServerName::try_from("localhost").map_err(|error| failed(&error.to_string()))?;
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let stream = connected.map_err(|error| failed(&error.to_string()))?;
        let own = self.identity()?.chain.into_iter().next();
        let shown = shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        // Nothing has been sent yet: who shows another one gets no token.
        if shown == own { Ok(stream) } else { Err(failed("what answers shows another certificate than tls_cert")) }
    }
}

fn not_set_up(error: rustls::Error) -> Error {
    Error::new(Code::Internal, format!("TLS cannot be set up: {error}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// The files of a new certificate that nobody has signed.
    fn made(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let made = rcgen::generate_simple_self_signed(["page.example".to_owned()]).unwrap();
        let (certificate, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        (certificate, key)
    }

    #[tokio::test]
    async fn who_shows_the_certificate_is_trusted_and_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = made(folder.path(), "one");
        let (other_certificate, other_key) = made(folder.path(), "other");
        let own = Own::new(&certificate, &key).unwrap();
        let other = Own::new(&other_certificate, &other_key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = own.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                if let Ok(mut stream) = serving.accept(stream).await {
                    let _ = stream.write_all(b"well").await;
                    let _ = stream.shutdown().await;
                }
            }
        });
        let mut stream = own.connect(TcpStream::connect(address).await.unwrap()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "well");
        let error = other.connect(TcpStream::connect(address).await.unwrap()).await.unwrap_err();
        assert!(error.message().contains("another certificate"), "{error}");
        // A renewed one is shown from the next connection on.
        fs::copy(&other_certificate, &certificate).unwrap();
        fs::copy(&other_key, &key).unwrap();
        assert!(other.connect(TcpStream::connect(address).await.unwrap()).await.is_ok());
    }

    #[test]
    fn files_that_cannot_be_used_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = made(folder.path(), "one");
        let (_, other_key) = made(folder.path(), "other");
        let refused = |certificate: &Path, key: &Path| Own::new(certificate, key).unwrap_err().message().to_owned();
        assert!(refused(&folder.path().join("none"), &key).starts_with("tls_cert: "));
        assert!(refused(&certificate, &folder.path().join("none")).starts_with("tls_key: "));
        assert!(refused(&certificate, &certificate).contains("holds no private key"));
        assert!(refused(&certificate, &other_key).contains("is not the key of the certificate"));
    }
}
