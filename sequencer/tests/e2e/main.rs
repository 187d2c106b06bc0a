//! The real thing: processes of the real binary, real disks, real QUIC, kill -9. The client, which trusts no node, is
//! the judge.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod crashes;
mod disks;
mod lives;
mod network;
mod readers;
