//! Makes sure that no other machine uses this node's key.
//!
//! What two machines sign with one key contradicts itself, and the key is banned for ever. So a
//! node signs nothing before a peer has told it that the key is in use nowhere else, or before it
//! has waited in vain for a peer. The machine that began later stops.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use weal_dashboard::Level;
use weal_network::{KeyUse, OtherUse, Session};

use super::event_loop::Daemon;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::wall_clock::unix_ms;

/// The longest wait for a peer's first word.
const FIRST_WORD: Duration = Duration::from_secs(2);
/// The longest wait for an earlier process to say that it is alive. It hears of the new one through
/// a peer that both reach, after a second or so.
const SIGN_OF_LIFE: Duration = Duration::from_secs(3);

/// A new session of this node, which is noted before peers hear of it.
pub(super) fn new_session(store: &Store) -> Result<Session> {
    let id = rand::random();
    Ok(Session {
        id,
        started: unix_ms() / 1000,
        earlier: store.begin_session(id)?,
    })
}

impl Daemon {
    /// Waits until peers have said whether the key is in use elsewhere, for a few seconds at most.
    ///
    /// # Errors
    /// When another machine used it first.
    pub(super) async fn wait_for_sole_use(&mut self) -> Result<()> {
        if self.settings.network.bootstrap.is_empty() && self.store.known_peers()?.is_empty() {
            return Ok(());
        }
        let mut key_use = self.network.key_use();
        let began = Instant::now();
        let answered = |known: &KeyUse| known.answered;
        let first_word = timeout_at(began + FIRST_WORD, key_use.wait_for(answered));
        let is_ambiguous = match first_word.await {
            Ok(Ok(known)) => known.earlier_heard,
            _ => false,
        };
        if is_ambiguous {
            let alive = |known: &KeyUse| known.other.is_some();
            let _ = timeout_at(began + SIGN_OF_LIFE, key_use.wait_for(alive)).await;
        }
        self.check_sole_use()
    }

    /// Checks that the key is in use nowhere else, as far as is known.
    ///
    /// # Errors
    /// When another machine used it first.
    pub(super) fn check_sole_use(&mut self) -> Result<()> {
        let other = self.key_use.borrow_and_update().other;
        match other {
            Some(other) if other.began_first => Err(self.key_in_use(other)),
            Some(other) => {
                let text = format!(
                    "another machine has started with this node's key, {}; it must stop, and needs \
                     a key of its own: two machines with one key are banned for ever",
                    ago(other.started)
                );
                self.page.say(Level::Error, text);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn key_in_use(&self, other: OtherUse) -> Error {
        Error::folder(format!(
            "another machine takes part with this node's key; it started {}",
            ago(other.started)
        ))
        .with_hint(
            "stop one of the two: two machines with one key are banned for ever; for a second \
             machine, `weal join` the run in a new folder, which gets a key of its own",
        )
    }
}

fn ago(unix_seconds: u64) -> String {
    let seconds = (unix_ms() / 1000).saturating_sub(unix_seconds);
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        _ => format!("{} h ago", seconds / 3600),
    }
}
