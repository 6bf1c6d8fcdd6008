/** ECharts with only what the page draws, and what all charts have in common. */

import { BarChart, CustomChart, LineChart } from "echarts/charts";
import { GridComponent, MarkAreaComponent, MarkLineComponent, TitleComponent, TooltipComponent } from "echarts/components";
import { init, use, type EChartsType } from "echarts/core";
import { CanvasRenderer } from "echarts/renderers";
import type { EChartsOption } from "echarts";
import { LEFT, RIGHT } from "./data";
import { elapsed } from "./format";
import { css, onTheme } from "./theme";
import type { TimeAxis } from "./timeaxis";

use([BarChart, CustomChart, LineChart, GridComponent, MarkAreaComponent, MarkLineComponent, TitleComponent, TooltipComponent, CanvasRenderer]);

export const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif';

/** A chart that is drawn when it comes near the screen (or is printed) and again when size or theme change. */
export class Chart {
  private chart: EChartsType | undefined;

  constructor(
    private readonly element: HTMLElement,
    private readonly option: () => EChartsOption,
  ) {
    new ResizeObserver(() => {
      if (!this.chart) return;
      this.chart.resize();
      this.draw();
    }).observe(element);
    onTheme(() => this.chart && this.draw());
    const near = new IntersectionObserver(
      (entries) => {
        if (!entries.some((entry) => entry.isIntersecting)) return;
        near.disconnect();
        this.draw();
      },
      { rootMargin: "600px" },
    );
    near.observe(element);
    addEventListener("beforeprint", () => this.draw());
  }

  draw(): void {
    this.chart ??= init(this.element, null, { renderer: "canvas" });
    this.chart.setOption(this.option(), { notMerge: true, lazyUpdate: false });
  }

  get drawn(): boolean {
    return this.chart !== undefined;
  }

  get width(): number {
    return this.element.clientWidth;
  }

  refresh(): void {
    if (this.chart) this.draw();
  }
}

export function base(): EChartsOption {
  return {
    animation: false,
    textStyle: { fontFamily: FONT, color: css("--ink-2") },
    tooltip: {
      confine: true,
      transitionDuration: 0,
      backgroundColor: css("--raised"),
      borderColor: css("--line-2"),
      borderWidth: 1,
      padding: [6, 10],
      textStyle: { color: css("--ink"), fontSize: 12, fontFamily: FONT },
      extraCssText: "box-shadow:0 4px 16px rgb(0 0 0/.18);border-radius:4px",
    },
  };
}

export function axisStyle(): Record<string, unknown> {
  return {
    axisLine: { lineStyle: { color: css("--line-2") } },
    axisTick: { lineStyle: { color: css("--line-2") } },
    axisLabel: { color: css("--ink-2"), fontSize: 11, fontFamily: FONT, hideOverlap: true },
    splitLine: { lineStyle: { color: css("--line") } },
  };
}

/** The shared time axis as an ECharts axis. */
export function timeXAxis(axis: TimeAxis, gridIndex: number, labels: boolean): Record<string, unknown> {
  const style = axisStyle();
  const step = (axis.high - axis.low) / 8;
  return {
    ...style,
    type: "value",
    gridIndex,
    min: axis.low,
    max: axis.high,
    splitNumber: 8,
    splitLine: { show: false },
    axisTick: { ...(style.axisTick as object), show: labels },
    axisLabel: { ...(style.axisLabel as object), show: labels, margin: 11, formatter: (value: number) => elapsed(value, step), showMinLabel: false, showMaxLabel: false },
  };
}

export const sides = { left: LEFT, right: RIGHT };
