// The HTTP API as the dashboard uses it: what it sends, what it believes of the answers.
import { expired } from "./session";
import { parseTime, toRfc3339 } from "./time";

/** An answer that was no success: problem+json of the server, or that there was no answer. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string,
    readonly type = "",
  ) {
    super(detail ? `${title}: ${detail}` : title);
    this.name = "Problem";
  }

  /** Nobody answered: the daemon is gone, or the network is. */
  get unreachable(): boolean {
    return this.status === 0;
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

const SESSION = "/api/v1/session";

export async function request<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      headers: { accept: "application/json", ...(body === undefined ? {} : { "content-type": "application/json" }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...(signal ? { signal } : {}),
      cache: "no-store",
      credentials: "same-origin",
    });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Problem(0, "No answer", "camring does not answer; is the daemon running?");
  }
  const type = response.headers.get("content-type") ?? "";
  const content: unknown = type.includes("json") ? await response.json().catch(() => null) : null;
  if (response.ok) return content as T;
  if (response.status === 401 && path !== SESSION) expired();
  const said = (content ?? {}) as { title?: string; detail?: string; type?: string };
  throw new Problem(response.status, said.title ?? `HTTP ${response.status}`, said.detail ?? "", said.type ?? "");
}

// --- what is asked for, one function each

export interface RawCamera {
  name: string;
  [key: string]: unknown;
}

export interface Marker {
  id: string;
  camera: string;
  stream?: string | null;
  start: string;
  end?: string | null;
  label: string;
  score?: number | null;
  /** Where in the picture: x, y, width, height, from 0 to 1. */
  region?: [number, number, number, number] | null;
  data?: unknown;
  frame_time?: string | null;
}

/** The instant of the picture that a marker is on. */
export function markerTime(marker: Marker): number {
  return parseTime(marker.frame_time) ?? parseTime(marker.start) ?? 0;
}

export interface NewMarker {
  start: string;
  end?: string | null;
  label: string;
  data?: unknown;
}

const camera = (name: string, rest = ""): string => `/api/v1/cameras/${encodeURIComponent(name)}${rest}`;

export function query(values: Record<string, string | number | null | undefined>): string {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== undefined);
  return given.length ? `?${new URLSearchParams(given.map(([key, value]) => [key, String(value)])).toString()}` : "";
}

export function between(from: number, to: number): { from: string; to: string } {
  return { from: toRfc3339(from), to: toRfc3339(to) };
}

export interface Page<T> {
  items: T[];
  next: string | null;
}

/** Takes the list out of an answer, whatever its one array is called. */
export function list<T>(answer: unknown, name: string): Page<T> {
  if (Array.isArray(answer)) return { items: answer as T[], next: null };
  const object = (answer ?? {}) as Record<string, unknown>;
  const items = object[name];
  const { next } = object;
  return { items: Array.isArray(items) ? (items as T[]) : [], next: typeof next === "string" && next ? next : null };
}

export interface Removed {
  files: number;
  bytes: number;
  kept_protected: number;
  kept_writing: number;
  kept_edges: number;
  more: boolean;
}

/** Deletes a range; the server does so much at once, so it is asked until nothing is left to do. */
async function removeRecordings(name: string, from: number, to: number): Promise<Removed> {
  const sum: Removed = { files: 0, bytes: 0, kept_protected: 0, kept_writing: 0, kept_edges: 0, more: false };
  for (;;) {
    const each = await request<Removed>("DELETE", camera(name, `/recordings${query(between(from, to))}`));
    sum.files += each.files;
    sum.bytes += each.bytes;
    sum.kept_protected = each.kept_protected;
    sum.kept_writing = each.kept_writing;
    sum.kept_edges = each.kept_edges;
    if (!each.more || each.files === 0) return sum;
  }
}

export const api = {
  session: () => request<unknown>("GET", SESSION),
  logIn: (name: string, password: string) => request<unknown>("POST", SESSION, { name, password }),
  logOut: () => request<unknown>("DELETE", SESSION),
  cameras: (signal?: AbortSignal) => request<unknown>("GET", "/api/v1/cameras", undefined, signal),
  addCamera: (settings: Record<string, unknown>) => request<unknown>("POST", "/api/v1/cameras", settings),
  changeCamera: (name: string, change: Record<string, unknown>) => request<unknown>("PATCH", camera(name), change),
  removeCamera: (name: string) => request<unknown>("DELETE", camera(name)),
  order: (name: string, what: "start" | "stop" | "restart") => request<unknown>("POST", camera(name, `/${what}`)),
  probe: (settings: Record<string, unknown>, signal?: AbortSignal) =>
    request<unknown>("POST", "/api/v1/probe", settings, signal),
  health: (name: string, from: number, to: number, signal?: AbortSignal) =>
    request<unknown>("GET", camera(name, `/health${query(between(from, to))}`), undefined, signal),
  timeline: (name: string, signal?: AbortSignal) => request<unknown>("GET", camera(name, "/timeline"), undefined, signal),
  markers: (name: string, asked: Record<string, string | number | null>, signal?: AbortSignal) =>
    request<unknown>("GET", camera(name, `/markers${query(asked)}`), undefined, signal),
  addMarker: (name: string, marker: NewMarker) => request<Marker>("POST", camera(name, "/markers"), marker),
  changeMarker: (name: string, id: string, change: Partial<NewMarker>) =>
    request<Marker>("PATCH", camera(name, `/markers/${encodeURIComponent(id)}`), change),
  removeMarker: (name: string, id: string) => request<unknown>("DELETE", camera(name, `/markers/${encodeURIComponent(id)}`)),
  recordings: (signal?: AbortSignal) => request<unknown>("GET", "/api/v1/recordings", undefined, signal),
  renameRecording: (name: string, title: string | null) => request<unknown>("PATCH", camera(name, "/recordings"), { title }),
  removeRecordings,
  protections: (name: string) => request<unknown>("GET", camera(name, "/protections")),
  protect: (name: string, from: number, to: number, title: string) =>
    request<unknown>("POST", camera(name, "/protections"), { ...between(from, to), ...(title ? { name: title } : {}) }),
  renameProtection: (name: string, id: string, title: string) =>
    request<unknown>("PATCH", camera(name, `/protections/${encodeURIComponent(id)}`), { name: title }),
  unprotect: (name: string, id: string) => request<unknown>("DELETE", camera(name, `/protections/${encodeURIComponent(id)}`)),
  disk: (signal?: AbortSignal) => request<unknown>("GET", "/api/v1/disk", undefined, signal),
};

// --- addresses of pictures and files

export const url = {
  snapshot: (name: string, at?: number, width?: number) =>
    camera(name, `/snapshot.jpg${query({ at: at === undefined ? null : toRfc3339(at), width })}`),
  storyboard: (name: string, from: number, to: number, columns: number, rows: number, width: number) =>
    camera(name, `/storyboard.jpg${query({ ...between(from, to), columns, rows, width })}`),
  preview: (name: string, from: number, to: number, kind: "mp4" | "gif") =>
    camera(name, `/preview.${kind}${query({ ...between(from, to), width: kind === "mp4" ? 640 : 320, seconds: 10 })}`),
  export: (name: string, from: number, to: number, cut: "gop" | "frame") =>
    camera(name, `/export.mp4${query({ ...between(from, to), cut })}`),
  hls: (name: string, from?: number, to?: number) =>
    `/hls/${encodeURIComponent(name)}/index.m3u8${query({
      from: from === undefined ? null : toRfc3339(from),
      to: to === undefined ? null : toRfc3339(to),
    })}`,
};
