//! Fetches a blob from several peers at once: the outline from the first holder that has it, then
//! the chunks from all holders.
//!
//! Every holder is asked for the outline, because a caller may name peers that only might have the
//! blob. Then each holder has a few *lanes*. A lane is a loop: wait until a chunk is wanted,
//! request it, verify it, and copy it into the blob. Chunks are requested in random order. Near the
//! end, a late chunk is requested from a second holder. Dropping the future cancels the fetch.

mod chunks;
mod download;
mod holder;

pub(crate) use download::fetch;
