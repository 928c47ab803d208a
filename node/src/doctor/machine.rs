//! Checks of the machine apart from its device: disk, clock, ports and addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use weal_trainer::format_bytes;

use super::check::Check;
use crate::error::ErrorKind;
use crate::folder::Folder;
use crate::settings::Settings;

/// Bytes per parameter that a node writes besides weights: error feedback and optimiser moments, of
/// which old and new exist together while they are replaced.
const LEARNER_BYTES: u64 = 2 * 12;
/// Free disk to ask for if the folder holds no run.
const DISK_WITHOUT_RUN: u64 = 1_000_000_000;

/// Runs all checks of the machine. `parameters` is the size of the model of the folder's run.
pub(super) fn checks(
    folder: &Folder,
    settings: &Settings,
    parameters: Option<usize>,
) -> Vec<Check> {
    let mut checks = vec![
        disk(folder.path(), disk_need(settings, parameters)),
        clock(),
    ];
    // A node that is running in this folder holds its ports.
    let is_running = folder.path().exists() && folder.lock().is_err();
    checks.extend(
        settings
            .network
            .listen
            .iter()
            .filter_map(|address| port(address, is_running)),
    );
    checks.push(page(settings.page.listen, is_running));
    checks.extend(page_password(settings, folder));
    checks.push(reach(settings));
    checks
}

fn disk_need(settings: &Settings, parameters: Option<usize>) -> u64 {
    // One more is written, or fetched, before an old one is deleted.
    let keep = &settings.keep;
    let files = keep
        .weights
        .saturating_add(keep.checkpoints)
        .saturating_add(1);
    let weights = files.saturating_mul(4);
    parameters.map_or(DISK_WITHOUT_RUN, |parameters| {
        (parameters as u64).saturating_mul(weights.saturating_add(LEARNER_BYTES))
    })
}

fn disk(folder: &Path, need: u64) -> Check {
    let place = folder.display();
    match free_disk(existing(folder)) {
        None => Check::warning(
            "disk",
            format!("the free space at {place} is unknown"),
            format!("make sure that {} are free", format_bytes(need)),
        ),
        Some(free) if free < need => Check::wrong(
            "disk",
            format!(
                "{} free at {place}, {} needed",
                format_bytes(free),
                format_bytes(need)
            ),
            "free some space, keep less (keep.weights, keep.checkpoints), or choose another --dir",
            ErrorKind::Storage,
        ),
        Some(free) => Check::ok(
            "disk",
            format!(
                "{} free at {place}, {} needed",
                format_bytes(free),
                format_bytes(need)
            ),
        ),
    }
}

/// Free bytes at a path, as `df` reports them.
fn free_disk(path: &Path) -> Option<u64> {
    let output = Command::new("df")
        .arg("-Pk")
        .arg(path)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    parse_df(&String::from_utf8_lossy(&output.stdout))
}

/// The fourth field of the second line, in KiB.
fn parse_df(output: &str) -> Option<u64> {
    let kibibytes: u64 = output
        .lines()
        .nth(1)?
        .split_whitespace()
        .nth(3)?
        .parse()
        .ok()?;
    Some(kibibytes * 1024)
}

/// Checks that the system synchronises its clock.
fn clock() -> Check {
    let output = Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .output();
    let is_synchronised = output
        .ok()
        .filter(|output| output.status.success())
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    match is_synchronised.as_deref() {
        Some("yes") => Check::ok("clock", "synchronised (NTP)"),
        Some("no") => Check::warning(
            "clock",
            "not synchronised",
            "turn on NTP: timedatectl set-ntp true",
        ),
        _ => Check::warning(
            "clock",
            "the system does not report whether it is synchronised",
            "make sure that the clock is right to within a few seconds",
        ),
    }
}

/// Checks that an address to listen on is free.
fn port(address: &Multiaddr, is_running: bool) -> Option<Check> {
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
        Err(_) if is_running => Check::ok(
            "port",
            format!("{address} is used by the node that is running here"),
        ),
        // The node skips it, too.
        Err(_) if is_ipv6(address) && !has_ipv6() => return None,
        Err(error) => Check::wrong(
            "port",
            format!("{address}: {error}"),
            "choose another port with --port",
            ErrorKind::Network,
        ),
    })
}

fn is_ipv6(address: &Multiaddr) -> bool {
    matches!(address.iter().next(), Some(Protocol::Ip6(_)))
}

/// Whether this system has IPv6 at all.
fn has_ipv6() -> bool {
    UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

fn page(address: SocketAddr, is_running: bool) -> Check {
    match TcpListener::bind(address) {
        Ok(_) => Check::ok("page", format!("{address} is free")),
        Err(_) if is_running => Check::ok(
            "page",
            format!("{address} is used by the node that is running here"),
        ),
        Err(error) => Check::wrong(
            "page",
            format!("{address}: {error}"),
            "choose another address with --page",
            ErrorKind::Network,
        ),
    }
}

/// Checks that the page has a password that can be used, if it is open to a network.
fn page_password(settings: &Settings, folder: &Folder) -> Option<Check> {
    let listen = settings.page.listen;
    match settings.page.password(folder) {
        Err(error) => Some(Check::wrong(
            "password",
            error.to_string(),
            "correct page.password_file",
            ErrorKind::Configuration,
        )),
        Ok(None) if !listen.ip().is_loopback() => Some(Check::warning(
            "password",
            format!("everybody who reaches {listen} can read the page"),
            "set page.password_file, or let the page listen on loopback",
        )),
        Ok(_) => None,
    }
}

/// Checks whether peers can reach this machine, as far as it can tell without asking them.
fn reach(settings: &Settings) -> Check {
    if let Some(external) = settings.network.external.first() {
        return Check::ok("address", format!("{external}, from the settings"));
    }
    match outgoing_address().or_else(outgoing_address_6) {
        None => Check::warning(
            "address",
            "this machine has no route to the internet",
            "only peers on the local network can be reached",
        ),
        Some(IpAddr::V4(address)) if is_private(address) && public_ipv6().is_some() => Check::ok(
            "address",
            format!("{address} is behind a router, but this machine has public IPv6"),
        ),
        Some(IpAddr::V4(address)) if is_private(address) => Check::warning(
            "address",
            format!("{address} is behind a router or a firewall"),
            "the node dials others, and they come through relays; direct connections are faster: \
             turn on UPnP in the router, or forward its UDP port and set --external. `weal status` \
             shows what peers say",
        ),
        Some(address) => Check::ok(
            "address",
            format!("{address} is public; peers reach it unless a firewall is in between"),
        ),
    }
}

/// The address from which this machine calls others. Connecting a UDP socket sends nothing.
fn outgoing_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // An address that is reserved for documentation (RFC 5737).
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// The IPv6 address from which this machine calls others.
fn outgoing_address_6() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).ok()?;
    // Reserved for documentation (RFC 3849).
    let documentation = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    socket.connect((documentation, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// The IPv6 address from which this machine calls others, if it is a global one.
fn public_ipv6() -> Option<IpAddr> {
    outgoing_address_6().filter(|ip| matches!(ip, IpAddr::V6(ip) if ip.segments()[0] >> 13 == 1))
}

/// Private, link-local, loopback, or behind a provider's address translation (RFC 6598).
fn is_private(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    let is_shared = first == 100 && (64..128).contains(&second);
    address.is_private() || address.is_link_local() || address.is_loopback() || is_shared
}

/// The nearest existing ancestor of a folder that may still have to be made.
fn existing(path: &Path) -> &Path {
    path.ancestors()
        .find(|folder| folder.exists())
        .unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_df_is_parsed() {
        let output = "Filesystem 1024-blocks Used Available Capacity Mounted on\n\
                      /dev/vda 263174212 18874368 77594624 20% /\n";
        assert_eq!(parse_df(output), Some(77_594_624 * 1024));
        assert_eq!(parse_df("nothing"), None);
    }

    #[test]
    fn too_little_disk_fails() {
        let check = disk(Path::new("/"), u64::MAX);
        assert!(
            check.code == 8 || check.found.contains("unknown"),
            "{check:?}"
        );
        assert_eq!(
            disk_need(&Settings::default(), Some(1000)),
            1000 * (4 * 7 + 24)
        );
    }

    #[test]
    fn an_open_page_without_a_password_is_warned_of() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        let mut settings = Settings::default();
        assert!(page_password(&settings, &folder).is_none());
        settings.page.listen = ([0, 0, 0, 0], 7780).into();
        let warned = page_password(&settings, &folder).unwrap();
        assert_eq!(warned.code, 0);
        settings.page.password_file = "secret".into();
        assert_eq!(page_password(&settings, &folder).unwrap().code, 3);
        std::fs::write(dir.path().join("secret"), "correct-horse-battery").unwrap();
        assert!(page_password(&settings, &folder).is_none());
    }

    #[test]
    fn a_port_in_use_fails_unless_this_node_uses_it() {
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
    fn addresses_behind_routers_are_recognised() {
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
