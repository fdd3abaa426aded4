//! Where a server is and how to talk to it, from our URLs and from `jdbc:` URLs.

use std::time::Duration;

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use weir_core::{Fault, Faults, Secret};

/// How a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// Not at all.
    Disabled,
    /// Encrypted if the server can, the certificate unchecked.
    Preferred,
    /// Encrypted, the certificate unchecked.
    Required,
    /// Encrypted, and the certificate comes from a trusted authority.
    VerifyCa,
    /// As `VerifyCa`, and the certificate names the host.
    VerifyIdentity,
}

impl Tls {
    /// Understands the names of MySQL's, MariaDB's and PostgreSQL's tools.
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().replace(['-', '_'], "").as_str() {
            "disabled" | "disable" | "false" | "off" => Some(Self::Disabled),
            "preferred" | "prefer" => Some(Self::Preferred),
            "required" | "require" | "trust" => Some(Self::Required),
            "verifyca" => Some(Self::VerifyCa),
            "verifyidentity" | "verifyfull" | "true" => Some(Self::VerifyIdentity),
            _ => None,
        }
    }
}

/// What becomes of dates that no calendar has (`0000-00-00`, `2024-00-00`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ZeroDate {
    /// They become NULL.
    Null,
    /// Their rows are dirty.
    #[default]
    Error,
}

/// One server and the ways to log in to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path of a Unix socket, instead of host and port.
    pub socket: Option<String>,
    /// The login name.
    pub user: String,
    /// The password.
    pub password: Secret,
    /// The database.
    pub database: Option<String>,
    /// Encryption.
    pub tls: Tls,
    /// A file with the trusted certificates (PEM).
    pub ca: Option<String>,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// How long to wait for the server's next word; `None` for ever.
    pub socket_timeout: Option<Duration>,
    /// What the URL says of zero dates.
    pub zero_date: Option<ZeroDate>,
    /// Whether `tinyint(1)` is a boolean.
    pub tiny_is_bool: bool,
    /// Whether `year` is a date.
    pub year_is_date: bool,
    /// Statements for every session, from the URL.
    pub session: Vec<String>,
    /// Properties of the URL that are not followed.
    pub warnings: Vec<String>,
}

/// Parameters for a location of `weir copy`, if it is one of this family's URLs.
pub fn recognise(location: &str, table: Option<&str>) -> Option<Value> {
    let lower = location.to_ascii_lowercase();
    let ours = ["mysql:", "mariadb:", "jdbc:mysql:", "jdbc:mariadb:"].iter().any(|p| lower.starts_with(p));
    let parameters = match table {
        Some(table) => json!({ "url": location, "table": table }),
        None => json!({ "url": location }),
    };
    ours.then_some(parameters)
}

impl Options {
    /// Reads a URL; several hosts in one URL (`jdbc:mysql://a:3306,b:3306/d`) give several options, tried in order.
    ///
    /// # Errors
    /// What is wrong with it, at `pointer`; the URL itself is not repeated, for it may hold a password.
    pub fn parse(
        url: &str,
        username: Option<&str>,
        password: Option<&Secret>,
        pointer: &str,
    ) -> Result<Vec<Self>, Faults> {
        let fault = |message: &str| Faults(vec![Fault { pointer: pointer.into(), message: message.into() }]);
        let text = url.trim();
        if text.contains("||_dsc_ob10_dsc_||") {
            return Err(fault("OceanBase's `||_dsc_ob10_dsc_||` prefix is not supported: write a plain MySQL URL"));
        }
        let bare = strip_prefix_ignore_case(text, "jdbc:").unwrap_or(text);
        let rest = ["mysql:", "mariadb:"].iter().find_map(|p| strip_prefix_ignore_case(bare, p));
        let Some(rest) = rest else {
            return Err(fault("no MySQL URL: write mysql://user@host:3306/database, or a jdbc:mysql: URL"));
        };
        let Some((flavour, rest)) = rest.split_once("//") else {
            return Err(fault("the URL lacks `//` after its scheme: write mysql://user@host:3306/database"));
        };
        if !matches!(flavour.trim_end_matches(':'), "" | "replication" | "loadbalance" | "sequential" | "aurora") {
            return Err(fault(&format!("`{flavour}` URLs are not supported: write jdbc:mysql://host:3306/database")));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = match rest.rsplit_once('@') {
            // A password may contain a slash.
            Some((login, after)) => {
                let (hosts, database) = after.split_once('/').unwrap_or((after, ""));
                (format!("{login}@{hosts}"), database)
            }
            None => {
                let (hosts, database) = rest.split_once('/').unwrap_or((rest, ""));
                (hosts.to_owned(), database)
            }
        };
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login.to_owned()), hosts.to_owned()),
            None => (None, authority),
        };
        let mut base = Self {
            host: String::new(),
            port: 3306,
            socket: None,
            user: username.unwrap_or("").to_owned(),
            password: password.cloned().unwrap_or_default(),
            database: Some(decode(database)).filter(|d| !d.is_empty()),
            tls: Tls::Preferred,
            ca: None,
            connect_timeout: Duration::from_secs(10),
            socket_timeout: None,
            zero_date: None,
            tiny_is_bool: false,
            year_is_date: false,
            session: Vec::new(),
            warnings: Vec::new(),
        };
        if let Some(login) = login {
            let (user, pass) = login.split_once(':').map_or((login.as_str(), None), |(u, p)| (u, Some(p)));
            if username.is_none() {
                base.user = decode(user);
            }
            if let (None, Some(pass)) = (password, pass) {
                base.password = Secret::new(decode(pass));
            }
        }
        let mut faults = Faults::default();
        base.properties(query, username.is_some(), password.is_some(), pointer, &mut faults);
        if base.user.is_empty() {
            base.user = "root".into();
        }
        let mut all = Vec::new();
        for host in hosts.split(',') {
            match host_port(host) {
                Some((host, port)) => all.push(Self { host, port, ..base.clone() }),
                None => faults.add(pointer, "the port in the URL is no number from 1 to 65535"),
            }
        }
        faults.or(all)
    }

    fn properties(&mut self, query: &str, user: bool, password: bool, pointer: &str, faults: &mut Faults) {
        let (mut use_ssl, mut require, mut verify, mut mode) = (None, false, false, None);
        for pair in query.split('&').map(|p| p.strip_prefix("amp;").unwrap_or(p)).filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value);
            let on = matches!(value.to_ascii_lowercase().as_str(), "true" | "yes" | "1");
            let millis = || value.parse::<u64>().ok();
            match key.to_ascii_lowercase().as_str() {
                "user" if !user => self.user = value,
                "password" if !password => self.password = Secret::new(value),
                "user" | "password" => {}
                "usessl" => use_ssl = Some(on),
                "requiressl" => require = on,
                "verifyservercertificate" => verify = on,
                "trustservercertificate" => verify = verify && !on,
                "sslmode" | "ssl-mode" | "tls" => match Tls::parse(&value) {
                    Some(tls) => mode = Some(tls),
                    None => faults.add(
                        pointer,
                        "sslMode is none of disabled, preferred, required, verify-ca and verify-identity",
                    ),
                },
                "sslca" | "ssl-ca" | "serversslcert" => self.ca = Some(value),
                "socket" | "localsocket" => self.socket = Some(value),
                "connecttimeout" => match millis() {
                    Some(0) => self.connect_timeout = Duration::from_secs(3600),
                    Some(ms) => self.connect_timeout = Duration::from_millis(ms),
                    None => faults.add(pointer, "connectTimeout is no number of milliseconds"),
                },
                "sockettimeout" => match millis() {
                    Some(ms) => self.socket_timeout = Some(Duration::from_millis(ms)).filter(|d| !d.is_zero()),
                    None => faults.add(pointer, "socketTimeout is no number of milliseconds"),
                },
                "zerodatetimebehavior" => match value.to_ascii_lowercase().replace('_', "").as_str() {
                    "converttonull" => self.zero_date = Some(ZeroDate::Null),
                    "exception" => self.zero_date = Some(ZeroDate::Error),
                    _ => faults.add(
                        pointer,
                        "zeroDateTimeBehavior can be convertToNull or exception; `round` would invent dates",
                    ),
                },
                "tinyint1isbit" => self.tiny_is_bool = on,
                "yearisdatetype" => self.year_is_date = on,
                "sessionvariables" => self.session.push(format!("SET SESSION {value}")),
                // Without effect here: text is always UTF-8, instants are always UTC, keys are always fetched.
                "servertimezone"
                | "connectiontimezone"
                | "characterencoding"
                | "useunicode"
                | "autoreconnect"
                | "allowpublickeyretrieval"
                | "allowmultiqueries"
                | "uselegacydatetimecode"
                | "charset" => {}
                _ => self.warnings.push(format!("the URL's property `{key}` is not followed")),
            }
        }
        self.tls = mode.unwrap_or(match use_ssl {
            Some(false) => Tls::Disabled,
            _ if verify => Tls::VerifyCa,
            _ if require => Tls::Required,
            _ => Tls::Preferred,
        });
    }

    /// The server: full names of tables are unique in it.
    pub fn home(&self) -> String {
        weir_sql::home("mysql", &self.place(), None)
    }

    /// Host and port as messages show them.
    pub fn place(&self) -> String {
        match &self.socket {
            Some(socket) => socket.clone(),
            None => format!("{}:{}", self.host, self.port),
        }
    }
}

fn host_port(text: &str) -> Option<(String, u16)> {
    let text = text.trim();
    let (host, port) = match text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':').unwrap_or("")),
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let port = if port.is_empty() { 3306 } else { port.parse().ok().filter(|p| *p > 0)? };
    Some((if host.is_empty() { "localhost" } else { host }.to_owned(), port))
}

fn strip_prefix_ignore_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(url: &str) -> Options {
        Options::parse(url, None, None, "/url").unwrap().remove(0)
    }

    #[test]
    fn urls_of_both_kinds_are_understood() {
        let o = one("mysql://us%40er:p/a%3as@db.example:3307/shop?sslMode=VERIFY_CA&sslCa=/ca.pem");
        assert_eq!((o.user.as_str(), o.password.reveal(), o.place().as_str()), ("us@er", "p/a:s", "db.example:3307"));
        assert_eq!((o.database.as_deref(), o.tls, o.ca.as_deref()), (Some("shop"), Tls::VerifyCa, Some("/ca.pem")));
        let o = one("jdbc:mysql://h/d?useSSL=false&serverTimezone=GMT%2B8&zeroDateTimeBehavior=convertToNull&x=1");
        assert_eq!((o.tls, o.zero_date, o.warnings.len(), o.port), (Tls::Disabled, Some(ZeroDate::Null), 1, 3306));
        let hosts = Options::parse("jdbc:mariadb://a:1,b:2/d", Some("u"), None, "/url").unwrap();
        assert_eq!(hosts.iter().map(Options::place).collect::<Vec<_>>(), ["a:1", "b:2"]);
        assert!(recognise("MARIADB://h/d", None).is_some() && recognise("postgres://h/d", None).is_none());
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secret() {
        for url in ["postgres://u:hush@h/d", "mysql://u:hush@h:x/d", "mysql:hush", "mysql://h/d?sslMode=hush"] {
            let faults = Options::parse(url, None, None, "/url").unwrap_err();
            assert!(!faults.to_string().contains("hush"), "{faults}");
        }
        assert!(!format!("{:?}", one("mysql://u:hush@h/d")).contains("hush"));
    }
}
