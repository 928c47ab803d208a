//! The errors of this crate.

use thiserror::Error;

/// Why an input was refused. Arguments passed as `&mut` are unchanged after an error, except the
/// `delta` of [`crate::compress`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Error {
    /// The layout has no tensors.
    #[error("the layout has no tensors; a model needs at least one")]
    NoTensors,
    /// Two tensors share a name.
    #[error("tensor `{name}` appears twice in the layout; every tensor needs its own name")]
    DuplicateTensor {
        /// The repeated name.
        name: String,
    },
    /// A tensor has a dimension of zero.
    #[error("tensor `{name}` has a dimension of 0; leave empty tensors out of the layout")]
    EmptyTensor {
        /// The tensor's name.
        name: String,
    },
    /// The layout has more values than this machine can address.
    #[error("the layout exceeds this machine's address space at tensor `{name}`")]
    TooManyParameters {
        /// The first tensor that does not fit.
        name: String,
    },
    /// A compression setting is out of range, alone or given the others.
    #[error("compression.{setting} is {got}, but it must be {accepted}")]
    Compression {
        /// The setting's name in the manifest.
        setting: &'static str,
        /// Its value.
        got: u64,
        /// The accepted range, in words.
        accepted: &'static str,
    },
    /// A buffer does not have one value for every parameter of the layout.
    #[error("{what} has {got} values, but the layout needs {expected}")]
    Length {
        /// The buffer's name.
        what: &'static str,
        /// Values the layout needs.
        expected: usize,
        /// Values passed.
        got: usize,
    },
    /// A value to compress is NaN or infinite.
    #[error("{what} of tensor `{tensor}` is not finite at value {index}: training has diverged")]
    NotFinite {
        /// The quantity, such as `the pseudo-gradient`.
        what: &'static str,
        /// The tensor's name.
        tensor: String,
        /// The value's position in the tensor, row major.
        index: usize,
    },
    /// A device cannot compress.
    #[error("the device cannot compress: {why}")]
    Device {
        /// What the device lacks, or its error message.
        why: String,
    },
    /// The body is longer than the caller allows.
    #[error("the contribution has {got} bytes, but at most {max} are allowed")]
    BodyTooLong {
        /// The limit, in bytes.
        max: usize,
        /// The body's length, in bytes.
        got: usize,
    },
    /// The body ends before its planes do.
    #[error("the contribution ends in the middle of its {plane} plane")]
    BodyTooShort {
        /// `scale`, `sign`, `low` or `high`.
        plane: &'static str,
    },
    /// Bytes are left after the last plane.
    #[error("the contribution has {extra} bytes after its last plane")]
    TrailingBytes {
        /// Number of surplus bytes.
        extra: usize,
    },
    /// Bits that pad a plane to whole bytes are not all zero.
    #[error("the contribution has non-zero padding after its {plane} plane")]
    Padding {
        /// `scale`, `sign`, `low` or `high`.
        plane: &'static str,
    },
    /// A scale's number is not between 0 and 255.
    #[error("the contribution's scale of chunk {chunk} is out of range")]
    Scale {
        /// The chunk's number in the layout.
        chunk: usize,
    },
    /// An index points past the end of its chunk.
    #[error("the contribution has an index past the {length} values of chunk {chunk}")]
    IndexOutOfRange {
        /// The chunk's number in the layout.
        chunk: usize,
        /// Values in that chunk.
        length: usize,
    },
    /// A contribution was decoded for another layout or other compression settings.
    #[error("contribution {position} was decoded for another layout or other compression settings")]
    ForeignContribution {
        /// Its position in the list, from 0.
        position: usize,
    },
    /// A contribution counts more than once.
    #[error("contribution {position} has a coefficient above 1,000,000 parts per million")]
    Coefficient {
        /// Its position in the list, from 0.
        position: usize,
    },
    /// There are too many contributions to compare.
    #[error("{got} contributions are too many to compare")]
    TooManyToCompare {
        /// Their number.
        got: usize,
    },
    /// The outer learning rate is negative, infinite or NaN.
    #[error("the outer learning rate must be finite and at least 0")]
    OuterLearningRate,
    /// A thread does not round as IEEE 754 says, or flushes denormal numbers to zero.
    #[error(
        "a library of this process, perhaps a GPU driver, changed how the processor rounds: \
         weights that are computed so would differ from everybody else's"
    )]
    FloatMode,
    /// A tensor's number is out of range.
    #[error("tensor {tensor} does not exist; the layout has {tensors}, numbered from 0")]
    NoSuchTensor {
        /// The requested number, from 0.
        tensor: usize,
        /// Number of tensors in the layout.
        tensors: usize,
    },
    /// A state outline does not have the shape of the layout.
    #[error(
        "the state outline does not match the layout: \
         it needs one outline per tensor, with 4 bytes per value"
    )]
    StateOutline,
}
