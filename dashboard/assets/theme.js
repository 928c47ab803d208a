// The theme: light, dark or the system's. A classic script in the head, so that the wrong theme never flashes.
"use strict";

{
  const THEMES = ["auto", "light", "dark"];
  const KEY = "commonweal-theme";
  const root = document.documentElement;

  /** The saved theme. If storage is blocked, the choice lasts until the page is closed. */
  const stored = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null;
    }
  };

  const choose = (theme) => {
    root.dataset.theme = THEMES.includes(theme) ? theme : "auto";
    const button = document.getElementById("theme");
    if (button) button.textContent = `Theme: ${root.dataset.theme}`;
    root.dispatchEvent(new Event("themechange"));
  };

  choose(stored());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => choose(root.dataset.theme));
  document.addEventListener("DOMContentLoaded", () => {
    choose(root.dataset.theme);
    document.getElementById("theme").addEventListener("click", () => {
      const next = THEMES[(THEMES.indexOf(root.dataset.theme) + 1) % THEMES.length];
      try {
        localStorage.setItem(KEY, next);
      } catch {
        // Storage is blocked: see `stored`.
      }
      choose(next);
    });
  });
}
