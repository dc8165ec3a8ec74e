//! What goes up and comes down as the body of an object, at a pace where one is given.
//!
//! Bytes move in pieces that all transfers of one direction take turns with, so that a limited transfer never fills the
//! line. Upwards a piece waits before it is handed out. Downwards the next piece is not taken before its time, and TCP
//! makes the server wait; what the system buffers for the connection, and so a small object, comes at line speed.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep_until};

use super::error::chain;
use super::pace::Pace;
use crate::buffers::Buffers;

/// A body to send, whole again with each attempt.
pub(super) fn outgoing(bytes: &Bytes, pace: Option<&Arc<Pace>>) -> ByteStream {
    let bytes = bytes.clone();
    let Some(pace) = pace.cloned() else { return ByteStream::from(bytes) };
    let body = move || SdkBody::from_body_1_x(PacedBody::new(bytes.clone(), Arc::clone(&pace)));
    ByteStream::new(SdkBody::retryable(body))
}

#[derive(Debug)]
struct PacedBody {
    pace: Arc<Pace>,
    rest: Bytes,
    /// The wait for the next piece, once that has been asked for.
    wait: Option<Pin<Box<Sleep>>>,
}

impl PacedBody {
    fn new(bytes: Bytes, pace: Arc<Pace>) -> Self {
        Self { pace, rest: bytes, wait: None }
    }
}

impl Body for PacedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Self { pace, rest, wait } = self.get_mut();
        if rest.is_empty() {
            return Poll::Ready(None);
        }
        let bytes = pace.piece().min(rest.len());
        let until = wait.get_or_insert_with(|| Box::pin(sleep_until(pace.due(bytes))));
        ready!(until.as_mut().poll(context));
        *wait = None;
        Poll::Ready(Some(Ok(Frame::data(rest.split_to(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    /// Exact: it becomes the `Content-Length`, without which S3 takes no body.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

pub(super) enum BodyError {
    TooLarge,
    Broken(String),
}

/// Objects of this size and more share buffers: packs, in practice.
const LARGE: usize = 1 << 20;

/// For three usual packs that are fetched at the same time.
pub(super) fn buffers() -> Arc<Buffers> {
    Buffers::new(LARGE, 20 * LARGE)
}

/// The whole body of an answer, at most `max_bytes` of it; a large one in one of `buffers`.
pub(super) async fn read(
    answer: GetObjectOutput,
    max_bytes: u64,
    pace: Option<&Pace>,
    buffers: &Arc<Buffers>,
) -> Result<Bytes, BodyError> {
    let announced = answer.content_length().and_then(|bytes| u64::try_from(bytes).ok());
    if announced.is_some_and(|bytes| bytes > max_bytes) {
        return Err(BodyError::TooLarge);
    }
    let capacity = announced.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0);
    let mut bytes = if capacity < LARGE { Vec::new() } else { buffers.take() };
    bytes.clear();
    bytes.reserve_exact(capacity);
    let mut body = answer.body;
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| BodyError::Broken(chain(&error)))?;
        if (bytes.len() + chunk.len()) as u64 > max_bytes {
            return Err(BodyError::TooLarge);
        }
        bytes.extend_from_slice(&chunk);
        if let Some(pace) = pace {
            pace.wait(chunk.len()).await;
        }
    }
    match announced {
        Some(announced) if announced != bytes.len() as u64 => {
            Err(BodyError::Broken(format!("{} of {announced} bytes came", bytes.len())))
        }
        _ if capacity < LARGE => Ok(bytes.into()),
        _ => Ok(buffers.share(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::num::NonZeroU64;
    use std::sync::Mutex;
    use std::time::Duration;

    use futures::future::join_all;
    use tokio::time::{Instant, advance};

    use super::*;

    const RATE: usize = 1_000_000;
    const WINDOW: Duration = Duration::from_millis(200);

    fn pace() -> Arc<Pace> {
        Arc::new(Pace::new(NonZeroU64::new(RATE as u64).expect("not zero")))
    }

    fn bytes() -> Bytes {
        Bytes::from(vec![7; 300_000])
    }

    /// What moved, and when.
    type Log = Arc<Mutex<Vec<(Instant, usize)>>>;

    async fn send(log: &Log, pace: &Arc<Pace>) {
        let mut body = PacedBody::new(bytes(), Arc::clone(pace));
        while let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            let piece = frame.into_data().expect("data");
            log.lock().expect("no panic before").push((Instant::now(), piece.len()));
        }
    }

    /// A tenth more than the rate, for the slack of timers; and a piece, for where a window happens to begin.
    fn assert_no_window_is_too_full(log: &Log) {
        let log = log.lock().expect("no panic before");
        for (begin, _) in log.iter() {
            let inside = log.iter().filter(|(at, _)| (*begin..*begin + WINDOW).contains(at));
            let bytes: usize = inside.map(|(_, bytes)| bytes).sum();
            assert!(bytes <= RATE / 5 * 11 / 10 + RATE / 50, "{bytes} bytes from {begin:?} on");
        }
    }

    fn assert_takes(began: Instant, seconds: f64) {
        let took = began.elapsed().as_secs_f64();
        assert!((took / seconds - 1.0).abs() < 0.1, "{took} instead of {seconds} seconds");
    }

    #[tokio::test(start_paused = true)]
    async fn uploads_share_one_pace_in_every_window() {
        let (log, pace, began) = (Log::default(), pace(), Instant::now());
        join_all((0..3).map(|_| send(&log, &pace))).await;
        assert_takes(began, 0.9);
        assert_no_window_is_too_full(&log);
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nothing_was_sent_is_not_made_up_for() {
        let (log, pace) = (Log::default(), pace());
        for _ in 0..2 {
            send(&log, &pace).await;
            advance(Duration::from_secs(10)).await;
        }
        assert_no_window_is_too_full(&log);
    }

    #[test]
    fn each_attempt_sends_the_whole_body_and_says_its_length() {
        let body = outgoing(&bytes(), Some(&pace())).into_inner();
        for body in [body.try_clone().expect("a second attempt"), body] {
            assert_eq!(body.content_length(), Some(300_000));
        }
    }

    /// A body of pieces of 10,000 bytes that notes when each of them was taken.
    struct Source {
        left: usize,
        log: Log,
    }

    impl Body for Source {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let Self { left, log } = self.get_mut();
            if *left == 0 {
                return Poll::Ready(None);
            }
            *left -= 1;
            log.lock().expect("no panic before").push((Instant::now(), 10_000));
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[7; 10_000])))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn downloads_are_taken_at_one_pace_in_every_window() {
        let (log, pace, began) = (Log::default(), pace(), Instant::now());
        join_all((0..3).map(|_| async {
            let source = Source { left: 30, log: Arc::clone(&log) };
            let answer = GetObjectOutput::builder().body(ByteStream::from_body_1_x(source)).build();
            let read = read(answer, u64::MAX, Some(&pace), &buffers()).await;
            assert!(read.is_ok_and(|read| read == bytes()));
        }))
        .await;
        assert_takes(began, 0.9);
        assert_no_window_is_too_full(&log);
    }
}
