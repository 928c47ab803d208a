//! Who may use how much of something: a peer its share, the strangers of an address block theirs,
//! and all strangers together no more than theirs, however many keys they have.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Instant;

use libp2p::PeerId;

use crate::limits::{REMEMBERED, Rate, Shares};
use crate::members::Standing;
use crate::origin::Origin;
use crate::token_bucket::TokenBucket;

/// Who uses something.
#[derive(Debug, Clone, Copy)]
pub(crate) struct User {
    pub peer: PeerId,
    pub origin: Origin,
    pub standing: Standing,
}

/// What is left of the shares in one thing.
#[derive(Debug)]
pub(crate) struct Quota {
    peers: Buckets<PeerId>,
    blocks: Buckets<Origin>,
    strangers: TokenBucket,
}

impl Quota {
    /// Full shares.
    pub(crate) fn new(shares: Shares, now: Instant) -> Self {
        Self {
            peers: Buckets::new(shares.peer),
            blocks: Buckets::new(shares.block),
            strangers: full(shares.strangers, now),
        }
    }

    /// Uses one. Returns `false` if a share is used up.
    pub(crate) fn take(&mut self, user: &User, now: Instant) -> bool {
        let is_left = self.is_left(user, now);
        if is_left {
            self.spend(user, 1.0, now);
        }
        is_left
    }

    /// Whether something is left for this user.
    pub(crate) fn is_left(&mut self, user: &User, now: Instant) -> bool {
        self.peers.bucket(user.peer, now).has_one(now)
            && match user.standing {
                Standing::Member => true,
                Standing::Stranger => {
                    self.strangers.has_one(now)
                        && (!user.origin.is_internet()
                            || self.blocks.bucket(user.origin, now).has_one(now))
                }
            }
    }

    /// Uses an amount that was not known before.
    pub(crate) fn spend(&mut self, user: &User, amount: f64, now: Instant) {
        self.peers.bucket(user.peer, now).spend(amount, now);
        if user.standing == Standing::Stranger {
            self.strangers.spend(amount, now);
            if user.origin.is_internet() {
                self.blocks.bucket(user.origin, now).spend(amount, now);
            }
        }
    }
}

/// A bucket for each of many.
#[derive(Debug)]
pub(crate) struct Buckets<K> {
    rate: Rate,
    buckets: HashMap<K, TokenBucket>,
}

impl<K: Copy + Eq + Hash> Buckets<K> {
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            rate,
            buckets: HashMap::new(),
        }
    }

    /// The bucket of one. Those that are full again are forgotten when there are too many; if none
    /// is, all are.
    pub(crate) fn bucket(&mut self, of: K, now: Instant) -> &mut TokenBucket {
        if self.buckets.len() >= REMEMBERED && !self.buckets.contains_key(&of) {
            self.buckets.retain(|_, bucket| !bucket.is_full(now));
            if self.buckets.len() >= REMEMBERED {
                self.buckets.clear();
            }
        }
        let rate = self.rate;
        self.buckets.entry(of).or_insert_with(|| full(rate, now))
    }
}

fn full(rate: Rate, now: Instant) -> TokenBucket {
    TokenBucket::full(rate.at_once, rate.per_second, now)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SHARES: Shares = Shares {
        peer: Rate {
            at_once: 10.0,
            per_second: 1.0,
        },
        block: Rate {
            at_once: 20.0,
            per_second: 1.0,
        },
        strangers: Rate {
            at_once: 50.0,
            per_second: 1.0,
        },
    };

    /// How often peers that each have a new key get something.
    fn taken(quota: &mut Quota, address: &str, standing: Standing, now: Instant) -> usize {
        let origin = Origin::of(&address.parse().unwrap());
        let users = std::iter::repeat_with(|| User {
            peer: PeerId::random(),
            origin,
            standing,
        });
        users
            .take(100)
            .map(|user| (0..100).filter(|_| quota.take(&user, now)).count())
            .sum()
    }

    #[test]
    fn new_keys_give_a_block_no_more_and_new_blocks_take_nothing_from_members() {
        let now = Instant::now();
        let mut quota = Quota::new(SHARES, now);
        let first = taken(&mut quota, "/ip4/8.8.8.1/tcp/1", Standing::Stranger, now);
        let second = taken(&mut quota, "/ip4/8.8.9.1/tcp/1", Standing::Stranger, now);
        let third = taken(&mut quota, "/ip4/8.8.7.1/tcp/1", Standing::Stranger, now);
        assert_eq!([first, second, third], [20, 20, 10]);
        let member = taken(&mut quota, "/ip4/8.8.8.1/tcp/1", Standing::Member, now);
        assert_eq!(member, 1000);
        let later = now + Duration::from_secs(5);
        let again = taken(&mut quota, "/ip4/8.8.8.1/tcp/1", Standing::Stranger, later);
        assert_eq!(again, 5);
    }

    #[test]
    fn the_memory_for_shares_is_bounded() {
        let now = Instant::now();
        let mut quota = Quota::new(SHARES, now);
        for _ in 0..3 * REMEMBERED {
            let user = User {
                peer: PeerId::random(),
                origin: Origin::Relayed,
                standing: Standing::Member,
            };
            quota.take(&user, now);
        }
        assert!(quota.peers.buckets.len() <= REMEMBERED);
    }
}
