//! Private PostgreSQL, MariaDB and MySQL servers, for the tests and for `pontoon demo`.
//!
//! A [`Server`] is one server process on a port of 127.0.0.1 of its own, with its data in a temporary
//! folder. It is ended by its own process id and its folder removed when the value is dropped, also by a
//! panic; if the process that holds it is itself killed, the kernel kills the server, and the next
//! [`Server::start`] of the same user removes the folder that was left. Nothing of the machine's own
//! database services is read, started, stopped or written to.
//!
//! ```no_run
//! # async fn example() -> Result<(), pontoon_servers::ServerError> {
//! use pontoon_servers::{Kind, Options, Server};
//!
//! let options = Options::default().setting("binlog_row_image", "MINIMAL");
//! let mut server = Server::start(Kind::Mariadb, options).await?;
//! println!("{}", server.superuser_url("mysql"));
//!
//! server.kill().await?; //    as if the process had lost its power
//! server.restart().await?; // the same port, the same data
//! server.stop().await?; //    as its administrator would
//! # Ok(())
//! # }
//! ```
//!
//! # What it needs
//!
//! The server programs, which `scripts/install-servers` brings: PostgreSQL and MariaDB from the system's
//! packages, MySQL from the system or from the cache folder, and with the argument `newer` PostgreSQL 18 and MariaDB 11.8 into
//! the cache folder ([`Release::newer`]). A missing program is
//! [`ServerError::MissingProgram`], with what to install. Linux only: `setpriv` starts the servers, as the
//! user `nobody` where the caller is root, since none of the three servers likes to be root.
//!
//! # Where it writes
//!
//! | folder | what |
//! | --- | --- |
//! | `$TMPDIR/pontoon-KIND-*` | data, log and settings of one server, as long as it lives |
//! | `${XDG_CACHE_HOME:-~/.cache}/pontoon/templates` | an initialised data folder per server version, copied for each server |
//! | `${XDG_CACHE_HOME:-~/.cache}/pontoon/ports` | one small lock file per port, so that no two processes take the same |
//! | `${XDG_CACHE_HOME:-~/.cache}/pontoon/superuser-password` | the password of every superuser, made at random once |
//!
//! # Layout
//!
//! | module | what |
//! | --- | --- |
//! | `server` | [`Server`]: start, kill, restart, stop |
//! | `kind`, `options`, `error` | the other public types |
//! | `postgres`, `mysql` | what one kind needs: programs, initialising, settings, arguments. MySQL and MariaDB share a file |
//! | `template` | initialised data folders, made once and copied for each server |
//! | `unpacked` | servers in the cache folder, of another release of Debian |
//! | `ping` | asks a server over TCP whether it answers |
//! | `process` | starting, signalling and waiting for processes |
//! | `account` | which user the servers run as |
//! | `folder` | the cache and temporary folders, and copying them |
//! | `port` | ports that are no other's, also while their server is down |
//! | `certificate` | authorities, and the certificates of encrypted servers and their clients |

mod account;
mod certificate;
mod error;
mod folder;
mod kind;
mod mysql;
mod options;
mod ping;
mod port;
mod postgres;
mod process;
mod server;
mod template;
mod unpacked;

pub use account::bound_command;
pub use certificate::{Authority, Issued, Request};
pub use error::ServerError;
pub use kind::{Kind, Release, UnknownKind};
pub use options::{Durability, Encryption, Options};
pub use server::Server;
pub use unpacked::{compose, mysql_tool, of_prometheus};
