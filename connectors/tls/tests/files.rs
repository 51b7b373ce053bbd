//! Files of authorities, certificates and keys: what is wrong with one is told with its option and its path.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use pontoon_core::{Code, Error};
use pontoon_tls::{MYSQL, Mode, Options, POSTGRES, Tls};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authorities = [1, 2].map(|_| params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem());
        folder.write("authorities.pem", authorities.join("\nin between\n"));
        for name in ["rsa-pkcs8", "ec-pkcs8"] {
            let key = KeyPair::from_pem(&key(name)).unwrap();
            folder.write(
                &format!("{name}.crt"),
                CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem(),
            );
        }
        folder
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.0.path().join(name), content).unwrap();
    }

    fn decide(&self, options: &[(&str, &str)]) -> Result<Tls, Error> {
        let mut given = Options::new(&POSTGRES);
        for (name, value) in options {
            let path = self.0.path().join(value);
            let value = if name.starts_with("sslmode") { value } else { path.to_str().unwrap() };
            assert!(given.take(name, value).unwrap());
        }
        given.decide(Some(Mode::Prefer))
    }

    fn refused(&self, options: &[(&str, &str)], says: &str) {
        let error = self.decide(options).unwrap_err();
        assert_eq!(error.code(), Code::Config);
        assert!(error.message().contains(says) && error.remedy().is_some(), "{says:?}: {error:?}");
        let (option, file) = options.last().unwrap();
        assert!(error.message().starts_with(&format!("{option}: ")) && error.message().contains(file), "{error:?}");
    }
}

fn key(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(format!("{name}.pem"))).unwrap()
}

#[test]
fn a_file_of_authorities_is_read_or_named() {
    let folder = Folder::new();
    let tls = folder.decide(&[("sslrootcert", "authorities.pem")]).unwrap();
    assert_eq!(tls.mode(), Mode::VerifyFull);
    assert_eq!(tls.material().unwrap().authorities.len(), 2);

    folder.write("empty.pem", "");
    folder.write("text.pem", "nothing of the kind");
    folder.write("key.pem", key("ec-pkcs8"));
    folder.write("cut.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n");
    folder.write("base64.pem", "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n");
    folder.write("der.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
    fs::create_dir(folder.0.path().join("folder.pem")).unwrap();
    for (file, says) in [
        ("missing.pem", "cannot be read: No such file"),
        ("folder.pem", "cannot be read: Is a directory"),
        ("empty.pem", "is empty"),
        ("text.pem", "holds no certificate in PEM form"),
        ("key.pem", "holds no certificate in PEM form"),
        ("cut.pem", "is damaged: a section has no end"),
        ("base64.pem", "is damaged: a section is not base64"),
        ("der.pem", "holds a certificate that is none"),
    ] {
        folder.refused(&[("sslmode", "verify-ca"), ("sslrootcert", file)], says);
    }
    let size = fs::File::create(folder.0.path().join("large.pem")).unwrap();
    size.set_len(1 << 40).unwrap();
    folder.refused(&[("sslrootcert", "large.pem")], "is far too large");
    fs::set_permissions(folder.0.path().join("authorities.pem"), fs::Permissions::from_mode(0o0)).unwrap();
    // Root reads everything.
    if fs::read(folder.0.path().join("authorities.pem")).is_err() {
        folder.refused(&[("sslrootcert", "authorities.pem")], "cannot be read: Permission denied");
    }
}

#[test]
fn every_form_of_a_key_is_read_or_named() {
    let folder = Folder::new();
    for (form, certificate) in
        [("rsa-pkcs8", "rsa-pkcs8"), ("rsa-pkcs1", "rsa-pkcs8"), ("ec-pkcs8", "ec-pkcs8"), ("ec-sec1", "ec-pkcs8")]
    {
        folder.write(form, key(form));
        let certificate = format!("{certificate}.crt");
        let tls = folder.decide(&[("sslmode", "require"), ("sslcert", &certificate), ("sslkey", form)]).unwrap();
        assert!(tls.has_identity() && !tls.verifies_authority());
    }
    folder.write("encrypted-pkcs8", key("encrypted-pkcs8"));
    folder.write("encrypted-pkcs1", key("encrypted-pkcs1"));
    folder.write("damaged", "-----BEGIN PRIVATE KEY-----\nMIIB\n");
    let whole = ("sslmode", "require");
    for (certificate, key, says) in [
        ("rsa-pkcs8.crt", "missing", "cannot be read"),
        ("rsa-pkcs8.crt", "ec-sec1", "is not the key of the certificate"),
        ("ec-pkcs8.crt", "rsa-pkcs1", "is not the key of the certificate"),
        ("rsa-pkcs8.crt", "encrypted-pkcs8", "is encrypted"),
        ("rsa-pkcs8.crt", "encrypted-pkcs1", "is encrypted"),
        ("rsa-pkcs8.crt", "authorities.pem", "holds no private key"),
        ("rsa-pkcs8.crt", "damaged", "is damaged"),
    ] {
        folder.refused(&[whole, ("sslcert", certificate), ("sslkey", key)], says);
    }
    folder.refused(&[whole, ("sslkey", "ec-sec1"), ("sslcert", "ec-sec1")], "holds no certificate");
}

#[test]
fn contradictions_are_refused() {
    let folder = Folder::new();
    let said = |options: &[(&str, &str)]| folder.decide(options).unwrap_err().message().to_owned();
    assert_eq!(
        said(&[("sslmode", "disable"), ("sslrootcert", "authorities.pem")]),
        "sslmode=disable contradicts sslrootcert"
    );
    assert_eq!(said(&[("sslmode", "allow"), ("sslcert", "rsa-pkcs8.crt")]), "sslmode=prefer contradicts sslcert");
    assert_eq!(said(&[("sslcert", "rsa-pkcs8.crt")]), "sslcert without sslkey");
    assert_eq!(said(&[("sslkey", "rsa-pkcs8.crt")]), "sslkey without sslcert");
}

#[test]
fn each_engine_has_its_words() {
    for (words, mode, full, verify_ca) in
        [(&POSTGRES, "sslmode", "verify-full", "verify-ca"), (&MYSQL, "ssl-mode", "VERIFY_IDENTITY", "verify_ca")]
    {
        let mut options = Options::new(words);
        assert!(!options.take("host", "x").unwrap());
        assert!(options.take(mode, "maybe").unwrap_err().starts_with(&format!("{mode} is one of ")));
        assert!(options.take(mode, full).unwrap());
        assert_eq!(words.setting(Mode::VerifyCa), format!("{mode}={verify_ca}"));
    }
    assert_eq!(Options::new(&MYSQL).decide(Some(Mode::Disable)).unwrap().mode(), Mode::Disable);
    // Far away nothing less will do, unless it is said.
    match Options::new(&MYSQL).decide(None) {
        Ok(tls) => assert!(tls.verifies_authority() && tls.verifies_host()),
        Err(error) => assert_eq!(error.message(), "the system has no certificate authorities"),
    }
}
