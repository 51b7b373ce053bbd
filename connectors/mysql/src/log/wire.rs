//! The connection that reads the log: login, a few statements, the request for the log, and packets.
//!
//! A thin client of our own, for the log alone. The driver would unpack a compressed transaction whole, into
//! as much memory as the event claims to need, and does not verify checksums; and what it reads it
//! copies. Here nothing is kept beyond what one event needs ([`super::stream`]).
//!
//! The protocol: the manual of MySQL's source, "Connection Phase" and "Replication Protocol"; MariaDB's
//! "Connecting" page. A packet is a length of three bytes, a number that counts up, and the payload; a
//! payload of exactly the largest length goes on in the next packet.
//!
//! Reading is cancel safe: what has been read stays in the buffer.

use std::collections::HashMap;

use bytes::{Buf, BytesMut};
use mysql_async::{Opts, ServerError};
use mysql_common::{
    constants::CapabilityFlags,
    io::ParseBuf,
    packets::{AuthPlugin, AuthSwitchRequest, HandshakeResponse, SslRequest},
    proto::MySerialize,
};
use pontoon_core::{Code, Error, Result};
use pontoon_tls::Mode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Malformed, cursor::Cursor, malformed};
use crate::{connect::Target, error, socket::Socket};

/// Room that is made before a read: a large read costs fewer system calls in a backlog.
const READ_BYTES: usize = 64 << 10;

/// A packet of this length goes on in the next one.
pub(super) const PACKET_BYTES_MAX: usize = 0xff_ffff;

/// What stands before a packet's payload.
pub(super) const HEAD_BYTES: usize = 4;

/// Answers during login are short; anything longer is no server of this kind.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// A login takes at most: a switch of its method, a word about the password, the answer.
const LOGIN_ROUNDS_MAX: usize = 5;

/// utf8mb4_general_ci, which every server of either kind knows.
const COLLATION: u8 = 45;

const COM_QUERY: u8 = 0x03;
const COM_BINLOG_DUMP: u8 = 0x12;
const COM_REGISTER_SLAVE: u8 = 0x15;

/// A connection whose packets are read by hand.
pub(crate) struct Wire {
    socket: Socket,
    buffer: BytesMut,
    sequence: u8,
}

impl Wire {
    /// Connects and logs in.
    pub(crate) async fn login(target: &Target) -> Result<Wire> {
        Wire::try_login(target).await.map_err(|error| error.at(&target.address))
    }

    async fn try_login(target: &Target) -> Result<Wire> {
        let options = Opts::from(target.options());
        let unreachable = |error: std::io::Error| error::at_login(&error.into(), &target.tls);
        let socket = Socket::open(&options).await.map_err(unreachable)?;
        let mut wire = Wire { socket, buffer: BytesMut::new(), sequence: 0 };
        let greeting = Greeting::parse(&wire.answer().await?).map_err(|_| out_of_place())?;
        let mut capabilities = CapabilityFlags::CLIENT_PROTOCOL_41
            | CapabilityFlags::CLIENT_SECURE_CONNECTION
            | CapabilityFlags::CLIENT_LONG_PASSWORD
            | CapabilityFlags::CLIENT_TRANSACTIONS
            | CapabilityFlags::CLIENT_PLUGIN_AUTH
            | CapabilityFlags::CLIENT_CONNECT_ATTRS;
        capabilities &= greeting.capabilities;
        match target.tls.mode() {
            Mode::Disable => {}
            _ if greeting.capabilities.contains(CapabilityFlags::CLIENT_SSL) => {
                capabilities |= CapabilityFlags::CLIENT_SSL;
                wire.send(&serialized(&SslRequest::new(capabilities, u32::MAX, COLLATION))).await?;
                wire.socket = wire.socket.secure(options.ip_or_hostname(), &target.tls).await?;
            }
            Mode::Prefer => {}
            _ => return Err(error::convert(&mysql_async::DriverError::NoClientSslFlagFromServer.into())),
        }
        let plugin = match AuthPlugin::from_bytes(&greeting.plugin) {
            AuthPlugin::CachingSha2Password => AuthPlugin::CachingSha2Password,
            _ => AuthPlugin::MysqlNativePassword,
        };
        let attributes: HashMap<String, String> = [("program_name".into(), "pontoon".into())].into();
        let proof = plugin.gen_data(options.pass(), &greeting.nonce);
        let response = HandshakeResponse::new(
            proof.as_deref(),
            (8, 0, 0),
            options.user().map(str::as_bytes),
            None::<&[u8]>,
            Some(plugin.borrow()),
            capabilities,
            Some(attributes),
            u32::MAX,
        );
        wire.send(&serialized(&response)).await?;
        wire.authenticate(options.pass().unwrap_or_default(), plugin).await?;
        Ok(wire)
    }

    async fn authenticate(&mut self, password: &str, mut plugin: AuthPlugin<'static>) -> Result<()> {
        for _ in 0..LOGIN_ROUNDS_MAX {
            let packet = self.answer().await?;
            match packet.as_slice() {
                [0x00, ..] => return Ok(()),
                [0xfe, _, ..] => {
                    let switch: AuthSwitchRequest<'_> = ParseBuf(&packet).parse(()).map_err(|_| out_of_place())?;
                    plugin = switch.auth_plugin().into_owned();
                    if !matches!(
                        plugin,
                        AuthPlugin::CachingSha2Password | AuthPlugin::MysqlNativePassword | AuthPlugin::Ed25519
                    ) {
                        let name = String::from_utf8_lossy(plugin.as_bytes()).into_owned();
                        return Err(error::convert(&mysql_async::DriverError::UnknownAuthPlugin { name }.into()));
                    }
                    let data = plugin.gen_data(Some(password), switch.plugin_data());
                    self.send(data.as_deref().unwrap_or_default()).await?;
                }
                // The server knows the password's hash already.
                [0x01, 0x03] if matches!(plugin, AuthPlugin::CachingSha2Password) => {}
                [0x01, 0x04] if matches!(plugin, AuthPlugin::CachingSha2Password) => {
                    if !self.socket.is_private() {
                        // The driver has just logged in, by the server's public key, and so the server knew the hash
                        // a moment ago: it has forgotten it in between (FLUSH PRIVILEGES). The next try finds it again.
                        return Err(Error::new(Code::ServerBusy, "the server has forgotten the password's hash"));
                    }
                    self.send(&[password.as_bytes(), &[0]].concat()).await?;
                }
                _ => return Err(out_of_place()),
            }
        }
        Err(out_of_place())
    }

    /// Runs a statement that has no result.
    pub(crate) async fn execute(&mut self, statement: &str) -> Result<()> {
        self.command(&[&[COM_QUERY], statement.as_bytes()].concat()).await?;
        self.done().await
    }

    /// Asks for the log from a place on, as a replica of this number.
    pub(crate) async fn dump(&mut self, id: u32, file: &str, offset: u32) -> Result<()> {
        // Its number; no host, user or password to be shown; no port, rank or source.
        let mut register = vec![COM_REGISTER_SLAVE];
        register.extend(id.to_le_bytes());
        register.extend([0; 3 + 2 + 4 + 4]);
        self.command(&register).await?;
        self.done().await?;
        let mut request = vec![COM_BINLOG_DUMP];
        request.extend(offset.to_le_bytes());
        request.extend([0; 2]);
        request.extend(id.to_le_bytes());
        request.extend(file.as_bytes());
        self.command(&request).await
    }

    async fn command(&mut self, payload: &[u8]) -> Result<()> {
        self.sequence = 0;
        self.send(payload).await
    }

    async fn done(&mut self) -> Result<()> {
        match self.answer().await?.first() {
            Some(0) => Ok(()),
            _ => Err(out_of_place()),
        }
    }

    async fn send(&mut self, payload: &[u8]) -> Result<()> {
        let mut packet = (payload.len() as u32).to_le_bytes()[..3].to_vec();
        packet.push(self.sequence);
        packet.extend(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.write_all(&packet).await.map_err(broken)?;
        self.socket.flush().await.map_err(broken)
    }

    /// A short packet; an error of the server as such.
    async fn answer(&mut self) -> Result<Vec<u8>> {
        let length = self.head().await?;
        if length > ANSWER_BYTES_MAX {
            return Err(out_of_place());
        }
        self.need(length).await?;
        let payload = self.buffer.split_to(length).to_vec();
        match payload.first() {
            Some(0xff) => Err(error::convert(&refusal(&payload))),
            _ => Ok(payload),
        }
    }

    /// Takes the head of the next packet, and says how long the packet is. Not cancel safe beyond the head itself.
    async fn head(&mut self) -> Result<usize> {
        let length = self.peek().await?;
        self.consume_head();
        Ok(length)
    }

    /// The length of the next packet, whose head is at the front of the buffer.
    pub(super) async fn peek(&mut self) -> Result<usize> {
        self.need(HEAD_BYTES).await?;
        let mut head = Cursor(&self.buffer);
        let length = head.little(3).unwrap_or_default() as usize;
        if head.byte().ok() != Some(self.sequence) {
            return Err(out_of_place());
        }
        Ok(length)
    }

    /// Passes over a packet's head.
    pub(super) fn consume_head(&mut self) {
        self.sequence = self.sequence.wrapping_add(1);
        self.buffer.advance(HEAD_BYTES.min(self.buffer.len()));
    }

    /// Sees to it that so many bytes are in the buffer.
    pub(super) async fn need(&mut self, bytes: usize) -> Result<()> {
        while self.buffer.len() < bytes {
            self.buffer.reserve(READ_BYTES.max(bytes - self.buffer.len()));
            if self.socket.read_buf(&mut self.buffer).await.map_err(broken)? == 0 {
                return Err(Error::new(Code::ConnectionLost, "the server closed the connection"));
            }
        }
        Ok(())
    }

    /// What has been read and not been consumed.
    pub(super) fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    /// Passes over bytes.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.buffer.advance(bytes.min(self.buffer.len()));
    }
}

/// The first packet of a server. The driver's library trusts a length in it.
struct Greeting {
    capabilities: CapabilityFlags,
    nonce: Vec<u8>,
    plugin: Vec<u8>,
}

impl Greeting {
    fn parse(packet: &[u8]) -> Result<Greeting, Malformed> {
        /// Protocol 10 has a nonce of 20 bytes in two parts; a zero ends it.
        const NONCE_BYTES: usize = 20;
        let mut cursor = Cursor(packet);
        if cursor.byte()? != 10 {
            return Err(malformed("a greeting of another protocol"));
        }
        while cursor.byte()? != 0 {}
        cursor.skip(4)?;
        let mut nonce = cursor.take(8)?.to_vec();
        cursor.skip(1)?;
        let lower = cursor.little(2)?;
        cursor.skip(3)?;
        let capabilities = CapabilityFlags::from_bits_truncate((lower | cursor.little(2)? << 16) as u32);
        let second = usize::from(cursor.byte()?).saturating_sub(8).max(13);
        cursor.skip(10)?;
        nonce.extend(cursor.take(second)?);
        nonce.truncate(NONCE_BYTES);
        let plugin = cursor.0.split(|&byte| byte == 0).next().unwrap_or_default().to_vec();
        Ok(Greeting { capabilities, nonce, plugin })
    }
}

/// What an error packet says. Before the login is done it has no state.
pub(super) fn refusal(payload: &[u8]) -> mysql_async::Error {
    let mut cursor = Cursor(payload);
    let _ = cursor.skip(1);
    let code = cursor.little(2).unwrap_or_default() as u16;
    let state = match cursor.0.split_first() {
        Some((b'#', rest)) if rest.len() >= 5 => {
            cursor = Cursor(&rest[5..]);
            String::from_utf8_lossy(&rest[..5]).into_owned()
        }
        _ => "HY000".into(),
    };
    ServerError { code, message: String::from_utf8_lossy(cursor.0).into_owned(), state }.into()
}

fn serialized(packet: &impl MySerialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.serialize(&mut bytes);
    bytes
}

fn broken(error: std::io::Error) -> Error {
    error::convert(&error.into())
}

pub(super) fn out_of_place() -> Error {
    Error::new(Code::Protocol, "the server sent a packet that is out of place")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn greetings_are_read() {
        let mut packet = b"\x0a9.7.4\0\x01\0\0\0abcdefgh\0".to_vec();
        packet.extend([0x00, 0x8a, 45, 2, 0, 0x08, 0, 21]);
        packet.extend([0; 10]);
        packet.extend(b"ijklmnopqrst\0caching_sha2_password\0");
        let greeting = Greeting::parse(&packet).unwrap();
        assert_eq!(
            (greeting.nonce, greeting.plugin),
            (b"abcdefghijklmnopqrst".to_vec(), b"caching_sha2_password".to_vec())
        );
        assert!(greeting.capabilities.contains(CapabilityFlags::CLIENT_SSL | CapabilityFlags::CLIENT_PLUGIN_AUTH));
        assert!(Greeting::parse(&packet[..40]).is_err());
    }

    #[test]
    fn refusals_are_read_with_and_without_a_state() {
        let of = |bytes: &[u8]| match refusal(bytes) {
            mysql_async::Error::Server(error) => (error.code, error.state, error.message),
            other => panic!("{other}"),
        };
        assert_eq!(of(b"\xff\x15\x04#28000No"), (1045, "28000".into(), "No".into()));
        assert_eq!(of(b"\xff\x10\x04Too many"), (1040, "HY000".into(), "Too many".into()));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = refusal(&bytes);
            let _ = Greeting::parse(&bytes);
            let _ = Greeting::parse(&[&[10, 0][..], &bytes].concat());
            let _ = ParseBuf(&bytes).parse::<AuthSwitchRequest<'_>>(());
        }
    }
}
