//! Where a server is and how to talk to it, from our URLs and from `jdbc:` URLs.

use std::time::Duration;

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use weir_core::{Fault, Faults, Secret};

/// How a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encrypt {
    /// Not at all.
    Disabled,
    /// The login alone; the certificate unchecked.
    Login,
    /// If the server can; the certificate unchecked.
    Preferred,
    /// Always, and the certificate comes from a trusted authority and names the host, unless it is trusted as it is.
    Required,
}

impl Encrypt {
    /// Understands the words of Microsoft's drivers, and ours.
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "disabled" | "disable" | "off" | "none" => Some(Self::Disabled),
            "false" | "optional" | "no" | "login" => Some(Self::Login),
            "preferred" | "prefer" => Some(Self::Preferred),
            "true" | "mandatory" | "yes" | "required" | "require" => Some(Self::Required),
            _ => None,
        }
    }
}

/// What `encrypt` may say.
pub(crate) const ENCRYPT_WORDS: &str = "true (required), preferred, false (login only) and disabled";

/// One server and the ways to log in to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The host.
    pub host: String,
    /// The port; by default 1433, or what the server's browser service says of the instance.
    pub port: Option<u16>,
    /// A named instance.
    pub instance: Option<String>,
    /// The login name.
    pub user: String,
    /// The password.
    pub password: Secret,
    /// The database; by default the login's own.
    pub database: Option<String>,
    /// Encryption.
    pub encrypt: Encrypt,
    /// Whether any certificate will do, where that is said.
    pub trust: Option<bool>,
    /// A file with trusted certificates (PEM), beside the machine's own.
    pub ca: Option<String>,
    /// The name that the certificate must have, where that is not the host's.
    pub certificate_host: Option<String>,
    /// How long to wait for a connection.
    pub login_timeout: Duration,
    /// How long a statement may take until its first, and from each to its next word; `None` for ever.
    pub statement_timeout: Option<Duration>,
    /// How long to wait for a lock, in milliseconds: below zero for ever, `None` for a minute.
    pub lock_timeout: Option<i32>,
    /// Whether a readable secondary will do (`applicationIntent=ReadOnly`).
    pub read_only: bool,
    /// Whether all addresses of the host are tried at once.
    pub multi_subnet: bool,
    /// What the server is told of the program.
    pub application: String,
    /// The size of packets that the server is asked for.
    pub packet_size: u32,
    /// Properties of the URL that are not followed.
    pub warnings: Vec<String>,
}

/// The largest packets that a server takes from an encrypted connection, in round numbers.
const PACKET: u32 = 16_000;

const SCHEMES: [&str; 5] =
    ["jdbc:sqlserver:", "jdbc:microsoft:sqlserver:", "jdbc:jtds:sqlserver:", "sqlserver:", "mssql:"];

/// Parameters for a location of `weir copy`, if it is one of this system's URLs.
pub fn recognise(location: &str, table: Option<&str>) -> Option<Value> {
    let lower = location.to_ascii_lowercase();
    let parameters = match table {
        Some(table) => json!({ "url": location, "table": table }),
        None => json!({ "url": location }),
    };
    SCHEMES.iter().any(|scheme| lower.starts_with(scheme)).then_some(parameters)
}

impl Options {
    /// Reads a URL. A `failoverPartner` gives a second server, tried when the first does not answer.
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
        let Some(rest) = SCHEMES.iter().find_map(|scheme| strip_prefix_ignore_case(text, scheme)) else {
            return Err(fault(
                "no SQL Server URL: write sqlserver://user@host:1433/database, or a jdbc:sqlserver: URL",
            ));
        };
        let Some(rest) = rest.strip_prefix("//") else {
            return Err(fault("the URL lacks `//` after its scheme: write sqlserver://user@host:1433/database"));
        };
        let mut this = Self {
            host: String::new(),
            port: None,
            instance: None,
            user: username.unwrap_or_default().to_owned(),
            password: password.cloned().unwrap_or_default(),
            database: None,
            encrypt: Encrypt::Preferred,
            trust: None,
            ca: None,
            certificate_host: None,
            login_timeout: Duration::from_secs(15),
            statement_timeout: None,
            lock_timeout: None,
            read_only: false,
            multi_subnet: false,
            application: "weir".into(),
            packet_size: PACKET,
            warnings: Vec::new(),
        };
        let mut faults = Faults::default();
        // Which of the two ways it is written: properties follow a semicolon, or a question mark.
        let semicolon = rest.find(';').unwrap_or(rest.len());
        let jdbc = text.get(..5).is_some_and(|p| p.eq_ignore_ascii_case("jdbc:"));
        let plain = !jdbc && (semicolon == rest.len() || rest[..semicolon].contains(['@', '?']));
        let (place, properties) = match plain {
            true => this.our_way(rest, username.is_some(), password.is_some()),
            false => (rest[..semicolon].to_owned(), of_jdbc(rest.get(semicolon + 1..).unwrap_or_default())),
        };
        if !this.place_of(&place) {
            faults.add(pointer, "the port in the URL is no number from 1 to 65535");
        }
        let partner = this.properties(properties, username.is_some(), password.is_some(), pointer, &mut faults);
        if this.host.is_empty() {
            this.host = "localhost".into();
        }
        let mut all = vec![this];
        if let Some(partner) = partner {
            let mut second = all[0].clone();
            (second.host, second.port, second.instance) = (String::new(), None, None);
            if !second.place_of(&partner) || second.host.is_empty() {
                faults.add(pointer, "failoverPartner is no host");
            }
            all.push(second);
        }
        faults.or(all)
    }

    /// `user:password@host:port/database?a=b`: host with port, and the properties.
    fn our_way(&mut self, rest: &str, user: bool, password: bool) -> (String, Vec<(String, String)>) {
        // A password may contain what else would end it.
        let (login, rest) = rest.rsplit_once('@').map_or((None, rest), |(login, rest)| (Some(login), rest));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (place, database) = rest.split_once('/').unwrap_or((rest, ""));
        self.database = Some(decode(database)).filter(|d| !d.is_empty());
        if let Some(login) = login {
            let (name, secret) = login.split_once(':').map_or((login, None), |(u, p)| (u, Some(p)));
            if !user {
                self.user = decode(name);
            }
            if let (false, Some(secret)) = (password, secret) {
                self.password = Secret::new(decode(secret));
            }
        }
        let pairs = query.split('&').filter(|p| !p.is_empty());
        let pairs = pairs.map(|p| p.split_once('=').unwrap_or((p, ""))).map(|(k, v)| (k.to_owned(), decode(v)));
        (decode(place), pairs.collect())
    }

    /// `host\instance:port`, of jTDS with `/database`.
    fn place_of(&mut self, text: &str) -> bool {
        let (text, database) = text.split_once('/').unwrap_or((text, ""));
        if !database.is_empty() {
            self.database = Some(database.to_owned());
        }
        let text = text.trim();
        let (host, rest) = match text.strip_prefix('[').and_then(|t| t.split_once(']')) {
            Some((host, rest)) => (host, rest),
            None => text.split_at(text.find(['\\', ':']).unwrap_or(text.len())),
        };
        if !host.is_empty() {
            self.host = host.to_owned();
        }
        let (instance, port) = rest.split_once(':').unwrap_or((rest, ""));
        if let Some(instance) = instance.strip_prefix('\\').filter(|i| !i.is_empty()) {
            self.instance = Some(instance.to_owned());
        }
        if !port.is_empty() {
            self.port = port.parse().ok().filter(|p| *p > 0);
            return self.port.is_some();
        }
        true
    }

    /// Reads the properties; gives the failover partner.
    fn properties(
        &mut self,
        properties: Vec<(String, String)>,
        user: bool,
        password: bool,
        pointer: &str,
        faults: &mut Faults,
    ) -> Option<String> {
        let (mut encrypt, mut trust, mut partner) = (None, None, None);
        for (key, value) in properties {
            let on = matches!(value.to_ascii_lowercase().as_str(), "true" | "yes" | "1");
            let number = || value.trim().parse::<i64>().ok();
            match key.to_ascii_lowercase().replace([' ', '_'], "").as_str() {
                "user" | "username" | "uid" if !user => self.user = value,
                "password" | "pwd" if !password => self.password = Secret::new(value),
                "user" | "username" | "uid" | "password" | "pwd" => {}
                "servername" | "server" => self.host = value,
                "port" | "portnumber" => match number().and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0) {
                    Some(port) => self.port = Some(port),
                    None => faults.add(pointer, "portNumber is no number from 1 to 65535"),
                },
                "databasename" | "database" => self.database = Some(value).filter(|v| !v.is_empty()),
                "instancename" | "instance" => self.instance = Some(value).filter(|v| !v.is_empty()),
                "encrypt" | "ssl" => match Encrypt::parse(&value) {
                    Some(level) => encrypt = Some(level),
                    None => faults.add(pointer, format!("encrypt is none of {ENCRYPT_WORDS}")),
                },
                "trustservercertificate" => trust = Some(on),
                "servercertificate" | "sslca" | "ssl-ca" => self.ca = Some(value),
                "hostnameincertificate" => self.certificate_host = Some(value),
                "logintimeout" | "connecttimeout" => match number() {
                    Some(0) => self.login_timeout = Duration::from_secs(3600),
                    Some(seconds) if seconds > 0 => self.login_timeout = Duration::from_secs(seconds as u64),
                    _ => faults.add(pointer, "loginTimeout is no number of seconds"),
                },
                "querytimeout" => match number() {
                    Some(seconds) => self.statement_timeout = positive(seconds).map(Duration::from_secs),
                    None => faults.add(pointer, "queryTimeout is no number of seconds"),
                },
                "sockettimeout" => match number() {
                    Some(millis) => {
                        self.statement_timeout =
                            positive(millis).map(Duration::from_millis).or(self.statement_timeout.take());
                    }
                    None => faults.add(pointer, "socketTimeout is no number of milliseconds"),
                },
                "locktimeout" => match number() {
                    // Below zero it is no limit.
                    Some(millis) => self.lock_timeout = Some(i32::try_from(millis).unwrap_or(i32::MAX).max(-1)),
                    None => faults.add(pointer, "lockTimeout is no number of milliseconds"),
                },
                "applicationintent" => self.read_only = value.eq_ignore_ascii_case("readonly"),
                "multisubnetfailover" => self.multi_subnet = on,
                "applicationname" | "appname" => self.application = value,
                "failoverpartner" => partner = Some(value).filter(|v| !v.is_empty()),
                "integratedsecurity" if on => {
                    faults.add(
                        pointer,
                        "integratedSecurity is not supported: log in with a name and a password of SQL Server",
                    );
                }
                "authentication" | "authenticationscheme"
                    if !matches!(value.to_ascii_lowercase().as_str(), "sqlpassword" | "notspecified" | "") =>
                {
                    faults.add(pointer, format!("{key} can be SqlPassword only: log in with a name and a password"));
                }
                // Without effect here: texts are always Unicode, rows are always streamed, times have their own types.
                "integratedsecurity"
                | "authentication"
                | "authenticationscheme"
                | "sendstringparametersasunicode"
                | "selectmethod"
                | "responsebuffering"
                | "packetsize"
                | "sendtimeasdatetime"
                | "lastupdatecount"
                | "workstationid"
                | "statementpoolingcachesize"
                | "disablestatementpooling"
                | "usefmtonly"
                | "usebulkcopyforbatchinsert"
                | "charset"
                | "sslprotocol" => {}
                _ => self.warnings.push(format!("the URL's property `{key}` is not followed")),
            }
        }
        // Who speaks of certificates wants them checked.
        let checked = trust == Some(false) || (self.ca.is_some() && trust.is_none());
        self.encrypt = encrypt.unwrap_or(if checked { Encrypt::Required } else { self.encrypt });
        self.trust = trust;
        partner
    }

    /// The same servers, with another database.
    #[must_use]
    pub fn in_database(all: &[Self], database: &str) -> Vec<Self> {
        all.iter().map(|one| Self { database: Some(database.to_owned()), ..one.clone() }).collect()
    }

    /// For another attempt at what failed: packets end at other places, for the sake of servers that stumble over where one
    /// ends.
    #[must_use]
    pub fn for_attempt(&self, attempt: u32) -> Self {
        Self { packet_size: PACKET - 16 * (attempt.saturating_sub(1) % 64), ..self.clone() }
    }

    /// Whether any certificate will do: only a connection that must be encrypted has its certificate checked, as
    /// Microsoft's drivers do it.
    pub fn trusts(&self) -> bool {
        self.trust.unwrap_or(self.encrypt != Encrypt::Required)
    }

    /// The database: full names of tables are unique in it.
    pub fn home(&self) -> String {
        weir_sql::home("sqlserver", &self.place(), self.database.as_deref())
    }

    /// Host with instance or port, as messages show it.
    pub fn place(&self) -> String {
        match (&self.instance, self.port) {
            (Some(instance), None) => format!("{}\\{instance}", self.host),
            (_, port) => format!("{}:{}", self.host, port.unwrap_or(1433)),
        }
    }
}

fn positive(number: i64) -> Option<u64> {
    u64::try_from(number).ok().filter(|n| *n > 0)
}

/// `a=b;c={d;e}`: within braces everything belongs to the value, a closing one written twice too.
fn of_jdbc(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find([';', '=']).unwrap_or(rest.len());
        let key = rest[..end].trim().to_owned();
        if !rest[end..].starts_with('=') {
            rest = rest.get(end + 1..).unwrap_or_default();
            if !key.is_empty() {
                pairs.push((key, String::new()));
            }
            continue;
        }
        rest = &rest[end + 1..];
        let mut value = String::new();
        if let Some(braced) = rest.trim_start().strip_prefix('{') {
            let mut chars = braced.char_indices().peekable();
            rest = "";
            while let Some((at, c)) = chars.next() {
                if c != '}' {
                    value.push(c);
                } else if chars.peek().is_some_and(|(_, next)| *next == '}') {
                    value.push(c);
                    chars.next();
                } else {
                    let after = &braced[at + 1..];
                    rest = after.find(';').map_or("", |semicolon| &after[semicolon + 1..]);
                    break;
                }
            }
        } else {
            let end = rest.find(';').unwrap_or(rest.len());
            value.push_str(rest[..end].trim());
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        pairs.push((key, value));
    }
    pairs
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
        let o = one(
            "sqlserver://us%40er:p/a%3as@db.example:1444/shop?encrypt=true&loginTimeout=3&trustServerCertificate=no",
        );
        assert_eq!((o.user.as_str(), o.password.reveal(), o.place().as_str()), ("us@er", "p/a:s", "db.example:1444"));
        assert_eq!((o.database.as_deref(), o.encrypt, o.trusts()), (Some("shop"), Encrypt::Required, false));
        assert_eq!(o.login_timeout, Duration::from_secs(3));
        let o = one(
            "jdbc:sqlserver://h\\SQLEXPRESS;databaseName=d;user=sa;password={a;}}b};encrypt=false;lockTimeout=5;foo=1",
        );
        assert_eq!((o.host.as_str(), o.instance.as_deref(), o.port), ("h", Some("SQLEXPRESS"), None));
        assert_eq!((o.password.reveal(), o.encrypt, o.trusts()), ("a;}b", Encrypt::Login, true));
        assert_eq!((o.lock_timeout, o.warnings.len(), o.place().as_str()), (Some(5), 1, "h\\SQLEXPRESS"));
        let limit = |words: &str| one(&format!("jdbc:sqlserver://h;{words}")).statement_timeout;
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!([limit("queryTimeout=7"), limit("socketTimeout=7000")], [seconds(7); 2]);
        assert_eq!([limit("queryTimeout=0"), limit("queryTimeout=-1"), limit("loginTimeout=7")], [None; 3]);
        let o = one("jdbc:sqlserver://;serverName=h;portNumber=1500;database=d");
        assert_eq!((o.place().as_str(), o.encrypt), ("h:1500", Encrypt::Preferred));
        let o = one("jdbc:jtds:sqlserver://h:1433/d;instance=x");
        assert_eq!(
            (o.database.as_deref(), o.instance.as_deref(), o.place().as_str()),
            (Some("d"), Some("x"), "h:1433")
        );
        let o = one("sqlserver://h:1433;database=d;user=u");
        assert_eq!((o.database.as_deref(), o.user.as_str()), (Some("d"), "u"));
        assert_eq!(one("mssql://[::1]:9/d").place(), "::1:9");
        assert_eq!([1, 2, 66].map(|attempt| o.for_attempt(attempt).packet_size), [16_000, 15_984, 15_984]);
        assert!(recognise("JDBC:SQLServer://h", None).is_some() && recognise("postgres://h/d", None).is_none());
    }

    #[test]
    fn a_partner_is_tried_second() {
        let all = Options::parse("jdbc:sqlserver://a:1;failoverPartner=b", Some("u"), None, "/url").unwrap();
        assert_eq!(all.iter().map(Options::place).collect::<Vec<_>>(), ["a:1", "b:1433"]);
        assert_eq!(all[1].user, "u");
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secret() {
        for url in [
            "postgres://u:hush@h/d",
            "sqlserver://u:hush@h:x/d",
            "sqlserver:hush",
            "sqlserver://h/d?encrypt=hush",
            "jdbc:sqlserver://h;password=hush;integratedSecurity=true",
        ] {
            let faults = Options::parse(url, None, None, "/url").unwrap_err();
            assert!(!faults.to_string().contains("hush"), "{faults}");
        }
        assert!(!format!("{:?}", one("sqlserver://u:hush@h/d")).contains("hush"));
    }
}
