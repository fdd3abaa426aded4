//! MariaDB as apt installs it.

use std::path::Path;

use sqlx::{ConnectOptions, Connection};

use super::shared::{Kind, run, write};
use super::user::{Account, account, run_as};
use super::{PASSWORD, USER, block_on, database};

const SERVER: &str = "/usr/sbin/mariadbd";
const INSTALL: &str = "/usr/bin/mariadb-install-db";

pub(super) struct MariaDb;

impl Kind for MariaDb {
    fn name(&self) -> &'static str {
        "mariadb"
    }

    fn installed(&self) -> Result<(), String> {
        if Path::new(SERVER).exists() && Path::new(INSTALL).exists() {
            Ok(())
        } else {
            Err("MariaDB is not installed".into())
        }
    }

    fn account(&self) -> Option<Account> {
        account(&["mysql"])
    }

    fn initialise(&self, folder: &Path) -> Result<(), String> {
        write(&folder.join("init.sql"), &create_user())?;
        let mut command = run_as(self.account());
        command.extend([
            INSTALL.into(),
            "--no-defaults".into(),
            format!("--datadir={}", folder.join("data").display()),
            "--auth-root-authentication-method=normal".into(),
            "--skip-test-db".into(),
        ]);
        run(&command)
    }

    fn command(&self, folder: &Path, port: u16) -> Vec<String> {
        let mut command = run_as(self.account());
        command.extend([SERVER.into(), "--no-defaults".into()]);
        command.extend(options(folder, port));
        // What Debian's own configuration sets; without it the server speaks latin1.
        command.extend(["--character-set-server=utf8mb4".into(), "--collation-server=utf8mb4_general_ci".into()]);
        command
    }

    fn answers(&self, port: u16) -> Result<(), String> {
        block_on(async { database::mysql_options(port).connect().await?.close().await })
    }
}

/// What the MySQL family is started with. `folder` as the server sees it.
pub(super) fn options(folder: &Path, port: u16) -> Vec<String> {
    let inside = |name: &str| folder.join(name).display().to_string();
    vec![
        format!("--datadir={}", inside("data")),
        format!("--socket={}", inside("s")),
        format!("--pid-file={}", inside("server.pid")),
        format!("--init-file={}", inside("init.sql")),
        format!("--port={port}"),
        "--bind-address=127.0.0.1".into(),
        "--max-connections=300".into(),
        // Data outlives a killed server all the same, only not a power cut.
        "--innodb-flush-log-at-trx-commit=2".into(),
        "--sync-binlog=0".into(),
        "--innodb-flush-method=nosync".into(),
        // Values of 64 MB are among those that must arrive.
        "--max-allowed-packet=256M".into(),
    ]
}

/// The statements of the init file, one a line.
pub(super) fn create_user() -> String {
    format!(
        "CREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';\n\
         GRANT ALL ON *.* TO '{USER}'@'%' WITH GRANT OPTION;\n"
    )
}
