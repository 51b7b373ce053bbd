//! The socket under the connection that reads the log: TCP or Unix, in the clear or by TLS.
//!
//! TLS begins after the server's greeting, which says whether it has it. What is verified is what the
//! driver verifies of every other connection: both read the same options.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use mysql_async::{Opts, SslOpts};
use pontoon_core::{Code, Error, Result};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// An open socket.
pub(crate) enum Socket {
    /// TCP in the clear.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TCP by TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// Connects, in the clear.
    pub(crate) async fn open(options: &Opts) -> io::Result<Socket> {
        if let Some(path) = options.socket() {
            return Ok(Socket::Unix(UnixStream::connect(path).await?));
        }
        let stream = TcpStream::connect((options.ip_or_hostname(), options.tcp_port())).await?;
        stream.set_nodelay(true)?;
        let keepalive = socket2::TcpKeepalive::new().with_time(options.tcp_keepalive().unwrap_or_default());
        socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        Ok(Socket::Tcp(stream))
    }

    /// Whether nobody but the server can read what is sent.
    pub(crate) fn is_private(&self) -> bool {
        !matches!(self, Socket::Tcp(_))
    }

    /// Goes on by TLS; a Unix socket stays as it is.
    pub(crate) async fn secure(self, host: &str, options: &SslOpts) -> Result<Socket> {
        let Socket::Tcp(stream) = self else { return Ok(self) };
        let host = options.tls_hostname_override().unwrap_or(host);
        let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(&error))?;
        let connector = TlsConnector::from(Arc::new(config(options).await?));
        let stream = connector.connect(name, stream).await.map_err(|error| failed(&error))?;
        Ok(Socket::Tls(Box::new(stream)))
    }
}

fn failed(error: &dyn std::fmt::Display) -> Error {
    Error::new(Code::TlsFailed, format!("TLS failed: {error}"))
        .hint("the certificate must be valid for this host and of a trusted authority: see ssl-ca and ssl-mode")
}

async fn config(options: &SslOpts) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?;
    let verifier: Arc<dyn ServerCertVerifier> = if options.accept_invalid_certs() {
        Arc::new(LaxVerifier { provider, roots: None })
    } else {
        let roots = roots(options).await?;
        match options.skip_domain_validation() {
            true => Arc::new(LaxVerifier { provider, roots: Some(roots) }),
            false => WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| failed(&error))?,
        }
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let Some(identity) = options.client_identity() else { return Ok(builder.with_no_client_auth()) };
    let (chain, key) = (identity.cert_chain(), identity.priv_key());
    let chain = certificates(&chain.read().await.map_err(|error| failed(&error))?)?;
    let key = key.read().await.map_err(|error| failed(&error))?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| failed(&error))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| failed(&error))
}

async fn roots(options: &SslOpts) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    if !options.disable_built_in_roots() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for file in options.root_certs() {
        for certificate in certificates(&file.read().await.map_err(|error| failed(&error))?)? {
            roots.add(certificate).map_err(|error| failed(&error))?;
        }
    }
    Ok(roots)
}

/// The certificates of a file: in PEM form, or one in DER form.
fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let found = found.map_err(|error| failed(&error))?;
    Ok(if found.is_empty() { vec![CertificateDer::from(bytes.to_vec())] } else { found })
}

/// Verifies the chain where it is given roots, never the host's name; the signature always.
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
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
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
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
