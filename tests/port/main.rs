//! The operator's HTTP ports and the subcommand that talks to one: over TCP, with a centre and an API
//! server that answer what a test wants. What a real API server says to it is in `tests/integration`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is the result of a test"
)]
#![allow(unreachable_pub, reason = "modules of one test program")]

mod bad_requests;
mod connections;
mod debug;
mod fakes;
mod operations;
mod resync;
mod secured;
