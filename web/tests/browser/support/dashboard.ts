// What tests do on the dashboard's camera page.
import type { Page } from "playwright-core";
import { type Code, readPicture } from "./framecode";
import { waitFor } from "./process";

/** Which picture is on the screen, and what the page says when it was taken. */
export interface Seen extends Code {
  capture: number;
}

export async function seen(page: Page): Promise<Seen | null> {
  const capture = Number(await page.locator("button.clock").getAttribute("data-shown"));
  const code = await readPicture(page);
  return code && capture > 0 ? { ...code, capture } : null;
}

/** The same picture and time twice in a row: a seek has arrived. */
export async function settled(page: Page): Promise<Seen> {
  let before: Seen | null = null;
  return waitFor("the picture to stand still", async () => {
    const now = await seen(page);
    const same = now !== null && before?.index === now.index && before.capture === now.capture && !(await seeking(page));
    before = now;
    return same ? now : null;
  });
}

export function seeking(page: Page): Promise<boolean> {
  return page.evaluate(() => {
    const video = document.querySelector<HTMLVideoElement>(".screen video");
    return !video || video.seeking || video.readyState < 2;
  });
}

export async function isLive(page: Page): Promise<boolean> {
  return (await page.locator(".controls .live").getAttribute("aria-pressed")) === "true";
}

/** Waits until the video moves: its time, and the number in its pictures. */
export async function plays(page: Page, selector = ".screen video"): Promise<Code> {
  const first = await waitFor("a picture", () => readPicture(page, selector));
  return waitFor("the video to move on", async () => {
    const now = await readPicture(page, selector);
    return now && now.index !== first.index && now.mediaTime > first.mediaTime ? now : null;
  });
}

/** Pauses in what was recorded, so far behind now. */
export async function pauseBehind(page: Page, seconds: number): Promise<Seen> {
  const paused = (): Promise<boolean> => page.evaluate(() => document.querySelector<HTMLVideoElement>(".screen video")?.paused === true);
  if (!(await paused())) await page.keyboard.press("Space");
  await waitFor("the video to pause", paused);
  for (let gone = 0; gone < seconds; gone += 5) {
    const before = await seen(page);
    await page.keyboard.press("ArrowLeft");
    await waitFor("the seek", async () => {
      const now = await seen(page);
      return now !== null && before !== null && Math.abs(now.capture - before.capture) > 3000 && !(await seeking(page));
    });
  }
  return settled(page);
}
