//! A contribution from a stranger, taken apart into header and body.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weal_proto::BlobHeader;

fuzz_target!(|blob: &[u8]| {
    if let Ok((header, body)) = BlobHeader::split(blob) {
        assert_eq!(header.lead(body), blob);
    }
});
