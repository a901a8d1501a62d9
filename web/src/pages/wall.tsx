// All cameras at once: a few play, many are shown as pictures that are renewed.
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { type Camera, TONE } from "../lib/model";
import { cameraPath } from "../lib/route";
import { may } from "../lib/session";
import { cameras, camerasError, link } from "../lib/state";
import { ago } from "../lib/time";
import { Player } from "../player/player";
import { Icon } from "../ui/icons";
import { Empty, Note, StateChip, useNow } from "../ui/parts";
import { Picture } from "../ui/picture";

type Show = "video" | "pictures";
const SHOW_KEY = "camring.wall";
/** Browsers open six connections to a server over HTTP/1.1, and a live video waits for its next part in one of them. */
const VIDEOS = 5;
/** Without a choice of the viewer's, this many cameras play. */
const VIDEOS_UNASKED = 4;

function chosen(): Show | null {
  try {
    const kept = localStorage.getItem(SHOW_KEY);
    return kept === "video" || kept === "pictures" ? kept : null;
  } catch {
    return null;
  }
}

function LiveVideo({ camera, onFail }: { camera: string; onFail: () => void }): JSX.Element {
  const ref = useRef<HTMLVideoElement>(null);
  useEffect(() => {
    const video = ref.current;
    if (!video) return;
    const player = new Player(video, camera, { maxBufferLength: 4, backBufferLength: 4, capLevelToPlayerSize: true });
    const off = player.phase.subscribe((phase) => {
      if (phase === "failed") onFail();
    });
    player.live();
    return () => {
      off();
      player.destroy();
    };
  }, [camera]);
  return <video ref={ref} muted playsInline tabIndex={-1} aria-hidden="true" />;
}

function Tile({ camera, video, every, width }: { camera: Camera; video: boolean; every: number; width: number }): JSX.Element {
  const now = useNow(5000);
  const [seen, setSeen] = useState(false);
  const [failed, setFailed] = useState(0);
  const well = camera.state === "streaming";
  const tone = TONE[camera.state];
  const plays = video && well && camera.recorded && failed === 0;
  // A video that failed is tried again after a while; meanwhile there are pictures.
  useEffect(() => {
    if (!failed) return;
    const again = setTimeout(() => setFailed(0), 20_000);
    return () => clearTimeout(again);
  }, [failed]);
  const rate = camera.streams[0]?.fps;
  const recording = camera.streams.some((each) => each.recording.state === "recording");
  return (
    <li class={`tile ${well ? "" : "dim"}`} data-camera={camera.name} data-state={camera.state}>
      <a href={cameraPath(camera.name)} aria-label={`${camera.name}, ${camera.state}${well ? "" : `: ${camera.reason}`}`}>
        {plays ? (
          <LiveVideo camera={camera.name} onFail={() => setFailed(Date.now())} />
        ) : (
          <Picture camera={camera.name} every={every} width={width} active={well} onPicture={setSeen} />
        )}
        {!well ? (
          <div class="why">
            <StateChip state={camera.state} />
            <p>{camera.reason}</p>
          </div>
        ) : !plays && !seen ? (
          <div class="why">
            <Icon name="camera" />
          </div>
        ) : null}
        <div class="caption">
          <span class={`dot ${tone}`} />
          <span class="name">{camera.name}</span>
          <span class="end number">
            {well ? (
              recording ? (
                <span class="rec">REC</span>
              ) : rate ? (
                `${Math.round(rate)} fps`
              ) : null
            ) : camera.since ? (
              ago(camera.since, now)
            ) : null}
          </span>
        </div>
      </a>
    </li>
  );
}

/** The tiles' least width, so that few cameras are large and many fit. */
export function tileWidth(count: number, screen: number): number {
  if (count <= 1) return Math.min(screen, 1100);
  const columns = count <= 4 ? 2 : count <= 9 ? 3 : count <= 20 ? 4 : count <= 36 ? 6 : 8;
  return Math.max(count > 20 ? 150 : 240, Math.floor(screen / columns) - 16);
}

/** The more cameras, the rarer a picture of each: about six pictures a second in all. */
export function pictureEvery(count: number): number {
  return Math.min(20_000, Math.max(1000, Math.round((count / 6) * 1000)));
}

export function Wall({ onAdd }: { onAdd: () => void }): JSX.Element {
  const all = cameras.value;
  const filter = useSignal("");
  const choice = useSignal<Show | null>(chosen());
  const [screen, setScreen] = useState(innerWidth);
  useEffect(() => {
    const resized = (): void => setScreen(innerWidth);
    addEventListener("resize", resized);
    return () => removeEventListener("resize", resized);
  }, []);

  if (all === null) {
    if (camerasError.value) {
      return (
        <Empty icon="warn" title="The cameras cannot be listed">
          {camerasError.value}
        </Empty>
      );
    }
    if (link.value === "gone") {
      return (
        <Empty icon="offline" title="camring does not answer">
          Is the daemon running? <span class="mono">systemctl status camring</span> tells. This page goes on by itself.
        </Empty>
      );
    }
    return (
      <ul class="wall" aria-busy="true" aria-label="Cameras, loading">
        {[1, 2, 3, 4].map((each) => (
          <li key={each} class="tile skeleton" />
        ))}
      </ul>
    );
  }
  if (all.length === 0) {
    return (
      <Empty
        icon="camera"
        title="No cameras yet"
        action={
          may("admin") ? (
            <button type="button" class="button primary" onClick={onAdd}>
              <Icon name="add" />
              Add the first camera
            </button>
          ) : null
        }
      >
        Give the address of an RTSP stream. It is probed first, so that you see what the camera sends before it is added.
      </Empty>
    );
  }
  const sought = filter.value.trim().toLowerCase();
  const shown = sought
    ? all.filter((each) => each.name.toLowerCase().includes(sought) || each.state.includes(sought))
    : all;
  const show = choice.value ?? (all.length <= VIDEOS_UNASKED && Player.possible ? "video" : "pictures");
  const width = tileWidth(shown.length, screen - 40);
  const bad = all.filter((each) => TONE[each.state] === "bad" || TONE[each.state] === "warn");
  const choose = (what: Show): void => {
    choice.value = what;
    try {
      localStorage.setItem(SHOW_KEY, what);
    } catch {
      // only this page then
    }
  };
  return (
    <>
      <div class="head">
        <h1>Cameras</h1>
        <span class="soft number">
          {all.filter((each) => each.state === "streaming").length} of {all.length} streaming
        </span>
        {bad.length ? (
          <button type="button" class="chip warn" style={{ border: 0, cursor: "pointer" }} onClick={() => (filter.value = bad[0]?.state ?? "")}>
            {bad.length} with trouble
          </button>
        ) : null}
        <div class="end">
          {all.length > 6 || sought ? (
            <input
              class="input search"
              type="search"
              placeholder="Name or state"
              aria-label="Show only cameras with this name or state"
              value={filter.value}
              onInput={(event) => (filter.value = event.currentTarget.value)}
            />
          ) : null}
          <div class="segmented" role="group" aria-label="Show">
            <button type="button" aria-pressed={show === "video"} disabled={!Player.possible} onClick={() => choose("video")}>
              Video
            </button>
            <button type="button" aria-pressed={show === "pictures"} onClick={() => choose("pictures")}>
              Pictures
            </button>
          </div>
        </div>
      </div>
      {camerasError.value ? <Note tone="warn">{camerasError.value}</Note> : null}
      {shown.length === 0 ? (
        <Empty icon="search" title="No camera like that" action={<button type="button" class="button" onClick={() => (filter.value = "")}>Show all</button>} />
      ) : (
        <ul class={`wall ${shown.length > 20 ? "small-tiles" : ""}`} style={{ "--tile": `${width}px` }}>
          {shown.map((camera, index) => (
            <Tile
              key={camera.name}
              camera={camera}
              video={show === "video" && index < VIDEOS}
              every={pictureEvery(shown.length)}
              width={width > 500 ? 1280 : width > 240 ? 640 : 320}
            />
          ))}
        </ul>
      )}
    </>
  );
}
