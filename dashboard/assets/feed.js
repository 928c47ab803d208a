// The connection to the node: the event stream, and the curve once per connection.
//
// Browsers reconnect an event stream after some failures only, and do not notice a connection that went silent. So this
// watches the pings, and reconnects with growing pauses.

/** The node sends a ping every five seconds. */
const SILENT_AFTER_MS = 12_000;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 8_000;

export class Feed {
  /** Calls `onLink(live)` when the connection comes or goes, `onUpdate(update)` and `onCurve(curve)` with new data. */
  constructor({ onLink, onUpdate, onCurve }) {
    Object.assign(this, { onLink, onUpdate, onCurve });
    this.pause = FIRST_PAUSE_MS;
    this.open();
    // When a laptop wakes up or a tab is shown again, reconnect without waiting for the pause.
    window.addEventListener("online", () => this.restart());
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible" && this.source === null) this.restart();
    });
    window.addEventListener("pagehide", () => this.close());
    window.addEventListener("pageshow", (event) => event.persisted && this.restart());
  }

  open() {
    this.close();
    const source = new EventSource("/api/events");
    this.source = source;
    this.watch();
    source.addEventListener("open", () => this.loadCurve());
    source.addEventListener("ping", () => this.alive());
    source.addEventListener("snapshot", (event) => {
      this.alive();
      this.onUpdate(JSON.parse(event.data));
    });
    source.addEventListener("error", () => this.lost());
  }

  close() {
    clearTimeout(this.silence);
    clearTimeout(this.retry);
    this.source?.close();
    this.source = null;
  }

  restart() {
    this.pause = FIRST_PAUSE_MS;
    this.open();
  }

  alive() {
    this.pause = FIRST_PAUSE_MS;
    this.watch();
    this.onLink(true);
  }

  watch() {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.lost(), SILENT_AFTER_MS);
  }

  lost() {
    this.close();
    this.onLink(false);
    this.retry = setTimeout(() => this.open(), this.pause);
    this.pause = Math.min(2 * this.pause, LONGEST_PAUSE_MS);
  }

  async loadCurve() {
    try {
      const answer = await fetch("/api/curve");
      if (answer.ok) this.onCurve(await answer.json());
    } catch {
      // The event stream notices the same failure, and reconnects.
    }
  }
}

/** Fetches the full records of rounds before `round`, ascending. */
export async function recordsBefore(round, limit) {
  const answer = await fetch(`/api/history?before=${round}&limit=${limit}`);
  if (!answer.ok) throw new Error(`the node answered ${answer.status}`);
  return (await answer.json()).records;
}
