//! When a round set and its certificate prove a decision.

use weal_proto::Decided;

use super::check::check;
use crate::rules::certificate;
use crate::rules::chain::Chain;
use crate::rules::invalid::Invalid;
use crate::rules::recovery;
use crate::rules::signatures::Signatures;
use crate::rules::verified::Verified;

/// Verifies the decision of the chain's next round in full: the set, and the voters' signatures
/// over it.
///
/// # Errors
/// The first rule that the decision breaks.
pub(crate) fn verify(
    chain: &Chain,
    decided: Decided,
    signatures: &mut Signatures,
) -> Result<Verified, Invalid> {
    let Decided { value, certificate } = &decided;
    let hash = value.hash();
    if certificate.round != value.round || certificate.value != hash {
        return Err(Invalid::CertificateValue);
    }
    if !value.gone.is_empty() {
        recovery::check(chain, &decided, signatures)?;
        return Ok(Verified::after_checks(decided, hash));
    }
    check(chain, value, signatures)?;
    certificate::check(certificate, chain.ledger().roster(), signatures)?;
    Ok(Verified::after_checks(decided, hash))
}
