// What every page shares: the cameras, the disk, and whether the daemon answers. Asked for every few
// seconds, and at once when the daemon says that something changed (server-sent events).
import { computed, signal } from "@preact/signals";
import { api, type Marker, messageOf, Problem } from "./api";
import { type Camera, type Disk, toCameras, toDisk } from "./model";

const POLL_MS = 5000;
const POLL_DISK_MS = 30_000;
/** A live feed that fell silent for longer is opened anew. */
const FEED_RETRY_MS = 2000;
const FEED_RETRY_MAX_MS = 15_000;

export type Link = "starting" | "online" | "gone";

export const cameras = signal<Camera[] | null>(null);
export const camerasError = signal<string | null>(null);
export const disk = signal<Disk | null>(null);
export const link = signal<Link>("starting");
export const feed = signal(false);
/** The daemon's site name, when an answer told it. */
export const site = signal("");

export const troubled = computed(
  () => (cameras.value ?? []).filter((each) => !["streaming", "disabled", "connecting"].includes(each.state)).length,
);

let asking: Promise<void> | null = null;

export function refresh(): Promise<void> {
  asking ??= (async () => {
    try {
      const answer = await api.cameras();
      const named = (answer as { site?: unknown } | null)?.site;
      if (typeof named === "string") site.value = named;
      cameras.value = toCameras(answer);
      camerasError.value = null;
      link.value = "online";
    } catch (error) {
      if (error instanceof Problem && error.unreachable) link.value = "gone";
      else camerasError.value = messageOf(error);
    } finally {
      asking = null;
    }
  })();
  return asking;
}

async function refreshDisk(): Promise<void> {
  try {
    disk.value = toDisk(await api.disk());
  } catch {
    // shown as unknown; the cameras' own error says what is wrong
  }
}

// --- the live feed

export type MarkerChange = { kind: "set"; marker: Marker } | { kind: "removed"; id: string };
type Listener = (change: MarkerChange) => void;
const listeners = new Set<Listener>();

/** Calls back for every marker that is made, changed or removed; returns how to stop that. */
export function onMarker(listener: Listener): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** What an event means: the daemon names it, and its data is JSON. */
export function readMarkerEvent(name: string, data: unknown): MarkerChange | null {
  if (!name.startsWith("marker")) return null;
  const raw = (data ?? {}) as Record<string, unknown>;
  const marker = (raw.marker ?? raw) as Partial<Marker>;
  const id = marker.id ?? (raw.id as string | undefined);
  if (id === undefined) return null;
  if (/delete|remove/.test(name) || raw.deleted === true) return { kind: "removed", id: String(id) };
  return typeof marker.start === "string" && typeof marker.label === "string"
    ? { kind: "set", marker: marker as Marker }
    : null;
}

const EVENTS = [
  "marker",
  "marker-added",
  "marker-changed",
  "marker-deleted",
  "marker.created",
  "marker.updated",
  "marker.deleted",
  "camera",
  "cameras",
  "recording",
  "recordings",
  "disk",
];

let pending: ReturnType<typeof setTimeout> | undefined;

function refreshSoon(): void {
  pending ??= setTimeout(() => {
    pending = undefined;
    void refresh();
  }, 150);
}

function heard(name: string, text: string): void {
  let data: unknown = null;
  try {
    data = JSON.parse(text);
  } catch {
    return;
  }
  const change = readMarkerEvent(name, data);
  if (change) for (const listener of listeners) listener(change);
  else if (name.startsWith("disk")) void refreshDisk();
  else refreshSoon();
}

function openFeed(wait = FEED_RETRY_MS): void {
  const source = new EventSource("/api/v1/events");
  source.onopen = () => {
    feed.value = true;
    wait = FEED_RETRY_MS;
    void refresh();
  };
  // The browser tries again by itself while the connection broke; not after an answer that was no feed.
  source.onerror = () => {
    feed.value = false;
    void refresh();
    if (source.readyState !== EventSource.CLOSED) return;
    setTimeout(() => openFeed(Math.min(wait * 2, FEED_RETRY_MAX_MS)), wait);
  };
  for (const name of EVENTS) source.addEventListener(name, (event) => heard(name, String(event.data)));
}

export function start(): void {
  void refresh();
  void refreshDisk();
  openFeed();
  setInterval(() => {
    if (document.visibilityState === "visible" || link.value !== "online") void refresh();
  }, POLL_MS);
  setInterval(() => void refreshDisk(), POLL_DISK_MS);
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") void refresh();
  });
  addEventListener("online", () => void refresh());
  addEventListener("offline", () => (link.value = "gone"));
}
