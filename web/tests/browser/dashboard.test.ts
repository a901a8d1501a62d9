// The dashboard in Chromium, with a real daemon and real cameras: what a person at the site would do.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { Browser } from "./support/browser";
import { isLive, pauseBehind, plays, seen, settled } from "./support/dashboard";
import { waitFor } from "./support/process";
import { cameraTables, Daemon, Farm, ROOT } from "./support/site";

const FPS = 15; // of the clip h264-720p

let farm: Farm;
let daemon: Daemon;
let browser: Browser;
let page: Page;
const toStop: { stop: () => Promise<void> }[] = [];

beforeAll(async () => {
  farm = await Farm.start({ door: "h264-720p", yard: "h264-360p", gate: "h264-180p" });
  toStop.push(farm);
  daemon = await Daemon.start(`[record]\nmode = "copy"\n\n${cameraTables(farm, ["door", "yard"])}`);
  toStop.push(daemon);
  browser = await Browser.start();
  toStop.push(browser);
  page = await browser.page(daemon.url);
});

afterAll(async () => {
  for (const each of toStop.reverse()) await each.stop();
});

/** Nothing may go wrong in a page unseen. */
afterEach(async (context) => {
  const complaints = browser.complaints.splice(0);
  if (context.task.result?.state === "fail") {
    console.log(daemon.log(), complaints);
    await page.screenshot({ path: join(ROOT, "web/node_modules/.failed.png") });
    return;
  }
  expect(complaints).toEqual([]);
});

const tile = (name: string): string => `.tile[data-camera="${name}"]`;

/** Waits until so much of the door is recorded in one piece. */
async function recorded(seconds: number): Promise<void> {
  await waitFor(`${seconds} s of recording`, async () => {
    const { spans } = await daemon.json<{ spans: { start: string; end: string }[] }>("/api/v1/cameras/door/timeline");
    const last = spans.at(-1);
    return last && Date.parse(last.end) - Date.parse(last.start) > seconds * 1000;
  });
}

async function open(path: string): Promise<void> {
  await page.goto(daemon.url + path);
}

describe("the wall", () => {
  it("shows every camera, and they play", async () => {
    for (const name of ["door", "yard"]) {
      await page.waitForSelector(`${tile(name)}[data-state="streaming"]`);
      const code = await plays(page, `${tile(name)} video`);
      expect(code.tag).toBe(farm.camera(name).tag);
    }
  });

  it("shows pictures instead when asked to", async () => {
    await page.getByRole("button", { name: "Pictures" }).click();
    const image = `${tile("door")} img`;
    const first = await waitFor("a picture", () => page.locator(image).evaluate((each: HTMLImageElement) => (each.naturalWidth > 0 ? each.src : null)));
    await waitFor("the next picture", () => page.locator(image).evaluate((each: HTMLImageElement, before) => each.src !== before, first));
    expect(await page.locator("video").count()).toBe(0);
    await page.getByRole("button", { name: "Video" }).click();
    await plays(page, `${tile("door")} video`);
  });
});

describe("one camera", () => {
  it("plays live, and says when the picture was taken", async () => {
    await open("/");
    await page.click(`${tile("door")} a`);
    expect(new URL(page.url()).pathname).toBe("/camera/door");
    await plays(page);
    const now = await waitFor("a capture time", () => seen(page));
    expect(now.tag).toBe(farm.camera("door").tag);
    expect(await isLive(page)).toBe(true);
    // Live is a matter of seconds on the busiest machine; a clock that is wrong is off by hours or by a clip.
    expect(Math.abs(Date.now() - now.capture)).toBeLessThan(30_000);
  });

  it("goes back into what was recorded, to exactly the picture of that time", async () => {
    await recorded(16);
    const there = await pauseBehind(page, 5);
    expect(await isLive(page)).toBe(false);
    const { pictures } = farm.camera("door");
    for (const [key, seconds] of [["ArrowLeft", -5], ["ArrowRight", 5]] as const) {
      const from = await settled(page);
      await page.keyboard.press(key);
      const to = await waitFor("another picture", async () => {
        const now = await settled(page);
        return Math.abs(now.capture - from.capture) > 3000 ? now : null;
      });
      // The number in the picture and the time beside it tell of the same distance.
      const distance = Math.round(((to.capture - from.capture) * FPS) / 1000);
      expect(Math.abs(distance - seconds * FPS)).toBeLessThanOrEqual(1);
      expect((from.index + distance + 10 * pictures) % pictures).toBe(to.index);
    }
    expect((await settled(page)).index).toBe(there.index);
  });

  it("steps by one picture", async () => {
    const { pictures } = farm.camera("door");
    for (const [key, step] of [[",", -1], [",", -1], [".", 1]] as const) {
      const from = await settled(page);
      await page.keyboard.press(key);
      const to = await waitFor("the next picture", async () => {
        const now = await settled(page);
        return now.index === from.index ? null : now;
      });
      expect(to.index).toBe((from.index + step + pictures) % pictures);
    }
  });

  it("returns to live", async () => {
    await page.keyboard.press("l");
    await waitFor("live", () => isLive(page));
    await plays(page);
  });
});

describe("markers", () => {
  it("are set on the picture that is shown, and lead back to exactly it", async () => {
    const marked = await pauseBehind(page, 5);
    await page.keyboard.press("m");
    await page.fill("input[name=label]", "parcel");
    await page.keyboard.press("Enter");
    await page.waitForSelector("[data-marker]:has-text('parcel')");
    await page.keyboard.press("l");
    await plays(page);
    await page.click("[data-marker]:has-text('parcel')");
    const shown = await waitFor("the marked time", async () => {
      const now = await settled(page);
      return Math.abs(now.capture - marked.capture) < 2000 ? now : null;
    });
    expect(shown.index).toBe(marked.index);
  });

  it("of detectors appear by themselves, each on its own picture", async () => {
    const base = await settled(page);
    const { pictures } = farm.camera("door");
    // What a detector sends: the capture time of its frame, here of every fourth picture around.
    const steps = [-8, -4, 4, 8];
    await daemon.post("/api/v1/cameras/door/markers", {
      markers: steps.map((step) => ({ start: new Date(base.capture + (step * 1000) / FPS).toISOString(), label: `person${step}`, score: 0.9 })),
    });
    for (const step of steps) {
      await page.click(`[data-marker]:has-text("person${step}")`);
      const wanted = (base.index + step + pictures) % pictures;
      const shown = await waitFor("the marked picture", async () => {
        const now = await settled(page);
        return Math.abs(now.capture - base.capture - (step * 1000) / FPS) < 30 ? now : null;
      });
      expect(shown.index).toBe(wanted);
    }
  });

  it("can be changed and deleted", async () => {
    const row = page.locator(".markers li", { has: page.locator("[data-marker]:has-text('parcel')") });
    await row.getByRole("button", { name: /^Actions/ }).click();
    await page.getByRole("menuitem", { name: "Change" }).click();
    await page.fill("input[name=label]", "large parcel");
    await page.getByRole("button", { name: "Save" }).click();
    const changed = page.locator(".markers li", { has: page.locator("[data-marker]:has-text('large parcel')") });
    await changed.getByRole("button", { name: /^Actions/ }).click();
    await page.getByRole("menuitem", { name: "Delete" }).click();
    await page.getByRole("button", { name: "Delete", exact: true }).click();
    await waitFor("it to be gone", async () => (await page.locator("[data-marker]:has-text('parcel')").count()) === 0);
    const left = await daemon.json<{ markers: { label: string }[] }>("/api/v1/cameras/door/markers");
    expect(left.markers.map((each) => each.label).filter((each) => each.includes("parcel"))).toEqual([]);
  });
});

describe("a range", () => {
  it("is previewed, and exported as a file that plays", async () => {
    await page.keyboard.press("r");
    await page.getByRole("button", { name: "Preview" }).click();
    await waitFor("the preview", () => page.locator("dialog video").evaluate((each: HTMLVideoElement) => each.videoWidth > 0 && each.currentTime > 0));
    await page.keyboard.press("Escape");
    const [download] = await Promise.all([page.waitForEvent("download"), page.click("[data-act=export]")]);
    expect(download.suggestedFilename()).toMatch(/^door_\d{8}T\d+Z_\d{8}T\d+Z\.mp4$/);
    const file = await download.path();
    const said = execFileSync("ffprobe", ["-v", "error", "-count_frames", "-show_entries", "stream=codec_name,nb_read_frames", "-of", "json", file]).toString();
    const { streams } = JSON.parse(said) as { streams: { codec_name: string; nb_read_frames: string }[] };
    expect(streams[0]?.codec_name).toBe("h264");
    expect(Number(streams[0]?.nb_read_frames)).toBeGreaterThan(FPS);
  });

  it("is protected under a name", async () => {
    await page.getByRole("button", { name: "Protect" }).click();
    await page.fill("input[name=protection]", "the delivery");
    await page.getByRole("dialog").getByRole("button", { name: "Protect" }).click();
    await open("/recordings");
    await page.waitForSelector('[data-recording="door"] .protections :text("the delivery")');
    const item = page.locator(".protections li", { hasText: "the delivery" });
    await item.getByRole("button").click();
    await page.getByRole("menuitem", { name: "Rename" }).click();
    await page.fill("input[name=title]", "the second delivery");
    await page.getByRole("button", { name: "Save" }).click();
    await page.waitForSelector('.protections :text("the second delivery")');
    await page.locator(".protections li").getByRole("button").click();
    await page.getByRole("menuitem", { name: "Lift the protection" }).click();
    await page.getByRole("button", { name: "Lift", exact: true }).click();
    await waitFor("it to be lifted", async () => (await page.locator(".protections li").count()) === 0);
  });
});

describe("a camera in trouble", () => {
  it("is shown with its reason, and comes back by itself", async () => {
    await open("/");
    await plays(page, `${tile("yard")} video`);
    await farm.order("stop yard");
    await waitFor("the trouble to be shown", async () => {
      const state = await page.locator(tile("yard")).getAttribute("data-state");
      return state === "backoff" || state === "stalled" || state === "connecting";
    });
    await waitFor("a reason", async () => ((await page.locator(`${tile("yard")} .why p`).textContent()) ?? "").length > 5);
    await farm.order("start yard");
    await page.waitForSelector(`${tile("yard")}[data-state="streaming"]`, { timeout: 90_000 });
    await plays(page, `${tile("yard")} video`);
    browser.complaints.splice(0); // what the playlist answered meanwhile
  });
});

describe("cameras", () => {
  it("are probed and added in a dialogue, and stay in config.toml", async () => {
    await open("/");
    await page.getByRole("button", { name: "Add camera" }).click();
    await page.fill("input[name=url]", farm.camera("gate").url);
    await page.getByRole("button", { name: "Probe" }).click();
    const found = await page.waitForSelector("[data-probe=ok]");
    expect(await found.textContent()).toContain("H.264");
    expect(await found.textContent()).toContain("320 × 180");
    await page.fill("input[name=name]", "gate");
    await page.getByRole("dialog").getByRole("button", { name: "Add camera" }).click();
    await page.waitForURL(/\/camera\/gate$/);
    const code = await plays(page);
    expect(code.tag).toBe(farm.camera("gate").tag);
    expect(readFileSync(join(daemon.folder, "config.toml"), "utf8")).toContain(farm.camera("gate").url);
    // Until its first segment is written there is no playlist, of which the browser makes a line.
    const others = browser.complaints.splice(0).filter((each) => !each.includes("404"));
    expect(others).toEqual([]);
  });

  it("that cannot be reached are said so, before they are added", async () => {
    await open("/");
    await page.getByRole("button", { name: "Add camera" }).click();
    await page.fill("input[name=url]", "rtsp://127.0.0.1:1/nothing");
    await page.getByRole("button", { name: "Probe" }).click();
    const note = page.locator("dialog .note.bad");
    await note.waitFor();
    expect(await note.textContent()).toMatch(/refused|127\.0\.0\.1/);
    await page.fill("input[name=name]", "door");
    await page.getByRole("dialog").getByRole("button", { name: "Add camera" }).click();
    await page.waitForSelector("dialog :text('There is a camera of that name')");
    await page.keyboard.press("Escape");
    browser.complaints.splice(0); // the browser's own line about the probe's answer
  });

  it("are stopped, their recordings deleted, and they are removed", async () => {
    await open("/camera/gate");
    await page.getByRole("button", { name: "Actions for gate" }).click();
    await page.getByRole("menuitem", { name: "Stop" }).click();
    await page.waitForSelector(".head .chip:text('disabled')");
    await open("/recordings");
    const row = page.locator('[data-recording="gate"]');
    const wasted = await waitFor("its file to be closed and deleted", async () => {
      await row.getByRole("button", { name: /^Actions/ }).click();
      await page.getByRole("menuitem", { name: "Delete all" }).click();
      await page.getByRole("button", { name: "Delete all" }).click();
      await page.waitForSelector("dialog", { state: "detached" });
      const said = await page.locator(".toast").last().textContent();
      return said?.includes("deleted,") === true ? said : null;
    });
    expect(wasted).toMatch(/freed/);
    await waitFor("nothing to be left", async () => {
      const { recordings } = await daemon.json<{ recordings: { camera: string; bytes: number }[] }>("/api/v1/recordings");
      return recordings.every((each) => each.camera !== "gate" || each.bytes === 0);
    });
    await open("/camera/gate");
    await page.getByRole("button", { name: "Actions for gate" }).click();
    await page.getByRole("menuitem", { name: "Remove" }).click();
    await page.getByRole("button", { name: "Remove", exact: true }).click();
    await page.waitForURL(`${daemon.url}/`);
    await waitFor("it to be gone", async () => (await page.locator(tile("gate")).count()) === 0);
    expect(readFileSync(join(daemon.folder, "config.toml"), "utf8")).not.toContain('"gate"');
    browser.complaints.splice(0); // playlists of a stopped camera
  });
});

describe("the daemon", () => {
  it("may go away: the page says so, and goes on when it is back", async () => {
    await open("/");
    await plays(page, `${tile("door")} video`);
    await daemon.halt();
    await page.waitForSelector(".gone");
    await daemon.again();
    await page.waitForSelector(".gone", { state: "detached", timeout: 90_000 });
    await page.waitForSelector(`${tile("door")}[data-state="streaming"]`, { timeout: 90_000 });
    await plays(page, `${tile("door")} video`);
    browser.complaints.splice(0); // the browser's lines about refused connections
  });
});
