// The bar of a round's phases, with the progress of the current one.

import { attribute, byId, el, keyed, text } from "./dom.js";
import { duration } from "./format.js";
import { PHASES, PHASE_MEANINGS, PHASE_NAMES } from "./words.js";

/** The current phase never looks finished if its progress is estimated from time. */
const MOST_ESTIMATED = 0.97;

export function drawPhases(store) {
  const { round, node } = store.snapshot;
  const current = PHASES.indexOf(round.phase);
  const running = node.state === "training";
  const items = PHASES.map((phase, index) => ({
    phase,
    running: running && index === current,
    over: running && index < current,
    expected: round.expected[phase],
    elapsed: index === current ? phaseSeconds(store) : round.elapsed[phase],
    done: running && index === current ? progress(store) : Number(running && index < current),
  }));
  keyed(byId("phases"), items, (item) => item.phase, create, update);
}

/** Seconds since the current phase began, by the node's clock. */
function phaseSeconds(store) {
  const started = store.snapshot.round.phase_started_unix_ms;
  return started > 0 ? Math.max(0, (store.now() - started) / 1000) : 0;
}

/** The progress of the current phase, from 0 to 1: by steps if there are any, else by time. */
function progress(store) {
  const { round } = store.snapshot;
  if (round.phase === "train" && round.steps > 0) return Math.min(1, round.steps_done / round.steps);
  const expected = round.expected[round.phase];
  return expected > 0 ? Math.min(MOST_ESTIMATED, phaseSeconds(store) / expected) : 0;
}

function create({ phase }) {
  return el(
    "li",
    { class: `phase ${phase}`, title: PHASE_MEANINGS[phase] },
    el("span", { class: "track", "aria-hidden": "true" }, el("i")),
    el("span", { class: "phase-name" }, PHASE_NAMES[phase]),
    el("span", { class: "phase-time" }),
  );
}

function update(node, item) {
  const [track, , timeLabel] = node.children;
  node.classList.toggle("running", item.running);
  node.classList.toggle("over", item.over);
  attribute(node, "aria-current", item.running ? "step" : undefined);
  // Square roots, because training takes most of the time and the other phases should stay visible.
  node.style.setProperty("--share", Math.sqrt(Math.max(item.expected, 0.05)).toFixed(2));
  track.firstChild.style.transform = `scaleX(${item.done.toFixed(3)})`;
  text(timeLabel, label(item));
}

function label({ running, over, elapsed, expected }) {
  if (over) return duration(elapsed);
  if (running) return expected > 0 ? `${duration(elapsed)} of ~${duration(expected)}` : duration(elapsed);
  return expected > 0 ? `~${duration(expected)}` : "";
}
