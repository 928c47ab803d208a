//! Joins a run by its link: fetches the manifest and everything that it names from peers, and
//! checks every byte.

mod blob;
mod fetch;
mod history;
mod local_data;
mod page;
mod state;

use std::sync::Arc;
use std::time::Duration;

use weal_dashboard::Fetch;
use weal_network::{Network, Silent};

use crate::error::{Error, Result};
use crate::home::{Entered, Home};
use crate::link::RunLink;
use crate::node_network::settings_of_newcomer;
use crate::plan::named_blobs;
use crate::settings::NetworkSettings;
use crate::traffic_meter::{MonthlyTraffic, TrafficMeter};

use fetch::Newcomer;
pub(crate) use history::fetch_history;
pub use local_data::LocalData;
pub use page::JoiningPage;

/// How joining goes.
#[derive(Debug, Clone)]
pub enum Progress<'a> {
    /// What the node does, for people.
    Note(&'a str),
    /// What it could not do, and why. It goes on.
    Warning(&'a str),
    /// What it is fetching, and how far that is; `None` once it is here.
    Fetch(Option<Fetch>),
}

/// Takes how joining goes.
pub type Tell<'a> = &'a (dyn Fn(Progress<'_>) + Sync);

/// How a run is joined.
pub struct JoinRequest<'a> {
    /// The run, and peers that may have it.
    pub link: &'a RunLink,
    /// Limits and mDNS; the node listens on a free port and calls the link's peers.
    pub settings: &'a NetworkSettings,
    /// The longest wait for a peer that has what is needed. `None`: as long as it takes.
    pub patience: Option<Duration>,
    /// Files of this machine that need not be fetched.
    pub local: LocalData,
    /// Hears what happens.
    pub tell: Tell<'a>,
}

/// Makes a folder the folder of the link's run, and fetches what is missing there.
///
/// # Errors
/// When the folder holds another run, or no peer behind the link answers within the patience.
pub async fn join(place: Entered, request: JoinRequest<'_>) -> Result<Home> {
    let JoinRequest { link, settings, .. } = request;
    if let Entered::Run(home) = &place {
        home.folder.expect_run(home.run, link.run)?;
        let named = named_blobs(&home.manifest);
        if named.iter().all(|blob| home.blobs.has(&blob.hash)) {
            remember(link, home)?;
            return place.expect_home();
        }
    }
    if link.peers.is_empty() && !settings.mdns {
        return Err(Error::link("the link names no peer")
            .with_hint("add ?peer=<multiaddr> to the link, or set network.mdns in settings.toml"));
    }
    if let Some(warning) = link.warning() {
        (request.tell)(Progress::Warning(warning));
    }
    let folder = match &place {
        Entered::Run(home) => &home.folder,
        Entered::Empty(empty) => empty.folder(),
    };
    let seed = folder.key()?.seed();
    let traffic = MonthlyTraffic::open(folder, settings);
    let addresses = settings_of_newcomer(settings, folder, &traffic, link.peers.clone());
    let (network, events) =
        Network::start(seed, link.run.into(), addresses, Arc::new(Silent)).await?;
    let meter = TrafficMeter::start(traffic, network.clone());
    let newcomer = Newcomer {
        link,
        network: &network,
        patience: request.patience,
        tell: request.tell,
    };
    let fetched = newcomer.fetch(place, events, request.local).await;
    meter.finish();
    network.shutdown().await;
    let home = fetched?;
    remember(link, &home)?;
    Ok(home)
}

/// Saves the peers of the link, so that this node calls them whenever it starts.
fn remember(link: &RunLink, home: &Home) -> Result<()> {
    let peers: Vec<_> = link.peers.iter().map(ToString::to_string).collect();
    home.store.remember_link(&peers)
}
