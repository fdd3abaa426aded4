//! What breaks.

use std::fmt;
use std::process::Child;
use std::time::Duration;

use weir_plugins_test::proxy::Weather;
use weir_plugins_test::servers::Family;

use crate::place::Places;
use crate::random::Random;

/// A fault at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9` of the run.
    KillUs,
    /// SIGTERM to the run.
    StopUs,
    /// `kill -9` of a server, which is started again at once.
    KillServer(Family),
    /// All connections are reset.
    Reset(Family),
    /// Everything takes longer for a while.
    Delay(Family),
    /// Nothing passes for a while, then connections are reset.
    BlackHole(Family),
    /// Answers are lost for a while, then connections are reset.
    HalfOpen(Family),
}

impl Fault {
    pub fn random(random: &mut Random, servers: &[Family]) -> Self {
        if servers.is_empty() {
            return random.pick(&[Self::KillUs, Self::KillUs, Self::StopUs]);
        }
        let at = random.pick(servers);
        random.pick(&[
            Self::KillUs,
            Self::KillUs,
            Self::KillUs,
            Self::StopUs,
            Self::KillServer(at),
            Self::Reset(at),
            Self::Reset(at),
            Self::Delay(at),
            Self::BlackHole(at),
            Self::HalfOpen(at),
            Self::HalfOpen(at),
        ])
    }

    /// Lets it happen.
    pub async fn strike(self, run: &mut Child, places: &mut Places) {
        match self {
            Self::KillUs => {
                let _ = run.kill();
            }
            Self::StopUs => {
                let _ = std::process::Command::new("kill").arg(run.id().to_string()).status();
            }
            Self::KillServer(family) => {
                let server = &mut places.of(family).server;
                tokio::task::block_in_place(|| server.restart()).unwrap_or_else(|error| panic!("{error}"));
            }
            Self::Reset(family) => places.of(family).proxy.cut(),
            Self::Delay(family) => {
                let proxy = &places.of(family).proxy;
                proxy.delay(Duration::from_millis(100));
                tokio::time::sleep(Duration::from_secs(1)).await;
                proxy.delay(Duration::ZERO);
            }
            Self::BlackHole(family) => weather(places, family, Weather::BlackHole).await,
            Self::HalfOpen(family) => weather(places, family, Weather::HalfOpen).await,
        }
    }
}

async fn weather(places: &mut Places, family: Family, weather: Weather) {
    let proxy = &places.of(family).proxy;
    proxy.set(weather);
    tokio::time::sleep(Duration::from_millis(800)).await;
    proxy.set(Weather::Fair);
    proxy.cut();
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
