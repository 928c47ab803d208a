//! How the core's records lie in the database.

use redb::ReadableTable;
use weal_coordinator_free::Record;
use weal_proto::{
    Attestation, Closed, Commitment, Envelope, Kind, Leave, Message, Recovery, Response,
    RoundNumber,
};

use super::database::{AGREEMENT, DECIDED, GENESIS, META, OWN, Store};
use super::snapshots;
use crate::error::{Error, Result};

/// Rounds whose own messages and agreement logs are kept behind the newest decision: enough to tell
/// whether this node signed a message that comes back to it.
const KEPT_ROUNDS: u64 = 8;

/// The kinds of this node's messages that are kept.
#[derive(Clone, Copy)]
enum OwnMessage {
    Commitment = 1,
    Attestation = 2,
    Leave = 3,
    Closed = 4,
    Recovery = 5,
    InTime = 6,
}

impl Store {
    /// Stores records in one transaction: all of them are on disk when this returns, or none.
    ///
    /// # Errors
    /// When the disk cannot be written. The node must then stop: if it went on, it could contradict
    /// itself.
    pub fn persist(&self, records: &[Record]) -> Result<()> {
        self.write(|tables| {
            for record in records {
                write_record(tables, record)?;
            }
            Ok(())
        })
    }

    /// This node's commitment in a round.
    ///
    /// # Errors
    /// When the database cannot be read or is damaged.
    pub fn own_commitment(&self, round: RoundNumber) -> Result<Option<Envelope>> {
        let key = (round.0, OwnMessage::Commitment as u8);
        let bytes = self.read(|tables| {
            Ok(tables
                .open_table(OWN)?
                .get(key)?
                .map(|value| value.value().to_vec()))
        })?;
        bytes.map(|bytes| self.envelope(&bytes)).transpose()
    }

    /// What the undecided rounds left on disk: own messages, then the entries of the agreement log
    /// in the order they were written.
    ///
    /// # Errors
    /// When the database cannot be read or is damaged.
    pub fn undecided_records(&self) -> Result<Vec<Record>> {
        let round = self.decided_rounds()?;
        let (own, log) = self.read(|tables| {
            let (mut own, mut log) = (Vec::new(), Vec::new());
            for entry in tables.open_table(OWN)?.range((round, 0)..)? {
                let (key, value) = entry?;
                own.push((key.value().1, value.value().to_vec()));
            }
            for entry in tables.open_table(AGREEMENT)?.range((round, 0)..)? {
                let (key, value) = entry?;
                log.push((key.value().0, value.value().to_vec()));
            }
            Ok((own, log))
        })?;
        let mut records = Vec::new();
        for (kind, bytes) in own {
            if kind == OwnMessage::InTime as u8 {
                records.push(Record::InTime(self.envelopes(&bytes)?));
                continue;
            }
            let envelope = self.envelope(&bytes)?;
            records.push(match kind {
                kind if kind == OwnMessage::Commitment as u8 => Record::OwnCommitment(envelope),
                kind if kind == OwnMessage::Attestation as u8 => Record::OwnAttestation(envelope),
                kind if kind == OwnMessage::Closed as u8 => Record::OwnClosed(envelope),
                kind if kind == OwnMessage::Recovery as u8 => Record::OwnRecovery(envelope),
                _ => Record::OwnLeave(envelope),
            });
        }
        records.extend(log.into_iter().map(|(round, bytes)| Record::AgreementLog {
            round: RoundNumber(round),
            bytes,
        }));
        Ok(records)
    }

    /// Several messages lie in the database as the answer that would send them.
    fn envelopes(&self, bytes: &[u8]) -> Result<Vec<Envelope>> {
        match Response::decode(bytes) {
            Ok(Response::RoundMessages(envelopes)) => Ok(envelopes),
            Ok(_) => Err(Error::corrupt(self.path(), "another answer")),
            Err(why) => Err(Error::corrupt(self.path(), why)),
        }
    }

    fn envelope(&self, bytes: &[u8]) -> Result<Envelope> {
        Envelope::decode(bytes).map_err(|why| Error::corrupt(self.path(), why))
    }
}

fn write_record(tables: &redb::WriteTransaction, record: &Record) -> Result<(), redb::Error> {
    let own = |kind: OwnMessage, envelope: &Envelope, round: u64| -> Result<(), redb::Error> {
        tables
            .open_table(OWN)?
            .insert((round, kind as u8), envelope.encode().as_slice())?;
        Ok(())
    };
    match record {
        Record::OwnCommitment(envelope) => {
            own(OwnMessage::Commitment, envelope, round_of(envelope))
        }
        Record::OwnAttestation(envelope) => {
            own(OwnMessage::Attestation, envelope, round_of(envelope))
        }
        Record::InTime(envelopes) => {
            let round = envelopes.first().map_or(u64::MAX, round_of);
            let bytes = Response::RoundMessages(envelopes.clone()).encode();
            tables
                .open_table(OWN)?
                .insert((round, OwnMessage::InTime as u8), bytes.as_slice())?;
            Ok(())
        }
        Record::OwnClosed(envelope) => own(OwnMessage::Closed, envelope, round_of(envelope)),
        Record::OwnRecovery(envelope) => own(OwnMessage::Recovery, envelope, round_of(envelope)),
        Record::OwnLeave(envelope) => own(OwnMessage::Leave, envelope, round_of(envelope)),
        Record::AgreementLog { round, bytes } => {
            let mut table = tables.open_table(AGREEMENT)?;
            let next = table
                .range((round.0, 0)..=(round.0, u64::MAX))?
                .next_back()
                .transpose()?;
            let sequence = next.map_or(0, |(key, _)| key.value().1 + 1);
            table.insert((round.0, sequence), bytes.as_slice())?;
            Ok(())
        }
        Record::Snapshot(snapshot) => snapshots::write(tables, snapshot),
        Record::Decided(decided) => {
            let round = decided.value.round.0;
            tables
                .open_table(DECIDED)?
                .insert(round, decided.encode().as_slice())?;
            tables.open_table(META)?.remove(GENESIS)?;
            // The log of this round stays: it is replayed if the node crashes now.
            let oldest = round.saturating_sub(KEPT_ROUNDS);
            tables
                .open_table(OWN)?
                .retain_in(..(oldest, 0), |_, _| false)?;
            tables
                .open_table(AGREEMENT)?
                .retain_in(..(oldest, 0), |_, _| false)?;
            Ok(())
        }
    }
}

fn round_of(envelope: &Envelope) -> u64 {
    let round = match envelope.kind {
        Kind::Commitment => envelope.open::<Commitment>().map(|c| c.round),
        Kind::Attestation => envelope.open::<Attestation>().map(|a| a.round),
        Kind::Closed => envelope.open::<Closed>().map(|c| c.round),
        Kind::Recovery => envelope.open::<Recovery>().map(|r| r.round),
        _ => envelope.open::<Leave>().map(|l| l.round),
    };
    // This node's messages always open. One that does not is filed where nothing deletes it.
    round.map_or(u64::MAX, |round| round.0)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn log(entry: u32) -> Record {
        Record::AgreementLog {
            round: RoundNumber(0),
            bytes: entry.to_le_bytes().into(),
        }
    }

    fn store(dir: &Path) -> Store {
        Store::open(&dir.join("store.redb"), [1; 32].into()).unwrap()
    }

    #[test]
    fn the_records_of_a_batch_come_back_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let before = store(dir.path());
        let records: Vec<_> = (0..200).map(log).collect();
        let (first, rest) = records.split_at(150);
        before.persist(first).unwrap();
        for record in rest {
            before.persist(std::slice::from_ref(record)).unwrap();
        }
        drop(before);
        assert_eq!(store(dir.path()).undecided_records().unwrap(), records);
    }
}
