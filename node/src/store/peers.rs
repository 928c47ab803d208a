//! Where peers were reached, for the next start.
//!
//! The table is keyed by peer, and small. Whoever was reached lately stays: a stranger that
//! connects under ever new keys fills what is empty, and replaces what nobody has reached for a
//! day.

use std::collections::BTreeMap;

use redb::{ReadableTable, TableDefinition};
use weal_proto::PeerId;

use super::database::Store;
use crate::error::Result;

const PEERS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("peers by key");
const LINK_PEERS: TableDefinition<&str, ()> = TableDefinition::new("peers of links");

/// Limit on peers.
const KEPT_PEERS: usize = 256;
/// Limit on the addresses of a peer.
const KEPT_ADDRESSES: usize = 3;
/// Limit on the addresses that came with run links.
const KEPT_LINK_PEERS: usize = 32;
/// Time after which a peer that was not reached again makes room for others, in seconds.
const STALE_AFTER: u64 = 24 * 60 * 60;

/// A peer that was reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetPeer {
    /// Where, the newest first. Empty if it is still connected where it was.
    pub addresses: Vec<String>,
    /// When it was last known to be connected, in seconds since 1970.
    pub unix_seconds: u64,
    /// Whether it is a member of the run.
    pub member: bool,
}

impl MetPeer {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = self.unix_seconds.to_be_bytes().to_vec();
        bytes.push(u8::from(self.member));
        bytes.extend(self.addresses.join("\n").as_bytes());
        bytes
    }

    /// What lies in the table; a damaged entry is one that was never reached.
    fn decode(bytes: &[u8]) -> Self {
        let Some((seconds, rest)) = bytes.split_first_chunk::<8>() else {
            return Self::default();
        };
        let (member, addresses) = rest.split_first().unwrap_or((&0, &[]));
        let addresses = String::from_utf8_lossy(addresses);
        Self {
            addresses: addresses.lines().map(ToOwned::to_owned).collect(),
            unix_seconds: u64::from_be_bytes(*seconds),
            member: *member != 0,
        }
    }

    fn update(&mut self, newer: &Self) {
        self.unix_seconds = self.unix_seconds.max(newer.unix_seconds);
        self.member = newer.member;
        let mut addresses = newer.addresses.clone();
        addresses.append(&mut self.addresses);
        let mut seen = std::collections::BTreeSet::new();
        addresses.retain(|address| seen.insert(address.clone()));
        addresses.truncate(KEPT_ADDRESSES);
        self.addresses = addresses;
    }
}

/// Puts peers that were met into those that are known.
fn merge(known: &mut BTreeMap<PeerId, MetPeer>, met: &BTreeMap<PeerId, MetPeer>) {
    for (peer, met) in met {
        if let Some(known) = known.get_mut(peer) {
            known.update(met);
        } else if !met.addresses.is_empty() && make_room(known, met) {
            known.insert(*peer, met.clone());
        }
    }
}

/// Makes room for one more peer, if it may replace one.
fn make_room(known: &mut BTreeMap<PeerId, MetPeer>, newcomer: &MetPeer) -> bool {
    if known.len() < KEPT_PEERS {
        return true;
    }
    let is_stale =
        |peer: &MetPeer| peer.unix_seconds.saturating_add(STALE_AFTER) < newcomer.unix_seconds;
    let replaceable = known
        .iter()
        .filter(|(_, peer)| is_stale(peer) || (newcomer.member && !peer.member))
        .min_by_key(|(_, peer)| (peer.member, peer.unix_seconds))
        .map(|(peer, _)| *peer);
    replaceable.is_some_and(|peer| known.remove(&peer).is_some())
}

impl Store {
    pub(super) fn make_peer_tables(
        tables: &redb::WriteTransaction,
    ) -> std::result::Result<(), redb::Error> {
        tables.open_table(PEERS)?;
        tables.open_table(LINK_PEERS)?;
        Ok(())
    }

    /// Remembers where peers were reached and when, for the next start.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn remember_peers(&self, met: &BTreeMap<PeerId, MetPeer>) -> Result<()> {
        if met.is_empty() {
            return Ok(());
        }
        self.write(|tables| save(tables, met))
    }

    /// The same for peers that are worth no sync of the disk: strangers decide how often they come.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn note_peers(&self, met: &BTreeMap<PeerId, MetPeer>) -> Result<()> {
        if met.is_empty() {
            return Ok(());
        }
        self.write_without_sync(|tables| save(tables, met))
    }

    /// Addresses at which peers were reached: those of members first, the newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn known_peers(&self) -> Result<Vec<String>> {
        let known = self.read(|tables| read(&tables.open_table(PEERS)?))?;
        let mut known: Vec<_> = known.into_values().collect();
        known.sort_by_key(|peer| std::cmp::Reverse((peer.member, peer.unix_seconds)));
        Ok(known.into_iter().flat_map(|peer| peer.addresses).collect())
    }

    /// Remembers the addresses in a run link. They are called for ever, like those in the settings.
    /// Addresses of earlier links are kept while there is room.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn remember_link(&self, addresses: &[String]) -> Result<()> {
        self.write(|tables| {
            let mut table = tables.open_table(LINK_PEERS)?;
            let mut earlier = Vec::new();
            for entry in table.iter()? {
                earlier.push(entry?.0.value().to_owned());
            }
            earlier.retain(|address| !addresses.contains(address));
            let new = addresses.len().min(KEPT_LINK_PEERS);
            for address in earlier.iter().skip(KEPT_LINK_PEERS - new) {
                table.remove(address.as_str())?;
            }
            for address in addresses.iter().take(new) {
                table.insert(address.as_str(), ())?;
            }
            Ok(())
        })
    }

    /// The addresses in the links by which this node joined.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn link_peers(&self) -> Result<Vec<String>> {
        self.read(|tables| {
            let table = tables.open_table(LINK_PEERS)?;
            let entries = table.iter()?;
            entries
                .map(|entry| Ok(entry?.0.value().to_owned()))
                .collect()
        })
    }
}

fn save(
    tables: &redb::WriteTransaction,
    met: &BTreeMap<PeerId, MetPeer>,
) -> std::result::Result<(), redb::Error> {
    let mut table = tables.open_table(PEERS)?;
    let mut known = read(&table)?;
    let before = known.clone();
    merge(&mut known, met);
    for peer in before.keys().filter(|peer| !known.contains_key(*peer)) {
        table.remove(peer.as_bytes().as_slice())?;
    }
    for (peer, now) in &known {
        if before.get(peer) != Some(now) {
            table.insert(peer.as_bytes().as_slice(), now.encode().as_slice())?;
        }
    }
    Ok(())
}

fn read(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
) -> std::result::Result<BTreeMap<PeerId, MetPeer>, redb::Error> {
    let mut known = BTreeMap::new();
    for entry in table.iter()? {
        let (peer, met) = entry?;
        if let Ok(peer) = <[u8; 32]>::try_from(peer.value()) {
            known.insert(peer.into(), MetPeer::decode(met.value()));
        }
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn store(dir: &std::path::Path) -> Store {
        Store::open(&dir.join("store.redb"), [1; 32].into()).unwrap()
    }

    fn key(number: usize) -> PeerId {
        (*blake3::hash(&number.to_le_bytes()).as_bytes()).into()
    }

    fn met(address: &str, unix_seconds: u64, member: bool) -> MetPeer {
        MetPeer {
            addresses: vec![address.into()],
            unix_seconds,
            member,
        }
    }

    fn strangers(unix_seconds: u64) -> BTreeMap<PeerId, MetPeer> {
        let one = |number| {
            (
                key(number),
                met(&format!("stranger {number}"), unix_seconds, false),
            )
        };
        (0..2 * KEPT_PEERS).map(one).collect()
    }

    #[test]
    fn strangers_do_not_evict_peers_that_were_reached_lately() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let good = [
            (key(1000), met("friend", NOW, false)),
            (key(1001), met("member", NOW, true)),
        ];
        store.remember_peers(&good.into()).unwrap();
        store.remember_peers(&strangers(NOW + STALE_AFTER)).unwrap();
        let known = store.known_peers().unwrap();
        assert_eq!(known.len(), KEPT_PEERS);
        assert_eq!(known[0], "member", "members come first");
        assert!(known.contains(&"friend".into()));
        // A member finds room all the same.
        let late = BTreeMap::from([(key(1002), met("late", NOW + STALE_AFTER, true))]);
        store.remember_peers(&late).unwrap();
        assert_eq!(store.known_peers().unwrap()[0], "late");
        assert_eq!(store.known_peers().unwrap().len(), KEPT_PEERS);
    }

    #[test]
    fn a_peer_that_stays_connected_stays_known() {
        let mut known = BTreeMap::from([(key(1000), met("friend", NOW, false))]);
        let month = NOW + 30 * STALE_AFTER;
        let still_here = MetPeer {
            unix_seconds: month,
            ..MetPeer::default()
        };
        merge(&mut known, &[(key(1000), still_here.clone())].into());
        merge(&mut known, &strangers(month + 1));
        assert_eq!(known[&key(1000)].addresses, ["friend"]);
        // One that was never met has no address to keep.
        merge(&mut known, &[(key(1001), still_here)].into());
        assert!(!known.contains_key(&key(1001)));
    }

    #[test]
    fn a_peer_keeps_its_newest_addresses() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        for (second, address) in ["a", "b", "a", "c", "d"].into_iter().enumerate() {
            let met = met(address, NOW + second as u64, false);
            store.remember_peers(&[(key(1), met)].into()).unwrap();
        }
        assert_eq!(store.known_peers().unwrap(), ["d", "c", "a"]);
    }

    #[test]
    fn strangers_are_known_at_once_and_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let first = store(dir.path());
        first
            .note_peers(&[(key(1), met("stranger", NOW, false))].into())
            .unwrap();
        assert_eq!(first.known_peers().unwrap(), ["stranger"]);
        drop(first);
        assert_eq!(store(dir.path()).known_peers().unwrap(), ["stranger"]);
    }

    #[test]
    fn the_addresses_of_links_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let link = |of: usize| -> Vec<String> { (0..20).map(|n| format!("{of} {n}")).collect() };
        store.remember_link(&link(1)).unwrap();
        store.remember_link(&link(2)).unwrap();
        let kept = store.link_peers().unwrap();
        assert_eq!(kept.len(), KEPT_LINK_PEERS);
        assert!(link(2).iter().all(|address| kept.contains(address)));
    }
}
