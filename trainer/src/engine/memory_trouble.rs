//! Telling from a driver's words whether memory was the trouble.

/// Signs that a driver, or a library above it, had too little memory or was asked for too large a
/// buffer. Compared without case, spaces, hyphens and underscores.
const SIGNS: [&str; 14] = [
    // OutOfMemory, `Out of memory`, CUDA_ERROR_OUT_OF_MEMORY, hipErrorOutOfMemory, E_OUTOFMEMORY
    "outofmemory",
    // CubeCL, and Vulkan's ERROR_OUT_OF_DEVICE_MEMORY and ERROR_OUT_OF_HOST_MEMORY
    "outofdevicememory",
    "outofhostmemory",
    // Vulkan's results in words
    "memoryallocationhasfailed",
    // CubeCL: a buffer over the device's limit; no pages of a new size; pages promised earlier
    "can'tallocatebufferofsize",
    "everypagesizethememorytracksstillholdsliveallocations",
    "couldn'tmapstorageforadeferredallocation",
    // wgpu
    "notenoughmemory",
    "isgreaterthanthemaximumbuffersize",
    "buffer_binding_size",
    // cuBLAS, Metal
    "statusallocfailed",
    "insufficientmemory",
    // Rust
    "memoryallocationof",
    "capacityoverflow",
];

/// Whether a failure was about memory, so that the same work may succeed with less.
pub(super) fn is_memory_trouble(message: &str) -> bool {
    let plain = |text: &str| -> String {
        let letters = text.chars().filter(|letter| !" -_\n".contains(*letter));
        letters.flat_map(char::to_lowercase).collect()
    };
    let message = plain(message);
    SIGNS.iter().any(|sign| message.contains(&plain(sign)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_saying_too_little_memory_is_known() {
        for message in [
            "can't allocate buffer of size: 4294967296\n<backtrace>",
            "out of device memory allocating 1073741824 bytes",
            "Can't allocate 4096 bytes: every page size the memory tracks still holds live \
             allocations",
            "couldn't map storage for a deferred allocation of 1 bytes\nCaused by:\n  …",
            "An out-of-memory error happened during launch\nCaused by:\n  …",
            "A device memory allocation has failed",
            "A host memory allocation has failed",
            "ERROR_OUT_OF_DEVICE_MEMORY",
            "VK_ERROR_OUT_OF_HOST_MEMORY",
            "wgpu error: Out of Memory",
            "wgpu error: Validation Error\n\nCaused by:\n  In Device::create_buffer\n    \
             Buffer size 4294967296 is greater than the maximum buffer size (2147483647)",
            "Buffer binding 0 range 4294967296 exceeds `max_*_buffer_binding_size` limit \
             2147483647",
            "Not enough memory left.",
            "Not enough memory resources are available to complete this operation. (0x8007000E)",
            "CUDA allocation error: DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")",
            "hipErrorOutOfMemory",
            "CUBLAS_STATUS_ALLOC_FAILED",
            "Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)",
            "memory allocation of 137438953472 bytes failed",
            "capacity overflow",
        ] {
            assert!(is_memory_trouble(message), "{message}");
        }
        for message in [
            "",
            "the device was lost, for a test",
            "wgpu error: Validation Error: buffer 3 is destroyed",
            "Too much shared memory requested.\nRequested 65536 bytes, maximum 32768 bytes \
             available.",
            "CUDA_ERROR_ILLEGAL_ADDRESS, \"an illegal memory access was encountered\"",
            "couldn't find resource for that handle: freed",
        ] {
            assert!(!is_memory_trouble(message), "{message}");
        }
    }
}
