//! TLS for both connectors and the status page: which modes there are, what is verified, and what a refusal means.
//!
//! | `sslmode` | `ssl-mode` | TLS | authority | host |
//! | --- | --- | --- | --- | --- |
//! | `disable` | `disabled` | never | | |
//! | `allow`, `prefer` | `preferred` | where the server offers it | no | no |
//! | `require` | `required` | always | where one is named, as libpq does | no |
//! | `verify-ca` | `verify_ca` | always | yes | no |
//! | `verify-full` | `verify_identity` | always | yes | yes |
//!
//! Why nothing goes in the clear that was not to: only the first two modes ever do so. They have to be asked
//! for by name (on a loopback address the connector says which of them it takes), and contradict every file of
//! TLS that is named beside them. A handshake that fails is an error in all modes; nothing is tried without TLS after it.
//!
//! The certificate's signature over the handshake is verified in all modes: without that, a client certificate
//! would vouch for us to anybody.
//!
//! # Layout
//!
//! | module | holds |
//! | --- | --- |
//! | `options` | [`Options`]: what a URL says, and what follows from it |
//! | `files` | reading authorities, certificates and keys |
//! | `own` | a certificate of our own, for the status page |
//! | `verify` | the verifier, which also remembers what it was shown |
//! | `cause` | a refusal in words, with its remedy |
//! | `x509` | names and times of a certificate |

mod cause;
mod files;
mod options;
mod own;
mod verify;
mod x509;

pub use cause::{cause_in, explain};
pub use files::{Identity, Material};
pub use options::{MYSQL, Mode, Options, POSTGRES, Tls, Words};
pub use own::Own;
pub use x509::expiry_seconds;
