/** Resource series below each other on the shared time axis; iterations that stand out are shaded through all of them. */

import type { EChartsOption } from "echarts";
import { axisStyle, base, Chart, FONT, sides, timeXAxis } from "./chart";
import { escape, type Lane, type ReportData, type Steps } from "./data";
import { elapsed, quantity } from "./format";
import { legendItem } from "./legend";
import { css, tone } from "./theme";
import type { TimeAxis } from "./timeaxis";

const PITCH = 62;
const HEAD = 18;

export class LanesChart {
  readonly chart: Chart;

  constructor(
    element: HTMLElement,
    private readonly data: ReportData,
    private readonly axis: TimeAxis,
  ) {
    this.chart = new Chart(element, () => this.option());
    this.legend();
    axis.attach(element);
    axis.onChange(() => this.chart.refresh());
  }

  private legend(): void {
    const most = this.data.lanes.reduce<Lane["series"]>((best, lane) => ((lane.series?.length ?? 0) > (best?.length ?? 0) ? lane.series : best), undefined);
    const band = this.data.lanes.find((lane) => lane.band);
    const names = (most ?? []).length > 1 ? most!.map((one, row) => [`rank ${one.rank}`, row] as const) : [];
    const all = band ? [...names, [`median of ${band.ranks} ranks, in the band from the lowest to the highest`, 0] as const] : names;
    document.getElementById("rank-legend")!.replaceChildren(
      ...all.map(([label, row]) => {
        const [light, dark] = this.data.tones[row % this.data.tones.length]!;
        return legendItem(`light-dark(${light},${dark})`, label);
      }),
    );
  }

  private option(): EChartsOption {
    const { lanes } = this.data;
    const style = axisStyle();
    const shades = this.shades();
    return {
      ...base(),
      title: lanes.map((lane, at) => ({ text: lane.label, left: sides.left, top: at * PITCH + 3, padding: 0, textStyle: { fontSize: 12, fontWeight: 500, color: css("--ink"), fontFamily: FONT } })),
      grid: lanes.map((_, at) => ({ ...sides, top: at * PITCH + HEAD + 6, height: PITCH - HEAD - 12 })),
      xAxis: lanes.map((_, at) => timeXAxis(this.axis, at, at === lanes.length - 1)) as EChartsOption["xAxis"],
      yAxis: lanes.map((lane, at) => {
        const top = lane.facts.high > 0 ? lane.facts.high * 1.02 : 1;
        return {
          ...style, type: "value", gridIndex: at, min: Math.min(0, lane.facts.low), max: top, interval: top, axisLine: { show: false }, axisTick: { show: false },
          splitLine: { show: false }, axisLabel: { ...(style.axisLabel as object), fontSize: 10, hideOverlap: false, formatter: (value: number) => (value === 0 ? "0" : value >= top ? quantity(lane.facts.high, lane.unit) : "") },
        };
      }) as EChartsOption["yAxis"],
      axisPointer: { link: [{ xAxisIndex: "all" }], lineStyle: { color: css("--ink-3") } } as EChartsOption["axisPointer"],
      tooltip: { ...(base().tooltip as object), trigger: "axis", axisPointer: { type: "line", snap: false, animation: false }, formatter: (params: any) => this.tip(params[0].axisValue as number) },
      series: lanes.flatMap((lane, at) => this.series(lane, at, shades)),
    };
  }

  /** Instants of slow, validation and checkpoint iterations in view: at most 80, else they would hide the lines. */
  private shades(): any[] {
    const steps = this.data.steps as Steps;
    if (!steps.count) return [];
    const out: any[] = [];
    for (let row = 0; row < steps.start.length && out.length <= 80; row += 1) {
      const [start, end] = [steps.start[row]! / 1000, steps.end[row]! / 1000];
      if (end < this.axis.low || start > this.axis.high || (!steps.odd[row] && steps.kind[row]! < 2)) continue;
      const color = steps.odd[row] ? tone(this.data.alarm) : tone(this.data.kinds[steps.kind[row]!]!);
      out.push([{ xAxis: Math.max(start, this.axis.low), itemStyle: { color, opacity: 0.14 } }, { xAxis: Math.min(end, this.axis.high) }]);
    }
    return out.length > 80 ? [] : out;
  }

  private series(lane: Lane, at: number, shades: any[]): any[] {
    const common = { type: "line", xAxisIndex: at, yAxisIndex: at, symbol: "none", silent: true, animation: false };
    const markArea = { silent: true, data: shades };
    const pairs = (time: number[], value: number[]): [number, number][] => time.map((ms, row) => [ms, value[row]!]);
    if (lane.series) {
      const alone = lane.series.length === 1;
      return lane.series.map((one, row) => {
        const color = tone(this.data.tones[row % this.data.tones.length]!);
        return { ...common, data: pairs(one.time, one.value), lineStyle: { width: 1.2, color }, areaStyle: alone ? { color, opacity: 0.18 } : undefined, ...(row ? {} : { markArea }) };
      });
    }
    const band = lane.band!;
    const color = tone(this.data.tones[0]!);
    const stack = `band${at}`;
    return [
      { ...common, data: pairs(band.time, band.low), lineStyle: { width: 0 }, stack, stackStrategy: "all", markArea },
      { ...common, data: pairs(band.time, band.high.map((high, row) => high - band.low[row]!)), lineStyle: { width: 0 }, areaStyle: { color, opacity: 0.25 }, stack, stackStrategy: "all" },
      { ...common, data: pairs(band.time, band.median), lineStyle: { width: 1.2, color } },
    ];
  }

  private tip(ms: number): string {
    const rows = this.data.lanes.slice(0, 14).map((lane) => {
      const value = lane.series
        ? lane.series.map((one) => quantity(nearest(one.time, one.value, ms), lane.unit)).slice(0, 4).join(" / ")
        : `${quantity(nearest(lane.band!.time, lane.band!.median, ms), lane.unit)} (median of ${lane.ranks} ranks)`;
      return `<tr><td>${escape(lane.label)}</td><td class="n">${escape(value)}</td></tr>`;
    });
    return `<b>${elapsed(ms, 10)}</b><table class="tip">${rows.join("")}</table>`;
  }
}

function nearest(time: number[], value: number[], ms: number): number {
  let low = 0;
  let high = time.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (time[middle]! < ms) low = middle + 1;
    else high = middle;
  }
  return low > 0 && ms - time[low - 1]! < time[low]! - ms ? value[low - 1]! : value[low]!;
}
