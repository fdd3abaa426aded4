//! A store that cannot be reached, accepts and then says nothing, or proves itself with a certificate of nobody we trust.
//!
//! The driver asks again and again, for minutes, whatever the fault is. Here it is told when that helps no more: at once where
//! it is the certificate, and after `timeout` of `storageOptions` where no request at all was answered for so long.
//!
//! For the driver `timeout` is also the time that one request may take. A web server may be asked for a whole file at once:
//! there it is the time in which nothing at all comes.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService, SpawnedReqwestConnector,
};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use tokio::runtime::Handle;
use tokio::time::Sleep;
use weir_core::{Error, ErrorKind};

/// The driver's own `timeout`.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The longest pause before the driver asks again.
const PAUSE: Duration = Duration::from_secs(5);

/// How often and for how long the driver asks again: a store that answers, and is busy, has all the time that it had.
pub(crate) fn retries() -> RetryConfig {
    let backoff = BackoffConfig { max_backoff: PAUSE, ..BackoffConfig::default() };
    RetryConfig { backoff, ..RetryConfig::default() }
}

/// Makes clients whose requests run on a runtime of their own, and whose patience ends.
#[derive(Debug)]
pub(crate) struct Patient {
    inner: SpawnedReqwestConnector,
    is_web: bool,
}

impl Patient {
    pub(crate) fn new(io: Handle) -> Self {
        Self { inner: SpawnedReqwestConnector::new(io), is_web: false }
    }

    /// The same for requests that may take as long as they like, if only something comes.
    pub(crate) fn of_web(self) -> Self {
        Self { is_web: true, ..self }
    }
}

impl HttpConnector for Patient {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let timeout = options.get_config_value(&ClientConfigKey::Timeout);
        let patience = timeout.and_then(|text| humantime::parse_duration(&text).ok()).unwrap_or(TIMEOUT);
        let inner = match self.is_web {
            true => self.inner.connect(&options.clone().with_timeout_disabled())?,
            false => self.inner.connect(options)?,
        };
        Ok(HttpClient::new(Client { inner, patience, is_web: self.is_web, silence: Mutex::default() }))
    }
}

#[derive(Debug)]
struct Client {
    inner: HttpClient,
    patience: Duration,
    is_web: bool,
    silence: Mutex<Silence>,
}

/// What has been heard of a store.
#[derive(Debug, Default)]
struct Silence {
    answered: Option<Instant>,
    /// Since when requests fail, and when one did last.
    failing: Option<(Instant, Instant)>,
}

impl Silence {
    fn answered(&mut self, now: Instant) {
        *self = Self { answered: Some(now), failing: None };
    }

    /// For how long the store has been silent when a request that began then has failed now. Others may have been answered
    /// meanwhile.
    fn failed(&mut self, begun: Instant, now: Instant, patience: Duration) -> Duration {
        // What failed long ago, and has not been asked since, is asked again like any other.
        let before = self.failing.filter(|(_, last)| begun.duration_since(*last) < patience.max(PAUSE * 2));
        let since = before.map_or(begun, |(since, _)| since.min(begun));
        self.failing = Some((since, now));
        now.duration_since(self.answered.map_or(since, |answered| answered.max(since)))
    }
}

#[async_trait]
impl HttpService for Client {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let begun = Instant::now();
        let answer = match self.is_web {
            true => heard(self.inner.execute(request), self.patience).await,
            false => self.inner.execute(request).await,
        };
        let mut silence = self.silence.lock().unwrap_or_else(PoisonError::into_inner);
        let Err(error) = answer else {
            silence.answered(Instant::now());
            return answer;
        };
        // A kind that the driver does not try again.
        let over = |fault: Fault| Err(HttpError::new(HttpErrorKind::Unknown, fault));
        if let Some(reason) = of_tls(&error) {
            return over(Fault::Tls { reason, source: error });
        }
        match silence.failed(begun, Instant::now(), self.patience) {
            silent if silent >= self.patience => over(Fault::Silent { silent, source: error }),
            _ => Err(error),
        }
    }
}

/// An answer of which something comes within `patience`, and then again and again.
async fn heard(
    answer: impl Future<Output = Result<HttpResponse, HttpError>>,
    patience: Duration,
) -> Result<HttpResponse, HttpError> {
    match tokio::time::timeout(patience, answer).await {
        Ok(answer) => Ok(answer?.map(|body| HttpResponseBody::new(Heard { body, patience, waiting: None }))),
        Err(_) => Err(HttpError::new(HttpErrorKind::Timeout, Nothing(patience))),
    }
}

/// A body of which nothing may come for no longer than `patience`.
struct Heard {
    body: HttpResponseBody,
    patience: Duration,
    /// Since somebody waits for more. While nobody does, what comes is received elsewhere.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Body for Heard {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.waiting = None;
            return Poll::Ready(frame);
        }
        let patience = self.patience;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        Poll::Ready(Some(Err(HttpError::new(HttpErrorKind::Timeout, Nothing(patience)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Nothing came for so long.
#[derive(Debug)]
struct Nothing(Duration);

impl fmt::Display for Nothing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nothing came for {} s, the `timeout` of `storageOptions`", self.0.as_secs_f64())
    }
}

impl StdError for Nothing {}

/// Why a store is not asked again.
#[derive(Debug)]
enum Fault {
    Silent { silent: Duration, source: HttpError },
    Tls { reason: String, source: HttpError },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silent { .. } => "no answer",
            Self::Tls { .. } => "no TLS session",
        })
    }
}

impl Fault {
    /// The fault in our words, with what can be done about it.
    fn said(&self) -> Error {
        match self {
            Self::Silent { silent, .. } => {
                let seconds = silent.as_secs_f64();
                let text = format!(
                    "the store has answered nothing for {seconds:.0} s: check endpoint, proxy and firewall, or raise \
                     `timeout` in `storageOptions`"
                );
                Error::new(ErrorKind::Unreachable, text)
            }
            // Trying again mends no certificate.
            Self::Tls { reason, .. } => {
                let text = format!(
                    "TLS with the store failed ({reason}): check the endpoint's scheme, host and port; a certificate of an \
                     authority of your own is trusted when the environment's SSL_CERT_FILE names its file"
                );
                Error::new(ErrorKind::Unreachable, text).retryable(false)
            }
        }
    }
}

impl StdError for Fault {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Silent { source, .. } | Self::Tls { source, .. } => Some(source),
        }
    }
}

/// An error and all its causes.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| cause(*error))
}

/// What is behind an error: an I/O error does not tell what it wraps as its cause.
fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

/// What the TLS library says, where it is its fault.
fn of_tls(error: &HttpError) -> Option<String> {
    causes(error).find_map(|cause| Some(cause.downcast_ref::<rustls::Error>()?.to_string()))
}

/// The fault of a store that is not asked again, in our words, wherever among the causes of `error` it is.
pub fn unanswered(error: &(dyn StdError + 'static)) -> Option<Error> {
    let fault: &Fault = causes(error).find_map(<dyn StdError>::downcast_ref)?;
    Some(fault.said())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_silent_while_no_request_at_all_is_answered() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let failed = |silence: &mut Silence, begun, now| silence.failed(at(begun), at(now), TIMEOUT).as_secs();
        let mut silence = Silence::default();
        assert_eq!(failed(&mut silence, 0, 5), 5);
        assert_eq!(failed(&mut silence, 6, 31), 31);
        // One that is slow, while others are answered.
        silence.answered(at(40));
        assert_eq!(failed(&mut silence, 25, 55), 15);
        assert_eq!(failed(&mut silence, 56, 71), 31);
        // A new day.
        assert_eq!(failed(&mut silence, 500, 501), 1);
    }
}
