//! The operator's HTTP ports and the subcommand that talks to one: over TCP, with a fake controller and a fake API
//! server. The same against a real API server is in `tests/integration`.

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
