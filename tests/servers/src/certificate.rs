//! Authorities and certificates, good ones and bad ones.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use crate::ServerError;
use crate::account::Account;
use crate::folder;

/// An authority that lives as long as this value.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    /// Itself, where it is not the root, and the others up to the root.
    between: String,
}

/// What a certificate is to say. The default is a good one of a server on this machine.
#[derive(Clone, Debug)]
pub struct Request {
    /// The common name: of a client's, the user.
    pub name: String,
    /// Names and addresses of the server.
    pub hosts: Vec<String>,
    /// From when to when it is valid, in hours from now.
    pub hours: (i64, i64),
    /// The private key in PEM (PKCS#8); `None` for a new one.
    pub key: Option<String>,
}

impl Default for Request {
    fn default() -> Request {
        let hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        Request { name: "localhost".to_owned(), hosts, hours: (-1, 24 * 365), key: None }
    }
}

/// A certificate and its private key, both in PEM.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate, then what is between it and the root.
    pub chain: String,
    /// The private key (PKCS#8).
    pub key: String,
}

impl Authority {
    /// Makes a root.
    ///
    /// # Errors
    ///
    /// [`ServerError::Certificate`], as the other methods here.
    pub fn new(name: &str) -> Result<Authority, ServerError> {
        let make = || {
            let key = KeyPair::generate()?;
            let params = authority(name)?;
            let pem = params.self_signed(&key)?.pem();
            Ok(Authority { issuer: Issuer::new(params, key), pem, between: String::new() })
        };
        make().map_err(|source| ServerError::Certificate { source })
    }

    /// Makes an authority that this one answers for.
    ///
    /// # Errors
    ///
    /// [`ServerError::Certificate`]
    pub fn intermediate(&self, name: &str) -> Result<Authority, ServerError> {
        let make = || {
            let key = KeyPair::generate()?;
            let params = authority(name)?;
            let pem = params.signed_by(&key, &self.issuer)?.pem();
            let between = format!("{pem}{}", self.between);
            Ok(Authority { issuer: Issuer::new(params, key), pem, between })
        };
        make().map_err(|source| ServerError::Certificate { source })
    }

    /// Its own certificate, in PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Issues a certificate.
    ///
    /// # Errors
    ///
    /// [`ServerError::Certificate`]
    pub fn issue(&self, request: &Request) -> Result<Issued, ServerError> {
        let sign = || {
            let (params, key) = request.params()?;
            let chain = format!("{}{}", params.signed_by(&key, &self.issuer)?.pem(), self.between);
            Ok(Issued { chain, key: key.serialize_pem() })
        };
        sign().map_err(|source| ServerError::Certificate { source })
    }
}

impl Request {
    /// A good one of a client that logs in as `user`.
    #[must_use]
    pub fn client(user: &str) -> Request {
        Request { name: user.to_owned(), hosts: Vec::new(), ..Request::default() }
    }

    /// Makes a certificate that only vouches for itself.
    ///
    /// # Errors
    ///
    /// [`ServerError::Certificate`]
    pub fn self_signed(&self) -> Result<Issued, ServerError> {
        let sign = || {
            let (params, key) = self.params()?;
            Ok(Issued { chain: params.self_signed(&key)?.pem(), key: key.serialize_pem() })
        };
        sign().map_err(|source| ServerError::Certificate { source })
    }

    fn params(&self) -> Result<(CertificateParams, KeyPair), rcgen::Error> {
        let mut params = CertificateParams::new(self.hosts.clone())?;
        params.distinguished_name.push(DnType::CommonName, self.name.as_str());
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = match self.hosts.is_empty() {
            true => vec![ExtendedKeyUsagePurpose::ClientAuth],
            false => vec![ExtendedKeyUsagePurpose::ServerAuth],
        };
        (params.not_before, params.not_after) = (in_hours(self.hours.0).into(), in_hours(self.hours.1).into());
        let key = match &self.key {
            Some(pem) => KeyPair::from_pem(pem)?,
            None => KeyPair::generate()?,
        };
        Ok((params, key))
    }
}

fn authority(name: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn in_hours(hours: i64) -> SystemTime {
    let distance = Duration::from_secs(hours.unsigned_abs() * 3600);
    if hours < 0 { SystemTime::now() - distance } else { SystemTime::now() + distance }
}

/// Where the files of a server's certificate are.
#[derive(Debug)]
pub(crate) struct Certificate {
    /// The authority of this server alone.
    pub(crate) made_by: Authority,
    /// Its certificate, for clients to trust, and for the server to know clients by.
    pub(crate) authority: PathBuf,
    /// The certificate of the server.
    pub(crate) server: PathBuf,
    /// The private key of the server.
    pub(crate) key: PathBuf,
}

impl Certificate {
    /// Makes an authority and a certificate of it for 127.0.0.1 and localhost, and writes them into `folder`.
    pub(crate) fn make(folder: &Path, account: Option<Account>) -> Result<Certificate, ServerError> {
        let made_by = Authority::new("pontoon private test authority")?;
        let issued = made_by.issue(&Request::default())?;
        let files = Certificate {
            made_by,
            authority: folder.join("authority.pem"),
            server: folder.join("server.pem"),
            key: folder.join("server-key.pem"),
        };
        folder::write(&files.authority, files.made_by.pem(), account)?;
        files.replace(&issued, account)?;
        Ok(files)
    }

    /// Gives the server another certificate, which it takes when told to read it again.
    pub(crate) fn replace(&self, issued: &Issued, account: Option<Account>) -> Result<(), ServerError> {
        folder::write(&self.server, &issued.chain, account)?;
        folder::write(&self.key, &issued.key, account)
    }
}
