//! Where rows come from and go to.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use weir_plugins_test::proxy::Proxy;
use weir_plugins_test::servers::{Database, Family, OwnServer, PASSWORD, USER};

/// A system on one side of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    PostgreSql,
    MariaDb,
    Sqlite,
    Csv,
    Parquet,
    Delta,
}

impl System {
    pub fn name(self) -> &'static str {
        match self {
            Self::PostgreSql => "postgresql",
            Self::MariaDb => "mariadb",
            Self::Sqlite => "sqlite",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
            Self::Delta => "delta",
        }
    }

    pub fn family(self) -> Option<Family> {
        match self {
            Self::PostgreSql => Some(Family::PostgreSql),
            Self::MariaDb => Some(Family::MariaDb),
            _ => None,
        }
    }
}

/// A row of every case: the key, and what makes it the old row or the new one; further columns after commas.
pub type Row = (i64, String);

/// A server of its own for each family, with a proxy in front.
pub struct Place {
    pub server: OwnServer,
    pub proxy: Proxy,
}

/// All servers.
pub struct Places {
    pub postgresql: Place,
    pub mariadb: Place,
}

impl Places {
    pub async fn start() -> Self {
        Self { postgresql: place(Family::PostgreSql).await, mariadb: place(Family::MariaDb).await }
    }

    pub fn of(&mut self, family: Family) -> &mut Place {
        match family {
            Family::PostgreSql => &mut self.postgresql,
            _ => &mut self.mariadb,
        }
    }

    /// Starts every server again that has died of itself, and says so: to a run it is one more fault.
    pub fn revive(&mut self) {
        for (name, place) in [("PostgreSQL", &mut self.postgresql), ("MariaDB", &mut self.mariadb)] {
            let revived = tokio::task::block_in_place(|| place.server.revive());
            if let Some(last_words) = revived.unwrap_or_else(|error| panic!("{error}")) {
                println!("{name} died of itself and is started again; its log ends:\n{last_words}");
            }
        }
    }
}

async fn place(family: Family) -> Place {
    let server = tokio::task::spawn_blocking(move || OwnServer::start(family)).await.unwrap();
    let server = server.unwrap_or_else(|error| panic!("{error}"));
    let proxy = Proxy::start(server.server().port()).await.unwrap();
    Place { server, proxy }
}

/// One side of a case: a table, a file or a folder.
#[derive(Clone)]
pub struct Side {
    pub system: System,
    pub database: Option<Database>,
    proxy: Option<u16>,
    pub path: PathBuf,
    /// The table, in systems that have such things.
    table: String,
}

impl Side {
    pub async fn new(system: System, places: &mut Places, folder: &Path, name: &str) -> Self {
        let (database, proxy) = match system.family() {
            Some(family) => {
                let place = places.of(family);
                (Some(place.server.server().fresh_database(name).await), Some(place.proxy.port()))
            }
            None => (None, None),
        };
        let path = match system {
            System::Sqlite => folder.join(format!("{name}.db")),
            System::Csv => folder.join(format!("{name}.csv")),
            _ => folder.join(name),
        };
        Self { system, database, proxy, path, table: "t".into() }
    }

    /// One table of a whole database.
    pub fn table(&self, name: &str) -> Self {
        let path = match self.system {
            System::Parquet | System::Delta => self.path.join(name),
            _ => self.path.clone(),
        };
        Self { path, table: name.into(), ..self.clone() }
    }

    /// The URL through the proxy.
    fn url(&self) -> String {
        let database = self.database.as_ref().unwrap();
        let scheme = if self.system == System::PostgreSql { "postgresql" } else { "mysql" };
        let escape = |text: &str| text.replace('/', "%2F").replace(' ', "%20").replace('@', "%40");
        format!("{scheme}://{USER}:{}@127.0.0.1:{}/{}", escape(PASSWORD), self.proxy.unwrap(), database.name())
    }

    /// Plugin and parameters without a table, as whole databases take them.
    pub fn whole(&self) -> (&'static str, Value) {
        match self.system {
            System::PostgreSql => ("postgresql", json!({"url": self.url()})),
            System::MariaDb => ("mysql", json!({"url": self.url()})),
            System::Sqlite => ("sqlite", json!({"path": self.path})),
            System::Csv => (
                "files",
                json!({"path": self.path, "format": "csv", "header": true,
                "column": [{"name": "id", "type": "long"}, {"name": "v", "type": "string"}]}),
            ),
            System::Parquet => ("files", json!({"path": self.path, "format": "parquet"})),
            System::Delta => ("lakehouse", json!({"path": self.path})),
        }
    }

    /// Plugin and parameters; the same for reader and writer.
    pub fn endpoint(&self) -> (&'static str, Value) {
        let (plugin, mut parameter) = self.whole();
        if matches!(self.system, System::PostgreSql | System::MariaDb | System::Sqlite) {
            parameter["table"] = json!(self.table);
        }
        (plugin, parameter)
    }

    /// Makes the table of a source, with a key or without one, and fills it.
    pub async fn make(&self, keyed: bool, rows: &[Row]) {
        let key = if keyed { " PRIMARY KEY" } else { "" };
        let table = &self.table;
        self.execute(&format!("CREATE TABLE {table} (id bigint NOT NULL{key}, v varchar(120))")).await;
        self.insert(rows).await;
    }

    /// Gives the table of a source other rows, and one column more if asked.
    pub async fn replace(&self, added: bool, rows: &[Row]) {
        let table = &self.table;
        self.execute(&format!("DELETE FROM {table}")).await;
        if added {
            self.execute(&format!("ALTER TABLE {table} ADD COLUMN w varchar(20)")).await;
        }
        self.insert(rows).await;
    }

    async fn insert(&self, rows: &[Row]) {
        for rows in rows.chunks(2_000) {
            self.execute(&insert(&self.table, rows)).await;
        }
    }

    async fn execute(&self, sql: &str) {
        match &self.database {
            Some(database) => database.execute(sql).await,
            None => sqlite(&self.path, sql).await,
        }
    }

    /// Puts rows into a table, file or folder that may not exist yet.
    pub async fn fill(&self, rows: &[Row]) {
        match self.system {
            System::PostgreSql | System::MariaDb => {
                self.execute("CREATE TABLE IF NOT EXISTS t (id bigint NOT NULL PRIMARY KEY, v varchar(120))").await;
                self.insert(rows).await;
            }
            System::Sqlite => {
                let sql = format!(
                    "PRAGMA journal_mode = WAL; CREATE TABLE IF NOT EXISTS t (id INTEGER NOT NULL PRIMARY KEY, v TEXT);\n\
                     BEGIN;\n{}COMMIT;",
                    rows.chunks(500).map(|rows| insert(&self.table, rows) + ";\n").collect::<String>()
                );
                sqlite(&self.path, &sql).await;
            }
            System::Csv => {
                let lines: String = rows.iter().map(|(id, v)| format!("{id},{v}\n")).collect();
                std::fs::write(&self.path, format!("id,v\n{lines}")).unwrap();
            }
            System::Parquet | System::Delta => {
                // Through CSV and our own hands: another test proves that this is right.
                let csv = self.path.with_extension("csv");
                let lines: String = rows.iter().map(|(id, v)| format!("{id},{v}\n")).collect();
                std::fs::write(&csv, format!("id,v\n{lines}")).unwrap();
                let from = Self { system: System::Csv, database: None, path: csv.clone(), ..self.clone() };
                let (writer, mut to) = self.endpoint();
                to["writeMode"] = json!(if self.system == System::Delta { "overwrite" } else { "truncate" });
                weir_once(&from.endpoint(), (writer, to), &self.path);
                std::fs::remove_file(csv).unwrap();
            }
        }
    }

    /// Takes the database away again, whose server lives on for hundreds of cases.
    pub async fn remove(&self) {
        if let Some(database) = &self.database
            && let Err(error) = database.remove().await
        {
            println!("{} stays: {error}", database.name());
        }
    }

    /// Somebody makes every row of a source another one.
    pub async fn change(&self) {
        self.execute(&format!("UPDATE {} SET v = replace(v, 'new ', 'newer ')", self.table)).await;
    }

    /// All rows in order; no value is an empty one.
    pub async fn rows(&self) -> Vec<Row> {
        match self.system {
            System::PostgreSql | System::MariaDb => {
                let rows = self.database.as_ref().unwrap().query(&format!("SELECT * FROM {}", self.table)).await;
                let row = |row: Vec<Option<String>>| {
                    let rest: Vec<_> = row[1..].iter().map(|value| value.clone().unwrap_or_default()).collect();
                    (row[0].as_ref().unwrap().parse().unwrap(), rest.join(","))
                };
                let mut rows: Vec<Row> = rows.into_iter().map(row).collect();
                rows.sort();
                rows
            }
            _ => {
                let csv = self.path.with_extension("out.csv");
                let to = json!({"path": csv, "format": "csv", "header": true, "writeMode": "truncate"});
                weir_once(&self.endpoint(), ("files", to), &self.path);
                let text = std::fs::read_to_string(&csv).unwrap();
                std::fs::remove_file(csv).unwrap();
                let mut rows: Vec<Row> = text
                    .lines()
                    .skip(1)
                    .map(|line| {
                        let (id, v) = line.split_once(',').unwrap_or_else(|| panic!("a line without comma: {line}"));
                        (id.parse().unwrap(), v.to_owned())
                    })
                    .collect();
                rows.sort();
                rows
            }
        }
    }

    /// Nothing may be left at a target but these tables and our own of records.
    ///
    /// # Errors
    /// What is there besides.
    pub async fn litter(&self, tables: &[&str]) -> Result<(), String> {
        let Some(database) = &self.database else { return Ok(()) };
        let schema = if self.system == System::PostgreSql { "public" } else { database.name() };
        let sql =
            format!("SELECT table_name FROM information_schema.tables WHERE table_schema = '{schema}' ORDER BY 1");
        let names: Vec<String> = database.query(&sql).await.into_iter().filter_map(|row| row[0].clone()).collect();
        let litter: Vec<_> =
            names.iter().filter(|name| *name != "weir_commits" && !tables.contains(&name.as_str())).collect();
        if litter.is_empty() { Ok(()) } else { Err(format!("left behind: {litter:?}")) }
    }

    /// What an onlooker sees at one moment, small enough to compare: the number of rows of each generation.
    pub async fn glance(&self) -> Option<String> {
        match self.system {
            System::PostgreSql | System::MariaDb => {
                let old = "coalesce(sum(CASE WHEN v LIKE 'old%' THEN 1 ELSE 0 END), 0)";
                let sql = format!("SELECT count(*), {old} FROM {}", self.table);
                let row = self.database.as_ref()?.try_query(&sql).await.ok()?.into_iter().next()?;
                Some(format!("{} rows, {} old", row[0].clone()?, row[1].clone()?))
            }
            System::Parquet => Some(names(&self.path, |name| !name.starts_with(['.', '_']))?.join(" ")),
            System::Delta => self.data_files(),
            _ => None,
        }
    }

    /// The data files of a Delta table's newest version; no case makes so many that the log is shortened.
    fn data_files(&self) -> Option<String> {
        let log = self.path.join("_delta_log");
        let mut files = BTreeSet::new();
        for name in names(&log, |name| name.ends_with(".json"))? {
            for line in std::fs::read_to_string(log.join(name)).ok()?.lines() {
                let action: Value = serde_json::from_str(line).ok()?;
                let path = |what: &str| Some(action[what]["path"].as_str()?.to_owned());
                files.extend(path("add"));
                path("remove").map(|gone| files.remove(&gone));
            }
        }
        Some(files.into_iter().collect::<Vec<_>>().join(" "))
    }
}

/// What is in a folder, in order.
fn names(folder: &Path, which: impl Fn(&String) -> bool) -> Option<Vec<String>> {
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let names: BTreeSet<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(which).collect();
    Some(names.into_iter().collect())
}

fn insert(table: &str, rows: &[Row]) -> String {
    let values: Vec<String> = rows.iter().map(|(id, v)| format!("({id}, '{}')", v.replace(',', "', '"))).collect();
    format!("INSERT INTO {table} VALUES {}", values.join(", "))
}

async fn sqlite(path: &Path, sql: &str) {
    use sqlx::{Connection, Executor};
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await.unwrap();
    connection.close().await.unwrap();
}

/// A run of our own that nobody disturbs.
fn weir_once(from: &(&str, Value), to: (&str, Value), beside: &Path) {
    let job = job(from, to, json!({}));
    let file = beside.with_extension("once.json");
    std::fs::write(&file, job.to_string()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["run", "--quiet", "--state-dir", "off", "--quarantine", "off"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::remove_file(file).unwrap();
}

/// A job of one entry.
pub fn job(from: &(&str, Value), to: (&str, Value), setting: Value) -> Value {
    json!({"job": {"setting": setting, "content": [{
        "reader": {"name": from.0, "parameter": from.1}, "writer": {"name": to.0, "parameter": to.1}
    }]}})
}
