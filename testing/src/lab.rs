//! Homes behind routers, in network namespaces. They need root, `ip` and `iptables`.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How a peer is connected to the internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// With a public address.
    Open,
    /// Behind a router that gives a socket one public port, and lets in only those that the socket
    /// has sent to. Most home routers are like this.
    PortRestricted,
    /// Behind a router that gives a socket another public port for each destination. Some
    /// providers' routers and mobile networks are like this.
    Symmetric,
    /// Behind two port-restricted routers, one behind the other.
    Double,
    /// With a public IPv6 address.
    Open6,
    /// With a public IPv6 address, behind a router that lets in only what was asked for.
    Firewall6,
}

impl Home {
    /// Those with IPv4.
    pub const V4: [Self; 4] = [
        Self::Open,
        Self::PortRestricted,
        Self::Symmetric,
        Self::Double,
    ];
    /// Those with IPv6.
    pub const V6: [Self; 2] = [Self::Open6, Self::Firewall6];
}

/// The internet's router, which knows the way to every IPv6 network.
const INTERNET6: &str = "2001:db8::ffff";

/// A network of namespaces, which are deleted when it is dropped.
pub struct Lab {
    prefix: String,
    namespaces: Vec<String>,
    homes: u8,
}

/// Where a peer lives.
#[derive(Debug, Clone)]
pub struct Place {
    /// The namespace, for `ip netns exec`.
    pub namespace: String,
    /// Its address, public or behind its router.
    pub ip: IpAddr,
    /// The namespace with the public address: its own, or that of its outer router.
    pub edge: String,
    /// Its router.
    pub gateway: Option<IpAddr>,
}

impl Place {
    /// A command that runs there.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.namespace])
            .arg(program);
        command
    }

    /// Takes the home's interface down, as when a cable is pulled.
    ///
    /// # Panics
    /// When a command fails.
    pub fn unplug(&self) {
        inside(&self.namespace, "ip link set up0 down");
    }

    /// Brings the interface of a home with IPv4 up again, and restores what went down with it.
    ///
    /// # Panics
    /// When a command fails.
    pub fn plug_in(&self) {
        inside(&self.namespace, "ip link set up0 up");
        if let Some(gateway) = self.gateway {
            route_through(&self.namespace, gateway);
        }
    }

    fn public(namespace: String, ip: IpAddr) -> Self {
        Self {
            edge: namespace.clone(),
            namespace,
            ip,
            gateway: None,
        }
    }
}

/// Why this machine cannot make namespaces and packet filters, if it cannot.
///
/// # Errors
/// The reason, in words.
pub fn can_make_labs() -> Result<(), String> {
    // Tests of one process ask at the same time.
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let asked = ASKED.fetch_add(1, Ordering::Relaxed);
    let name = format!("wprobe{}-{asked}", std::process::id());
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        let output = output.map_err(|error| format!("{program}: {error}"))?;
        let why = String::from_utf8_lossy(&output.stderr);
        output
            .status
            .success()
            .then_some(())
            .ok_or(why.into_owned())
    };
    run("ip", &["netns", "add", &name])?;
    let filters = run(
        "ip",
        &["netns", "exec", &name, "iptables", "-t", "nat", "-S"],
    );
    run("ip", &["netns", "del", &name])?;
    filters
}

impl Lab {
    /// The internet: a bridge in a namespace of its own. `name` is short, and unique in the
    /// process.
    ///
    /// # Panics
    /// When a command fails.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut lab = Self {
            prefix: format!("w{}{name}", std::process::id() % 100_000),
            namespaces: Vec::new(),
            homes: 0,
        };
        let internet = lab.namespace("i");
        inside(&internet, "ip link add br0 type bridge");
        inside(&internet, "ip link set br0 up");
        inside(&internet, "sysctl -q -w net.ipv6.conf.all.forwarding=1");
        inside(
            &internet,
            &format!("ip addr add {INTERNET6}/64 dev br0 nodad"),
        );
        lab
    }

    /// A home on the internet.
    ///
    /// # Panics
    /// When a command fails.
    pub fn home(&mut self, kind: Home) -> Place {
        self.homes += 1;
        let number = self.homes;
        let public = Ipv4Addr::new(203, 0, 113, number);
        let first = self.namespace(&format!("{number}"));
        if Home::V6.contains(&kind) {
            return self.home6(first, number, kind);
        }
        self.connect(&first, number, &format!("{public}/24"));
        if kind == Home::Open {
            return Place::public(first, public.into());
        }
        masquerade(&first, "up0", kind);
        let mut router = first.clone();
        let mut net = Ipv4Addr::new(192, 168, number, 0);
        if kind == Home::Double {
            let second = self.namespace(&format!("{number}b"));
            join(&router, &second, net);
            masquerade(&second, "up0", Home::PortRestricted);
            router = second;
            net = Ipv4Addr::new(10, 0, number, 0);
        }
        let host = self.namespace(&format!("{number}h"));
        let [gateway, ip] = join(&router, &host, net);
        Place {
            namespace: host,
            ip,
            edge: first,
            gateway: Some(gateway),
        }
    }

    /// Replaces the public IPv4 address of a home by another, as internet providers do at night.
    ///
    /// # Panics
    /// When a command fails.
    pub fn change_address(&mut self, place: &mut Place) {
        self.homes += 1;
        let new = Ipv4Addr::new(203, 0, 113, self.homes);
        inside(&place.edge, "ip -4 addr flush dev up0");
        inside(&place.edge, &format!("ip addr add {new}/24 dev up0"));
        if place.edge == place.namespace {
            place.ip = new.into();
        }
    }

    fn home6(&mut self, first: String, number: u8, kind: Home) -> Place {
        let (public, net) = (
            format!("2001:db8::{number}"),
            format!("2001:db8:1:{number}"),
        );
        self.connect(&first, number, &format!("{public}/64"));
        route_through(&first, INTERNET6);
        if kind == Home::Open6 {
            return Place::public(first, public.parse().unwrap());
        }
        inside(&first, "sysctl -q -w net.ipv6.conf.all.forwarding=1");
        let (gateway, ip) = (format!("{net}::1"), format!("{net}::2"));
        let host = self.namespace(&format!("{number}h"));
        link(
            &first,
            &host,
            [&format!("{gateway}/64"), &format!("{ip}/64")],
        );
        route_through(&host, &gateway);
        let internet = format!("{}i", self.prefix);
        inside(&internet, &format!("ip route add {net}::/64 via {public}"));
        let drop = "FORWARD -i up0 -m conntrack --ctstate NEW,INVALID -j DROP";
        inside(&first, &format!("ip6tables -A {drop}"));
        Place {
            namespace: host,
            ip: ip.parse().unwrap(),
            edge: first,
            gateway: Some(gateway.parse().unwrap()),
        }
    }

    fn namespace(&mut self, name: &str) -> String {
        let name = format!("{}{name}", self.prefix);
        run(&format!("ip netns add {name}"));
        inside(&name, "ip link set lo up");
        self.namespaces.push(name.clone());
        name
    }

    /// Connects a namespace to the internet.
    fn connect(&self, namespace: &str, number: u8, ip: &str) {
        let internet = format!("{}i", self.prefix);
        let port = format!("p{number}");
        run(&format!(
            "ip link add {port} netns {internet} type veth peer name up0 netns {namespace}"
        ));
        inside(&internet, &format!("ip link set {port} master br0 up"));
        set_up(namespace, "up0", ip);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in &self.namespaces {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

/// Connects a namespace to a router. Returns the addresses of the two.
fn join(router: &str, namespace: &str, net: Ipv4Addr) -> [IpAddr; 2] {
    let [a, b, c, _] = net.octets();
    let (gateway, ip) = (Ipv4Addr::new(a, b, c, 1), Ipv4Addr::new(a, b, c, 2));
    link(
        router,
        namespace,
        [&format!("{gateway}/24"), &format!("{ip}/24")],
    );
    route_through(namespace, gateway);
    [gateway.into(), ip.into()]
}

fn route_through(namespace: &str, gateway: impl Display) {
    inside(namespace, &format!("ip route add default via {gateway}"));
}

/// Connects a router's `down0` and a namespace's `up0`, with these addresses.
fn link(router: &str, namespace: &str, addresses: [&str; 2]) {
    run(&format!(
        "ip link add down0 netns {router} type veth peer name up0 netns {namespace}"
    ));
    set_up(router, "down0", addresses[0]);
    set_up(namespace, "up0", addresses[1]);
}

fn set_up(namespace: &str, device: &str, ip: &str) {
    // Nobody else has the address: no need to wait until that is certain.
    let nodad = if ip.contains(':') { " nodad" } else { "" };
    inside(namespace, &format!("ip addr add {ip} dev {device}{nodad}"));
    inside(namespace, &format!("ip link set {device} up"));
}

/// Makes a namespace a router that translates addresses.
fn masquerade(router: &str, up: &str, kind: Home) {
    inside(router, "sysctl -q -w net.ipv4.ip_forward=1");
    let random = match kind {
        Home::Symmetric => " --random-fully",
        _ => "",
    };
    for rule in [
        format!("-t nat -A POSTROUTING -o {up} -j MASQUERADE{random}"),
        // What nobody inside has asked for is dropped without an answer.
        format!("-A INPUT -i {up} -m conntrack --ctstate NEW,INVALID -j DROP"),
        format!("-A FORWARD -i {up} -m conntrack --ctstate NEW,INVALID -j DROP"),
    ] {
        inside(router, &format!("iptables {rule}"));
    }
}

fn inside(namespace: &str, command: &str) {
    run(&format!("ip netns exec {namespace} {command}"));
}

fn run(command: &str) {
    let mut words = command.split_whitespace();
    let program = words.next().unwrap();
    let output = Command::new(program).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{command}: {error}"));
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {why}");
}
