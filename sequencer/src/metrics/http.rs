//! `/metrics`, `/livez` and `/readyz` over HTTP, on a port of their own: whoever scrapes cannot call, and a flood of
//! calls cannot hide a dead node.
//!
//! `/livez` fails when a restart helps: the node thread stands still, or the disk failed. `/readyz` fails while the
//! node is of no use to others: each check has a name, `?verbose` lists them, `?exclude=name` leaves one out (as
//! Kubernetes' own probes do).

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{HEARTBEAT_MAX, Metrics};
use crate::handle::NodeStatus;

/// A node that lags more blocks than this is not ready. At 5 ms per block it is a twentieth of a second.
const LAG_MAX: u64 = 10;

#[derive(Debug, Clone)]
struct Served {
    metrics: Metrics,
    status: watch::Receiver<Arc<NodeStatus>>,
}

/// One named check: `Err` says what is wrong.
type Check = (&'static str, Result<(), String>);

/// Serves until `stopped` completes.
///
/// # Errors
/// What the system said when it could not serve on the listener any more.
pub async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    status: watch::Receiver<Arc<NodeStatus>>,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(scrape))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(Served { metrics, status });
    axum::serve(listener, router).with_graceful_shutdown(stopped).await
}

async fn scrape(State(served): State<Served>) -> Response {
    let status = served.status.borrow().clone();
    let text = served.metrics.text(&status);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

async fn livez(State(served): State<Served>, RawQuery(query): RawQuery) -> Response {
    answer("livez", served.live(), query.as_deref())
}

async fn readyz(State(served): State<Served>, RawQuery(query): RawQuery) -> Response {
    answer("readyz", served.ready(), query.as_deref())
}

impl Served {
    fn live(&self) -> Vec<Check> {
        let silence = self.metrics.silence();
        let ticking = if silence <= HEARTBEAT_MAX {
            Ok(())
        } else {
            Err(format!(
                "the node thread has been silent for {} s, limit is {} s",
                silence.as_secs(),
                HEARTBEAT_MAX.as_secs()
            ))
        };
        let storage = if self.metrics.has_storage_failed() {
            Err("a write or flush failed".to_owned())
        } else {
            Ok(())
        };
        vec![("ticking", ticking), ("storage", storage)]
    }

    fn ready(&self) -> Vec<Check> {
        let status = self.status.borrow().clone();
        let node = &status.node;
        let fail_unless = |holds: bool, text: String| if holds { Ok(()) } else { Err(text) };
        let mut checks = self.live();
        let started = fail_unless(
            node.started_ms > 0,
            "the write-ahead log is not replayed yet".to_owned(),
        );
        checks.push(("started", started));
        let full = "the disk is full: the node stands still until there is space";
        checks.push(("disk", fail_unless(!status.is_disk_full(), full.to_owned())));
        let lag = format!("{} blocks behind the best peer, limit is {LAG_MAX}", node.lag);
        checks.push(("caught_up", fail_unless(node.lag <= LAG_MAX, lag)));
        let quorum = if node.validator.is_some() {
            let text = format!(
                "voting power {} is connected, {} is needed",
                node.power_connected, node.quorum
            );
            fail_unless(node.power_connected >= node.quorum, text)
        } else {
            fail_unless(node.peers > 0, "no peer is connected".to_owned())
        };
        checks.push(("quorum", quorum));
        let quarantine = node.quarantine.map_or(Ok(()), |height| {
            Err(format!("height {height} is followed without voting"))
        });
        checks.push(("quarantine", quarantine));
        checks
    }
}

/// 200 if all checks that are not excluded hold, else 503; in words for a reader.
fn answer(name: &str, checks: Vec<Check>, query: Option<&str>) -> Response {
    let parameters: Vec<(&str, &str)> = query
        .unwrap_or_default()
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .collect();
    let verbose = parameters.iter().any(|(key, _)| *key == "verbose");
    let mut text = String::new();
    let mut failed = false;
    for (check, result) in checks {
        if parameters.contains(&("exclude", check)) {
            text += &format!("[+]{check} excluded: ok\n");
            continue;
        }
        match result {
            Ok(()) => text += &format!("[+]{check} ok\n"),
            Err(what) => {
                failed = true;
                text += &format!("[-]{check} failed: {what}\n");
            }
        }
    }
    let (code, word) = if failed {
        (StatusCode::SERVICE_UNAVAILABLE, "failed")
    } else {
        (StatusCode::OK, "passed")
    };
    if verbose || failed {
        text += &format!("{name} check {word}\n");
        (code, text).into_response()
    } else {
        (code, "ok\n").into_response()
    }
}
