//! Opening a GPU again. In its own process, so that no other test uses the device.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use weal_testing::require;
use weal_trainer::{DeviceChoice, OpenDevice, gpus};

#[test]
fn a_gpu_can_be_reopened_repeatedly() {
    if gpus().is_empty() {
        return require::skip(
            "a GPU opened again",
            "it has no GPU, not even a software one",
        );
    }
    let first = OpenDevice::open(DeviceChoice::Gpu).unwrap();
    let second = first.reopen().unwrap().reopen().unwrap();
    assert_eq!((first.name(), second.is_gpu()), (second.name(), true));
}
