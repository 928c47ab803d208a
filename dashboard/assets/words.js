// The state of the node in plain words.

import { count, plural } from "./format.js";

const TITLES = {
  starting: "Starting",
  catching_up: "Catching up with the run",
  waiting: "Waiting for others",
  paused: "Paused",
  error: "Stopped by an error",
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

/** What happens in a phase, for a tooltip. */
export const PHASE_MEANINGS = {
  train: "Every peer trains on its own samples, from the same weights",
  commit: "Peers commit to what they learnt, before anyone shows it",
  fetch: "Contributions are revealed and fetched",
  attest: "Voters measure what each contribution does to the loss",
  decide: "Voters agree on the exact set to apply",
  apply: "Everyone applies the agreed set, and has the same weights again",
};

/** One sentence: "Round 12: training, step 6 of 10". */
export function sentence(snapshot) {
  const { node, round } = snapshot;
  if (node.state !== "training") return TITLES[node.state] ?? node.state;
  return `Round ${count(round.number)}: ${phaseWords(snapshot)}`;
}

/** What the node has to say; else, what the phase is for. */
export function message({ node, round }) {
  if (node.message || node.state !== "training") return node.message;
  return `${PHASE_MEANINGS[round.phase]}.`;
}

/** The sentence without what changes every second, for screen readers. */
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
      return `fetching contributions, ${count(reached("fetched", "valid", "invalid"))} here`;
    case "attest":
      return `measuring contributions, ${count(reached("valid"))} found good`;
    case "decide":
      return "the voters are agreeing on the set";
    case "apply":
      return "applying the agreed contributions";
    default:
      return round.phase;
  }
}
