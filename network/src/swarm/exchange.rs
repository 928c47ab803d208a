//! The exchange: the task that owns the [`Picker`], and does for it what it asks.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};
use weal_proto::{BlobHash, Outline};

use super::bits::Bits;
use super::file_place::FilePlace;
use super::finished::Finished;
use super::giving::Giving;
use super::input::{Arriving, Begun, Input, Reply, Taking};
use super::limits::{LOOK_UPS, REFUSALS};
use super::parts::Parts;
use super::picker::{Action, Arrived, Gift, Order, Picker};
use super::readers::Readers;
use super::sessions::Sessions;
use super::transfer;
use crate::allowance::Allowance;
use crate::command::Command;
use crate::error::FetchError;
use crate::identity::{self, PeerKey};
use crate::members::Members;
use crate::quota::Buckets;
use crate::rate_limit::RateLimit;
use crate::reputation::Offence;
use crate::service::{Found, Service};
use crate::status::Status;
use crate::streams::{Accepted, Carries, Inbound};
use crate::uplink::Uplink;

/// Period of the timer.
const TICK: Duration = Duration::from_millis(100);

/// What the exchange is built from.
pub(crate) struct Parties {
    pub members: Arc<Members>,
    pub service: Arc<dyn Service>,
    pub status: watch::Receiver<Status>,
    /// Does not keep the network alive.
    pub commands: mpsc::WeakSender<Command>,
    pub inputs: mpsc::Sender<Input>,
    pub upload: Option<Arc<RateLimit>>,
    pub download: Option<Arc<RateLimit>>,
    /// Where blobs that are too long for memory grow.
    pub folder: Option<PathBuf>,
    /// What this node may still send and receive.
    pub allowance: Arc<Allowance>,
    /// Whether members use the uplink.
    pub uplink: Arc<Uplink>,
}

/// The state of the task.
pub(crate) struct Exchange {
    parties: Parties,
    picker: Picker,
    sessions: Sessions,
    readers: Readers,
    wanted: HashMap<BlobHash, Wanted>,
    finished: Finished,
    /// Blobs that the service is asked for.
    look_ups: HashSet<BlobHash>,
    /// Pieces of each peer that may be refused before it counts as a flood.
    refusals: Buckets<PeerKey>,
    /// Ends the reading of a piece when it is dropped.
    taking: BTreeMap<Arriving, oneshot::Sender<()>>,
    peers: BTreeSet<PeerKey>,
    /// Those of them that are connected through a relay only.
    relayed: BTreeSet<PeerKey>,
}

/// A blob that the node wants.
#[derive(Default)]
struct Wanted {
    replies: Vec<Reply>,
    /// The first place that a caller named.
    place: Option<FilePlace>,
    parts: Option<Arc<Parts>>,
}

impl Exchange {
    pub(crate) fn new(parties: Parties) -> Self {
        if let Some(folder) = parties.folder.clone() {
            tokio::task::spawn_blocking(move || Parts::sweep(&folder));
        }
        Self {
            picker: Picker::new(Arc::clone(&parties.members), rand::random()),
            sessions: Sessions::new(parties.commands.clone(), parties.inputs.clone()),
            readers: Readers::new(parties.inputs.clone()),
            wanted: HashMap::new(),
            finished: Finished::default(),
            look_ups: HashSet::new(),
            refusals: Buckets::new(REFUSALS),
            taking: BTreeMap::new(),
            peers: BTreeSet::new(),
            relayed: BTreeSet::new(),
            parties,
        }
    }

    /// Runs until the network closes.
    pub(crate) async fn run(mut self, mut inputs: mpsc::Receiver<Input>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut status = self.parties.status.clone();
        loop {
            tokio::select! {
                input = inputs.recv() => match input {
                    Some(input) => self.on_input(input, Instant::now()),
                    None => break,
                },
                changed = status.changed() => match changed {
                    Ok(()) => {
                        let (peers, relayed) = connected(&status.borrow_and_update());
                        self.on_peers(peers, relayed, Instant::now());
                    }
                    Err(_) => break,
                },
                _ = tick.tick() => self.on_tick(Instant::now()),
            }
            self.act(Instant::now());
        }
        for (_, wanted) in self.wanted.drain() {
            for reply in wanted.replies {
                let _ = reply.send(Err(FetchError::ShutDown));
            }
        }
    }

    fn on_input(&mut self, input: Input, now: Instant) {
        match input {
            Input::Want {
                order,
                holders,
                place,
                reply,
            } => self.want(order, holders, (place, reply), now),
            Input::Inbound(inbound) => self.on_stream(inbound, now),
            Input::Frame { from, frame } => {
                if self.readers.reads(&from) {
                    self.picker.heard(from, frame, now);
                }
            }
            Input::Malformed(peer) => self.blame(peer, Offence::MalformedRequest),
            Input::Lost { peer, session } => self.sessions.lost(peer, session, now),
            Input::Closed { from, number } => self.on_closed(&from, number),
            Input::Prepared { blob, parts } => self.on_prepared(blob, parts, now),
            Input::LookedUp { blob, found } => {
                self.look_ups.remove(&blob);
                self.picker.looked_up(&blob, found, now);
            }
            Input::Begun { piece, reply } => self.on_begun(piece, reply, now),
            Input::Ended { piece, how } => {
                self.taking.remove(&piece);
                let Arriving { from, blob, piece } = piece;
                self.picker.ended(from, (&blob, piece), how, now);
            }
            Input::NotStored { blob, why } => {
                self.fail(&blob, FetchError::Storage { hash: blob, why }, now);
            }
            Input::Welcome { id } => self.picker.welcome(id, now),
            Input::Given { id, arrived } => self.picker.given(id, arrived, now),
            Input::Withdrawn(blob) => self.picker.withdrawn(&blob),
        }
    }

    fn on_peers(&mut self, peers: BTreeSet<PeerKey>, relayed: BTreeSet<PeerKey>, now: Instant) {
        let before = std::mem::replace(&mut self.peers, peers);
        let relayed_before = std::mem::replace(&mut self.relayed, relayed);
        for gone in before.difference(&self.peers) {
            self.picker.disconnected(gone);
            self.sessions.close(gone);
            self.readers.stop(gone);
            for (piece, _) in self.taking.extract_if(.., |piece, _| piece.from == *gone) {
                let Arriving { from, blob, piece } = piece;
                let how = Arrived::Failed;
                self.picker.ended(from, (&blob, piece), how, now);
            }
        }
        for peer in &self.peers {
            let (is_new, is_relayed) = (!before.contains(peer), self.relayed.contains(peer));
            if is_new && is_relayed {
                self.picker.connected_through_relay(*peer, now);
            } else if is_new || (!is_relayed && relayed_before.contains(peer)) {
                self.picker.connected(*peer, now);
            }
        }
    }

    /// A peer no longer sends frames. Unless it belongs to the run, nothing else will tell that it
    /// is gone.
    fn on_closed(&mut self, peer: &PeerKey, number: u64) {
        if self.readers.ended(peer, number) && !self.peers.contains(peer) {
            self.sessions.close(peer);
            self.picker.disconnected(peer);
        }
    }

    fn on_tick(&mut self, now: Instant) {
        let abandoned: Vec<_> = self
            .wanted
            .iter_mut()
            .filter_map(|(blob, wanted)| {
                wanted.replies.retain(|reply| !reply.is_closed());
                wanted.replies.is_empty().then_some(*blob)
            })
            .collect();
        for blob in abandoned {
            self.wanted.remove(&blob);
            self.picker.end(&blob, now);
        }
        for peer in self.sessions.reopen(now) {
            self.picker.lost_touch(peer, now);
        }
        self.finished.forget_old(now);
        if !self.parties.allowance.receives() {
            self.fail_all(now);
        }
        if !self.picker.is_idle() {
            self.picker.tick(now);
        }
    }

    fn want(
        &mut self,
        order: Order,
        holders: Vec<PeerKey>,
        (place, reply): (Option<FilePlace>, Reply),
        now: Instant,
    ) {
        // Whoever wants a blob again at the same place knows that it is damaged there.
        let is_there = |parts: &Arc<Parts>| place.as_ref().is_some_and(|at| parts.is_at(at));
        if let Some(parts) = self
            .finished
            .get(&order.blob)
            .filter(|parts| !is_there(parts))
        {
            let _ = reply.send(Ok(parts));
            return;
        }
        let wanted = self.wanted.entry(order.blob).or_default();
        wanted.place = wanted.place.take().or(place);
        wanted.replies.push(reply);
        let away = holders.iter().filter(|peer| !self.peers.contains(*peer));
        for peer in away.filter_map(identity::peer_id) {
            self.tell_driver(Command::Reach(peer));
        }
        self.picker.want(order, now);
    }

    fn on_stream(&mut self, inbound: Inbound, now: Instant) {
        let Some(from) = identity::peer_key(&inbound.peer) else {
            return;
        };
        match inbound.carries {
            Carries::Frames => {
                self.picker.restarted(&from);
                self.sessions.is_there(&from, now);
                self.readers.start(from, inbound.stream);
            }
            Carries::Piece => {
                let Accepted { stream, place } = inbound.stream;
                let inputs = self.parties.inputs.clone();
                let download = self.parties.download.clone();
                tokio::spawn(async move {
                    transfer::take(stream, from, inputs, download).await;
                    drop(place);
                });
            }
        }
    }

    fn on_prepared(
        &mut self,
        blob: BlobHash,
        parts: Result<(Arc<Parts>, Bits), String>,
        now: Instant,
    ) {
        match (parts, self.wanted.get_mut(&blob)) {
            (Ok((parts, have)), Some(wanted)) => {
                wanted.parts = Some(parts);
                self.picker.prepared(&blob, have, now);
            }
            (Err(why), Some(_)) => self.fail(&blob, FetchError::Storage { hash: blob, why }, now),
            (_, None) => {}
        }
    }

    fn on_begun(&mut self, piece: Arriving, reply: Begun, now: Instant) {
        let parts = self
            .wanted
            .get(&piece.blob)
            .and_then(|wanted| wanted.parts.clone());
        let outline = match self.parties.allowance.receives() {
            true => self.picker.begun(piece.from, &piece.blob, piece.piece, now),
            false => None,
        };
        let taking = outline.zip(parts).map(|(outline, parts)| {
            let (stopper, stop) = oneshot::channel();
            self.taking.insert(piece, stopper);
            Taking {
                outline,
                parts,
                stop,
            }
        });
        if taking.is_none() && !self.refusals.bucket(piece.from, now).take(now) {
            self.blame(piece.from, Offence::Flood);
        }
        let _ = reply.send(taking);
    }

    /// Ends every fetch, since this node may receive no more blobs.
    fn fail_all(&mut self, now: Instant) {
        let blobs: Vec<_> = self.wanted.keys().copied().collect();
        for hash in blobs {
            self.fail(&hash, FetchError::LimitReached { hash }, now);
        }
    }

    /// Does what the picker asks for, until it asks for nothing more.
    fn act(&mut self, now: Instant) {
        self.picker.set_giving(self.parties.allowance.sends(), now);
        if self.picker.serves_members(now) {
            self.parties.uplink.serves_member(now);
        }
        loop {
            let actions = self.picker.actions();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                self.carry_out(action, now);
            }
        }
    }

    fn carry_out(&mut self, action: Action, now: Instant) {
        match action {
            Action::Send { to, frame } => self.sessions.send(to, frame, now),
            Action::Give(gift) => self.give(gift),
            Action::StopTaking { from, blob, piece } => {
                self.taking.remove(&Arriving { from, blob, piece });
            }
            Action::Blame { peer, offence } => self.blame(peer, offence),
            Action::LookUp { blob } => self.look_up(blob),
            Action::Prepare { blob, outline } => self.prepare(blob, outline),
            Action::Done { blob } => self.done(&blob, now),
            Action::Failed { blob, error } => self.fail(&blob, error, now),
        }
    }

    fn give(&self, gift: Gift) {
        let wanted = self.wanted.get(&gift.blob);
        let parts = wanted.and_then(|wanted| wanted.parts.clone());
        let giving = Giving {
            gift,
            parts: parts.or_else(|| self.finished.get(&gift.blob)),
            service: Arc::clone(&self.parties.service),
            commands: self.parties.commands.clone(),
            upload: self.parties.upload.clone(),
        };
        let inputs = self.parties.inputs.clone();
        tokio::spawn(async move {
            let blob = giving.gift.blob;
            let arrived = match giving.bytes().await {
                Some(bytes) => giving.send(&bytes, &inputs).await,
                None => {
                    let _ = inputs.send(Input::Withdrawn(blob)).await;
                    false
                }
            };
            let id = giving.gift.id;
            let _ = inputs.send(Input::Given { id, arrived }).await;
        });
    }

    fn blame(&self, peer: PeerKey, offence: Offence) {
        if let Some(peer) = identity::peer_id(&peer) {
            self.tell_driver(Command::Offended { peer, offence });
        }
    }

    /// Sends a command. It waits in a task, since the driver may be busy.
    fn tell_driver(&self, command: Command) {
        if let Some(driver) = self.parties.commands.upgrade() {
            tokio::spawn(async move { driver.send(command).await });
        }
    }

    fn look_up(&mut self, blob: BlobHash) {
        // The answer is for all that ask.
        if self.look_ups.contains(&blob) {
            return;
        }
        if let Some(parts) = self.finished.get(&blob) {
            let found = Found::Here(Arc::clone(parts.outline()));
            self.later(Input::LookedUp { blob, found });
            return;
        }
        if self.look_ups.len() >= LOOK_UPS {
            let found = Found::NotYet;
            self.later(Input::LookedUp { blob, found });
            return;
        }
        self.look_ups.insert(blob);
        let (service, inputs) = (
            Arc::clone(&self.parties.service),
            self.parties.inputs.clone(),
        );
        tokio::spawn(async move {
            let found = tokio::task::spawn_blocking(move || service.outline(&blob).map(Arc::new));
            let found = found.await.unwrap_or(Found::NotHere);
            let _ = inputs.send(Input::LookedUp { blob, found }).await;
        });
    }

    fn prepare(&self, blob: BlobHash, outline: Arc<Outline>) {
        let (folder, inputs) = (self.parties.folder.clone(), self.parties.inputs.clone());
        let place = self
            .wanted
            .get(&blob)
            .and_then(|wanted| wanted.place.clone());
        tokio::task::spawn_blocking(move || {
            let opened = match place {
                Some(place) => Parts::open_at(place, outline),
                None => Parts::open(folder.as_deref(), outline),
            };
            let parts = opened
                .map(|parts| {
                    let have = parts.have();
                    (Arc::new(parts), have)
                })
                .map_err(|error| error.to_string());
            let _ = inputs.blocking_send(Input::Prepared { blob, parts });
        });
    }

    /// A blob is complete. It can be sent on while the node checks and stores it.
    fn done(&mut self, blob: &BlobHash, now: Instant) {
        self.picker.end(blob, now);
        let Some(wanted) = self.wanted.remove(blob) else {
            return;
        };
        if let Some(parts) = wanted.parts {
            for reply in wanted.replies {
                let _ = reply.send(Ok(Arc::clone(&parts)));
            }
            self.finished.keep(*blob, parts, now);
        }
    }

    fn fail(&mut self, blob: &BlobHash, error: FetchError, now: Instant) {
        self.picker.end(blob, now);
        let wanted = self.wanted.remove(blob).unwrap_or_default();
        for reply in wanted.replies {
            let _ = reply.send(Err(error.clone()));
        }
    }

    fn later(&self, input: Input) {
        let inputs = self.parties.inputs.clone();
        tokio::spawn(async move { inputs.send(input).await });
    }
}

/// The connected peers, and those of them that are connected through a relay only.
fn connected(status: &Status) -> (BTreeSet<PeerKey>, BTreeSet<PeerKey>) {
    let peers = status.peers.iter();
    let relayed = peers.clone().filter(|peer| peer.relayed);
    (
        peers.map(|peer| peer.peer).collect(),
        relayed.map(|peer| peer.peer).collect(),
    )
}
