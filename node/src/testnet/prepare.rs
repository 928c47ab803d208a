//! Writes the folders of a network's nodes: keys, settings, and one manifest in which all of them
//! are founders.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::path::{Path, PathBuf};

use libp2p::Multiaddr;
use rand::Rng;
use weal_network::address_of;
use weal_proto::{Manifest, PeerId};

use crate::error::{Error, Result};
use crate::folder::Folder;
use crate::new_run::{FounderChoice, NewRun, RunFile};
use crate::settings::{
    ComputeSettings, Device, EvaluationSettings, NetworkSettings, PageSettings, Settings,
};

/// Held-out sequences that the first node measures after each round.
const EVALUATED: usize = 96;
/// Ports tried before giving up on finding a free one.
const PORT_ATTEMPTS: usize = 64;

/// A network whose folders are to be written.
#[derive(Debug, Clone)]
pub struct TestnetPlan {
    /// Folder in which to create `node1`, `node2`, …
    pub root: PathBuf,
    /// The nodes; the first one measures the held-out loss.
    pub nodes: Vec<NodePlan>,
    /// The run, to which the nodes are added as founders.
    pub run: RunFile,
}

/// One node of a network.
#[derive(Debug, Clone)]
pub struct NodePlan {
    /// Addresses on which it listens for peers.
    pub listen: Vec<Multiaddr>,
    /// Address at which the others reach it, without its identity.
    pub address: Multiaddr,
    /// Address of its page.
    pub page: SocketAddr,
    /// The device it trains on.
    pub device: Device,
    /// Number of CPU threads; 0 means one per core.
    pub threads: usize,
}

/// A node whose folder is written.
#[derive(Debug, Clone)]
pub struct PreparedNode {
    /// Its data folder, with key and settings.
    pub folder: Folder,
    /// Its public key.
    pub peer: PeerId,
    /// Address of its page.
    pub page: SocketAddr,
}

/// The folder of a node; nodes count from 1.
pub fn node_folder(root: &Path, number: usize) -> Folder {
    Folder::new(root.join(format!("node{number}")))
}

/// Writes the folders. Folders that already hold a run keep it and get new settings.
///
/// # Errors
/// When the run is invalid, or a folder cannot be written.
pub fn prepare(plan: &TestnetPlan) -> Result<(Manifest, Vec<PreparedNode>)> {
    let mut nodes = Vec::new();
    for (index, node) in plan.nodes.iter().enumerate() {
        let folder = node_folder(&plan.root, index + 1);
        let peer = folder.key()?.peer();
        nodes.push(PreparedNode {
            folder,
            peer,
            page: node.page,
        });
    }
    let manifest = adopt_run(plan, &nodes)?;
    for (index, (node, prepared)) in plan.nodes.iter().zip(&nodes).enumerate() {
        settings(plan, &nodes, index, node).write(&prepared.folder)?;
    }
    Ok((manifest, nodes))
}

fn adopt_run(plan: &TestnetPlan, nodes: &[PreparedNode]) -> Result<Manifest> {
    if let Some(first) = nodes.first()
        && let Some(manifest) = first.folder.manifest()?
    {
        for node in nodes {
            let present = node.folder.manifest()?.ok_or_else(|| {
                Error::folder(format!(
                    "{}: holds no run, but node1 does",
                    node.folder.path().display()
                ))
            })?;
            node.folder.expect_run(present.run(), manifest.run())?;
        }
        return Ok(manifest);
    }
    let mut file = plan.run.clone();
    file.founders = nodes
        .iter()
        .map(|node| FounderChoice::usual(node.peer))
        .collect();
    let founder = nodes
        .first()
        .map_or_else(|| PeerId::from([0; 32]), |node| node.peer);
    let new = NewRun::from_file(&file, Path::new(""), founder, Path::new("testnet"))?;
    for node in nodes {
        new.adopt(node.folder.enter()?)?;
    }
    Ok(new.manifest)
}

fn settings(plan: &TestnetPlan, nodes: &[PreparedNode], index: usize, node: &NodePlan) -> Settings {
    let others = plan
        .nodes
        .iter()
        .zip(nodes)
        .enumerate()
        .filter(|(other, _)| *other != index);
    let bootstrap = others
        .filter_map(|(_, (plan, node))| address_of(node.peer.as_bytes(), plan.address.clone()))
        .collect();
    // One node measures; the others spend all their time on training.
    let evaluation = EvaluationSettings {
        sequences: EVALUATED,
        every: u64::from(index == 0),
    };
    Settings {
        network: NetworkSettings {
            listen: node.listen.clone(),
            bootstrap,
            mdns: false,
            ..NetworkSettings::default()
        },
        page: PageSettings { listen: node.page },
        compute: ComputeSettings {
            device: node.device,
            threads: node.threads,
            ..ComputeSettings::default()
        },
        evaluation,
        ..Settings::default()
    }
}

/// Nodes on loopback, on ports that are free now. The first node's page gets `page_port` if that is
/// free.
///
/// # Errors
/// When no port is free.
pub fn local_nodes(
    count: usize,
    page_port: u16,
    device: Device,
    threads: usize,
) -> Result<Vec<NodePlan>> {
    let mut taken = Vec::new();
    (0..count)
        .map(|index| {
            let port = free_port(0, &mut taken)?;
            let wanted = if index == 0 { page_port } else { 0 };
            let page = free_port(wanted, &mut taken)?;
            Ok(NodePlan {
                listen: addresses(&format!("/ip4/{}", Ipv4Addr::LOCALHOST), port),
                address: quic(&format!("/ip4/{}", Ipv4Addr::LOCALHOST), port)?,
                page: SocketAddr::from((Ipv4Addr::LOCALHOST, page)),
                device,
                threads,
            })
        })
        .collect()
}

/// Nodes that reach one another by host name, each on its own machine or in its own container.
///
/// # Errors
/// When a host name makes no address.
pub fn named_nodes(
    count: usize,
    host: &str,
    port: u16,
    page: SocketAddr,
    device: Device,
) -> Result<Vec<NodePlan>> {
    (1..=count)
        .map(|number| {
            let name = host.replace("{}", &number.to_string());
            Ok(NodePlan {
                listen: addresses("/ip4/0.0.0.0", port),
                address: quic(&format!("/dns4/{name}"), port)?,
                page,
                device,
                threads: 0,
            })
        })
        .collect()
}

fn addresses(host: &str, port: u16) -> Vec<Multiaddr> {
    [
        format!("{host}/udp/{port}/quic-v1"),
        format!("{host}/tcp/{port}"),
    ]
    .iter()
    .filter_map(|a| a.parse().ok())
    .collect()
}

fn quic(host: &str, port: u16) -> Result<Multiaddr> {
    let text = format!("{host}/udp/{port}/quic-v1");
    text.parse()
        .map_err(|error| Error::usage(format!("{text} is not an address: {error}")))
}

/// Ports to choose from. Systems take the ports of outgoing connections from higher up, and might
/// take a chosen port before the node does.
const PORTS: Range<u16> = 10_000..32_768;

/// A port that is free for TCP and UDP on loopback: the wanted one if possible. 0 means any.
fn free_port(wanted: u16, taken: &mut Vec<u16>) -> Result<u16> {
    let is_free = |port: &u16| {
        let address = (Ipv4Addr::LOCALHOST, *port);
        TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
    };
    let random = std::iter::repeat_with(|| rand::rng().random_range(PORTS)).take(PORT_ATTEMPTS);
    let found = std::iter::once(wanted)
        .filter(|port| *port != 0)
        .chain(random)
        .find(|port| !taken.contains(port) && is_free(port));
    let port = found.ok_or_else(|| Error::network("found no free port on loopback"))?;
    taken.push(port);
    Ok(port)
}
