//! A server of one test's own, which may be killed and started again.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::shared::{Kind, Running, free_port, make_folder, tail, tests_folder};
use super::{Family, Place, Server, mariadb, postgresql};

/// How long a start may take; after a crash the log is replayed.
const START: Duration = Duration::from_secs(90);

/// A private server that dies on demand. Its data survive, as after a crash of the program (not of the machine).
pub struct OwnServer {
    kind: &'static dyn Kind,
    server: Arc<Server>,
    folder: PathBuf,
    child: Option<Child>,
    /// What its command gets beside the usual.
    arguments: Vec<String>,
}

impl OwnServer {
    /// Starts one; PostgreSQL or MariaDB.
    ///
    /// # Errors
    /// Why it does not start, or what to install.
    pub fn start(family: Family) -> Result<Self, String> {
        Self::start_with(family, &[])
    }

    /// Starts one with more arguments; PostgreSQL or MariaDB.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(family: Family, arguments: &[String]) -> Result<Self, String> {
        let kind: &'static dyn Kind = match family {
            Family::PostgreSql => &postgresql::PostgreSql,
            Family::MariaDb => &mariadb::MariaDb,
            Family::MySql => return Err("MySQL 9 is shared by all tests".into()),
            Family::SqlServer => return Err("a SQL Server is given, not started".into()),
        };
        kind.installed()?;
        let port = free_port()?;
        let root = tests_folder();
        make_folder(&root, None)?;
        let folder = root.join(format!("own-{}-{}-{port}", kind.name(), std::process::id()));
        make_folder(&folder, kind.account())?;
        kind.initialise(&folder)?;
        let users = std::fs::File::create(folder.join("users")).map_err(|e| e.to_string())?;
        let server = Arc::new(Server { family, place: Place::Own(Running { port, pid: 0, _users: users }) });
        let mut own = Self { kind, server, folder, child: None, arguments: arguments.to_vec() };
        own.restart()?;
        Ok(own)
    }

    /// For making databases in it.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// `kill -9`, of all its processes.
    pub fn crash(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The server is a child of the program that changes the user, or took its place; its own children follow it.
            for pid in family_of(child.id()) {
                let _ = Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status();
            }
            let _ = child.wait();
        }
    }

    /// Starts it again, on the same port and data, and waits until it answers.
    ///
    /// # Errors
    /// Why it does not start.
    pub fn restart(&mut self) -> Result<(), String> {
        self.crash();
        let deadline = Instant::now() + START;
        let port = self.server.port();
        loop {
            // Children of the crashed server may hold on to its memory for a moment: then the start is tried again.
            let mut child = self.spawn(port)?;
            loop {
                if self.kind.answers(port).is_ok() {
                    self.child = Some(child);
                    return Ok(());
                }
                if Instant::now() > deadline {
                    self.child = Some(child);
                    self.crash();
                    return Err(format!("{} does not start again", self.kind.name()));
                }
                std::thread::sleep(Duration::from_millis(50));
                if child.try_wait().map_err(|e| e.to_string())?.is_some() {
                    break;
                }
            }
        }
    }

    /// Starts it again if it has died of itself, as whoever keeps a server running does. Then returns the last lines of its
    /// log, which say what it died of.
    ///
    /// # Errors
    /// Why it does not start.
    pub fn revive(&mut self) -> Result<Option<String>, String> {
        match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(None)) => return Ok(None),
            Some(Err(error)) => return Err(error.to_string()),
            Some(Ok(Some(_))) | None => {}
        }
        let last_words = tail(&self.folder.join("log"));
        self.restart()?;
        Ok(Some(last_words))
    }

    fn spawn(&self, port: u16) -> Result<Child, String> {
        let command = self.kind.command(&self.folder, port);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.join("log"));
        Command::new(&command[0])
            .args(&command[1..])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.map_err(|e| e.to_string())?)
            .current_dir("/")
            .spawn()
            .map_err(|e| format!("cannot run {}: {e}", command[0]))
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        self.crash();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A process and all below it.
fn family_of(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut at = 0;
    while at < all.len() {
        let path = format!("/proc/{0}/task/{0}/children", all[at]);
        let children = std::fs::read_to_string(Path::new(&path)).unwrap_or_default();
        all.extend(children.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
        at += 1;
    }
    all
}
