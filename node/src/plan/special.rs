//! Special tokens of a manifest and of the trainer, in both directions.

use weal_proto::manifest;
use weal_trainer::SpecialTokens;

/// The trainer's special tokens of a manifest's.
pub(crate) fn special_tokens(special: &manifest::SpecialTokens) -> SpecialTokens {
    let manifest::SpecialTokens {
        bos,
        eos,
        pad,
        unk,
        adds_bos,
        adds_eos,
    } = special.clone();
    SpecialTokens {
        bos,
        eos,
        pad,
        unk,
        adds_bos,
        adds_eos,
    }
}

/// A manifest's special tokens of the trainer's.
pub(crate) fn manifest_special_tokens(special: &SpecialTokens) -> manifest::SpecialTokens {
    let SpecialTokens {
        bos,
        eos,
        pad,
        unk,
        adds_bos,
        adds_eos,
    } = special.clone();
    manifest::SpecialTokens {
        bos,
        eos,
        pad,
        unk,
        adds_bos,
        adds_eos,
    }
}
