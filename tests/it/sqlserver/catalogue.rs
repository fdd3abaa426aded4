//! A target in SQL Server is asked about all its tables at once: no question is asked table by table.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use weir::RunOptions;
use weir_plugins_test::servers::{self, Database};

use crate::database::{database_job, run_ok};
use crate::support::load;

/// A way to the server that listens to what its clients say.
#[derive(Clone)]
struct Listener {
    url: String,
    said: Arc<Mutex<Vec<String>>>,
}

impl Listener {
    async fn before(database: &Database) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = (socket.local_addr().unwrap(), (database.host().to_owned(), database.port()));
        let url = database.url().replace(&format!("{}:{}", far.0, far.1), &near.to_string());
        // What is encrypted nobody could listen to.
        let url = format!("{}?encrypt=disabled", url.split('?').next().unwrap());
        let this = Self { url, said: Arc::default() };
        let listener = this.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = socket.accept().await {
                let (client_in, mut client_out) = client.into_split();
                let (mut server_in, server_out) = TcpStream::connect(&far).await.unwrap().into_split();
                tokio::spawn(async move { tokio::io::copy(&mut server_in, &mut client_out).await });
                let listener = listener.clone();
                tokio::spawn(async move { listener.pass(client_in, server_out).await });
            }
        });
        this
    }

    /// Passes a client's packets on, and keeps the batches of statements.
    async fn pass(
        self,
        mut from: tokio::net::tcp::OwnedReadHalf,
        mut to: tokio::net::tcp::OwnedWriteHalf,
    ) -> std::io::Result<()> {
        let mut batch = Vec::new();
        loop {
            // Kind, whether it is the last one of its message, length with these eight bytes.
            let mut head = [0; 8];
            from.read_exact(&mut head).await?;
            let mut body = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]])) - head.len()];
            from.read_exact(&mut body).await?;
            if head[0] == 1 {
                batch.extend_from_slice(&body);
                if head[1] & 1 == 1 {
                    self.keep(&std::mem::take(&mut batch));
                }
            }
            to.write_all(&head).await?;
            to.write_all(&body).await?;
        }
    }

    fn keep(&self, batch: &[u8]) {
        // The text comes behind headers that say how long they are.
        let skip = u32::from_le_bytes(batch[..4].try_into().unwrap()) as usize;
        let text: Vec<u16> = batch[skip..].chunks_exact(2).map(|two| u16::from_le_bytes([two[0], two[1]])).collect();
        self.said.lock().unwrap_or_else(PoisonError::into_inner).push(String::from_utf16_lossy(&text));
    }

    /// The questions about tables since the last call, those apart that are part of the work on one: statements that make it
    /// or read its record where it is there, whether its staging table is there to be published, and whether the name of a
    /// new foreign key is free.
    fn questions(&self) -> Vec<String> {
        let asks = ["sys.", "OBJECT_ID(", "SCHEMA_ID(", "HAS_PERMS_BY_NAME(", "COLLATIONPROPERTY(", "@@VERSION"];
        let said = std::mem::take(&mut *self.said.lock().unwrap_or_else(PoisonError::into_inner));
        let is = |sql: &String| asks.iter().any(|ask| sql.contains(ask));
        let is_there = |sql: &String| sql.starts_with("SELECT CAST(OBJECT_ID(");
        let work =
            |sql: &String| sql.starts_with("IF ") || (is_there(sql) && (sql.contains("_s]") || !sql.contains("N'U'")));
        // A connection that waits for long asks whether the server is still there.
        let silence = |sql: &String| sql.contains("dm_exec_sessions");
        said.into_iter().filter(|sql| is(sql) && !work(sql) && !silence(sql)).collect()
    }
}

/// How often the question is asked that is asked most often, whatever tables it names.
fn most(questions: &[String]) -> usize {
    let mut times = HashMap::<&str, usize>::new();
    for sql in questions {
        *times.entry(sql.split(" WHERE ").next().unwrap_or_default()).or_default() += 1;
    }
    times.into_values().max().unwrap_or_default()
}

/// Fails where a question was asked for each table. A run looks at its target when it begins, for what comes after the rows
/// and for foreign keys that come back, and once more every half a minute; a look asks where the tables are and what they are.
fn assert_asked_at_once(questions: &[String], looks: usize, began: Instant) {
    let looks = looks + began.elapsed().as_secs() as usize / 30;
    assert!(questions.len() > 2, "it listens: {questions:#?}");
    assert!(most(questions) <= 2 * looks, "{looks} looks: {questions:#?}");
}

/// By plans and runs that make the tables, and by those that find them.
#[tokio::test(flavor = "multi_thread")]
async fn targets_are_asked_about_at_once() {
    const TABLES: usize = 12;
    let Some(server) = servers::sqlserver() else { return };
    let source = servers::postgresql().await.fresh_database("asking").await;
    let target = server.fresh_database("asked").await;
    source.execute("CREATE SCHEMA dbo").await;
    for table in 0..TABLES {
        let columns = "id int PRIMARY KEY, name varchar(20) NOT NULL UNIQUE, at timestamp NULL, parent int";
        let key = if table > 0 { ", FOREIGN KEY (parent) REFERENCES dbo.t0 (id)" } else { "" };
        source.execute(&format!("CREATE TABLE dbo.t{table} ({columns}{key})")).await;
        source
            .execute(&format!("INSERT INTO dbo.t{table} (id, name, parent) VALUES (0, 'one', 0), (1, 'two', 1)"))
            .await;
    }
    let listener = Listener::before(&target).await;
    for mode in ["overwrite", "overwrite", "upsert"] {
        let (read, write) = (json!({"url": source.url()}), json!({"url": listener.url}));
        let job = database_job(("postgresql", read), ("sqlserver", write), json!({"write": {"keyed": mode}}));
        let began = Instant::now();
        let plan = weir::plan(&load(&job), &RunOptions::default()).await.unwrap();
        assert_eq!(plan.database.unwrap().mapped, TABLES);
        assert_asked_at_once(&listener.questions(), 1, began);
        let began = Instant::now();
        let report = run_ok(&job).await;
        assert_eq!((report.rows_written, report.warnings.len()), (2 * TABLES as u64, 0), "{:#?}", report.warnings);
        assert_asked_at_once(&listener.questions(), 4, began);
    }
}
