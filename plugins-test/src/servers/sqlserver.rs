//! SQL Server cannot be installed from a package registry: its tests run where somebody provides one.

use std::sync::Arc;

use futures::TryStreamExt;
use percent_encoding::percent_decode_str;
use tiberius::{AuthMethod, Client, ColumnData, Config, EncryptionLevel, QueryItem};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_util::compat::{Compat, TokioAsyncWriteCompatExt};
use url::Url;

use super::{Database, Family, Place, Server};

/// Held while databases are made and dropped: servers that are not the original fail at two at once.
pub(super) static ALONE: Mutex<()> = Mutex::const_new(());

/// The server whose URL is in `WEIR_TEST_SQLSERVER`; without one the test is counted as not run, see
/// [`not_run`](crate::not_run). Its login must be allowed to create databases, of which each test drops its own.
///
/// # Panics
/// When the URL is none: the test fails.
pub fn sqlserver() -> Option<Arc<Server>> {
    let text = std::env::var("WEIR_TEST_SQLSERVER").ok().filter(|url| !url.is_empty());
    let Some(text) = text else {
        crate::not_run("WEIR_TEST_SQLSERVER names no SQL Server");
        return None;
    };
    // The URL holds a password: it is not shown.
    let given = Given::parse(&text).unwrap_or_else(|fault| panic!("WEIR_TEST_SQLSERVER: {fault}"));
    Some(Arc::new(Server { family: Family::SqlServer, place: Place::Given(Box::new(given)) }))
}

/// A server that somebody else runs.
#[derive(Clone)]
pub(super) struct Given {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
    /// The database that logins begin in.
    pub database: String,
    /// The rest of the URL, `encrypt=true&…`.
    pub options: String,
}

impl Given {
    fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "it must be sqlserver://user:password@host:port/database?options";
        let url = Url::parse(text).map_err(|_| FORM)?;
        let plain = |text: &str| percent_decode_str(text).decode_utf8().map(String::from).map_err(|_| FORM);
        match (url.scheme(), url.host_str(), url.password()) {
            ("sqlserver", Some(host), Some(password)) => Ok(Self {
                host: host.into(),
                port: url.port().unwrap_or(1433),
                user: plain(url.username())?,
                password: plain(password)?,
                database: plain(url.path().trim_start_matches('/'))?,
                options: url.query().unwrap_or_default().into(),
            }),
            _ => Err(FORM),
        }
    }

    async fn connect(&self, database: &str) -> Result<Client<Compat<TcpStream>>, tiberius::error::Error> {
        let mut config = Config::new();
        config.host(&self.host);
        config.port(self.port);
        config.database(database);
        config.authentication(AuthMethod::sql_server(&self.user, &self.password));
        // What a test lays is no secret; whom the connector trusts is its own tests' matter.
        config.trust_cert();
        // A server that works hard is no server that is gone.
        config.command_timeout(None);
        let plain = self.options.split('&').any(|option| option.eq_ignore_ascii_case("encrypt=false"));
        config.encryption(if plain { EncryptionLevel::NotSupported } else { EncryptionLevel::Required });
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        Client::connect(config, stream.compat_write()).await
    }
}

/// Runs a batch over a connection of its own and gives all its rows; values without a text form of their own (dates,
/// times) have to be converted by the query.
pub(super) async fn query(given: &Given, database: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>, sqlx::Error> {
    let told = |error: tiberius::error::Error| sqlx::Error::AnyDriverError(Box::new(error));
    let mut client = given.connect(database).await.map_err(told)?;
    let mut rows = Vec::new();
    let mut stream = client.simple_query(sql).await.map_err(told)?;
    while let Some(item) = stream.try_next().await.map_err(told)? {
        if let QueryItem::Row(row) = item {
            rows.push(row.cells().map(|(column, value)| cell(column.name(), value)).collect::<Result<_, _>>()?);
        }
    }
    Ok(rows)
}

fn cell(column: &str, value: &ColumnData<'_>) -> Result<Option<String>, sqlx::Error> {
    Ok(match value {
        ColumnData::U8(n) => n.map(|n| n.to_string()),
        ColumnData::I16(n) => n.map(|n| n.to_string()),
        ColumnData::I32(n) => n.map(|n| n.to_string()),
        ColumnData::I64(n) => n.map(|n| n.to_string()),
        ColumnData::F32(n) => n.map(|n| n.to_string()),
        ColumnData::F64(n) => n.map(|n| n.to_string()),
        ColumnData::Bit(bit) => bit.map(|bit| u8::from(bit).to_string()),
        ColumnData::String(text) => text.as_ref().map(|text| text.to_string()),
        ColumnData::Guid(id) => id.map(|id| id.to_string()),
        ColumnData::Numeric(n) => n.map(|n| decimal(n.value(), usize::from(n.scale()))),
        ColumnData::Xml(xml) => xml.as_ref().map(|xml| xml.to_string()),
        ColumnData::Binary(bytes) => bytes.as_ref().map(|b| b.iter().map(|b| format!("{b:02x}")).collect()),
        _ => return Err(sqlx::Error::Protocol(format!("column {column}: its query has to convert it to a text"))),
    })
}

/// The digits with the point before the last `scale` of them.
fn decimal(value: i128, scale: usize) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

impl Database {
    /// Whether the SQL Server is Babelfish, which cannot show everything.
    ///
    /// # Panics
    /// When it does not answer: the test fails.
    pub async fn is_babelfish(&self) -> bool {
        self.value("SELECT CAST(@@VERSION AS nvarchar(4000))").await.contains("Babelfish")
    }
}

/// A database on a server that stays: it goes with this.
pub(super) struct Litter {
    given: Given,
    quoted: String,
}

impl Litter {
    pub(super) fn new(given: Given, quoted: String) -> Self {
        Self { given, quoted }
    }
}

impl Drop for Litter {
    fn drop(&mut self) {
        let (given, quoted) = (self.given.clone(), self.quoted.clone());
        // A thread of its own, for the test that ends may stand within a runtime.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let _alone = ALONE.lock().await;
                // Connections of a run that was broken off keep the database; not every server knows the words.
                let alone = format!("ALTER DATABASE {quoted} SET SINGLE_USER WITH ROLLBACK IMMEDIATE");
                let _ = query(&given, &given.database, &alone).await;
                let mut end = Ok(Vec::new());
                for _ in 0..20 {
                    end = query(&given, &given.database, &format!("DROP DATABASE {quoted}")).await;
                    if end.is_ok() {
                        break;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
                end.map(drop)
            })
        });
        if let Ok(Err(error)) = dropping.join() {
            eprintln!("the database {} stays: {error}", self.quoted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_and_decimals_are_put_together() {
        let given = Given::parse("sqlserver://a%40b:p%2Fw@db.example:1444/test%20db?encrypt=true&x=1").unwrap();
        assert_eq!((given.host.as_str(), given.port), ("db.example", 1444));
        assert_eq!((given.user.as_str(), given.password.as_str()), ("a@b", "p/w"));
        assert_eq!((given.database.as_str(), given.options.as_str()), ("test db", "encrypt=true&x=1"));
        assert_eq!(
            (decimal(-5, 3), decimal(120, 0), decimal(1234, 2)),
            ("-0.005".into(), "120".into(), "12.34".into())
        );
        assert!(Given::parse("mysql://a:b@c/d").is_err() && Given::parse("sqlserver://c/d").is_err());
    }
}
