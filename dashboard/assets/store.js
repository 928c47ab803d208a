// The page's data: the latest snapshot, decided rounds by number, and the loss curve of all rounds.

/** Rounds in a recent average. */
export const RECENT = 20;

export class Store {
  constructor() {
    this.snapshot = null;
    /** How far the node's clock is ahead of the browser's, in milliseconds. */
    this.clockAhead = 0;
    this.forget();
  }

  /** Discards all rounds, because the node switched to another run. */
  forget() {
    /** Full records by round number. */
    this.records = new Map();
    /** `{heldout, train, tokens}` by round number. */
    this.curve = new Map();
    /** Counts changes of records and curve, so that views redraw only when something changed. */
    this.version = (this.version ?? 0) + 1;
  }

  /** Stores an update from the event stream. Returns whether it belongs to another run than before. */
  update({ snapshot, records, now_unix_ms: now }) {
    const switched = this.snapshot !== null && this.snapshot.run.id !== snapshot.run.id;
    if (switched) this.forget();
    this.snapshot = snapshot;
    this.clockAhead = now - Date.now();
    this.addRecords(records);
    return switched;
  }

  addRecords(records) {
    for (const record of records) {
      this.records.set(record.round, record);
      this.curve.set(record.round, {
        heldout: record.heldout_nats_per_byte,
        train: record.train_nats_per_byte,
        tokens: record.tokens,
      });
    }
    if (records.length > 0) this.version += 1;
  }

  addCurve(columns) {
    columns.round.forEach((round, index) => {
      if (this.records.has(round)) return;
      this.curve.set(round, {
        heldout: columns.heldout_nats_per_byte[index],
        train: columns.train_nats_per_byte[index],
        tokens: columns.tokens[index],
      });
    });
    this.version += 1;
  }

  /** The current time by the node's clock, in milliseconds since 1970. */
  now() {
    return Date.now() + this.clockAhead;
  }

  /** All full records, newest first. */
  newestFirst() {
    return this.sorted().records;
  }

  /** The latest full records, newest first. */
  recent() {
    return this.newestFirst().slice(0, RECENT);
  }

  /** `[round, point]` in ascending order. */
  points() {
    return this.sorted().points;
  }

  /** Records and points, sorted once per change. */
  sorted() {
    if (this.order?.version !== this.version) {
      this.order = {
        version: this.version,
        records: [...this.records.values()].sort((a, b) => b.round - a.round),
        points: [...this.curve.entries()].sort(([a], [b]) => a - b),
      };
    }
    return this.order;
  }
}
