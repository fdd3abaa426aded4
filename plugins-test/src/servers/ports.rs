//! Ports for servers. A server asks for its port some time after it was chosen, and again after each crash.

use std::fs::{self, File};
use std::net::TcpListener;
use std::ops::Range;
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
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let range = range();
    let folder = tests_folder().join("ports");
    make_folder(&tests_folder(), None)?;
    make_folder(&folder, None)?;
    // Programs that look at the same time begin at different ones.
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.subsec_nanos()) as usize;
    let begin = now / 1_000 + std::process::id() as usize * 97 + COUNT.fetch_add(1, Ordering::Relaxed) * 11;
    for step in 0..range.len() {
        let number = range.start + ((begin + step) % range.len()) as u16;
        let claim = lock_file(&folder.join(number.to_string()))?;
        if claim.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
            return Ok(Port { number, _claim: claim });
        }
    }
    Err(format!("no port of {range:?} is free"))
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
