//! A connection's bytes below its protocol: TCP, a socket of this machine, or TLS over TCP.
//!
//! For connectors that read a protocol themselves, where a driver would cost more than the rows.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A connection's bytes.
pub enum Stream {
    /// Open to everybody on the way.
    Tcp(TcpStream),
    /// A socket of this machine.
    #[cfg(unix)]
    Socket(UnixStream),
    /// Encrypted.
    Tls(Box<TlsStream<TcpStream>>),
    /// While it is being encrypted.
    Nowhere,
}

/// How much of a server's certificate is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// Nothing.
    Nothing,
    /// Whether a trusted authority has signed it.
    Authority,
    /// That, and whether it is the host's.
    Name,
}

/// Which server may hold the other end of a TLS connection, and who we say we are.
#[derive(Debug, Clone)]
pub struct Trust {
    /// The server's name or address.
    pub host: String,
    /// What is looked at.
    pub verify: Verify,
    /// A PEM file with the authorities to trust.
    pub authorities: Option<String>,
    /// Whether the public authorities count beside those of the file; without a file they always do.
    pub public: bool,
    /// PEM files with a certificate of ours and its key.
    pub client: Option<(String, String)>,
}

impl Stream {
    /// Connects to a server, by a socket of this machine where there is one.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn open(host: &str, port: u16, socket: Option<&str>) -> io::Result<Self> {
        #[cfg(unix)]
        if let Some(path) = socket {
            return Ok(Self::Socket(UnixStream::connect(path).await?));
        }
        #[cfg(not(unix))]
        if socket.is_some() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    /// Whether nobody on the way can listen.
    pub fn is_private(&self) -> bool {
        !matches!(self, Self::Tcp(_))
    }

    /// Encrypts a TCP connection, whose server has agreed to it.
    ///
    /// # Errors
    /// What is wrong with the files, or with the server's certificate.
    pub async fn encrypt(&mut self, trust: &Trust) -> Result<(), String> {
        let Self::Tcp(stream) = std::mem::replace(self, Self::Nowhere) else { return Ok(()) };
        let config = config(trust)?;
        let name = ServerName::try_from(trust.host.clone()).map_err(|e| e.to_string())?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|e| e.to_string())?;
        *self = Self::Tls(Box::new(stream));
        Ok(())
    }
}

/// Chooses the process's cryptography, unless somebody has: the library would panic without one.
pub fn provide_crypto() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Lost only when another thread was faster, and then there is one.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

fn config(trust: &Trust) -> Result<ClientConfig, String> {
    provide_crypto();
    let mut roots = RootCertStore::empty();
    if let Some(path) = &trust.authorities {
        for certificate in authorities(path)? {
            roots.add(certificate).map_err(|e| unreadable(path, e))?;
        }
    }
    if trust.public || trust.authorities.is_none() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    let verifier = WebPkiServerVerifier::builder(Arc::new(roots)).build().map_err(|e| e.to_string())?;
    let verifier = Arc::new(Verifier { verify: trust.verify, verifier });
    let config = ClientConfig::builder().dangerous().with_custom_certificate_verifier(verifier);
    match &trust.client {
        None => Ok(config.with_no_client_auth()),
        Some((certificate, key)) => {
            let private =
                PrivateKeyDer::from_pem_file(key).map_err(|e| format!("the key {key} cannot be read: {e}"))?;
            config.with_client_auth_cert(certificates(certificate)?, private).map_err(|e| e.to_string())
        }
    }
}

/// The certificates of a PEM file, or the one of a DER file.
fn authorities(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    match std::fs::read(path) {
        // So a certificate begins: as a sequence.
        Ok(bytes) if bytes.first() == Some(&0x30) => Ok(vec![CertificateDer::from(bytes)]),
        _ => certificates(path),
    }
}

/// The certificates of a PEM file.
///
/// # Errors
/// The file cannot be read, or has none.
pub fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(path).map_err(|e| unreadable(path, e))?;
    let all: Vec<_> = all.collect::<Result<_, _>>().map_err(|e| unreadable(path, e))?;
    if all.is_empty() { Err(unreadable(path, "there are none")) } else { Ok(all) }
}

fn unreadable(path: &str, reason: impl std::fmt::Display) -> String {
    format!("the certificates of {path} cannot be read: {reason}")
}

/// Looks at as much of a certificate as it is told to.
#[derive(Debug)]
struct Verifier {
    verify: Verify,
    verifier: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.verify == Verify::Nothing {
            return Ok(ServerCertVerified::assertion());
        }
        match self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.verify == Verify::Authority => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            #[cfg(unix)]
            Self::Socket(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Nowhere => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            #[cfg(unix)]
            Self::Socket(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Nowhere => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(unix)]
            Self::Socket(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Nowhere => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(unix)]
            Self::Socket(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Nowhere => Poll::Ready(Ok(())),
        }
    }
}
