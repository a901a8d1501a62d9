// Other people's players on the same recordings, from another origin: hls.js on the DVR and on a range,
// Shaka on DASH. Each shows the pictures of the camera, by the numbers in them.
import { createServer, type Server } from "node:http";
import { createReadStream, existsSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { Browser } from "./support/browser";
import { plays } from "./support/dashboard";
import { readPicture } from "./support/framecode";
import { waitFor } from "./support/process";
import { cameraTables, Daemon, Farm, ROOT } from "./support/site";

const SCRIPTS: Record<string, string> = {
  "/hls.js": "hls.js/dist/hls.min.js",
  "/shaka.js": "shaka-player/dist/shaka-player.compiled.js",
};
const PAGE = '<!doctype html><title>players</title><video id="video" muted width="640"></video><script src="/hls.js"></script><script src="/shaka.js"></script>';

let farm: Farm;
let daemon: Daemon;
let browser: Browser;
let server: Server;
let origin = "";
let stranger: Server;
const toStop: (() => unknown)[] = [];

function listen(): Promise<[Server, string]> {
  const made = createServer((request, response) => {
    const script = SCRIPTS[request.url ?? ""];
    const file = script ? join(ROOT, "web/node_modules", script) : "";
    if (script && existsSync(file)) {
      response.writeHead(200, { "content-type": "text/javascript" });
      createReadStream(file).pipe(response);
    } else if (request.url === "/") {
      response.writeHead(200, { "content-type": "text/html" });
      response.end(PAGE);
    } else response.writeHead(204).end();
  });
  return new Promise((resolve) =>
    made.listen(0, "127.0.0.1", () => {
      const address = made.address();
      resolve([made, `http://127.0.0.1:${typeof address === "object" ? (address?.port ?? 0) : 0}`]);
    }),
  );
}

let span = { from: 0, to: 0 };

beforeAll(async () => {
  [server, origin] = await listen();
  toStop.push(() => server.close());
  farm = await Farm.start({ door: "h264-360p" });
  toStop.push(() => farm.stop());
  daemon = await Daemon.start(`[record]\nmode = "copy"\n\n${cameraTables(farm)}`, `cors_origins = ["${origin}"]`);
  toStop.push(() => daemon.stop());
  browser = await Browser.start();
  toStop.push(() => browser.stop());
  span = await waitFor("12 s of recording", async () => {
    const { spans } = await daemon.json<{ spans: { start: string; end: string }[] }>("/api/v1/cameras/door/timeline");
    const last = spans.at(-1);
    if (!last) return null;
    const found = { from: Date.parse(last.start), to: Date.parse(last.end) };
    return found.to - found.from > 12_000 ? found : null;
  });
});

afterAll(async () => {
  for (const each of toStop.reverse()) await each();
});

afterEach((context) => {
  const complaints = browser.complaints.splice(0);
  if (context.task.result?.state === "fail") console.log(daemon.log(), complaints);
  else expect(complaints).toEqual([]);
});

const within = (seconds: number): string => {
  const at = (ms: number): string => encodeURIComponent(new Date(ms).toISOString());
  return `?from=${at(span.from + 2000)}&to=${at(span.from + 2000 + seconds * 1000)}`;
};

interface Hls {
  loadSource: (address: string) => void;
  attachMedia: (video: Element) => void;
  on: (event: string, heard: (event: string, data: { fatal: boolean; details: string }) => void) => void;
}

async function hls(address: string): Promise<Awaited<ReturnType<Browser["page"]>>> {
  const page = await browser.page(origin);
  await page.evaluate((source) => {
    const made = new (window as unknown as { Hls: new (config: object) => Hls }).Hls({ enableDateRangeMetadataCues: false });
    made.on("hlsError", (_, data) => {
      if (data.fatal) console.error(data.details);
    });
    made.loadSource(source);
    const video = document.querySelector("video");
    if (!video) return;
    made.attachMedia(video);
    void video.play();
  }, address);
  return page;
}

describe("hls.js", () => {
  it("plays the whole window, and seeks in it", async () => {
    const page = await hls(`${daemon.url}/hls/door/main/source/dvr.m3u8`);
    expect((await plays(page, "video")).tag).toBe(farm.camera("door").tag);
    const ends = await page.evaluate(() => {
      const { seekable } = document.querySelector("video")!;
      return [seekable.start(0), seekable.end(0)] as const;
    });
    expect(ends[1] - ends[0]).toBeGreaterThan(8);
    await page.evaluate((at) => {
      const video = document.querySelector("video")!;
      video.pause();
      video.currentTime = at;
    }, (ends[0] + ends[1]) / 2);
    await waitFor("the picture sought", async () => {
      const code = await readPicture(page, "video");
      return code && Math.abs(code.mediaTime - (ends[0] + ends[1]) / 2) < 0.1;
    });
    await page.close();
  });

  it("plays a range to its end", async () => {
    const page = await hls(`${daemon.url}/hls/door/index.m3u8${within(4)}`);
    const length = await waitFor("the length", () => page.evaluate(() => {
      const { duration } = document.querySelector("video")!;
      return Number.isFinite(duration) && duration > 0 ? duration : null;
    }));
    // Whole segments: what was asked for, and up to one more at each end.
    expect(length).toBeGreaterThanOrEqual(3.9);
    expect(length).toBeLessThan(9);
    await waitFor("the end", () => page.evaluate(() => (document.querySelector("video")!).ended));
    await page.close();
  });
});

describe("Shaka", () => {
  for (const [what, query] of [["live", ""], ["a range", "range"]] as const) {
    it(`plays the DASH manifest: ${what}`, async () => {
      const page = await browser.page(origin);
      await page.evaluate(async (address) => {
        interface Shaka {
          polyfill: { installAll: () => void };
          Player: new () => { attach: (video: Element | null) => Promise<void>; load: (address: string) => Promise<void> };
        }
        const { shaka } = window as unknown as { shaka: Shaka };
        shaka.polyfill.installAll();
        const player = new shaka.Player();
        const video = document.querySelector("video");
        await player.attach(video);
        await player.load(address);
        await video?.play();
      }, `${daemon.url}/dash/door/manifest.mpd${query ? within(6) : ""}`);
      expect((await plays(page, "video")).tag).toBe(farm.camera("door").tag);
      await page.close();
    });
  }
});

describe("an origin that is not allowed", () => {
  it("cannot read playlists", async () => {
    const [made, address] = await listen();
    stranger = made;
    toStop.push(() => stranger.close());
    const page = await browser.page(address);
    const answer = await page.evaluate((where) => fetch(where).then(() => "read", () => "refused"), `${daemon.url}/hls/door/index.m3u8`);
    expect(answer).toBe("refused");
    expect(browser.complaints.splice(0).join()).toContain("CORS");
    await page.close();
  });
});
