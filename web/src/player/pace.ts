// How close to the live edge a player stays. It plays a little faster while more is buffered than the
// network's unsteadiness asks for, and keeps more once it ran dry: the smallest delay that plays smoothly.

/** Seconds that shall be buffered at the worst moment, just before the next part arrives. */
export const LEAST = 0.18;
const MOST = 1.5;
const AFTER_STALL = 0.15;
/** What a stall added is given up again, this much a second. */
const RELAX = 0.02;
const WINDOW_MS = 1200;
/** Nobody sees or hears these. */
const FASTER = 1.06;
const MUCH_FASTER = 1.15;
/** More than this too much is buffered: jump there, nobody wants to wait for it. */
const JUMP_S = 1.5;

export class Pace {
  private target = LEAST;
  private samples: { at: number; ahead: number }[] = [];
  private last = 0;

  get wanted(): number {
    return this.target;
  }

  /** The player ran dry. */
  stalled(): void {
    this.target = Math.min(MOST, this.target + AFTER_STALL);
    this.samples = [];
  }

  /** Somewhere else now: what was seen before says nothing. */
  moved(): void {
    this.samples = [];
  }

  /** What to do, with so much buffered (seconds) at this time (milliseconds): a speed, or to jump to the edge. */
  next(ahead: number, now: number): number | "jump" {
    if (this.last) this.target = Math.max(LEAST, this.target - ((now - this.last) / 1000) * RELAX);
    this.last = now;
    this.samples.push({ at: now, ahead });
    const old = now - WINDOW_MS;
    while ((this.samples[0]?.at ?? now) < old) this.samples.shift();
    const worst = Math.min(...this.samples.map((each) => each.ahead));
    // Not yet a whole round of parts: too early to say how much is never needed.
    if (now - (this.samples[0]?.at ?? now) < WINDOW_MS * 0.7) return 1;
    if (worst > this.target + JUMP_S) return "jump";
    if (worst > this.target + 0.5) return MUCH_FASTER;
    if (worst > this.target + 0.06) return FASTER;
    return 1;
  }
}
