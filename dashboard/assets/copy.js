// Copying to the clipboard, with a word that it worked.

import { byId, text } from "./dom.js";

const TOAST_MS = 1800;
let hiding;

/** Copies, and says so in the toast. */
export async function copy(value, what) {
  const copied = (await viaClipboard(value)) || viaSelection(value);
  say(copied ? `${what} copied` : `Could not copy: select the text and copy it by hand`);
}

/** Browsers offer this only on localhost and under https. */
async function viaClipboard(value) {
  try {
    await navigator.clipboard.writeText(value);
    return true;
  } catch {
    return false;
  }
}

/** The old way, which works everywhere else. */
function viaSelection(value) {
  const area = document.createElement("textarea");
  area.value = value;
  area.className = "visually-hidden";
  const focused = document.activeElement;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return copied;
}

function say(words) {
  const toast = byId("toast");
  text(toast, words);
  toast.classList.add("shown");
  clearTimeout(hiding);
  hiding = setTimeout(() => toast.classList.remove("shown"), TOAST_MS);
}
