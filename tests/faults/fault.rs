//! What breaks.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use weir_plugins_test::proxy::Weather;
use weir_plugins_test::servers::Family;

use crate::place::{Places, System};
use crate::random::Random;

/// Begins the reason of a case that this machine cannot run.
pub const NOT_RUN: &str = "a small disk cannot be mounted: ";

/// The faults of a case between these systems, each with the time that it waits for after the start of a call.
pub fn faults(random: &mut Random, systems: &[System]) -> Vec<(Fault, Duration)> {
    let mut servers: Vec<_> = systems.iter().copied().filter_map(System::family).collect();
    servers.dedup();
    // Now and then the second call is disturbed too.
    let number = 1 + random.below(4) / 3;
    // The earlier of two moments: on a quick machine many a run takes a second, on a busy one the late ones meet it too.
    let moment = |random: &mut Random| Duration::from_millis(random.below(2_600).min(random.below(2_600)));
    (0..number).map(|_| (Fault::random(random, &servers), moment(random))).collect()
}

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
    /// The disk of state folder and target files is full for a while.
    FullDisk,
    /// Answers are lost for a while, then connections are reset.
    HalfOpen(Family),
}

impl Fault {
    fn random(random: &mut Random, servers: &[Family]) -> Self {
        if servers.is_empty() {
            return random.pick(&[Self::KillUs, Self::KillUs, Self::StopUs, Self::FullDisk]);
        }
        let at = random.pick(servers);
        random.pick(&[
            Self::KillUs,
            Self::KillUs,
            Self::KillUs,
            Self::StopUs,
            Self::FullDisk,
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
    pub async fn strike(self, run: &mut Child, places: &mut Places, folder: &Path) {
        match self {
            Self::KillUs => {
                let _ = run.kill();
            }
            Self::StopUs => {
                let _ = Command::new("kill").arg(run.id().to_string()).status();
            }
            Self::KillServer(family) => {
                let server = &mut places.of(family).server;
                tokio::task::block_in_place(|| server.restart()).unwrap_or_else(|error| panic!("{error}"));
            }
            Self::FullDisk => {
                let ballast = folder.join("ballast");
                let piece = vec![0; 64 << 10];
                let mut file = std::fs::File::create(&ballast).unwrap();
                while file.write_all(&piece).is_ok() {}
                tokio::time::sleep(Duration::from_millis(800)).await;
                std::fs::remove_file(&ballast).unwrap();
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

/// A disk of a few megabytes, mounted over a folder until it is dropped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts it, where one of the faults is about it.
    ///
    /// # Errors
    /// The reason why it may not be mounted, after [`NOT_RUN`].
    pub fn for_faults(faults: &[(Fault, Duration)], folder: &Path) -> Result<Option<Self>, String> {
        match faults.iter().any(|(fault, _)| *fault == Fault::FullDisk) {
            true => Self::mount(folder).map(Some),
            false => Ok(None),
        }
    }

    fn mount(folder: &Path) -> Result<Self, String> {
        let mounting = Command::new("mount").args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"]).arg(folder).output();
        match mounting {
            Ok(output) if output.status.success() => Ok(Self(folder.to_owned())),
            Ok(output) => Err(format!("{NOT_RUN}{}", String::from_utf8_lossy(&output.stderr).trim())),
            Err(error) => Err(format!("{NOT_RUN}mount cannot be run: {error}")),
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
