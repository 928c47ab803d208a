//! Opening a GPU again. In its own process, so that no other test uses the device.

use weal_trainer::{DeviceChoice, OpenDevice, gpus};

#[path = "../../tests/src/require.rs"]
#[allow(dead_code)] // shared with the tests of the whole
mod require;

#[test]
fn a_gpu_can_be_reopened_repeatedly() {
    if gpus().is_empty() {
        return require::leave_out(
            "a GPU opened again",
            "it has no GPU, not even a software one",
        );
    }
    let first = OpenDevice::open(DeviceChoice::Gpu).unwrap();
    let second = first.reopen().unwrap().reopen().unwrap();
    assert_eq!((first.name(), second.is_gpu()), (second.name(), true));
}
