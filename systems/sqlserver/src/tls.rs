//! The parameters about encryption that reader and writer have in common, beside what the URL says.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_core::{Faults, Secret};

use crate::url::{ENCRYPT_WORDS, Encrypt, Options};

/// Encryption, beside what the URL says of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(inline)]
pub struct TlsConfig {
    /// How the connection is encrypted: true (always, and the certificate is checked), preferred (default: where the server
    /// can, the certificate unchecked), false (the login only) or disabled.
    pub encrypt: Option<String>,
    /// Whether any certificate of the server will do although the connection must be encrypted.
    pub trust_server_certificate: Option<bool>,
    /// A PEM file with certificates to trust, beside the machine's own.
    pub ssl_ca: Option<String>,
}

impl TlsConfig {
    /// The servers behind some URLs.
    ///
    /// # Errors
    /// URLs that are wrong, at `pointer`, and a wrong `encrypt`.
    pub fn options(
        &self,
        urls: &[String],
        username: Option<&str>,
        password: Option<&Secret>,
        pointer: &str,
    ) -> Result<Vec<Options>, Faults> {
        let mut all = Vec::new();
        let mut faults = Faults::default();
        for url in urls {
            match Options::parse(url, username, password, pointer) {
                Ok(options) => all.extend(options),
                Err(more) => faults.0.extend(more.0),
            }
        }
        let encrypt = self.encrypt.as_deref().map(|word| (word, Encrypt::parse(word)));
        if let Some((word, None)) = encrypt {
            faults.add("/encrypt", format!("`{word}` is none of {ENCRYPT_WORDS}"));
        }
        for options in &mut all {
            if self.ssl_ca.is_some() {
                options.ca.clone_from(&self.ssl_ca);
            }
            options.trust = self.trust_server_certificate.or(options.trust);
            match encrypt {
                Some((_, Some(level))) => options.encrypt = level,
                // Who names an authority wants it asked.
                _ if self.ssl_ca.is_some() && options.trust != Some(true) => options.encrypt = Encrypt::Required,
                _ => {}
            }
        }
        faults.0.dedup();
        faults.or(all)
    }
}
