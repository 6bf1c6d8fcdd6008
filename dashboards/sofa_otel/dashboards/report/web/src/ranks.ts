/** Ranks above each other: how much a rank lags behind the fastest one in each slice of time. */

import type { CustomSeriesRenderItemAPI, CustomSeriesRenderItemParams, EChartsOption } from "echarts";
import { axisStyle, base, Chart, sides, timeXAxis } from "./chart";
import { escape, type ReportData } from "./data";
import { elapsed, percent, seconds } from "./format";
import { isDark, mix } from "./theme";
import type { TimeAxis } from "./timeaxis";

export class RanksChart {
  readonly chart: Chart;
  /** Time over the fastest rank's in the same slice, 0 for the fastest. */
  private readonly lag: (number | null)[][];
  private readonly most: number;

  constructor(
    element: HTMLElement,
    private readonly data: ReportData,
    private readonly ranks: NonNullable<ReportData["ranks"]>,
    private readonly axis: TimeAxis,
  ) {
    const columns = ranks.edges.length - 1;
    const fastest = Array.from({ length: columns }, (_, column) => Math.min(...ranks.rows.map((row) => row[column] ?? Infinity)));
    this.lag = ranks.rows.map((row) => row.map((value, column) => (value === null ? null : value / fastest[column]! - 1)));
    const values = this.lag.flat().filter((value): value is number => value !== null).sort((a, b) => a - b);
    this.most = Math.max(0.05, values[Math.floor(values.length * 0.98)] ?? 0);
    document.getElementById("rank-scale")!.textContent = `A row is a rank. Faint: as fast as the fastest rank at that time; strong: ${percent(this.most)} slower or more.`;
    this.chart = new Chart(element, () => this.option());
    axis.attach(element);
    axis.onChange(() => this.chart.refresh());
  }

  private option(): EChartsOption {
    const { ranks, axis } = this;
    const [from, to] = this.data.heat[isDark() ? 1 : 0];
    const shades = Array.from({ length: 33 }, (_, at) => mix(to, from, at / 32));
    const fields: [number, number, number][] = [];
    const first = Math.max(0, ranks.edges.findIndex((edge) => edge > axis.low) - 1);
    for (let row = 0; row < ranks.rows.length; row += 1) {
      for (let column = first; column < ranks.edges.length - 1 && ranks.edges[column]! < axis.high; column += 1) {
        const value = this.lag[row]![column];
        if (value !== null && value !== undefined) fields.push([column, row, value]);
      }
    }
    const render = (params: CustomSeriesRenderItemParams, api: CustomSeriesRenderItemAPI): any => {
      const [column, row, value] = fields[params.dataIndex]!;
      const frame = params.coordSys as unknown as { x: number; y: number; width: number; height: number };
      const x = (edge: number): number => frame.x + ((ranks.edges[edge]! - axis.low) / (axis.high - axis.low)) * frame.width;
      const [left, right] = [Math.max(frame.x, x(column)), Math.min(frame.x + frame.width, x(column + 1))];
      const tall = frame.height / ranks.ids.length;
      const part = Math.min(1, Math.max(0, value / this.most));
      return { type: "rect", shape: { x: left, y: frame.y + row * tall, width: right - left + 0.3, height: Math.max(1, tall - 1) }, style: { fill: shades[Math.round(part * 32)] } };
    };
    const style = axisStyle();
    return {
      ...base(),
      grid: { ...sides, top: 6, bottom: 28 },
      xAxis: timeXAxis(axis, 0, true) as EChartsOption["xAxis"],
      yAxis: { ...style, type: "category", inverse: true, data: ranks.ids.map((rank) => `rank ${rank}`), axisTick: { show: false }, splitLine: { show: false } } as EChartsOption["yAxis"],
      tooltip: {
        ...(base().tooltip as object), trigger: "item",
        formatter: (params: any) => {
          const [column, row, value] = fields[params.dataIndex as number]!;
          const mean = seconds(ranks.rows[row]![column]! / 1000);
          return `<b>rank ${ranks.ids[row]}</b> · at ${elapsed(ranks.edges[column]!, 100)}<br>${escape(this.data.noun)} ${mean}, ${percent(value)} over the fastest`;
        },
      },
      series: [{ type: "custom", renderItem: render, data: fields.map(([column, row]) => [ranks.edges[column]!, row]), encode: { x: 0, y: 1 }, clip: false }],
    };
  }
}
