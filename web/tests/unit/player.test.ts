import { describe, expect, it } from "vitest";
import { captureAt, fragmentAt, mediaTimeOf, type Placed, startAt } from "../../src/player/clock";
import { LEAST, Pace } from "../../src/player/pace";

// Two fragments, a gap of 60 s in time of day (none in media time), two more.
const fragments: Placed[] = [
  { start: 0, duration: 2, programDateTime: 1000_000 },
  { start: 2, duration: 2, programDateTime: 1002_000 },
  { start: 4, duration: 2, programDateTime: 1064_000 },
  { start: 6, duration: 1.5, programDateTime: 1066_000 },
];

describe("the player's clock", () => {
  it("finds the fragment", () => {
    expect(fragmentAt(fragments, -1)?.start).toBe(0);
    expect(fragmentAt(fragments, 1.999)?.start).toBe(0);
    expect(fragmentAt(fragments, 1.9999)?.start).toBe(2); // within the rounding of media times
    expect(fragmentAt(fragments, 5)?.start).toBe(4);
    expect(fragmentAt(fragments, 99)?.start).toBe(6);
    expect(fragmentAt([], 0)).toBeNull();
  });

  it("goes both ways, gaps jumped over", () => {
    for (const [media, at] of [[0, 1000_000], [3.5, 1003_500], [4, 1064_000], [7, 1067_000]] as const) {
      expect(captureAt(fragments, media)).toBeCloseTo(at, 6);
      const back = mediaTimeOf(fragments, at);
      expect(back?.mediaTime).toBeCloseTo(media, 9);
      expect(back?.gap).toBe(false);
    }
  });

  it("says when nothing was recorded then", () => {
    expect(mediaTimeOf(fragments, 1030_000)).toEqual({ mediaTime: 4, gap: true });
    expect(mediaTimeOf(fragments, 900_000)).toEqual({ mediaTime: 0, gap: true });
    expect(mediaTimeOf(fragments, 2000_000)).toEqual({ mediaTime: 7.5, gap: true });
    expect(mediaTimeOf([{ start: 0, duration: 2, programDateTime: null }], 5)).toBeNull();
  });

  it("puts a start into a playlist", () => {
    const text = [
      "#EXTM3U", "#EXT-X-TARGETDURATION:2", "#EXT-X-PROGRAM-DATE-TIME:2026-11-21T08:00:00.000Z", "#EXTINF:2.0,", "a", "#EXTINF:2.0,", "b",
      "#EXT-X-DISCONTINUITY", "#EXT-X-PROGRAM-DATE-TIME:2026-11-21T08:01:00.500Z", "#EXTINF:2.0,", "c", "#EXT-X-ENDLIST", "",
    ].join("\n");
    const at = Date.parse("2026-11-21T08:01:01.250Z");
    expect(startAt(text, at)).toContain("#EXT-X-START:TIME-OFFSET=4.750000,PRECISE=YES");
    expect(startAt(text, Date.parse("2026-11-21T08:00:03Z"))).toContain("TIME-OFFSET=3.000000");
    expect(startAt(startAt(text, at), 0)).toBe(startAt(text, at));
    expect(startAt("no playlist", at)).toBe("no playlist");
    expect(startAt("#EXTM3U\n#EXTINF:2,\na\n", at)).toBe("#EXTM3U\n#EXTINF:2,\na\n");
  });
});

describe("the pace", () => {
  const steady = (pace: Pace, from: number, seconds: number, ahead: (t: number) => number): (number | "jump")[] => {
    const out: (number | "jump")[] = [];
    for (let t = 0; t < seconds * 1000; t += 100) out.push(pace.next(ahead(t), from + t));
    return out;
  };

  it("is even when no more is buffered than needed", () => {
    const pace = new Pace();
    expect(new Set(steady(pace, 1, 5, (t) => LEAST + 0.02 + (t % 200) / 1000))).toEqual(new Set([1]));
  });

  it("is faster when more is, and jumps when it is much", () => {
    expect(steady(new Pace(), 1, 3, () => LEAST + 0.2).at(-1)).toBeGreaterThan(1);
    expect(steady(new Pace(), 1, 3, () => 1.2).at(-1)).toBeGreaterThan(1.1);
    expect(steady(new Pace(), 1, 3, () => 30).at(-1)).toBe("jump");
  });

  it("keeps more after the player ran dry, and gives it up slowly", () => {
    const pace = new Pace();
    for (let i = 0; i < 40; i += 1) pace.stalled();
    expect(pace.wanted).toBe(1.5);
    steady(pace, 1, 20, () => 2);
    expect(pace.wanted).toBeLessThan(1.2);
    expect(pace.wanted).toBeGreaterThan(1);
  });
});
