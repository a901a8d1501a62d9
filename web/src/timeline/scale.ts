// The arithmetic of the timeline: which instants are where, and which get a label. No DOM.
import { DAY, HOUR, MINUTE, SECOND } from "../lib/time";

export interface View {
  from: number;
  to: number;
}

export const MIN_SPAN = 10 * SECOND;
export const MAX_SPAN = 8 * DAY;

export function xOf(view: View, width: number, at: number): number {
  return ((at - view.from) / (view.to - view.from)) * width;
}

export function timeAt(view: View, width: number, x: number): number {
  return view.from + (x / Math.max(1, width)) * (view.to - view.from);
}

/** Keeps a view within its allowed length and what can be seen (a little room after `last`). */
export function clamp(view: View, first: number, last: number): View {
  const room = Math.max(last - first, MIN_SPAN);
  const span = Math.min(Math.max(view.to - view.from, MIN_SPAN), MAX_SPAN, Math.max(room * 1.2, 5 * MINUTE));
  const slack = span * 0.1;
  let from = view.from + (view.to - view.from - span) / 2;
  from = Math.min(from, last + slack - span);
  if (span < room + slack) from = Math.max(from, first - slack);
  return { from, to: from + span };
}

/** Zooms by a factor (below 1: closer), the instant under the pointer stays where it is. */
export function zoom(view: View, at: number, factor: number): View {
  const span = Math.min(Math.max((view.to - view.from) * factor, MIN_SPAN), MAX_SPAN);
  const share = (at - view.from) / (view.to - view.from);
  return { from: at - share * span, to: at + (1 - share) * span };
}

export function pan(view: View, ms: number): View {
  return { from: view.from + ms, to: view.to + ms };
}

const STEPS = [
  SECOND, 2 * SECOND, 5 * SECOND, 10 * SECOND, 15 * SECOND, 30 * SECOND,
  MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE,
  HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY,
];

export interface Tick {
  at: number;
  label: string;
  /** Midnight: the label is the day. */
  major: boolean;
}

/** Ticks at round local times, no two labels closer than `room` pixels. */
export function ticks(view: View, width: number, room = 84): Tick[] {
  const span = view.to - view.from;
  const wanted = (span * room) / Math.max(width, room);
  const step = STEPS.find((each) => each >= wanted) ?? 2 * DAY;
  const out: Tick[] = [];
  // Local time: steps count from local midnight, which summer time moves.
  const midnight = new Date(view.from);
  midnight.setHours(0, 0, 0, 0);
  let at = midnight.getTime() + Math.floor((view.from - midnight.getTime()) / step) * step;
  for (; at <= view.to && out.length < 200; at += step) {
    if (at < view.from) continue;
    const date = new Date(at);
    const major = date.getHours() === 0 && date.getMinutes() === 0 && date.getSeconds() === 0;
    const two = (n: number): string => String(n).padStart(2, "0");
    const minutes = `${two(date.getHours())}:${two(date.getMinutes())}`;
    const label = major
      ? date.toLocaleDateString(undefined, { day: "numeric", month: "short" })
      : step < MINUTE
        ? `${minutes}:${two(date.getSeconds())}`
        : minutes;
    out.push({ at, label, major });
  }
  return out;
}

/** Which markers can be shown one by one, and where many are too close: then one with their number. */
export interface Cluster<T> {
  x: number;
  members: T[];
}

export function cluster<T>(items: T[], x: (item: T) => number, room: number): Cluster<T>[] {
  const out: Cluster<T>[] = [];
  for (const item of [...items].sort((a, b) => x(a) - x(b))) {
    const at = x(item);
    const last = out[out.length - 1];
    if (last && at - last.x < room) last.members.push(item);
    else out.push({ x: at, members: [item] });
  }
  return out;
}
