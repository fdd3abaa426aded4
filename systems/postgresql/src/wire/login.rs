//! How a connection begins: encryption, and the login by password.
//!
//! | the server asks for | what is sent |
//! |-|-|
//! | nothing (`trust`, `peer`, a client certificate) | nothing |
//! | the password | the password |
//! | MD5 | a hash of it, the name and the server's salt |
//! | SCRAM-SHA-256 | a proof that we know it; and the server proves that it does |
//!
//! These are the ones that the driver of the catalogue knows too, and every job logs in by that one first.

use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::io::AsyncReadExt;
use weir_core::{Error, ErrorKind, Result, Secret};
use weir_sql::stream::{Stream, Trust, Verify};

use super::messages::Fields;
use super::{Wire, out_of_step};
use crate::error::{of_io, of_server, of_tls};
use crate::url::PgUrl;

/// Where to log in and as whom; what a URL leaves open is what the driver takes from the environment.
pub(crate) struct Login {
    host: String,
    port: u16,
    socket: Option<String>,
    mode: PgSslMode,
    trust: Trust,
    password: Secret,
    /// What the first message says.
    parameters: Vec<(&'static str, String)>,
}

impl Login {
    pub(crate) fn new(url: &PgUrl, options: &PgConnectOptions) -> Self {
        let from = |given: &Option<String>, name: &str| given.clone().or_else(|| std::env::var(name).ok());
        let (host, port) = (options.get_host().to_owned(), options.get_port());
        let folder = options.get_socket().map(|path| path.display().to_string());
        let folder = folder.or_else(|| Some(host.clone()).filter(|host| host.starts_with('/')));
        let mode = options.get_ssl_mode();
        let verify = match mode {
            PgSslMode::VerifyFull => Verify::Name,
            PgSslMode::VerifyCa => Verify::Authority,
            _ => Verify::Nothing,
        };
        let authorities = from(&url.ssl_root_cert, "PGSSLROOTCERT").filter(|_| verify != Verify::Nothing);
        let client = from(&url.ssl_cert, "PGSSLCERT").zip(from(&url.ssl_key, "PGSSLKEY"));
        let password = url.password.clone().or_else(|| std::env::var("PGPASSWORD").ok().map(Secret::new));
        let texts = [
            ("user", Some(options.get_username())),
            ("database", options.get_database()),
            ("client_encoding", Some("UTF8")),
            ("application_name", options.get_application_name()),
            ("options", options.get_options()),
        ];
        let parameters = texts.into_iter().filter_map(|(name, value)| Some((name, value?.to_owned()))).collect();
        Self {
            socket: folder.map(|folder| format!("{folder}/.s.PGSQL.{port}")),
            trust: Trust { host: host.clone(), verify, authorities, public: true, client },
            password: password.unwrap_or_default(),
            host,
            port,
            mode,
            parameters,
        }
    }

    fn user(&self) -> &str {
        self.parameters.first().map_or("", |(_, user)| user)
    }
}

impl Wire {
    /// Connects and logs in.
    ///
    /// # Errors
    /// The server cannot be reached, or does not let us in.
    pub(crate) async fn connect(login: &Login) -> Result<Self> {
        let opened = Stream::open(&login.host, login.port, login.socket.as_deref()).await;
        let mut wire = Self::new(opened.map_err(of_io)?);
        wire.encrypt(login).await?;
        wire.greet(login).await
    }

    /// Says who we are, and answers what the server asks.
    pub(super) async fn greet(mut self, login: &Login) -> Result<Self> {
        let mut message = BytesMut::new();
        let parameters = login.parameters.iter().map(|(name, value)| (*name, value.as_str()));
        frontend::startup_message(parameters, &mut message).map_err(wrong)?;
        self.send(&message).await?;
        self.log_in(login).await?;
        Ok(self)
    }

    /// Encrypts the connection as `sslmode` says.
    async fn encrypt(&mut self, login: &Login) -> Result<()> {
        if matches!(login.mode, PgSslMode::Disable | PgSslMode::Allow) || self.stream.is_private() {
            return Ok(());
        }
        let mut message = BytesMut::new();
        frontend::ssl_request(&mut message);
        self.send(&message).await?;
        match self.stream.read_u8().await.map_err(of_io)? {
            b'S' => self.stream.encrypt(&login.trust).await.map_err(|reason| of_tls(&reason)),
            b'N' if matches!(login.mode, PgSslMode::Prefer) => Ok(()),
            b'N' => Err(of_tls("the server offers none")),
            _ => Err(out_of_step()),
        }
    }

    /// Answers what the server asks until it waits for a statement.
    async fn log_in(&mut self, login: &Login) -> Result<()> {
        const OK: i32 = 0;
        const PASSWORD: i32 = 3;
        const MD5: i32 = 5;
        const SASL: i32 = 10;
        loop {
            let (kind, body) = self.message().await?;
            let body = &self.buffer[body];
            match kind {
                b'Z' => return Ok(()),
                b'E' => return Err(of_server(&Fields::read(body).said())),
                // What a cancellation would need, which ours does not; and what an older server has not of our protocol's
                // options, of which we use none.
                b'K' | b'v' => {}
                b'R' => {
                    let password = login.password.reveal().as_bytes();
                    let (method, rest) = number(body)?;
                    let mut answer = BytesMut::new();
                    match method {
                        OK => continue,
                        PASSWORD => frontend::password_message(password, &mut answer).map_err(wrong)?,
                        MD5 => {
                            let salt = rest.try_into().map_err(|_| out_of_step())?;
                            let hash = md5_hash(login.user().as_bytes(), password, salt);
                            frontend::password_message(hash.as_bytes(), &mut answer).map_err(wrong)?;
                        }
                        SASL if rest.split(|b| *b == 0).any(|name| name == SCRAM_SHA_256.as_bytes()) => {
                            self.prove(password).await?;
                            continue;
                        }
                        _ => return Err(unknown()),
                    }
                    self.send(&answer).await?;
                }
                _ => return Err(out_of_step()),
            }
        }
    }

    /// Each side proves to the other that it knows the password.
    async fn prove(&mut self, password: &[u8]) -> Result<()> {
        const CONTINUE: i32 = 11;
        const FINAL: i32 = 12;
        let mut scram = ScramSha256::new(password, ChannelBinding::unsupported());
        let mut message = BytesMut::new();
        frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut message).map_err(wrong)?;
        self.send(&message).await?;
        let challenge = self.challenge(CONTINUE).await?;
        scram.update(&challenge).map_err(wrong)?;
        message.clear();
        frontend::sasl_response(scram.message(), &mut message).map_err(wrong)?;
        self.send(&message).await?;
        let proof = self.challenge(FINAL).await?;
        scram.finish(&proof).map_err(wrong)
    }

    async fn challenge(&mut self, step: i32) -> Result<Vec<u8>> {
        let (kind, body) = self.message().await?;
        let body = &self.buffer[body];
        match kind {
            b'E' => Err(of_server(&Fields::read(body).said())),
            b'R' => match number(body)? {
                (found, rest) if found == step => Ok(rest.to_vec()),
                _ => Err(out_of_step()),
            },
            _ => Err(out_of_step()),
        }
    }
}

/// The number that a message begins with, and what follows.
fn number(body: &[u8]) -> Result<(i32, &[u8])> {
    let (bytes, rest) = body.split_first_chunk().ok_or_else(out_of_step)?;
    Ok((i32::from_be_bytes(*bytes), rest))
}

fn wrong(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Denied, "the login at the PostgreSQL server failed: check username and password")
        .because(error)
}

fn unknown() -> Error {
    let message = "the server asks for a login that is not supported: use a user of scram-sha-256, md5 or password";
    Error::new(ErrorKind::Denied, message)
}
