//! The bytes below the protocol: TCP, a socket of this machine, or TLS over TCP.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use weir_core::Result;

use crate::error::{of_io, of_tls};
use crate::url::{Options, Tls};

/// A connection's bytes.
pub(super) enum Stream {
    Tcp(TcpStream),
    Socket(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// While it is being encrypted.
    Nowhere,
}

impl Stream {
    pub(super) async fn open(options: &Options) -> Result<Self> {
        if let Some(path) = &options.socket {
            return Ok(Self::Socket(UnixStream::connect(path).await.map_err(of_io)?));
        }
        let stream = TcpStream::connect((options.host.as_str(), options.port)).await.map_err(of_io)?;
        stream.set_nodelay(true).map_err(of_io)?;
        Ok(Self::Tcp(stream))
    }

    /// Whether nobody on the way can listen.
    pub(super) fn is_private(&self) -> bool {
        !matches!(self, Self::Tcp(_))
    }

    /// Encrypts a TCP connection, whose server has agreed to it.
    pub(super) async fn encrypt(&mut self, options: &Options) -> Result<()> {
        let Self::Tcp(stream) = std::mem::replace(self, Self::Nowhere) else { return Ok(()) };
        let config = config(options)?;
        let name = ServerName::try_from(options.host.clone()).map_err(|e| of_tls(e.to_string()))?;
        let stream =
            TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|e| of_tls(e.to_string()))?;
        *self = Self::Tls(Box::new(stream));
        Ok(())
    }
}

fn config(options: &Options) -> Result<ClientConfig> {
    crate::connection::provide_crypto();
    let mut roots = RootCertStore::empty();
    match &options.ca {
        // With a CA of one's own the public ones have no say.
        Some(path) => {
            let wrong = |reason: String| of_tls(format!("the certificates of {path} cannot be read: {reason}"));
            for certificate in CertificateDer::pem_file_iter(path).map_err(|e| wrong(e.to_string()))? {
                roots.add(certificate.map_err(|e| wrong(e.to_string()))?).map_err(|e| wrong(e.to_string()))?;
            }
            if roots.is_empty() {
                return Err(wrong("there are none".into()));
            }
        }
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let verifier = WebPkiServerVerifier::builder(Arc::new(roots)).build().map_err(|e| of_tls(e.to_string()))?;
    let verifier = Arc::new(Verifier { tls: options.tls, verifier });
    Ok(ClientConfig::builder().dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// Looks at as much of a certificate as `sslMode` asks for.
#[derive(Debug)]
struct Verifier {
    tls: Tls,
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
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        if !matches!(self.tls, Tls::VerifyCa | Tls::VerifyIdentity) {
            return Ok(ServerCertVerified::assertion());
        }
        match self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.tls == Tls::VerifyCa => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Socket(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Nowhere => Poll::Ready(Err(std::io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Socket(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Nowhere => Poll::Ready(Err(std::io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Socket(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Nowhere => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Socket(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Nowhere => Poll::Ready(Ok(())),
        }
    }
}
