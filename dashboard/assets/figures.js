// The five key figures.

import { byId, el, keyed, text } from "./dom.js";
import { UNKNOWN, compact, count, duration, known, loss, percent, plural } from "./format.js";

export function drawFigures(store) {
  const figures = [heldout(store), round(store), tokens(store), peers(store), trainingTime(store)];
  keyed(byId("figures"), figures, (figure) => figure.name, create, update);
}

function create({ name }) {
  return el(
    "div",
    { class: "figure" },
    el("dt", {}, name),
    el("dd", {}, el("span", { class: "value" }), el("span", { class: "unit" })),
    el("dd", { class: "sub" }),
  );
}

function update(node, { value, unit, sub, tone }) {
  const [, figure, note] = node.children;
  text(figure.firstChild, value);
  text(figure.lastChild, unit ? ` ${unit}` : "");
  text(note, sub || "\u00a0");
  note.className = tone ? `sub ${tone}` : "sub";
}

function heldout(store) {
  const measured = store.points().filter(([, point]) => known(point.heldout));
  const [last, before] = [measured.at(-1), measured.at(-2)];
  const figure = { name: "Held-out loss", value: loss(last?.[1].heldout), unit: "nats/byte" };
  if (!before) return { ...figure, sub: last ? "first measurement" : "not measured yet" };
  const change = last[1].heldout - before[1].heldout;
  const arrow = change < 0 ? "▼" : "▲";
  const sub = `${arrow} ${Math.abs(change).toFixed(3)} since round ${count(before[0])}`;
  return { ...figure, sub, tone: change < 0 ? "good" : undefined };
}

function round(store) {
  const recent = store.recent();
  const decided = store.curve.size;
  const seconds = average(recent.map((record) => record.seconds));
  const each = recent.length > 0 ? `, ${duration(seconds)} each` : "";
  return { name: "Round", value: count(store.snapshot.round.number), sub: `${count(decided)} decided${each}` };
}

function tokens(store) {
  const recent = store.recent();
  const total = recent[0]?.tokens ?? 0;
  const oldest = recent.at(-1);
  const seconds = sum(recent.slice(0, -1).map((record) => record.seconds));
  const rate = seconds > 0 ? `${compact((total - oldest.tokens) / seconds)} per second, all peers` : "all peers together";
  return { name: "Tokens", value: compact(total), sub: total > 0 ? rate : "none yet" };
}

function peers(store) {
  const { peers: all } = store.snapshot;
  const connected = all.filter((peer) => peer.connected).length;
  const voters = all.filter((peer) => peer.voter).length;
  const differing = all.filter((peer) => peer.state_root_agrees === false).length;
  if (all.length === 0) return { name: "Peers", value: UNKNOWN, sub: "none known yet" };
  const value = { name: "Peers", value: count(connected), unit: connected < all.length ? `of ${count(all.length)}` : "" };
  if (differing > 0) return { ...value, sub: `${plural(differing, "peer has", "peers have")} different weights`, tone: "bad" };
  const agreeing = all.every((peer) => peer.state_root_agrees === true);
  return { ...value, sub: `${plural(voters, "voter", "voters")}${agreeing ? ", same weights" : ""}` };
}

function trainingTime(store) {
  const recent = store.recent().filter((record) => record.seconds > 0);
  const total = sum(recent.map((record) => record.seconds));
  const training = sum(recent.map((record) => record.phases.train));
  const share = total > 0 ? Math.min(1, training / total) : undefined;
  return {
    name: "Time training",
    value: percent(share),
    unit: share === undefined ? "" : "%",
    sub: share === undefined ? "not measured yet" : "of recent rounds on this node",
  };
}

const sum = (values) => values.reduce((total, value) => total + value, 0);

const average = (values) => (values.length > 0 ? sum(values) / values.length : undefined);
