//! The formats of a GGUF file, and which format each of its tensors has.

use std::fmt;
use std::str::FromStr;

use rayon::prelude::*;

use super::blocks::{BLOCK, Q4_0_BYTES, Q8_0_BYTES, q4_0, q8_0};
use super::floats::FloatFormat;
use super::super_blocks::{Q4_K_BYTES, Q5_K_BYTES, Q6_K_BYTES, SUPER_BLOCK, q4_k, q5_k, q6_k};

/// The format of matrices in a GGUF file. Norms are always f32.
///
/// The embedding and the output projection, which suffer most from quantisation, have more bits
/// than the rest. A row that holds no whole number of blocks falls back to q8_0, or to f16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GgufFormat {
    /// 16 bits per weight, eleven of precision.
    F16,
    /// 16 bits per weight, the range of f32.
    Bf16,
    /// 8.5 bits per weight.
    Q8_0,
    /// 6.56 bits per weight.
    Q6K,
    /// 5.5 bits per weight; 6.56 for the output projection and half of the value and down
    /// projections (llama.cpp's `Q5_K_M`).
    Q5K,
    /// 4.5 bits per weight; 6.56 as in [`Q5K`](Self::Q5K) (llama.cpp's `Q4_K_M`).
    Q4K,
    /// 4.5 bits per weight; 8.5 for the embedding and the output projection.
    Q4_0,
}

impl GgufFormat {
    /// All formats, the largest first.
    pub const ALL: [Self; 7] = [
        Self::F16,
        Self::Bf16,
        Self::Q8_0,
        Self::Q6K,
        Self::Q5K,
        Self::Q4K,
        Self::Q4_0,
    ];

    /// `general.file_type`, llama.cpp's `LLAMA_FTYPE`.
    pub(super) const fn file_type(self) -> u32 {
        match self {
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q8_0 => 7,
            Self::Q4K => 15,
            Self::Q5K => 17,
            Self::Q6K => 18,
            Self::Bf16 => 32,
        }
    }

    /// The kind of a tensor. `name` is llama.cpp's, `shape` has rows first.
    pub(super) fn kind(self, name: &str, shape: &[usize], model: Place) -> Chosen {
        let [_, columns] = *shape else {
            return Chosen {
                kind: Kind::F32,
                fell_back: false,
            };
        };
        let wanted = self.wanted(name, model);
        let fits = |kind: Kind| columns.is_multiple_of(kind.block());
        let kind = [wanted, Kind::Q8_0]
            .into_iter()
            .find(|kind| fits(*kind))
            .unwrap_or(Kind::F16);
        Chosen {
            kind,
            fell_back: kind != wanted,
        }
    }

    /// The kind of a matrix if its rows hold whole blocks.
    fn wanted(self, name: &str, model: Place) -> Kind {
        let is_embedding = name == "token_embd.weight";
        let is_output = name == "output.weight" || is_embedding && model.tied;
        let mixed = |usual: Kind| match () {
            () if is_output || gets_more_bits(name, model.layers) => Kind::Q6K,
            () => usual,
        };
        match self {
            Self::F16 => Kind::F16,
            Self::Bf16 => Kind::Bf16,
            Self::Q8_0 => Kind::Q8_0,
            Self::Q6K => Kind::Q6K,
            Self::Q5K => mixed(Kind::Q5K),
            Self::Q4K => mixed(Kind::Q4K),
            Self::Q4_0 if is_output || is_embedding => Kind::Q8_0,
            Self::Q4_0 => Kind::Q4_0,
        }
    }
}

/// Whether llama.cpp's mixes give more bits to a tensor: the value and down projections of the
/// first and last eighth of the layers, and of every third between.
fn gets_more_bits(name: &str, layers: usize) -> bool {
    let Some((layer, tensor)) = name
        .strip_prefix("blk.")
        .and_then(|rest| rest.split_once('.'))
    else {
        return false;
    };
    let matters = matches!(
        tensor,
        "attn_v.weight" | "attn_qkv.weight" | "ffn_down.weight"
    );
    let Ok(layer) = layer.parse::<usize>() else {
        return false;
    };
    let eighth = layers / 8;
    matters && (layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2)
}

/// What decides the kind of a tensor beside its name and shape.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub layers: usize,
    /// Whether the output projection is the embedding.
    pub tied: bool,
}

/// The kind of a tensor, and whether it is another than the format's for its rows' length.
#[derive(Clone, Copy)]
pub(super) struct Chosen {
    pub kind: Kind,
    pub fell_back: bool,
}

impl fmt::Display for GgufFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q6K => "q6_k",
            Self::Q5K => "q5_k",
            Self::Q4K => "q4_k",
            Self::Q4_0 => "q4_0",
        })
    }
}

impl FromStr for GgufFormat {
    type Err = String;

    /// Any case, and llama.cpp's names of the mixes, are accepted.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.to_ascii_lowercase();
        let plain = text.strip_suffix("_k_m").map(|bits| format!("{bits}_k"));
        let plain = plain.filter(|plain| plain != "q6_k").unwrap_or(text);
        Self::ALL
            .into_iter()
            .find(|format| format.to_string() == plain)
            .ok_or_else(|| "expected f16, bf16, q8_0, q6_k, q5_k, q4_k or q4_0".to_owned())
    }
}

/// The format of one tensor: `ggml_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    F32 = 0,
    F16 = 1,
    Q4_0 = 2,
    Q8_0 = 8,
    Q4K = 12,
    Q5K = 13,
    Q6K = 14,
    Bf16 = 30,
}

impl Kind {
    /// Values per block. A block must not cross rows.
    const fn block(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q8_0 => BLOCK,
            Self::Q4K | Self::Q5K | Self::Q6K => SUPER_BLOCK,
        }
    }

    pub(super) const fn bytes(self, values: usize) -> u64 {
        let per_block = match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => Q4_0_BYTES,
            Self::Q8_0 => Q8_0_BYTES,
            Self::Q4K => Q4_K_BYTES,
            Self::Q5K => Q5_K_BYTES,
            Self::Q6K => Q6_K_BYTES,
        };
        (values / self.block() * per_block) as u64
    }

    /// Whether a finite value stays finite. The scales of blocks are f16.
    pub(super) fn holds(self, value: f32) -> bool {
        match self {
            Self::F32 => true,
            Self::Bf16 => FloatFormat::Bf16.holds(value),
            _ => FloatFormat::F16.holds(value),
        }
    }

    /// Encodes whole blocks, on all threads.
    pub(super) fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => floats(values, FloatFormat::F32),
            Self::F16 => floats(values, FloatFormat::F16),
            Self::Bf16 => floats(values, FloatFormat::Bf16),
            Self::Q4_0 => blocks(values, q4_0),
            Self::Q8_0 => blocks(values, q8_0),
            Self::Q4K => blocks(values, q4_k),
            Self::Q5K => blocks(values, q5_k),
            Self::Q6K => blocks(values, q6_k),
        }
    }
}

fn floats(values: &[f32], format: FloatFormat) -> Vec<u8> {
    /// Values that one thread takes.
    const PIECE: usize = 1 << 14;
    let pieces = values.par_chunks(PIECE);
    let pieces: Vec<Vec<u8>> = pieces.map(|piece| format.to_bytes(piece)).collect();
    pieces.concat()
}

fn blocks<const VALUES: usize, const BYTES: usize>(
    values: &[f32],
    quantise: fn(&[f32; VALUES]) -> [u8; BYTES],
) -> Vec<u8> {
    let (values, _) = values.as_chunks::<VALUES>();
    let blocks: Vec<[u8; BYTES]> = values.par_iter().map(quantise).collect();
    blocks.into_flattened()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use candle_core::quantized::GgmlDType;
    use candle_core::quantized::ggml_file::qtensor_from_ggml;

    use super::*;

    /// Bell-shaped weights: sums of twelve even ones.
    fn bell(count: usize) -> Vec<f32> {
        let mut state = 1_u64;
        let mut even = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..count)
            .map(|_| (0..12).map(|_| even()).sum::<f32>() * 0.02)
            .collect()
    }

    #[test]
    fn formats_have_the_errors_of_the_book() {
        let weights = bell(1 << 16);
        for (kind, candle, percent) in [
            (Kind::F16, GgmlDType::F16, 0.02),
            (Kind::Bf16, GgmlDType::BF16, 0.17),
            (Kind::Q8_0, GgmlDType::Q8_0, 0.5),
            (Kind::Q6K, GgmlDType::Q6K, 1.7),
            (Kind::Q5K, GgmlDType::Q5K, 3.4),
            (Kind::Q4K, GgmlDType::Q4K, 6.9),
            (Kind::Q4_0, GgmlDType::Q4_0, 8.4),
        ] {
            let bytes = kind.encode(&weights);
            assert_eq!(bytes.len() as u64, kind.bytes(weights.len()));
            let read =
                qtensor_from_ggml(candle, &bytes, vec![weights.len()], &Device::Cpu).unwrap();
            let read = read.dequantize(&Device::Cpu).unwrap();
            let read: Vec<f32> = read.to_vec1().unwrap();
            let squares = |values: &mut dyn Iterator<Item = f32>| -> f64 {
                values.map(|value| f64::from(value).powi(2)).sum()
            };
            let error = squares(&mut weights.iter().zip(&read).map(|(w, r)| w - r));
            let error = 100.0 * (error / squares(&mut weights.iter().copied())).sqrt();
            println!("{kind:?}: {error:.3} %");
            assert!((error / percent - 1.0).abs() < 0.1, "{kind:?}: {error} %");
        }
    }

    #[test]
    fn formats_are_read_as_people_write_them() {
        for format in GgufFormat::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
            assert_eq!(format.to_string().to_uppercase().parse(), Ok(format));
        }
        assert_eq!("Q4_K_M".parse(), Ok(GgufFormat::Q4K));
        assert_eq!("q5_k_m".parse(), Ok(GgufFormat::Q5K));
        for wrong in ["q6_k_m", "q4_1", "k_m", ""] {
            assert!(wrong.parse::<GgufFormat>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn mixes_give_more_bits_where_llama_cpp_does() {
        let model = Place {
            layers: 16,
            tied: false,
        };
        let kind = |name: &str| GgufFormat::Q4K.kind(name, &[8, 512], model).kind;
        let more: Vec<usize> = (0..16)
            .filter(|layer| kind(&format!("blk.{layer}.ffn_down.weight")) == Kind::Q6K)
            .collect();
        assert_eq!(more, [0, 1, 4, 7, 10, 13, 14, 15]);
        assert_eq!(kind("blk.0.attn_v.weight"), Kind::Q6K);
        assert_eq!(kind("blk.0.attn_q.weight"), Kind::Q4K);
        assert_eq!(kind("output.weight"), Kind::Q6K);
        assert_eq!(kind("token_embd.weight"), Kind::Q4K);
        let tied = Place {
            tied: true,
            ..model
        };
        let embedding = GgufFormat::Q4K.kind("token_embd.weight", &[8, 512], tied);
        assert_eq!(embedding.kind, Kind::Q6K);
    }

    #[test]
    fn a_row_without_whole_blocks_falls_back() {
        let model = Place {
            layers: 1,
            tied: false,
        };
        let chosen = |format: GgufFormat, columns| {
            let chosen = format.kind("blk.0.attn_q.weight", &[4, columns], model);
            (chosen.kind, chosen.fell_back)
        };
        assert_eq!(chosen(GgufFormat::Q4K, 512), (Kind::Q4K, false));
        assert_eq!(chosen(GgufFormat::Q4K, 96), (Kind::Q8_0, true));
        assert_eq!(chosen(GgufFormat::Q6K, 100), (Kind::F16, true));
        assert_eq!(chosen(GgufFormat::Q8_0, 100), (Kind::F16, true));
        assert_eq!(chosen(GgufFormat::Bf16, 100), (Kind::Bf16, false));
        let norm = GgufFormat::Q4K.kind("output_norm.weight", &[512], model);
        assert_eq!((norm.kind, norm.fell_back), (Kind::F32, false));
    }
}
