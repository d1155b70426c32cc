//! Turns a file of certificates into those that a client trusts, or into what is wrong with it.

use std::path::PathBuf;

use reqwest::Certificate;

use crate::error::{Error, Result};
use crate::fetch::http::with_causes;
use crate::redact::shown;

/// A file of certificates in PEM.
#[derive(Debug, Clone)]
pub struct Authorities {
    pub file: PathBuf,
    pub pem: Vec<u8>,
}

impl Authorities {
    /// What stands in the file. Whether it is certificates only the client finds out.
    pub(super) fn certificates(&self) -> Result<Vec<Certificate>> {
        let found = Certificate::from_pem_bundle(&self.pem).map_err(|e| self.wrong(&with_causes(&e)))?;
        match found.is_empty() {
            true => Err(self.wrong("none")),
            false => Ok(found),
        }
    }

    /// The error of a file that holds this instead.
    pub(super) fn wrong(&self, got: &str) -> Error {
        let (file, got) = (self.file.display(), shown(got, 200));
        Error::usage(format!("--ca-file {file}: expected certificates in PEM, got {got}"))
            .hint("name the file of the authority that signs the proxy's certificates; each begins with -----BEGIN CERTIFICATE-----")
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::error::Kind;
    use crate::fetch::http::{Connection, Http};

    #[test]
    fn what_is_no_certificate_is_the_files_fault() {
        let key = SecretString::from("rk_test_x".to_owned());
        for pem in [
            "",
            "nothing",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ] {
            let ca = Authorities { file: "/etc/mine.pem".into(), pem: pem.into() };
            let connection = Connection { ca: Some(ca), ..Connection::default() };
            let error = Http::with("http://127.0.0.1:1", &key, "v", &connection).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{error}");
            assert!(error.to_string().contains("/etc/mine.pem: expected certificates in PEM"), "{error}");
            assert!(error.hint_text().is_some());
        }
    }
}
