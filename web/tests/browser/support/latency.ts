// From the camera to the screen, by the numbers burned into the pictures: the test camera notes when it sent
// each picture, the page notes when it shows it. One machine, one clock.
import type { Page } from "playwright-core";
import { waitFor } from "./process";
import type { Farm } from "./site";

interface Shown {
  /** Milliseconds since 1970, when the picture reached the screen. */
  at: number;
  index: number;
}

export interface Latency {
  pictures: number;
  p50: number;
  p95: number;
  p99: number;
  max: number;
}

/** CLOCK_MONOTONIC, which the cameras use, in milliseconds since 1970. */
function monotonicOffset(): number {
  let best = { width: Infinity, offset: 0 };
  for (let i = 0; i < 50; i += 1) {
    const before = process.hrtime.bigint();
    const now = performance.timeOrigin + performance.now();
    const after = process.hrtime.bigint();
    const width = Number(after - before);
    if (width < best.width) best = { width, offset: now - Number(before + (after - before) / 2n) / 1e6 };
  }
  return best.offset;
}

/** Notes every picture that a video shows, from now on. */
export async function watch(page: Page, selector = ".screen video"): Promise<void> {
  await page.evaluate((where) => {
    const kept: { at: number; index: number }[] = [];
    Object.assign(window, { shownPictures: kept });
    const video = document.querySelector(where);
    if (!(video instanceof HTMLVideoElement)) throw new Error(`no video ${where}`);
    const read = (window as unknown as { readPicture: (video: Element) => { index: number } | null }).readPicture;
    const each = (_now: number, frame: VideoFrameCallbackMetadata): void => {
      const found = read(video);
      if (found) kept.push({ at: performance.timeOrigin + frame.expectedDisplayTime, index: found.index });
      video.requestVideoFrameCallback(each);
    };
    video.requestVideoFrameCallback(each);
  }, selector);
}

/**
 * Latencies in milliseconds of what was shown for so long. The camera's notes hold one round of its clip:
 * they are read while the pictures are fresh.
 */
export async function measure(page: Page, farm: Farm, camera: string, seconds: number): Promise<number[]> {
  const offset = monotonicOffset();
  const out: number[] = [];
  const end = Date.now() + seconds * 1000;
  await waitFor("pictures to be shown", () => page.evaluate(() => (window as unknown as { shownPictures: unknown[] }).shownPictures.length > 0));
  await page.evaluate(() => void (window as unknown as { shownPictures: unknown[] }).shownPictures.splice(0));
  while (Date.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 500));
    const shown = await page.evaluate(() => (window as unknown as { shownPictures: Shown[] }).shownPictures.splice(0));
    for (const each of shown) {
      const sent = farm.sentAt(camera, each.index);
      if (sent === 0n) continue;
      const late = each.at - (Number(sent) / 1e6 + offset);
      if (late > 0) out.push(late); // below: that picture was sent again since
    }
  }
  return out;
}

export function summary(latencies: number[]): Latency {
  const sorted = [...latencies].sort((a, b) => a - b);
  const at = (share: number): number => Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN);
  return { pictures: sorted.length, p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1) };
}
