/** Light, dark or as the system says; charts ask here for every colour that is not data. */

const listeners: (() => void)[] = [];
const system = matchMedia("(prefers-color-scheme: dark)");
type Choice = "system" | "light" | "dark";
let choice: Choice = "system";
let printing = false;

export function isDark(): boolean {
  if (printing) return false;
  return choice === "system" ? system.matches : choice === "dark";
}

export function tone(pair: readonly [string, string] | { light: string; dark: string }): string {
  if ("light" in pair) return isDark() ? pair.dark : pair.light;
  return isDark() ? pair[1] : pair[0];
}

/** A custom property of the style sheet. */
export function css(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** `part` of a colour (#rrggbb) laid over another. */
export function mix(over: string, under: string, part: number): string {
  const channel = (color: string, at: number): number => parseInt(color.slice(at, at + 2), 16);
  return `#${[1, 3, 5].map((at) => Math.round(channel(over, at) * part + channel(under, at) * (1 - part)).toString(16).padStart(2, "0")).join("")}`;
}

export function onTheme(listener: () => void): void {
  listeners.push(listener);
}

function apply(): void {
  const root = document.documentElement;
  if (printing) root.dataset.theme = "light";
  else if (choice === "system") delete root.dataset.theme;
  else root.dataset.theme = choice;
  const button = document.getElementById("theme")!;
  const names = { system: "Theme: system", light: "Theme: light", dark: "Theme: dark" };
  button.textContent = names[choice];
  button.setAttribute("aria-label", `Colour ${names[choice]}; press to change`);
  for (const listener of listeners) listener();
}

export function startTheme(): void {
  try {
    const kept = localStorage.getItem("sofa-theme");
    if (kept === "light" || kept === "dark") choice = kept;
  } catch {
    // a page from disk may have no storage: the choice then lives as long as the page
  }
  document.getElementById("theme")!.addEventListener("click", () => {
    choice = choice === "system" ? (system.matches ? "light" : "dark") : choice === (system.matches ? "light" : "dark") ? (system.matches ? "dark" : "light") : "system";
    try {
      localStorage.setItem("sofa-theme", choice);
    } catch {
      // see above
    }
    apply();
  });
  system.addEventListener("change", apply);
  addEventListener("beforeprint", () => {
    printing = true;
    apply();
  });
  addEventListener("afterprint", () => {
    printing = false;
    apply();
  });
  apply();
}
