//! What can go wrong, said so that the reader can mend it.

use thiserror::Error;

/// Everything this crate refuses. None of these leaves an output half written: what was passed
/// as `&mut` is as it was before the call, but for [`crate::compress`]'s working memory.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Error {
    /// The layout has no tensors.
    #[error("the layout has no tensors: a model needs at least one")]
    NoTensors,
    /// Two tensors share a name.
    #[error("tensor `{name}` appears twice in the layout: every tensor needs a name of its own")]
    DuplicateTensor {
        /// The name given twice.
        name: String,
    },
    /// A tensor has a dimension of zero.
    #[error("tensor `{name}` has a dimension of 0: leave tensors without values out of the layout")]
    EmptyTensor {
        /// The tensor's name.
        name: String,
    },
    /// The layout has more values than this machine can address.
    #[error("the layout outgrows this machine's memory at tensor `{name}`: use a smaller model")]
    TooManyParameters {
        /// The first tensor that no longer fits.
        name: String,
    },
    /// The compression settings contradict each other.
    #[error("compression {setting} is {got}: it must be {accepted}")]
    Compression {
        /// The setting's name in the manifest.
        setting: &'static str,
        /// What it was set to.
        got: u64,
        /// What would be accepted.
        accepted: &'static str,
    },
    /// A buffer does not have one value for every parameter of the layout.
    #[error("{what} has {got} values, but the layout has {expected}: pass buffers of one layout")]
    Length {
        /// Which buffer.
        what: &'static str,
        /// Values the layout asks for.
        expected: usize,
        /// Values passed.
        got: usize,
    },
    /// A NaN or an infinity where only finite values make sense.
    #[error(
        "{what} of tensor `{tensor}` is not finite at value {index}: \
         training has diverged, go on from the round's weights or lower the learning rate"
    )]
    NotFinite {
        /// Which quantity.
        what: &'static str,
        /// The tensor's name.
        tensor: String,
        /// The position in the tensor, row major.
        index: usize,
    },
    /// A device cannot compress.
    #[error("the device cannot compress: {why}; compress on the processor")]
    Device {
        /// What it lacks, or what it said.
        why: String,
    },
    /// The body is longer than the caller allows.
    #[error("contribution has {got} bytes, but at most {max} are allowed")]
    BodyTooLong {
        /// The limit, in bytes.
        max: usize,
        /// The body's length, in bytes.
        got: usize,
    },
    /// The body ends before its planes do.
    #[error("contribution ends in the middle of its {plane} plane")]
    BodyTooShort {
        /// `scale`, `sign`, `low` or `high`.
        plane: &'static str,
    },
    /// Bytes are left after the last plane.
    #[error("contribution has {extra} bytes after its last plane")]
    TrailingBytes {
        /// How many bytes are left over.
        extra: usize,
    },
    /// Bits that pad a plane to whole bytes are not all zero.
    #[error("contribution has set bits in the padding of its {plane} plane")]
    Padding {
        /// Which of them.
        plane: &'static str,
    },
    /// A scale's number is none from 0 to 255.
    #[error("contribution's scale of chunk {chunk} is not one of the 256 there are")]
    Scale {
        /// The chunk, counted over the whole layout.
        chunk: usize,
    },
    /// An index points past the end of its chunk.
    #[error("contribution points past the {length} values of chunk {chunk}")]
    IndexOutOfRange {
        /// The chunk, counted over the whole layout.
        chunk: usize,
        /// How many values that chunk has.
        length: usize,
    },
    /// A contribution was decoded for another layout or other compression settings.
    #[error(
        "contribution {position} was decoded for another layout or other compression settings: \
         decode it with this run's"
    )]
    ForeignContribution {
        /// Its place in the list passed, from 0.
        position: usize,
    },
    /// The outer learning rate is negative, infinite or NaN.
    #[error("the outer learning rate must be finite and at least 0")]
    OuterLearningRate,
    /// The layout has no tensor of that number.
    #[error("there is no tensor {tensor}: the layout has {tensors}")]
    NoSuchTensor {
        /// The number asked for, from 0.
        tensor: usize,
        /// How many tensors there are.
        tensors: usize,
    },
    /// A state outline does not have the shape of the layout.
    #[error(
        "the state outline does not fit the layout: it needs one outline a tensor, 4 bytes a value"
    )]
    StateOutline,
}
