//! Looks at a certificate that the driver refused, to say whose it is.
//!
//! The driver tells why, and hides the certificate. So the beginning of a login is done once more, as far as the
//! handshake: the server's greeting is taken, TLS is asked for (manual, "Protocol::SSLRequest"), and [`pontoon_tls`]
//! verifies as the driver did. Nobody logs in, and nothing of the greeting is believed.

use std::time::Duration;

use pontoon_core::Error;
use pontoon_tls::Tls;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// The refusal is known already: its words are not waited for as long as a connection would be.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// A greeting has less than 200 bytes.
const GREETING_BYTES_MAX: usize = 4096;

/// `SSLRequest`, of 32 bytes and the second packet: CLIENT_SSL, CLIENT_PROTOCOL_41 and CLIENT_SECURE_CONNECTION; the
/// largest packet; utf8mb4_general_ci; 23 bytes of nothing.
const SSL_REQUEST: [u8; 36] = {
    let mut packet = [0; 36];
    [packet[0], packet[3]] = [32, 1];
    [packet[5], packet[6]] = [0x80 | 0x08 | 0x02, 0];
    [packet[8], packet[9], packet[10], packet[11]] = [0, 0, 0, 1];
    packet[12] = 45;
    packet
};

/// Why the handshake is refused; `None` if it is not, this time.
pub(crate) async fn refusal((host, port): &(String, u16), tls: &Tls) -> Option<Error> {
    let looking = async {
        let mut stream = TcpStream::connect((host.as_str(), *port)).await?;
        let length = stream.read_u32_le().await? as usize & 0x00ff_ffff;
        let mut greeting = vec![0; length.min(GREETING_BYTES_MAX)];
        stream.read_exact(&mut greeting).await?;
        stream.write_all(&SSL_REQUEST).await?;
        Ok::<_, std::io::Error>(tls.connect(host, stream).await.err())
    };
    timeout(LOOK_TIMEOUT, looking).await.ok()?.ok()?
}
