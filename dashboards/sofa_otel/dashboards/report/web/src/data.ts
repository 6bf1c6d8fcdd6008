/** The embedded document: columns made by payload.py. Only canvases are drawn from it. */

export interface Look {
  css: string;
  label: string;
  light: string;
  dark: string;
}

/** Iterations as columns; times in µs from the origin. */
export interface Steps {
  count: number;
  group: number;
  index: number[];
  start: number[];
  end: number[];
  mean: number[];
  max: number[];
  kind: number[];
  odd: number[];
  phase: number[];
  split: number[][];
}

export interface LaneSeries {
  rank: number;
  time: number[];
  value: number[];
}

/** A resource series, ms from the origin: a line a rank, or the band over many ranks. */
export interface Lane {
  label: string;
  metric: string;
  unit: string;
  facts: { low: number; high: number; mean: number };
  series?: LaneSeries[];
  ranks?: number;
  band?: { time: number[]; low: number[]; median: number[]; high: number[] };
}

export interface ReportData {
  origin: number;
  noun: string;
  phases: Look[];
  kinds: Look[];
  tones: [string, string][];
  heat: [[string, string], [string, string]];
  alarm: [string, string];
  steps: Steps | { count: 0 };
  histogram: { edges: number[]; counts: number[]; marks: { median: number; p10: number; p90: number }; outside: { shorter: number; shortest: number; longer: number; longest: number } } | null;
  ranks: { ids: number[]; edges: number[]; rows: (number | null)[][] } | null;
  lanes: Lane[];
  flames: { names: string[]; trees: { swarm: string; label: string; rows: number[] }[] };
}

export function load(): ReportData {
  return JSON.parse(document.getElementById("data")!.textContent!) as ReportData;
}

/** Pixels left and right of the plots: equal in all charts, so that instants stand below each other. */
export const LEFT = 68;
export const RIGHT = 16;

/** Text made safe for the few places (tooltips) that take HTML. */
export function escape(text: string): string {
  return text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
}
