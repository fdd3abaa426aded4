//! An S3-compatible server on localhost, inside the test program, with a folder as its store.
//!
//! ```no_run
//! let bucket = weir_plugins_test::s3::fresh_bucket("orders");
//! let url = bucket.url("in/orders.csv"); // s3://orders-…/in/orders.csv
//! ```

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpError, HttpResponse};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

/// The access key that the server takes.
pub const ACCESS_KEY: &str = "weir";
/// Its secret.
pub const SECRET_KEY: &str = "weir/secret+key";
/// The region to name in requests.
pub const REGION: &str = "us-east-1";

/// A bucket of a test's own.
pub struct Bucket {
    name: String,
    server: &'static Server,
}

struct Server {
    port: u16,
    root: PathBuf,
    trouble: Arc<Mutex<Trouble>>,
    // Never read: the pipe ends with our process, however it ends, and then the other side removes the folder.
    _watchdog: Option<ChildStdin>,
}

/// What becomes of uploads, by the paths of their objects.
#[derive(Default)]
struct Trouble {
    /// The next upload is answered with a fault, though it is taken.
    lost: Vec<String>,
    /// The next upload is answered with a fault, and is not taken yet.
    late: Vec<String>,
    /// The same, and the fault is that there is a conflict.
    clashing: Vec<String>,
    /// Those that are not taken yet.
    held: HashMap<String, Vec<u8>>,
}

/// Whether the path is in the list, once.
fn strike(list: &mut Vec<String>, path: &str) -> bool {
    let at = list.iter().position(|listed| listed == path);
    at.map(|at| list.swap_remove(at)).is_some()
}

/// A new, empty bucket. `name` only helps a person to recognise it.
///
/// # Panics
/// When the server does not start: the test fails.
pub fn fresh_bucket(name: &str) -> Bucket {
    static SERVER: OnceLock<Server> = OnceLock::new();
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let server = SERVER.get_or_init(|| start().unwrap_or_else(|e| panic!("the S3 server does not start: {e}")));
    let short: String =
        name.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(24).collect();
    let name = format!("{short}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    std::fs::create_dir(server.root.join(&name)).unwrap_or_else(|e| panic!("no bucket for the test: {e}"));
    Bucket { name, server }
}

fn start() -> Result<Server, Box<dyn std::error::Error>> {
    let root = std::env::temp_dir().join(format!("weir-test-s3-{}", std::process::id()));
    std::fs::create_dir_all(&root)?;
    let mut watchdog = Command::new("sh");
    watchdog.args(["-c", "trap '' INT HUP TERM; cat; rm -rf \"$0\""]).arg(&root);
    let mut watchdog = watchdog.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(&root).map_err(|e| format!("{e:?}"))?);
    builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    let service = builder.build();
    let trouble = Arc::<Mutex<Trouble>>::default();
    let making = trouble.clone();
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    // A thread of its own: the runtime of the test that came first ends before the server does.
    std::thread::Builder::new().name("s3".into()).spawn(move || {
        runtime.block_on(async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            let http = Builder::new(TokioExecutor::new());
            loop {
                let Ok((socket, _)) = listener.accept().await else { continue };
                let (service, making) = (service.clone(), making.clone());
                let served = service_fn(move |request| answer(service.clone(), making.clone(), request));
                let connection = http.serve_connection(TokioIo::new(socket), served).into_owned();
                tokio::spawn(async move {
                    // A client that hangs up is no fault of the server.
                    let _ = connection.await;
                });
            }
        });
    })?;
    Ok(Server { port, root, trouble, _watchdog: watchdog.stdin.take() })
}

async fn answer(
    service: S3Service,
    trouble: Arc<Mutex<Trouble>>,
    request: Request<Incoming>,
) -> Result<HttpResponse, HttpError> {
    let path = request.uri().path().to_owned();
    let (is_lost, is_late, is_clashing) = {
        let mut trouble = trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let is_upload = request.method() == Method::PUT;
        let mut met = |list: fn(&mut Trouble) -> &mut Vec<String>| is_upload && strike(list(&mut trouble), &path);
        (met(|t| &mut t.lost), met(|t| &mut t.late), met(|t| &mut t.clashing))
    };
    if is_late || is_clashing {
        let bytes = Body::from(request.into_body()).store_all_limited(1 << 20).await;
        let bytes = bytes.map_err(HttpError::new)?.to_vec();
        trouble.lock().unwrap_or_else(PoisonError::into_inner).held.entry(path).or_insert(bytes);
        let mut response = HttpResponse::new(Body::empty());
        // A client sends it again after other faults.
        *response.status_mut() = if is_late { StatusCode::BAD_REQUEST } else { StatusCode::CONFLICT };
        return Ok(response);
    }
    let mut response = service.call(request.map(Into::into)).await?;
    if is_lost {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    Ok(response)
}

/// Takes TLS away from what goes to `port`, on a thread that lasts as long as the test program; the port before it.
fn start_tls(port: u16, certificate: &Path, key: &Path) -> Result<u16, Box<dyn std::error::Error>> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>()?;
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    let tls = TlsAcceptor::from(Arc::new(config));
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    let before = listener.local_addr()?.port();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("s3-tls".into()).spawn(move || {
        runtime.block_on(async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            loop {
                let Ok((socket, _)) = listener.accept().await else { continue };
                let tls = tls.clone();
                tokio::spawn(async move {
                    // A client that does not trust the certificate hangs up.
                    let Ok(mut client) = tls.accept(socket).await else { return };
                    let Ok(mut server) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
    })?;
    Ok(before)
}

impl Bucket {
    /// The bucket's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.server.port)
    }

    /// The server's port, for what is to stand before it.
    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// `https://127.0.0.1:port`: the same server behind TLS, with this certificate and key, which are PEM files.
    ///
    /// # Panics
    /// Where they are none: the test fails.
    pub fn tls_endpoint(&self, certificate: &Path, key: &Path) -> String {
        let port = start_tls(self.server.port, certificate, key);
        format!("https://127.0.0.1:{}", port.unwrap_or_else(|e| panic!("no TLS before the S3 server: {e}")))
    }

    /// `s3://bucket/key`.
    pub fn url(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.name)
    }

    /// The folder behind the bucket, to lay files in and to look what arrived: an object is a file.
    pub fn folder(&self) -> PathBuf {
        self.server.root.join(&self.name)
    }

    /// Puts an object, past the server.
    ///
    /// # Panics
    /// When the disk refuses.
    pub fn put(&self, key: &str, bytes: impl AsRef<[u8]>) {
        let path = self.folder().join(key);
        let parent = path.parent().unwrap_or(Path::new("/"));
        let written = std::fs::create_dir_all(parent).and_then(|()| std::fs::write(&path, bytes));
        written.unwrap_or_else(|e| panic!("cannot put {key}: {e}"));
    }

    /// Answers the next upload of the object with a fault of the server, though it is taken: a client that sends it again
    /// is told that it is there.
    pub fn lose_answer(&self, key: &str) {
        let path = format!("/{}/{key}", self.name);
        self.server.trouble.lock().unwrap_or_else(PoisonError::into_inner).lost.push(path);
    }

    /// Answers the next upload of the object with a fault, and takes it only when it is told to [`land`](Self::land).
    pub fn hold(&self, key: &str) {
        let path = format!("/{}/{key}", self.name);
        self.server.trouble.lock().unwrap_or_else(PoisonError::into_inner).late.push(path);
    }

    /// The same, and the fault is the one of a store that is at work on another upload of the object.
    pub fn clash(&self, key: &str) {
        let path = format!("/{}/{key}", self.name);
        self.server.trouble.lock().unwrap_or_else(PoisonError::into_inner).clashing.push(path);
    }

    /// Takes the first upload of an object that was held, unless the object is there by now. Whether it was taken.
    ///
    /// # Panics
    /// When none is held: the test fails.
    pub fn land(&self, key: &str) -> bool {
        let path = format!("/{}/{key}", self.name);
        let held = self.server.trouble.lock().unwrap_or_else(PoisonError::into_inner).held.remove(&path);
        let bytes = held.unwrap_or_else(|| panic!("no upload of {key} is held"));
        let is_free = self.get(key).is_none();
        if is_free {
            self.put(key, bytes);
        }
        is_free
    }

    /// The object's bytes, if it is there, past the server.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        std::fs::read(self.folder().join(key)).ok()
    }

    /// What `object_store` and the cloud command lines want to know, under their own names.
    pub fn options(&self) -> Vec<(&'static str, String)> {
        vec![
            ("aws_access_key_id", ACCESS_KEY.into()),
            ("aws_secret_access_key", SECRET_KEY.into()),
            ("aws_region", REGION.into()),
            ("aws_endpoint", self.endpoint()),
            ("aws_allow_http", "true".into()),
        ]
    }
}
