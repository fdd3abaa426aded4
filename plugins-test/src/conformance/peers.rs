//! Servers that are none: a port where nobody listens, and one where nobody answers.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// An address that refuses connections.
pub(super) fn closed() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| format!("no free port: {e}"))?;
    listener.local_addr().map_err(|e| format!("no free port: {e}"))
}

/// A listener that the system lets clients connect to, and that never says a word.
pub(super) fn silent() -> Result<(TcpListener, SocketAddr), String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| format!("no free port: {e}"))?;
    let address = listener.local_addr().map_err(|e| format!("no free port: {e}"))?;
    Ok((listener, address))
}
