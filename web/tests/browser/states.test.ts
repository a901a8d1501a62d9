// What the pages show when there is nothing, when something went wrong, on a phone, in the dark, without a
// mouse: with answers that are made up where a daemon would not give them.
import type { Page, Route } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { Browser } from "./support/browser";
import { waitFor } from "./support/process";
import { Daemon } from "./support/site";

let daemon: Daemon;
let browser: Browser;
const toStop: { stop: () => Promise<void> }[] = [];

beforeAll(async () => {
  daemon = await Daemon.start('[[camera]]\nname = "off"\nurl = "rtsp://127.0.0.1:1/none"\nenabled = false\n');
  toStop.push(daemon);
  browser = await Browser.start();
  toStop.push(browser);
});

afterAll(async () => {
  for (const each of toStop.reverse()) await each.stop();
});

afterEach(() => {
  const lines = browser.complaints.splice(0).filter((each) => !/Failed to load resource|ERR_/.test(each));
  expect(lines).toEqual([]);
});

const CAMERAS = {
  site: "made up",
  cameras: Array.from({ length: 100 }, (_, i) => ({
    name: `camera-${i}`,
    enabled: true,
    streams: [
      {
        id: `camera-${i}`, name: null, enabled: true, url: "rtsp://192.0.2.1/", record: { mode: "off" },
        status: i % 10 === 3 ? { state: "unauthorized", reason: "the camera refused the login" } : { state: "streaming", reason: "H.264" },
      },
    ],
  })),
};

const json = (body: unknown, status = 200) => (route: Route): Promise<void> =>
  route.fulfill({ status, contentType: status < 400 ? "application/json" : "application/problem+json", body: JSON.stringify(body) });

async function visit(path: string, before: (page: Page) => Promise<unknown> = () => Promise.resolve()): Promise<Page> {
  const page = await browser.page("about:blank");
  await before(page);
  await page.goto(daemon.url + path);
  return page;
}

describe("without cameras", () => {
  it("the wall invites to add one", async () => {
    const page = await visit("/", (each) => each.route("**/api/v1/cameras", json({ site: "new", cameras: [] })));
    await page.getByRole("button", { name: "Add the first camera" }).click();
    await page.waitForSelector("dialog[open]");
    await page.keyboard.press("Escape");
    await page.waitForSelector("dialog", { state: "detached" });
    await page.close();
  });

  it("there are no recordings, and no such camera", async () => {
    const page = await visit("/recordings");
    await page.waitForSelector(".empty :text('Nothing is recorded yet')");
    await page.goto(`${daemon.url}/camera/nobody`);
    await page.waitForSelector(".empty :text('There is no camera')");
    await page.close();
  });
});

describe("answers that are errors", () => {
  it("are shown with what the server says", async () => {
    const problem = { title: "The table is damaged", status: 500, detail: "row 7: run `camring reindex`" };
    const page = await visit("/recordings", (each) => each.route("**/api/v1/recordings", json(problem, 500)));
    expect(await page.locator(".empty").textContent()).toContain("camring reindex");
    await page.unroute("**/api/v1/recordings");
    await page.getByRole("button", { name: "Try again" }).click();
    await page.waitForSelector(".empty :text('Nothing is recorded yet')");
    await page.close();
  });

  it("and no answer at all are two things", async () => {
    const page = await visit("/", (each) => each.route("**/api/**", (route) => route.abort("connectionrefused")));
    await page.waitForSelector(".gone");
    await page.waitForSelector(".empty :text('does not answer')");
    await page.unroute("**/api/**");
    await page.waitForSelector(".gone", { state: "detached" });
    await page.waitForSelector('.tile[data-camera="off"][data-state="disabled"]');
    await page.close();
  });
});

describe("a wall of a hundred", () => {
  it("shows all, finds those in trouble, and asks for few pictures at once", async () => {
    let [running, most, asked] = [0, 0, 0];
    const page = await visit("/", async (each) => {
      await each.route("**/api/v1/cameras", json(CAMERAS));
      await each.route("**/snapshot.jpg*", async (route) => {
        running += 1;
        asked += 1;
        most = Math.max(most, running);
        await new Promise((resolve) => setTimeout(resolve, 20));
        running -= 1;
        await route.fulfill({ contentType: "image/svg+xml", body: '<svg xmlns="http://www.w3.org/2000/svg" width="16" height="9"/>' });
      });
    });
    await waitFor("all tiles", async () => (await page.locator(".tile").count()) === 100);
    await waitFor("pictures", () => asked >= 10);
    expect(most).toBeLessThanOrEqual(4);
    await page.getByRole("button", { name: "10 with trouble" }).click();
    await waitFor("only those", async () => (await page.locator(".tile").count()) === 10);
    await page.close();
  });
});

describe("every page", () => {
  it("fits a phone, in both themes, and names all its controls", async () => {
    for (const path of ["/", "/recordings", "/camera/camera-1"]) {
      const page = await visit(path, async (each) => {
        await each.setViewportSize({ width: 360, height: 740 });
        await each.route("**/api/v1/cameras", json(CAMERAS));
        await each.route("**/snapshot.jpg*", (route) => route.fulfill({ status: 404 }));
        await each.route("**/api/v1/cameras/camera-1/*", json({ markers: [], spans: [], streams: [] }));
      });
      await page.waitForSelector("main > *");
      for (const scheme of ["light", "dark"] as const) {
        await page.emulateMedia({ colorScheme: scheme });
        const found = await page.evaluate(() => ({
          wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
          nameless: [...document.querySelectorAll<HTMLElement>("button, a, input, select, [role=slider]")]
            .filter((each) => !(each.getAttribute("aria-label") ?? each.closest("label")?.textContent ?? each.textContent).trim())
            .map((each) => each.outerHTML),
          background: getComputedStyle(document.documentElement).backgroundColor,
        }));
        expect(found.wide).toBeLessThanOrEqual(0);
        expect(found.nameless).toEqual([]);
        const light = Number(/\d+/.exec(found.background)?.[0]);
        expect(light > 128).toBe(scheme === "light");
      }
      await page.close();
    }
  });

  it("can be used without a mouse", async () => {
    const page = await visit("/", (each) => each.route("**/api/v1/cameras", json({ ...CAMERAS, cameras: CAMERAS.cameras.slice(0, 2) })));
    await page.waitForSelector(".tile");
    await page.keyboard.press("Tab");
    expect(await page.evaluate(() => document.activeElement?.textContent)).toContain("Skip");
    const seen = new Set<string>();
    for (let i = 0; i < 12; i += 1) {
      await page.keyboard.press("Tab");
      seen.add(await page.evaluate(() => document.activeElement?.getAttribute("aria-label") ?? document.activeElement?.textContent ?? ""));
    }
    expect([...seen].some((each) => each.startsWith("camera-0"))).toBe(true);
    await page.locator('.tile[data-camera="camera-0"] a').focus();
    await page.keyboard.press("Enter");
    await page.waitForURL(/\/camera\/camera-0$/);
    await page.close();
  });

  it("is served with a policy that forbids everything from elsewhere", async () => {
    const answer = await fetch(`${daemon.url}/camera/anything`);
    expect(answer.headers.get("content-type")).toContain("text/html");
    const policy = answer.headers.get("content-security-policy") ?? "";
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toContain("unsafe");
    const script = /src="(\/assets\/[^"]+\.js)"/.exec(await answer.text())?.[1] ?? "";
    const kept = await fetch(daemon.url + script);
    expect(kept.headers.get("cache-control")).toContain("immutable");
    const again = await fetch(`${daemon.url}/`, { headers: { "if-none-match": answer.headers.get("etag") ?? "" } });
    expect(again.status).toBe(304);
    for (const path of ["/assets/../index.html", "/assets/%2e%2e/index.html", "/assets/..%2f..%2fpackage.json", "/assets/"]) {
      expect((await fetch(daemon.url + path)).status).toBe(404);
    }
  });
});
