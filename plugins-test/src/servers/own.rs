//! A server of one test's own, which may be killed and started again.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ports::{self, Port};
use super::shared::{ATTEMPTS, Kind, Running, SETTLED, make_folder, tail, tests_folder};
use super::{Family, Place, Server, mariadb, mysql9, postgresql};

/// How long a start may take; after a crash the log is replayed.
const START: Duration = Duration::from_secs(90);

/// A private server that dies on demand. Its data survive, as after a crash of the program (not of the machine).
pub struct OwnServer {
    kind: &'static dyn Kind,
    server: Arc<Server>,
    /// Never read: nobody else takes the port while the server is down.
    _port: Port,
    folder: PathBuf,
    child: Option<Child>,
    /// What its command gets beside the usual.
    arguments: Vec<String>,
}

impl OwnServer {
    /// Starts one; SQL Server is none of them.
    ///
    /// # Errors
    /// Why it does not start, or what to install.
    pub fn start(family: Family) -> Result<Self, String> {
        Self::start_with(family, &[])
    }

    /// Starts one with more arguments.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(family: Family, arguments: &[String]) -> Result<Self, String> {
        Self::start_at(family, arguments, ports::choose)
    }

    fn start_at(
        family: Family,
        arguments: &[String],
        mut choose: impl FnMut() -> Result<Port, String>,
    ) -> Result<Self, String> {
        let kind: &'static dyn Kind = match family {
            Family::PostgreSql => &postgresql::PostgreSql,
            Family::MariaDb => &mariadb::MariaDb,
            Family::MySql => &mysql9::MySql9,
            Family::SqlServer => return Err("a SQL Server is given, not started".into()),
        };
        kind.installed()?;
        let port = choose()?;
        let root = kind.data_root(&tests_folder());
        make_folder(&root, None)?;
        let folder = root.join(format!("own-{}-{}-{}", kind.name(), std::process::id(), port.number));
        // A process id may come again.
        let _ = std::fs::remove_dir_all(&folder);
        make_folder(&folder, kind.account())?;
        let server = server_at(family, port.number, &folder)?;
        let arguments = arguments.to_vec();
        let mut own = Self { kind, server, _port: port, folder, child: None, arguments };
        kind.initialise(&own.folder)?;
        // A port that was free may be taken before the server asks for it.
        for attempt in 1.. {
            if own.comes_up(Instant::now() + START)? {
                return Ok(own);
            }
            if attempt == ATTEMPTS {
                break;
            }
            own._port = choose()?;
            own.server = server_at(family, own._port.number, &own.folder)?;
        }
        Err(own.told("does not start"))
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
        // Children of the crashed server may hold on to its memory for a moment: then the start is tried again.
        while !self.comes_up(deadline)? {
            if Instant::now() > deadline {
                return Err(self.told("does not start again"));
            }
        }
        Ok(())
    }

    /// Starts it once: whether it answers, and does not die before or come too late.
    fn comes_up(&mut self, deadline: Instant) -> Result<bool, String> {
        let port = self.server.port();
        let child = self.spawn(port)?;
        let child = self.child.insert(child);
        loop {
            let answers = self.kind.answers(port).is_ok();
            if answers {
                // Whoever has taken the port may answer, and a server that cannot have it takes a moment to die.
                std::thread::sleep(SETTLED);
            }
            let is_gone = child.try_wait().map_err(|e| e.to_string())?.is_some();
            if answers && !is_gone {
                return Ok(true);
            }
            if is_gone || Instant::now() > deadline {
                self.crash();
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What became of it, and its last words.
    fn told(&self, what: &str) -> String {
        format!("{} {what}: {}", self.kind.name(), tail(&self.folder.join("log")))
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

fn server_at(family: Family, port: u16, folder: &Path) -> Result<Arc<Server>, String> {
    let users = std::fs::File::create(folder.join("users")).map_err(|e| e.to_string())?;
    Ok(Arc::new(Server { family, place: Place::Own(Running { port, pid: 0, _users: users }) }))
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

#[cfg(test)]
mod tests {
    use super::super::ports::tests::taken;
    use super::*;

    #[test]
    fn a_server_whose_port_was_taken_gets_another_one() {
        for family in [Family::PostgreSql, Family::MariaDb] {
            let mut held = Vec::new();
            let mut own = OwnServer::start_at(family, &[], taken(1, &mut held)).unwrap();
            assert_ne!(own.server().port(), held[0].local_addr().unwrap().port(), "{family:?}");
            own.restart().unwrap();
            assert!(own.kind.answers(own.server().port()).is_ok(), "{family:?}");
        }
    }

    #[test]
    fn a_server_that_does_not_start_says_why() {
        let mut held = Vec::new();
        let error = OwnServer::start_at(Family::PostgreSql, &[], taken(99, &mut held)).err().unwrap();
        assert!(error.contains("does not start") && error.contains("Address already in use"), "{error}");
        assert_eq!(held.len(), ATTEMPTS as usize);
    }
}
