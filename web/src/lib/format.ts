// Numbers as people read them.

export function bytes(n: number): string {
  const units = ["B", "KB", "MB", "GB", "TB", "PB"];
  let value = n;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit] ?? "B"}`;
}

export function bitrate(kbit: number): string {
  return kbit >= 1000 ? `${(kbit / 1000).toFixed(1)} Mbit/s` : `${Math.round(kbit)} kbit/s`;
}

export function count(n: number, one: string, many = `${one}s`): string {
  return `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
}

/** A hue for a label, the same each time: markers of one kind look alike. */
export function hue(label: string): number {
  let hash = 2166136261;
  for (const character of label) hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 16777619);
  return (((hash >>> 0) % 24) * 15 + 205) % 360;
}
