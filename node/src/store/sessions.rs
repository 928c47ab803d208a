//! The sessions of this node: one for each process that took part.

use std::collections::BTreeSet;

use redb::ReadableTable;
use weal_network::SessionId;

use super::database::{META, Store};
use crate::error::Result;

const SESSIONS: &str = "sessions";
/// Sessions that are kept. Peers forget a session after a minute.
const KEPT: usize = 64;

impl Store {
    /// Notes a new session. Returns earlier ones.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub(crate) fn begin_session(&self, session: SessionId) -> Result<BTreeSet<SessionId>> {
        self.write(|tables| {
            let mut meta = tables.open_table(META)?;
            let noted = meta.get(SESSIONS)?.map(|value| value.value().to_vec());
            let noted = noted.unwrap_or_default();
            let (sessions, _) = noted.as_chunks::<16>();
            let newest = sessions.iter().rev().take(KEPT - 1).rev();
            let mut kept: Vec<SessionId> = newest.copied().collect();
            let earlier = kept.iter().copied().collect();
            kept.push(session);
            meta.insert(SESSIONS, kept.as_flattened())?;
            Ok(earlier)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_sessions_are_known_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store.redb"), [1; 32].into()).unwrap();
        for session in 0..100_u8 {
            let earlier = store.begin_session([session; 16]).unwrap();
            let first = session.saturating_sub(KEPT as u8 - 1);
            assert!(
                earlier.iter().eq((first..session)
                    .map(|id| [id; 16])
                    .collect::<Vec<_>>()
                    .iter())
            );
        }
    }
}
