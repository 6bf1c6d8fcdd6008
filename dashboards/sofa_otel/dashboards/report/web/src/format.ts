/** Numbers as view.py writes them (a test compares the two). */

const SI = ["", "k", "M", "G", "T", "P", "E"];

/** Places after the point that leave three significant digits once rounded. */
function decimals(value: number): number {
  return Math.max(0, 2 - Number(value.toExponential(2).split("e")[1]));
}

export function digits(value: number): string {
  if (value === 0) return "0";
  const places = decimals(value);
  return value.toLocaleString("en-US", { minimumFractionDigits: places, maximumFractionDigits: places }).replace("-", "−");
}

export function number(value: number): string {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  if (Math.abs(value) >= 1e6) return si(value, "");
  return value.toLocaleString("en-US", { maximumFractionDigits: Math.min(decimals(value), 6) }).replace("-", "−");
}

export function si(value: number, unit: string): string {
  let power = 0;
  while (Math.abs(value) >= 999.5 && power < SI.length - 1) {
    value /= 1000;
    power += 1;
  }
  return `${number(value)} ${SI[power]}${unit}`.trimEnd();
}

export function seconds(value: number): string {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size === 0) return "0 s";
  if (size < 999.5e-9) return `${digits(value * 1e9)} ns`;
  if (size < 999.5e-6) return `${digits(value * 1e6)} µs`;
  if (size < 0.9995) return `${digits(value * 1e3)} ms`;
  if (size < 99.95) return `${digits(value)} s`;
  const whole = Math.round(size);
  const sign = value < 0 ? "−" : "";
  const two = (part: number): string => String(part).padStart(2, "0");
  if (whole < 3600) return `${sign}${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  if (whole < 86400) return `${sign}${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
  return `${sign}${Math.floor(whole / 86400)} d ${two(Math.floor((whole % 86400) / 3600))} h`;
}

export function percent(share: number): string {
  if (!Number.isFinite(share)) return "–";
  const value = share * 100;
  if (value === 0) return "0 %";
  if (Math.abs(value) < 0.1) return "<0.1 %";
  return Math.abs(value) >= 9.95 ? `${value.toFixed(0)} %` : `${value.toFixed(1)} %`;
}

/** A value with its UCUM unit; counted things keep only their figure (the lane's title says what is counted). */
export function quantity(value: number, unit: string): string {
  switch (unit) {
    case "s":
      return seconds(value);
    case "1":
      return percent(value);
    case "cores":
      return `${number(value)} cores`;
    case "By":
    case "By/s":
      return si(value, `B${unit.slice(2)}`);
    case "Cel":
      return `${number(value)} °C`;
    case "W":
    case "J":
      return si(value, unit);
  }
  const figure = Math.abs(value) >= 10_000 ? si(value, "") : number(value);
  return unit.endsWith("/s") ? `${figure}/s` : figure;
}

/** Time since the start of the run, for axes: as many places as the step of the axis needs. */
export function elapsed(ms: number, step: number): string {
  const sign = ms < 0 ? "−" : "";
  const size = Math.abs(ms);
  const places = step >= 1000 ? 0 : step >= 100 ? 1 : step >= 10 ? 2 : 3;
  if (size < 60_000) return `${sign}${(size / 1000).toFixed(places)} s`;
  const minutes = Math.floor(size / 60_000);
  const rest = ((size % 60_000) / 1000).toFixed(places).padStart(places ? places + 3 : 2, "0");
  return minutes < 60 ? `${sign}${minutes}:${rest}` : `${sign}${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}
