//! A TCP proxy in front of a server, which does to connections what networks do.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

/// What happens to the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Weather {
    /// Bytes pass.
    Fair = 0,
    /// Nothing passes, in either direction, and nobody is told: a black hole.
    BlackHole = 1,
    /// What the server says is lost; what the client says arrives: a half-open connection.
    HalfOpen = 2,
    /// New connections are refused.
    Closed = 3,
}

/// A running proxy; dropped, it closes all connections.
pub struct Proxy {
    port: u16,
    server: u16,
    weather: Arc<AtomicU8>,
    delay: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
    cut: broadcast::Sender<()>,
    /// At which words of a client its connection is reset, once.
    at: Arc<Mutex<Option<String>>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Listens on a port of its own and passes everything on to `port` of this machine.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(port: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let own = listener.local_addr()?.port();
        let (weather, delay) = (Arc::new(AtomicU8::new(0)), Arc::new(AtomicU64::new(0)));
        let connections = Arc::new(AtomicU64::new(0));
        let cut = broadcast::channel(1).0;
        let at = Arc::<Mutex<_>>::default();
        let accepting = tokio::spawn({
            let (weather, delay, cut) = (weather.clone(), delay.clone(), cut.clone());
            let (connections, at) = (connections.clone(), at.clone());
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    connections.fetch_add(1, Relaxed);
                    if weather.load(Relaxed) == Weather::Closed as u8 {
                        reset(client);
                        continue;
                    }
                    let sky = Sky { weather: weather.clone(), delay: delay.clone(), at: at.clone() };
                    tokio::spawn(serve(client, port, sky, cut.subscribe()));
                }
            }
        });
        Ok(Self { port: own, server: port, weather, delay, connections, cut, at, accepting })
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The way to what `url` of the server names, through here.
    pub fn url(&self, url: &str) -> String {
        url.replace(&format!(":{}/", self.server), &format!(":{}/", self.port))
    }

    /// How many connections were asked for, whatever became of them.
    pub fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    /// Changes what happens to all connections from now on.
    pub fn set(&self, weather: Weather) {
        self.weather.store(weather as u8, Relaxed);
    }

    /// Holds every piece of data back for this long.
    pub fn delay(&self, by: Duration) {
        self.delay.store(by.as_millis() as u64, Relaxed);
    }

    /// Resets all connections.
    pub fn cut(&self) {
        let _ = self.cut.send(());
    }

    /// Resets the next connection on which a client says these words, before the server hears them.
    pub fn cut_at(&self, words: &str) {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = Some(words.to_owned());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

/// What a connection meets on its way.
struct Sky {
    weather: Arc<AtomicU8>,
    delay: Arc<AtomicU64>,
    at: Arc<Mutex<Option<String>>>,
}

impl Sky {
    /// Whether these are the words at which a connection is to be reset.
    fn strikes(&self, said: &[u8]) -> bool {
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        let is = |words: &String| said.windows(words.len().max(1)).any(|part| part == words.as_bytes());
        at.take_if(|words| is(words)).is_some()
    }
}

async fn serve(client: TcpStream, port: u16, sky: Sky, mut cut: broadcast::Receiver<()>) {
    let Ok(server) = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await else {
        return reset(client);
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut client_in, mut client_out) = client.into_split();
    let (mut server_in, mut server_out) = server.into_split();
    let there = pass(&mut client_in, &mut server_out, &sky, false);
    let back = pass(&mut server_in, &mut client_out, &sky, true);
    let was_cut = tokio::select! {
        ended = there => ended.is_ok_and(|struck| struck),
        _ = back => false,
        _ = cut.recv() => true,
    };
    if was_cut {
        if let Ok(client) = client_in.reunite(client_out) {
            reset(client);
        }
        if let Ok(server) = server_in.reunite(server_out) {
            reset(server);
        }
    }
}

/// Whether it ended because the client said the words.
async fn pass(
    from: &mut tokio::net::tcp::OwnedReadHalf,
    to: &mut tokio::net::tcp::OwnedWriteHalf,
    sky: &Sky,
    back: bool,
) -> std::io::Result<bool> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let bytes = from.read(&mut buffer).await?;
        if bytes == 0 {
            return Ok(false);
        }
        if !back && sky.strikes(&buffer[..bytes]) {
            return Ok(true);
        }
        let lost = |weather: u8| weather == Weather::BlackHole as u8 || (back && weather == Weather::HalfOpen as u8);
        // What fell into the hole stays there; the connection hangs until it is cut.
        if lost(sky.weather.load(Relaxed)) {
            std::future::pending::<()>().await;
        }
        let wait = sky.delay.load(Relaxed);
        if wait > 0 {
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
        to.write_all(&buffer[..bytes]).await?;
    }
}

/// Closes with a reset instead of a goodbye.
fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
}
