//! Every kind of broken message is refused with the right error: the node counts drops by cause.

use weal_proto::{
    Attestation, BlobHeader, Certificate, Commitment, Decided, DecodeError, Envelope, Evidence,
    Kind, Leave, Manifest, Message, Outline, PlaceSet, Proposal, Refusal, Request, Response,
    RoundNumber, RoundSet, Score, SigningKey, SlotId, Verdict, View, ViewCertificate, Vote, limits,
};
use weal_proto_seeded::{Seeded, Source};

use super::raw::Raw;

/// The first seeded value that `fits`.
fn seeded<M: Seeded>(fits: impl Fn(&M) -> bool) -> M {
    (0..).map(M::of_seed).find(fits).unwrap()
}

fn refusal<M: Message + std::fmt::Debug>(bytes: &[u8]) -> DecodeError {
    M::decode(bytes).unwrap_err()
}

fn not_canonical(message: &'static str) -> DecodeError {
    DecodeError::NotCanonical { message }
}

fn too_many(field: &'static str, limit: usize) -> DecodeError {
    DecodeError::TooMany {
        field,
        count: limit + 1,
        limit,
    }
}

fn id(byte: u8) -> [u8; 32] {
    [byte; 32]
}

fn envelope(kind: u64) -> Raw {
    Raw::new()
        .number(1, kind)
        .bytes(2, &id(1))
        .bytes(3, &id(2))
        .bytes(4, b"")
        .bytes(5, &[3; 64])
}

fn refused(slot: u64, verdict: u64) -> Raw {
    match slot {
        0 => Raw::new().number(2, verdict),
        slot => Raw::new().number(1, slot).number(2, verdict),
    }
}

fn attestation() -> Raw {
    Raw::new().number(1, 9).bytes(2, &id(1)).bytes(4, &id(2))
}

fn round_set() -> Raw {
    Raw::new()
        .number(1, 9)
        .bytes(2, &id(1))
        .bytes(3, &id(2))
        .bytes(4, &id(3))
}

#[test]
fn an_unknown_field_is_refused() {
    macro_rules! with_an_unknown_field {
        ($($name:ident: $message:ty),* $(,)?) => {$(
            for seed in 0..20 {
                let known = <$message>::of_seed(seed).encode();
                for unknown in [
                    Raw::new().then(&known).number(15, 1),
                    Raw::new().then(&known).bytes(2_000, b"?"),
                ] {
                    let error = refusal::<$message>(&unknown.done());
                    assert_eq!(error, not_canonical(<$message>::NAME), "{}", stringify!($name));
                }
            }
        )*};
    }
    super::for_every_message!(with_an_unknown_field);
}

#[test]
fn a_message_above_its_limit_is_refused_unread() {
    macro_rules! too_long {
        ($($name:ident: $message:ty),* $(,)?) => {$({
            let (message, limit) = (<$message>::NAME, <$message>::MAX_BYTES);
            let error = DecodeError::TooLong { message, bytes: limit + 1, limit };
            assert_eq!(refusal::<$message>(&vec![0xff; limit + 1]), error);
        })*};
    }
    super::for_every_message!(too_long);
}

#[test]
fn an_encoded_zero_is_not_canonical() {
    let padded = Raw::new()
        .number(1, 0)
        .bytes(2, &id(1))
        .bytes(4, &id(2))
        .done();
    assert_eq!(
        refusal::<Attestation>(&padded),
        not_canonical("attestation")
    );
    assert_eq!(refusal::<Leave>(&[8, 0]), not_canonical("leave"));
    let nil_vote = Raw::new().number(1, 9).number(3, 1).bytes(4, b"").done();
    assert_eq!(refusal::<Vote>(&nil_vote), not_canonical("vote"));
}

#[test]
fn a_number_too_large_for_its_field_is_not_canonical() {
    let view = Raw::new()
        .number(1, 9)
        .number(2, 1 << 32)
        .number(3, 1)
        .done();
    assert_eq!(refusal::<Vote>(&view), not_canonical("vote"));
    let polka = Raw::new().number(1, 9).number(3, 2).done();
    assert_eq!(
        refusal::<ViewCertificate>(&polka),
        not_canonical("view certificate")
    );
}

#[test]
fn an_error_names_the_id_of_wrong_length() {
    let wrong = |field, bytes| DecodeError::WrongLength {
        field,
        bytes,
        expected: 32,
    };
    for bytes in [0, 31, 33] {
        let id_of = vec![7; bytes];
        let attestation = Raw::new().bytes(2, &id_of).done();
        assert_eq!(
            refusal::<Attestation>(&attestation),
            wrong("Attestation.base_root", bytes)
        );
        let list = Raw::new().bytes(2, &id(1)).bytes(4, &id_of).done();
        assert_eq!(
            refusal::<Attestation>(&list),
            wrong("Attestation.list", bytes)
        );
        let tensors = Raw::new().part(5, &Raw::new().bytes(2, &id_of)).done();
        assert_eq!(
            refusal::<Response>(&tensors),
            wrong("StateTensors.tensors", bytes)
        );
        let proposal = Raw::new().number(1, 9).bytes(4, &id_of).done();
        assert_eq!(
            refusal::<Proposal>(&proposal),
            wrong("Proposal.value", bytes)
        );
        if bytes > 0 {
            let vote = Raw::new().number(3, 1).bytes(4, &id_of).done();
            assert_eq!(refusal::<Vote>(&vote), wrong("Vote.value", bytes));
        }
    }
    assert_eq!(refusal::<Commitment>(&[]), wrong("Commitment.base_root", 0));
}

#[test]
fn a_signature_of_wrong_length_is_refused() {
    let short = Raw::new()
        .number(1, 1)
        .bytes(2, &id(1))
        .bytes(3, &id(2))
        .bytes(5, &[3; 63])
        .done();
    let error = DecodeError::WrongLength {
        field: "Envelope.signature",
        bytes: 63,
        expected: 64,
    };
    assert_eq!(refusal::<Envelope>(&short), error);
    let signature = Raw::new().bytes(1, &id(1)).bytes(2, &[3; 65]);
    let certificate = Raw::new().bytes(3, &id(1)).part(4, &signature).done();
    let error = DecodeError::WrongLength {
        field: "CommitSignature.signature",
        bytes: 65,
        expected: 64,
    };
    assert_eq!(refusal::<Certificate>(&certificate), error);
}

#[test]
fn one_entry_above_the_limit_is_refused() {
    let attestation = attestation()
        .parts(5, &refused(1, 1), limits::SLOTS + 1)
        .done();
    assert_eq!(
        refusal::<Attestation>(&attestation),
        too_many("Attestation.refused", limits::SLOTS)
    );

    let sets = [
        (5, limits::CONTRIBUTIONS, "RoundSet.contributions"),
        (6, limits::VOTERS, "RoundSet.attestations"),
        (7, limits::LEAVES, "RoundSet.leaves"),
        (12, limits::LATE, "RoundSet.late"),
        (13, limits::TICKETS, "RoundSet.tickets"),
    ];
    for (field, limit, name) in sets {
        let set = round_set().parts(field, &envelope(1), limit + 1).done();
        assert_eq!(refusal::<RoundSet>(&set), too_many(name, limit));
    }
    let evidence = Raw::new().part(1, &envelope(1)).part(2, &envelope(1));
    let set = round_set().parts(8, &evidence, limits::EVIDENCE + 1).done();
    assert_eq!(
        refusal::<RoundSet>(&set),
        too_many("RoundSet.evidence", limits::EVIDENCE)
    );

    let signature = Raw::new().bytes(1, &id(1)).bytes(2, &[3; 64]);
    let certificate = Raw::new()
        .bytes(3, &id(1))
        .parts(4, &signature, limits::VOTERS + 1)
        .done();
    assert_eq!(
        refusal::<Certificate>(&certificate),
        too_many("Certificate.signatures", limits::VOTERS)
    );

    let tensors = (0..=limits::TENSORS).fold(Raw::new(), |raw, _| raw.bytes(2, &id(1)));
    let response = Raw::new().part(5, &tensors).done();
    assert_eq!(
        refusal::<Response>(&response),
        too_many("StateTensors.tensors", limits::TENSORS)
    );

    let messages = Raw::new().parts(1, &envelope(1), limits::ROUND_MESSAGES + 1);
    let response = Raw::new().part(4, &messages).done();
    assert_eq!(
        refusal::<Response>(&response),
        too_many("RoundMessages.envelopes", limits::ROUND_MESSAGES)
    );

    let decided = Raw::new().then(&Decided::of_seed(0).encode());
    let batch = Raw::new().parts(1, &decided, limits::DECIDED_BATCH + 1);
    let response = Raw::new().part(3, &batch).done();
    assert_eq!(
        refusal::<Response>(&response),
        too_many("DecidedBatch.decided", limits::DECIDED_BATCH)
    );
}

#[test]
fn an_unsorted_list_or_a_duplicate_is_refused() {
    let pair = |one, other| {
        attestation()
            .part(5, &refused(one, 1))
            .part(5, &refused(other, 1))
            .done()
    };
    let error = DecodeError::NotSorted {
        field: "Attestation.refused",
    };
    assert_eq!(refusal::<Attestation>(&pair(2, 1)), error);
    assert_eq!(refusal::<Attestation>(&pair(1, 1)), error);
    assert!(Attestation::decode(&pair(1, 2)).is_ok());

    let mut set = seeded(|set: &RoundSet| set.attestations.len() > 1);
    set.attestations.reverse();
    assert_eq!(
        refusal::<RoundSet>(&set.encode()),
        DecodeError::NotSorted {
            field: "RoundSet.attestations"
        }
    );
    let mut set = seeded(|set: &RoundSet| set.evidence.len() > 1);
    set.evidence.reverse();
    assert_eq!(
        refusal::<RoundSet>(&set.encode()),
        DecodeError::NotSorted {
            field: "RoundSet.evidence"
        }
    );
    let mut certificate = seeded(|certificate: &Certificate| !certificate.signatures.is_empty());
    certificate
        .signatures
        .push(certificate.signatures[0].clone());
    let error = DecodeError::NotSorted {
        field: "Certificate.signatures",
    };
    assert_eq!(refusal::<Certificate>(&certificate.encode()), error);
    let mut certificate = seeded(|certificate: &ViewCertificate| certificate.signatures.len() > 1);
    certificate.signatures.reverse();
    let error = DecodeError::NotSorted {
        field: "ViewCertificate.signatures",
    };
    assert_eq!(refusal::<ViewCertificate>(&certificate.encode()), error);
}

#[test]
fn a_number_without_a_meaning_is_refused() {
    let unknown = |field, value| DecodeError::UnknownValue { field, value };
    for kind in [0, 10, u64::from(u32::MAX)] {
        assert_eq!(
            refusal::<Envelope>(&envelope(kind).done()),
            unknown("Envelope.kind", kind as i64)
        );
    }
    let found = |raw: Raw| refusal::<Attestation>(&raw.done());
    assert_eq!(
        found(attestation().part(5, &refused(1, 99))),
        unknown("Refusal.verdict", 99)
    );
    assert_eq!(
        found(attestation().part(5, &refused(256, 1))),
        unknown("Refusal.slot", 256)
    );
    // A place that is valid and refused, and one that is refused for being valid.
    let contradictory = Raw::new()
        .number(1, 9)
        .bytes(2, &id(1))
        .bytes(3, &[2])
        .bytes(4, &id(2))
        .part(5, &refused(1, 3));
    assert_eq!(found(contradictory), unknown("Attestation.refused", 3));
    let valid = Raw::new().number(1, 1);
    assert_eq!(
        found(attestation().part(5, &valid)),
        unknown("Attestation.refused", 0)
    );
    assert_eq!(
        refusal::<Vote>(&Raw::new().number(1, 9).done()),
        unknown("Vote.step", 0)
    );
    assert_eq!(
        refusal::<Vote>(&Raw::new().number(3, 3).done()),
        unknown("Vote.step", 3)
    );
}

#[test]
fn a_proof_of_lock_must_be_of_an_earlier_view() {
    let mut proposal = seeded(|proposal: &Proposal| proposal.view.0 < u32::MAX);
    proposal.proof_of_lock = Some(proposal.view);
    let value = i64::from(proposal.view.0) + 1;
    let field = "Proposal.proof_of_lock_view_plus_one";
    assert_eq!(
        refusal::<Proposal>(&proposal.encode()),
        DecodeError::UnknownValue { field, value }
    );
    proposal.view = View(proposal.view.0 + 1);
    assert_eq!(Proposal::decode(&proposal.encode()), Ok(proposal));
}

#[test]
fn an_error_names_the_missing_part() {
    let missing = |field| DecodeError::Missing { field };
    assert_eq!(refusal::<Request>(&[]), missing("Request.what"));
    assert_eq!(refusal::<Response>(&[]), missing("Response.what"));
    assert_eq!(
        refusal::<Evidence>(&Raw::new().part(1, &envelope(1)).done()),
        missing("Evidence.second")
    );
    assert_eq!(
        refusal::<Decided>(&Raw::new().part(1, &round_set()).done()),
        missing("Decided.certificate")
    );
    let nameless = Raw::new()
        .bytes(1, b"run")
        .bytes(5, &id(1))
        .number(14, 2)
        .done();
    assert_eq!(refusal::<Manifest>(&nameless), missing("Manifest.model"));
}

#[test]
fn two_variants_in_one_message_are_refused() {
    let status = Raw::new().part(1, &Raw::new()).part(2, &Raw::new()).done();
    assert_eq!(refusal::<Request>(&status), not_canonical("request"));
    let rounds = Raw::new().part(3, &Raw::new()).part(4, &Raw::new()).done();
    assert_eq!(refusal::<Response>(&rounds), not_canonical("response"));
}

#[test]
fn the_lists_of_a_round_set_refuse_envelopes_of_another_kind() {
    let wrong = |found: Kind, expected: Kind| DecodeError::WrongKind {
        found: found as u32,
        expected: expected as u32,
    };
    let set = seeded(|set: &RoundSet| !set.contributions.is_empty() && !set.leaves.is_empty());
    let mut mixed = set.clone();
    mixed.contributions = set.leaves.clone();
    assert_eq!(
        refusal::<RoundSet>(&mixed.encode()),
        wrong(Kind::Leave, Kind::Commitment)
    );
    let mut mixed = set.clone();
    mixed.attestations = set.leaves.clone();
    assert_eq!(
        refusal::<RoundSet>(&mixed.encode()),
        wrong(Kind::Leave, Kind::Attestation)
    );
    let mut mixed = set.clone();
    mixed.leaves = set.contributions;
    assert_eq!(
        refusal::<RoundSet>(&mixed.encode()),
        wrong(Kind::Commitment, Kind::Leave)
    );
}

#[test]
fn a_payload_above_the_limit_of_its_kind_is_refused() {
    let key = SigningKey::from_seed([1; 32]);
    let mut envelope = Envelope::sign(
        &key,
        id(1).into(),
        &Leave {
            round: RoundNumber(4),
        },
    );
    envelope.payload = vec![0; Leave::MAX_BYTES + 1];
    let (bytes, limit) = (Leave::MAX_BYTES + 1, Leave::MAX_BYTES);
    let error = DecodeError::TooLong {
        message: "envelope payload",
        bytes,
        limit,
    };
    assert_eq!(refusal::<Envelope>(&envelope.encode()), error);
}

#[test]
fn a_round_set_above_its_limit_is_refused_within_a_decided_round() {
    let mut source = Source::new(1);
    let refused = (0..=255).map(|slot| Refusal {
        slot: SlotId(slot),
        verdict: Verdict::Malformed,
    });
    let scores = (0..=255).map(|slot| Score {
        slot: SlotId(slot),
        own_ppm: i32::MIN,
        held_ppm: i32::MIN,
    });
    let attestation = Attestation {
        round: RoundNumber(1),
        base_root: id(1).into(),
        valid: PlaceSet::default(),
        list: id(2).into(),
        refused: refused.collect(),
        attempt: 0,
        scores: scores.collect(),
    };
    let mut decided = Decided::of_seed(0);
    decided.value.attestations = (0..172)
        .map(|_| {
            let key = SigningKey::from_seed(source.bytes());
            Envelope::sign(&key, id(1).into(), &attestation)
        })
        .collect();
    decided
        .value
        .attestations
        .sort_by_key(|envelope| envelope.signer);
    let bytes = decided.value.encode().len();
    let error = DecodeError::TooLong {
        message: "round set",
        bytes,
        limit: limits::ROUND_SET_BYTES,
    };
    assert!(decided.encode().len() <= Decided::MAX_BYTES);
    assert_eq!(refusal::<Decided>(&decided.encode()), error);
}

#[test]
fn an_outline_refuses_partial_hashes_and_too_many() {
    let outline = |bytes: usize| Raw::new().number(1, 9).bytes(2, &vec![1; bytes]).done();
    let error = DecodeError::WrongLength {
        field: "Outline.chunk_hashes",
        bytes: 33,
        expected: 32,
    };
    assert_eq!(refusal::<Outline>(&outline(33)), error);
    let limit = limits::BLOB_CHUNKS;
    assert!(Outline::decode(&outline(32 * limit)).is_ok());
    let error = DecodeError::TooMany {
        field: "Outline.chunk_hashes",
        count: limit + 1,
        limit,
    };
    assert_eq!(refusal::<Outline>(&outline(32 * (limit + 1))), error);
}

#[test]
fn a_blob_shorter_than_its_header_is_refused() {
    let blob = BlobHeader::of_seed(0).lead(b"");
    for bytes in 0..blob.len() {
        assert!(BlobHeader::split(&blob[..bytes]).is_err(), "{bytes} bytes");
    }
    let promise = [&u32::MAX.to_le_bytes()[..], &blob[4..]].concat();
    assert!(matches!(
        BlobHeader::split(&promise),
        Err(DecodeError::Malformed { .. })
    ));
}

#[test]
fn errors_name_the_field_and_the_limit() {
    let errors = [
        refusal::<Leave>(&[0xff; 17]),
        refusal::<Leave>(&[8]),
        refusal::<Commitment>(&[]),
        refusal::<Request>(&[]),
        refusal::<Vote>(&Raw::new().number(3, 3).done()),
    ];
    let texts = errors.map(|error| error.to_string());
    assert_eq!(
        texts.each_ref().map(String::as_str),
        [
            "leave: 17 bytes exceed the limit of 16",
            "leave: malformed: ends within a number",
            "Commitment.base_root: 0 bytes instead of 32",
            "Request.what: missing",
            "Vote.step: unknown value 3",
        ]
    );
}

#[test]
fn nothing_but_a_round_set_beside_a_proposal_travels_with_an_envelope() {
    let leave = Raw::new()
        .number(1, 6)
        .bytes(2, &id(1))
        .bytes(3, &id(2))
        .bytes(5, &[3; 64])
        .bytes(6, b"x")
        .done();
    let error = DecodeError::TooLong {
        message: "what travels beside an envelope",
        bytes: 1,
        limit: 0,
    };
    assert_eq!(refusal::<Envelope>(&leave), error);
    let mut evidence = Evidence::of_seed(1);
    evidence.first = seeded(|envelope: &Envelope| envelope.kind == Kind::Proposal);
    assert!(!evidence.first.companion.is_empty());
    assert!(matches!(
        refusal::<Evidence>(&evidence.encode()),
        DecodeError::WrongLength {
            field: "Evidence.first",
            ..
        }
    ));
    let alone = evidence.first.bare();
    assert_eq!(alone.hash(), evidence.first.hash());
}
