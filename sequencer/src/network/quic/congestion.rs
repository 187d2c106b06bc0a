//! How many bytes may be on their way to a peer: Cubic, which a few lost packets do not frighten between validators.
//!
//! Cubic takes every lost packet for a sign of a full link and sends a third less. On a long path that
//! loses one packet in a hundred by chance it ends at a handful of packets a round trip, however empty the links are,
//! and as a node mostly has nothing to send, which is no time for Cubic to grow, it stays there. Validators know each
//! other, are few and run over links made for it. So between them
//!
//! - lost bytes up to [`TOLERATED_PARTS`] of what is sent are no congestion (BBR's second version draws the line at the
//!   same two percent). A full link loses more than that at once, and then Cubic does what it does to anybody else; and
//! - the window has a floor, so that votes and an ordinary load pass whatever is lost.
//!
//! To everybody else it is Cubic. The only file that names `quinn_proto`.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use quinn_proto::RttEstimator;
use quinn_proto::congestion::{Controller, ControllerFactory, ControllerMetrics, Cubic, CubicConfig};

/// One byte in so many may be lost on the way to a validator without being taken for congestion.
const TOLERATED_PARTS: u64 = 50;

/// Most lost bytes that are tolerated at once, however much went well before: 44 packets of the usual size. One in a
/// hundred lost by chance never comes near it, the overflow of a router's buffer does in one round trip.
const TOLERATED_BYTES_MAX: u64 = 64 << 10;

/// Makes the controller of each connection.
#[derive(Debug)]
pub(super) struct Congestion {
    cubic: Arc<CubicConfig>,
}

impl Congestion {
    /// Controllers that begin with a window of `start_bytes`.
    pub(super) fn new(start_bytes: u64) -> Self {
        let mut cubic = CubicConfig::default();
        cubic.initial_window(start_bytes);
        Self { cubic: Arc::new(cubic) }
    }
}

impl ControllerFactory for Congestion {
    fn build(self: Arc<Self>, now: Instant, packet_bytes: u16) -> Box<dyn Controller> {
        Box::new(Patient {
            cubic: Cubic::new(self.cubic.clone(), now, packet_bytes),
            tolerated: TOLERATED_BYTES_MAX,
            floor: Arc::default(),
        })
    }
}

/// Gives a connection, by a copy of its controller, the patience and the floor of a validator's.
pub(super) fn trust(controller: Box<dyn Controller>, floor_bytes: u64) {
    if let Ok(patient) = controller.into_any().downcast::<Patient>() {
        patient.floor.store(floor_bytes, Ordering::Relaxed);
    }
}

/// The controller of one connection.
#[derive(Debug, Clone)]
struct Patient {
    cubic: Cubic,
    /// Bytes that may be lost yet without being taken for congestion.
    tolerated: u64,
    /// The least window; 0 while the peer is no validator. Copies share it: who the peer is shows after the handshake.
    floor: Arc<AtomicU64>,
}

impl Patient {
    fn floor(&self) -> u64 {
        self.floor.load(Ordering::Relaxed)
    }
}

impl Controller for Patient {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.tolerated = (self.tolerated + bytes / TOLERATED_PARTS).min(TOLERATED_BYTES_MAX);
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest_acked: Option<u64>) {
        self.cubic.on_end_acks(now, in_flight, app_limited, largest_acked);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, lost_bytes: u64) {
        // Without lost bytes it is the path that reports congestion.
        if self.floor() > 0 && lost_bytes > 0 && lost_bytes <= self.tolerated {
            self.tolerated -= lost_bytes;
        } else {
            self.cubic.on_congestion_event(now, sent, persistent, lost_bytes);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.cubic.window().max(self.floor())
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = self.cubic.metrics();
        metrics.congestion_window = self.window();
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const START_BYTES: u64 = 2 << 20;
    const FLOOR_BYTES: u64 = 256 << 10;
    const PACKET_BYTES: u16 = 1452;

    fn controller(floor_bytes: u64) -> Box<dyn Controller> {
        let controller = Arc::new(Congestion::new(START_BYTES)).build(Instant::now(), PACKET_BYTES);
        trust(controller.clone_box(), floor_bytes);
        controller
    }

    /// Sends `packets` a millisecond apart and loses each `one_in`th, `burst` at a time. Each event is one of its own
    /// to Cubic, as round trips apart.
    fn lose(controller: &mut dyn Controller, packets: u64, one_in: u64, burst: u64) {
        let start = Instant::now();
        for number in 1..=packets {
            let now = start + Duration::from_millis(number);
            controller.on_sent(now, PACKET_BYTES.into(), number);
            if number.is_multiple_of(one_in) {
                controller.on_congestion_event(now, now, false, burst * u64::from(PACKET_BYTES));
            }
        }
    }

    #[test]
    fn one_packet_in_a_hundred_lost_is_no_congestion_between_validators() {
        let mut patient = controller(FLOOR_BYTES);
        lose(patient.as_mut(), 100_000, 100, 1);
        assert_eq!(patient.window(), START_BYTES);
    }

    #[test]
    fn a_link_that_is_full_is_congestion_to_a_validator_too() {
        for (one_in, burst) in [(20, 1), (1000, 50)] {
            let mut patient = controller(1);
            lose(patient.as_mut(), 20_000, one_in, burst);
            assert!(patient.window() < START_BYTES / 100, "{one_in}: {}", patient.window());
        }
        let mut marked = controller(FLOOR_BYTES);
        let now = Instant::now();
        marked.on_congestion_event(now, now, false, 0);
        assert!(marked.window() < START_BYTES, "the path said so itself");
    }

    #[test]
    fn the_window_to_a_validator_keeps_its_floor_whatever_is_lost() {
        let mut patient = controller(FLOOR_BYTES);
        let now = Instant::now();
        for _ in 0..9 {
            patient.on_congestion_event(now, now, true, START_BYTES);
        }
        assert_eq!(
            (patient.window(), patient.metrics().congestion_window),
            (FLOOR_BYTES, FLOOR_BYTES)
        );
    }

    #[test]
    fn to_a_stranger_it_is_cubic() {
        let mut stranger = controller(0);
        let config = Arc::new(Congestion::new(START_BYTES)).cubic.clone();
        let mut cubic = Cubic::new(config, Instant::now(), PACKET_BYTES);
        lose(stranger.as_mut(), 5_000, 100, 1);
        lose(&mut cubic, 5_000, 100, 1);
        assert_eq!(stranger.window(), cubic.window());
        assert!(stranger.window() < FLOOR_BYTES);
    }
}
