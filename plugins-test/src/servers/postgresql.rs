//! PostgreSQL as apt installs it.

use std::fs;
use std::path::{Path, PathBuf};

use sqlx::{ConnectOptions, Connection};

use super::shared::{Kind, run, write};
use super::user::{Account, account, run_as};
use super::{USER, block_on, database};

pub(super) struct PostgreSql;

/// [`PASSWORD`](super::PASSWORD) as the server keeps it, with one iteration of the hash and not 4096: a test build needs 30 ms
/// for those at every login, and tests log in by the thousand.
const VERIFIER: &str = "SCRAM-SHA-256$1:c2FsdCBvZiB0ZXN0cw==$BkO/MP4wqAvMZ7SzTcdTvT6MWhD3VhuWMEVHYK56PSs=:6UbJ9V5HA+TU0LLszKnNx8NGynvnVqp4DRnRSwFYf7o=";

/// The newest `/usr/lib/postgresql/*/bin`.
fn programs() -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .flatten()
        .filter_map(|e| Some((e.file_name().to_str()?.parse().ok()?, e.path().join("bin"))))
        .filter(|(_, bin)| bin.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().map(|(_, bin)| bin)
}

fn program(name: &str) -> String {
    programs().unwrap_or_default().join(name).display().to_string()
}

impl Kind for PostgreSql {
    fn name(&self) -> &'static str {
        "postgresql"
    }

    fn installed(&self) -> Result<(), String> {
        programs().map(|_| ()).ok_or_else(|| "PostgreSQL is not installed".into())
    }

    fn account(&self) -> Option<Account> {
        account(&["postgres"])
    }

    fn initialise(&self, folder: &Path) -> Result<(), String> {
        let password = folder.join("password");
        write(&password, VERIFIER)?;
        let mut command = run_as(self.account());
        command.extend([
            program("initdb"),
            format!("--pgdata={}", folder.join("data").display()),
            format!("--username={USER}"),
            format!("--pwfile={}", password.display()),
            "--auth=scram-sha-256".into(),
            "--encoding=UTF8".into(),
            "--locale=C.UTF-8".into(),
            "--no-sync".into(),
        ]);
        run(&command)
    }

    fn command(&self, folder: &Path, port: u16) -> Vec<String> {
        let mut command = run_as(self.account());
        command.extend([program("postgres"), "-D".into(), folder.join("data").display().to_string()]);
        for setting in [
            format!("port={port}"),
            "listen_addresses=127.0.0.1".into(),
            format!("unix_socket_directories={}", folder.display()),
            "max_connections=300".into(),
            "max_prepared_transactions=20".into(),
            // Data outlives a killed server all the same, only not a power cut.
            "fsync=off".into(),
        ] {
            command.extend(["-c".into(), setting]);
        }
        command
    }

    fn answers(&self, port: u16) -> Result<(), String> {
        block_on(async { database::postgresql_options(port).database("postgres").connect().await?.close().await })
    }
}
