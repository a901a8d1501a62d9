import { describe, expect, it } from "vitest";
import { clamp, cluster, MIN_SPAN, pan, ticks, timeAt, xOf, zoom } from "../../src/timeline/scale";
import { cellAt, COLUMNS, ROWS } from "../../src/timeline/storyboard";

const HOUR = 3_600_000;
const view = { from: Date.UTC(2026, 10, 21, 8), to: Date.UTC(2026, 10, 21, 9) };

describe("the timeline", () => {
  it("goes from pixels to time and back", () => {
    for (const x of [0, 17, 800]) expect(xOf(view, 800, timeAt(view, 800, x))).toBeCloseTo(x, 6);
  });

  it("zooms about the pointer", () => {
    const at = view.from + HOUR / 4;
    const closer = zoom(view, at, 0.5);
    expect(closer.to - closer.from).toBe(HOUR / 2);
    expect(xOf(closer, 800, at)).toBeCloseTo(xOf(view, 800, at), 6);
    const closest = zoom(view, at, 1e-9);
    expect(closest.to - closest.from).toBe(MIN_SPAN);
  });

  it("stays where something is", () => {
    const [first, last] = [view.from, view.to];
    const after = clamp(pan(view, 100 * HOUR), first, last);
    expect(after.to).toBeLessThan(last + HOUR);
    const before = clamp(pan({ from: last - 60_000, to: last }, -100 * HOUR), first, last);
    expect(before.from).toBeGreaterThan(first - HOUR);
  });

  it("labels round times, with room between them", () => {
    for (const span of [20_000, 10 * 60_000, HOUR, 24 * HOUR, 7 * 24 * HOUR]) {
      for (const width of [320, 900, 1800]) {
        const found = ticks({ from: view.from + 1234, to: view.from + 1234 + span }, width);
        expect(found.length).toBeLessThanOrEqual(width / 84 + 2);
        for (const [i, tick] of found.slice(1).entries()) {
          expect(((tick.at - (found[i]?.at ?? 0)) / span) * width).toBeGreaterThanOrEqual(83.9);
        }
        for (const tick of found) expect(tick.at % 1000).toBe(0);
      }
    }
  });

  it("joins markers that are too close", () => {
    const found = cluster([5, 0, 100, 8], (x) => x, 10);
    expect(found.map((each) => each.members)).toEqual([[0, 5, 8], [100]]);
  });

  it("takes pictures from sheets at round times", () => {
    const at = view.from + 1_234_567;
    const cell = cellAt(view, 800, at);
    const step = (cell.to - cell.from) / (COLUMNS * ROWS);
    expect(cell.from % (cell.to - cell.from)).toBe(0);
    expect(cell.from + cell.index * step).toBeLessThanOrEqual(at);
    expect(cell.from + (cell.index + 1) * step).toBeGreaterThan(at);
  });
});
