//! Reading authorities, certificates and keys, in PEM. Every file that cannot be used is named, with why.
//!
//! They are read when the configuration is, so that a wrong path is told before anything is connected, and again
//! for every connection, so that renewed ones are used without a restart.

use std::{fmt, fs, path::Path};

use pontoon_core::{Code, Error, Result};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
};

use crate::options::Words;

/// No file of certificates or of a key is larger; what is was named by mistake, and is not read into memory.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// What the files hold.
#[derive(Debug)]
pub struct Material {
    /// The authorities to trust: those of the file, else the system's; none where nothing is verified.
    pub authorities: Vec<CertificateDer<'static>>,
    /// The client certificate, where there is one.
    pub identity: Option<Identity>,
}

/// A certificate to show, with its key: a client's, or that of the status page.
pub struct Identity {
    /// The certificate, and what is between it and its authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// The file of the certificate as it is.
    pub chain_pem: Vec<u8>,
    /// The file of the key as it is.
    pub key_pem: Vec<u8>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("chain", &self.chain.len()).finish_non_exhaustive()
    }
}

/// The authorities of a file.
pub(crate) fn authorities(path: &Path, words: &Words) -> Result<Vec<CertificateDer<'static>>> {
    let unfit = |text: &str| unfit(words.authority, path, text).hint(AUTHORITY_HINT);
    let pem = read(path).map_err(|text| unfit(&text))?;
    let found = certificates(&pem).map_err(|text| unfit(&text))?;
    let mut roots = RootCertStore::empty();
    for certificate in &found {
        roots.add(certificate.clone()).map_err(|error| unfit(&format!("holds a certificate that is none: {error}")))?;
    }
    Ok(found)
}

const AUTHORITY_HINT: &str = "the file has to hold the authority's certificates in PEM form and be readable to pontoon";

/// The authorities that the system trusts.
pub(crate) fn system_authorities(words: &Words) -> Result<Vec<CertificateDer<'static>>> {
    let mut found = rustls_native_certs::load_native_certs().certs;
    // Some may be too old-fashioned to be used.
    found.retain(|certificate| RootCertStore::empty().add(certificate.clone()).is_ok());
    if found.is_empty() {
        let error = Error::new(Code::Config, "the system has no certificate authorities");
        return Err(error.hint(format!("install ca-certificates, or name a file as {}", words.authority)));
    }
    Ok(found)
}

/// The certificate of two files.
pub(crate) fn identity(certificate: &Path, key: &Path, words: &Words) -> Result<Identity> {
    let unfit_certificate = |text: &str| {
        unfit(words.certificate, certificate, text)
            .hint("the file has to hold the certificate in PEM form, then what is between it and its authority")
    };
    let chain_pem = read(certificate).map_err(|text| unfit_certificate(&text))?;
    let chain = certificates(&chain_pem).map_err(|text| unfit_certificate(&text))?;
    let unfit_key = |text: &str| {
        unfit(words.key, key, text)
            .hint("the file has to hold the certificate's key in PEM form (PKCS#8, PKCS#1 or SEC1), readable to pontoon alone")
    };
    let key_pem = read(key).map_err(|text| unfit_key(&text))?;
    if is_encrypted(&key_pem) {
        let path = key.display();
        return Err(unfit(words.key, key, "is encrypted, and nobody is there to type its password").hint(format!(
            "write it without one, readable to pontoon alone: openssl pkey -in {path} -out {path}.plain"
        )));
    }
    let key = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|error| {
        unfit_key(&match error {
            pem::Error::NoItemsFound => "holds no private key in PEM form".into(),
            error => damaged(&error),
        })
    })?;
    Ok(Identity { chain, key, chain_pem, key_pem })
}

/// Why a key cannot be used with its certificate.
pub(crate) fn not_of(key: &Path, error: &rustls::Error, words: &Words) -> Error {
    match error {
        rustls::Error::InconsistentKeys(_) => unfit(words.key, key, "is not the key of the certificate")
            .hint(format!("{} and {} belong together", words.certificate, words.key)),
        error => unfit(words.key, key, &format!("cannot be used: {error}"))
            .hint("keys are RSA, ECDSA (P-256, P-384) or Ed25519"),
    }
}

/// An error that names option and file.
pub(crate) fn unfit(option: &str, path: &Path, text: &str) -> Error {
    Error::new(Code::Config, format!("{option}: {} {text}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    let found = fs::metadata(path).map_err(unreadable)?;
    if found.len() > FILE_BYTES_MAX {
        return Err("is far too large".into());
    }
    let content = fs::read(path).map_err(unreadable)?;
    if content.is_empty() { Err("is empty".into()) } else { Ok(content) }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err("holds no certificate in PEM form".into()),
        Ok(found) => Ok(found),
        Err(error) => Err(damaged(&error)),
    }
}

/// What is wrong with a PEM file; never what is in it, which may be a key.
fn damaged(error: &pem::Error) -> String {
    let what = match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end",
        pem::Error::IllegalSectionStart { .. } => "a section has no proper beginning",
        pem::Error::Base64Decode(_) => "a section is not base64",
        _ => "it cannot be read",
    };
    format!("is damaged: {what}")
}

/// PKCS#8 says it in its first line, the older forms in a header.
fn is_encrypted(pem: &[u8]) -> bool {
    let has = |text: &[u8]| pem.windows(text.len()).any(|window| window == text);
    has(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(b"Proc-Type: 4,ENCRYPTED")
}
