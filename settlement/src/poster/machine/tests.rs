//! The rules of the poster one by one, on views that a test makes up.

use alloy_primitives::Bytes;

use super::*;
use crate::l1::Fees;

const GWEI: u128 = 1_000_000_000;
const DELAY_MS: u64 = 36_000;

fn job(number: u64, rank: u32) -> PostJob {
    PostJob {
        number,
        hash: B256::with_last_byte(u8::try_from(number).unwrap()),
        header: Bytes::from_static(&[1; 176]),
        certificate: Bytes::from_static(&[2; 193]),
        payload: Bytes::from_static(&[3; 100]),
        rank,
        ready_at_ms: 0,
    }
}

/// L1 as a test wants the poster to see it.
fn view(next_number: u64, nonce: u64) -> View {
    View {
        head: 100,
        next_number,
        nonce,
        finalized: None,
        fees: Fees {
            base_fee: GWEI,
            blob_base_fee: GWEI,
            tip: GWEI,
        },
        balance: U256::from(10).pow(U256::from(18)),
        fates: Vec::new(),
    }
}

fn with(mut view: View, hash: B256, fate: Fate) -> View {
    view.fates.push((hash, fate));
    view
}

/// A poster, and what it was told and said.
struct Bench {
    poster: Poster,
    now_ms: u64,
    signed: u8,
}

impl Bench {
    fn new(jobs: &[PostJob]) -> Self {
        let mut bench = Self {
            poster: Poster::new(PosterConfig::default(), &[], (0, 0)),
            now_ms: 1_000_000,
            signed: 0,
        };
        for job in jobs {
            bench.step(Input::Job(job.clone()));
        }
        bench
    }

    fn step(&mut self, input: Input) -> Vec<Output> {
        let mut outputs = self.poster.step(self.now_ms, input);
        outputs.retain(|output| !matches!(output, Output::Balance { .. }));
        outputs
    }

    fn view(&mut self, view: View) -> Vec<Output> {
        self.step(Input::View(view))
    }

    /// Shows a view on which an order is expected.
    fn ordered(&mut self, view: View) -> Order {
        match &self.view(view)[..] {
            [Output::Sign(order)] => order.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// Answers an order, and has the attempt recorded.
    fn signs(&mut self, order: &Order) -> Attempt {
        self.signed += 1;
        let attempt = Attempt {
            number: order.job.number,
            batch: order.job.hash,
            nonce: order.nonce,
            fees: order.fees,
            hash: B256::repeat_byte(self.signed),
        };
        let raw = Bytes::new();
        let outputs = self.step(Input::Signed {
            attempt,
            raw: raw.clone(),
        });
        assert_eq!(outputs, [Output::Record { attempt, raw }]);
        self.step(Input::Recorded);
        attempt
    }

    /// A batch that was signed and sent.
    fn posts(&mut self, next_number: u64, nonce: u64) -> Attempt {
        let order = self.ordered(view(next_number, nonce));
        let attempt = self.signs(&order);
        let outputs = self.view(with(view(next_number, nonce), attempt.hash, Fate::Unknown));
        assert_eq!(outputs, [Output::Send(attempt.hash)]);
        self.step(Input::Sent {
            hash: attempt.hash,
            answer: SendAnswer::Taken,
        });
        attempt
    }
}

#[test]
fn rank_zero_posts_at_once_and_sends_only_what_is_recorded() {
    let mut bench = Bench::new(&[job(0, 0)]);
    let order = bench.ordered(view(0, 5));
    assert_eq!((order.job.number, order.nonce), (0, 5));
    assert_eq!(order.fees.max_fee, 3 * GWEI);
    // Nothing more happens as long as there is no answer.
    assert_eq!(bench.view(view(0, 5)), []);
    let attempt = bench.signs(&order);
    let outputs = bench.view(with(view(0, 5), attempt.hash, Fate::Unknown));
    assert_eq!(outputs, [Output::Send(attempt.hash)]);
}

#[test]
fn a_backup_waits_its_delay_for_each_rank_from_when_the_number_is_next() {
    let mut bench = Bench::new(&[job(1, 2)]);
    assert_eq!(bench.view(view(0, 0)), []);
    bench.now_ms += 10 * DELAY_MS;
    assert_eq!(bench.view(view(1, 0)), []);
    bench.now_ms += 2 * DELAY_MS - 1;
    assert_eq!(bench.view(view(1, 0)), []);
    bench.now_ms += 1;
    bench.ordered(view(1, 0));
}

#[test]
fn what_others_posted_is_not_posted_and_not_sent() {
    let mut bench = Bench::new(&[job(0, 0)]);
    assert_eq!(bench.view(view(1, 0)), []);
    // Nor what was signed just before.
    let mut bench = Bench::new(&[job(0, 0)]);
    let order = bench.ordered(view(0, 0));
    let attempt = bench.signs(&order);
    assert_eq!(bench.view(with(view(1, 0), attempt.hash, Fate::Unknown)), []);
}

#[test]
fn a_reorged_transaction_is_sent_again_as_it_was() {
    let mut bench = Bench::new(&[job(0, 0), job(1, 0)]);
    let first = bench.posts(0, 0);
    let posted = with(view(1, 1), first.hash, Fate::Posted);
    let order = bench.ordered(posted);
    let second = bench.signs(&order);
    let gone = |hash| with(with(view(0, 0), first.hash, Fate::Unknown), hash, Fate::Unknown);
    assert_eq!(bench.view(gone(second.hash)), [Output::Send(first.hash)]);
    let first_back = with(with(view(1, 1), first.hash, Fate::Posted), second.hash, Fate::Unknown);
    assert_eq!(bench.view(first_back), [Output::Send(second.hash)]);
}

#[test]
fn nonce_too_low_signs_nothing() {
    let mut bench = Bench::new(&[job(0, 0)]);
    let attempt = bench.posts(0, 0);
    let answer = SendAnswer::NonceTooLow;
    assert_eq!(
        bench.step(Input::Sent {
            hash: attempt.hash,
            answer
        }),
        []
    );
    // The nonce is used, no receipt is there, and the inbox has not got the batch: who lies?
    let strange = || with(view(0, 1), attempt.hash, Fate::Unknown);
    assert_eq!(bench.view(strange()), []);
    assert_eq!(bench.view(strange()), []);
    assert_eq!(bench.view(strange()), [Output::Alert(Alert::ForeignNonce(0))]);
    assert_eq!(bench.view(strange()), []);
    // The receipt is there after all.
    assert_eq!(bench.view(with(view(1, 1), attempt.hash, Fate::Posted)), []);
    // Once the finalized block covers the nonce, it was somebody else's for ever.
    let mut bench = Bench::new(&[job(0, 0)]);
    bench.posts(0, 0);
    let mut finalized = view(0, 1);
    finalized.finalized = Some((0, 1));
    let outputs = bench.view(finalized);
    assert!(matches!(&outputs[..], [Output::Finalized { .. }, Output::Sign(order)] if order.nonce == 1));
}

#[test]
fn fees_rise_only_when_they_are_short_or_nothing_happens_for_long() {
    let mut bench = Bench::new(&[job(0, 0)]);
    let attempt = bench.posts(0, 0);
    let waiting = |head: u64, base_fee: u128| {
        let mut view = with(view(0, 0), attempt.hash, Fate::Pending);
        (view.head, view.fees.base_fee) = (head, base_fee);
        view
    };
    assert_eq!(bench.view(waiting(105, attempt.fees.max_fee)), []);
    let order = bench.ordered(waiting(106, GWEI));
    assert_eq!(order.nonce, attempt.nonce);
    let doubled = [attempt.fees.max_fee, attempt.fees.tip, attempt.fees.blob_fee].map(|fee| 2 * fee + 1);
    assert_eq!([order.fees.max_fee, order.fees.tip, order.fees.blob_fee], doubled);

    let mut bench = Bench::new(&[job(0, 0)]);
    let attempt = bench.posts(0, 0);
    let mut short = with(view(0, 0), attempt.hash, Fate::Pending);
    short.fees.base_fee = attempt.fees.max_fee + 1;
    assert!(bench.ordered(short).fees.max_fee > 2 * attempt.fees.max_fee + 1);
}

#[test]
fn no_post_costs_more_than_the_budget() {
    let mut bench = Bench::new(&[job(0, 0)]);
    let mut dear = view(0, 0);
    dear.fees.base_fee = 100_000 * GWEI;
    let outputs = bench.view(dear.clone());
    assert!(
        matches!(outputs[..], [Output::Alert(Alert::Budget { number: 0, .. })]),
        "{outputs:?}"
    );
    assert_eq!(bench.view(dear.clone()), []);
    bench.ordered(view(0, 0));
    // What is pending stays as it is.
    let mut bench = Bench::new(&[job(0, 0)]);
    let attempt = bench.posts(0, 0);
    let outputs = bench.view(with(dear, attempt.hash, Fate::Pending));
    assert!(
        matches!(outputs[..], [Output::Alert(Alert::Budget { .. })]),
        "{outputs:?}"
    );
}

#[test]
fn a_refused_batch_waits_for_another_of_its_number() {
    let mut bench = Bench::new(&[job(0, 0)]);
    bench.ordered(view(0, 0));
    let outputs = bench.step(Input::Refused(Refusal::Other("BadData".into())));
    assert!(
        matches!(outputs[0], Output::Alert(Alert::Refused { number: 0, .. })),
        "{outputs:?}"
    );
    assert_eq!(bench.view(view(0, 0)), []);
    let other = PostJob {
        hash: B256::repeat_byte(9),
        ..job(0, 0)
    };
    bench.step(Input::Job(other.clone()));
    assert_eq!(bench.ordered(view(0, 0)).job, other);
    // Asking the inbox costs nothing: a pause ends by itself.
    let mut bench = Bench::new(&[job(0, 0)]);
    bench.ordered(view(0, 0));
    bench.step(Input::Refused(Refusal::Other("Paused".into())));
    bench.now_ms += 60_000;
    bench.ordered(view(0, 0));
    // A gap is no failure: the next view says what is next.
    bench.step(Input::Refused(Refusal::Gap));
    bench.ordered(view(0, 0));
}

#[test]
fn a_batch_that_reverted_is_not_sent_again() {
    let mut bench = Bench::new(&[job(0, 0)]);
    let attempt = bench.posts(0, 0);
    let reverted = || with(view(0, 1), attempt.hash, Fate::Reverted(None));
    let outputs = bench.view(reverted());
    assert!(
        matches!(outputs[..], [Output::Alert(Alert::Reverted { number: 0, .. })]),
        "{outputs:?}"
    );
    assert_eq!(bench.view(reverted()), []);
    // A duplicate is done.
    assert_eq!(
        bench.view(with(view(1, 1), attempt.hash, Fate::Reverted(Some(Refusal::Posted)))),
        []
    );
    bench.step(Input::Job(job(1, 0)));
    let order = bench.ordered(with(view(1, 1), attempt.hash, Fate::Reverted(Some(Refusal::Posted))));
    assert_eq!((order.job.number, order.nonce), (1, 1));
}

#[test]
fn a_batch_that_reverted_for_the_gap_before_it_is_posted_once_that_is_closed() {
    let mut bench = Bench::new(&[job(1, 0)]);
    let attempt = bench.posts(1, 0);
    let reverted = |next_number| with(view(next_number, 1), attempt.hash, Fate::Reverted(Some(Refusal::Gap)));
    assert_eq!(bench.view(reverted(0)), []);
    let order = bench.ordered(reverted(1));
    assert_eq!((order.job.number, order.nonce), (1, 1));
}

#[test]
fn a_nonce_whose_batch_others_posted_is_used_for_the_next_batch() {
    let mut bench = Bench::new(&[job(0, 0), job(1, 0)]);
    let attempt = bench.posts(0, 0);
    let order = bench.ordered(with(view(1, 0), attempt.hash, Fate::Pending));
    assert_eq!((order.job.number, order.nonce), (1, 0));
    assert!(order.fees.tip > 2 * attempt.fees.tip);
}

#[test]
fn a_replacement_that_a_node_finds_too_small_is_made_larger() {
    let mut bench = Bench::new(&[job(0, 0)]);
    let attempt = bench.posts(0, 0);
    let answer = SendAnswer::Underpriced;
    bench.step(Input::Sent {
        hash: attempt.hash,
        answer,
    });
    let order = bench.ordered(with(view(0, 0), attempt.hash, Fate::Unknown));
    assert_eq!(order.fees.tip, 2 * attempt.fees.tip + 1);
}

#[test]
fn a_restart_goes_on_with_what_was_recorded() {
    let mut bench = Bench::new(&[job(0, 0)]);
    let attempt = bench.posts(0, 0);
    bench.poster = Poster::new(PosterConfig::default(), &[attempt], (0, 0));
    assert_eq!(bench.step(Input::Tick), [Output::Look(vec![attempt.hash])]);
    // Even before it is told again what to post.
    let outputs = bench.view(with(view(0, 0), attempt.hash, Fate::Unknown));
    assert_eq!(outputs, [Output::Send(attempt.hash)]);
}

#[test]
fn a_posted_batch_is_done_once_it_is_finalized() {
    let mut bench = Bench::new(&[job(0, 0)]);
    let attempt = bench.posts(0, 0);
    assert_eq!(bench.view(with(view(1, 1), attempt.hash, Fate::Posted)), []);
    let mut finalized = with(view(1, 1), attempt.hash, Fate::Posted);
    finalized.finalized = Some((1, 1));
    let outputs = bench.view(finalized);
    assert_eq!(outputs, [Output::Finalized { number: 1, nonce: 1 }]);
    // A view from before is not believed, and what is final stays so.
    let mut before = view(0, 0);
    before.finalized = Some((0, 0));
    assert_eq!(bench.view(before), []);
    assert_eq!(bench.step(Input::Tick), [Output::Look(Vec::new())]);
}

#[test]
fn a_look_without_an_answer_is_given_up_after_a_while() {
    let mut bench = Bench::new(&[]);
    assert_eq!(bench.step(Input::Tick), [Output::Look(Vec::new())]);
    assert_eq!(bench.step(Input::Tick), []);
    bench.now_ms += 30_000;
    assert_eq!(bench.step(Input::Tick), [Output::Look(Vec::new())]);
}

#[test]
fn what_does_not_fit_is_refused_and_a_replacement_always_fits() {
    let mut bench = Bench::new(&[]);
    for number in 0..JOBS_MAX as u64 {
        assert!(bench.poster.has_room());
        bench.step(Input::Job(job(number, 0)));
    }
    assert!(!bench.poster.has_room());
    let outputs = bench.step(Input::Job(job(JOBS_MAX as u64, 0)));
    assert!(
        matches!(outputs[..], [Output::Alert(Alert::Full { waiting: JOBS_MAX, .. })]),
        "{outputs:?}"
    );
    assert_eq!(bench.step(Input::Job(job(1, 0))), []);
}
