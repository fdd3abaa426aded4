//! Ports for servers. A server asks for its port some time after it was chosen, and again after each crash.

use std::fs::{self, File};
use std::net::TcpListener;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use super::shared::{lock_file, make_folder, tests_folder};

/// Where we begin to look.
const FIRST: u16 = 15_000;

/// A port that no other server of a test gets for as long as this lives.
pub(super) struct Port {
    pub number: u16,
    // Never read: others see the lock on it.
    _claim: File,
}

/// Finds a port that is free.
pub(super) fn choose() -> Result<Port, String> {
    let folder = tests_folder().join("ports");
    make_folder(&tests_folder(), None)?;
    make_folder(&folder, None)?;
    choose_of(range(), &folder)
}

fn choose_of(range: Range<u16>, folder: &Path) -> Result<Port, String> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    // Programs that look at the same time begin at different ones.
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.subsec_nanos()) as usize;
    let begin = now / 1_000 + std::process::id() as usize * 97 + COUNT.fetch_add(1, Ordering::Relaxed) * 11;
    let mut fault = String::new();
    for step in 0..range.len() {
        let number = range.start + ((begin + step) % range.len()) as u16;
        let claim = match lock_file(&folder.join(number.to_string())) {
            Ok(claim) => claim,
            // Another user may have made it.
            Err(error) => {
                fault = format!(": {error}");
                continue;
            }
        };
        if claim.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
            return Ok(Port { number, _claim: claim });
        }
    }
    Err(format!("no port of {range:?} is free{fault}"))
}

/// Ports below those that the system gives to connections. Tests make connections by the thousand, and any of them could
/// be at a server's port while the server is not.
fn range() -> Range<u16> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first = text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(32_768);
    // Where the system takes nearly all there is no such place.
    if first >= FIRST + 1_000 { FIRST..first } else { FIRST..60_000 }
}

#[cfg(test)]
pub(super) mod tests {
    use tokio::net::TcpSocket;

    use super::*;

    /// Ports of which the first ones are taken as soon as they are chosen.
    pub(in super::super) fn taken(
        first: usize,
        held: &mut Vec<TcpSocket>,
    ) -> impl FnMut() -> Result<Port, String> + '_ {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        move || {
            let _inside = runtime.enter();
            let port = choose()?;
            if held.len() < first {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind(([127, 0, 0, 1], port.number).into()).unwrap();
                held.push(socket);
            }
            Ok(port)
        }
    }

    #[test]
    fn a_port_whose_file_is_anothers_is_passed_over() {
        let folder = tests_folder().join(format!("passed-{}", std::process::id()));
        let free = choose().unwrap();
        // What cannot be opened for writing.
        make_folder(&folder.join((free.number - 1).to_string()), None).unwrap();
        for _ in 0..20 {
            assert_eq!(choose_of(free.number - 1..free.number + 1, &folder).unwrap().number, free.number);
        }
        let error = choose_of(free.number - 1..free.number, &folder).err().unwrap();
        assert!(error.contains("is free: cannot open"), "{error}");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn no_port_is_given_twice_or_to_a_connection() {
        let mut ports: Vec<_> = (0..50).map(|_| choose().unwrap()).collect();
        ports.sort_by_key(|port| port.number);
        assert!(ports.windows(2).all(|two| two[0].number < two[1].number));
        let range = range();
        assert!(ports.iter().all(|port| range.contains(&port.number)));
        // One that somebody listens at is none.
        let taken = TcpListener::bind(("127.0.0.1", ports[0].number)).unwrap();
        let number = ports.remove(0).number;
        assert!((0..50).all(|_| choose().unwrap().number != number));
        drop(taken);
    }
}
