// The page of one node: connects, puts updates into the store, and lets every part draw itself from there.

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

/** How often the phase bar moves between snapshots. */
const TICK_MS = 250;

/** Shorter interruptions are not shown. */
const SHORT_LOSS_MS = 2_000;

const main = byId("main");
const store = new Store();
const rounds = new Rounds(store);
const chart = new Chart(store, (points) => (main.dataset.lossPoints = points));
let lostAt = null;
let lastUpdate = null;

setUpInvite();
const feed = new Feed({ onLink, onUpdate, onCurve });
setInterval(tick, TICK_MS);

function onUpdate(update) {
  lastUpdate = Date.now();
  const switched = store.update(update);
  if (switched || update.skipped) feed.loadCurve();
  draw();
}

function onCurve(curve) {
  store.addCurve(curve);
  draw();
}

/** Draws everything; each part skips what did not change. */
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
  const lost = lostAt !== null && Date.now() - lostAt > SHORT_LOSS_MS;
  const link = lost ? "lost" : lastUpdate === null ? "connecting" : "live";
  main.dataset.link = link;
  byId("link-state").dataset.link = link;
  text(byId("link-state"), lost ? "disconnected" : link);
  showBanner(lost);
  if (!lost && store.snapshot !== null) drawPhases(store);
}

/** The age changes every second, so it is hidden from screen readers. */
function showBanner(lost) {
  byId("banner").hidden = !lost;
  text(byId("banner-words"), lost ? "The node is not responding. Reconnecting…" : "");
  const age = lastUpdate === null ? "" : `Last update ${duration(Math.floor((Date.now() - lastUpdate) / 1000))} ago.`;
  text(byId("banner-age"), age);
}
