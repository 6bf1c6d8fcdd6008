/** Iterations over time: a bar each as long as it lasted, as high as its duration, split by phase. */

import type { CustomSeriesRenderItemAPI, CustomSeriesRenderItemParams, EChartsOption } from "echarts";
import { axisStyle, base, Chart, sides, timeXAxis } from "./chart";
import { escape, LEFT, RIGHT, type Look, type ReportData, type Steps } from "./data";
import { elapsed, seconds } from "./format";
import { legendItem } from "./legend";
import { css, tone } from "./theme";
import type { TimeAxis } from "./timeaxis";

/** Some neighbouring iterations drawn as one bar. */
interface Group {
  first: number;
  last: number;
  mean: number;
  max: number;
  odd: number;
  kind: number;
  split: number[];
}

/** Bars of at least three pixels: neighbours are merged while the view is wide. */
export function groups(steps: Steps, low: number, high: number, pixels: number): Group[] {
  let first = 0;
  let last = steps.start.length - 1;
  while (first < last && steps.end[first]! / 1000 < low) first += 1;
  while (last > first && steps.start[last]! / 1000 > high) last -= 1;
  const size = Math.max(1, Math.ceil((last - first + 1) / Math.max(1, pixels / 3)));
  const out: Group[] = [];
  for (let at = first - (first % size); at <= last; at += size) {
    const end = Math.min(at + size, steps.start.length);
    const group: Group = { first: at, last: end - 1, mean: 0, max: 0, odd: 0, kind: steps.kind[at]!, split: steps.phase.map(() => 0) };
    for (let row = at; row < end; row += 1) {
      group.mean += steps.mean[row]! / (end - at);
      group.max = Math.max(group.max, steps.max[row]!);
      group.odd += steps.odd[row]!;
      if (steps.kind[row]! !== 0) group.kind = steps.kind[row]!;
      for (let part = 0; part < group.split.length; part += 1) group.split[part]! += steps.split[part]![row]! / (end - at);
    }
    out.push(group);
  }
  return out;
}

/** Height of the plot: the highest bar, unless a few bars would flatten all others. */
function ceiling(shown: Group[]): number {
  const sorted = shown.map((group) => group.max).sort((a, b) => a - b);
  const top = sorted[sorted.length - 1] ?? 1;
  const usual = sorted[Math.floor(sorted.length * 0.95)] ?? top;
  return top > usual * 6 ? usual * 3 : top * 1.06;
}

export class StepsChart {
  readonly chart: Chart;
  private shown: Group[] = [];
  private color: "phase" | "kind";

  constructor(
    element: HTMLElement,
    private readonly data: ReportData,
    private readonly steps: Steps,
    private readonly axis: TimeAxis,
  ) {
    this.color = steps.phase.length ? "phase" : "kind";
    this.chart = new Chart(element, () => this.option());
    axis.attach(element);
    axis.onChange(() => this.chart.refresh());
    const select = document.getElementById("colour") as HTMLSelectElement;
    select.value = this.color;
    if (!steps.phase.length) select.disabled = true;
    select.addEventListener("change", () => {
      this.color = select.value as "phase" | "kind";
      this.legend();
      this.chart.refresh();
    });
    this.legend();
  }

  private looks(): Look[] {
    if (this.color === "phase") return this.steps.phase.map((phase) => this.data.phases[phase]!);
    return [...new Set(this.steps.kind)].sort((a, b) => a - b).map((kind) => this.data.kinds[kind]!);
  }

  private legend(): void {
    const list = document.getElementById("legend")!;
    const strips = [...new Set(this.steps.kind)].filter((kind) => kind !== 0).map((kind) => this.data.kinds[kind]!);
    list.replaceChildren(
      ...this.looks().map((look) => legendItem(`var(${look.css})`, look.label)),
      ...(this.steps.odd.some(Boolean) ? [legendItem("var(--alarm)", "unusually slow", "tri")] : []),
      ...(this.color === "phase" ? strips.map((look) => legendItem(`var(${look.css})`, look.label, "strip")) : []),
    );
  }

  private option(): EChartsOption {
    const { steps, axis } = this;
    this.shown = groups(steps, axis.low, axis.high, this.chart.width - LEFT - RIGHT);
    const top = ceiling(this.shown);
    const cut = this.shown.filter((group) => group.max > top).length;
    const size = this.shown.length ? this.shown[0]!.last - this.shown[0]!.first + 1 : 1;
    const merged = size * steps.group;
    document.getElementById("grouping")!.textContent =
      (merged > 1 ? `Each bar is the mean of ${merged} neighbours; the line above it is the slowest of them. Zoom in for single ones. ` : "") +
      (cut ? `${cut} bar${cut > 1 ? "s are" : " is"} cut at the top. ` : "");
    const colors = this.color === "phase" ? steps.phase.map((phase) => tone(this.data.phases[phase]!)) : this.data.kinds.map(tone);
    const kinds = this.data.kinds.map(tone);
    const ink = css("--ink-3");
    const alarm = tone(this.data.alarm);
    const render = (params: CustomSeriesRenderItemParams, api: CustomSeriesRenderItemAPI): any => {
      const group = this.shown[params.dataIndex]!;
      const frame = params.coordSys as unknown as { x: number; y: number; width: number; height: number };
      const left = Math.max(frame.x, api.coord([steps.start[group.first]! / 1000, 0])[0]!);
      const right = Math.min(frame.x + frame.width, api.coord([steps.end[group.last]! / 1000, 0])[0]!);
      const wide = right - left;
      if (wide <= 0) return undefined;
      const gap = wide > 5 ? 1 : wide > 2.5 ? 0.5 : 0;
      const height = (value: number): number => (Math.min(value, top) / top) * frame.height;
      const rect = (y: number, tall: number, fill: string): any => ({ type: "rect", shape: { x: left, y, width: Math.max(0.5, wide - gap), height: tall }, style: { fill } });
      const children: any[] = [];
      const bottom = frame.y + frame.height;
      if (this.color === "phase") {
        let y = bottom;
        for (let part = 0; part < group.split.length; part += 1) {
          const tall = Math.min(height(group.split[part]!), y - frame.y);
          if (tall <= 0) continue;
          y -= tall;
          children.push(rect(y, tall, colors[part]!));
        }
      } else children.push(rect(bottom - height(group.mean), height(group.mean), colors[group.kind]!));
      if (group.kind !== 0) children.push(rect(bottom + 2, 4, kinds[group.kind]!));
      if (group.max > group.mean * 1.02) {
        const y = bottom - height(group.max);
        children.push({ type: "rect", shape: { x: left + wide / 2 - 0.5, y, width: 1, height: height(group.max) - height(group.mean) }, style: { fill: ink } });
      }
      if (group.odd) {
        const x = left + wide / 2;
        const y = Math.max(frame.y + 1, bottom - height(group.max) - 9);
        children.push({ type: "polygon", shape: { points: [[x - 4, y], [x + 4, y], [x, y + 7]] }, style: { fill: alarm } });
      }
      return { type: "group", children };
    };
    const style = axisStyle();
    return {
      ...base(),
      grid: { ...sides, top: 16, bottom: 28, containLabel: false },
      xAxis: timeXAxis(axis, 0, true) as EChartsOption["xAxis"],
      yAxis: {
        ...style, type: "value", min: 0, max: top, splitNumber: 4,
        axisLabel: { ...(style.axisLabel as object), formatter: (value: number) => seconds(value / 1e6), showMaxLabel: false },
      } as EChartsOption["yAxis"],
      tooltip: { ...(base().tooltip as object), trigger: "item", formatter: (params: any) => this.tip(params.dataIndex as number) },
      series: [{ type: "custom", clip: false, renderItem: render, data: this.shown.map((group) => [steps.start[group.first]! / 1000, steps.end[group.last]! / 1000, group.mean]), encode: { x: [0, 1], y: 2 } }],
    };
  }

  private tip(row: number): string {
    const group = this.shown[row]!;
    const { steps, data } = this;
    const first = steps.index[group.first]!;
    const next = group.last + 1 < steps.index.length ? steps.index[group.last + 1]! - 1 : steps.index[group.last]!;
    const name = first === next ? `${data.noun} ${first}` : `${data.noun}s ${first}–${next}`;
    const lines = group.split
      .map((value, part) => ({ look: data.phases[steps.phase[part]!]!, value }))
      .filter((part) => part.value > 0)
      .map((part) => `<tr><td><i class="swatch" style="background:${tone(part.look)}"></i>${escape(part.look.label)}</td><td class="n">${seconds(part.value / 1e6)}</td></tr>`)
      .reverse();
    const odd = group.odd ? `<br><b>${group.odd > 1 ? `${group.odd} unusually slow` : "unusually slow"}</b>` : "";
    const slowest = group.max > group.mean * 1.02 ? `, slowest ${seconds(group.max / 1e6)}` : "";
    return `<b>${escape(name)}</b> · ${escape(data.kinds[group.kind]!.label)}<br>${seconds(group.mean / 1e6)}${slowest} · at ${elapsed(steps.start[group.first]! / 1000, 10)}${odd}<table class="tip">${lines.join("")}</table>`;
  }
}
