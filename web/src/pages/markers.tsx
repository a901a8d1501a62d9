// The markers of a camera: fetched for what the timeline shows, kept up to date by the live feed.
import type { Signal } from "@preact/signals";
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { api, list, type Marker, markerTime, messageOf, type Page } from "../lib/api";
import { hue } from "../lib/format";
import { may } from "../lib/session";
import { type MarkerChange, onMarker } from "../lib/state";
import { clockExact, dayInWords, duration, parseTime, toRfc3339 } from "../lib/time";
import type { View } from "../timeline/scale";
import { Icon } from "../ui/icons";
import { attempt, Confirm, Dialog, Empty, Field, Menu } from "../ui/parts";

const PAGE = 500;
/** More than this in view: the newest are shown, and that there are more. */
const MOST = 2000;

/** A list after a change, newest first, each marker once. */
export function applied(markers: Marker[], change: Exclude<MarkerChange, { kind: "reset" }>): Marker[] {
  const id = change.kind === "set" ? change.marker.id : change.id;
  const rest = markers.filter((each) => each.id !== id);
  if (change.kind === "removed") return rest;
  const at = markerTime(change.marker);
  const place = rest.findIndex((each) => markerTime(each) < at);
  rest.splice(place < 0 ? rest.length : place, 0, change.marker);
  return rest;
}

export interface Markers {
  all: Signal<Marker[]>;
  error: Signal<string | null>;
  loading: Signal<boolean>;
  more: Signal<boolean>;
}

export function useMarkers(camera: string, view: Signal<View>): Markers {
  const all = useSignal<Marker[]>([]);
  const error = useSignal<string | null>(null);
  const loading = useSignal(true);
  const more = useSignal(false);
  useEffect(() => {
    let loaded: View | null = null;
    let stop = new AbortController();
    let soon: ReturnType<typeof setTimeout> | undefined;
    const load = async (at: View): Promise<void> => {
      stop.abort();
      stop = new AbortController();
      const { signal } = stop;
      const span = at.to - at.from;
      // Somewhat more than is in view: small moves ask for nothing.
      const wide = { from: at.from - span * 0.5, to: Math.max(at.to + span * 0.5, Date.now()) };
      try {
        const found: Marker[] = [];
        let cursor: string | null = null;
        do {
          const page: Page<Marker> = list<Marker>(
            await api.markers(camera, { from: toRfc3339(wide.from), to: toRfc3339(wide.to), limit: PAGE, cursor }, signal),
            "markers",
          );
          found.push(...page.items);
          cursor = page.next;
        } while (cursor && found.length < MOST);
        found.sort((a, b) => markerTime(b) - markerTime(a));
        all.value = found;
        more.value = cursor !== null;
        error.value = null;
        loaded = wide;
      } catch (problem) {
        if (!signal.aborted) error.value = messageOf(problem);
      } finally {
        if (!signal.aborted) loading.value = false;
      }
    };
    const unwatch = view.subscribe((at) => {
      if (loaded && at.from >= loaded.from && (at.to <= loaded.to || loaded.to > Date.now() - 3_600_000)) return;
      clearTimeout(soon);
      soon = setTimeout(() => void load(at), loaded ? 250 : 0);
    });
    const unlisten = onMarker((change) => {
      if (change.kind === "reset") return void load(view.peek());
      if (change.kind === "set" && change.marker.camera !== camera) return;
      all.value = applied(all.peek(), change);
    });
    return () => {
      unwatch();
      unlisten();
      clearTimeout(soon);
      stop.abort();
    };
  }, [camera]);
  return { all, error, loading, more };
}

export function MarkerList(props: {
  camera: string;
  markers: Markers;
  shown: Signal<number | null>;
  chosen: Signal<string | null>;
  onMarker: (marker: Marker) => void;
  onAdd: () => void;
}): JSX.Element {
  const { markers, chosen } = props;
  const editing = useSignal<Marker | null>(null);
  const removing = useSignal<Marker | null>(null);
  const filter = useSignal("");
  const listRef = useRef<HTMLOListElement>(null);
  const labels = [...new Set(markers.all.value.map((each) => each.label))].sort();
  const shown = filter.value ? markers.all.value.filter((each) => each.label === filter.value) : markers.all.value;
  useEffect(() => {
    listRef.current?.querySelector("[aria-current=true]")?.scrollIntoView({ block: "nearest" });
  }, [chosen.value]);
  return (
    <div class="panel">
      <div class="tools">
        {labels.length > 1 ? (
          <select class="input" aria-label="Label" value={filter.value} onChange={(event) => (filter.value = event.currentTarget.value)}>
            <option value="">All labels</option>
            {labels.map((label) => (
              <option key={label}>{label}</option>
            ))}
          </select>
        ) : (
          <span class="soft number">{markers.loading.value ? "" : `${markers.all.value.length} in view`}</span>
        )}
        {may("operator") ? (
          <button type="button" class="button" onClick={props.onAdd}>
            <Icon name="flag" />
            Mark this picture
          </button>
        ) : null}
      </div>
      {markers.error.value ? (
        <Empty icon="warn" title="The markers cannot be shown">
          {markers.error.value}
        </Empty>
      ) : shown.length === 0 && !markers.loading.value ? (
        <Empty icon="flag" title="No markers here">
          Detectors set them, and you can: press M, or “Mark this picture”.
        </Empty>
      ) : (
        <ol class="markers" ref={listRef} aria-label="Markers, newest first">
          {shown.slice(0, 400).map((marker) => {
            const at = markerTime(marker);
            const end = parseTime(marker.end);
            const id = marker.id;
            return (
              <li key={id} aria-current={chosen.value === id}>
                <button type="button" class="go" data-marker={id} onClick={() => props.onMarker(marker)}>
                  <i style={{ "--hue": hue(marker.label) }} />
                  <span class="label">{marker.label}</span>
                  {marker.score != null ? <span class="score number">{Math.round(marker.score * 100)} %</span> : null}
                  <span class="when number">
                    {clockExact(at)}
                    <small class="faint">
                      {dayInWords(at)}
                      {end ? `, ${duration(end - at)}` : ""}
                    </small>
                  </span>
                </button>
                <Menu
                  label={`Actions for ${marker.label} at ${clockExact(at)}`}
                  items={[
                    { label: "Change", icon: "pencil", needs: "operator", act: () => (editing.value = marker) },
                    { label: "Delete", icon: "trash", danger: true, needs: "operator", act: () => (removing.value = marker) },
                  ]}
                />
              </li>
            );
          })}
        </ol>
      )}
      {markers.more.value || shown.length > 400 ? <p class="soft more">There are more: zoom the timeline in.</p> : null}
      {editing.value ? <EditMarker camera={props.camera} marker={editing.value} onClose={() => (editing.value = null)} /> : null}
      {removing.value ? (
        <Confirm
          title="Delete this marker?"
          action="Delete"
          onClose={() => (removing.value = null)}
          onConfirm={async () => {
            const id = removing.value?.id;
            if (id === undefined) return;
            await api.removeMarker(props.camera, id);
            markers.all.value = applied(markers.all.value, { kind: "removed", id });
          }}
        >
          “{removing.value.label}” at {clockExact(markerTime(removing.value))}. The recording stays.
        </Confirm>
      ) : null}
    </div>
  );
}

/** Makes a marker on the picture of this instant, or changes one. */
export function EditMarker(props: { camera: string; marker?: Marker; at?: number; onClose: () => void; onDone?: (marker: Marker) => void }): JSX.Element {
  const { marker } = props;
  const label = useSignal(marker?.label ?? "");
  const first = marker ? parseTime(marker.start) : null;
  const until = marker ? parseTime(marker.end) : null;
  const seconds = useSignal(first !== null && until !== null ? String(Math.round((until - first) / 100) / 10) : "");
  const length = Number(seconds.value);
  const badLength = seconds.value !== "" && !(length > 0);
  const start = marker ? marker.start : toRfc3339(props.at ?? Date.now());
  const save = async (): Promise<void> => {
    const from = parseTime(start) ?? 0;
    const end = seconds.value === "" ? null : toRfc3339(from + length * 1000);
    const done = await attempt(marker ? "Not changed" : "Not marked", async () => {
      const made = marker
        ? await api.changeMarker(props.camera, marker.id, { label: label.value, end })
        : await api.addMarker(props.camera, { start, label: label.value, ...(end ? { end } : {}) });
      props.onDone?.(made);
    });
    if (done) props.onClose();
  };
  return (
    <Dialog title={marker ? "Change the marker" : `Mark ${clockExact(props.at ?? 0)}`} onClose={props.onClose}>
      <form
        class="stack"
        onSubmit={(event) => {
          event.preventDefault();
          if (label.value.trim() && !badLength) void save();
        }}
      >
        <Field label="Label" hint="Such as person, parcel, check this">
          <input class="input" name="label" required maxLength={128} autoFocus value={label.value} onInput={(event) => (label.value = event.currentTarget.value)} />
        </Field>
        <Field label="Lasts, in seconds" hint="Empty: this one picture" wrong={badLength ? "A number above 0" : null}>
          <input class="input number" name="seconds" inputMode="decimal" value={seconds.value} onInput={(event) => (seconds.value = event.currentTarget.value.trim())} />
        </Field>
        <footer>
          <button type="button" class="button" onClick={props.onClose}>
            Cancel
          </button>
          <button type="submit" class="button primary" disabled={!label.value.trim() || badLength}>
            {marker ? "Save" : "Mark"}
          </button>
        </footer>
      </form>
    </Dialog>
  );
}
