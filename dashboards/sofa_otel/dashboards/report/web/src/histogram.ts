/** How the durations of training iterations are distributed. */

import type { EChartsOption } from "echarts";
import { axisStyle, base, Chart } from "./chart";
import type { ReportData } from "./data";
import { seconds } from "./format";
import { css, tone } from "./theme";

export function drawHistogram(element: HTMLElement, data: ReportData, histogram: NonNullable<ReportData["histogram"]>): Chart {
  const { edges, counts, marks, outside } = histogram;
  const told = [
    outside.shorter ? `${outside.shorter} shorter ones (from ${seconds(outside.shortest)})` : "",
    outside.longer ? `${outside.longer} longer ones (up to ${seconds(outside.longest)})` : "",
  ].filter(Boolean);
  document.getElementById("outside")!.textContent = told.length ? `Not drawn: ${told.join(", ")}.` : "";
  return new Chart(element, () => {
    const style = axisStyle();
    const ink = css("--ink-2");
    return {
      ...base(),
      grid: { left: 44, right: 20, top: 36, bottom: 28 },
      xAxis: { ...style, type: "value", min: edges[0], max: edges[edges.length - 1], splitLine: { show: false }, axisLabel: { ...(style.axisLabel as object), formatter: seconds, showMinLabel: false, showMaxLabel: false } },
      yAxis: { ...style, type: "value", minInterval: 1, splitNumber: 3 },
      tooltip: { ...(base().tooltip as object), trigger: "item", formatter: (params: any) => `${seconds(edges[params.dataIndex as number]!)} – ${seconds(edges[(params.dataIndex as number) + 1]!)}<br><b>${counts[params.dataIndex as number]!.toLocaleString("en-US")}</b>` },
      series: [
        {
          type: "custom",
          data: counts.map((count, at) => [edges[at]!, edges[at + 1]!, count]),
          encode: { x: [0, 1], y: 2 },
          renderItem: (_: any, api: any) => {
            const [left, top] = api.coord([api.value(0), api.value(2)]);
            const [right, bottom] = api.coord([api.value(1), 0]);
            return { type: "rect", shape: { x: left, y: top, width: Math.max(1, right - left - 1), height: bottom - top }, style: { fill: tone(data.kinds[0]!) } };
          },
          markLine: {
            silent: true, symbol: "none", animation: false, precision: 12,
            data: [
              { xAxis: marks.median, lineStyle: { color: css("--ink"), type: "solid", width: 1.5 }, label: { formatter: "median", color: css("--ink"), fontWeight: 600, distance: [0, 18] } },
              { xAxis: marks.p10, lineStyle: { color: ink, type: "dashed" }, label: { formatter: "p10", color: ink, align: "right", distance: [0, 4] } },
              { xAxis: marks.p90, lineStyle: { color: ink, type: "dashed" }, label: { formatter: "p90", color: ink, align: "left", distance: [0, 4] } },
            ],
          },
        },
      ],
    } as EChartsOption;
  });
}
