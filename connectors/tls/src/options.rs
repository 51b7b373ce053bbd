//! What a URL says about TLS, and what follows from it.

use std::{path::PathBuf, sync::Arc};

use pontoon_core::{Code, Error, Result};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    cause::{self, cause_in, explain},
    files::{self, Material},
    verify::{Shown, Verified, Verifier},
};

/// Whether TLS is used, and what is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Never.
    Disable,
    /// Where the server offers it.
    Prefer,
    /// Always; the authority is verified where one is named.
    Require,
    /// Always, of a trusted authority.
    VerifyCa,
    /// Always, of a trusted authority and for this host.
    VerifyFull,
}

/// An engine's own words for it.
#[derive(Debug)]
pub struct Words {
    /// The option that holds the mode.
    pub mode: &'static str,
    /// The option that names the authorities' file.
    pub authority: &'static str,
    /// The option that names the client certificate's file.
    pub certificate: &'static str,
    /// The option that names its key's.
    pub key: &'static str,
    /// The modes, each by its first word here.
    pub modes: &'static [(&'static str, Mode)],
}

/// libpq's words.
pub const POSTGRES: Words = Words {
    mode: "sslmode",
    authority: "sslrootcert",
    certificate: "sslcert",
    key: "sslkey",
    modes: &[
        ("disable", Mode::Disable),
        ("prefer", Mode::Prefer),
        ("allow", Mode::Prefer),
        ("require", Mode::Require),
        ("verify-ca", Mode::VerifyCa),
        ("verify-full", Mode::VerifyFull),
    ],
};

/// The words of MySQL's client.
pub const MYSQL: Words = Words {
    mode: "ssl-mode",
    authority: "ssl-ca",
    certificate: "ssl-cert",
    key: "ssl-key",
    modes: &[
        ("disabled", Mode::Disable),
        ("preferred", Mode::Prefer),
        ("required", Mode::Require),
        ("verify_ca", Mode::VerifyCa),
        ("verify_identity", Mode::VerifyFull),
    ],
};

impl Words {
    /// `sslmode=require`.
    pub fn setting(&self, mode: Mode) -> String {
        let word = self.modes.iter().find(|(_, known)| *known == mode).map_or("", |(word, _)| word);
        format!("{}={word}", self.mode)
    }

    fn parse(&self, word: &str) -> Result<Mode, String> {
        let found = self.modes.iter().find(|(known, _)| known.eq_ignore_ascii_case(word));
        found.map(|(_, mode)| *mode).ok_or_else(|| {
            let known: Vec<_> = self.modes.iter().map(|(word, _)| *word).collect();
            format!("{} is one of {}", self.mode, known.join(", "))
        })
    }
}

/// What a URL says.
#[derive(Debug, Clone)]
pub struct Options {
    words: &'static Words,
    mode: Option<Mode>,
    authority: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Options {
    /// Nothing yet.
    pub fn new(words: &'static Words) -> Options {
        Options { words, mode: None, authority: None, certificate: None, key: None }
    }

    /// Takes an option of the URL. `false`: it is none of TLS. Errors: an unknown mode.
    pub fn take(&mut self, name: &str, value: &str) -> Result<bool, String> {
        let path = || Some(PathBuf::from(value));
        match name {
            _ if name == self.words.mode => self.mode = Some(self.words.parse(value)?),
            _ if name == self.words.authority => self.authority = path(),
            _ if name == self.words.certificate => self.certificate = path(),
            _ if name == self.words.key => self.key = path(),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What follows from it for a TCP connection. `near` is the mode where none is given, no file is named
    /// either, and the address is of this machine alone. The files are read, so that what is wrong with
    /// them is told before anything is connected. Errors: [`Code::Config`].
    pub fn decide(self, near: Option<Mode>) -> Result<Tls> {
        let Options { words, mode, authority, certificate, key } = self;
        let given = [(words.authority, &authority), (words.certificate, &certificate), (words.key, &key)];
        let file = given.iter().find(|(_, path)| path.is_some()).map(|(name, _)| *name);
        let mode = match (mode, file) {
            (Some(mode), _) => mode,
            // Who names a file wants it used.
            (None, Some(_)) => Mode::VerifyFull,
            (None, None) => near.unwrap_or(Mode::VerifyFull),
        };
        if let (Mode::Disable | Mode::Prefer, Some(file)) = (mode, file) {
            return Err(Error::new(Code::Config, format!("{} contradicts {file}", words.setting(mode)))
                .hint(format!("write {}, or take {file} out of the url", words.setting(Mode::VerifyFull))));
        }
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => return Err(half(words.certificate, words.key)),
            (None, Some(_)) => return Err(half(words.key, words.certificate)),
        };
        let tls = Tls { words, mode, authority, identity };
        if tls.mode != Mode::Disable {
            tls.config(Shown::default())?;
        }
        Ok(tls)
    }
}

fn half(there: &str, missing: &str) -> Error {
    Error::new(Code::Config, format!("{there} without {missing}"))
        .hint("a client certificate is of use only with its key: name both files, or neither")
}

/// How to reach a server with TLS, or that it is not to be used.
#[derive(Debug, Clone)]
pub struct Tls {
    words: &'static Words,
    mode: Mode,
    authority: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// No TLS, as over a Unix socket, where nobody is in between.
    pub fn none(words: &'static Words) -> Tls {
        Tls { words, mode: Mode::Disable, authority: None, identity: None }
    }

    /// The mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The engine's words.
    pub fn words(&self) -> &'static Words {
        self.words
    }

    /// Whether a client certificate is sent where the server asks for one.
    pub fn has_identity(&self) -> bool {
        self.identity.is_some()
    }

    fn verified(&self) -> Verified {
        match self.mode {
            Mode::Disable | Mode::Prefer => Verified::Nothing,
            Mode::Require if self.authority.is_none() => Verified::Nothing,
            Mode::Require | Mode::VerifyCa => Verified::Authority,
            Mode::VerifyFull => Verified::Host,
        }
    }

    /// Whether the server's authority is verified.
    pub fn verifies_authority(&self) -> bool {
        self.verified() != Verified::Nothing
    }

    /// Whether the host is verified as well.
    pub fn verifies_host(&self) -> bool {
        self.verified() == Verified::Host
    }

    /// Reads the files, for a connection. Errors: transient, since they may be under renewal.
    pub fn material(&self) -> Result<Material> {
        self.read().map_err(while_running)
    }

    fn read(&self) -> Result<Material> {
        let authorities = match &self.authority {
            _ if !self.verifies_authority() => Vec::new(),
            Some(path) => files::authorities(path, self.words)?,
            None => files::system_authorities(self.words)?,
        };
        let identity = self.identity.as_ref().map(|(certificate, key)| files::identity(certificate, key, self.words));
        Ok(Material { authorities, identity: identity.transpose()? })
    }

    fn config(&self, shown: Shown) -> Result<ClientConfig> {
        let Material { authorities, identity } = self.read()?;
        let mut roots = RootCertStore::empty();
        // All of them were looked at one by one.
        roots.add_parsable_certificates(authorities);
        // With the provider named here, no process-wide default is needed, and none is fought over.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::new(Code::Internal, format!("TLS cannot be set up: {error}")))?;
        let verifier = Verifier { provider, verified: self.verified(), roots, shown };
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        match (identity, &self.identity) {
            (Some(identity), Some((_, path))) => {
                let configured = builder.with_client_auth_cert(identity.chain, identity.key);
                configured.map_err(|error| files::not_of(path, &error, self.words))
            }
            _ => Ok(builder.with_no_client_auth()),
        }
    }

    /// The handshake, on a connection that is made and on which the server waits for it. Errors:
    /// [`Code::TlsFailed`], in words, without the address.
    pub async fn connect(&self, host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>> {
        let shown = Shown::default();
        let config = self.config(shown.clone()).map_err(while_running)?;
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            Error::new(Code::TlsFailed, "the url's host is no name that a certificate can be for")
                .hint("write a host name or an address")
        })?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| match cause_in(&error) {
            Some(refusal) => {
                let shown = shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                explain(refusal, shown.as_deref(), self.words)
            }
            None => cause::broken(&error),
        })
    }
}

/// A file that was good when the bridge started may be under renewal: that goes away by itself.
fn while_running(error: Error) -> Error {
    let hint = error.remedy().unwrap_or_default().to_owned();
    Error::new(Code::TlsFailed, error.message()).hint(hint)
}
