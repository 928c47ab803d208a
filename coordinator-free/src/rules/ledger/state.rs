//! A ledger as a snapshot holds it.

use weal_proto::PeerId;
use weal_proto::snapshot::{AccountState, ChainSnapshot, StandingState, WaitingTicket};

use super::account::Account;
use super::accounts::Ledger;
use crate::rules::roster::Roster;
use crate::rules::trust::standing::Standing;

/// What each peer has earned.
pub(crate) fn account_states(ledger: &Ledger) -> Vec<AccountState> {
    ledger
        .iter()
        .map(|(peer, account)| account_state(peer, account))
        .collect()
}

/// The newcomers that wait for a place.
pub(crate) fn waiting_tickets(ledger: &Ledger) -> Vec<WaitingTicket> {
    ledger
        .tickets()
        .map(|(peer, round)| WaitingTicket { peer, round })
        .collect()
}

/// The ledger that a snapshot holds.
pub(crate) fn ledger_of(snapshot: &ChainSnapshot) -> Ledger {
    let accounts = snapshot.accounts.iter();
    let tickets = snapshot.tickets.iter();
    Ledger::of_parts(
        accounts.map(|state| (state.peer, account(state))).collect(),
        tickets.map(|ticket| (ticket.peer, ticket.round)).collect(),
        Roster::of_states(&snapshot.voters),
    )
}

fn account_state(peer: PeerId, account: &Account) -> AccountState {
    let Account {
        weight,
        contributions,
        standing,
        seen_until,
        contributed_until,
        member,
        banned,
        founder,
        priority,
        turn,
        departing,
    } = *account;
    let Standing {
        level,
        worth,
        measured,
        distance,
        missed,
    } = standing;
    AccountState {
        peer,
        weight,
        contributions,
        standing: StandingState {
            level,
            worth,
            measured,
            distance,
            missed,
        },
        seen_until,
        contributed_until,
        member,
        banned,
        founder,
        priority,
        turn,
        departing,
    }
}

fn account(state: &AccountState) -> Account {
    let StandingState {
        level,
        worth,
        measured,
        distance,
        missed,
    } = state.standing;
    Account {
        weight: state.weight,
        contributions: state.contributions,
        standing: Standing {
            level,
            worth,
            measured,
            distance,
            missed,
        },
        seen_until: state.seen_until,
        contributed_until: state.contributed_until,
        member: state.member,
        banned: state.banned,
        founder: state.founder,
        priority: state.priority,
        turn: state.turn,
        departing: state.departing,
    }
}
