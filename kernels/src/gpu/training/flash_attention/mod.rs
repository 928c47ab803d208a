//! Attention that never writes its scores to device memory (FlashAttention: Dao et al., 2022,
//! <https://arxiv.org/abs/2205.14135>; the order of its loops: Dao, 2023,
//! <https://arxiv.org/abs/2307.08691>).
//!
//! A cube (workgroup) computes one tile of the output. It goes through the keys that its queries
//! see, tile by tile, and corrects what it has summed up whenever a row's largest score grows:
//!
//! ```text
//! o = Σ exp(s − m) v / Σ exp(s − m)      log_sum = m + log Σ exp(s − m)
//! ```
//!
//! The backward pass computes the weights again, p = exp(s − log_sum), once by queries for their
//! gradient and once by keys for those of keys and values. So no two cubes add to the same value,
//! and the result does not depend on their order:
//!
//! ```text
//! δp = δo vᵗ   δs = p ∘ (δp − Σ δo ∘ o)   δq = δs k   δk = δsᵗ q   δv = pᵗ δo
//! ```

mod backward;
mod forward;
mod tiles;

use cubecl::client::Client;
use cubecl::prelude::*;

use super::launch::{UNITS, Values, count, grid};
use tiles::{MOST_WIDTH, Rows, SHARED_WORDS, TILE};

/// The shapes of causal attention, and how far a query sees.
///
/// Queries are `[sequences, heads, queries, width]`, keys and values
/// `[sequences, key_heads, keys, width]`. Key k has position k, and query q `first_query` + q; it
/// sees the keys at positions up to its own, and only the newest `window` of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FlashAttention {
    /// Sequences.
    pub sequences: usize,
    /// Heads of queries, in groups of equal size that share a head of keys.
    pub heads: usize,
    /// Heads of keys and values.
    pub key_heads: usize,
    /// Queries of a sequence.
    pub queries: usize,
    /// Keys of a sequence.
    pub keys: usize,
    /// Components of a head.
    pub width: usize,
    /// The first query's position.
    pub first_query: usize,
    /// The most keys that a query sees, its own included; `usize::MAX` for all before it.
    pub window: usize,
    /// Limits scores s smoothly, to cap · tanh(s / cap).
    pub softcap: Option<f32>,
}

/// The same for a kernel.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Sizes {
    /// Heads of queries in all sequences.
    heads: u32,
    /// Heads of queries that share a head of keys.
    group: u32,
    queries: u32,
    keys: u32,
    first_query: u32,
    window: u32,
    cap: f32,
}

impl FlashAttention {
    /// Whether the kernels can run this on the client's device.
    pub fn runs_on(&self, client: &Client) -> bool {
        let hardware = &client.properties().hardware;
        let bytes = SHARED_WORDS as usize * size_of::<f32>();
        self.width <= MOST_WIDTH as usize
            && hardware.max_shared_memory_size >= bytes
            && hardware.max_units_per_cube >= UNITS
    }

    fn sizes(&self) -> SizesLaunch {
        SizesLaunch::new(
            count(self.sequences * self.heads),
            count(self.heads / self.key_heads),
            count(self.queries),
            count(self.keys),
            count(self.first_query),
            u32::try_from(self.window).unwrap_or(u32::MAX),
            self.softcap.unwrap_or(0.0),
        )
    }

    /// Values of all queries, and of all keys.
    fn lengths(&self) -> [usize; 2] {
        [
            self.sequences * self.heads * self.queries * self.width,
            self.sequences * self.key_heads * self.keys * self.width,
        ]
    }

    /// # Panics
    /// If the shapes make no sense, or the inputs do not have them.
    fn check(&self, [queries, keys, values]: [&Values; 3]) {
        let [of_queries, of_keys] = self.lengths();
        queries.check("queries", of_queries);
        keys.check("keys", of_keys);
        values.check("values", of_keys);
        assert!(
            of_queries > 0
                && self.heads.is_multiple_of(self.key_heads)
                && self.window > 0
                && self.first_query + self.queries <= self.keys
                && self.width <= MOST_WIDTH as usize,
            "each query sees its own key, and heads are not too wide: {self:?}"
        );
    }

    /// Cubes of a kernel with one for each tile of queries.
    fn tiles_of_queries(&self) -> usize {
        self.sequences * self.heads * self.queries.div_ceil(TILE as usize)
    }

    /// The values that each query attends to, weighted, in the shape of the queries; and the
    /// logarithm of each query's sum of exponentials, `[sequences, heads, queries]`.
    ///
    /// # Panics
    /// If the inputs, queries, keys and values, do not have these shapes.
    pub fn forward(&self, client: &Client, inputs: [&Values; 3]) -> [Values; 2] {
        self.check(inputs);
        let [queries, keys, values] = inputs;
        let output = Values::empty(client, queries.length);
        let log_sums = Values::empty(client, queries.length / self.width);
        // SAFETY: the lengths were checked, and the kernel stays within them.
        #[allow(unsafe_code)]
        unsafe {
            forward::kernel::launch_unchecked(
                client,
                grid(self.tiles_of_queries()),
                CubeDim::new_1d(UNITS),
                queries.argument(),
                keys.argument(),
                values.argument(),
                output.argument(),
                log_sums.argument(),
                self.sizes(),
                count(self.width),
                self.softcap.is_some(),
            );
        }
        [output, log_sums]
    }

    /// The gradients of queries, keys and values, given that of the output, and what
    /// [`Self::forward`] returned.
    ///
    /// # Panics
    /// If a buffer does not have its shape.
    pub fn backward(
        &self,
        client: &Client,
        inputs: [&Values; 3],
        [output, log_sums]: [&Values; 2],
        above: &Values,
    ) -> [Values; 3] {
        self.check(inputs);
        let [queries, keys, values] = inputs;
        output.check("output", queries.length);
        above.check("gradients", queries.length);
        log_sums.check("sums", queries.length / self.width);
        let means = Values::empty(client, log_sums.length);
        let found = inputs.map(|input| Values::empty(client, input.length));
        let [of_queries, of_keys, of_values] = &found;
        let tiles_of_keys = self.sequences * self.key_heads * self.keys.div_ceil(TILE as usize);
        // SAFETY: the lengths were checked, and the kernels stay within them.
        #[allow(unsafe_code)]
        unsafe {
            backward::kernel_by_queries::launch_unchecked(
                client,
                grid(self.tiles_of_queries()),
                CubeDim::new_1d(UNITS),
                queries.argument(),
                keys.argument(),
                values.argument(),
                output.argument(),
                above.argument(),
                log_sums.argument(),
                means.argument(),
                of_queries.argument(),
                self.sizes(),
                count(self.width),
                self.softcap.is_some(),
            );
            backward::kernel_by_keys::launch_unchecked(
                client,
                grid(tiles_of_keys),
                CubeDim::new_1d(UNITS),
                queries.argument(),
                keys.argument(),
                values.argument(),
                above.argument(),
                log_sums.argument(),
                means.argument(),
                of_keys.argument(),
                of_values.argument(),
                self.sizes(),
                count(self.width),
                self.softcap.is_some(),
            );
        }
        found
    }
}

/// A tile of a head's queries.
#[derive(CubeType, Clone, Copy)]
struct QueryTile {
    /// Number of its first query in the head.
    first: u32,
    /// Number of that query among those of all heads.
    row: u32,
    rows: Rows,
    /// Number of the head's first key among those of all heads.
    keys: u32,
}

/// The tile of queries of this cube. The last queries see most keys, and come first.
#[cube]
fn query_tile(sizes: &Sizes, #[comptime] width: u32) -> QueryTile {
    let cube = CUBE_POS as u32;
    let tiles = sizes.queries.div_ceil(TILE);
    let first = (tiles - 1u32 - cube / sizes.heads) * TILE;
    let head = cube % sizes.heads;
    let row = head * sizes.queries + first;
    QueryTile {
        first,
        row,
        rows: Rows {
            first: row * width,
            count: min(sizes.queries - first, TILE),
        },
        keys: head / sizes.group * sizes.keys,
    }
}

/// A query's position relative to a key: whether it sees it.
#[cube]
fn sees(query: u32, key: u32, sizes: &Sizes) -> bool {
    let position = sizes.first_query + query;
    key <= position && position - key < sizes.window && key < sizes.keys
}

/// The score below its cap.
#[cube]
fn capped(score: f32, cap: f32, #[comptime] has_cap: bool) -> f32 {
    if comptime!(has_cap) {
        // Beyond ±15 the hyperbolic tangent is ±1; some devices' overflows.
        cap * min(max(score / cap, -15.0f32), 15.0f32).tanh()
    } else {
        score
    }
}

/// Keys from one number up to another.
#[derive(CubeType, Clone, Copy)]
struct SeenKeys {
    from: u32,
    to: u32,
}

/// The keys that some of a tile's queries see, from the first of a tile.
#[cube]
fn seen_keys(first_query: u32, queries: u32, sizes: &Sizes) -> SeenKeys {
    // The number of keys up to and with the first query's own.
    let all = sizes.first_query + first_query + 1u32;
    let first = select(all > sizes.window, all - sizes.window, 0u32);
    SeenKeys {
        from: first / TILE * TILE,
        to: min(sizes.first_query + first_query + queries, sizes.keys),
    }
}
