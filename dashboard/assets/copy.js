// Copies to the clipboard, and confirms it in a toast.

import { byId, text } from "./dom.js";

const TOAST_MS = 1800;
let hiding;

/** Copies `value`; the toast says `what` was copied. */
export async function copy(value, what) {
  const copied = (await viaClipboard(value)) || viaSelection(value);
  showToast(copied ? `${what} copied` : "Could not copy. Select the text and copy it manually.");
}

/** Browsers allow this only on localhost and over HTTPS. */
async function viaClipboard(value) {
  try {
    await navigator.clipboard.writeText(value);
    return true;
  } catch {
    return false;
  }
}

/** The deprecated way, which works everywhere else. */
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

function showToast(words) {
  const toast = byId("toast");
  text(toast, words);
  toast.classList.add("shown");
  clearTimeout(hiding);
  hiding = setTimeout(() => toast.classList.remove("shown"), TOAST_MS);
}
