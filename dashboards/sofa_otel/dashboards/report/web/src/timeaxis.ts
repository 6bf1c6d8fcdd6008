/** The time axis that all charts share: one range, moved by buttons, wheel, drag and keys. */

import { LEFT, RIGHT } from "./data";

export class TimeAxis {
  low: number;
  high: number;
  private readonly listeners: (() => void)[] = [];
  private frame = 0;

  /** @param first,last borders of the run, ms from the origin */
  constructor(
    readonly first: number,
    readonly last: number,
    readonly smallest: number,
  ) {
    this.low = first;
    this.high = last;
  }

  onChange(listener: () => void): void {
    this.listeners.push(listener);
  }

  get whole(): boolean {
    return this.low <= this.first && this.high >= this.last;
  }

  set(low: number, high: number): void {
    const width = Math.min(Math.max(high - low, this.smallest), this.last - this.first);
    low = Math.min(Math.max(low, this.first), this.last - width);
    if (low === this.low && low + width === this.high) return;
    this.low = low;
    this.high = low + width;
    if (!this.frame) {
      this.frame = requestAnimationFrame(() => {
        this.frame = 0;
        for (const listener of this.listeners) listener();
      });
    }
  }

  /** Zooms by a factor around a place 0..1 of the range. */
  zoom(factor: number, at = 0.5): void {
    const width = (this.high - this.low) * factor;
    const center = this.low + (this.high - this.low) * at;
    this.set(center - width * at, center + width * (1 - at));
  }

  move(part: number): void {
    const by = (this.high - this.low) * part;
    this.set(this.low + by, this.high + by);
  }

  reset(): void {
    this.set(this.first, this.last);
  }

  /** Lets a chart's element move the axis: drag, Ctrl + wheel, W A S D, arrows, +, −, 0, double click. */
  attach(element: HTMLElement): void {
    const plot = (): number => Math.max(1, element.clientWidth - LEFT - RIGHT);
    element.addEventListener(
      "wheel",
      (event) => {
        if (event.ctrlKey || event.metaKey) {
          event.preventDefault();
          this.zoom(Math.exp(event.deltaY * 0.003), (event.clientX - element.getBoundingClientRect().left - LEFT) / plot());
        } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
          event.preventDefault();
          this.move(event.deltaX / plot());
        }
      },
      { passive: false },
    );
    element.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || this.whole) return;
      const from = event.clientX;
      const [low, high] = [this.low, this.high];
      element.setPointerCapture(event.pointerId);
      const move = (next: PointerEvent): void => {
        const by = ((from - next.clientX) / plot()) * (high - low);
        this.set(low + by, high + by);
      };
      element.addEventListener("pointermove", move);
      const stop = (): void => element.removeEventListener("pointermove", move);
      element.addEventListener("pointerup", stop, { once: true });
      element.addEventListener("pointercancel", stop, { once: true });
    });
    element.addEventListener("dblclick", (event) => {
      this.zoom(0.4, (event.clientX - element.getBoundingClientRect().left - LEFT) / plot());
    });
    element.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (this.act(event.key.toLowerCase())) event.preventDefault();
    });
  }

  private act(key: string): boolean {
    const actions: Record<string, () => void> = {
      w: () => this.zoom(0.7),
      s: () => this.zoom(1 / 0.7),
      a: () => this.move(-0.15),
      d: () => this.move(0.15),
      "+": () => this.zoom(0.7),
      "-": () => this.zoom(1 / 0.7),
      arrowleft: () => this.move(-0.15),
      arrowright: () => this.move(0.15),
      "0": () => this.reset(),
      home: () => this.reset(),
    };
    const action = actions[key];
    action?.();
    return action !== undefined;
  }

  button(name: string): void {
    this.act({ in: "w", out: "s", left: "a", right: "d", reset: "0" }[name] ?? "");
  }
}
