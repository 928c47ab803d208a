//! Hedged requests: a peer that does not answer costs little time, because the next one is asked
//! meanwhile.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

/// A peer that has not answered for this long may be gone: another one is asked, too.
pub(super) const NEXT_AFTER: Duration = Duration::from_secs(2);

/// Makes one request after another, the next as soon as those before have ended without an answer
/// or `next_after` has passed. Returns the first answer; the other requests are then dropped.
pub(super) async fn first_answer<T, R>(
    requests: impl IntoIterator<Item = R>,
    next_after: Duration,
) -> Option<T>
where
    T: Send + 'static,
    R: Future<Output = Option<T>> + Send + 'static,
{
    let mut answers = JoinSet::new();
    for request in requests {
        answers.spawn(request);
        if let Ok(Some(answer)) = timeout(next_after, first_of(&mut answers)).await {
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
    use std::future::{pending, ready};
    use std::pin::Pin;

    use tokio::sync::oneshot;

    use super::*;

    type Request = Pin<Box<dyn Future<Output = Option<u32>> + Send>>;

    const SOON: Duration = Duration::from_millis(1);
    const NEVER: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn the_next_peer_is_asked_if_one_is_silent_or_has_nothing() {
        let silent: [Request; 2] = [Box::pin(pending()), Box::pin(ready(Some(7)))];
        assert_eq!(first_answer(silent, SOON).await, Some(7));
        let nothing: [Request; 2] = [Box::pin(ready(None)), Box::pin(ready(Some(7)))];
        assert_eq!(first_answer(nothing, NEVER).await, Some(7));
        let nobody: [Request; 2] = [Box::pin(ready(None)), Box::pin(ready(None))];
        assert_eq!(first_answer(nobody, NEVER).await, None);
    }

    #[tokio::test]
    async fn a_late_answer_counts() {
        let (send, answer) = oneshot::channel();
        let late: Request = Box::pin(async { answer.await.ok() });
        let silent: Request = Box::pin(async {
            let _ = send.send(7);
            pending().await
        });
        assert_eq!(first_answer([late, silent], SOON).await, Some(7));
    }
}
