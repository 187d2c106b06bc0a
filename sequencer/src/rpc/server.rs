//! Sockets: who may connect, how long they may take, and which path a connection is on.
//!
//! HTTP/1.1 alone, so that HTTP/2's floods have nothing to reach. A connection that sends nothing, reads nothing or
//! dribbles is closed, at once when others want its place; what comes from it is not read while it does not read what
//! it asked for.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use fusion_mempool::Reject;
use fusion_types::RollupId;
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Method, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use jsonrpsee::core::middleware::RpcServiceBuilder;
use jsonrpsee::server::http::response;
use jsonrpsee::server::{
    BatchRequestConfig, HttpBody, HttpRequest, HttpResponse, Methods, PingConfig, Server, ServerConfig, StopHandle,
    stop_channel,
};
use jsonrpsee::types::{ErrorObjectOwned, Id};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tower::Service;

use super::gate::Gates;
use super::{Rpc, errors, methods};

mod depth;
mod open;
mod paced;

use depth::Depth;
use open::{Open, Permit};
use paced::Paced;

/// How long connections may take to end when the node stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// After a failure to accept (too many open files, mostly) the next attempt waits this long, so that the loop does not
/// spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Items that may wait for one connection's socket, beside the one being written.
const SOCKET_ITEMS: u32 = 4;

/// How often a WebSocket is pinged. One that does not answer for [`PONG_TIMEOUT`] is closed.
const PING_INTERVAL: Duration = Duration::from_secs(15);

/// Longest silence of a WebSocket that is pinged.
const PONG_TIMEOUT: Duration = Duration::from_secs(25);

/// Longest name of a host that is repeated in an answer: that of DNS, with a port.
const HOST_BYTES_MAX: usize = 253 + 6;

/// What methods know of the connection that calls them.
#[derive(Debug)]
pub(super) struct Connection {
    /// The rollup of its path.
    pub(super) rollup: Option<RollupId>,
    /// Whether it only asks: what answers later than once needs WebSocket.
    pub(super) plain_http: bool,
    /// The name by which the caller knows this node.
    host: Option<HeaderValue>,
    /// Whose turn it is among its subscriptions to send.
    pub(super) turn: tokio::sync::Mutex<()>,
}

impl Connection {
    /// The address of the same path over WebSocket, as the caller would write it.
    pub(super) fn websocket_url(&self) -> String {
        let host = self.host.as_ref().and_then(|host| host.to_str().ok());
        // What is no host is not repeated.
        let is_host = |host: &&str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
            host.len() <= HOST_BYTES_MAX && host.bytes().all(plain)
        };
        let host = host.filter(is_host).unwrap_or("<host>");
        match self.rollup {
            Some(rollup) => format!("ws://{host}/rollup/{rollup}"),
            None => format!("ws://{host}"),
        }
    }
}

/// Accepts until `stopped` completes.
pub(super) async fn run(listener: TcpListener, rpc: &Rpc, stopped: impl Future<Output = ()>) -> std::io::Result<()> {
    let methods = Methods::from(methods::all(rpc.clone()));
    let (stop_handle, server) = stop_channel();
    let open = Open::default();
    let mut connections = JoinSet::new();
    let mut number = 0_u32;
    tokio::pin!(stopped);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stopped => break,
        };
        while connections.try_join_next().is_some() {}
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "an RPC connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        number = number.wrapping_add(1);
        let Some(permit) = open.admit(rpc, peer.ip(), number) else {
            refuse(&stream);
            continue;
        };
        let served = Served {
            rpc: rpc.clone(),
            methods: methods.clone(),
            stop: stop_handle.clone(),
            number,
            peer,
            open: open.clone(),
        };
        let task = connections.spawn(served.connection(stream, permit));
        open.is_served_by(number, task);
    }
    drop(listener);
    // Fails only if it was stopped before.
    let _ = server.stop();
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_TIMEOUT, ended).await.is_err() {
        tracing::debug!("RPC connections are cut");
    }
    Ok(())
}

/// Tells a connection that it is one too many, if its socket takes it at once.
fn refuse(stream: &TcpStream) {
    let _ = stream.try_write(b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
}

/// One accepted connection.
#[derive(Debug, Clone)]
struct Served {
    rpc: Rpc,
    methods: Methods,
    stop: StopHandle,
    number: u32,
    peer: SocketAddr,
    open: Open,
}

impl Served {
    async fn connection(self, stream: TcpStream, permit: Permit) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(peer = %self.peer, %error, "a socket option could not be set");
        }
        let stop = self.stop.clone();
        let options = self.rpc.options();
        let io = TokioIo::new(Paced::new(stream, options.write_timeout, permit));
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(options.head_timeout);
        let peer = self.peer;
        let service = hyper::service::service_fn(move |request| {
            let served = self.clone();
            async move { Ok::<_, Infallible>(served.answer(request).await) }
        });
        let connection = builder.serve_connection(io, service).with_upgrades();
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = stop.shutdown() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "an RPC connection failed");
        }
    }

    async fn answer(&self, request: hyper::Request<Incoming>) -> HttpResponse {
        self.open.has_asked(self.number);
        let options = self.rpc.options();
        let origin = request.headers().get(header::ORIGIN).cloned();
        let allowed = origin.as_ref().is_none_or(|origin| is_listed(&options.origins, origin));
        if !is_host_served(&options.hosts, request.headers()) {
            return refusal(
                StatusCode::FORBIDDEN,
                errors::method_not_found("this host name is not served"),
            );
        }
        let mut response = if *request.method() == Method::OPTIONS {
            let mut response = HttpResponse::new(HttpBody::empty());
            *response.status_mut() = if allowed {
                StatusCode::NO_CONTENT
            } else {
                StatusCode::FORBIDDEN
            };
            response
        } else if allowed {
            self.route(request).await
        } else {
            refusal(
                StatusCode::FORBIDDEN,
                errors::method_not_found("web pages of this origin are not served"),
            )
        };
        if let Some(origin) = origin.filter(|_| allowed) {
            allow_origin(response.headers_mut(), origin);
        }
        response
    }

    async fn route(&self, request: hyper::Request<Incoming>) -> HttpResponse {
        let Some(rollup) = path_rollup(request.uri().path()) else {
            let error = errors::method_not_found("the paths are / and /rollup/<id>");
            return refusal(StatusCode::NOT_FOUND, error);
        };
        if let Some(Err(error)) = rollup.map(|rollup| self.rpc.rollup(rollup)) {
            return refusal(StatusCode::NOT_FOUND, error);
        }
        let options = self.rpc.options();
        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(Arc::new(Connection {
            rollup,
            plain_http: parts.method == Method::POST,
            host: parts.headers.get(header::HOST).cloned(),
            turn: tokio::sync::Mutex::default(),
        }));
        let body = if parts.method == Method::POST {
            let read = read_body(body, options.request_bytes);
            match tokio::time::timeout(options.body_timeout, read).await {
                Ok(Ok(bytes))
                    if carries_transactions(&bytes)
                        && let Some(overload) = self.rpc.handle().room.overload(rollup) =>
                {
                    drop(bytes);
                    return self.come_later(&overload);
                }
                Ok(Ok(bytes)) => match check_id(&bytes) {
                    Ok(()) => HttpBody::from(bytes),
                    Err(error) => return refusal(StatusCode::OK, error),
                },
                Ok(Err(Body::TooLarge)) => return response::too_large(options.request_bytes),
                Ok(Err(Body::Broken)) => return response::malformed(),
                Ok(Err(Body::TooDeep)) => return refusal(StatusCode::OK, errors::too_deep(depth::DEPTH_MAX)),
                Err(_) => {
                    let error = errors::slow_body(options.body_timeout);
                    return refusal(StatusCode::REQUEST_TIMEOUT, error);
                }
            }
        } else {
            HttpBody::new(body)
        };
        let service = Server::builder()
            .set_config(config(&self.rpc))
            .set_rpc_middleware(RpcServiceBuilder::new().layer(Gates(self.rpc.clone())))
            .to_service_builder()
            // Connections are counted above; this only must not be less.
            .max_connections(u32::MAX)
            .connection_id(self.number)
            .build(self.methods.clone(), self.stop.clone())
            .call(HttpRequest::from_parts(parts, body));
        service.await.unwrap_or_else(|_| response::internal_error())
    }

    /// Refuses a whole request with transactions before it is parsed, and what stands beside them in a batch: that
    /// costs a tenth of telling each of them, and what clients do on their own when they read 503 is right. Nobody knows
    /// how many transactions it was: it counts as one.
    fn come_later(&self, overload: &Reject) -> HttpResponse {
        self.rpc.metrics().rejected(overload.name());
        self.rpc.metrics().called("unknown", overload.code(), 1);
        let mut response = refusal(StatusCode::SERVICE_UNAVAILABLE, errors::rejected(overload, None));
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        response
    }
}

/// Whether a body calls a method that submits, as far as can be seen at once: those have this in their names, and no
/// other has. Who hides it by an escape is refused later; a read that has it in its id has to come again.
fn carries_transactions(body: &[u8]) -> bool {
    memchr::memmem::find_iter(body, b"_send").any(|at| {
        let rest = &body[at + b"_send".len()..];
        rest.starts_with(b"Transaction") || rest.starts_with(b"RawTransaction")
    })
}

/// Why a body is not there.
enum Body {
    TooLarge,
    Broken,
    TooDeep,
}

/// Reads a body to its end, without the white space in front. Stops at `limit`, whatever was declared, and where it is
/// nested deeper than any call.
///
/// Not jsonrpsee's own reading, which has no deadline and takes a chunked body that is too large for a broken one.
async fn read_body(mut body: Incoming, limit: u32) -> Result<Vec<u8>, Body> {
    let limit = u64::from(limit);
    if body.size_hint().lower() > limit {
        return Err(Body::TooLarge);
    }
    let (mut bytes, mut seen, mut depth) = (Vec::new(), 0_u64, Depth::default());
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|_| Body::Broken)?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        seen = seen.saturating_add(data.len() as u64);
        if seen > limit {
            return Err(Body::TooLarge);
        }
        if !depth.is_fine_with(data) {
            return Err(Body::TooDeep);
        }
        let data: &[u8] = if bytes.is_empty() {
            data.trim_ascii_start()
        } else {
            data
        };
        bytes.extend_from_slice(data);
    }
    Ok(bytes)
}

/// Refuses an id that is no number, text or null, or that is there twice. Otherwise jsonrpsee would take the call for a
/// notification and say nothing.
fn check_id(body: &[u8]) -> Result<(), ErrorObjectOwned> {
    #[derive(serde::Deserialize)]
    struct Call {
        #[serde(default)]
        id: Option<serde_json::Value>,
    }
    if !body.starts_with(b"{") {
        return Ok(());
    }
    match serde_json::from_slice(body) {
        Ok(Call { id: Some(id) }) if !(id.is_u64() || id.is_string() || id.is_null()) => Err(errors::invalid_id()),
        Ok(_) => Ok(()),
        // Sound JSON that is no such object: the id is there twice.
        Err(error) if error.is_data() => Err(errors::invalid_id()),
        // What is no JSON at all is refused by whoever decodes it.
        Err(_) => Ok(()),
    }
}

fn config(rpc: &Rpc) -> ServerConfig {
    let options = rpc.options();
    ServerConfig::builder()
        .max_request_body_size(options.request_bytes)
        .max_response_body_size(options.response_bytes)
        .max_subscriptions_per_connection(options.subscriptions)
        .set_batch_request_config(BatchRequestConfig::Limit(options.batch_calls))
        .set_message_buffer_capacity(SOCKET_ITEMS)
        .enable_ws_ping(
            PingConfig::new()
                .ping_interval(PING_INTERVAL)
                .inactive_limit(PONG_TIMEOUT)
                .max_failures(1),
        )
        .build()
}

/// `/` is `Some(None)`, `/rollup/<id>` that rollup, everything else `None`. The id is decimal, as the genesis writes
/// it.
fn path_rollup(path: &str) -> Option<Option<RollupId>> {
    if path.is_empty() || path == "/" {
        return Some(None);
    }
    let id = path.strip_prefix("/rollup/")?;
    let id = id.strip_suffix('/').unwrap_or(id);
    let plain = id.bytes().all(|byte| byte.is_ascii_digit()) && !id.starts_with('0');
    id.parse().ok().filter(|_| plain).map(|id| Some(RollupId(id)))
}

fn is_host_served(hosts: &[String], headers: &HeaderMap) -> bool {
    if hosts.is_empty() {
        return true;
    }
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    hosts.iter().any(|served| served.eq_ignore_ascii_case(name))
}

fn is_listed(origins: &[String], origin: &HeaderValue) -> bool {
    origins
        .iter()
        .any(|listed| listed == "*" || listed.as_bytes() == origin.as_bytes())
}

fn allow_origin(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("content-type"),
    );
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
}

/// A JSON-RPC error that answers no call in particular.
fn refusal(status: StatusCode, error: ErrorObjectOwned) -> HttpResponse {
    let body = jsonrpsee::server::MethodResponse::error(Id::Null, error).into_json();
    let mut response = HttpResponse::new(HttpBody::from(String::from(Box::<str>::from(body))));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
