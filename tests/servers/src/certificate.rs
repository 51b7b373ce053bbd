//! The certificate of an encrypted server.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::ServerError;
use crate::account::Account;
use crate::folder;

/// Where the files of a server's certificate are.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    /// The certificate of the authority, for clients to trust.
    pub(crate) authority: PathBuf,
    /// The certificate of the server.
    pub(crate) server: PathBuf,
    /// The private key of the server.
    pub(crate) key: PathBuf,
}

impl Certificate {
    /// Makes an authority and a certificate of it for 127.0.0.1 and localhost, and writes them into `folder`.
    pub(crate) fn make(folder: &Path, account: Option<Account>) -> Result<Certificate, ServerError> {
        let (authority, server, key) = sign().map_err(|source| ServerError::Certificate { source })?;
        let files = Certificate {
            authority: folder.join("authority.pem"),
            server: folder.join("server.pem"),
            key: folder.join("server-key.pem"),
        };
        folder::write(&files.authority, &authority, account)?;
        folder::write(&files.server, &server, account)?;
        folder::write(&files.key, &key, account)?;
        Ok(files)
    }
}

/// The authority's certificate, the server's, and the server's key. The authority's key is forgotten.
fn sign() -> Result<(String, String, String), rcgen::Error> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.distinguished_name.push(DnType::CommonName, "pontoon private test authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = authority.self_signed(&authority_key)?;

    let server_key = KeyPair::generate()?;
    let mut server = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    server.distinguished_name.push(DnType::CommonName, "localhost");
    server.use_authority_key_identifier_extension = true;
    let signed = server.signed_by(&server_key, &Issuer::from_params(&authority, &authority_key))?;
    Ok((certificate.pem(), signed.pem(), server_key.serialize_pem()))
}
