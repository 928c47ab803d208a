//! Writes the folders of a network's nodes: keys, settings, and one manifest with all of them as
//! founders.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::path::{Path, PathBuf};

use libp2p::Multiaddr;
use rand::Rng;
use weal_files::Access;
use weal_proto::{Manifest, PeerId};

use crate::error::{Error, Result};
use crate::folder::Folder;
use crate::new_run::{NewRun, RunFile};
use crate::settings::{
    ComputeSettings, Device, EvaluationSettings, NetworkSettings, PageSettings, Settings,
};
use weal_network::address_of;

/// Held-out sequences that the first node measures after every round.
const EVALUATED: usize = 96;
/// Ports tried before giving up on finding a free one.
const PORT_ATTEMPTS: usize = 64;

/// A network to write.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where its folders go: `node1`, `node2`, …
    pub root: PathBuf,
    /// The nodes.
    pub nodes: Vec<NodePlan>,
    /// The run.
    pub run: RunFile,
}

/// One node of it.
#[derive(Debug, Clone)]
pub struct NodePlan {
    /// Where it listens for peers.
    pub listen: Vec<Multiaddr>,
    /// Where the others reach it, without its identity.
    pub reached: Multiaddr,
    /// Its page.
    pub page: SocketAddr,
    /// Its device.
    pub device: Device,
    /// Threads on the processor.
    pub threads: usize,
}

/// A node whose folder is written.
#[derive(Debug, Clone)]
pub struct PreparedNode {
    /// Its folder.
    pub folder: Folder,
    /// Its key.
    pub peer: PeerId,
    /// Its page.
    pub page: SocketAddr,
}

/// Folder of a node, counted from 1.
pub fn node_folder(root: &Path, number: usize) -> Folder {
    Folder::new(root.join(format!("node{number}")))
}

/// Writes the folders. Folders of a run that is there already keep it, and get new settings.
///
/// # Errors
/// When the run does not add up, or something cannot be written.
pub fn prepare(plan: &Plan) -> Result<(Manifest, Vec<PreparedNode>)> {
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
        let settings = settings(plan, &nodes, index, node);
        weal_files::write(
            &prepared.folder.settings(),
            Access::Owner,
            settings.to_commented_toml()?.as_bytes(),
        )?;
    }
    Ok((manifest, nodes))
}

fn adopt_run(plan: &Plan, nodes: &[PreparedNode]) -> Result<Manifest> {
    if let Some(first) = nodes.first()
        && let Some(manifest) = first.folder.manifest()?
    {
        for node in nodes {
            let present = node.folder.manifest()?.ok_or_else(|| {
                Error::folder(format!(
                    "{}: has no run, but node1 has; choose another folder",
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
        .map(|node| crate::new_run::founder(node.peer))
        .collect();
    let own = nodes
        .first()
        .map_or_else(|| PeerId::from([0; 32]), |node| node.peer);
    let new = NewRun::from_file(&file, Path::new(""), own, Path::new("testnet"))?;
    for node in nodes {
        new.adopt(node.folder.enter()?)?;
    }
    Ok(new.manifest)
}

fn settings(plan: &Plan, nodes: &[PreparedNode], own: usize, node: &NodePlan) -> Settings {
    let others = plan
        .nodes
        .iter()
        .zip(nodes)
        .enumerate()
        .filter(|(index, _)| *index != own);
    let bootstrap = others
        .filter_map(|(_, (plan, node))| address_of(node.peer.as_bytes(), plan.reached.clone()))
        .collect();
    // One node measures, so that the others' time goes into training.
    let evaluation = EvaluationSettings {
        sequences: EVALUATED,
        every: u64::from(own == 0),
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

/// Nodes on loopback, on ports that are free now; the first node's page on the port asked for, if
/// that is free.
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
                reached: quic(&format!("/ip4/{}", Ipv4Addr::LOCALHOST), port)?,
                page: SocketAddr::from((Ipv4Addr::LOCALHOST, page)),
                device,
                threads,
            })
        })
        .collect()
}

/// Nodes that reach one another by name, each on a machine or container of its own.
///
/// # Errors
/// When the names make no addresses.
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
                reached: quic(&format!("/dns4/{name}"), port)?,
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

/// Ports to choose from: systems take those of outgoing connections from further up, and may do so
/// between the choice of a port and its use.
const PORTS: Range<u16> = 10_000..32_768;

/// A port that is free for TCP and UDP on loopback; the wanted one if it is. 0 wants none in
/// particular.
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
    let port = found.ok_or_else(|| Error::network("no free port on loopback"))?;
    taken.push(port);
    Ok(port)
}
