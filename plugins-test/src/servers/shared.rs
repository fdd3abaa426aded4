//! One server for all test processes that run at the same time.
//!
//! ```text
//!   <folder of tests>/<kind>/users     each test process holds a shared lock on it for as long as it lives
//!                            starting  held while somebody looks for the server or starts it
//!                            current   folder, port and process id of the server that runs
//! ```
//!
//! The kernel drops a lock with its process, also on `kill -9`. Every server has a watchdog, a shell that is its parent:
//! when nobody holds `users` any more, it waits a moment (the next test binary of a `cargo test` follows at once), takes
//! the lock alone, kills the server and removes its folder. A newcomer that comes in between waits for that lock and
//! then starts a server of its own.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::ports::{self, Port};
use super::user::Account;

/// How long a server outlives its last user.
const LINGER_SECONDS: u32 = 10;
const START_TIMEOUT: Duration = Duration::from_secs(90);
/// How often a server is started that dies at once, each time at another port.
pub(super) const ATTEMPTS: u32 = 4;
/// How long a server that cannot have its port lives on at most, about.
pub(super) const SETTLED: Duration = Duration::from_millis(200);

/// What is to be done to get one kind of server running.
pub(super) trait Kind: Sync {
    /// The folder's name: `postgresql`.
    fn name(&self) -> &'static str;

    /// Fails with what is missing when the server is not installed.
    fn installed(&self) -> Result<(), String>;

    /// The user that runs it when we are root.
    fn account(&self) -> Option<Account>;

    /// Where the data of an instance goes.
    fn data_root(&self, folder: &Path) -> PathBuf {
        folder.to_owned()
    }

    /// Prepares the folder of an instance, which belongs to the account already.
    fn initialise(&self, folder: &Path) -> Result<(), String>;

    /// The command that runs the server in the foreground.
    fn command(&self, folder: &Path, port: u16) -> Vec<String>;

    /// Whether a connection can be made and used.
    fn answers(&self, port: u16) -> Result<(), String>;
}

/// A server that runs, and our share in it.
pub(super) struct Running {
    pub port: u16,
    pub pid: u32,
    // Never read: the lock on it keeps the server alive.
    pub(super) _users: File,
}

/// Where the servers of this user live: `$WEIR_TEST_DIR`, else a folder in the system's temporary folder.
pub(super) fn tests_folder() -> PathBuf {
    match std::env::var_os("WEIR_TEST_DIR") {
        Some(folder) => folder.into(),
        None => std::env::temp_dir().join(format!("weir-test-{}", super::user::own_id())),
    }
}

/// Finds the server of `kind`, or starts it. Blocks.
pub(super) fn share(kind: &dyn Kind) -> Result<Running, String> {
    kind.installed().map_err(|missing| {
        format!("{missing}: run scripts/install-test-servers.sh once, then the tests that need {} can run", kind.name())
    })?;
    let folder = tests_folder().join(kind.name());
    make_folder(&folder, None)?;
    let users = lock_file(&folder.join("users"))?;
    // Waits while a watchdog is stopping the last server.
    users.lock_shared().map_err(|e| told("lock", &folder, &e))?;
    let starting = lock_file(&folder.join("starting"))?;
    starting.lock().map_err(|e| told("lock", &folder, &e))?;
    let current = folder.join("current");
    if let Some((port, pid)) = read_current(&current)
        && kind.answers(port).is_ok()
    {
        return Ok(Running { port, pid, _users: users });
    }
    let (port, pid) = start(kind, &folder, &current, ports::choose)?;
    Ok(Running { port, pid, _users: users })
}

fn start(
    kind: &dyn Kind,
    folder: &Path,
    current: &Path,
    mut choose: impl FnMut() -> Result<Port, String>,
) -> Result<(u16, u32), String> {
    let mut last = String::new();
    // A port that was free may be taken before the server asks for it.
    for attempt in 1..=ATTEMPTS {
        let claim = choose()?;
        let port = claim.number;
        let root = kind.data_root(folder);
        make_folder(&root, None)?;
        sweep(&root);
        let instance = root.join(format!("{}-{}-{attempt}", std::process::id(), port));
        make_folder(&instance, kind.account())?;
        kind.initialise(&instance)?;
        let pid = launch(kind, folder, &instance, port)?;
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let answers = kind.answers(port);
            if answers.is_ok() {
                // Who finds the port taken takes a moment to die.
                std::thread::sleep(SETTLED);
            }
            match answers {
                // Whoever has taken the port may answer too.
                Ok(()) if is_alive(pid) => {
                    fs::write(current, format!("{port} {pid} {}", instance.display()))
                        .map_err(|e| told("write", current, &e))?;
                    return Ok((port, pid));
                }
                Ok(()) => last = "somebody else answers at its port".into(),
                Err(error) => last = error,
            }
            if !is_alive(pid) || Instant::now() > deadline {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        last = format!("{last}\n{}", tail(&instance.join("log")));
        let _ = Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status();
    }
    Err(format!("{} does not start: {last}", kind.name()))
}

/// Removes what a test process left that was killed before its server had a watchdog.
fn sweep(root: &Path) {
    for folder in fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path()) {
        // The name begins with the process id of the test that made it.
        let maker = folder.file_name().and_then(|name| name.to_str()?.split_once('-')?.0.parse().ok());
        let server = fs::read_to_string(folder.join("pid")).ok().and_then(|text| text.trim().parse().ok());
        if maker.is_some_and(|pid| !is_alive(pid)) && !server.is_some_and(is_alive) {
            // It may take minutes, for which nobody should wait. What cannot be removed now is tried again next time.
            std::thread::spawn(move || fs::remove_dir_all(&folder));
        }
    }
}

/// The watchdog. `$1` users lock, `$2` current file, `$3` instance folder, then the server's command.
const WATCHDOG: &str = r#"
trap '' INT HUP TERM
users=$1 current=$2 instance=$3 linger=$4
shift 4
"$@" >"$instance/log" 2>&1 </dev/null &
server=$!
echo $server >"$instance/pid.new" && mv "$instance/pid.new" "$instance/pid"
stop='
    grep -q " $2\$" "$1" 2>/dev/null && rm -f "$1"
    kill -QUIT $3 2>/dev/null
    # mysqld takes no notice of QUIT; nothing of its data is needed any more.
    for _ in 1 2 3 4 5 6 7 8 9 10; do grep -qa . /proc/$3/cmdline 2>/dev/null || break; sleep 0.1; done
    kill -KILL $3 2>/dev/null
    # To delete it may take minutes, for which nobody should wait.
    mv "$2" "$2.gone" || rm -rf "$2"
'
while :; do
    flock "$users" true
    sleep "$linger"
    flock --nonblock "$users" sh -c "$stop" stop "$current" "$instance" "$server" && break
done
rm -rf "$instance.gone"
"#;

fn launch(kind: &dyn Kind, folder: &Path, instance: &Path, port: u16) -> Result<u32, String> {
    // A session of its own: neither Ctrl-C nor the end of the test process reaches it.
    let mut command = Command::new("setsid");
    command.args(["--fork", "sh", "-c", WATCHDOG, "watchdog"]);
    command.arg(folder.join("users")).arg(folder.join("current")).arg(instance).arg(LINGER_SECONDS.to_string());
    command.args(kind.command(instance, port));
    // Inherited pipes would keep `cargo test | tail` waiting for the server.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    // setsid --fork returns at once.
    command.status().map_err(|e| format!("cannot run setsid: {e}"))?;
    let file = instance.join("pid");
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(pid) = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok()) {
            return Ok(pid);
        }
        if Instant::now() > deadline {
            return Err(format!("the watchdog of {} does not start", kind.name()));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a preparing command to its end.
pub(super) fn run(command: &[String]) -> Result<(), String> {
    let output = Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .current_dir("/")
        .output()
        .map_err(|e| format!("cannot run {}: {e}", command[0]))?;
    if output.status.success() {
        return Ok(());
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Err(format!("{} failed: {}{}", command.join(" "), text(&output.stdout), text(&output.stderr)))
}

/// Writes a file that the server's user may read.
pub(super) fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|e| told("write", path, &e))
}

pub(super) fn make_folder(path: &Path, owner: Option<Account>) -> Result<(), String> {
    fs::create_dir_all(path).map_err(|e| told("make", path, &e))?;
    // The server's user must be able to walk down to its folder, whatever our umask.
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o755));
    match owner {
        Some(account) => std::os::unix::fs::chown(path, Some(account.user), Some(account.group))
            .map_err(|e| told("give away", path, &e)),
        None => Ok(()),
    }
}

pub(super) fn lock_file(path: &Path) -> Result<File, String> {
    OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(|e| told("open", path, &e))
}

fn read_current(path: &Path) -> Option<(u16, u32)> {
    let text = fs::read_to_string(path).ok()?;
    let mut words = text.split_whitespace();
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

fn is_alive(pid: u32) -> bool {
    // A zombie still has a folder in /proc; its command line is empty.
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

/// The last lines of a log.
pub(super) fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

fn told(verb: &str, path: &Path, error: &std::io::Error) -> String {
    format!("cannot {verb} {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::super::{ports::tests::taken, postgresql::PostgreSql};
    use super::*;

    #[test]
    fn a_server_whose_port_was_taken_is_started_at_another_one() {
        let folder = tests_folder().join(format!("taken-{}", std::process::id()));
        make_folder(&folder, None).unwrap();
        // Its watchdog stops it when we are gone, and the one of the first attempt goes too.
        let users = lock_file(&folder.join("users")).unwrap();
        users.lock_shared().unwrap();
        let mut held = Vec::new();
        let (port, pid) = start(&PostgreSql, &folder, &folder.join("current"), taken(1, &mut held)).unwrap();
        assert_ne!(port, held[0].local_addr().unwrap().port());
        assert!(is_alive(pid) && PostgreSql.answers(port).is_ok());
    }
}
