// Times: what the API writes, what people read. Everywhere in the dashboard an instant is a number of
// milliseconds since 1970 UTC, with a fraction: a frame's time needs more than whole milliseconds.

export const SECOND = 1000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

const RFC3339 = /^(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+-]\d\d:?\d\d)$/;

/** Reads RFC 3339 with any number of decimals; `null` for anything else. */
export function parseTime(text: string | null | undefined): number | null {
  const found = text ? RFC3339.exec(text) : null;
  if (!found?.[1] || !found[3]) return null;
  const zone = found[3].toUpperCase();
  const whole = Date.parse(found[1].replace(" ", "T").toUpperCase() + zone);
  if (Number.isNaN(whole)) return null;
  return found[2] ? whole + Number(found[2]) * 1000 : whole;
}

/** RFC 3339 UTC with microseconds: as exact as a double is for a date of our days. */
export function toRfc3339(ms: number): string {
  const micros = Math.round(ms * 1000);
  const whole = Math.floor(micros / 1000);
  const rest = String(micros - whole * 1000).padStart(3, "0");
  return new Date(whole).toISOString().replace("Z", `${rest}Z`);
}

function two(n: number): string {
  return String(n).padStart(2, "0");
}

/** `14:03:07`, local time. */
export function clock(ms: number, withSeconds = true): string {
  const at = new Date(ms);
  const minutes = `${two(at.getHours())}:${two(at.getMinutes())}`;
  return withSeconds ? `${minutes}:${two(at.getSeconds())}` : minutes;
}

/** `14:03:07.125`, local time, never rounded up into the next second. */
export function clockExact(ms: number): string {
  return `${clock(ms)}.${String(Math.floor(ms) % 1000).padStart(3, "0")}`;
}

/** `2026-11-21`, local. */
export function day(ms: number): string {
  const at = new Date(ms);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}

/** The day, in words where it is near: for headings. */
export function dayInWords(ms: number, now = Date.now()): string {
  if (day(ms) === day(now)) return "Today";
  if (day(ms) === day(now - DAY)) return "Yesterday";
  return new Date(ms).toLocaleDateString(undefined, { weekday: "short", day: "numeric", month: "short" });
}

/** The value of an `<input type="datetime-local" step="1">`. */
export function toInput(ms: number): string {
  return `${day(ms)}T${clock(ms)}`;
}

export function fromInput(text: string): number | null {
  const at = new Date(text).getTime();
  return Number.isNaN(at) ? null : at;
}

/** A length of time in its two largest units: `2 h 05 min`, `12.4 s`. */
export function duration(ms: number): string {
  const s = Math.max(0, ms) / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.floor(s)} s`;
  const minutes = Math.floor(s / 60);
  if (minutes < 60) return `${minutes} min ${two(Math.floor(s % 60))} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${two(minutes % 60)} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** How long ago, for a state's "since". */
export function ago(ms: number, now = Date.now()): string {
  const length = now - ms;
  if (length < 5 * SECOND) return "just now";
  return `${duration(length - (length % (length < MINUTE ? SECOND : 1)))} ago`.replace(".0 s", " s");
}
