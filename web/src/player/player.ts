// Plays one camera: live with low latency, or any recorded instant, as one thing. Through hls.js where
// there are Media Source Extensions, else natively (iPhones). What is shown is always known by its capture
// time, in milliseconds since 1970 UTC.
import { signal } from "@preact/signals";
import Hls, { type HlsConfig, type LoaderCallbacks, type LoaderConfiguration, type PlaylistLoaderContext } from "hls.js";
import { url } from "../lib/api";
import { MINUTE } from "../lib/time";
import { captureAt, mediaTimeOf, startAt } from "./clock";
import { Pace } from "./pace";

export type Mode = "live" | "recorded";
export type Phase = "idle" | "loading" | "playing" | "paused" | "waiting" | "ended" | "failed";

/** Loaded around the instant that is sought: a playlist of this is some tens of kilobytes. */
const BEFORE_MS = 2 * MINUTE;
const AFTER_MS = 10 * MINUTE;
/** Nearer to now than this there may be no finished segment yet: that is live. */
const LIVE_EDGE_MS = 4000;
/** A seek goes this far into the picture: instants in playlists are rounded to milliseconds. */
const INTO_PICTURE_S = 0.004;
const DEFAULT_FRAME_S = 1 / 15;
const RETRY_MS = 2000;

/** Low latency: parts as they are written. How near the edge is kept to is `Pace`'s. */
export const LIVE: Partial<HlsConfig> = {
  lowLatencyMode: true,
  maxLiveSyncPlaybackRate: 1,
  backBufferLength: 30,
  maxBufferLength: 10,
};

const PACE_MS = 100;

const RECORDED: Partial<HlsConfig> = {
  lowLatencyMode: false,
  backBufferLength: 60,
  maxBufferLength: 20,
};

const COMMON: Partial<HlsConfig> = {
  // A camera that comes back continues by itself; whoever looks is told meanwhile.
  manifestLoadPolicy: policy(2),
  playlistLoadPolicy: policy(4),
  fragLoadPolicy: policy(4),
  enableWebVTT: false,
  // Markers come from the API; cues would need a text track, whose empty source the pages forbid.
  enableDateRangeMetadataCues: false,
  enableID3MetadataCues: false,
  enableEmsgMetadataCues: false,
  enableCEA708Captions: false,
  enableIMSC1: false,
};

function policy(retries: number): HlsConfig["fragLoadPolicy"] {
  const retry = { maxNumRetry: retries, retryDelayMs: 300, maxRetryDelayMs: 2000 };
  return { default: { maxTimeToFirstByteMs: 10_000, maxLoadTimeMs: 30_000, timeoutRetry: retry, errorRetry: retry } };
}

export class Player {
  readonly mode = signal<Mode>("live");
  readonly phase = signal<Phase>("idle");
  /** Capture time of the picture that is shown. */
  readonly shown = signal<number | null>(null);
  /** What went wrong, in words, while `phase` is `failed` or playing is being tried again. */
  readonly trouble = signal<string | null>(null);
  /** Live: seconds from capture to the screen, by this machine's clock. */
  readonly behind = signal<number | null>(null);
  readonly rate = signal(1);
  readonly muted = signal(true);
  /** The asked instant lies in a gap: what is shown comes after it. */
  readonly inGap = signal(false);
  /** Length of a picture, from those that were shown. */
  private frame = DEFAULT_FRAME_S;
  private hls: Hls | null = null;
  private range: { from: number; to: number } | null = null;
  private wanted: number | null = null;
  private mediaTime = 0;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private tick: ReturnType<typeof setInterval> | undefined;
  private pacing: ReturnType<typeof setInterval> | undefined;
  private readonly pace = new Pace();
  private callback = 0;
  private readonly off = new AbortController();
  private gone = false;
  /** The browser says which picture it shows. */
  private readonly exact = "requestVideoFrameCallback" in HTMLVideoElement.prototype;

  constructor(
    private readonly video: HTMLVideoElement,
    private readonly camera: string,
    private readonly tuning: Partial<HlsConfig> = {},
  ) {
    video.muted = true;
    video.playsInline = true;
    const on = (name: string, act: () => void) => video.addEventListener(name, act, { signal: this.off.signal });
    on("playing", () => this.set("playing"));
    on("pause", () => this.set("paused"));
    on("waiting", () => {
      if (this.phase.peek() === "playing") this.pace.stalled();
      this.set("waiting");
    });
    on("seeked", () => this.update());
    on("ended", () => void this.reachedEnd());
    on("volumechange", () => (this.muted.value = video.muted));
    on("ratechange", () => (this.rate.value = video.defaultPlaybackRate));
    if (this.exact) this.watchFrames();
    this.tick = setInterval(() => this.update(), 500);
    this.pacing = setInterval(() => this.keepUp(), PACE_MS);
  }

  static get native(): boolean {
    return !Hls.isSupported() && document.createElement("video").canPlayType("application/vnd.apple.mpegurl") !== "";
  }

  static get possible(): boolean {
    return Hls.isSupported() || Player.native;
  }

  get element(): HTMLVideoElement {
    return this.video;
  }

  destroy(): void {
    this.gone = true;
    this.off.abort();
    clearInterval(this.tick);
    clearInterval(this.pacing);
    clearTimeout(this.retry);
    if (this.callback) this.video.cancelVideoFrameCallback(this.callback);
    this.hls?.destroy();
    this.hls = null;
    this.video.removeAttribute("src");
    this.video.load();
  }

  live(): void {
    this.mode.value = "live";
    this.range = null;
    this.wanted = null;
    this.inGap.value = false;
    this.video.defaultPlaybackRate = 1;
    this.load(url.hls(this.camera), { ...LIVE, ...this.tuning });
    this.play();
  }

  /** Shows the picture of this instant; goes on playing if it played. */
  seek(at: number, play = !this.video.paused): void {
    if (at > Date.now() - LIVE_EDGE_MS && this.mode.value === "live") return;
    if (at > Date.now() - LIVE_EDGE_MS) return this.live();
    this.wanted = at;
    if (this.range && this.jump(at)) {
      if (play) this.play();
      return;
    }
    this.mode.value = "recorded";
    this.behind.value = null;
    this.video.playbackRate = this.video.defaultPlaybackRate;
    const range = { from: at - BEFORE_MS, to: Math.min(at + AFTER_MS, Date.now()) };
    this.range = range;
    this.load(url.hls(this.camera, range.from, range.to), RECORDED);
    if (play) this.play();
    else this.video.pause();
  }

  /** Seconds forward or back from what is shown. */
  skip(seconds: number): void {
    const from = this.shown.peek() ?? Date.now();
    this.seek(from + seconds * 1000);
  }

  /** One picture forward (1) or back (-1); playing pauses. */
  async step(direction: 1 | -1): Promise<void> {
    this.video.pause();
    if (this.mode.peek() === "live") {
      // The live window is short and moves: stepping is done in what is recorded.
      const at = this.shown.peek();
      if (at !== null) this.seek(Math.min(at, Date.now() - LIVE_EDGE_MS - 1), false);
      return;
    }
    const from = this.mediaTime;
    // Pictures need not be evenly spaced: go a little further until another one shows.
    for (let far = 0.6; far < 12; far *= 1.7) {
      const reach = direction > 0 ? from + this.frame * (far + 0.45) : from - this.frame * far + INTO_PICTURE_S;
      await this.show(reach);
      if (Math.abs(this.mediaTime - from) > 0.0005 || this.gone) return;
    }
  }

  play(): void {
    this.video.play().catch(() => undefined); // refused without a gesture, or replaced by another load
  }

  toggle(): void {
    if (!this.video.paused) this.video.pause();
    else if (this.mode.peek() === "live" && this.behind.peek() !== null && (this.behind.peek() ?? 0) > 20) {
      this.seek(this.shown.peek() ?? Date.now(), true);
    } else this.play();
  }

  setRate(rate: number): void {
    if (this.mode.peek() === "live") return;
    this.video.defaultPlaybackRate = rate;
    this.video.playbackRate = rate;
  }

  setMuted(muted: boolean): void {
    this.video.muted = muted;
  }

  /** Capture time of what is at a moment of the media timeline. */
  captureAt(mediaTime: number): number | null {
    if (this.hls) {
      const level = this.hls.levels[Math.max(this.hls.currentLevel, 0)]?.details ?? this.hls.latestLevelDetails;
      if (!level) return null;
      const parts = level.partList ?? [];
      const last = level.fragments[level.fragments.length - 1];
      // Parts of the segment that is being written belong to a fragment that the list does not have yet.
      const open = parts.find((part) => part.fragment !== last && last && part.fragment.sn > last.sn)?.fragment;
      return captureAt(open ? [...level.fragments, open] : level.fragments, mediaTime);
    }
    const start = (this.video as { getStartDate?: () => Date }).getStartDate?.().getTime();
    return start === undefined || Number.isNaN(start) ? null : start + mediaTime * 1000;
  }

  // --- inside

  private set(phase: Phase): void {
    if (phase === "playing") this.trouble.value = null;
    this.phase.value = phase;
    this.update();
  }

  /** Live: as near to the edge as plays smoothly. */
  private keepUp(): void {
    const { video } = this;
    if (this.mode.peek() !== "live" || !this.hls || video.paused || video.seeking || video.readyState < 3) return this.pace.moved();
    const { buffered } = video;
    if (!buffered.length) return;
    const next = this.pace.next(buffered.end(buffered.length - 1) - video.currentTime, performance.now());
    if (next === "jump") {
      this.pace.moved();
      video.currentTime = buffered.end(buffered.length - 1) - this.pace.wanted - 0.3;
    } else if (video.playbackRate !== next) video.playbackRate = next;
  }

  private watchFrames(): void {
    this.callback = this.video.requestVideoFrameCallback((_, data) => {
      const length = data.mediaTime - this.mediaTime;
      if (length > 0.003 && length < 1.2) this.frame = this.frame * 0.8 + length * 0.2;
      this.mediaTime = data.mediaTime;
      this.update(data.mediaTime);
      if (!this.gone) this.watchFrames();
    });
  }

  private update(mediaTime?: number): void {
    if (this.video.readyState < 2) return;
    const at = this.captureAt(mediaTime ?? (this.exact ? this.mediaTime : this.video.currentTime));
    if (at === null) return;
    this.shown.value = at;
    this.behind.value = this.mode.peek() === "live" ? Math.max(0, (Date.now() - at) / 1000) : null;
  }

  /** Seeks within what is loaded; false if the instant is not in there. */
  private jump(at: number): boolean {
    const range = this.range;
    if (!range || at < range.from || at > range.to) return false;
    const details = this.hls?.levels[Math.max(this.hls.currentLevel, 0)]?.details;
    if (!details) return false;
    const target = mediaTimeOf(details.fragments, at);
    if (!target) return false;
    this.inGap.value = target.gap;
    this.video.currentTime = target.mediaTime + INTO_PICTURE_S;
    return true;
  }

  private show(mediaTime: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(limit);
        this.video.removeEventListener("seeked", shown);
        resolve();
      };
      const shown = () => {
        // The picture is announced after the seek ended.
        if (this.exact) this.video.requestVideoFrameCallback(() => setTimeout(done));
        setTimeout(done, 120);
      };
      const limit = setTimeout(done, 3000);
      this.video.addEventListener("seeked", shown);
      this.video.currentTime = Math.max(0, mediaTime);
    });
  }

  private load(source: string, config: Partial<HlsConfig>): void {
    clearTimeout(this.retry);
    this.phase.value = "loading";
    this.hls?.destroy();
    this.hls = null;
    if (!Hls.isSupported()) return this.loadNative(source);
    // Created for each source: what is tuned for live does not suit what is recorded.
    const hls = new Hls({ ...COMMON, ...config, pLoader: this.playlistLoader() });
    this.hls = hls;
    hls.on(Hls.Events.ERROR, (_, data) => {
      if (!data.fatal || this.hls !== hls) return;
      const status = data.response?.code;
      this.failed(
        data.details === Hls.ErrorDetails.MANIFEST_INCOMPATIBLE_CODECS_ERROR || data.details === Hls.ErrorDetails.BUFFER_ADD_CODEC_ERROR
          ? "This browser cannot play the camera's codec"
          : status === 404
            ? "Nothing is recorded here"
            : status
              ? `The server answered ${status}`
              : data.type === Hls.ErrorTypes.NETWORK_ERROR
                ? "The server does not answer"
                : "The video could not be played",
        status !== 404 || this.mode.peek() === "live",
      );
    });
    hls.on(Hls.Events.FRAG_BUFFERED, () => {
      // The first fragment is placed exactly: now the wanted picture can be, too.
      if (this.wanted === null || this.hls !== hls) return;
      const wanted = this.wanted;
      this.wanted = null;
      this.jump(wanted);
    });
    hls.loadSource(source);
    hls.attachMedia(this.video);
  }

  private loadNative(source: string): void {
    const wanted = this.wanted;
    this.wanted = null;
    this.video.src = source;
    if (wanted === null) return;
    this.video.addEventListener(
      "loadedmetadata",
      () => {
        const start = this.captureAt(0);
        if (start !== null) this.video.currentTime = (wanted - start) / 1000 + INTO_PICTURE_S;
      },
      { once: true, signal: this.off.signal },
    );
  }

  /** Playlists of what is recorded begin at the wanted instant. */
  private playlistLoader(): NonNullable<HlsConfig["pLoader"]> {
    // eslint-disable-next-line @typescript-eslint/no-this-alias
    const player = this;
    const Base = Hls.DefaultConfig.loader;
    return class extends (Base as unknown as new (config: HlsConfig) => InstanceType<NonNullable<HlsConfig["pLoader"]>>) {
      override load(
        context: PlaylistLoaderContext,
        config: LoaderConfiguration,
        callbacks: LoaderCallbacks<PlaylistLoaderContext>,
      ): void {
        const success = callbacks.onSuccess;
        callbacks.onSuccess = (response, ...rest) => {
          if (player.wanted !== null && typeof response.data === "string" && response.data.includes("#EXTINF")) {
            response.data = startAt(response.data, player.wanted);
          }
          success(response, ...rest);
        };
        super.load(context, config, callbacks);
      }
    };
  }

  private async reachedEnd(): Promise<void> {
    if (this.mode.peek() !== "recorded" || !this.range) return;
    const end = this.range.to;
    this.phase.value = "ended";
    await Promise.resolve();
    if (end > Date.now() - 2 * LIVE_EDGE_MS) this.live();
    else this.seek(end + 1, true);
  }

  private failed(why: string, again: boolean): void {
    this.trouble.value = why;
    this.phase.value = "failed";
    if (!again || this.gone) return;
    clearTimeout(this.retry);
    this.retry = setTimeout(() => {
      if (this.mode.peek() === "live") this.live();
      else if (this.wanted !== null || this.shown.peek() !== null) this.reload();
    }, RETRY_MS);
  }

  private reload(): void {
    const at = this.wanted ?? this.shown.peek();
    this.range = null;
    if (at !== null) this.seek(at);
  }
}
