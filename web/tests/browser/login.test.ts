// People log in in a real Chromium, see what their role allows, come back to where they were, and are logged
// out when their session ends. The browser complains of nothing: no violation of the policy either.
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { Browser } from "./support/browser";
import { Daemon, ROOT } from "./support/site";

const PASSWORD = "correct horse";
let daemon: Daemon;
let browser: Browser;
const toStop: { stop: () => Promise<void> }[] = [];

beforeAll(async () => {
  const program = process.env.CAMRING_BIN ?? join(process.env.CARGO_TARGET_DIR ?? join(ROOT, "target"), "debug/camring");
  const users = ["viewer", "admin"].map((role) =>
    execFileSync(program, ["user", "hash", "--name", role, "--role", role], { input: `${PASSWORD}\n`, encoding: "utf8" }),
  );
  daemon = await Daemon.start('[[camera]]\nname = "off"\nurl = "rtsp://127.0.0.1:1/none"\nenabled = false\n', users.join("\n"));
  toStop.push(daemon);
  browser = await Browser.start();
  toStop.push(browser);
});

afterAll(async () => {
  for (const each of toStop.reverse()) await each.stop();
});

afterEach(() => {
  // The browser itself notes each answer of 401.
  const lines = browser.complaints.splice(0).filter((each) => !each.includes('status of 401'));
  expect(lines).toEqual([]);
});

async function logIn(page: Page, name: string, password = PASSWORD): Promise<void> {
  // As with a keyboard: the first field has the focus.
  await page.waitForSelector('input[name="username"]:focus');
  await page.keyboard.type(name);
  await page.keyboard.press("Tab");
  await page.keyboard.type(password);
  await page.keyboard.press("Enter");
}

async function shot(page: Page, name: string): Promise<void> {
  const folder = process.env.CAMRING_SHOTS;
  if (folder) await page.screenshot({ path: join(folder, `${name}.png`) });
}

it("a page waits behind the login, and a wrong password says so", async () => {
  const page = await browser.page(`${daemon.url}/recordings`);
  await logIn(page, "admin", "wrong");
  await page.waitForSelector('[role="alert"]:has-text("wrong")');
  await shot(page, "login-light");
  await page.emulateMedia({ colorScheme: "dark" });
  await shot(page, "login-dark");
  // On the smallest of phones nothing is cut off, and each field says what it is.
  await page.setViewportSize({ width: 320, height: 568 });
  await shot(page, "login-phone");
  expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(320);
  expect(await page.getByRole("textbox", { name: "Name" }).inputValue()).toBe("admin");
  await page.getByLabel("Password").waitFor();
  await page.setViewportSize({ width: 1280, height: 800 });
  await page.emulateMedia({ colorScheme: "light" });
  await page.keyboard.type(PASSWORD);
  await page.keyboard.press("Enter");
  await page.waitForSelector(".empty :text('Nothing is recorded yet')");
  expect(new URL(page.url()).pathname).toBe("/recordings");
  await page.getByRole("button", { name: "Add camera" }).waitFor();
  await shot(page, "logged-in");
  // No script can read the cookie, and it goes nowhere else.
  const [cookie] = await browser.context.cookies();
  expect(cookie).toMatchObject({ httpOnly: true, sameSite: "Strict" });
  expect(await page.evaluate(() => document.cookie)).toBe("");

  // The session ends behind the page's back: the login comes by itself, and leads back.
  await page.goto(`${daemon.url}/camera/off`);
  await page.getByRole("button", { name: "Actions for off" }).waitFor();
  await browser.context.clearCookies();
  await logIn(page, "viewer");
  await page.waitForSelector("h1:has-text('off')");
  expect(new URL(page.url()).pathname).toBe("/camera/off");

  // A viewer does not see what would be refused.
  await page.getByRole("button", { name: "Actions for off" }).click();
  const items = await page.getByRole("menuitem").allInnerTexts();
  expect(items.map((each) => each.trim())).toEqual(["Choose a range", "Keys"]);
  await page.keyboard.press("Escape");
  expect(await page.getByRole("button", { name: "Add camera" }).count()).toBe(0);

  await page.getByRole("button", { name: "Log out" }).click();
  await page.waitForSelector('input[name="username"]:focus');
  expect(await page.evaluate(async () => (await fetch("/api/v1/cameras")).status)).toBe(401);
  await page.close();
});
