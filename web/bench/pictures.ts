// The pictures in the documentation, taken of a running daemon: `npm run pictures`.
import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { it } from "vitest";
import { Browser, type Options } from "../tests/browser/support/browser";
import { plays } from "../tests/browser/support/dashboard";
import { cameraTables, Daemon, Farm, ROOT } from "../tests/browser/support/site";

const OUT = process.env.CAMRING_PICTURES ?? join(ROOT, "docs/images");
const FOR = Number(process.env.CAMRING_PICTURES_SECONDS ?? 70);
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function shoot(page: Page, name: string): Promise<void> {
  const file = join(tmpdir(), `camring-${process.pid}-${name}.png`);
  await page.screenshot({ path: file });
  execFileSync("ffmpeg", ["-v", "error", "-y", "-i", file, "-c:v", "libwebp", "-quality", "82", join(OUT, `dashboard-${name}.webp`)]);
  rmSync(file);
}

async function look(options: Options, act: (page: Page, browser: Browser) => Promise<void>, address: string): Promise<void> {
  const browser = await Browser.start(options);
  try {
    await act(await browser.page(address), browser);
    if (browser.complaints.length) console.log(browser.complaints);
  } finally {
    await browser.stop();
  }
}

it("are taken", async () => {
  const farm = await Farm.start({ "front-door": "h264-720p", yard: "h264-1080p", gate: "h264-360p", "loading-dock": "h264-b", lobby: "h264-still", roof: "h264-baseline" });
  const daemon = await Daemon.start(`[record]\nmode = "copy"\n\n${cameraTables(farm)}`);
  try {
    await pause(FOR * 1000 * 0.7);
    const now = Date.now();
    const markers = [-38, -33, -29.2, -21, -20.4, -14, -9, -6].map((at, i) => ({
      start: new Date(now + at * 1000).toISOString(),
      ...(i % 4 === 1 ? { end: new Date(now + at * 1000 + 4000).toISOString() } : {}),
      label: ["person", "car", "person", "parcel"][i % 4],
      score: 0.97 - i * 0.04,
    }));
    await daemon.post("/api/v1/cameras/front-door/markers", { markers });
    await farm.order("stop roof");
    await pause(FOR * 1000 * 0.3);
    const camera = `${daemon.url}/camera/front-door`;
    const back = async (page: Page): Promise<void> => {
      await plays(page);
      await page.getByRole("button", { name: "5 min" }).click();
      await page.locator("[data-marker]").nth(2).click();
      await pause(1500);
      const line = await page.locator(".timeline .line").boundingBox();
      if (line) await page.mouse.move(line.x + line.width * 0.8, line.y + 62);
      await pause(4000);
    };
    await look({ viewport: { width: 1280, height: 780 } }, async (page) => {
      await page.getByRole("button", { name: "Video" }).click();
      await plays(page, '.tile[data-camera="front-door"] video');
      await pause(3000);
      await shoot(page, "wall");
      await page.goto(camera);
      await back(page);
      await shoot(page, "camera");
      await page.mouse.move(5, 5);
      await page.getByRole("tab", { name: "Health" }).click();
      await pause(1500);
      await page.keyboard.press("r");
      await pause(1000);
      await shoot(page, "health");
      await page.goto(`${daemon.url}/recordings`);
      await pause(1500);
      await shoot(page, "recordings");
      await page.getByRole("button", { name: "Add camera" }).click();
      await page.fill("input[name=url]", farm.camera("gate").url);
      await page.getByRole("button", { name: "Probe" }).click();
      await page.waitForSelector("[data-probe=ok]");
      await shoot(page, "add");
    }, daemon.url);
    await look({ viewport: { width: 1280, height: 780 }, colorScheme: "dark" }, async (page) => {
      await back(page);
      await shoot(page, "camera-dark");
      await page.goto(daemon.url);
      await page.getByRole("button", { name: "Pictures" }).click();
      await pause(4000);
      await shoot(page, "wall-dark");
    }, camera);
    await look({ viewport: { width: 390, height: 844 }, colorScheme: "dark" }, async (page) => {
      await plays(page);
      await page.getByRole("button", { name: "5 min" }).click();
      await pause(1500);
      await shoot(page, "phone");
      await page.goto(daemon.url);
      await pause(4000);
      await shoot(page, "phone-wall");
    }, camera);
  } finally {
    await daemon.stop();
    await farm.stop();
  }
});
