// A site under test: cameras of the farm, the daemon that reads them, and where its dashboard is.
import { closeSync, mkdirSync, mkdtempSync, openSync, readSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { Child, waitFor } from "./process";

export const ROOT = resolve(fileURLToPath(new URL(".", import.meta.url)), "../../../..");
const SLOTS = 16384;

export interface FarmCamera {
  name: string;
  url: string;
  tag: number;
  pictures: number;
}

/** RTSP cameras that send clips with numbered pictures: tests/farm/farm.py. */
export class Farm {
  private constructor(
    private readonly child: Child,
    readonly folder: string,
    readonly cameras: FarmCamera[],
  ) {}

  static async start(cameras: Record<string, string>): Promise<Farm> {
    const folder = mkdtempSync(join(tmpdir(), "camring-web-farm-"));
    const names = Object.entries(cameras).flatMap(([name, clip]) => ["--camera", `${name}=${clip}`]);
    const child = Child.start("/usr/bin/python3", [join(ROOT, "tests/farm/farm.py"), "--die-with-parent", "--sendts", join(folder, "sendts"), ...names]);
    await waitFor("the cameras", () => {
      if (child.process.exitCode !== null) throw new Error(`it ended:\n${child.output.slice(-30).join("\n")}`);
      return child.output.some((line) => line.startsWith("READY"));
    }, 300_000);
    const found = child.output
      .filter((line) => line.startsWith("CAMERA "))
      .map((line) => {
        const [, name = "", url = "", tag, pictures] = line.split(" ");
        return { name, url, tag: Number(tag), pictures: Number(pictures) };
      });
    return new Farm(child, folder, found);
  }

  camera(name: string): FarmCamera {
    const found = this.cameras.find((each) => each.name === name);
    if (!found) throw new Error(`no camera ${name}`);
    return found;
  }

  /** Gives a command, such as `stop NAME`, and waits until it was obeyed. */
  async order(line: string): Promise<void> {
    const before = this.child.output.length;
    this.child.process.stdin?.write(`${line}\n`);
    const answer = await this.child.line(/^(OK|ERROR)/, before);
    if (!answer.startsWith("OK")) throw new Error(answer);
  }

  /** CLOCK_MONOTONIC in ns at which the picture with this number was last sent; 0: never. */
  sentAt(name: string, index: number): bigint {
    const place = this.cameras.findIndex((each) => each.name === name);
    const bytes = Buffer.alloc(8);
    const file = openSync(join(this.folder, "sendts"), "r");
    try {
      readSync(file, bytes, 0, 8, (place * SLOTS + index) * 8);
    } finally {
      closeSync(file);
    }
    return bytes.readBigInt64LE();
  }

  async stop(): Promise<void> {
    await this.child.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

async function freePort(): Promise<number> {
  return new Promise((done, failed) => {
    const server = createServer();
    server.on("error", failed);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => done(typeof address === "object" && address ? address.port : 0));
    });
  });
}

export class Daemon {
  private constructor(
    private child: Child,
    readonly folder: string,
    readonly url: string,
  ) {}

  /** Starts `camring run` with these tables; the dashboard's port is chosen here. */
  static async start(tables: string, http = ""): Promise<Daemon> {
    const folder = mkdtempSync(join(tmpdir(), "camring-web-"));
    for (const each of ["run", "data"]) mkdirSync(join(folder, each));
    const port = await freePort();
    const config = join(folder, "config.toml");
    writeFileSync(
      config,
      `[site]\nname = "test"\nruntime_dir = "${folder}/run"\ndata_dir = "${folder}/data"\n\n[http]\nlisten = "127.0.0.1:${port}"\n${http}\n\n${tables}`,
    );
    const daemon = new Daemon(Daemon.run(config), folder, `http://127.0.0.1:${port}`);
    try {
      await daemon.answers();
    } catch (error) {
      await daemon.stop();
      throw error;
    }
    return daemon;
  }

  private static run(config: string): Child {
    const program = process.env.CAMRING_BIN ?? join(process.env.CARGO_TARGET_DIR ?? join(ROOT, "target"), "debug/camring");
    return Child.start(program, ["run", "--config", config]);
  }

  async answers(): Promise<void> {
    await waitFor("the daemon's HTTP", async () => {
      if (this.child.process.exitCode !== null) throw new Error(`it ended:\n${this.log()}`);
      return (await fetch(`${this.url}/api/openapi.json`)).ok;
    });
  }

  get pid(): number {
    return this.child.process.pid ?? 0;
  }

  log(lines = 40): string {
    return this.child.output.slice(-lines).join("\n");
  }

  async json<T>(path: string): Promise<T> {
    const answer = await fetch(this.url + path);
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
    return (await answer.json()) as T;
  }

  async post<T>(path: string, body: unknown, method = "POST"): Promise<T> {
    const answer = await fetch(this.url + path, { method, headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    return (await answer.json().catch(() => null)) as T;
  }

  /** Ends the daemon and leaves its folder, to start it again. */
  async halt(): Promise<void> {
    await this.child.stop();
  }

  async again(): Promise<void> {
    this.child = Daemon.run(join(this.folder, "config.toml"));
    await this.answers();
  }

  async stop(): Promise<void> {
    await this.child.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export function cameraTables(farm: Farm, names = farm.cameras.map((each) => each.name)): string {
  return names.map((name) => `[[camera]]\nname = "${name}"\nurl = "${farm.camera(name).url}"\n`).join("\n");
}
