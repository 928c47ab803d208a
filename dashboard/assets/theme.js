// Light, dark, or as the system says. A classic script in the head, so that the page never flashes in the wrong one.
"use strict";

{
  const THEMES = ["auto", "light", "dark"];
  const KEY = "commonweal-theme";
  const root = document.documentElement;

  /** Storage may be forbidden; the choice then lasts as long as the page. */
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
        // Nothing to do: see above.
      }
      choose(next);
    });
  });
}
