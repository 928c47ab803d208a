// What stands beside the curve: the invitation, the run's facts, this machine's facts.

import { byId, facts, text } from "./dom.js";
import { copy } from "./copy.js";
import { compact, count, duration, shortHex } from "./format.js";

let link = "";

/** Makes the copy buttons work. */
export function setUpInvite() {
  byId("copy-command").addEventListener("click", () => copy(command(link), "Command"));
  byId("copy-link").addEventListener("click", () => copy(link, "Link"));
  byId("run-id").addEventListener("click", () => copy(byId("run-id").dataset.id, "Run id"));
}

const command = (target) => `weal join '${target}'`;

export function drawAbout({ snapshot }) {
  drawInvite(snapshot.run);
  drawRun(snapshot.run);
  drawNode(snapshot.node);
}

function drawInvite(run) {
  link = run.link;
  for (const id of ["copy-command", "copy-link"]) byId(id).disabled = !link;
  text(byId("invite-command"), link ? command(link) : "the link is not known yet");
  const warning = link ? reach(link) : "";
  text(byId("invite-warning"), warning);
  byId("invite-warning").hidden = !warning;
}

/** An invitation whose addresses lead nowhere should say so before it is sent. */
function reach(target) {
  const addresses = [...new URLSearchParams(target.split("?")[1] ?? "").getAll("peer")];
  if (addresses.length === 0) return "It names no peer: others must be on the same local network to find the run.";
  if (addresses.every((address) => /^\/ip4\/127\.|^\/ip6\/::1\//.test(address))) {
    return "Its addresses work only on this machine.";
  }
  if (addresses.every((address) => /^\/ip4\/(127|10|192\.168|172\.(1[6-9]|2\d|3[01]))\./.test(address))) {
    return "Its addresses work only in the local network.";
  }
  return "";
}

function drawRun(run) {
  text(byId("run-name"), run.name || (run.id ? "unnamed" : "…"));
  document.title = run.name ? `${run.name} · Commonweal` : "Commonweal";
  const id = byId("run-id");
  id.hidden = !run.id;
  if (id.dataset.id !== run.id) {
    id.dataset.id = run.id;
    id.setAttribute("aria-label", `Copy run id ${run.id}`);
    id.title = `Run id ${run.id}: copy`;
    text(id, shortHex(run.id));
  }
  facts(byId("run-facts"), [
    ["Model", run.model],
    ["Parameters", run.parameters && compact(run.parameters)],
    ["Data", run.data],
    ["Steps per round", run.inner_steps && `${count(run.inner_steps)} of ${count(run.batch)} sequences`],
    ["Sent per round", run.keep && run.chunk && `${count(run.keep)} of each ${count(run.chunk)} values`],
  ]);
}

function drawNode(node) {
  facts(byId("node-facts"), [
    ["Name", node.name],
    ["Key", node.id && shortHex(node.id)],
    ["Device", node.device],
    ["Threads", node.threads && count(node.threads)],
    ["Running for", node.uptime_seconds && duration(Math.floor(node.uptime_seconds))],
  ]);
  text(byId("version"), node.version ? `weal ${node.version}` : "Commonweal");
}
