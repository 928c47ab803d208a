//! Hedged requests: a peer that does not answer costs little time, because the next one is asked
//! meanwhile.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

/// A peer that has not answered for this long may be gone: another one is asked, too.
const NEXT_AFTER: Duration = Duration::from_secs(2);

/// Asks one after another, the next as soon as all before have nothing or take long. Returns the
/// first answer; the other requests are then dropped.
pub(super) async fn first_answer<T, R>(requests: impl IntoIterator<Item = R>) -> Option<T>
where
    T: Send + 'static,
    R: Future<Output = Option<T>> + Send + 'static,
{
    let mut answers = JoinSet::new();
    for request in requests {
        answers.spawn(request);
        if let Ok(Some(answer)) = timeout(NEXT_AFTER, first_of(&mut answers)).await {
            return Some(answer);
        }
    }
    first_of(&mut answers).await
}

async fn first_of<T: 'static>(answers: &mut JoinSet<Option<T>>) -> Option<T> {
    while let Some(ended) = answers.join_next().await {
        if let Ok(Some(answer)) = ended {
            return Some(answer);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use tokio::time::{Instant, sleep};

    use super::*;

    type Request = Pin<Box<dyn Future<Output = Option<u32>> + Send>>;

    fn after(seconds: u64, answer: Option<u32>) -> Request {
        Box::pin(async move {
            sleep(Duration::from_secs(seconds)).await;
            answer
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_costs_two_seconds_and_one_that_has_nothing_none() {
        let began = Instant::now();
        let silent: Request = Box::pin(std::future::pending());
        let requests = [after(0, None), silent, after(1, Some(7))];
        assert_eq!(first_answer(requests).await, Some(7));
        assert_eq!(began.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_of_an_earlier_peer_counts() {
        let requests = [after(3, Some(1)), after(9, Some(2))];
        assert_eq!(first_answer(requests).await, Some(1));
        assert_eq!(first_answer([after(9, None), after(1, None)]).await, None);
    }
}
