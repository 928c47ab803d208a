//! Everything that is computed from the manifest once.

use std::fmt::Display;

use weal_kernels::{Compression, Layout, max_body_bytes};
use weal_proto::limits::BLOB_HEADER_BYTES;
use weal_proto::manifest::Manifest;
use weal_trainer::{InnerSpec, ModelSpec};

use super::mapping::inner_spec;
use super::model::model_spec;
use crate::error::{Error, Result};

/// A manifest in the terms of trainer and kernels.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Sizes of the model.
    pub model: ModelSpec,
    /// Optimiser, schedule and batch of the inner steps.
    pub inner: InnerSpec,
    /// Names, shapes and order of the tensors.
    pub layout: Layout,
    /// How contributions are compressed.
    pub compression: Compression,
    /// The most bytes a contribution may have, header included.
    pub max_blob_bytes: usize,
}

impl Plan {
    /// What this manifest means.
    ///
    /// # Errors
    /// When trainer or kernels refuse what the schema allows.
    pub(crate) fn new(manifest: &Manifest) -> Result<Self> {
        let refused = |why: &dyn Display| Error::configuration("manifest", why);
        let model = model_spec(&manifest.model);
        model.validate().map_err(|error| refused(&error))?;
        let inner = inner_spec(&manifest.inner);
        inner.validate().map_err(|error| refused(&error))?;
        let layout = model.layout().map_err(|error| refused(&error))?;
        let compression = Compression {
            chunk: manifest.compression.chunk as usize,
            keep: manifest.compression.keep as usize,
            decay_ppm: manifest.compression.decay_ppm,
        };
        let max_blob_bytes = manifest.limits.blob_bytes as usize;
        let needed =
            max_contribution_bytes(&layout, &compression).map_err(|error| refused(&error))?;
        if max_blob_bytes < needed {
            return Err(refused(&format_args!(
                "limits.blob_bytes is {max_blob_bytes}, but a contribution of this model may take {needed} bytes"
            )));
        }
        Ok(Self {
            model,
            inner,
            layout,
            compression,
            max_blob_bytes,
        })
    }
}

/// The most bytes that a contribution takes, header included.
///
/// # Errors
/// When the compression cannot be used with this layout.
pub(crate) fn max_contribution_bytes(
    layout: &Layout,
    compression: &Compression,
) -> Result<usize, weal_kernels::Error> {
    Ok(size_of::<u32>() + BLOB_HEADER_BYTES + max_body_bytes(layout, compression)?)
}
