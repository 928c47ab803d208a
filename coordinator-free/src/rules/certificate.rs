//! Proof that voters decided a round: precommits of more than two thirds of the weight.

use weal_proto::{Certificate, Envelope, PeerId, Vote, VoteStep};

use crate::rules::invalid::Invalid;
use crate::rules::roster::Roster;
use crate::rules::signatures::Signatures;

/// Checks a certificate against the voters of its round.
///
/// # Errors
/// When a signer is not a voter or appears twice, a signature does not verify, or the signers have
/// two thirds of the weight or less.
pub(crate) fn check(
    certificate: &Certificate,
    roster: &Roster,
    signatures: &mut Signatures,
) -> Result<(), Invalid> {
    let vote = Vote {
        round: certificate.round,
        view: certificate.view,
        step: VoteStep::Precommit,
        value: Some(certificate.value),
    };
    let run = signatures.run();
    let mut weight = 0_u128;
    let mut last: Option<PeerId> = None;
    for commit in &certificate.signatures {
        if last.is_some_and(|last| last >= commit.peer) || !roster.contains(&commit.peer) {
            return Err(Invalid::CertificateSigner(commit.peer));
        }
        last = Some(commit.peer);
        if !signatures.check(&Envelope::from_parts(
            commit.peer,
            run,
            &vote,
            commit.signature,
        )) {
            return Err(Invalid::Signature(commit.peer));
        }
        weight = weight.saturating_add(roster.weight(&commit.peer).into());
    }
    if roster.is_quorum(weight) {
        Ok(())
    } else {
        Err(Invalid::CertificateWeight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::fixtures::{key, run, signatures};
    use weal_proto::{CommitSignature, RoundNumber, RoundSetHash, View};

    fn certificate(signers: &[u8]) -> Certificate {
        let value = RoundSetHash::from([5; 32]);
        let vote = Vote {
            round: RoundNumber(2),
            view: View(1),
            step: VoteStep::Precommit,
            value: Some(value),
        };
        let mut commits: Vec<_> = signers
            .iter()
            .map(|n| CommitSignature {
                peer: key(*n).peer(),
                signature: Envelope::sign(&key(*n), run(), &vote).signature,
            })
            .collect();
        commits.sort_by_key(|commit| commit.peer);
        Certificate {
            round: RoundNumber(2),
            view: View(1),
            value,
            signatures: commits,
        }
    }

    fn roster() -> Roster {
        Roster::new((1..=4).map(|n| (key(n).peer(), 1)))
    }

    #[test]
    fn three_of_four_certify_and_two_do_not() {
        assert_eq!(
            check(&certificate(&[1, 2, 4]), &roster(), &mut signatures()),
            Ok(())
        );
        let two = check(&certificate(&[1, 2]), &roster(), &mut signatures());
        assert_eq!(two, Err(Invalid::CertificateWeight));
    }

    #[test]
    fn strangers_repeated_signers_and_changed_values_are_refused() {
        let stranger = check(&certificate(&[1, 2, 3, 9]), &roster(), &mut signatures());
        assert_eq!(stranger, Err(Invalid::CertificateSigner(key(9).peer())));
        let twice = check(&certificate(&[1, 1, 2, 3]), &roster(), &mut signatures());
        assert_eq!(twice, Err(Invalid::CertificateSigner(key(1).peer())));
        let mut changed = certificate(&[1, 2, 3]);
        changed.view = View(2);
        assert!(matches!(
            check(&changed, &roster(), &mut signatures()),
            Err(Invalid::Signature(_))
        ));
    }
}
