//! The real MySQL, from a Debian system unpacked into a folder by `scripts/install-test-servers.sh`.

use std::path::{Path, PathBuf};

use sqlx::{ConnectOptions, Connection};

use super::shared::{Kind, run, write};
use super::user::{Account, account, own_id, run_as};
use super::{block_on, database, mariadb};

pub(super) struct MySql9;

/// `$WEIR_TEST_CACHE/mysql9`, by default in the user's cache folder.
fn system() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("WEIR_TEST_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("weir-test")))
        .unwrap_or_else(|| set("HOME").unwrap_or_default().join(".cache/weir-test"))
        .join("mysql9")
}

/// Only root may change into the unpacked system; anybody else runs its program with its own loader and libraries.
fn changes_root() -> bool {
    own_id() == 0
}

impl MySql9 {
    fn server(&self) -> Vec<String> {
        let system = system();
        let inside = |path: &str| system.join(path).display().to_string();
        if changes_root() {
            let Account { user, group } = self.account().unwrap_or(Account { user: 65534, group: 65534 });
            let ids = format!("--userspec={user}:{group}");
            return vec!["chroot".into(), ids, system.display().to_string(), "/usr/sbin/mysqld".into()];
        }
        let mut command = run_as(None);
        let machine = std::env::consts::ARCH;
        command.extend([
            // `sh -c` finds the loader, whose name differs between machines.
            "sh".into(),
            "-c".into(),
            "exec \"$(ls \"$0\"/usr/lib/*/ld-linux*.so.* | head -n 1)\" \"$@\"".into(),
            system.display().to_string(),
            "--library-path".into(),
            format!("{}:{}", inside(&format!("usr/lib/{machine}-linux-gnu")), inside("usr/lib/mysql/private")),
            inside("usr/sbin/mysqld"),
        ]);
        command
    }

    /// The folder as the server sees it.
    fn seen(&self, folder: &Path) -> PathBuf {
        match folder.strip_prefix(system()) {
            Ok(inside) if changes_root() => Path::new("/").join(inside),
            _ => folder.to_owned(),
        }
    }

    fn where_things_are(&self) -> Vec<String> {
        let root = if changes_root() { PathBuf::from("/") } else { system() };
        let at = |option: &str, path: &str| format!("--{option}={}", root.join(path).display());
        vec![
            at("basedir", "usr"),
            at("lc-messages-dir", "usr/share/mysql"),
            at("character-sets-dir", "usr/share/mysql/charsets"),
            at("plugin-dir", "usr/lib/mysql/plugin"),
        ]
    }
}

impl Kind for MySql9 {
    fn name(&self) -> &'static str {
        "mysql9"
    }

    fn installed(&self) -> Result<(), String> {
        let system = system();
        if system.join(".complete").exists() && system.join("usr/sbin/mysqld").exists() {
            Ok(())
        } else {
            Err(format!("the real MySQL is not in {}", system.display()))
        }
    }

    fn account(&self) -> Option<Account> {
        account(&["mysql"])
    }

    fn data_root(&self, folder: &Path) -> PathBuf {
        if changes_root() { system().join("weir-test") } else { folder.to_owned() }
    }

    fn initialise(&self, folder: &Path) -> Result<(), String> {
        write(&folder.join("init.sql"), &mariadb::create_user())?;
        let mut command = self.server();
        command.extend([
            "--no-defaults".into(),
            "--initialize-insecure".into(),
            format!("--datadir={}", self.seen(folder).join("data").display()),
        ]);
        command.extend(self.where_things_are());
        run(&command)
    }

    fn command(&self, folder: &Path, port: u16) -> Vec<String> {
        let mut command = self.server();
        command.push("--no-defaults".into());
        command.extend(self.where_things_are());
        command.extend(mariadb::options(&self.seen(folder), port));
        command.extend(["--secure-file-priv=NULL".into(), "--mysqlx=OFF".into()]);
        command
    }

    fn answers(&self, port: u16) -> Result<(), String> {
        block_on(async { database::mysql_options(port).connect().await?.close().await })
    }
}
