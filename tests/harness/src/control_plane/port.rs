//! A port for the API server.

use std::hash::{BuildHasher as _, RandomState};
use std::net::TcpListener;

use anyhow::{Result, bail};

/// Below Linux's ephemeral ports (32768 and up), so that no outgoing connection takes the port while
/// the API server is down. Within the ephemeral range even a client that reconnects can do so: the
/// port connects to itself.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// How many random ports are tried; with one in two of them in use, 64 fail once in 10^19.
const TRIES: u64 = 64;

/// A random port of 127.0.0.1 that nothing listens on at this moment. Another process may take it
/// before the API server does; then the caller asks for another one.
pub(crate) fn free_port() -> Result<u16> {
    let random = RandomState::new(); // the standard library's only source of random numbers
    for attempt in 0..TRIES {
        let offset = random.hash_one(attempt) % u64::from(COUNT);
        let port = FIRST + u16::try_from(offset)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!(
        "no free port between {FIRST} and {} in {TRIES} tries",
        FIRST + COUNT
    )
}
