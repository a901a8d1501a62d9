// Debian's Chromium, with a profile of its own, and pages that tell when something went wrong in them.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type BrowserContext, chromium, type Page } from "playwright-core";
import { READER } from "./framecode";

const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--mute-audio", "--autoplay-policy=no-user-gesture-required",
];

export interface Options {
  viewport?: { width: number; height: number };
  colorScheme?: "light" | "dark";
  scale?: number;
  reducedMotion?: boolean;
  args?: string[];
}

export class Browser {
  /** What pages complained of; tests that expect a complaint take it out. */
  readonly complaints: string[] = [];

  private constructor(
    private readonly folder: string,
    readonly context: BrowserContext,
  ) {}

  static async start(options: Options = {}): Promise<Browser> {
    const folder = mkdtempSync(join(tmpdir(), "camring-chromium-"));
    const context = await chromium.launchPersistentContext(folder, {
      executablePath: "/usr/bin/chromium",
      args: [...FLAGS, ...(options.args ?? [])],
      viewport: options.viewport ?? { width: 1280, height: 800 },
      colorScheme: options.colorScheme ?? "light",
      deviceScaleFactor: options.scale ?? 1,
      reducedMotion: options.reducedMotion ? "reduce" : "no-preference",
      acceptDownloads: true,
    });
    context.setDefaultTimeout(60_000);
    await context.addInitScript(READER);
    return new Browser(folder, context);
  }

  async page(address: string): Promise<Page> {
    const page = await this.context.newPage();
    page.on("pageerror", (error) => this.complaints.push(`${page.url()}: ${error.message}`));
    page.on("console", (message) => {
      if (message.type() === "error" || message.type() === "warning") this.complaints.push(`${page.url()}: ${message.text()}`);
    });
    await page.goto(address);
    return page;
  }

  async stop(): Promise<void> {
    await this.context.close();
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 10 });
  }
}
