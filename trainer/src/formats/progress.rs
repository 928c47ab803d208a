//! Progress of reading or writing a model.

/// Gets bytes done and bytes in total while a model is read or written.
pub type FileProgress<'a> = &'a mut dyn FnMut(u64, u64);
