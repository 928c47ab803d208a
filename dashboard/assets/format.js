// Formats numbers, sizes and times for people.

const counts = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compactCounts = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

/** Shown for unknown values: a dash as wide as a digit. */
export const UNKNOWN = "–";

export const known = (value) => value !== null && value !== undefined && Number.isFinite(value);

export const count = (value) => (known(value) ? counts.format(value) : UNKNOWN);

/** 12 400 000 as "12.4M". */
export const compact = (value) => (known(value) ? compactCounts.format(value) : UNKNOWN);

/** Nats per byte. */
export const loss = (value) => (known(value) ? value.toFixed(3) : UNKNOWN);

export const percent = (share) => (known(share) ? `${Math.round(100 * share)}` : UNKNOWN);

export function plural(number, one, many) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/** Bytes in decimal units, with three digits. */
export function bytes(value) {
  if (!known(value)) return UNKNOWN;
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  let figure = value;
  while (figure >= 999.5 && unit < units.length - 1) {
    figure /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || figure >= 99.5 ? 0 : figure >= 9.95 ? 1 : 2;
  return `${figure.toFixed(digits)} ${units[unit]}`;
}

/** Seconds as "0.4 s", "8.2 s", "3 min 20 s", "2 h 5 min", "3 d 4 h". */
export function duration(seconds) {
  if (!known(seconds)) return UNKNOWN;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return pair(whole, 60, "min", "s");
  if (whole < 86400) return pair(Math.round(whole / 60), 60, "h", "min");
  return pair(Math.round(whole / 3600), 24, "d", "h");
}

function pair(value, divisor, large, small) {
  const rest = value % divisor;
  return rest ? `${Math.floor(value / divisor)} ${large} ${rest} ${small}` : `${value / divisor} ${large}`;
}

/** The first eight digits of a hash. */
export const shortHex = (hex) => (hex ? hex.slice(0, 8) : UNKNOWN);

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export const time = (unixMs) => clock.format(new Date(unixMs));
