//! The machine round the device: disk, clock, ports, addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use weal_trainer::format_bytes;

use super::{Check, existing};
use crate::error::Error;
use crate::folder::Folder;
use crate::settings::Settings;

/// Bytes that a node writes for each parameter beside the weights it keeps: error feedback and
/// moments, and while they are replaced both the old and the new.
const LEARNER_BYTES: u64 = 2 * 12;
/// Disk that a node without a run is advised to have.
const SOME_DISK: u64 = 1_000_000_000;

/// Looks at everything. `parameters` are those of the folder's run.
pub fn checks(folder: &Folder, settings: &Settings, parameters: Option<usize>) -> Vec<Check> {
    let mut checks = vec![
        disk(folder.path(), disk_need(settings, parameters)),
        clock(),
    ];
    // A node that runs here holds its ports.
    let runs = folder.path().exists() && folder.lock().is_err();
    checks.extend(
        settings
            .network
            .listen
            .iter()
            .filter_map(|address| port(address, runs)),
    );
    checks.push(page(settings.page.listen, runs));
    checks.push(reach(settings));
    checks
}

fn disk_need(settings: &Settings, parameters: Option<usize>) -> u64 {
    let weights = 4 * settings.keep.weights.saturating_add(1);
    parameters.map_or(SOME_DISK, |parameters| {
        (parameters as u64).saturating_mul(weights.saturating_add(LEARNER_BYTES))
    })
}

fn disk(folder: &Path, need: u64) -> Check {
    let place = folder.display();
    match free_disk(existing(folder)) {
        None => Check::warning(
            "disk",
            format!("free space at {place} is not known"),
            format!("{} are needed", format_bytes(need)),
        ),
        Some(free) if free < need => Check::wrong(
            "disk",
            format!(
                "{} free at {place}, {} are needed",
                format_bytes(free),
                format_bytes(need)
            ),
            "make room, keep fewer rounds (keep.weights), or choose another folder with --dir",
            |_| Error::storage("no room", Path::new(""))(std::io::ErrorKind::StorageFull.into()),
        ),
        Some(free) => Check::ok(
            "disk",
            format!(
                "{} free at {place}, {} are needed",
                format_bytes(free),
                format_bytes(need)
            ),
        ),
    }
}

/// Bytes that may be written at a path, as `df` says.
fn free_disk(path: &Path) -> Option<u64> {
    let said = Command::new("df")
        .arg("-Pk")
        .arg(path)
        .output()
        .ok()
        .filter(|said| said.status.success())?;
    read_df(&String::from_utf8_lossy(&said.stdout))
}

/// The fourth field of the second line, in KiB.
fn read_df(said: &str) -> Option<u64> {
    let kibibytes: u64 = said
        .lines()
        .nth(1)?
        .split_whitespace()
        .nth(3)?
        .parse()
        .ok()?;
    Some(kibibytes * 1024)
}

/// Whether the system keeps its clock by others, as far as it says.
fn clock() -> Check {
    let said = Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .output();
    let said = said.ok().filter(|said| said.status.success());
    match said
        .as_ref()
        .map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned())
        .as_deref()
    {
        Some("yes") => Check::ok("clock", "kept by the network's time"),
        Some("no") => Check::warning(
            "clock",
            "not kept by the network's time",
            "turn it on: timedatectl set-ntp true",
        ),
        _ => Check::warning(
            "clock",
            "the system does not say whether it is kept",
            "see that it is right to a few seconds",
        ),
    }
}

/// Whether an address that peers are to be heard on is free.
fn port(address: &Multiaddr, runs: bool) -> Option<Check> {
    let mut ip = None;
    let mut bound = None;
    for part in address {
        match part {
            Protocol::Ip4(address) => ip = Some(IpAddr::V4(address)),
            Protocol::Ip6(address) => ip = Some(IpAddr::V6(address)),
            Protocol::Udp(port) => bound = Some(UdpSocket::bind((ip?, port)).map(|_| ())),
            Protocol::Tcp(port) => bound = Some(TcpListener::bind((ip?, port)).map(|_| ())),
            _ => {}
        }
    }
    Some(match bound? {
        Ok(()) => Check::ok("port", format!("{address} is free")),
        Err(_) if runs => Check::ok("port", format!("{address} is the running node's")),
        Err(error) => Check::wrong(
            "port",
            format!("{address}: {error}"),
            "choose another port with --port",
            Error::network,
        ),
    })
}

fn page(address: SocketAddr, runs: bool) -> Check {
    match TcpListener::bind(address) {
        Ok(_) => Check::ok("page", format!("{address} is free")),
        Err(_) if runs => Check::ok("page", format!("{address} is the running node's")),
        Err(error) => Check::wrong(
            "page",
            format!("{address}: {error}"),
            "choose another address with --page",
            Error::network,
        ),
    }
}

/// Whether others may reach this machine, as far as it can tell by itself.
fn reach(settings: &Settings) -> Check {
    if let Some(external) = settings.network.external.first() {
        return Check::ok("address", format!("{external}, as the settings say"));
    }
    match own_address() {
        None => Check::warning(
            "address",
            "no way out to the internet was found",
            "peers on the local network alone can be reached",
        ),
        Some(IpAddr::V4(address)) if is_private(address) => Check::warning(
            "address",
            format!("{address} is behind a router or a firewall"),
            "the node takes part by calling out; so that others reach it, forward its UDP port and set --external",
        ),
        Some(address) => Check::ok(
            "address",
            format!("{address} can be reached, where no firewall is in between"),
        ),
    }
}

/// The address with which the machine would call out. A UDP socket that is connected sends nothing.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // An address of the documentation's (RFC 5737), where nobody is.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Private, link-local, loopback, or of a provider's own translation (RFC 6598).
fn is_private(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    let is_shared = first == 100 && (64..128).contains(&second);
    address.is_private() || address.is_link_local() || address.is_loopback() || is_shared
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_space_is_read() {
        let said = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/vda 263174212 18874368 77594624 20% /\n";
        assert_eq!(read_df(said), Some(77_594_624 * 1024));
        assert_eq!(read_df("nothing"), None);
    }

    #[test]
    fn too_little_disk_is_wrong() {
        let check = disk(Path::new("/"), u64::MAX);
        assert!(
            check.code == 8 || check.found.contains("not known"),
            "{check:?}"
        );
        assert_eq!(
            disk_need(&Settings::default(), Some(1000)),
            1000 * (4 * 5 + 24)
        );
    }

    #[test]
    fn a_port_in_use_is_wrong_unless_by_the_own_node() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port_taken = taken.local_addr().unwrap().port();
        let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port_taken}").parse().unwrap();
        let check = port(&address, false).unwrap();
        assert_eq!(
            (check.code, check.remedy.as_deref()),
            (5, Some("choose another port with --port"))
        );
        assert_eq!(port(&address, true).unwrap().code, 0);
        assert_eq!(
            port(&"/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap(), false)
                .unwrap()
                .code,
            0
        );
    }

    #[test]
    fn addresses_behind_routers_are_known() {
        for (address, private) in [
            ("192.168.1.2", true),
            ("10.0.0.1", true),
            ("100.64.0.1", true),
            ("8.8.8.8", false),
        ] {
            assert_eq!(is_private(address.parse().unwrap()), private, "{address}");
        }
    }
}
