//! Who is connected to a database, and at what.

use std::time::Duration;

use super::Database;

/// A session that the server lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// What `KILL` wants.
    pub id: String,
    /// `Query`, `Execute`; `Sleep` for one that waits for its client.
    pub command: String,
    /// What the server is at: `User sleep`.
    pub state: String,
    /// The whole statement, empty where none runs.
    pub statement: String,
}

const LIST: &str = "SHOW FULL PROCESSLIST";

impl Database {
    /// The sessions with this database of MariaDB or MySQL, except such as ask this. `information_schema.PROCESSLIST` is no way to know: MySQL
    /// answers none of its queries as long as a statement of anybody on the server has a character of four bytes.
    ///
    /// # Panics
    /// When the server is none of the MySQL family.
    pub async fn sessions(&self) -> Vec<Session> {
        let mut found = Vec::new();
        for row in self.query(LIST).await {
            let [id, _, _, database, command, _, state, statement] = &row[..8] else { panic!("{row:?}") };
            let text = |value: &Option<String>| value.clone().unwrap_or_default();
            if database.as_deref() == Some(self.name()) && statement.as_deref() != Some(LIST) {
                let (id, command, state, statement) = (text(id), text(command), text(state), text(statement));
                found.push(Session { id, command, state, statement });
            }
        }
        found
    }

    /// Waits until a query of any server gives anything but `0`.
    ///
    /// # Panics
    /// When it gives nothing else in half a minute.
    pub async fn until(&self, sql: &str) {
        for _ in 0..3_000 {
            if self.value(sql).await != "0" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it never came to this: {sql}");
    }

    /// Waits until somebody runs such a statement.
    ///
    /// # Panics
    /// When nobody does in half a minute.
    pub async fn until_runs(&self, is: impl Fn(&str) -> bool) {
        self.until_sessions(|sessions| sessions.iter().any(|session| is(&session.statement))).await;
    }

    /// Waits until the sessions are like this.
    ///
    /// # Panics
    /// When they are not in half a minute.
    pub async fn until_sessions(&self, are: impl Fn(&[Session]) -> bool) {
        let mut last = Vec::new();
        for _ in 0..3_000 {
            last = self.sessions().await;
            if are(&last) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it never came to this: {last:#?}");
    }
}
