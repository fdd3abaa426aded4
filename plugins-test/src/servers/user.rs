//! Under which user a server runs: database servers refuse root.

use std::fs;
use std::os::unix::fs::MetadataExt;

/// A user of this machine.
#[derive(Clone, Copy)]
pub(super) struct Account {
    pub user: u32,
    pub group: u32,
}

/// Our own user id.
pub(super) fn own_id() -> u32 {
    fs::metadata("/proc/self").map(|m| m.uid()).unwrap_or(0)
}

/// The first of `names` that exists; `None` when we are not root, for then the server runs as ourselves.
pub(super) fn account(names: &[&str]) -> Option<Account> {
    if own_id() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let find = |name: &str| {
        users
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|f| f.len() > 3 && f[0] == name)
            .and_then(|fields| Some(Account { user: fields[2].parse().ok()?, group: fields[3].parse().ok()? }))
    };
    // `nobody` has this number on every Linux.
    Some(names.iter().find_map(|name| find(name)).unwrap_or(Account { user: 65534, group: 65534 }))
}

/// The words before a command that make it run as `account`.
pub(super) fn run_as(account: Option<Account>) -> Vec<String> {
    account.map_or_else(Vec::new, |a| {
        vec![
            "setpriv".into(),
            format!("--reuid={}", a.user),
            format!("--regid={}", a.group),
            "--clear-groups".into(),
            "--".into(),
        ]
    })
}
