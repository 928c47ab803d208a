//! The tables of `settings.toml`.

use std::net::SocketAddr;
use std::path::PathBuf;

use libp2p::Multiaddr;
use serde::{Deserialize, Serialize};
use weal_coordinator_free::host::retention::KeptWeights;
use weal_network::Settings as Listen;
use weal_trainer::{ErrorFormat, MomentFormat, PlanRequest, Precision, StatePlacement};

use super::{
    Auto, ByteCount, Bytes, Device, ErrorFeedbackSetting, MomentsSetting, PrecisionSetting,
    StatesSetting,
};
use crate::documented::documented;

documented! {
    /// The whole of `settings.toml`.
    pub struct Settings {}

    /// Peers and bandwidth.
    [network] NetworkSettings {
        /// Addresses on which to listen for peers, QUIC first. Those of an IP version
        /// that this machine lacks are skipped.
        listen: Vec<Multiaddr> = Listen::listen_on_port(7700),
        /// Addresses under which peers reach this machine, if the node cannot find them out itself;
        /// for example /dns4/home.example.org/udp/7700/quic-v1.
        external: Vec<Multiaddr> = Vec::new(),
        /// Peers to connect to first, each with its identity:
        /// /ip4/.../udp/7700/quic-v1/p2p/12D3Koo...
        bootstrap: Vec<Multiaddr> = Vec::new(),
        /// Whether to look for peers on the local network (mDNS).
        mdns: bool = true,
        /// Whether to ask the router to pass connections of peers on to this machine (UPnP).
        upnp: bool = true,
        /// Whether to relay between peers that cannot reach each other, if peers can reach this
        /// machine. What it relays is limited: see docs/protocol/network.md.
        relay_service: bool = true,
        /// Most bytes of contributions and weights to send per second, such as 2000000 or "2 MB"; 0
        /// means no limit. If the limit is too low, your contribution does not reach the others
        /// before the round ends.
        max_upload: ByteCount = ByteCount(0),
        /// Most bytes of contributions and weights to receive per second; 0 means no limit.
        max_download: ByteCount = ByteCount(0),
        /// Most bytes to send in a calendar month (UTC), such as "200 GB"; 0 means no limit. All
        /// traffic counts. At 95 % the node stops sending contributions and weights, and training;
        /// the rest is for its votes.
        max_upload_per_month: ByteCount = ByteCount(0),
        /// Most bytes to receive in a calendar month (UTC); 0 means no limit. At 95 % the node
        /// stops fetching contributions and weights, and training, but keeps voting.
        max_download_per_month: ByteCount = ByteCount(0),
    }

    /// The node's web page.
    [page] PageSettings {
        /// Address of the page, of /metrics and of /api. They show everything: keep them on
        /// loopback, or set a password.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7780)),
        /// File with the password that the page asks for, at least 12 characters, no spaces; in
        /// settings.toml, a relative path starts at the data folder. Only /metrics then needs no
        /// password. Empty means none.
        password_file: PathBuf = PathBuf::new(),
        /// Host names, besides addresses and names of a local network, to which the page answers;
        /// for example that of a reverse proxy.
        hosts: Vec<String> = Vec::new(),
    }

    /// The device that trains, and how it is used.
    [compute] ComputeSettings {
        /// Device to train on: auto (the best GPU, or the CPU if there is none), cpu, gpu (fail
        /// without one) or gpu:1 (one of several, numbered as `weal doctor` lists them).
        device: Device = Device::default(),
        /// What to do when the device fails during a run: wait (skip rounds and keep trying to
        /// reopen the device), fallback (continue on the CPU until the node is restarted) or
        /// restart (exit with code 11, so that a supervisor restarts the node).
        on_device_loss: OnDeviceLoss = OnDeviceLoss::default(),
        /// Number of CPU threads; 0 means one per core.
        threads: usize = 0,
        /// Sequences of a step to compute at once; fewer take less memory and more time, 0 means
        /// all. Here and below, "auto" picks what is fastest in the memory available: see
        /// `weal doctor`.
        micro_batch: Auto<usize> = Auto::Auto,
        /// Whether to recompute activations in the backward pass instead of storing them (true,
        /// false or "auto"): about a third slower, far less memory.
        recompute: Auto<bool> = Auto::Auto,
        /// With recompute: whether all micro-batches of a step go through a block before the next
        /// block begins (true, false or "auto"). Gradients go to the machine's memory once a step
        /// then, instead of once a micro-batch; it takes more memory.
        by_block: Auto<bool> = Auto::Auto,
        /// Where to keep f32 weights, gradient sums, optimiser moments and error feedback:
        /// "device", "host" (the machine's memory) or "auto".
        states: Auto<StatesSetting> = Auto::Auto,
        /// Number format of matrix products: "f32", "f16" or "bf16" (on GPUs that support them), or
        /// "auto".
        precision: Auto<PrecisionSetting> = Auto::Auto,
        /// How to keep the optimiser's moments, where the CPU updates them: "f32", "8bit" (a
        /// quarter of the memory) or "auto".
        moments: Auto<MomentsSetting> = Auto::Auto,
        /// Number format of the error feedback in the machine's memory: "f32", "bf16" (half of the
        /// memory) or "auto".
        error_feedback: Auto<ErrorFeedbackSetting> = Auto::Auto,
        /// Most memory to use for training, for example "6 GB" or "2g" (2 GiB): of the GPU, or of
        /// the machine when training on the CPU. "auto" means whatever is free.
        memory: Auto<Bytes> = Auto::Auto,
    }

    /// Measuring the held-out loss, which the page shows.
    [evaluation] EvaluationSettings {
        /// Sequences to measure each time, spread evenly over the held-out text; 0 means all of
        /// them.
        sequences: usize = 64,
        /// Rounds from one measurement to the next; 0 turns measuring off.
        every: u64 = 1,
    }

    /// How much to keep on disk.
    [keep] KeepSettings {
        /// Number of newest rounds whose contributions are kept, for peers and for restarting this
        /// node. Those from the 32 rounds before the oldest kept checkpoint on are kept too.
        contributions: u64 = 64,
        /// Number of newest rounds whose starting weights are kept, at least 2. Each takes four
        /// bytes a parameter: 4.4 GB for a billion parameters.
        weights: u64 = 4,
        /// Number of checkpoints, the weights of every 32nd round, that are kept besides. A peer
        /// that joins fetches the newest, and with 2 has the time of 32 to 64 rounds for it; each
        /// further one adds 32. Each takes as much space as a round's weights.
        checkpoints: u64 = 2,
        /// Rounds from one saving of the optimiser's moments to the next. With more than 1 the node
        /// writes less to its disk, and after a crash it continues with older moments. "auto" means
        /// 1, and 8 for models of more than 100 million parameters.
        moments_every: Auto<u64> = Auto::Auto,
    }
}

impl KeepSettings {
    /// The weights to keep.
    pub(crate) fn weights(&self) -> KeptWeights {
        KeptWeights {
            newest: usize::try_from(self.weights).unwrap_or(usize::MAX),
            checkpoints: usize::try_from(self.checkpoints).unwrap_or(usize::MAX),
        }
    }
}

impl NetworkSettings {
    /// Listens on every interface, QUIC and TCP, IPv4 and IPv6, on this port.
    pub fn on_port(port: u16) -> Self {
        Self {
            listen: Listen::listen_on_port(port),
            ..Self::default()
        }
    }
}

/// What a node does when its device fails during a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDeviceLoss {
    /// Skips rounds and reopens the device, after longer and longer pauses.
    #[default]
    Wait,
    /// Continues on the CPU until the node is restarted.
    Fallback,
    /// Exits with code 11, so that a supervisor restarts the node.
    Restart,
}

impl KeepSettings {
    /// Rounds from one saving of the optimiser's moments to the next, for a model with that many
    /// parameters.
    pub(crate) fn moments_every(&self, parameters: usize) -> u64 {
        /// Moments of larger models take more than 0.8 GB.
        const SMALL: usize = 100_000_000;
        let usual = if parameters > SMALL { 8 } else { 1 };
        self.moments_every.set().unwrap_or(usual)
    }
}

impl ComputeSettings {
    /// The parts of the memory plan that are set by hand; `muon` is whether the run's optimiser is
    /// Muon.
    pub(crate) fn plan_request(&self, muon: bool) -> PlanRequest {
        PlanRequest {
            micro_batch: self.micro_batch.set(),
            recompute: self.recompute.set(),
            by_block: self.by_block.set(),
            states: self.states.set().map(StatePlacement::from),
            precision: self.precision.set().map(Precision::from),
            moments: self.moments.set().map(MomentFormat::from),
            error_feedback: self.error_feedback.set().map(ErrorFormat::from),
            muon,
        }
    }

    /// The most memory that training may take, in bytes, if a limit is set.
    pub(crate) fn memory_cap(&self) -> Option<u64> {
        self.memory.set().map(|Bytes(bytes)| bytes)
    }
}
