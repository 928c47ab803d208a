//! The connection to a device, which can be made anew after the device was lost.
//!
//! CubeCL keeps one server for each device until the process ends, and one whose device was lost (a
//! driver's reset, a card unplugged, a sleep) fails in all that is asked of it from then on. Its
//! thread cannot be ended either: what a server holds is then dropped too late for wgpu, which
//! aborts the process in debug builds. So the server is replaced where it lives, on its own thread,
//! by one that asks the driver for the device again.
//!
//! That mends what is this process's own, which under Vulkan, Metal and DirectX 12 is all there is.
//! A context of CUDA's stays broken until the process ends.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cubecl::client::Client;
use cubecl::device::DeviceId;
use cubecl::device_handle::DeviceHandle;
use cubecl::wgpu::{AutoCompiler, WgpuServer};
use cubecl_common::device::{DeviceService, ServiceId};

type Server = WgpuServer<AutoCompiler>;

/// Names the connection to a device, and does not hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection(DeviceId);

impl Connection {
    /// That of a client; `None` where it is one that cannot be made anew.
    pub fn of(client: &Client) -> Option<Self> {
        let service = client.service_id();
        (service == ServiceId::of::<Server>(service.device)).then_some(Self(service.device))
    }

    /// Makes it anew. All buffers on the device are gone afterwards; those who hold some have to
    /// drop them before.
    ///
    /// # Errors
    /// What the driver said, where it does not give the device; it may be tried again.
    pub fn renew(self) -> Result<(), String> {
        let renewed = DeviceHandle::<Server>::new(self.0).submit_blocking(move |server| {
            let lost = mem::replace(server, Server::init(self.0));
            // Drivers may fail once more when they are to take back what a lost device held.
            _ = catch_unwind(AssertUnwindSafe(|| drop(lost)));
        });
        renewed.map_err(|error| error.message().unwrap_or("it gave no reason").to_owned())
    }
}
