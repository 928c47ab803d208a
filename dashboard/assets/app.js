// The page of one node: connects, keeps what it hears in the store, and has every part draw itself from there.

import { drawAbout, setUpInvite } from "./about.js";
import { drawActivity } from "./activity.js";
import { Chart } from "./chart.js";
import { byId, text } from "./dom.js";
import { Feed } from "./feed.js";
import { drawFigures } from "./figures.js";
import { duration } from "./format.js";
import { drawPeers } from "./peers.js";
import { drawPhases } from "./phases.js";
import { Rounds } from "./rounds.js";
import { Store } from "./store.js";
import { announcement, message, sentence } from "./words.js";

/** The phase bar moves between snapshots. */
const TICK_MS = 250;

/** A short interruption is nobody's business. */
const PATIENCE_MS = 2_000;

const main = byId("main");
const store = new Store();
const rounds = new Rounds(store);
const chart = new Chart(store, (points) => (main.dataset.lossPoints = points));
let lostAt = null;
let lastNews = null;

setUpInvite();
const feed = new Feed({ onLink, onUpdate, onCurve });
setInterval(tick, TICK_MS);

function onUpdate(update) {
  lastNews = Date.now();
  const another = store.update(update);
  if (another || update.skipped) feed.loadCurve();
  draw();
}

function onCurve(curve) {
  store.addCurve(curve);
  draw();
}

/** Draws everything; parts leave alone what did not change. */
function draw() {
  if (store.snapshot === null) return;
  const { node, peers } = store.snapshot;
  text(byId("sentence"), sentence(store.snapshot));
  text(byId("message"), message(store.snapshot));
  text(byId("announcement"), announcement(store.snapshot));
  byId("state-dot").className = `dot ${node.state}`;
  drawPhases(store);
  drawFigures(store);
  drawAbout(store);
  drawPeers(store);
  rounds.draw();
  drawActivity(store);
  chart.draw();
  Object.assign(main.dataset, {
    state: node.state,
    round: store.snapshot.round.number,
    peers: byId("peers").children.length || peers.length,
    rounds: store.records.size,
  });
  main.setAttribute("aria-busy", "false");
}

function onLink(live) {
  if (live) lostAt = null;
  else lostAt ??= Date.now();
  tick();
}

function tick() {
  const lost = lostAt !== null && Date.now() - lostAt > PATIENCE_MS;
  const link = lost ? "lost" : lastNews === null ? "connecting" : "live";
  main.dataset.link = link;
  byId("link-state").dataset.link = link;
  text(byId("link-state"), link);
  showBanner(lost);
  if (!lost && store.snapshot !== null) drawPhases(store);
}

/** The age changes all the time, and is kept out of what screen readers are told. */
function showBanner(lost) {
  byId("banner").hidden = !lost;
  text(byId("banner-words"), lost ? "The node does not answer. Trying again." : "");
  const age = lastNews === null ? "" : `What you see is ${duration(Math.floor((Date.now() - lastNews) / 1000))} old.`;
  text(byId("banner-age"), age);
}
