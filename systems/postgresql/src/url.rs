//! PostgreSQL URLs and JDBC URLs.
//!
//! `postgresql://user:password@host1:5432,host2/database?sslmode=require` and
//! `jdbc:postgresql://host/database?user=u&currentSchema=s`. Names of properties are matched in any case. What is
//! unknown is kept as a warning, for real URLs are full of properties that mean nothing to us.

use std::fmt;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use weir_core::{Error, Result, Secret};

/// What a URL says.
#[derive(Clone, Default, PartialEq)]
pub struct PgUrl {
    /// Hosts with ports, in the order to try them.
    pub hosts: Vec<(String, u16)>,
    /// The database.
    pub database: Option<String>,
    /// The login name.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// disable, allow, prefer, require, verify-ca, verify-full.
    pub ssl_mode: Option<String>,
    /// The file with the authorities' certificates.
    pub ssl_root_cert: Option<String>,
    /// The client's certificate.
    pub ssl_cert: Option<String>,
    /// The client's key.
    pub ssl_key: Option<String>,
    /// The search path.
    pub current_schema: Option<String>,
    /// How long to wait for a connection.
    pub connect_timeout: Option<Duration>,
    /// How long to wait for an answer.
    pub socket_timeout: Option<Duration>,
    /// The name in pg_stat_activity.
    pub application_name: Option<String>,
    /// Whether a server must be the primary (`Some(true)`) or a standby (`Some(false)`).
    pub primary: Option<bool>,
    /// `-c name=value …` settings.
    pub options: Option<String>,
    /// What was accepted and is not followed.
    pub warnings: Vec<String>,
}

impl fmt::Debug for PgUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgUrl").field("hosts", &self.hosts).field("database", &self.database).finish_non_exhaustive()
    }
}

/// The part after the scheme, if `url` is one of PostgreSQL's.
pub fn strip_scheme(url: &str) -> Option<&str> {
    let url = url.trim();
    let url = strip_ignoring_case(url, "jdbc:").unwrap_or(url);
    ["postgresql:", "postgres:"].iter().find_map(|scheme| strip_ignoring_case(url, scheme))
}

fn strip_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

impl PgUrl {
    /// The hosts and ports, as a message shows them.
    pub(crate) fn servers(&self) -> String {
        self.hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect::<Vec<_>>().join(",")
    }

    /// Reads a URL.
    ///
    /// # Errors
    /// [`Config`](weir_core::ErrorKind::Config) for what is no PostgreSQL URL. The URL itself stands in no message, for
    /// it may hold a password.
    pub fn parse(text: &str) -> Result<Self> {
        let rest = strip_scheme(text).ok_or_else(|| {
            Error::config("the url is none of PostgreSQL's: write postgresql://user@host:5432/database or jdbc:postgresql://host/database")
        })?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut url = Self::default();
        // `jdbc:postgresql:database` means the local server.
        let (authority, path) = match place.strip_prefix("//") {
            Some(place) => place.split_once('/').unwrap_or((place, "")),
            None => ("", place.trim_start_matches('/')),
        };
        let hosts = match authority.rsplit_once('@') {
            Some((login, hosts)) => {
                let (user, password) = login.split_once(':').map_or((login, None), |(u, p)| (u, Some(p)));
                url.username = Some(decode(user)?).filter(|u| !u.is_empty());
                url.password = password.map(decode).transpose()?.map(Secret::new);
                hosts
            }
            None => authority,
        };
        for host in hosts.split(',').filter(|h| !h.is_empty()) {
            url.hosts.push(parse_host(host).map_err(|error| match rest.rsplit_once('@') {
                // With an unescaped `/` or `?` before the last `@`, what looks like a host is part of a password.
                Some((login, _)) if login.contains(host) => Error::config(
                    "the url's server is no host:port; write `/`, `@` and `?` in a password as %2F, %40 and %3F",
                ),
                _ => error,
            })?);
        }
        url.database = Some(decode(path.trim_end_matches('/'))?).filter(|d| !d.is_empty());
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            url.property(&decode(name)?, &decode(value)?)?;
        }
        if url.hosts.is_empty() {
            url.hosts.push(("localhost".into(), 5432));
        }
        Ok(url)
    }

    fn property(&mut self, name: &str, value: &str) -> Result<()> {
        let text = || Some(value.to_owned()).filter(|v| !v.is_empty());
        let seconds = || match value.parse::<f64>() {
            Ok(0.0) => Ok(None),
            Ok(n) if n > 0.0 && n < 1e9 => Ok(Some(Duration::from_secs_f64(n))),
            _ => Err(Error::config(format!("`{name}` in the url is no number of seconds: `{value}`"))),
        };
        match name.to_ascii_lowercase().as_str() {
            "user" | "username" => self.username = text(),
            "password" => self.password = text().map(Secret::new),
            "host" => {
                self.hosts = value.split(',').filter(|h| !h.is_empty()).map(parse_host).collect::<Result<_>>()?;
            }
            "port" => {
                let port = value.parse().map_err(|_| Error::config(format!("the url's port is no port: `{value}`")))?;
                for host in &mut self.hosts {
                    host.1 = port;
                }
            }
            "dbname" | "databasename" | "database" => self.database = text(),
            "sslmode" | "ssl-mode" => self.ssl_mode = text(),
            // JDBC: `ssl=true` alone verifies everything.
            "ssl" => {
                if self.ssl_mode.is_none() && matches!(value, "" | "true" | "1") {
                    self.ssl_mode = Some("verify-full".into());
                }
            }
            "sslfactory" if value.ends_with("NonValidatingFactory") => self.ssl_mode = Some("require".into()),
            "sslrootcert" | "ssl-root-cert" | "ssl-ca" => self.ssl_root_cert = text(),
            "sslcert" | "ssl-cert" => self.ssl_cert = text(),
            "sslkey" | "ssl-key" => self.ssl_key = text(),
            "currentschema" | "searchpath" | "search_path" => self.current_schema = text(),
            "connecttimeout" | "connect_timeout" | "logintimeout" => self.connect_timeout = seconds()?,
            "sockettimeout" => self.socket_timeout = seconds()?,
            "applicationname" | "application_name" => self.application_name = text(),
            "options" => self.options = text(),
            "targetservertype" | "target_session_attrs" => {
                self.primary = match value.to_ascii_lowercase().as_str() {
                    "primary" | "master" | "read-write" => Some(true),
                    "secondary" | "slave" | "standby" | "read-only" => Some(false),
                    _ => None,
                };
            }
            // These have no meaning here, or are always so.
            "tcpkeepalive" | "stringtype" | "preparethreshold" | "binarytransfer" | "charset" => {}
            _ => self.warnings.push(format!("the url's property `{name}` is not known and has no effect")),
        }
        Ok(())
    }
}

fn parse_host(text: &str) -> Result<(String, u16)> {
    let wrong = || Error::config(format!("`{text}` in the url is no host:port"));
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
            (host, rest.strip_prefix(':'))
        }
        None => text.rsplit_once(':').map_or((text, None), |(h, p)| (h, Some(p))),
    };
    let port = port.filter(|p| !p.is_empty()).map_or(Ok(5432), |p| p.parse().map_err(|_| wrong()))?;
    let host = decode(host)?;
    Ok((if host.is_empty() { "localhost".into() } else { host }, port))
}

fn decode(text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    Ok(decoded.map_err(|_| Error::config("the url has a %-sequence that is no UTF-8 text"))?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_both_kinds_are_read() {
        let url =
            PgUrl::parse("postgres://me%40x:p%3Ass@a:1,[::1]:2/my%20db?sslmode=require&connectTimeout=3").unwrap();
        assert_eq!(url.hosts, [("a".to_owned(), 1), ("::1".to_owned(), 2)]);
        assert_eq!(url.username.as_deref(), Some("me@x"));
        assert_eq!(url.password.as_ref().unwrap().reveal(), "p:ss");
        assert_eq!(url.database.as_deref(), Some("my db"));
        assert_eq!(url.ssl_mode.as_deref(), Some("require"));
        assert_eq!(url.connect_timeout, Some(Duration::from_secs(3)));
        let url = PgUrl::parse("jdbc:postgresql://h/d?currentSchema=s&reWriteBatchedInserts=true&user=u").unwrap();
        assert_eq!((url.current_schema.as_deref(), url.username.as_deref()), (Some("s"), Some("u")));
        assert_eq!(url.warnings.len(), 1);
        assert_eq!(PgUrl::parse("jdbc:postgresql:shop").unwrap().database.as_deref(), Some("shop"));
        assert!(PgUrl::parse("mysql://h/d").is_err());
        assert!(!format!("{:?}", PgUrl::parse("postgres://u:secret@h/d").unwrap()).contains("secret"));
    }

    #[test]
    fn a_wrong_port_is_named_without_the_password() {
        let message = PgUrl::parse("postgres://u:secret@h:abc/d").unwrap_err().to_string();
        assert!(message.contains("h:abc") && !message.contains("secret"), "{message}");
        let message = PgUrl::parse("postgres://u:sec/ret@h/d").unwrap_err().to_string();
        assert!(message.contains("%2F") && !message.contains("sec"), "{message}");
    }
}
