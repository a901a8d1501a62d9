// One camera: what it shows now or showed then, on one timeline; its markers, its health.
import { useComputed, useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { EditCamera } from "../dialogs/camera-form";
import { RangeBar } from "../dialogs/range";
import { api, type Marker, markerTime, messageOf } from "../lib/api";
import { type Camera, type Span, type Timeline as TimelineData, toTimeline } from "../lib/model";
import { go } from "../lib/router";
import { may } from "../lib/session";
import { cameras, camerasError, link, refresh } from "../lib/state";
import { clockExact, DAY, dayInWords, fromInput, HOUR, MINUTE, SECOND, toInput } from "../lib/time";
import { Player } from "../player/player";
import { pan, type View, zoom } from "../timeline/scale";
import { Timeline } from "../timeline/timeline";
import { Icon, type IconName } from "../ui/icons";
import { attempt, Confirm, Dialog, Empty, Menu, type MenuItem, Note, StateChip } from "../ui/parts";
import { Picture } from "../ui/picture";
import { Details, Health } from "./health";
import { EditMarker, MarkerList, useMarkers } from "./markers";

const TIMELINE_AGAIN_MS = 5000;
const ZOOMS = [
  { label: "5 min", ms: 5 * MINUTE },
  { label: "1 h", ms: HOUR },
  { label: "6 h", ms: 6 * HOUR },
  { label: "24 h", ms: DAY },
];
const RATES = [0.25, 0.5, 1, 2, 4, 8];
/** A click on a marker leaves this much of the view on its left. */
const JUMP_S = 5;

const KEYS: [string, string][] = [
  ["Space", "Play or pause"],
  ["← →", "5 seconds back, forward; with Shift 60"],
  [", .", "One picture back, forward"],
  ["L", "Live"],
  ["N P", "Next, previous marker"],
  ["M", "Mark this picture"],
  ["+ −", "Zoom the timeline"],
  ["R", "Choose a range"],
  ["F", "Full screen"],
  ["?", "These keys"],
];

export function CameraPage({ name, at }: { name: string; at: number | null }): JSX.Element {
  const camera = cameras.value?.find((each) => each.name === name);
  if (!camera) {
    if (cameras.value === null) {
      if (link.value === "gone" || camerasError.value) {
        return (
          <Empty icon="offline" title="This camera cannot be shown">
            {camerasError.value ?? "camring does not answer. This page goes on by itself."}
          </Empty>
        );
      }
      return <div class="camera-page" aria-busy="true"><div class="screen skeleton" /></div>;
    }
    return (
      <Empty icon="search" title={`There is no camera “${name}”`} action={<a class="button" href="/">All cameras</a>}>
        It may have been renamed or removed.
      </Empty>
    );
  }
  return <OneCamera camera={camera} at={at} />;
}

function OneCamera({ camera, at }: { camera: Camera; at: number | null }): JSX.Element {
  const video = useRef<HTMLVideoElement>(null);
  const stage = useRef<HTMLDivElement>(null);
  const [player, setPlayer] = useState<Player | null>(null);
  const now = Date.now();
  const view = useSignal<View>({ from: (at ?? now) - 50 * MINUTE, to: (at ?? now) + (at ? 10 : 5) * MINUTE });
  const data = useSignal<TimelineData | null>(null);
  const dataError = useSignal<string | null>(null);
  const selection = useSignal<Span | null>(null);
  const selecting = useSignal(false);
  const shown = useSignal<number | null>(null);
  const live = useSignal(at === null);
  const chosen = useSignal<string | null>(null);
  const marking = useSignal<number | null>(null);
  const tab = useSignal<"markers" | "health" | "details">("markers");
  const dialog = useSignal<"edit" | "remove" | "keys" | null>(null);
  const markers = useMarkers(camera.name, view);
  const reload = useSignal(0);
  const playable = (camera.recorded || (data.value?.recorded.length ?? 0) > 0) && Player.possible;

  // The player lives as long as there is something to play.
  useEffect(() => {
    if (!playable || !video.current) return;
    const made = new Player(video.current, camera.name);
    const off = [
      made.shown.subscribe((instant) => (shown.value = instant)),
      made.mode.subscribe((mode) => (live.value = mode === "live")),
    ];
    if (at === null) made.live();
    else {
      made.seek(at, true);
    }
    setPlayer(made);
    return () => {
      for (const each of off) each();
      made.destroy();
      setPlayer(null);
    };
  }, [camera.name, playable]);

  // When it was recorded: spans and gaps, however long ago.
  useEffect(() => {
    const stop = new AbortController();
    const load = async (): Promise<void> => {
      try {
        data.value = toTimeline(await api.timeline(camera.name, stop.signal));
        dataError.value = null;
      } catch (error) {
        if (!stop.signal.aborted) dataError.value = messageOf(error);
      }
    };
    void load();
    const again = setInterval(() => {
      if (document.visibilityState === "visible") void load();
    }, TIMELINE_AGAIN_MS);
    return () => {
      clearInterval(again);
      stop.abort();
    };
  }, [camera.name, reload.value]);

  // The view follows what is played, when that leaves it.
  useEffect(
    () =>
      shown.subscribe((instant) => {
        if (instant === null) return;
        const { from, to } = view.peek();
        const span = to - from;
        const edge = live.peek() ? 0.06 : 0.02;
        if (instant > to - span * edge && instant < to + span) view.value = pan(view.peek(), instant - (to - span * edge));
      }),
    [],
  );

  const seek = (instant: number): void => {
    chosen.value = null;
    player?.seek(instant);
    if (instant < view.peek().from || instant > view.peek().to) {
      const span = view.peek().to - view.peek().from;
      view.value = { from: instant - span / 2, to: instant + span / 2 };
    }
  };
  const toMarker = (marker: Marker): void => {
    seek(markerTime(marker));
    player?.element.pause();
    chosen.value = marker.id;
  };
  const nextMarker = (direction: 1 | -1): void => {
    const from = shown.peek() ?? Date.now();
    const sorted = [...markers.all.peek()].sort((a, b) => markerTime(a) - markerTime(b));
    const current = sorted.findIndex((each) => each.id === chosen.peek());
    const here = sorted[current];
    const found =
      here && Math.abs(markerTime(here) - from) < 500
        ? sorted[current + direction]
        : direction > 0
          ? sorted.find((each) => markerTime(each) > from + 20)
          : sorted.reverse().find((each) => markerTime(each) < from - 20);
    if (found) toMarker(found);
  };
  const markHere = (): void => {
    if (!may("operator")) return;
    const instant = shown.peek();
    if (instant === null) return;
    player?.element.pause();
    marking.value = instant;
  };
  const goLive = (): void => {
    chosen.value = null;
    player?.live();
    const span = view.peek().to - view.peek().from;
    view.value = { from: Date.now() - span * 0.94, to: Date.now() + span * 0.06 };
  };
  const zoomTo = (factor: number): void => {
    const middle = shown.peek() ?? (view.peek().from + view.peek().to) / 2;
    view.value = zoom(view.peek(), middle, factor);
  };
  const fullscreen = (): void => {
    if (document.fullscreenElement) void document.exitFullscreen();
    else void stage.current?.requestFullscreen().catch(() => undefined);
  };
  const chooseRange = (): void => {
    if (selection.peek()) {
      selection.value = null;
      selecting.value = false;
      return;
    }
    const middle = shown.peek() ?? Date.now() - 10 * SECOND;
    const half = Math.min(10 * SECOND, (view.peek().to - view.peek().from) / 8);
    selection.value = { from: middle - half, to: Math.min(middle + half, Date.now()) };
  };

  useEffect(() => {
    const key = (event: KeyboardEvent): void => {
      const target = event.target instanceof Element ? event.target : null;
      if (event.ctrlKey || event.metaKey || event.altKey || target?.closest("input, select, textarea, dialog, [role=menu]")) return;
      const onButton = target?.closest("button, a") !== null && target?.closest("button, a") !== undefined;
      const act: Record<string, () => void> = {
        ArrowLeft: () => player?.skip(event.shiftKey ? -60 : -JUMP_S),
        ArrowRight: () => player?.skip(event.shiftKey ? 60 : JUMP_S),
        ",": () => void player?.step(-1),
        ".": () => void player?.step(1),
        l: goLive,
        n: () => nextMarker(1),
        p: () => nextMarker(-1),
        m: markHere,
        "+": () => zoomTo(0.5),
        "=": () => zoomTo(0.5),
        "-": () => zoomTo(2),
        r: chooseRange,
        f: fullscreen,
        "?": () => (dialog.value = "keys"),
        ...(onButton ? {} : { " ": () => player?.toggle() }),
      };
      const found = act[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      if (!found) return;
      event.preventDefault();
      found();
    };
    addEventListener("keydown", key);
    return () => removeEventListener("keydown", key);
  }, [player]);

  const order = (what: "start" | "stop" | "restart", done: string) => () =>
    void attempt(`${camera.name} was not changed`, () => api.order(camera.name, what), done).then(() => refresh());
  const items: MenuItem[] = [
    { label: "Settings", icon: "pencil", needs: "admin", act: () => (dialog.value = "edit") },
    camera.enabled
      ? { label: "Stop", icon: "stop", needs: "operator", act: order("stop", "Stopped") }
      : { label: "Start", icon: "play", needs: "operator", act: order("start", "Started") },
    { label: "Restart", icon: "restart", needs: "operator", disabled: !camera.enabled, act: order("restart", "Restarting") },
    { label: "Choose a range", icon: "range", act: chooseRange },
    { label: "Keys", icon: "keyboard", act: () => (dialog.value = "keys") },
    { label: "Remove", icon: "trash", danger: true, needs: "admin", act: () => (dialog.value = "remove") },
  ];
  const well = camera.state === "streaming";
  return (
    <div class="camera-page">
      <div class="head">
        <a class="button quiet square" href="/" aria-label="All cameras">
          <Icon name="grid" />
        </a>
        <h1>{camera.name}</h1>
        <StateChip state={camera.state} />
        {!well ? <span class="soft reason">{camera.reason}</span> : null}
        <div class="end">
          <Menu label={`Actions for ${camera.name}`} items={items} />
        </div>
      </div>
      <div class="columns">
        <div class="left">
          <div class="stage" ref={stage}>
            <div class="screen">
              {playable ? (
                <video ref={video} aria-label={`${camera.name}, video`} onClick={() => player?.toggle()} />
              ) : (
                <Picture camera={camera.name} every={1000} width={1280} active={well} />
              )}
              <Overlay player={player} camera={camera} playable={playable} onLive={goLive} />
            </div>
            {playable ? (
              <Controls
                player={player}
                live={live.value}
                onLive={goLive}
                onNext={nextMarker}
                onMark={markHere}
                onFull={fullscreen}
                onGo={seek}
                hasMarkers={markers.all.value.length > 0}
              />
            ) : null}
          </div>
          {!playable ? (
            <NotRecorded camera={camera} />
          ) : (
            <section class="card time" aria-label="Timeline">
              <Timeline
                camera={camera.name}
                data={data}
                markers={markers.all}
                view={view}
                shown={shown}
                live={live}
                selection={selection}
                selecting={selecting}
                onSeek={seek}
                onMarker={toMarker}
              />
              <div class="below">
                <div class="segmented" role="group" aria-label="Length of the timeline">
                  {ZOOMS.map((each) => (
                    <ZoomButton key={each.label} label={each.label} ms={each.ms} view={view} shown={shown} live={live} />
                  ))}
                </div>
                <span class="soft">{dataError.value ?? dayInWords(view.value.from)}</span>
                <div class="end">
                  <button type="button" class="button" aria-pressed={selection.value !== null} onClick={chooseRange}>
                    <Icon name="range" />
                    Range
                  </button>
                  <button type="button" class="button square" aria-label="Zoom out" onClick={() => zoomTo(2)}>
                    <Icon name="zoomOut" />
                  </button>
                  <button type="button" class="button square" aria-label="Zoom in" onClick={() => zoomTo(0.5)}>
                    <Icon name="zoomIn" />
                  </button>
                </div>
              </div>
            </section>
          )}
          <RangeBar camera={camera.name} selection={selection} onChanged={() => (reload.value += 1)} />
        </div>
        <aside class="card side">
          <div class="segmented" role="tablist" aria-label="About this camera">
            {(["markers", "health", "details"] as const).map((each) => (
              <button key={each} type="button" role="tab" id={`tab-${each}`} aria-controls="tab-panel" aria-selected={tab.value === each} onClick={() => (tab.value = each)}>
                {each === "markers" ? "Markers" : each === "health" ? "Health" : "Details"}
              </button>
            ))}
          </div>
          <div id="tab-panel" role="tabpanel" aria-labelledby={`tab-${tab.value}`}>
            {tab.value === "markers" ? (
              <MarkerList camera={camera.name} markers={markers} shown={shown} chosen={chosen} onMarker={toMarker} onAdd={markHere} />
            ) : tab.value === "health" ? (
              <Health camera={camera} />
            ) : (
              <Details camera={camera} />
            )}
          </div>
        </aside>
      </div>
      {marking.value !== null ? <EditMarker camera={camera.name} at={marking.value} onClose={() => (marking.value = null)} /> : null}
      {dialog.value === "edit" ? <EditCamera camera={camera} onClose={() => (dialog.value = null)} /> : null}
      {dialog.value === "remove" ? (
        <Confirm
          title={`Remove ${camera.name}?`}
          action="Remove"
          onClose={() => (dialog.value = null)}
          onConfirm={async () => {
            await api.removeCamera(camera.name);
            await refresh();
            go("/");
          }}
        >
          camring stops reading this camera and takes it out of config.toml. Its recordings stay until they are deleted or too old.
        </Confirm>
      ) : null}
      {dialog.value === "keys" ? (
        <Dialog title="Keys" onClose={() => (dialog.value = null)}>
          <dl class="facts keys">
            {KEYS.map(([keys, what]) => (
              <>
                <dt>
                  {keys.split(" ").map((each) => (
                    <kbd key={each}>{each}</kbd>
                  ))}
                </dt>
                <dd>{what}</dd>
              </>
            ))}
          </dl>
        </Dialog>
      ) : null}
    </div>
  );
}

function ZoomButton(props: { label: string; ms: number; view: { value: View; peek(): View }; shown: { peek(): number | null }; live: { peek(): boolean } }): JSX.Element {
  const current = useComputed(() => Math.abs(props.view.value.to - props.view.value.from - props.ms * 1.1) < props.ms * 0.12);
  return (
    <button
      type="button"
      aria-pressed={current.value}
      onClick={() => {
        const span = props.ms * 1.1;
        const middle = props.live.peek() ? Date.now() - span * 0.44 : (props.shown.peek() ?? Date.now());
        props.view.value = { from: middle - span / 2, to: middle + span / 2 };
      }}
    >
      {props.label}
    </button>
  );
}

function Overlay({ player, camera, playable, onLive }: { player: Player | null; camera: Camera; playable: boolean; onLive: () => void }): JSX.Element {
  const phase = player?.phase.value ?? "idle";
  const trouble = player?.trouble.value;
  const live = player?.mode.value === "live";
  const late = live ? (player.behind.value ?? 0) : 0;
  const away = camera.state !== "streaming" && live;
  // While a camera is away the live video stands still: say why instead of showing an old picture as new.
  const stale = live && phase !== "loading" && late > 8;
  const message = away || (stale && phase !== "paused") ? (camera.state === "streaming" ? "Waiting for the newest picture" : camera.reason) : trouble;
  return (
    <>
      {playable && !away && !trouble && (phase === "loading" || phase === "waiting" || phase === "idle") ? (
        <span class="over" role="status">
          <Icon name="busy" />
          <span class="hidden">Loading</span>
        </span>
      ) : null}
      {(away || trouble || stale) && message && phase !== "paused" ? (
        <div class="over message" role="status" data-overlay={away ? camera.state : "trouble"}>
          {away ? <StateChip state={camera.state} /> : <Icon name="warn" />}
          <p>{message}</p>
        </div>
      ) : null}
      {playable && player?.inGap.value && !live ? (
        <div class="over corner">Nothing was recorded then: the next picture</div>
      ) : null}
      {live && late > 8 && phase === "paused" ? (
        <button type="button" class="button over corner" onClick={onLive}>
          Back to live
        </button>
      ) : null}
    </>
  );
}

function Controls(props: {
  player: Player | null;
  live: boolean;
  hasMarkers: boolean;
  onLive: () => void;
  onNext: (direction: 1 | -1) => void;
  onMark: () => void;
  onFull: () => void;
  onGo: (at: number) => void;
}): JSX.Element {
  const { player } = props;
  const going = useSignal(false);
  const shown = player?.shown.value ?? null;
  const paused = player?.phase.value === "paused" || player?.element.paused === true;
  const behind = player?.behind.value ?? null;
  const button = (label: string, icon: IconName, act: () => void, keys?: string, wide = false): JSX.Element => (
    <button type="button" class={`button quiet square ${wide ? "wide" : ""}`} aria-label={label} title={keys ? `${label} (${keys})` : label} disabled={!player} onClick={act}>
      <Icon name={icon} />
    </button>
  );
  const label = useMemo(() => (shown === null ? null : `${dayInWords(shown)} `), [Math.floor((shown ?? 0) / MINUTE)]);
  return (
    <div class="controls" role="group" aria-label="Player">
      {button(paused ? "Play" : "Pause", paused ? "play" : "pause", () => player?.toggle(), "Space")}
      {button("One picture back", "stepBack", () => void player?.step(-1), ",")}
      {button("One picture forward", "stepForward", () => void player?.step(1), ".")}
      <button
        type="button"
        class={`button quiet live ${props.live ? "on" : ""}`}
        aria-pressed={props.live}
        title="Live (L)"
        onClick={props.onLive}
      >
        Live
      </button>
      <button type="button" class="clock number" title="Capture time of this picture. Click to go to another" data-shown={shown ?? ""} onClick={() => (going.value = true)}>
        <span class="wide">{label}</span>
        <b>{shown === null ? "--:--:--" : clockExact(shown)}</b>
        {props.live && behind !== null ? <small class="wide">{behind < 60 ? `${behind.toFixed(1)} s behind` : ""}</small> : null}
      </button>
      <span class="end">
        {props.hasMarkers ? button("Previous marker", "previousMarker", () => props.onNext(-1), "P", true) : null}
        {props.hasMarkers ? button("Next marker", "nextMarker", () => props.onNext(1), "N", true) : null}
        {button("Mark this picture", "flag", props.onMark, "M")}
        {!props.live ? (
          <select class="input rate" aria-label="Speed" value={player?.rate.value ?? 1} onChange={(event) => player?.setRate(Number(event.currentTarget.value))}>
            {RATES.map((rate) => (
              <option key={rate} value={rate}>
                {rate}×
              </option>
            ))}
          </select>
        ) : null}
        {button(player?.muted.value ? "Sound on" : "Sound off", player?.muted.value ? "mute" : "sound", () => player?.setMuted(!player.muted.peek()), undefined, true)}
        {button("Full screen", "fullscreen", props.onFull, "F")}
      </span>
      {going.value ? (
        <Dialog title="Go to a time" onClose={() => (going.value = false)}>
          <form
            class="stack"
            onSubmit={(event) => {
              event.preventDefault();
              const field = event.currentTarget.elements.namedItem("when");
              const at = field instanceof HTMLInputElement ? fromInput(field.value) : null;
              if (at !== null) props.onGo(at);
              going.value = false;
            }}
          >
            <label class="field">
              <span>Date and time</span>
              <input class="input number" name="when" type="datetime-local" step="1" defaultValue={toInput(shown ?? Date.now())} />
            </label>
            <footer>
              <button type="submit" class="button primary">
                Go
              </button>
            </footer>
          </form>
        </Dialog>
      ) : null}
    </div>
  );
}

function NotRecorded({ camera }: { camera: Camera }): JSX.Element {
  const busy = useSignal(false);
  if (!Player.possible) {
    return <Note tone="warn">This browser can play neither Media Source Extensions nor HLS: only pictures are shown.</Note>;
  }
  return (
    <Note>
      <p>This camera is not recorded, so there are pictures only: no video, no going back in time.</p>
      <p hidden={!may("admin")}>
        <button
          type="button"
          class="button"
          disabled={busy.value}
          onClick={() => {
            busy.value = true;
            void attempt("Recording was not turned on", () => api.changeCamera(camera.name, { record: { mode: "copy" } }), "Recording").then(async () => {
              await refresh();
              busy.value = false;
            });
          }}
        >
          Record it
        </button>
      </p>
    </Note>
  );
}
