// Decided rounds, newest first, each with the state root of its weights.

import { byId, el, keyed, text } from "./dom.js";
import { bytes, count, duration, known, loss, plural, shortHex } from "./format.js";
import { copy } from "./copy.js";
import { avatar, stripes } from "./identity.js";
import { recordsBefore } from "./feed.js";
import { PHASES, PHASE_NAMES } from "./words.js";

const SHOWN_FIRST = 10;
const SHOWN_MORE = 50;
/** Contributors shown as avatars; all are counted beside them. */
const AVATARS = 6;

export class Rounds {
  constructor(store) {
    this.store = store;
    this.shown = SHOWN_FIRST;
    byId("older-rounds").addEventListener("click", () => this.showOlder());
  }

  draw() {
    const all = this.store.newestFirst();
    const rows = all.slice(0, this.shown).map((record, index) => ({
      record,
      before: all[index + 1],
      names: this.names(),
    }));
    keyed(byId("rounds"), rows, (row) => row.record.round, create, update);
    byId("rounds-empty").hidden = all.length > 0;
    const oldest = this.store.points()[0]?.[0] ?? 0;
    byId("older-rounds").hidden = rows.length === 0 || rows.at(-1).record.round <= oldest;
  }

  names() {
    return new Map(this.store.snapshot.peers.map((peer) => [peer.id, peer.name]));
  }

  /** Shows more rounds, and fetches the missing ones. */
  async showOlder() {
    const button = byId("older-rounds");
    button.disabled = true;
    this.shown += SHOWN_MORE;
    try {
      const all = this.store.newestFirst();
      if (all.length < this.shown && all.length > 0) {
        const older = await recordsBefore(all.at(-1).round, SHOWN_MORE);
        this.store.addRecords(older);
        // The node no longer has full records of older rounds, only their curve.
        if (older.length === 0) button.remove();
      }
    } catch {
      // The banner shows that the node is gone. The button stays, to retry.
      this.shown -= SHOWN_MORE;
    }
    button.disabled = false;
    if (button.isConnected) this.draw();
  }
}

function create({ record }) {
  const root = el("button", { class: "chip root", type: "button", title: `Copy state root ${record.root}` });
  root.addEventListener("click", () => copy(root.dataset.root, "State root"));
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, count(record.round)),
    el("td", {}, el("span", { class: "loss" }), el("span", { class: "delta" })),
    el("td", {}, el("span", { class: "contributors" }), el("span", { class: "contributor-count" })),
    el("td", { class: "wide" }),
    el("td", {}, root),
    el("td", { class: "medium" }, el("span", { class: "split", "aria-hidden": "true" }), el("span", { class: "seconds" })),
    el("td", { class: "wide number traffic" }, el("span", { class: "sent" }), el("span", { class: "received" })),
  );
}

function update(row, { record, before, names }) {
  const [, lossCell, contributions, signed, root, time, traffic] = row.children;
  text(lossCell.firstChild, loss(record.heldout_nats_per_byte));
  showDelta(lossCell.lastChild, record, before);
  showContributors(contributions, record, names);
  text(signed, certificate(record));
  showRoot(root.firstChild, record.root);
  showTime(time, record);
  text(traffic.firstChild, `↑ ${bytes(record.bytes_sent)}`);
  text(traffic.lastChild, `↓ ${bytes(record.bytes_received)}`);
}

function showDelta(node, record, before) {
  const [now, then] = [record.heldout_nats_per_byte, before?.heldout_nats_per_byte];
  const change = known(now) && known(then) ? now - then : undefined;
  text(node, change === undefined ? "" : `${change < 0 ? "−" : "+"}${Math.abs(change).toFixed(3)}`);
  node.classList.toggle("good", change < 0);
}

function showContributors(cell, { contributors, contributions }, names) {
  const avatars = contributors.slice(0, AVATARS).map((id) => ({ id, name: names.get(id) || shortHex(id) }));
  keyed(cell.firstChild, avatars, (item) => item.id, ({ id, name }) => el("span", { title: name }, avatar(id)), () => {});
  text(cell.lastChild, count(contributions));
}

function certificate({ certificate_voters: voters, certificate_weight: weight, roster_weight: all }) {
  const share = all > 0 ? `, ${Math.round((100 * weight) / all)} % of votes` : "";
  return `${plural(voters, "voter", "voters")}${share}`;
}

function showRoot(button, root) {
  if (button.dataset.root === root) return;
  button.dataset.root = root;
  button.setAttribute("aria-label", `Copy state root ${root}`);
  button.replaceChildren(stripes(root), el("code", {}, shortHex(root)));
}

function showTime(cell, { phases, seconds }) {
  const parts = PHASES.map((phase) => ({ phase, share: phases[phase] }));
  keyed(
    cell.firstChild,
    parts,
    (part) => part.phase,
    ({ phase }) => el("i", { class: phase }),
    (part, { share }) => part.style.setProperty("--share", String(Math.max(0, share))),
  );
  cell.title = parts.map(({ phase, share }) => `${PHASE_NAMES[phase]} ${duration(share)}`).join("\n");
  text(cell.lastChild, duration(seconds));
}
