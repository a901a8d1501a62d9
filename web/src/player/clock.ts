// Which instant a picture was taken at: from the playlist's EXT-X-PROGRAM-DATE-TIME, by hls.js's own
// placing of the fragments on the media timeline.

export interface Placed {
  /** Seconds on the media timeline. */
  start: number;
  duration: number;
  /** Milliseconds since 1970 UTC of its first picture. */
  programDateTime: number | null;
}

/** The fragment that holds this moment of the media timeline, or the nearest one before it. */
export function fragmentAt(fragments: readonly Placed[], mediaTime: number): Placed | null {
  let low = 0;
  let high = fragments.length - 1;
  let found: Placed | null = null;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const each = fragments[middle];
    if (!each) break;
    if (each.start <= mediaTime + 0.0005) {
      found = each;
      low = middle + 1;
    } else high = middle - 1;
  }
  return found ?? fragments[0] ?? null;
}

/** Capture time of what is at this moment of the media timeline. */
export function captureAt(fragments: readonly Placed[], mediaTime: number): number | null {
  const fragment = fragmentAt(fragments, mediaTime);
  if (fragment?.programDateTime == null) return null;
  return fragment.programDateTime + (mediaTime - fragment.start) * 1000;
}

export interface Target {
  mediaTime: number;
  /** Nothing was recorded then; this is the first picture after it (or the last one before the end). */
  gap: boolean;
}

/** How far the end of a fragment may be from what its length says, in milliseconds. */
const SLACK_MS = 60;

/** Where on the media timeline an instant is. */
export function mediaTimeOf(fragments: readonly Placed[], at: number): Target | null {
  let before: Placed | null = null;
  for (const each of fragments) {
    if (each.programDateTime === null) continue;
    if (each.programDateTime > at) {
      const nearEnd = before?.programDateTime != null && at < before.programDateTime + before.duration * 1000 + SLACK_MS;
      if (before?.programDateTime != null && nearEnd) {
        const inside = Math.min((at - before.programDateTime) / 1000, before.duration);
        return { mediaTime: before.start + inside, gap: false };
      }
      return { mediaTime: each.start, gap: true };
    }
    before = each;
  }
  if (before?.programDateTime == null) return null;
  const inside = (at - before.programDateTime) / 1000;
  return { mediaTime: before.start + Math.min(inside, before.duration), gap: inside > before.duration + SLACK_MS / 1000 };
}

/**
 * Puts an EXT-X-START into a media playlist, so that a player begins at an instant at once, instead of at
 * its first segment. A playlist without times, or one that has such a line, is left alone.
 */
export function startAt(playlist: string, at: number): string {
  if (!playlist.startsWith("#EXTM3U") || playlist.includes("#EXT-X-START")) return playlist;
  const fragments: Placed[] = [];
  let start = 0;
  let duration = 0;
  let clock: number | null = null;
  for (const line of playlist.split("\n")) {
    if (line.startsWith("#EXTINF:")) duration = parseFloat(line.slice(8));
    else if (line.startsWith("#EXT-X-PROGRAM-DATE-TIME:")) clock = Date.parse(line.slice(25).trim());
    else if (line.trim() && !line.startsWith("#")) {
      fragments.push({ start, duration, programDateTime: clock });
      start += duration;
      if (clock !== null) clock += duration * 1000;
    }
  }
  const target = mediaTimeOf(fragments, at);
  if (!target || Number.isNaN(target.mediaTime)) return playlist;
  return playlist.replace("#EXTM3U", `#EXTM3U\n#EXT-X-START:TIME-OFFSET=${target.mediaTime.toFixed(6)},PRECISE=YES`);
}
