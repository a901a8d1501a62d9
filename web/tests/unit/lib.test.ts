import { describe, expect, it } from "vitest";
import { list, type Marker, markerTime, query } from "../../src/lib/api";
import { nameProblem, readProbe, recordModeFor, splitLogin, urlProblem } from "../../src/lib/camera-input";
import { bitrate, bytes, hue } from "../../src/lib/format";
import { joined, toCameras, toHistory, toRecordings, toTimeline } from "../../src/lib/model";
import { cameraPath, parse } from "../../src/lib/route";
import { readMarkerEvent } from "../../src/lib/state";
import { ago, duration, parseTime, toRfc3339 } from "../../src/lib/time";
import { applied } from "../../src/pages/markers";
import { runs } from "../../src/pages/health";
import { pictureEvery, tileWidth } from "../../src/pages/wall";
import { niceTop } from "../../src/ui/chart";

describe("times", () => {
  it("are read with all their decimals", () => {
    expect(parseTime("2026-11-21T08:00:00.123456789Z")).toBeCloseTo(Date.UTC(2026, 10, 21, 8) + 123.456789, 3);
    expect(parseTime("2026-11-21T08:00:00+02:00")).toBe(Date.UTC(2026, 10, 21, 6));
    for (const bad of ["", "yesterday", "2026-11-21", "2026-13-45T00:00:00Z", null, undefined]) expect(parseTime(bad)).toBeNull();
  });

  it("are written to the microsecond, and read back the same", () => {
    const at = Date.UTC(2026, 10, 21, 8, 0, 0) + 0.25;
    expect(toRfc3339(at)).toBe("2026-11-21T08:00:00.000250Z");
    expect(toRfc3339(Date.UTC(2026, 0, 1) - 0.0001)).toBe("2026-01-01T00:00:00.000000Z");
    for (let i = 0; i < 200; i += 1) {
      const each = at + i * 33.366667;
      expect(Math.abs((parseTime(toRfc3339(each)) ?? 0) - each)).toBeLessThan(0.001);
    }
  });

  it("have lengths in two units", () => {
    expect([duration(1234), duration(59_900), duration(61_000), duration(3_660_000), duration(200_000_000)]).toEqual([
      "1.2 s", "59 s", "1 min 01 s", "1 h 01 min", "2 d 7 h",
    ]);
    expect(ago(0, 3000)).toBe("just now");
    expect(ago(0, 8400)).toBe("8 s ago");
  });
});

describe("numbers", () => {
  it("have units", () => {
    expect([bytes(0), bytes(999), bytes(1500), bytes(21e9), bytes(999e15)]).toEqual(["0 B", "999 B", "1.5 KB", "21.0 GB", "999 PB"]);
    expect([bitrate(800), bitrate(2048)]).toEqual(["800 kbit/s", "2.0 Mbit/s"]);
  });

  it("colours of labels stay the same", () => {
    expect(hue("Person")).toBe(hue("person"));
    expect(hue("forklift")).toBe(hue("forklift"));
    expect(hue("forklift")).toBeGreaterThanOrEqual(0);
    expect(hue("forklift")).toBeLessThan(360);
  });

  it("scales end at round numbers", () => {
    expect([niceTop(0), niceTop(7), niceTop(15.2), niceTop(2040)]).toEqual([1, 8, 20, 3000]);
  });
});

describe("paths", () => {
  it("lead to pages and back", () => {
    expect(parse("/")).toEqual({ page: "wall" });
    expect(parse("/recordings")).toEqual({ page: "recordings" });
    expect(parse("/camera/a%2Fb", "?at=1700000000.5")).toEqual({ page: "camera", name: "a/b", at: 1_700_000_000_500 });
    expect(parse(cameraPath("a b")).page).toBe("camera");
    for (const bad of ["/camera/", "/camera/a/b", "/camera/%E0%A4%A", "/nowhere"]) expect(parse(bad)).toEqual({ page: "nowhere" });
  });

  it("carry only what is given", () => {
    expect(query({ a: 1, b: null, c: undefined })).toBe("?a=1");
    expect(query({})).toBe("");
    expect(query({ at: "2026-11-21T08:00:00.5+01:00" })).toBe("?at=2026-11-21T08%3A00%3A00.5%2B01%3A00");
  });
});

describe("what is typed", () => {
  it("is checked", () => {
    for (const good of ["front-door", "hall.2", "x".repeat(63)]) expect(nameProblem(good, [])).toBeNull();
    for (const bad of ["", "a b", "../x", "-x", ".x", "x".repeat(64)]) expect(nameProblem(bad, [])).not.toBeNull();
    expect(nameProblem("yard", ["yard"])).toContain("that name");
    expect(urlProblem("rtsp://192.0.2.1/x")).toBeNull();
    for (const bad of ["", "http://x", "rtsp://", "rtsp://a b"]) expect(urlProblem(bad)).not.toBeNull();
  });

  it("gives up its password", () => {
    expect(splitLogin("rtsp://me:p%40ss@host/x")).toEqual({ url: "rtsp://host/x", user: "me", password: "p@ss" });
    expect(splitLogin("rtsp://host/x").user).toBe("");
    expect(splitLogin("rtsp://%C3%BC%3A:%2541@host/x")).toEqual({ url: "rtsp://host/x", user: "ü:", password: "%41" });
    expect(splitLogin("rtsp://only%user@host/").user).toBe("only%user");
  });
});

describe("answers", () => {
  it("with holes are no surprise", () => {
    expect(toCameras(null)).toEqual([]);
    expect(toCameras({ cameras: [{}, 3, { name: "a" }] }).map((each) => [each.name, each.state])).toEqual([["a", "unknown"]]);
    expect(toRecordings({ recordings: [{ camera: "a" }, {}] })).toHaveLength(1);
    expect(toHistory({ streams: [{ spans: [{ time: "x" }, { time: "2026-01-01T00:00:00Z" }] }, 3] }).streams.map((each) => each.samples.length)).toEqual([1, 0]);
    expect(readProbe(null)).toEqual({ lines: [], codec: "" });
    expect(list({ markers: [1], next: "c" }, "markers")).toEqual({ items: [1], next: "c" });
  });

  it("name the worst stream's state as the camera's", () => {
    const [camera] = toCameras({
      cameras: [{ name: "a", streams: [{ name: "main", state: "streaming" }, { name: "sub", state: "backoff", reason: "no route" }] }],
    });
    expect([camera?.state, camera?.reason, camera?.streams.map((each) => each.name)]).toEqual(["backoff", "no route", ["main", "sub"]]);
  });

  it("of a probe become lines, and say how to record", () => {
    const found = readProbe({
      ok: true,
      offered: [{ media: "video", encoding: "h264" }, { media: "audio", encoding: "mpeg4-generic" }],
      video: { codec: "H.264", profile: "Main", width: 1280, height: 720 },
      measured: { fps: 25, bits_per_second: 2_000_000, gop_max: 50, clock: "sender-report" },
    });
    expect(found.lines.map((each) => each.value)).toEqual([
      "H.264, Main", "1280 × 720", "25.0", "2.0 Mbit/s", "2.0 s", "mpeg4-generic", "the camera's",
    ]);
    expect(["H.264", "H.265", "MJPEG", ""].map(recordModeFor)).toEqual(["copy", "encode", "encode", "copy"]);
  });

  it("join spans that touch", () => {
    expect(joined([{ from: 10, to: 20 }, { from: 0, to: 9 }, { from: 5000, to: 6000 }])).toEqual([{ from: 0, to: 20 }, { from: 5000, to: 6000 }]);
    expect(toTimeline({ spans: [{ from: "bad", to: "worse" }] }).recorded).toEqual([]);
  });

  it("show silence between samples", () => {
    const at = (t: number, state: "streaming" | "failed") => ({ at: t, state, fps: null, kbit: null, latencyMs: null });
    const found = runs([at(0, "streaming"), at(10_000, "streaming"), at(20_000, "failed"), at(200_000, "streaming")], 10_000);
    expect(found.map((each) => [each.from, each.to, each.state])).toEqual([
      [0, 20_000, "streaming"], [20_000, 30_000, "failed"], [200_000, 210_000, "streaming"],
    ]);
  });
});

describe("markers", () => {
  const marker = (id: number, second: number): Marker => ({ id: String(id), camera: "a", start: toRfc3339(second * 1000), label: "x" });

  it("come by events", () => {
    const set = readMarkerEvent({ what: "created", camera: "a", id: "1", marker: marker(1, 5) });
    expect(set?.kind).toBe("set");
    expect(readMarkerEvent({ what: "deleted", camera: "a", id: "7", marker: null })).toEqual({ kind: "removed", id: "7" });
    for (const bad of [null, {}, { what: "created", id: "7" }, { what: "deleted" }]) expect(readMarkerEvent(bad)).toBeNull();
  });

  it("stay in order, each once", () => {
    let all = [marker(3, 30), marker(1, 10)];
    all = applied(all, { kind: "set", marker: marker(2, 20) });
    expect(all.map((each) => each.id)).toEqual(["3", "2", "1"]);
    all = applied(all, { kind: "set", marker: marker(3, 5) });
    expect(all.map((each) => each.id)).toEqual(["2", "1", "3"]);
    expect(applied(all, { kind: "removed", id: "1" }).map((each) => each.id)).toEqual(["2", "3"]);
    expect(all.map((each) => each.id)).toEqual(["2", "1", "3"]);
  });

  it("are on the picture that was recorded", () => {
    expect(markerTime({ ...marker(1, 5), frame_time: "1970-01-01T00:00:04.96Z" })).toBe(4960);
    expect(markerTime(marker(1, 5))).toBe(5000);
  });
});

describe("the wall", () => {
  it("has room for one and for a hundred", () => {
    for (const count of [1, 2, 4, 9, 16, 50, 100]) {
      const width = tileWidth(count, 1400);
      expect(width).toBeGreaterThanOrEqual(150);
      expect(width).toBeLessThanOrEqual(1400);
    }
    expect(tileWidth(100, 1400)).toBeLessThan(tileWidth(4, 1400));
  });

  it("asks for about as many pictures a second, however many cameras", () => {
    expect(pictureEvery(1)).toBe(1000);
    for (const count of [10, 50, 100]) expect((count / pictureEvery(count)) * 1000).toBeLessThanOrEqual(6.1);
  });
});
