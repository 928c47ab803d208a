//! Loses a GPU, and reopens it in the same process. This test has its own process, so that no other
//! test uses the device.
#![cfg(feature = "wgpu")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use cubecl::client::Client;
use cubecl::device::{WgpuDevice, WgpuDeviceKind};
use cubecl::prelude::*;
use cubecl::wgpu::{AutoGraphicsApi, RuntimeOptions, init_setup};
use weal_kernels::gpu::{Connection, compress};
use weal_kernels::{Compression, Layout, TensorSpec};
use weal_testing::require;

fn client(device: &WgpuDevice) -> Client {
    cubecl::Device::Wgpu(device.clone()).client()
}

/// Compresses something. A lost device may return an error or panic.
fn works(client: &Client) -> Result<Vec<u8>, String> {
    let layout = Layout::new(vec![TensorSpec {
        name: "all".into(),
        shape: vec![64],
    }])
    .unwrap();
    let settings = Compression {
        chunk: 64,
        keep: 4,
        ..Compression::default()
    };
    let work = || {
        let upload = |value: f32| vec![client.create_from_slice(f32::as_bytes(&[value; 64]))];
        compress(client, &layout, &settings, &upload(0.0), &upload(1.0))
            .map_err(|error| error.to_string())
    };
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("it panicked".to_owned()))
}

#[test]
fn a_lost_device_is_reopened() {
    let device = WgpuDevice::new(WgpuDeviceKind::DefaultDevice);
    let Ok(setup) =
        catch_unwind(|| init_setup::<AutoGraphicsApi>(&device, RuntimeOptions::default()))
    else {
        return require::skip("reopening a GPU", "no GPU found, not even a software one");
    };
    let lost = client(&device);
    let body = works(&lost).expect("a device that works");

    // This is what a driver reset does: the device is gone, and every later request fails.
    setup.device.destroy();
    drop(setup);
    for _ in 0..2 {
        works(&lost).expect_err("a device that is gone");
        works(&client(&device)).expect_err("the same device");
    }

    let connection = Connection::of(&lost).expect("a wgpu device");
    connection.renew().expect("the device is present");
    assert_eq!(works(&lost), Ok(body.clone()));
    // Once more, without a loss before.
    connection.renew().expect("the device is present");
    assert_eq!(works(&client(&device)), Ok(body));
}
