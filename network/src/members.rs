//! Which peers are members of the run. The node tells; the network keeps most of its places for
//! them, so that strangers cannot take all.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

use crate::identity::PeerKey;

/// Whether a peer is a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Standing {
    Member,
    Stranger,
}

/// The members, as the node last told.
#[derive(Debug, Default)]
pub(crate) struct Members(RwLock<Option<HashSet<PeerKey>>>);

impl Members {
    /// Replaces the members.
    pub(crate) fn set(&self, members: impl IntoIterator<Item = PeerKey>) {
        let members = Some(members.into_iter().collect());
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = members;
    }

    /// Whether a peer is known to be a member.
    pub(crate) fn is_member(&self, peer: &PeerKey) -> bool {
        let members = self.0.read().unwrap_or_else(PoisonError::into_inner);
        members
            .as_ref()
            .is_some_and(|members| members.contains(peer))
    }

    /// The standing of a peer. A node that knows no members yet, such as a newcomer, treats every
    /// peer as one.
    pub(crate) fn standing(&self, peer: &PeerKey) -> Standing {
        let members = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match &*members {
            Some(members) if !members.contains(peer) => Standing::Stranger,
            _ => Standing::Member,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_is_a_member_until_the_members_are_known() {
        let members = Members::default();
        assert_eq!(members.standing(&[1; 32]), Standing::Member);
        assert!(!members.is_member(&[1; 32]));
        members.set([[1; 32]]);
        assert_eq!(members.standing(&[1; 32]), Standing::Member);
        assert!(members.is_member(&[1; 32]) && !members.is_member(&[2; 32]));
        assert_eq!(members.standing(&[2; 32]), Standing::Stranger);
    }
}
