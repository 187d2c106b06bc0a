//! Floods over WebSocket, with the few frames that they need.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::http::connected;
use crate::pace::{Counts, Pace, count, together};
use crate::target::Target;

/// Connections that ping.
const PINGERS: usize = 16;
/// Subscribers that do not read.
const SUBSCRIBERS: usize = 100;
/// Everything that was ever decided, and all that will be.
const EVERYTHING: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"fusion_subscribe","params":{"kind":"heads","params":{"from":1,"includeTransactions":true}}}"#;
const TEXT: u8 = 1;
const PING: u8 = 9;
/// How long an upgrade may take.
const UPGRADE: Duration = Duration::from_secs(2);

/// Pings of the largest size, whose pongs are read.
///
/// # Errors
/// If a worker fails.
pub(crate) async fn pings(target: &Target, until: Instant) -> anyhow::Result<Counts> {
    together(PINGERS, |number| pinger(target.clone(), number, until)).await
}

async fn pinger(target: Target, number: usize, until: Instant) -> Counts {
    let mut counts = Counts::new();
    let ping = frame(PING, &[b'p'; 125]);
    while let Some(stream) = upgraded(&target, number, until, &mut counts).await {
        let (mut reading, mut writing) = stream.into_split();
        let reader = tokio::spawn(async move {
            let (mut chunk, mut all) = ([0; 16 * 1024], 0);
            while let Ok(bytes @ 1..) = reading.read(&mut chunk).await {
                all += bytes as u64;
            }
            all
        });
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let mut pace = Pace::new(target.rate / PINGERS as f64, until);
        while let Some(due) = pace.due().await {
            if writing.write_all(&ping.repeat(due as usize)).await.is_err() {
                count(&mut counts, "cut", 1);
                break;
            }
            count(&mut counts, "pings", u64::from(due));
        }
        drop(writing);
        if let Ok(Ok(bytes)) = timeout(UPGRADE, reader).await {
            count(&mut counts, "bytes of pongs", bytes);
        }
    }
    counts
}

/// Subscribers to every block since the first, who never read.
///
/// # Errors
/// If a worker fails.
pub(crate) async fn subscribers(target: &Target, until: Instant) -> anyhow::Result<Counts> {
    together(SUBSCRIBERS, |number| subscriber(target.clone(), number, until)).await
}

async fn subscriber(target: Target, number: usize, until: Instant) -> Counts {
    let mut counts = Counts::new();
    while let Some(mut stream) = upgraded(&target, number, until, &mut counts).await {
        if stream.write_all(&frame(TEXT, EVERYTHING)).await.is_ok() {
            count(&mut counts, "subscriptions", 1);
        }
        // Whether the node still holds the connection shows in a write; what it sent stays unread.
        while Instant::now() < until {
            sleep(Duration::from_millis(500)).await;
            if stream.write_all(&frame(PING, b"")).await.is_err() {
                count(&mut counts, "cut", 1);
                break;
            }
        }
    }
    counts
}

/// A connection that speaks WebSocket; `None` when the flood is over.
async fn upgraded(target: &Target, number: usize, until: Instant, counts: &mut Counts) -> Option<TcpStream> {
    let request = "GET / HTTP/1.1\r\nhost: node\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    loop {
        let mut stream = connected(target, number, until, counts).await?;
        let mut answer = Vec::new();
        let upgrading = async {
            stream.write_all(request.as_bytes()).await?;
            while !answer.ends_with(b"\r\n\r\n") {
                answer.push(stream.read_u8().await?);
            }
            Ok::<_, std::io::Error>(())
        };
        if matches!(timeout(UPGRADE, upgrading).await, Ok(Ok(()))) && answer.starts_with(b"HTTP/1.1 101") {
            return Some(stream);
        }
        count(counts, "not upgraded", 1);
        sleep(Duration::from_millis(100)).await;
    }
}

/// One frame of a client: final, masked with zeros.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80 | kind];
    match u8::try_from(payload.len()) {
        Ok(length @ 0..=125) => bytes.push(0x80 | length),
        _ => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(payload);
    bytes
}
