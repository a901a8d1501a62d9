// What every page shares: the cameras, the disk, and whether the daemon answers. Asked for every few
// seconds, and at once when the daemon says that something changed (server-sent events).
import { computed, effect, signal } from "@preact/signals";
import { api, type Marker, messageOf, Problem } from "./api";
import { type Camera, type Disk, toCameras, toDisk } from "./model";
import { locked, session, toSession } from "./session";

const POLL_MS = 5000;
const POLL_DISK_MS = 30_000;
/** How long to wait before a refused feed is asked for again, at first and at most. */
const FEED_RETRY_MS = 2000;
const FEED_RETRY_MAX_MS = 15_000;
const HIDDEN_MS = 10_000;

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

async function learnSession(): Promise<void> {
  try {
    session.value = toSession(await api.session());
  } catch (error) {
    // Not to be asked is not to be locked out: each answer says by itself what it refuses.
    if (error instanceof Problem && error.status === 404) session.value = { required: false, role: "admin" };
    else link.value = "gone";
  }
}

export async function logOut(): Promise<void> {
  await api.logOut();
  session.value = { required: true };
}

export function refresh(): Promise<void> {
  if (session.value === null) return learnSession();
  if (locked.value) return Promise.resolve();
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
  if (session.value === null || locked.value) return;
  try {
    disk.value = toDisk(await api.disk());
  } catch {
    // shown as unknown; the cameras' own error says what is wrong
  }
}

// --- the live feed

export type MarkerChange = { kind: "set"; marker: Marker } | { kind: "removed"; id: string } | { kind: "reset" };
type Listener = (change: MarkerChange) => void;
const listeners = new Set<Listener>();

/** Calls back for every marker that is made, changed or removed; returns how to stop that. */
export function onMarker(listener: Listener): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** What an event `marker` means: `{what, camera, id, marker}`. */
export function readMarkerEvent(data: unknown): MarkerChange | null {
  const raw = (data ?? {}) as { what?: unknown; id?: unknown; marker?: Partial<Marker> | null };
  if (raw.what === "deleted") return typeof raw.id === "string" ? { kind: "removed", id: raw.id } : null;
  const marker = raw.marker;
  return typeof marker?.id === "string" && typeof marker.start === "string" && typeof marker.label === "string"
    ? { kind: "set", marker: marker as Marker }
    : null;
}

const EVENTS = ["marker", "camera", "recording", "disk", "reset", "behind"];

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
    // `reset` and `behind` need no data
  }
  if (name === "marker") {
    const change = readMarkerEvent(data);
    if (change) for (const listener of listeners) listener(change);
  } else if (name === "reset") for (const listener of listeners) listener({ kind: "reset" });
  else if (name === "disk") disk.value = toDisk(data);
  else refreshSoon();
}

let source: EventSource | null = null;
let missed = false;

function openFeed(wait = FEED_RETRY_MS): void {
  if (source || session.value === null || locked.value) return;
  const made = new EventSource("/api/v1/events");
  source = made;
  made.onopen = () => {
    feed.value = true;
    wait = FEED_RETRY_MS;
    void refresh();
    if (missed) for (const listener of listeners) listener({ kind: "reset" });
    missed = false;
  };
  // The browser tries again by itself while the connection broke; not after an answer that was no feed.
  made.onerror = () => {
    feed.value = false;
    void refresh();
    if (made.readyState !== EventSource.CLOSED || source !== made) return;
    closeFeed();
    setTimeout(() => {
      if (document.visibilityState === "visible") openFeed(Math.min(wait * 2, FEED_RETRY_MAX_MS));
    }, wait);
  };
  for (const name of EVENTS) made.addEventListener(name, (event) => heard(name, String(event.data)));
}

function closeFeed(): void {
  source?.close();
  source = null;
  feed.value = false;
  missed = true;
}

export function start(): void {
  void learnSession();
  // Whenever somebody has logged in, and at once where nobody needs to.
  effect(() => {
    const open = session.value !== null && !locked.value;
    if (open) {
      void refresh();
      void refreshDisk();
      openFeed();
    } else {
      closeFeed();
      cameras.value = null;
      disk.value = null;
    }
  });
  setInterval(() => {
    if (document.visibilityState === "visible" || link.value !== "online") void refresh();
  }, POLL_MS);
  setInterval(() => void refreshDisk(), POLL_DISK_MS);
  // Browsers keep six connections to a server, over all its tabs: one that nobody looks at gives its own back.
  let hiding: ReturnType<typeof setTimeout> | undefined;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiding);
    if (document.visibilityState === "visible") {
      openFeed();
      void refresh();
    } else hiding = setTimeout(closeFeed, HIDDEN_MS);
  });
  addEventListener("online", () => void refresh());
  addEventListener("offline", () => (link.value = "gone"));
}
