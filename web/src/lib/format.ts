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

/** What detectors say most, far from each other on the colour wheel. */
const HUES: Record<string, number> = {
  person: 210, face: 235, car: 28, truck: 8, bus: 48, bicycle: 150, motorcycle: 170, dog: 285, cat: 320, parcel: 95, motion: 60,
};

/** A hue for a label, the same each time: markers of one kind look alike. */
export function hue(label: string): number {
  const known = HUES[label.toLowerCase()];
  if (known !== undefined) return known;
  let hash = 2166136261;
  for (const character of label) hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 16777619);
  hash = Math.imul(hash ^ (hash >>> 15), 2246822519);
  hash = Math.imul(hash ^ (hash >>> 13), 3266489917);
  return ((hash ^ (hash >>> 16)) >>> 0) % 360;
}
