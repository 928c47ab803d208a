// Colours and small pictures derived from hashes, so that equal hashes look equal at a glance.

import { el, svg } from "./dom.js";

/** FNV-1a with a final mix, 32 bits. Not for security. */
function mix(string, seed) {
  let hash = 0x811c9dc5 ^ seed;
  for (let index = 0; index < string.length; index += 1) {
    hash = Math.imul(hash ^ string.charCodeAt(index), 0x01000193);
  }
  hash ^= hash >>> 15;
  return Math.imul(hash, 0x2c1b3c6d) >>> 0;
}

const hue = (string, seed) => mix(string, seed) % 360;

/** The hue of a peer's colour; the theme sets the lightness. */
export const peerHue = (id) => String(hue(id, 1));

const GRID = 5;

/** A peer's avatar: a mirrored pattern of 5 × 5 cells in its colour. */
export function avatar(id) {
  const bits = mix(id, 2);
  let path = "";
  for (let row = 0; row < GRID; row += 1) {
    for (let column = 0; column < GRID; column += 1) {
      const bit = row * 3 + Math.min(column, GRID - 1 - column);
      if ((bits >>> bit) & 1) path += `M${column} ${row}h1v1h-1z`;
    }
  }
  const picture = svg("svg", { class: "avatar", viewBox: "-0.75 -0.75 6.5 6.5", "aria-hidden": "true" }, svg("path", { d: path }));
  picture.style.setProperty("--hue", peerHue(id));
  return picture;
}

/** Four coloured stripes derived from a hash. */
export function stripes(hash) {
  const band = el("span", { class: "stripes", "aria-hidden": "true" });
  for (let seed = 11; seed < 15; seed += 1) {
    const stripe = el("i");
    stripe.style.setProperty("--hue", String(hue(hash, seed)));
    band.append(stripe);
  }
  return band;
}
