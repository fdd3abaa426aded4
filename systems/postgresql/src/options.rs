//! What the URL and the parameters beside it mean for a connection.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use weir_core::{Error, Result};
use weir_sql::stream::certificates;

use crate::error::map;
use crate::url::PgUrl;

/// TLS parameters beside the URL.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(inline)]
pub struct TlsConfig {
    /// disable, allow, prefer (default), require, verify-ca or verify-full; as the URL's `sslmode`. With `sslrootcert`,
    /// require is as strict as verify-ca. Nothing is tried a second time: allow is the same as disable, and prefer goes on
    /// without TLS only where the server offers none.
    #[serde(alias = "sslMode")]
    #[schemars(extend("x-aliases" = ["sslMode"]))]
    pub sslmode: Option<String>,
    /// The file with the certificates of the authorities to trust; as the URL's `sslrootcert`.
    #[serde(alias = "sslRootCert")]
    #[schemars(extend("x-aliases" = ["sslRootCert"]))]
    pub sslrootcert: Option<String>,
}

/// The driver's options for one host of a URL.
pub(crate) fn options(url: &PgUrl, host: &str, port: u16) -> Result<PgConnectOptions> {
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(host)
        .port(port)
        .application_name(url.application_name.as_deref().unwrap_or("weir"))
        .disable_statement_logging();
    if let Some(user) = &url.username {
        options = options.username(user);
    }
    if let Some(password) = &url.password {
        options = options.password(password.reveal());
    }
    let database = url.database.clone().unwrap_or_else(|| options.get_username().to_owned());
    options = options.database(&database);
    if let Some(mode) = &url.ssl_mode {
        options = options.ssl_mode(mode.parse().map_err(map)?);
    }
    let verifies = matches!(options.get_ssl_mode(), PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull);
    let environment = || std::env::var("PGSSLROOTCERT").ok().filter(|_| verifies);
    // Without TLS nobody reads it.
    let encrypts = !matches!(options.get_ssl_mode(), PgSslMode::Disable | PgSslMode::Allow);
    if let Some(file) = url.ssl_root_cert.clone().or_else(environment).filter(|_| encrypts) {
        // The driver takes a file without any for one that trusts nobody, and says so of the server's certificate.
        certificates(&file).map_err(|reason| Error::config(format!("sslrootcert: {reason}")))?;
        // So libpq has it.
        if matches!(options.get_ssl_mode(), PgSslMode::Require) {
            options = options.ssl_mode(PgSslMode::VerifyCa);
        }
        options = options.ssl_root_cert(file);
    }
    if let Some(file) = &url.ssl_cert {
        options = options.ssl_client_cert(file);
    }
    if let Some(file) = &url.ssl_key {
        options = options.ssl_client_key(file);
    }
    if let Some(text) = &url.options {
        options = options.options(settings(text)?);
    }
    Ok(options)
}

/// Reads the URL's `options` as the server does: `-c name=value` and `--name=value`, divided by spaces, where a backslash
/// keeps the next character.
fn settings(text: &str) -> Result<Vec<(String, String)>> {
    let mut words: Vec<String> = Vec::new();
    let (mut word, mut chars) = (String::new(), text.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => word.extend(chars.next()),
            c if c.is_whitespace() => words.extend(Some(std::mem::take(&mut word)).filter(|w| !w.is_empty())),
            c => word.push(c),
        }
    }
    words.extend(Some(word).filter(|w| !w.is_empty()));
    let mut settings = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("-c").or_else(|| word.strip_prefix("--")) {
            Some("") => words.next().unwrap_or_default(),
            Some(rest) => rest.to_owned(),
            None => word.clone(),
        };
        match setting.split_once('=') {
            Some((name, value)) if word.starts_with('-') && !name.is_empty() => {
                settings.push((name.replace('-', "_"), value.to_owned()));
            }
            _ => {
                return Err(Error::config(format!("`{word}` in the url's options is no setting: write -c name=value")));
            }
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_read_only_where_there_is_tls() {
        let with = |mode: &str| {
            let url = PgUrl::parse(&format!("postgresql://u@h/d?sslmode={mode}&sslrootcert=/no/such.pem")).unwrap();
            options(&url, "h", 5432)
        };
        assert!(with("disable").is_ok() && with("allow").is_ok());
        for mode in ["prefer", "require", "verify-ca", "verify-full"] {
            assert!(with(mode).unwrap_err().full().contains("/no/such.pem"), "{mode}");
        }
    }

    #[test]
    fn options_are_read_word_by_word() {
        let read = |text: &str| settings(text).ok().map(|s| s.into_iter().map(|(n, v)| format!("{n}:{v}")).collect());
        let read = |text: &str| -> Option<Vec<String>> { read(text) };
        assert_eq!(
            read("-c search_path=my-custom  -cwork_mem=8MB --lock-timeout=5s").unwrap(),
            ["search_path:my-custom", "work_mem:8MB", "lock_timeout:5s"]
        );
        assert_eq!(read(r"-c search_path=a\ b,\\c").unwrap(), [r"search_path:a b,\c"]);
        assert_eq!(read("").unwrap().len(), 0);
        assert_eq!(read("-c"), None);
        assert_eq!(read("work_mem=1"), None);
    }
}
