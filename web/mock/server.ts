// A daemon that is not there: answers the API with made-up cameras, for working on the pages (`npm run dev`).
// Not part of the built dashboard.
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Plugin } from "vite";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const COUNT = Number(process.env.MOCK_CAMERAS ?? 6);
const NAMES = ["front-door", "yard", "garage", "loading-dock", "reception", "server-room", "gate", "roof", "lobby", "lift", "parking-a", "parking-b"];
const at = (ms: number): string => new Date(ms).toISOString();

interface MockCamera {
  name: string;
  state: string;
  reason: string;
  since: number;
  record: string;
}

const cameras: MockCamera[] = Array.from({ length: COUNT }, (_, i) => {
  const name = i < NAMES.length ? (NAMES[i] ?? "") : `camera-${i + 1}`;
  const bad = { 3: ["backoff", "192.0.2.13: connection refused; next try in 14 s"], 5: ["unauthorized", "the camera refused the login (401); next try in 9 min"] }[i];
  return {
    name,
    state: bad?.[0] ?? "streaming",
    reason: bad?.[1] ?? "H.264 1280x720 over TCP",
    since: Date.now() - 3 * HOUR,
    record: i === 4 ? "off" : "copy",
  };
});
let nextId = 100;
const labels = ["person", "car", "parcel", "dog", "person"];
const markers = Array.from({ length: 40 }, (_, i) => {
  const start = Date.now() - i * i * 21_000 - 90_000;
  return {
    id: String(i + 1),
    camera: "front-door",
    start: at(start),
    end: i % 4 === 0 ? at(start + 12_000) : null,
    label: labels[i % labels.length] ?? "person",
    score: 0.6 + (i % 9) / 25,
    frame_time: at(start),
  };
});
const protections = [{ id: "1", from: at(Date.now() - 3 * HOUR), to: at(Date.now() - 2.9 * HOUR), name: "Delivery, damaged box" }];

function picture(name: string, width: number): string {
  let seed = Array.from(name).reduce((sum, c) => sum * 31 + c.charCodeAt(0), 7) >>> 0;
  const random = (): number => (seed = (seed * 1664525 + 1013904223) >>> 0) / 2 ** 32;
  const hue = Math.floor(random() * 360);
  const boxes = Array.from({ length: 9 }, () => {
    const w = 60 + random() * 240;
    const h = 60 + random() * 260;
    return `<rect x="${random() * 1200}" y="${640 - h}" width="${w}" height="${h}" fill="hsl(${hue + random() * 40} 14% ${18 + random() * 30}%)"/>`;
  }).join("");
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${(width * 9) / 16}" viewBox="0 0 1280 720"><rect width="1280" height="720" fill="hsl(${hue} 18% 62%)"/><rect y="440" width="1280" height="280" fill="hsl(${hue} 8% 34%)"/>${boxes}<text x="40" y="60" font-family="monospace" font-size="30" fill="#fff">${new Date().toISOString()}</text></svg>`;
}

function view(camera: MockCamera): unknown {
  return {
    name: camera.name,
    enabled: camera.state !== "disabled",
    streams: [
      {
        id: camera.name,
        name: null,
        enabled: camera.state !== "disabled",
        url: `rtsp://viewer:***@192.0.2.${10 + cameras.indexOf(camera)}/stream1`,
        record: { mode: camera.record },
        state: camera.state,
        reason: camera.reason,
        since: at(camera.since),
        codec: "h264",
        width: 1280,
        height: 720,
        fps_in: 15,
        latency_p50_ms: 2.8,
        rtp_packets_lost: 3,
        restarts: 0,
        reconnects: 1,
        cpu_percent: 4.6,
        memory_bytes: 11_800_000,
        subscribers: 2,
        clock: "sender-report",
        recording: { mode: camera.record, state: camera.record === "off" ? null : "recording", bytes: 512e6 },
      },
    ],
  };
}

const feeds = new Set<ServerResponse>();

function body(request: IncomingMessage): Promise<Record<string, unknown>> {
  return new Promise((resolve) => {
    let text = "";
    request.on("data", (chunk) => (text += String(chunk)));
    request.on("end", () => resolve(text ? (JSON.parse(text) as Record<string, unknown>) : {}));
  });
}

async function answer(request: IncomingMessage, response: ServerResponse, next: () => void): Promise<void> {
  const url = new URL(request.url ?? "/", "http://mock");
  const path = url.pathname;
  const method = request.method ?? "GET";
  const send = (value: unknown, status = 200): void => {
    response.writeHead(status, { "content-type": status < 400 ? "application/json" : "application/problem+json" });
    response.end(JSON.stringify(value));
  };
  const tell = (name: string, data: unknown): void => {
    for (const feed of feeds) feed.write(`event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
  };
  if (path.startsWith("/hls/")) { send({ title: "Not found", status: 404, detail: "the mock has no video" }, 404); return; }
  if (!path.startsWith("/api/")) { next(); return; }
  if (path === "/api/v1/events") {
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    response.write(": hello\n\n");
    feeds.add(response);
    request.on("close", () => feeds.delete(response));
    return;
  }
  if (path === "/api/v1/disk") { send({ used_bytes: 182e9, free_bytes: 41e9, total_bytes: 256e9 }); return; }
  if (path === "/api/v1/probe") {
    await new Promise((resolve) => setTimeout(resolve, 900));
    const { url: given } = await body(request);
    if (String(given).includes("bad")) { send({ title: "The camera does not answer", status: 502, detail: "192.0.2.99:554: connection refused; is it on, and is the port right?" }, 502); return; }
    send({ codec: "h264", width: 1920, height: 1080, fps: 25, kbit_s: 3900, key_interval_s: 2, audio: "aac", server: "Mock/1.0" }); return;
  }
  if (path === "/api/v1/recordings") {
    send({
      recordings: cameras.filter((each) => each.record !== "off").map((each, i) => ({ camera: each.name, first: at(Date.now() - (20 - i) * HOUR), last: at(Date.now() - 3000), bytes: 21e9 - i * 2e9, seconds: (20 - i) * 3600, gaps: i % 3 })),
    }); return;
  }
  if (path === "/api/v1/cameras" && method === "GET") { send({ site: "warehouse", cameras: cameras.map(view) }); return; }
  if (path === "/api/v1/cameras" && method === "POST") {
    const given = await body(request);
    cameras.push({ name: String(given.name), state: "connecting", reason: "RTSP DESCRIBE", since: Date.now(), record: "copy" });
    send({}, 201); return;
  }
  const found = /^\/api\/v1\/cameras\/([^/]+)(\/.*)?$/.exec(path);
  const camera = cameras.find((each) => each.name === decodeURIComponent(found?.[1] ?? ""));
  if (!camera) { send({ title: "Not found", status: 404, detail: "no such camera" }, 404); return; }
  const rest = found?.[2] ?? "";
  if (rest === "/snapshot.jpg") {
    response.writeHead(200, { "content-type": "image/svg+xml" });
    response.end(picture(camera.name, Number(url.searchParams.get("width") ?? 640)));
    return;
  }
  if (rest === "/storyboard.jpg") {
    const cells = Array.from({ length: 10 }, (_, i) => `<svg x="${(i % 5) * 176}" y="${Math.floor(i / 5) * 99}" width="176" height="99" viewBox="0 0 1280 720">${picture(`${camera.name}${i}`, 176)}</svg>`);
    response.writeHead(200, { "content-type": "image/svg+xml" });
    response.end(`<svg xmlns="http://www.w3.org/2000/svg" width="880" height="198">${cells.join("")}</svg>`);
    return;
  }
  if (rest === "/timeline") {
    const now = Date.now();
    send({ from: at(now - 20 * HOUR), to: at(now - 2000), spans: [{ start: at(now - 20 * HOUR), end: at(now - 5 * HOUR) }, { start: at(now - 4.7 * HOUR), end: at(now - 31 * MINUTE) }, { start: at(now - 27 * MINUTE), end: at(now - 2000) }] }); return;
  }
  if (rest === "/health") {
    const from = Date.parse(url.searchParams.get("from") ?? "");
    const to = Date.parse(url.searchParams.get("to") ?? "");
    const step = Math.max(10_000, (to - from) / 400);
    const samples = [];
    for (let t = from; t < to; t += step) {
      const away = Math.abs(t - (to - 1200_000)) < 120_000;
      samples.push({ time: at(t), state: away ? "backoff" : "streaming", fps: away ? 0 : 15 + Math.sin(t / 50_000) * 0.2, kbit_per_s: away ? 0 : 2000 + 400 * Math.sin(t / 300_000) + 150 * Math.sin(t / 11_000), latency_ms: away ? null : 3 + Math.sin(t / 70_000) + Math.sin(t / 7000) * 0.4 });
    }
    send({ samples }); return;
  }
  if (rest === "/protections") {
    if (method === "POST") protections.push({ id: String(++nextId), ...((await body(request)) as { from: string; to: string; name: string }) });
    send({ protections: camera.name === "front-door" ? protections : [] }); return;
  }
  if (rest === "/markers") {
    if (method === "POST") {
      const made = { id: String(++nextId), camera: camera.name, end: null, score: 1, frame_time: "", ...((await body(request)) as { start: string; label: string }) };
      made.frame_time = made.start;
      markers.unshift(made);
      tell("marker", { what: "created", camera: made.camera, id: made.id, marker: made });
      send(made, 201); return;
    }
    send({ markers: camera.name === "front-door" ? markers : [] }); return;
  }
  send({});
}

export function mock(): Plugin {
  return {
    name: "mock-daemon",
    configureServer(server) {
      server.middlewares.use((request, response, next) => void answer(request, response, next));
    },
  };
}
