// Recent activity: log lines, traffic by kind, and drops by cause.

import { byId, el, keyed, text } from "./dom.js";
import { bytes, count, time } from "./format.js";

const LINES = 60;

export function drawActivity({ snapshot }) {
  drawLog(snapshot.events);
  drawTraffic(snapshot.traffic);
  drawDropped(snapshot.dropped);
}

/** Shows the newest line first, so that nobody has to scroll. */
function drawLog(events) {
  const seen = new Map();
  const lines = events.map((line) => {
    const key = `${line.unix_ms} ${line.text}`;
    seen.set(key, (seen.get(key) ?? 0) + 1);
    return { ...line, key: `${key} ${seen.get(key)}` };
  });
  keyed(
    byId("log"),
    lines.slice(-LINES).reverse(),
    (line) => line.key,
    (line) =>
      el(
        "li",
        { class: line.level },
        el("time", { datetime: new Date(line.unix_ms).toISOString() }, time(line.unix_ms)),
        el("span", { class: "log-text" }, ...levelWords(line.level), line.text),
      ),
    () => {},
  );
  byId("log-empty").hidden = events.length > 0;
}

/** The level in words, because colour alone must not carry the meaning. */
const levelWords = (level) => (level === "warn" || level === "error" ? [el("b", {}, level === "warn" ? "Warning: " : "Error: ")] : []);

function drawTraffic(traffic) {
  const rows = Object.entries(traffic).sort(([, a], [, b]) => total(b) - total(a));
  keyed(byId("traffic"), rows, ([kind]) => kind, ([kind]) => row(kind, 2), (node, [, figures]) => {
    text(node.children[1], bytes(figures.bytes_sent));
    text(node.children[2], bytes(figures.bytes_received));
  });
  byId("traffic-empty").hidden = rows.length > 0;
}

const total = ({ bytes_sent: sent, bytes_received: received }) => sent + received;

function drawDropped(dropped) {
  const rows = Object.entries(dropped).filter(([, number]) => number > 0).sort(([, a], [, b]) => b - a);
  keyed(byId("dropped"), rows, ([cause]) => cause, ([cause]) => row(cause, 1), (node, [, number]) => {
    text(node.children[1], count(number));
  });
  byId("dropped-empty").hidden = rows.length > 0;
}

function row(name, figures) {
  const cells = Array.from({ length: figures }, () => el("td", { class: "number" }));
  return el("tr", {}, el("th", { scope: "row" }, name), ...cells);
}
