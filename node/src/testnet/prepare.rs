//! Writes the folders of a network's nodes: keys, settings, and one manifest in which all of them
//! are founders.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::path::{Path, PathBuf};

use libp2p::Multiaddr;
use rand::Rng;
use weal_network::address_of;
use weal_proto::{Manifest, PeerId};

use crate::error::{Error, Result};
use crate::folder::Folder;
use crate::new_run::{FounderChoice, NewRun, Right, RunFile};
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
    let first = node_folder(&plan.root, 1);
    if !first.has_run() {
        // A mistake leaves nothing behind, not even keys.
        NewRun::preview(
            &plan.run,
            Path::new(""),
            [0; 32].into(),
            Path::new("testnet"),
        )?;
    }
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
        new.adopt(node.folder.enter()?, Right::Begin)?;
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
        .filter_map(|(_, (plan, node))| address_of(node.peer.as_bytes(), &plan.address))
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
            upnp: false,
            ..NetworkSettings::default()
        },
        page: PageSettings {
            listen: node.page,
            ..PageSettings::default()
        },
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

/// Nodes that reach one another by host name or IP address, each on its own machine or in its own
/// container; or all on one host, on ports that follow one another.
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
            // Nodes on one host cannot share its ports.
            let nth = if host.contains("{}") { 0 } else { number - 1 };
            let port = nth_port(port, nth)?;
            let mut page = page;
            page.set_port(nth_port(page.port(), nth)?);
            Ok(NodePlan {
                listen: NetworkSettings::on_port(port).listen,
                address: quic(&protocol_of(&name), port)?,
                page,
                device,
                threads: 0,
            })
        })
        .collect()
}

/// A host name or an IP address, as a part of a multiaddress.
fn protocol_of(host: &str) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => format!("/ip4/{ip}"),
        Ok(IpAddr::V6(ip)) => format!("/ip6/{ip}"),
        Err(_) => format!("/dns4/{host}"),
    }
}

fn nth_port(first: u16, n: usize) -> Result<u16> {
    let port = u16::try_from(n).ok().and_then(|n| first.checked_add(n));
    port.ok_or_else(|| Error::usage(format!("there are too few ports from {first} on")))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn named(host: &str) -> Vec<NodePlan> {
        let page = SocketAddr::from((Ipv4Addr::LOCALHOST, 7780));
        named_nodes(2, host, 7700, page, Device::Cpu).unwrap()
    }

    #[test]
    fn nodes_on_one_host_get_ports_of_their_own() {
        let nodes = named("127.0.0.1");
        let addresses: Vec<_> = nodes.iter().map(|node| node.address.to_string()).collect();
        assert_eq!(
            addresses,
            [
                "/ip4/127.0.0.1/udp/7700/quic-v1",
                "/ip4/127.0.0.1/udp/7701/quic-v1"
            ]
        );
        let pages: Vec<_> = nodes.iter().map(|node| node.page.port()).collect();
        assert_eq!(pages, [7780, 7781]);
        assert!(
            named("::1")[1]
                .address
                .to_string()
                .starts_with("/ip6/::1/udp/7701")
        );
    }

    #[test]
    fn nodes_on_hosts_of_their_own_share_a_port() {
        let nodes = named("node{}");
        assert_eq!(nodes[1].address.to_string(), "/dns4/node2/udp/7700/quic-v1");
        assert_eq!(nodes[1].page.port(), 7780);
    }
}
