//! The connection to a device, which can be reopened after the device was lost.
//!
//! CubeCL keeps one server per device until the process ends. After a device loss (driver reset,
//! unplugged card, suspend) every request to that server fails. Its thread cannot be stopped
//! either: the server's resources would then be dropped too late for wgpu, which aborts the process
//! in debug builds. So the server is replaced on its own thread by a new one, which asks the driver
//! for the device again.
//!
//! That repairs the state of this process. With Vulkan, Metal and DirectX 12 nothing else is
//! broken; a CUDA context stays broken until the process ends.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cubecl::client::Client;
use cubecl::device::DeviceId;
use cubecl::device_handle::DeviceHandle;
use cubecl::wgpu::{AutoCompiler, WgpuServer};
use cubecl_common::device::{DeviceService, ServiceId};

type Server = WgpuServer<AutoCompiler>;

/// Identifies the connection to a device without keeping it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection(DeviceId);

impl Connection {
    /// The connection of `client`, or `None` if that kind of connection cannot be reopened.
    pub fn of(client: &Client) -> Option<Self> {
        let service = client.service_id();
        (service == ServiceId::of::<Server>(service.device)).then_some(Self(service.device))
    }

    /// Reopens the connection. All buffers on the device are lost; drop every handle to one first.
    ///
    /// # Errors
    /// The driver's message if it does not provide the device. Trying again later may succeed.
    pub fn renew(self) -> Result<(), String> {
        let renewed = DeviceHandle::<Server>::new(self.0).submit_blocking(move |server| {
            let lost = mem::replace(server, Server::init(self.0));
            // Drivers may panic once more when a lost device's resources are freed.
            _ = catch_unwind(AssertUnwindSafe(|| drop(lost)));
        });
        renewed.map_err(|error| {
            error
                .message()
                .unwrap_or("the driver gave no reason")
                .to_owned()
        })
    }
}
