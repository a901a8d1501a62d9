// Processes of the tests: each ends with the test, whatever happens to it.
import { type ChildProcess, spawn } from "node:child_process";

/** On a busy machine everything takes its time; nothing is asserted by the clock. */
export const PATIENCE = 90_000;

export class Child {
  private constructor(
    readonly process: ChildProcess,
    private readonly lines: string[],
  ) {}

  /** Starts a program that is killed when this process dies. */
  static start(command: string, args: string[], env: Record<string, string> = {}): Child {
    const lines: string[] = [];
    const child = spawn("setpriv", ["--pdeathsig", "KILL", command, ...args], {
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...process.env, ...env },
    });
    let rest = "";
    const take = (chunk: Buffer): void => {
      const parts = (rest + chunk.toString()).split("\n");
      rest = parts.pop() ?? "";
      lines.push(...parts);
    };
    child.stdout.on("data", take);
    child.stderr.on("data", take);
    return new Child(child, lines);
  }

  get output(): string[] {
    return this.lines;
  }

  /** Waits for a line; says what was written instead when it does not come. */
  async line(what: RegExp, from = 0): Promise<string> {
    return waitFor(`a line like ${String(what)}`, () => {
      const found = this.lines.slice(from).find((each) => what.test(each));
      if (!found && this.process.exitCode !== null) throw new Error(`it ended:\n${this.lines.slice(-30).join("\n")}`);
      return found;
    });
  }

  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const ended = new Promise((resolve) => this.process.once("exit", resolve));
    this.process.kill(signal);
    await ended;
  }
}

/** Asks again and again until there is an answer; null, undefined and false are none. */
export async function waitFor<T>(what: string, ask: () => T | Promise<T>, patience = PATIENCE): Promise<NonNullable<T>> {
  const end = Date.now() + patience;
  let last: unknown = null;
  for (;;) {
    try {
      const answer = await ask();
      if (answer !== null && answer !== undefined && (answer as unknown) !== false) return answer;
      last = answer;
    } catch (error) {
      if (error instanceof Error && error.message.startsWith("it ended")) throw error;
      last = error;
    }
    if (Date.now() > end) throw new Error(`waited ${patience / 1000} s for ${what}; last: ${last instanceof Error ? last.message : JSON.stringify(last)}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
