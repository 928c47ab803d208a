// The state of the node in words.

import { count, plural } from "./format.js";

const TITLES = {
  starting: "Starting",
  catching_up: "Catching up",
  waiting: "Waiting for peers",
  paused: "Paused",
  error: "Cannot train",
};

export const PHASES = ["train", "commit", "fetch", "attest", "decide", "apply"];

export const PHASE_NAMES = {
  train: "Train",
  commit: "Commit",
  fetch: "Fetch",
  attest: "Attest",
  decide: "Decide",
  apply: "Apply",
};

/** What happens in each phase, for the tooltips and the line under the headline. */
export const PHASE_MEANINGS = {
  train: "Each peer trains on different samples, starting from the same weights",
  commit: "Each peer commits to its contribution before any are revealed",
  fetch: "Peers reveal their contributions and fetch the others",
  attest: "Peers check that contributions are well-formed and attest the valid ones",
  decide: "Voters agree on the exact set to apply",
  apply: "Every peer applies the agreed set and arrives at the same weights",
};

/** The headline: "Round 12: training, step 6 of 10". */
export function sentence(snapshot) {
  const { node, round } = snapshot;
  if (node.state !== "training") return TITLES[node.state] ?? node.state;
  return `Round ${count(round.number)}: ${phaseWords(snapshot)}`;
}

/** The line under the headline: the node's message, or else the meaning of the phase. */
export function message({ node, round }) {
  if (node.message || node.state !== "training") return node.message;
  return `${PHASE_MEANINGS[round.phase]}.`;
}

/** The headline for screen readers, without the numbers that change every second. */
export function announcement(snapshot) {
  const { node, round } = snapshot;
  if (node.state !== "training") return `${sentence(snapshot)}. ${node.message}`;
  return `Round ${count(round.number)}, ${PHASE_NAMES[round.phase]}`;
}

function phaseWords({ round, peers }) {
  const reached = (...states) => peers.filter((peer) => states.includes(peer.this_round.state)).length;
  switch (round.phase) {
    case "train":
      return round.steps > 0 ? `training, step ${count(round.steps_done)} of ${count(round.steps)}` : "training";
    case "commit":
      return `${count(reached("committed", "fetched", "valid", "invalid"))} of ${plural(peers.length, "peer has", "peers have")} committed`;
    case "fetch":
      return `fetching contributions, ${count(reached("fetched", "valid", "invalid"))} received`;
    case "attest":
      return `checking contributions, ${count(reached("valid"))} valid`;
    case "decide":
      return "voters are deciding on the set";
    case "apply":
      return "applying the agreed contributions";
    default:
      return round.phase;
  }
}
