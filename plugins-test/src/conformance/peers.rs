//! Servers that are none: a port where nobody listens, and one where nobody answers.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use tokio::net::TcpSocket;

/// An address that refuses connections for as long as its socket is there: nobody else can listen at it meanwhile.
pub(super) fn closed() -> Result<(TcpSocket, SocketAddr), String> {
    let told = |e: std::io::Error| format!("no free port: {e}");
    let socket = TcpSocket::new_v4().map_err(told)?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).map_err(told)?;
    let address = socket.local_addr().map_err(told)?;
    Ok((socket, address))
}

/// A listener that the system lets clients connect to, and that never says a word.
pub(super) fn silent() -> Result<(TcpListener, SocketAddr), String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| format!("no free port: {e}"))?;
    let address = listener.local_addr().map_err(|e| format!("no free port: {e}"))?;
    Ok((listener, address))
}
