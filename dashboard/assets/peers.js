// All peers of the run, and what each contributed.

import { attribute, byId, el, keyed, svg, text } from "./dom.js";
import { bytes, count, plural, shortHex } from "./format.js";
import { avatar, peerHue } from "./identity.js";

/** Rounds in a peer's bar. */
const BAR_ROUNDS = 40;
const BAR = { step: 4, width: 3, height: 18 };

const THIS_ROUND = { none: "nothing yet", committed: "committed", fetched: "fetched", valid: "valid", invalid: "rejected" };

export function drawPeers(store) {
  const { peers, node } = store.snapshot;
  const rounds = store.newestFirst().slice(0, BAR_ROUNDS).reverse();
  const contributors = rounds.map((record) => new Set(record.contributors));
  const totalWeight = peers.reduce((total, peer) => total + (peer.voter ? peer.weight : 0), 0);
  const rows = [...peers]
    .sort((a, b) => b.weight - a.weight || b.contributions - a.contributions || a.id.localeCompare(b.id))
    .map((peer) => ({ peer, self: peer.id === node.id, totalWeight, contributed: contributors.map((set) => set.has(peer.id)) }));
  keyed(byId("peers"), rows, (row) => row.peer.id, create, update);
  byId("peers-empty").hidden = peers.length > 0;
  text(byId("peers-note"), peers.length > 0 ? `The bars show contributions to the last ${plural(rounds.length, "round", "rounds")}.` : "");
}

/** A table cell; `label` is its heading on narrow screens. */
const cell = (label, ...children) => el("td", { role: "cell", "data-label": label }, ...children);

function create({ peer }) {
  const row = el(
    "tr",
    { role: "row" },
    el(
      "td",
      { role: "cell", class: "peer" },
      avatar(peer.id),
      el("span", { class: "names" }, el("span", { class: "name" }), el("span", { class: "address" })),
    ),
    cell("Vote", el("span", { class: "weight" })),
    cell("This round", el("span", { class: "pill" }), el("span", { class: "reason" })),
    cell("Contributions", contributionBar(peer.id), el("span", { class: "bar-count" })),
    cell("Weights", el("span", { class: "root-state" })),
    cell("Traffic", el("span", { class: "sent" }), el("span", { class: "received" })),
  );
  row.lastChild.classList.add("number");
  return row;
}

function update(row, { peer, self, totalWeight, contributed }) {
  const [name, vote, round, contributions, weights, traffic] = row.children;
  row.classList.toggle("disconnected", !peer.connected);
  row.classList.toggle("self", self);
  text(name.querySelector(".name"), peer.name || shortHex(peer.id));
  text(name.querySelector(".address"), self ? "this node" : peer.connected ? peer.address || "connected" : "not connected");
  attribute(name, "title", `${peer.id}${peer.address ? `\n${peer.address}` : ""}`);
  text(vote.firstChild, voteWords(peer, totalWeight));
  showState(round, peer.this_round);
  showBar(contributions.firstChild, contributed);
  text(contributions.lastChild, count(peer.contributions));
  attribute(contributions, "title", trustWords(peer));
  showRoot(weights.firstChild, peer.state_root_agrees, self);
  text(traffic.firstChild, self ? "" : `↑ ${bytes(peer.bytes_sent)}`);
  text(traffic.lastChild, self ? "" : `↓ ${bytes(peer.bytes_received)}`);
}

function trustWords({ measured = 0, coefficient = 0, placed }) {
  const counts = coefficient > 0 ? `counts ${Math.round(100 * coefficient)} %` : "measured, not applied yet";
  return `${count(measured)} measured; ${counts}${placed ? "" : "; has no place in this round"}`;
}

function voteWords(peer, totalWeight) {
  if (!peer.voter) return "none yet";
  const share = totalWeight > 0 ? Math.round((100 * peer.weight) / totalWeight) : 0;
  return `${share} %`;
}

function showState(cell, { state, reason }) {
  const [pill, why] = cell.children;
  pill.className = `pill ${state}`;
  text(pill, THIS_ROUND[state] ?? state);
  text(why, reason ?? "");
  attribute(cell, "title", reason);
}

const ROOT_WORDS = { self: "this node’s", same: "same", different: "different", unknown: "not reported" };

function showRoot(node, agrees, self) {
  const state = self ? "self" : agrees === true ? "same" : agrees === false ? "different" : "unknown";
  node.className = `root-state ${state}`;
  text(node, ROOT_WORDS[state]);
}

function contributionBar(id) {
  const bar = svg(
    "svg",
    { class: "rounds-bar", height: BAR.height, preserveAspectRatio: "none", role: "img" },
    svg("path", { class: "missed" }),
    svg("path", { class: "made" }),
  );
  bar.style.setProperty("--hue", peerHue(id));
  return bar;
}

/** Draws a peer's bar, with the newest round on the right. */
function showBar(bar, contributed) {
  const [missed, made] = bar.children;
  const paths = { missed: "", made: "" };
  contributed.forEach((did, index) => {
    const x = index * BAR.step;
    if (did) paths.made += `M${x} 0h${BAR.width}v${BAR.height}h-${BAR.width}z`;
    else paths.missed += `M${x} ${BAR.height - 4}h${BAR.width}v4h-${BAR.width}z`;
  });
  const width = contributed.length * BAR.step;
  attribute(bar, "width", width);
  attribute(bar, "viewBox", `0 0 ${width} ${BAR.height}`);
  attribute(missed, "d", paths.missed);
  attribute(made, "d", paths.made);
  attribute(bar, "aria-label", `contributed to ${contributed.filter(Boolean).length} of the last ${contributed.length} rounds`);
}
