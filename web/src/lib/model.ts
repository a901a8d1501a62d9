// Cameras, recordings and samples as the pages show them, made from what the API says. Fields may be
// missing (an older daemon, nothing known yet): then they are `null` here, and the pages say so.
import { list } from "./api";
import { parseTime } from "./time";

export const STATES = ["connecting", "streaming", "stalled", "backoff", "unauthorized", "failed", "disabled"] as const;
export type State = (typeof STATES)[number] | "unknown";
export type Tone = "good" | "busy" | "warn" | "bad" | "off";

export const TONE: Record<State, Tone> = {
  streaming: "good",
  connecting: "busy",
  stalled: "warn",
  backoff: "warn",
  unauthorized: "bad",
  failed: "bad",
  disabled: "off",
  unknown: "off",
};

export interface Recording {
  mode: string;
  state: string | null;
  reason: string | null;
  bytes: number | null;
  lastSegmentAgeMs: number | null;
  gaps: number | null;
}

export interface Stream {
  id: string;
  name: string;
  url: string | null;
  user: string | null;
  enabled: boolean;
  state: State;
  reason: string;
  since: number | null;
  codec: string | null;
  width: number | null;
  height: number | null;
  fps: number | null;
  latencyMs: number | null;
  lost: number | null;
  restarts: number | null;
  reconnects: number | null;
  cpu: number | null;
  memory: number | null;
  subscribers: number | null;
  clock: string | null;
  recording: Recording;
}

export interface Camera {
  name: string;
  enabled: boolean;
  /** The worst of its streams says how it is. */
  state: State;
  reason: string;
  since: number | null;
  streams: Stream[];
  recorded: boolean;
}

type Loose = Record<string, unknown>;

const object = (value: unknown): Loose =>
  value !== null && typeof value === "object" && !Array.isArray(value) ? (value as Loose) : {};
const text = (value: unknown): string | null => (typeof value === "string" ? value : null);
const number = (value: unknown): number | null =>
  typeof value === "number" && Number.isFinite(value) ? value : null;

function state(value: unknown): State {
  return STATES.find((known) => known === value) ?? "unknown";
}

function stream(raw: Loose, camera: string): Stream {
  const live = { ...raw, ...object(raw.status) };
  const record = object(raw.record);
  const recording = object(live.recording);
  const name = text(raw.stream) ?? text(raw.name) ?? "main";
  const enabled = raw.enabled !== false;
  return {
    id: text(raw.id) ?? (name === "main" ? camera : `${camera}/${name}`),
    name: name.startsWith(`${camera}/`) ? name.slice(camera.length + 1) : name === camera ? "main" : name,
    url: text(raw.url),
    user: text(raw.username),
    enabled,
    state: live.state === undefined || live.state === null ? (enabled ? "unknown" : "disabled") : state(live.state),
    reason: text(live.reason) ?? "",
    since: parseTime(text(live.since)),
    codec: text(live.codec),
    width: number(live.width),
    height: number(live.height),
    fps: number(live.fps_in) ?? number(live.fps_published),
    latencyMs: number(live.latency_p50_ms),
    lost: number(live.rtp_packets_lost),
    restarts: number(live.restarts),
    reconnects: number(live.reconnects),
    cpu: number(live.cpu_percent),
    memory: number(live.memory_bytes),
    subscribers: number(live.subscribers),
    clock: text(live.clock),
    recording: {
      mode: text(record.mode) ?? text(recording.mode) ?? "off",
      state: text(recording.state),
      reason: text(recording.reason),
      bytes: number(recording.bytes),
      lastSegmentAgeMs: number(recording.last_segment_age_ms),
      gaps: number(recording.gaps),
    },
  };
}

const WORST: State[] = ["failed", "unauthorized", "backoff", "stalled", "connecting", "unknown", "streaming", "disabled"];

export function toCamera(value: unknown): Camera | null {
  const raw = object(value);
  const name = text(raw.name);
  if (name === null) return null;
  const inner = Array.isArray(raw.streams) && raw.streams.length ? raw.streams.map(object) : [raw];
  const streams = inner.map((each) => stream(each === raw ? { ...raw, stream: "main", id: name } : each, name));
  const worst = [...streams].sort((a, b) => WORST.indexOf(a.state) - WORST.indexOf(b.state))[0];
  return {
    name,
    enabled: raw.enabled !== false && streams.some((each) => each.enabled),
    state: worst?.state ?? "unknown",
    reason: worst?.reason ?? "",
    since: worst?.since ?? null,
    streams,
    recorded: streams.some((each) => each.recording.mode !== "off"),
  };
}

export function toCameras(answer: unknown): Camera[] {
  return list<unknown>(answer, "cameras")
    .items.map(toCamera)
    .filter((camera) => camera !== null);
}

export interface Span {
  from: number;
  to: number;
}

export interface Timeline {
  recorded: Span[];
  first: number | null;
  last: number | null;
}

function span(value: unknown): Span | null {
  const raw = object(value);
  const from = parseTime(text(raw.from) ?? text(raw.start));
  const to = parseTime(text(raw.to) ?? text(raw.end));
  return from !== null && to !== null && to > from ? { from, to } : null;
}

/** Spans that touch (closer than this) are one: what is between two segments is no gap to the eye. */
const TOUCH_MS = 400;

export function joined(spans: Span[], touch = TOUCH_MS): Span[] {
  const out: Span[] = [];
  for (const each of [...spans].sort((a, b) => a.from - b.from)) {
    const last = out[out.length - 1];
    if (last && each.from <= last.to + touch) last.to = Math.max(last.to, each.to);
    else out.push({ ...each });
  }
  return out;
}

export function toTimeline(answer: unknown): Timeline {
  const raw = object(answer);
  const recorded = joined(list<unknown>(raw, "spans").items.map(span).filter((each) => each !== null));
  return {
    recorded,
    first: recorded[0]?.from ?? null,
    last: recorded[recorded.length - 1]?.to ?? null,
  };
}

export interface Sample {
  at: number;
  state: State;
  fps: number | null;
  kbit: number | null;
  latencyMs: number | null;
}

export interface History {
  /** Milliseconds that each sample stands for. */
  step: number;
  /** `front-door`, or `front-door/sub`. */
  streams: { stream: string; samples: Sample[] }[];
}

export function toHistory(answer: unknown): History {
  const raw = object(answer);
  return {
    step: (number(raw.step_seconds) ?? 10) * 1000,
    streams: list<unknown>(raw, "streams").items.map((value) => {
      const each = object(value);
      return {
        stream: text(each.stream) ?? "",
        samples: list<unknown>(each, "spans").items.flatMap((one) => {
          const span = object(one);
          const at = parseTime(text(span.time));
          if (at === null) return [];
          return [
            { at, state: state(span.state), fps: number(span.fps), kbit: number(span.kbit_per_s), latencyMs: number(span.latency_ms) },
          ];
        }),
      };
    }),
  };
}

export interface RecordingRow {
  camera: string;
  title: string;
  configured: boolean;
  first: number | null;
  last: number | null;
  bytes: number;
  seconds: number;
  gaps: number;
}

export function toRecordings(answer: unknown): RecordingRow[] {
  return list<unknown>(answer, "recordings").items.flatMap((value) => {
    const raw = object(value);
    const camera = text(raw.camera) ?? text(raw.name);
    if (camera === null) return [];
    return [
      {
        camera,
        title: text(raw.title) ?? camera,
        configured: raw.configured !== false,
        first: parseTime(text(raw.first)),
        last: parseTime(text(raw.last)),
        bytes: number(raw.bytes) ?? 0,
        seconds: number(raw.seconds) ?? 0,
        gaps: number(raw.gaps) ?? 0,
      },
    ];
  });
}

export interface Protection extends Span {
  id: string;
  name: string;
}

export function toProtections(answer: unknown): Protection[] {
  return list<unknown>(answer, "protections").items.flatMap((value) => {
    const raw = object(value);
    const at = span(raw);
    const id = text(raw.id);
    if (!at || id === null) return [];
    return [{ ...at, id, name: text(raw.name) ?? "" }];
  });
}

export interface Disk {
  used: number | null;
  free: number | null;
  total: number | null;
  keepSeconds: number | null;
  /** Why a limit cannot be kept. */
  trouble: string | null;
  /** Why nothing is deleted by age now. */
  paused: string | null;
}

export function toDisk(answer: unknown): Disk {
  const raw = object(answer);
  return {
    used: number(raw.used_bytes),
    free: number(raw.free_bytes),
    total: number(raw.total_bytes),
    keepSeconds: number(object(raw.limits).keep_seconds),
    trouble: text(raw.trouble),
    paused: text(raw.age_paused),
  };
}
