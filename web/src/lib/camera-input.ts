// What people type about a camera, checked before it is sent, and what a probe found, in words.
import { bitrate } from "./format";

// As the configuration takes it.
const NAME = /^[a-z0-9][a-z0-9._-]{0,62}$/i;

export function nameProblem(name: string, taken: string[]): string | null {
  if (!name) return "A name is needed: it is in addresses and in the log";
  if (!NAME.test(name)) return "Letters, digits, -, _ and .; a letter or digit first; at most 63";
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

export interface Found {
  label: string;
  value: string;
}

export interface Probed {
  lines: Found[];
  /** Such as `H.264`; empty: not known. */
  codec: string;
}

/** What a probe found, as lines; what is not known is left out. */
export function readProbe(answer: unknown): Probed {
  const object = (value: unknown): Record<string, unknown> =>
    value !== null && typeof value === "object" ? (value as Record<string, unknown>) : {};
  const raw = object(answer);
  const video = object(raw.video);
  const measured = object(raw.measured);
  const lines: Found[] = [];
  const say = (label: string, value: string | null): void => {
    if (value) lines.push({ label, value });
  };
  const number = (value: unknown): number | null => (typeof value === "number" && value > 0 ? value : null);
  const codec = typeof video.codec === "string" ? video.codec : "";
  const [width, height, fps] = [number(video.width), number(video.height), number(measured.fps)];
  const [bits, gop] = [number(measured.bits_per_second), number(measured.gop_max)];
  say("Video", [codec, typeof video.profile === "string" ? video.profile : ""].filter(Boolean).join(", "));
  say("Size", width !== null && height !== null ? `${width} × ${height}` : null);
  say("Pictures a second", fps === null ? null : fps.toFixed(1));
  say("Bit rate", bits === null ? null : bitrate(bits / 1000));
  say("Key frame every", gop !== null && fps !== null ? `${(gop / fps).toFixed(1)} s` : null);
  const offered = Array.isArray(raw.offered) ? raw.offered.map(object) : [];
  const audio = offered.find((each) => each.media === "audio");
  say("Sound", audio && typeof audio.encoding === "string" ? audio.encoding : null);
  say("Clock", measured.clock === "sender-report" ? "the camera's" : measured.clock === "arrival" ? "time of arrival" : null);
  return { lines, codec };
}

/** How to record what a camera sends, so that browsers can play it. */
export function recordModeFor(codec: string): "copy" | "encode" {
  return /264|^$/.test(codec) ? "copy" : "encode";
}
