// Small pictures of what was recorded, for the pointer on the timeline: fetched as sheets of many, each
// sheet once, and only where the pointer rests.
import { url } from "../lib/api";
import { HOUR, MINUTE, SECOND } from "../lib/time";
import type { View } from "./scale";

export const COLUMNS = 5;
export const ROWS = 2;
export const WIDTH = 176;
const KEPT = 24;
const STEPS = [1, 2, 5, 10, 20, 30].map((n) => n * SECOND).concat([1, 2, 5, 10, 20, 30].map((n) => n * MINUTE), [HOUR]);

export interface Cell {
  from: number;
  to: number;
  index: number;
}

/** Which cell of which sheet shows this instant, at this zoom. Sheets lie at round times, so they are met again. */
export function cellAt(view: View, width: number, at: number): Cell {
  const wanted = ((view.to - view.from) / Math.max(width, 1)) * 24;
  const step = STEPS.find((each) => each >= wanted) ?? HOUR;
  const length = step * COLUMNS * ROWS;
  const from = Math.floor(at / length) * length;
  return { from, to: from + length, index: Math.min(COLUMNS * ROWS - 1, Math.floor((at - from) / step)) };
}

export interface Sheet {
  image: HTMLImageElement;
  state: "loading" | "ready" | "failed";
}

export class Storyboard {
  private readonly sheets = new Map<string, Sheet>();

  constructor(private readonly camera: string) {}

  /** The sheet with this cell; calls back once when it arrived. Sheets that were used longest ago are forgotten. */
  sheet(cell: Cell, arrived: () => void): Sheet {
    // A sheet that reaches into the present is not finished: it is another one each time it grew.
    const open = cell.to > Date.now() ? Math.floor(Date.now() / (10 * SECOND)) : 0;
    const key = `${cell.from}-${cell.to}-${open}`;
    const known = this.sheets.get(key);
    if (known) {
      this.sheets.delete(key);
      this.sheets.set(key, known);
      return known;
    }
    const sheet: Sheet = { image: new Image(), state: "loading" };
    sheet.image.onload = () => {
      sheet.state = "ready";
      arrived();
    };
    sheet.image.onerror = () => {
      sheet.state = "failed";
      arrived();
    };
    sheet.image.src = url.storyboard(this.camera, cell.from, cell.to, COLUMNS, ROWS, WIDTH);
    this.sheets.set(key, sheet);
    const oldest = this.sheets.keys().next().value;
    if (this.sheets.size > KEPT && oldest !== undefined) this.sheets.delete(oldest);
    return sheet;
  }
}
