/** Brings the page to life: charts from the embedded data, tables, theme. Without it the page still says everything in words. */

import "./report.css";
import { load, type Steps } from "./data";
import * as format from "./format";
import { startFlame } from "./flame";
import { drawHistogram } from "./histogram";
import { LanesChart } from "./lanes";
import { RanksChart } from "./ranks";
import { StepsChart } from "./steps";
import { startTables } from "./tables";
import { startTheme } from "./theme";
import { TimeAxis } from "./timeaxis";

const data = load();
const at = (id: string): HTMLElement | null => document.getElementById(id);

startTheme();
startTables();
const started = at("started") as HTMLTimeElement;
const when = new Date(Number(started.dataset.ms));
if (Number(started.dataset.ms) > 1e11) {
  started.dateTime = when.toISOString();
  started.textContent = `${when.toISOString().slice(0, 16).replace("T", " ")} UTC · `;
}

const steps = data.steps.count ? (data.steps as Steps) : undefined;
const times = [
  ...(steps ? [steps.start[0]! / 1000, steps.end[steps.end.length - 1]! / 1000] : []),
  ...data.lanes.flatMap((lane) => (lane.series ?? [lane.band!]).flatMap((one) => [one.time[0]!, one.time[one.time.length - 1]!])),
];
const first = times.length ? Math.min(...times) : 0;
const last = Math.max(times.length ? Math.max(...times) : 1, first + 1);
const typical = steps ? (steps.end[steps.end.length - 1]! - steps.start[0]!) / 1000 / steps.start.length : (last - first) / 200;
const axis = new TimeAxis(first, last, Math.min(last - first, typical * 4));

const elements = { steps: at("chart-iterations"), lanes: at("chart-lanes"), ranks: at("chart-ranks"), histogram: at("chart-histogram") };
if (elements.steps && steps) new StepsChart(elements.steps, data, steps, axis);
if (elements.lanes) new LanesChart(elements.lanes, data, axis);
if (elements.ranks && data.ranks) new RanksChart(elements.ranks, data, data.ranks, axis);
if (elements.histogram && data.histogram) drawHistogram(elements.histogram, data, data.histogram);
else if (elements.histogram) elements.histogram.textContent = "One iteration alone has no distribution.";
startFlame(data);
for (const button of document.querySelectorAll<HTMLButtonElement>("[data-zoom]")) {
  button.addEventListener("click", () => axis.button(button.dataset.zoom!));
}

const bar = at("window-bar");
const showWindow = (): void => {
  const width = axis.last - axis.first;
  const step = (axis.high - axis.low) / 20;
  bar!.style.left = `${((axis.low - axis.first) / width) * 100}%`;
  bar!.style.width = `${((axis.high - axis.low) / width) * 100}%`;
  at("window-text")!.textContent = axis.whole ? "whole run" : `${format.elapsed(axis.low, step)} to ${format.elapsed(axis.high, step)}`;
};
if (bar) {
  axis.onChange(showWindow);
  showWindow();
}

const links = new Map([...document.querySelectorAll<HTMLAnchorElement>("nav.side a")].map((link) => [link.hash.slice(1), link]));
const seen = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  },
  { rootMargin: "-15% 0px -75% 0px" },
);
for (const section of document.querySelectorAll("main section")) seen.observe(section);

declare global {
  interface Window {
    sofaReport: { axis: TimeAxis; format: typeof format };
  }
}
window.sofaReport = { axis, format };
