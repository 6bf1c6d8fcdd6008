/** A flame graph for the chosen swarm, and its heaviest frames as a table. */

import flamegraph from "d3-flame-graph";
import { select } from "d3-selection";
import type { ReportData } from "./data";
import { percent, seconds } from "./format";
import { css, isDark, mix, onTheme, tone } from "./theme";

interface Node {
  name: string;
  value: number;
  children: Node[];
}

/** Pre-order rows (depth, name, µs) back to a tree. */
export function tree(names: string[], rows: number[]): Node {
  const path: Node[] = [];
  for (let at = 0; at < rows.length; at += 3) {
    const depth = rows[at]!;
    const node: Node = { name: names[rows[at + 1]!]!, value: rows[at + 2]! / 1e6, children: [] };
    path.length = depth;
    path[depth - 1]?.children.push(node);
    path.push(node);
  }
  return path[0]!;
}

/** Module or file of `function (file:line)` and `module!symbol`: frames of one place share a colour. */
function place(name: string): string {
  const file = /\(([^():]*)(:\d+)?\)$/.exec(name);
  return file ? file[1]! : name.split("!")[0]!;
}

function hash(text: string): number {
  let value = 2166136261;
  for (let at = 0; at < text.length; at += 1) value = Math.imul(value ^ text.charCodeAt(at), 16777619);
  return value >>> 0;
}

export function startFlame(data: ReportData): void {
  const element = document.getElementById("chart-flame");
  const { names, trees } = data.flames;
  if (!element || !trees.length) return;
  const choice = document.getElementById("flame-swarm") as HTMLSelectElement;
  const search = document.getElementById("flame-search") as HTMLInputElement;
  const detail = document.getElementById("flame-detail")!;
  choice.replaceChildren(...trees.map((one, at) => new Option(one.label, String(at))));
  let chart: any;
  let drawn = false;

  const draw = (): void => {
    drawn = true;
    const one = trees[Number(choice.value)]!;
    const root = tree(names, one.rows);
    const ground = css("--ground");
    chart?.destroy();
    element.replaceChildren();
    chart = (flamegraph as any)()
      .width(Math.max(300, element.clientWidth))
      .cellHeight(19)
      .minFrameSize(1)
      .transitionDuration(matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 250)
      .inverted(true)
      .sort(true)
      .title("")
      .setLabelHandler((frame: any) => `${frame.data.name}, ${seconds(frame.data.value)}, ${percent(frame.data.value / root.value)}`)
      .setColorMapper((frame: any) => {
        if (frame.highlight) return tone(data.alarm);
        const pair = data.tones[hash(place(frame.data.name as string)) % data.tones.length]!;
        return mix(tone(pair), ground, isDark() ? 0.42 : 0.4);
      })
      .onHover((frame: any) => {
        detail.textContent = `${frame.data.name} · ${seconds(frame.data.value)} · ${percent(frame.data.value / root.value)}`;
      });
    select(element).datum(root).call(chart);
    if (search.value) chart.search(search.value);
    table(root);
  };
  choice.addEventListener("change", draw);
  search.addEventListener("input", () => (search.value ? chart?.search(search.value) : chart?.clear()));
  document.getElementById("flame-reset")!.addEventListener("click", () => {
    search.value = "";
    chart?.clear();
    chart?.resetZoom();
  });
  onTheme(() => drawn && draw());
  let width = 0;
  new ResizeObserver(() => {
    if (!drawn || element.clientWidth === width) return;
    width = element.clientWidth;
    draw();
  }).observe(element.parentElement!);
  const near = new IntersectionObserver(
    (entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      near.disconnect();
      draw();
    },
    { rootMargin: "600px" },
  );
  near.observe(element);
  addEventListener("beforeprint", draw);
}

function table(root: Node): void {
  const own = new Map<string, [number, number]>();
  const walk = (node: Node, above: Set<string>): void => {
    const inner = node.children.reduce((sum, child) => sum + child.value, 0);
    const entry = own.get(node.name) ?? [0, 0];
    own.set(node.name, entry);
    entry[0] += Math.max(0, node.value - inner);
    const first = !above.has(node.name);
    if (first) entry[1] += node.value;
    if (first) above.add(node.name);
    for (const child of node.children) walk(child, above);
    if (first) above.delete(node.name);
  };
  walk(root, new Set());
  const rows = [...own].sort((a, b) => b[1][0] - a[1][0]).slice(0, 20);
  document.querySelector("#flame-table tbody")!.replaceChildren(
    ...rows.map(([name, [self, total]]) => {
      const row = document.createElement("tr");
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = name;
      row.append(head);
      for (const value of [self, total]) {
        const cell = document.createElement("td");
        cell.className = "n";
        cell.textContent = `${seconds(value)} · ${percent(value / root.value)}`;
        row.append(cell);
      }
      return row;
    }),
  );
}
