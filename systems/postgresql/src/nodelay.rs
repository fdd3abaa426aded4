//! Small messages without delay.
//!
//! The driver leaves Nagle's algorithm on and offers no way to its socket. The end of a COPY is a small message behind
//! another one, so the kernel keeps it back until the server has confirmed what came before, which it puts off for 40 ms:
//! for each COPY, and for each of the many that it takes to find the bad rows of a batch. So the socket is looked up among
//! the process's own.

/// Turns Nagle's algorithm off on the process's connections to a server's port. Where they cannot be listed nothing changes.
#[cfg(unix)]
pub(crate) fn without_delay(port: u16) {
    use std::mem::ManuallyDrop;
    use std::net::TcpStream;
    use std::os::fd::{FromRawFd, RawFd};

    let Ok(entries) = std::fs::read_dir("/dev/fd") else { return };
    let numbers: Vec<RawFd> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for number in numbers {
        // SAFETY: the descriptor is only asked and set an option, never read, written or closed. Should its owner close it
        // meanwhile, the calls fail; should another connection get its number, that one loses Nagle's algorithm too.
        let socket = ManuallyDrop::new(unsafe { TcpStream::from_raw_fd(number) });
        if socket.peer_addr().is_ok_and(|peer| peer.port() == port) {
            let _ = socket.set_nodelay(true);
        }
    }
}

#[cfg(not(unix))]
pub(crate) fn without_delay(_: u16) {}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn only_connections_to_the_port_are_changed() {
        let (server, other) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let to = |listener: &TcpListener| TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, theirs) = (to(&server), to(&other));
        assert!(!ours.nodelay().unwrap());
        without_delay(server.local_addr().unwrap().port());
        assert!(ours.nodelay().unwrap() && !theirs.nodelay().unwrap());
    }
}
