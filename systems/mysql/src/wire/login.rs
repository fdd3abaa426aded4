//! The handshake: capabilities, encryption, and the login by password.
//!
//! | plugin | what is sent |
//! |-|-|
//! | `mysql_native_password` | a scramble by SHA-1 |
//! | `caching_sha2_password` | a scramble by SHA-256; where the server asks for it the password itself, over a private connection as it is, else encrypted with the server's key |
//!
//! These are the ones that the driver of the catalogue knows too, and every job logs in by that one first.

use mysql_common::crypto::encrypt;
use mysql_common::scramble::{scramble_native, scramble_sha256};
use weir_core::{Error, ErrorKind, Result};
use weir_sql::stream::{Stream, Trust, Verify};

use super::{Body, Wire, ok_status, out_of_step};
use crate::error::{of_io, of_tls};
use crate::url::{Options, Tls};

const LONG_PASSWORD: u32 = 1;
const LONG_FLAG: u32 = 1 << 2;
const CONNECT_WITH_DB: u32 = 1 << 3;
const PROTOCOL_41: u32 = 1 << 9;
const SSL: u32 = 1 << 11;
const TRANSACTIONS: u32 = 1 << 13;
const SECURE_CONNECTION: u32 = 1 << 15;
const MULTI_STATEMENTS: u32 = 1 << 16;
const MULTI_RESULTS: u32 = 1 << 17;
const PLUGIN_AUTH: u32 = 1 << 19;
const PLUGIN_AUTH_LENENC: u32 = 1 << 21;
const DEPRECATE_EOF: u32 = 1 << 24;

/// What we understand; the server's word decides which of it is used.
const OURS: u32 = LONG_PASSWORD
    | LONG_FLAG
    | PROTOCOL_41
    | TRANSACTIONS
    | SECURE_CONNECTION
    | MULTI_STATEMENTS
    | MULTI_RESULTS
    | PLUGIN_AUTH
    | PLUGIN_AUTH_LENENC
    | DEPRECATE_EOF;

/// `utf8mb4_general_ci`, until `SET NAMES` says more.
const COLLATION: u8 = 45;
const NATIVE: &[u8] = b"mysql_native_password";
const CACHING: &[u8] = b"caching_sha2_password";

/// What the server says first.
struct Greeting {
    capabilities: u32,
    nonce: Vec<u8>,
    plugin: Vec<u8>,
}

impl Wire {
    /// Connects and logs in.
    ///
    /// # Errors
    /// The server cannot be reached, or does not let us in.
    pub(crate) async fn connect(options: &Options) -> Result<Self> {
        let opened = Stream::open(&options.host, options.port, options.socket.as_deref()).await;
        let mut wire = Self::new(opened.map_err(of_io)?);
        let packet = wire.packet().await?;
        let greeting = greeting(&wire.buffer[packet])?;
        if greeting.capabilities & (PROTOCOL_41 | SECURE_CONNECTION) != PROTOCOL_41 | SECURE_CONNECTION {
            return Err(Error::new(ErrorKind::Unsupported, "the server speaks a protocol from before MySQL 4.1"));
        }
        let mut capabilities = greeting.capabilities & OURS;
        if options.database.is_some() {
            capabilities |= CONNECT_WITH_DB;
        }
        wire.marks_ends = capabilities & DEPRECATE_EOF == 0;
        wire.encrypt(options, greeting.capabilities, &mut capabilities).await?;
        let answer = wire.scramble(&greeting.plugin, &greeting.nonce, options)?;
        let plugin = if answer.is_some() { greeting.plugin.as_slice() } else { NATIVE };
        let mut reply = head(capabilities);
        reply.extend_from_slice(options.user.as_bytes());
        reply.push(0);
        // A scramble has at most 32 bytes.
        let answer = answer.unwrap_or_default();
        reply.push(answer.len() as u8);
        reply.extend_from_slice(&answer);
        if let Some(database) = &options.database {
            reply.extend_from_slice(database.as_bytes());
            reply.push(0);
        }
        if capabilities & PLUGIN_AUTH != 0 {
            reply.extend_from_slice(plugin);
            reply.push(0);
        }
        wire.send(&reply).await?;
        wire.finish_login(plugin.to_vec(), greeting.nonce, options).await?;
        Ok(wire)
    }

    /// Encrypts the connection as `sslMode` says.
    async fn encrypt(&mut self, options: &Options, theirs: u32, capabilities: &mut u32) -> Result<()> {
        if options.tls == Tls::Disabled || self.stream.is_private() {
            return Ok(());
        }
        if theirs & SSL == 0 {
            return match options.tls {
                Tls::Preferred => Ok(()),
                _ => Err(of_tls("the server offers no TLS".into())),
            };
        }
        *capabilities |= SSL;
        self.send(&head(*capabilities)).await?;
        self.stream.encrypt(&trust(options)).await.map_err(of_tls)
    }

    /// The answer to a challenge; `None` for a plugin that is not ours, in whose place the server will name another.
    fn scramble(&self, plugin: &[u8], nonce: &[u8], options: &Options) -> Result<Option<Vec<u8>>> {
        let password = options.password.reveal().as_bytes();
        if nonce.len() != 20 {
            return Err(out_of_step());
        }
        Ok(match plugin {
            // Without a password the answer is empty.
            NATIVE | CACHING if password.is_empty() => Some(Vec::new()),
            NATIVE => scramble_native(nonce, password).map(Vec::from),
            CACHING => scramble_sha256(nonce, password).map(Vec::from),
            _ => None,
        })
    }

    /// Answers what the server asks until it lets us in.
    async fn finish_login(&mut self, mut plugin: Vec<u8>, mut nonce: Vec<u8>, options: &Options) -> Result<()> {
        // One change of the plugin, and the steps of one login.
        for _ in 0..8 {
            let packet = self.packet().await?;
            let mut body = Body(&self.buffer[packet]);
            match body.0.first() {
                Some(0x00) => return ok_status(&mut body).map(drop),
                Some(0xfe) => {
                    body.byte()?;
                    plugin = body.text().to_vec();
                    nonce = body.0.strip_suffix(&[0]).unwrap_or(body.0).to_vec();
                    let answer = self.scramble(&plugin, &nonce, options)?.ok_or_else(|| unknown(&plugin))?;
                    self.send(&answer).await?;
                }
                // The server remembers the password's hash: it lets us in with the next packet.
                Some(0x01) if plugin == CACHING && body.0.get(1) == Some(&3) => {}
                Some(0x01) if plugin == CACHING && body.0.get(1) == Some(&4) => {
                    self.send_password(&nonce, options).await?
                }
                _ => return Err(out_of_step()),
            }
        }
        Err(out_of_step())
    }

    async fn send_password(&mut self, nonce: &[u8], options: &Options) -> Result<()> {
        let mut password = options.password.reveal().as_bytes().to_vec();
        password.push(0);
        if self.stream.is_private() {
            return self.send(&password).await;
        }
        const GIVE_KEY: u8 = 2;
        self.send(&[GIVE_KEY]).await?;
        let packet = self.packet().await?;
        let key = self.buffer[packet].get(1..).unwrap_or_default().to_vec();
        for (byte, mask) in password.iter_mut().zip(nonce.iter().cycle()) {
            *byte ^= mask;
        }
        // The library takes a key for granted.
        let encrypted = std::panic::catch_unwind(|| encrypt(&password, &key)).map_err(|_| out_of_step())?;
        self.send(&encrypted).await
    }
}

fn trust(options: &Options) -> Trust {
    let verify = match options.tls {
        Tls::VerifyIdentity => Verify::Name,
        Tls::VerifyCa => Verify::Authority,
        _ => Verify::Nothing,
    };
    // With an authority of one's own the public ones have no say.
    Trust { host: options.host.clone(), verify, authorities: options.ca.clone(), public: false, client: None }
}

/// How the packets of a client's login begin.
fn head(capabilities: u32) -> Vec<u8> {
    let mut head = capabilities.to_le_bytes().to_vec();
    // What we take, not what the server takes.
    head.extend_from_slice(&(1u32 << 30).to_le_bytes());
    head.push(COLLATION);
    head.extend_from_slice(&[0; 23]);
    head
}

fn greeting(packet: &[u8]) -> Result<Greeting> {
    let mut body = Body(packet);
    if body.byte()? != 10 {
        return Err(out_of_step());
    }
    body.text();
    body.bytes(4)?;
    let mut nonce = body.bytes(8)?.to_vec();
    body.byte()?;
    let low = body.word()?;
    body.bytes(3)?;
    let high = body.word()?;
    let capabilities = u32::from(low) | u32::from(high) << 16;
    let length = usize::from(body.byte()?);
    body.bytes(10)?;
    let rest = body.bytes(length.saturating_sub(8).max(13))?;
    nonce.extend_from_slice(&rest[..12]);
    let plugin = if capabilities & PLUGIN_AUTH == 0 { NATIVE } else { body.text() };
    Ok(Greeting { capabilities, nonce, plugin: plugin.to_vec() })
}

fn unknown(plugin: &[u8]) -> Error {
    let name = String::from_utf8_lossy(plugin).into_owned();
    let message = format!(
        "the login method `{name}` is not supported: use a user of mysql_native_password or caching_sha2_password"
    );
    Error::new(ErrorKind::Denied, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_is_read_and_a_torn_one_is_a_fault() {
        let mut packet = b"\x0a10.11.6-MariaDB\0\x01\0\0\0abcdefgh\0".to_vec();
        packet.extend([0xfe, 0xff, 45, 2, 0, 0xff, 0x81, 21]);
        packet.extend([0; 10]);
        packet.extend(b"ijklmnopqrst\0mysql_native_password\0");
        let whole = greeting(&packet).unwrap();
        assert_eq!((whole.nonce.as_slice(), whole.plugin.as_slice()), (&b"abcdefghijklmnopqrst"[..], NATIVE));
        assert!(whole.capabilities & SSL != 0 && whole.capabilities & DEPRECATE_EOF != 0);
        for length in 0..packet.len() - 22 {
            assert!(greeting(&packet[..length]).is_err(), "{length}");
        }
    }
}
