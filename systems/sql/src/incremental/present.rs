//! The present end of a change column, as the column's own server tells it.

use std::future::Future;

use chrono::{DateTime, NaiveDateTime, Utc};
use weir_core::incremental::earliest_local;
use weir_core::{ErrorKind, Result, Window};

use super::{Asked, Point, Scale, unfit};

/// What a server tells of the present end of a change column.
pub trait Present: Send {
    /// The greatest number in the column, as plain digits; `None` where there is none.
    fn greatest(&mut self) -> impl Future<Output = Result<Option<String>>> + Send;

    /// The server's clock.
    fn now(&mut self) -> impl Future<Output = Result<DateTime<Utc>>> + Send;

    /// The earliest that the clocks of the server's own zone will show from `now` on; `None` where the server does not
    /// know. An error of the statement itself means the same.
    fn local(&mut self, now: DateTime<Utc>) -> impl Future<Output = Result<Option<NaiveDateTime>>> + Send;

    /// Whether rows have a time that never comes, `infinity`; asked of times and dates. By default there is no such value.
    fn endless(&mut self) -> impl Future<Output = Result<bool>> + Send {
        std::future::ready(Ok(false))
    }
}

impl Asked<'_> {
    /// The window of a run that begins now, by what `server` tells of the present.
    ///
    /// # Errors
    /// As [`Asked::window`], and the server's.
    pub async fn window_of(&self, server: &mut impl Present) -> Result<Window> {
        let mut warning = None;
        let now = match self.scale {
            Scale::Number(_) => {
                let greatest = server.greatest().await?;
                let read = |text: String| self.scale.read(&text).ok_or_else(|| unfit(self.column, &text));
                greatest.map(read).transpose()?
            }
            Scale::Instant(_) => Some(Point::Instant(server.now().await?)),
            Scale::Local(_) | Scale::Date => {
                let now = server.now().await?;
                let mut local = earliest_local(now, self.request.clocks);
                if !self.request.clocks_said
                    && let Some(there) = known(server.local(now).await, None)?
                    && there < local
                {
                    warning = Some(format!(
                        "{}: the server's clocks are behind those of {}, so the window of {} ends at {there}: say whose \
                         clocks it shows, with `timeZone` of the reader",
                        self.table, self.request.clocks, self.column
                    ));
                    local = there;
                }
                Some(if self.scale == Scale::Date { Point::Date(local.date()) } else { Point::Local(local) })
            }
        };
        let mut window = self.window(now)?;
        window.warnings.extend(warning);
        // To look for them without an index is to look at the whole table: the first run does that anyway.
        let looks = !matches!(self.scale, Scale::Number(_)) && (self.indexed || window.watermark.is_none());
        if looks && server.endless().await? {
            window.warnings.push(format!(
                "{}: rows whose {} is infinity lie behind every window and are never read: give them a time, or read the \
                 table as a whole",
                self.table, self.column
            ));
        }
        Ok(window)
    }
}

/// What a server answers, or `otherwise` of a relative that cannot tell.
///
/// # Errors
/// A lost connection.
pub fn known<T>(answer: Result<T>, otherwise: T) -> Result<T> {
    match answer {
        Err(error) if !matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Unreachable | ErrorKind::Timeout) => {
            Ok(otherwise)
        }
        answer => answer,
    }
}

/// Rows and bytes of a window for which the server expects `rows`, in a table of `all` rows and `bytes`.
pub fn narrowed_size(rows: Option<u64>, all: Option<u64>, bytes: Option<u64>) -> (Option<u64>, Option<u64>) {
    let share = match (rows, all, bytes) {
        (Some(rows), Some(all), Some(bytes)) => Some((bytes / all.max(1)).saturating_mul(rows).min(bytes)),
        _ => bytes,
    };
    (rows.or(all), share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incremental::IncrementalConfig;
    use weir_core::{Error, WindowRequest};

    /// A server whose clock and zone are known.
    struct Server {
        greatest: Option<&'static str>,
        local: Result<Option<&'static str>, ErrorKind>,
    }

    impl Present for Server {
        async fn greatest(&mut self) -> Result<Option<String>> {
            Ok(self.greatest.map(str::to_owned))
        }

        async fn now(&mut self) -> Result<DateTime<Utc>> {
            Ok("2025-11-02T06:00:00.123456Z".parse().unwrap())
        }

        async fn local(&mut self, _: DateTime<Utc>) -> Result<Option<NaiveDateTime>> {
            let told = self.local.map_err(|kind| Error::new(kind, "no answer"))?;
            Ok(told.map(|text| text.parse().unwrap()))
        }
    }

    fn window(scale: Scale, server: &mut Server) -> Result<Window> {
        let config = IncrementalConfig { column: vec!["c".into()].into(), ..Default::default() };
        let request = WindowRequest {
            watermarks: Vec::new(),
            places: Vec::new(),
            clocks: chrono_tz::Tz::UTC,
            clocks_said: false,
        };
        let asked = Asked {
            table: "t",
            place: "h/d",
            column: "c",
            scale,
            nullable: false,
            indexed: true,
            config: &config,
            request: &request,
        };
        at_once(asked.window_of(server))
    }

    /// Runs a future that never waits.
    fn at_once<T>(future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(value) => value,
            std::task::Poll::Pending => panic!("it waits"),
        }
    }

    #[test]
    fn the_present_end_is_the_servers() {
        let mut server = Server { greatest: Some("41"), local: Ok(Some("2025-11-02T01:00:00")) };
        let high = |scale, server: &mut Server| window(scale, server).unwrap().high.unwrap();
        assert_eq!(high(Scale::Number(0), &mut server), "42");
        assert_eq!(high(Scale::Instant(3), &mut server), "2025-11-02T06:00:00.123000Z");
        assert_eq!(high(Scale::Local(0), &mut server), "2025-11-02T01:00:00.000000", "the clock that is behind");
        assert!(window(Scale::Local(0), &mut server).unwrap().warnings[0].contains("timeZone"));
        server.local = Err(ErrorKind::Remote);
        assert_eq!(high(Scale::Date, &mut server), "2025-11-02", "a server that does not know its zone");
        server.local = Err(ErrorKind::Unreachable);
        assert!(window(Scale::Local(0), &mut server).is_err());
        server.greatest = Some("many");
        assert!(window(Scale::Number(0), &mut server).unwrap_err().message().contains("many"));
    }

    #[test]
    fn a_windows_bytes_are_its_share() {
        assert_eq!(narrowed_size(Some(10), Some(100), Some(5000)), (Some(10), Some(500)));
        assert_eq!(narrowed_size(Some(200), Some(100), Some(5000)), (Some(200), Some(5000)));
        assert_eq!(narrowed_size(None, Some(100), Some(5000)), (Some(100), Some(5000)));
        assert_eq!(narrowed_size(Some(3), None, None), (Some(3), None));
    }
}
