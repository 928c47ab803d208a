// The loss curve: held-out and training loss over rounds or tokens. Dashed lines show the loss of simpler models.

import { byId, el, text } from "./dom.js";
import { count, known, loss } from "./format.js";

/** With more points than this, markers would clutter the line. */
const MARKERS_UP_TO = 60;

/** The least distance between labels of dashed lines, in pixels. */
const LABEL_HEIGHT = 15;

const MARGIN = { top: 10, bottom: 42, left: 48, right: 92 };

const CONFIG = { displayModeBar: false, doubleClick: "reset" };

/** Up to this many rounds get one tick each; plotly.js would also put ticks between them. */
const TICK_EACH_UP_TO = 8;

export class Chart {
  constructor(store, onDrawn) {
    this.store = store;
    this.onDrawn = onDrawn;
    this.axis = "round";
    this.log = byId("log-axis").checked;
    this.probe = document.body.appendChild(el("span", { hidden: "" }));
    this.drawn = "";
    this.plotly = loadPlotly();
    new ResizeObserver(() => this.fit()).observe(byId("chart"));
    for (const input of document.querySelectorAll("input[name=axis]")) {
      if (input.checked) this.axis = input.value;
      input.addEventListener("change", () => {
        this.axis = input.value;
        this.draw();
      });
    }
    byId("log-axis").addEventListener("change", (event) => {
      this.log = event.target.checked;
      this.draw();
    });
    document.documentElement.addEventListener("themechange", () => this.draw());
  }

  /** Redraws if something changed: rounds, axis, theme or floors. */
  async draw() {
    const { snapshot, version } = this.store;
    if (snapshot === null) return;
    const floors = snapshot.floors.filter((floor) => known(floor.nats_per_byte));
    const wanted = JSON.stringify([version, this.axis, this.log, floors, this.colour("--ink")]);
    if (wanted === this.drawn) return;
    this.drawn = wanted;

    const points = this.store.points();
    const measured = points.filter(([, point]) => known(point.heldout));
    byId("chart-empty").hidden = points.length > 0;
    text(byId("chart-caption"), caption(measured, floors));
    if (points.length === 0) return this.onDrawn(0);
    const plotly = await this.plotly;
    await plotly.react(byId("chart"), this.traces(points), this.layout(points, floors), CONFIG);
    this.onDrawn(measured.length);
  }

  /** Resizes the plot to its container; plotly.js itself follows only the window. */
  async fit() {
    const plotly = await this.plotly;
    const graph = byId("chart");
    if (graph.classList.contains("js-plotly-plot") && graph.offsetParent !== null) plotly.Plots.resize(graph);
  }

  traces(points) {
    return [
      this.trace(points, "train", "training", { color: this.colour("--train-line"), width: 1.25 }, "lines"),
      this.trace(
        points,
        "heldout",
        "held-out",
        { color: this.colour("--accent"), width: 2.5 },
        points.length <= MARKERS_UP_TO ? "lines+markers" : "lines",
      ),
    ];
  }

  trace(points, key, name, line, mode) {
    const present = points.filter(([, point]) => known(point[key]));
    return {
      type: "scatter",
      name,
      mode,
      line,
      cliponaxis: false,
      marker: { size: 5, color: line.color },
      x: present.map(([round, point]) => (this.axis === "round" ? round : point.tokens)),
      y: present.map(([, point]) => point[key]),
      hovertemplate: "%{y:.3f}",
    };
  }

  layout(points, floors) {
    const ink = this.colour("--ink-3");
    const range = rangeOf(points, floors);
    const touch = matchMedia("(pointer: coarse)").matches;
    return {
      autosize: true,
      margin: { t: MARGIN.top, b: MARGIN.bottom, l: MARGIN.left, r: floors.length > 0 ? MARGIN.right : 12 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      showlegend: false,
      hovermode: "x unified",
      hoverlabel: { bgcolor: this.colour("--surface"), bordercolor: this.colour("--line"), font: { color: this.colour("--ink") } },
      // A finger scrolls the page, so only a mouse zooms.
      dragmode: touch ? false : "zoom",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: ink },
      uirevision: `${this.axis} ${this.log}`,
      xaxis: this.horizontal(points),
      yaxis: { range, gridcolor: this.colour("--line"), zeroline: false, ticksuffix: " ", title: { text: "" }, automargin: false },
      shapes: floors.map((floor) => this.line(floor)),
      annotations: this.labels(floors, range),
    };
  }

  horizontal(points) {
    const rounds = this.axis === "round";
    const linearStep = rounds && points.length <= TICK_EACH_UP_TO ? 1 : undefined;
    return {
      title: { text: rounds ? "round" : "tokens", standoff: 8 },
      // plotly.js omits round 0 on a logarithmic axis.
      type: this.log ? "log" : "linear",
      rangemode: this.log ? "normal" : "tozero",
      showgrid: false,
      zeroline: false,
      showline: true,
      linecolor: this.colour("--line"),
      hoverformat: rounds ? "d" : undefined,
      exponentformat: "B",
      automargin: false,
      tickformat: rounds ? "d" : undefined,
      // Ticks at powers of ten if there are several, else at 1, 2 and 5.
      dtick: this.log ? (points.length > 50 ? 1 : "D2") : linearStep,
    };
  }

  line({ nats_per_byte: y }) {
    const line = { color: this.colour("--ink-3"), width: 1.25, dash: "dash" };
    return { type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line, opacity: 0.75, layer: "below" };
  }

  /** Places labels to the right of their lines, and keeps them apart. */
  labels(floors, [bottom, top]) {
    const pixels = byId("chart").clientHeight - MARGIN.top - MARGIN.bottom;
    const perNat = pixels / (top - bottom);
    let lowest = Infinity;
    return [...floors]
      .sort((a, b) => b.nats_per_byte - a.nats_per_byte)
      .map(({ name, nats_per_byte: y }) => {
        const wanted = (y - bottom) * perNat;
        const placed = Math.min(wanted, lowest - LABEL_HEIGHT);
        lowest = placed;
        return {
          xref: "paper",
          x: 1,
          xanchor: "left",
          y,
          yshift: placed - wanted,
          yanchor: "middle",
          text: `${escape(name)} ${y.toFixed(2)}`,
          showarrow: false,
          font: { size: 11, color: this.colour("--ink-2") },
        };
      });
  }

  /** A colour of the current theme, resolved because custom properties hold both themes' colours. */
  colour(name) {
    this.probe.style.color = `var(${name})`;
    return getComputedStyle(this.probe).color;
  }
}

/** Loads plotly.js, a classic script of 4.6 MB, without making the page wait for it. */
function loadPlotly() {
  return new Promise((resolve, reject) => {
    const script = el("script", { src: "/assets/plotly.js" });
    script.addEventListener("load", () => resolve(window.Plotly));
    script.addEventListener("error", () => reject(new Error("could not load plotly.js from the node")));
    document.head.append(script);
  });
}

/** The vertical range of everything drawn, with a small margin. */
function rangeOf(points, floors) {
  const values = points.flatMap(([, point]) => [point.heldout, point.train]).filter(known);
  values.push(...floors.map((floor) => floor.nats_per_byte));
  const [low, high] = values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
  if (low > high) return [0, 1];
  const margin = Math.max(0.06 * (high - low), 0.02);
  return [low - margin, high + margin];
}

/** Escapes a label, because plotly.js reads some HTML in it. */
const escape = (name) => name.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

/** The caption: the curve in words. */
function caption(measured, floors) {
  if (measured.length === 0) return "";
  const [first, last] = [measured[0], measured.at(-1)];
  const now = last[1].heldout;
  if (measured.length === 1) return `Held-out loss is ${loss(now)} nats per byte after round ${count(last[0])}.`;
  const verb = now < first[1].heldout ? "fell" : "changed";
  const words = `Held-out loss ${verb} from ${loss(first[1].heldout)} to ${loss(now)} nats per byte by round ${count(last[0])}`;
  const beaten = floors.filter((floor) => now < floor.nats_per_byte).sort((a, b) => a.nats_per_byte - b.nats_per_byte)[0];
  return beaten ? `${words}, below ${beaten.name} (${beaten.nats_per_byte.toFixed(2)}).` : `${words}.`;
}
