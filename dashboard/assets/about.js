// The cards beside the loss curve: the invitation, the run and this node.

import { byId, facts, text } from "./dom.js";
import { copy } from "./copy.js";
import { bytes, compact, count, duration, plural, shortHex } from "./format.js";

let link = "";

/** Connects the copy buttons. */
export function setUpInvite() {
  byId("copy-command").addEventListener("click", () => copy(command(link), "Command"));
  byId("copy-link").addEventListener("click", () => copy(link, "Link"));
  byId("run-id").addEventListener("click", () => copy(byId("run-id").dataset.id, "Run ID"));
}

const command = (target) => `weal join '${target}'`;

export function drawAbout({ snapshot }) {
  drawInvite(snapshot.run);
  drawRun(snapshot.run);
  drawNode(snapshot.node, snapshot.month);
}

function drawInvite(run) {
  link = run.link;
  for (const id of ["copy-command", "copy-link"]) byId(id).disabled = !link;
  text(byId("invite-command"), link ? command(link) : "no link yet");
  const warning = link ? reach(link) : "";
  text(byId("invite-warning"), warning);
  byId("invite-warning").hidden = !warning;
}

/** A warning if others could not connect by the link's addresses, else an empty string. */
function reach(target) {
  const addresses = [...new URLSearchParams(target.split("?")[1] ?? "").getAll("peer")];
  if (addresses.length === 0) return "This link has no addresses, so it only works on this local network.";
  if (addresses.every((address) => /^\/ip4\/127\.|^\/ip6\/::1\//.test(address))) {
    return "The addresses in this link only work on this machine.";
  }
  if (addresses.every((address) => /^\/ip4\/(127|10|192\.168|172\.(1[6-9]|2\d|3[01]))\./.test(address))) {
    return "The addresses in this link only work on this local network.";
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
    id.setAttribute("aria-label", `Copy run ID ${run.id}`);
    id.title = `Copy run ID ${run.id}`;
    text(id, shortHex(run.id));
  }
  facts(byId("run-facts"), [
    ["Model", run.model],
    ["Parameters", run.parameters && compact(run.parameters)],
    ["Data", run.data],
    ["Inner steps per round", run.inner_steps && `${count(run.inner_steps)}, of ${plural(run.batch, "sequence", "sequences")} each`],
    ["Compression", run.keep && run.chunk && `${count(run.keep)} of every ${count(run.chunk)} values sent`],
  ]);
}

// What was sent and received this month, and the limits.
function ofMonth(month) {
  const used = (number, most) => (most ? `${bytes(number)} of ${bytes(most)}` : bytes(number));
  return `${used(month.bytes_sent, month.max_bytes_sent)} sent, ${used(month.bytes_received, month.max_bytes_received)} received`;
}

function drawNode(node, month) {
  facts(byId("node-facts"), [
    ["Name", node.name],
    ["Public key", node.id && shortHex(node.id)],
    ["Device", node.device],
    ["Threads", node.threads && count(node.threads)],
    ["Reachability", node.reachability],
    ["Advice", node.reachability_advice],
    ["Bytes this month", month?.month && ofMonth(month)],
    ["Uptime", node.uptime_seconds && duration(Math.floor(node.uptime_seconds))],
  ]);
  text(byId("version"), node.version ? `weal ${node.version}` : "Commonweal");
}
