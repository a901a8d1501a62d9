// What people type about a camera, checked before it is sent, and what a probe found, in words.
import { bitrate } from "./format";

const NAME = /^[a-z0-9][a-z0-9_-]{0,63}$/i;

export function nameProblem(name: string, taken: string[]): string | null {
  if (!name) return "A name is needed: it is in addresses and in the log";
  if (!NAME.test(name)) return "Letters, digits, - and _; a letter or digit first";
  if (taken.includes(name)) return "There is a camera of that name";
  return null;
}

export function urlProblem(url: string): string | null {
  if (!url) return "The address is needed";
  if (!/^rtsps?:\/\/[^/\s]+/i.test(url)) return "It begins with rtsp:// or rtsps://, then the camera's host";
  if (/\s/.test(url)) return "An address has no spaces";
  return null;
}

/** Takes a user name and password out of an address, so that they are not shown again. */
export function splitLogin(url: string): { url: string; user: string; password: string } {
  const found = /^(rtsps?:\/\/)([^/@\s]+)@(.+)$/i.exec(url);
  if (!found?.[1] || !found[2] || !found[3]) return { url, user: "", password: "" };
  const at = found[2].indexOf(":");
  const decode = (text: string): string => {
    try {
      return decodeURIComponent(text);
    } catch {
      return text;
    }
  };
  return {
    url: found[1] + found[3],
    user: decode(at < 0 ? found[2] : found[2].slice(0, at)),
    password: at < 0 ? "" : decode(found[2].slice(at + 1)),
  };
}

export function withLogin(url: string, user: string, password: string): string {
  if (!user) return url;
  return url.replace(/^(rtsps?:\/\/)/i, `$1${encodeURIComponent(user)}:${encodeURIComponent(password)}@`);
}

export interface Found {
  label: string;
  value: string;
}

/** What a probe found, as lines; unknown fields are left out. */
export function readProbe(answer: unknown): Found[] {
  const raw = (answer ?? {}) as Record<string, unknown>;
  const inner = (raw.report ?? raw.stream ?? raw) as Record<string, unknown>;
  const streams = Array.isArray(inner.streams) ? (inner.streams as Record<string, unknown>[]) : [];
  const video = (inner.video ?? streams.find((each) => (each.media ?? each.kind) === "video") ?? inner) as Record<string, unknown>;
  const out: Found[] = [];
  const say = (label: string, value: unknown, format = (given: number): string => String(given)): void => {
    if (typeof value === "number") out.push({ label, value: format(value) });
    else if (typeof value === "string" && value) out.push({ label, value });
  };
  say("Codec", video.codec);
  if (typeof video.width === "number" && typeof video.height === "number") {
    out.push({ label: "Size", value: `${video.width} × ${video.height}` });
  }
  say("Pictures a second", video.fps, (n) => n.toFixed(1));
  say("Bit rate", video.kbit_s ?? video.kbit ?? video.kbit_per_s, bitrate);
  if (typeof video.bits_per_second === "number") out.push({ label: "Bit rate", value: bitrate(video.bits_per_second / 1000) });
  say("Key frame every", video.key_interval_s ?? video.gop_s ?? video.key_frame_interval_s, (n) => `${n.toFixed(1)} s`);
  say("Audio", (inner.audio as Record<string, unknown> | undefined)?.codec ?? inner.audio);
  say("Server", inner.server);
  return out;
}
