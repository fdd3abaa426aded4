//! Private database servers for tests, each started when the first test asks for it.
//!
//! ```no_run
//! # async fn test() {
//! use weir_plugins_test::servers;
//!
//! let database = servers::postgresql().await.fresh_database("orders").await;
//! let url = database.url(); // postgresql://weir:…@127.0.0.1:…/weir_orders_…
//! # }
//! ```
//!
//! All test processes that run at the same time share one server of each kind; each test makes a database of its own.
//! A server listens on a free port of localhost, keeps its data in a temporary folder, and is stopped and removed some
//! seconds after its last user has gone, however that user ended. The module `shared` says how.
//!
//! A server that is not installed fails the test with a message that names `scripts/install-test-servers.sh`. A SQL Server
//! cannot be installed from a package registry: its tests run where `WEIR_TEST_SQLSERVER` names one, see [`sqlserver`].

mod database;
mod mariadb;
mod mysql9;
mod own;
mod ports;
mod postgresql;
mod sessions;
mod shared;
mod sqlserver;
mod user;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use database::Database;
pub use own::OwnServer;
pub use sessions::Session;
pub use sqlserver::sqlserver;

/// The user of every server here; may do everything.
pub const USER: &str = "weir";
/// The user's password; it needs escaping in a URL, so that nobody forgets to.
pub const PASSWORD: &str = "we/ir p@ss";

/// Which server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// PostgreSQL from apt.
    PostgreSql,
    /// MariaDB from apt.
    MariaDb,
    /// The real MySQL 9.
    MySql,
    /// A SQL Server that somebody provides.
    SqlServer,
}

/// A server that runs.
pub struct Server {
    family: Family,
    place: Place,
}

/// Whose server it is.
enum Place {
    /// Ours, stopped after its last user.
    Own(shared::Running),
    /// Somebody else's, which stays.
    Given(Box<sqlserver::Given>),
}

/// The PostgreSQL server.
///
/// # Panics
/// When it is not installed or does not start: the test fails.
pub async fn postgresql() -> Arc<Server> {
    static SLOT: Slot = Mutex::new(None);
    start(Family::PostgreSql, &SLOT).await
}

/// The MariaDB server.
///
/// # Panics
/// As [`postgresql`].
pub async fn mariadb() -> Arc<Server> {
    static SLOT: Slot = Mutex::new(None);
    start(Family::MariaDb, &SLOT).await
}

/// The real MySQL server, with its defaults: `local_infile` is off, the binlog is on, logins use
/// `caching_sha2_password`.
///
/// # Panics
/// As [`postgresql`].
pub async fn mysql() -> Arc<Server> {
    static SLOT: Slot = Mutex::new(None);
    start(Family::MySql, &SLOT).await
}

type Slot = Mutex<Option<Arc<Server>>>;

async fn start(family: Family, slot: &'static Slot) -> Arc<Server> {
    let starting = tokio::task::spawn_blocking(move || {
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = &*slot {
            return Ok(server.clone());
        }
        let running = match family {
            Family::PostgreSql => shared::share(&postgresql::PostgreSql),
            Family::MariaDb => shared::share(&mariadb::MariaDb),
            Family::MySql => shared::share(&mysql9::MySql9),
            Family::SqlServer => return Err("a SQL Server is given, not started".into()),
        }?;
        Ok::<_, String>(slot.insert(Arc::new(Server { family, place: Place::Own(running) })).clone())
    });
    match starting.await {
        Ok(Ok(server)) => server,
        Ok(Err(error)) => panic!("{error}"),
        Err(error) => panic!("the start of a server broke: {error}"),
    }
}

impl Server {
    /// Which server it is.
    pub fn family(&self) -> Family {
        self.family
    }

    /// This machine, unless somebody else provides the server.
    pub fn host(&self) -> &str {
        match &self.place {
            Place::Own(_) => "127.0.0.1",
            Place::Given(given) => &given.host,
        }
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        match &self.place {
            Place::Own(running) => running.port,
            Place::Given(given) => given.port,
        }
    }

    /// The server's process id, 0 where it is not ours. The server is shared: do not kill it.
    pub fn pid(&self) -> u32 {
        match &self.place {
            Place::Own(running) => running.pid,
            Place::Given(_) => 0,
        }
    }

    /// A user that may do everything.
    pub fn user(&self) -> &str {
        match &self.place {
            Place::Own(_) => USER,
            Place::Given(given) => &given.user,
        }
    }

    /// The user's password.
    pub fn password(&self) -> &str {
        match &self.place {
            Place::Own(_) => PASSWORD,
            Place::Given(given) => &given.password,
        }
    }

    /// A new, empty database. `name` only helps a person to recognise it.
    ///
    /// # Panics
    /// When the server refuses: the test fails.
    pub async fn fresh_database(self: &Arc<Self>, name: &str) -> Database {
        Database::create(self.clone(), name).await.unwrap_or_else(|e| panic!("no database for the test: {e}"))
    }
}

/// A connection attempt of a readiness check, on a runtime of its own for the caller blocks.
fn block_on(connect: impl Future<Output = Result<(), sqlx::Error>>) -> Result<(), String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| format!("no runtime: {e}"))?;
    runtime.block_on(async {
        match tokio::time::timeout(Duration::from_secs(5), connect).await {
            Ok(result) => result.map_err(|e| e.to_string()),
            Err(_) => Err("no answer within 5 seconds".into()),
        }
    })
}
