// What is on the disk, camera by camera; what is protected; how full it is.
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { api, messageOf, url } from "../lib/api";
import { bytes, count } from "../lib/format";
import { type Protection, type RecordingRow, type Timeline, toProtections, toRecordings, toTimeline } from "../lib/model";
import { saidRemoved } from "../dialogs/range";
import { cameraPath } from "../lib/route";
import { cameras, disk } from "../lib/state";
import { clock, day, dayInWords, duration, SECOND } from "../lib/time";
import { Icon } from "../ui/icons";
import { attempt, Confirm, Dialog, Empty, Field, Menu, Note, toast } from "../ui/parts";

const AGAIN_MS = 15_000;

export function RecordingsPage(): JSX.Element {
  const rows = useSignal<RecordingRow[] | null>(null);
  const error = useSignal<string | null>(null);
  const load = async (): Promise<void> => {
    try {
      rows.value = toRecordings(await api.recordings());
      error.value = null;
    } catch (problem) {
      error.value = messageOf(problem);
    }
  };
  useEffect(() => {
    void load();
    const again = setInterval(() => void load(), AGAIN_MS);
    return () => clearInterval(again);
  }, []);
  const known = rows.value;
  const total = known?.reduce((sum, each) => sum + each.bytes, 0) ?? 0;
  const space = disk.value;
  return (
    <>
      <div class="head">
        <h1>Recordings</h1>
        {known?.length ? (
          <span class="soft number">
            {bytes(total)} of {count(known.length, "camera")}
          </span>
        ) : null}
        {space?.free != null ? <span class="soft number end">{bytes(space.free)} free on the disk{space.keepSeconds === null ? "" : `, kept for ${duration(space.keepSeconds * 1000)}`}</span> : null}
      </div>
      {space?.trouble ? <Note tone="warn">{space.trouble}</Note> : space?.paused ? <Note>{space.paused}</Note> : null}
      {error.value ? (
        known ? (
          <Note tone="warn">{error.value}</Note>
        ) : (
          <Empty icon="warn" title="The recordings cannot be listed" action={<button type="button" class="button" onClick={() => void load()}>Try again</button>}>
            {error.value}
          </Empty>
        )
      ) : null}
      {known === null && !error.value ? (
        <div class="recordings" aria-busy="true">
          {[1, 2, 3].map((each) => (
            <div key={each} class="skeleton row-skeleton" />
          ))}
        </div>
      ) : null}
      {known?.length === 0 ? (
        <Empty icon="film" title="Nothing is recorded yet">
          {cameras.value?.some((each) => each.recorded)
            ? "The first segments appear a few seconds after a camera streams."
            : "Turn recording on in a camera's settings, or in config.toml: [record] mode = \"copy\"."}
        </Empty>
      ) : null}
      {known?.length ? (
        <ul class="recordings">
          {known.map((row) => (
            <Row key={row.camera} row={row} onChanged={() => void load()} />
          ))}
        </ul>
      ) : null}
    </>
  );
}

function Row({ row, onChanged }: { row: RecordingRow; onChanged: () => void }): JSX.Element {
  const timeline = useSignal<Timeline | null>(null);
  const protections = useSignal<Protection[]>([]);
  const asked = useSignal<"delete" | null>(null);
  const naming = useSignal(false);
  const renaming = useSignal<Protection | null>(null);
  const lifting = useSignal<Protection | null>(null);
  const { first, last } = row;
  const load = async (): Promise<void> => {
    if (first !== null && last !== null) {
      timeline.value = await api.timeline(row.camera).then(toTimeline).catch(() => null);
    }
    protections.value = await api.protections(row.camera).then(toProtections).catch(() => []);
  };
  useEffect(() => {
    void load();
  }, [row.camera, first, row.bytes === 0]);
  const exists = row.configured;
  const changed = (): void => {
    onChanged();
    void load();
  };
  const place = (at: number): string => (first === null || last === null || last <= first ? "0%" : `${Math.min(100, Math.max(0, ((at - first) / (last - first)) * 100))}%`);
  return (
    <li class="card recording" data-recording={row.camera}>
      <div class="line">
        <h2>{exists ? <a href={cameraPath(row.camera, first === null ? undefined : first + SECOND)}>{row.title}</a> : row.title}
          {row.title === row.camera ? null : <span class="faint"> {row.camera}</span>}
          {exists ? null : <span class="chip plain">not configured any more</span>}</h2>
        <span class="number soft">{duration(row.seconds * 1000)}</span>
        <span class="number soft">{bytes(row.bytes)}</span>
        <span class="number soft">{row.gaps ? count(row.gaps, "gap") : "no gaps"}</span>
        <Menu
          label={`Actions for the recordings of ${row.camera}`}
          items={[
            ...(exists && last !== null ? [{ label: "Play", icon: "play" as const, act: () => open(cameraPath(row.camera, Math.max(first ?? 0, last - 60 * SECOND)), "_self") }] : []),
            ...(first !== null && last !== null
              ? [{ label: "Export the last minute", icon: "download" as const, needs: "operator" as const, href: url.export(row.camera, Math.max(first, last - 60 * SECOND), last, "gop") }]
              : []),
            { label: "Rename", icon: "pencil", needs: "admin", act: () => (naming.value = true) },
            { label: "Delete all", icon: "trash", danger: true, needs: "admin", act: () => (asked.value = "delete") },
          ]}
        />
      </div>
      {first !== null && last !== null ? (
        <>
          <div class="coverage" role="img" aria-label={`From ${day(first)} ${clock(first)} to ${day(last)} ${clock(last)}, ${row.gaps ? count(row.gaps, "gap") : "no gaps"}`}>
            {(timeline.value?.recorded ?? []).map((each) => (
              <i key={each.from} style={{ left: place(each.from), right: `calc(100% - ${place(each.to)})` }} />
            ))}
            {protections.value.map((each) => (
              <b key={each.id} style={{ left: place(each.from), right: `calc(100% - ${place(each.to)})` }} title={`Protected: ${each.name}`} />
            ))}
          </div>
          <div class="ends faint number">
            <span>
              {dayInWords(first)} {clock(first, false)}
            </span>
            <span>
              {dayInWords(last)} {clock(last, false)}
            </span>
          </div>
        </>
      ) : null}
      {protections.value.length ? (
        <ul class="protections">
          {protections.value.map((each) => (
            <li key={each.id}>
              <Icon name="lock" />
              <a href={cameraPath(row.camera, each.from)}>{each.name || "Protected range"}</a>
              <span class="faint number">
                {dayInWords(each.from)} {clock(each.from)}, {duration(each.to - each.from)}
              </span>
              <Menu
                label={`Actions for ${each.name || "the protected range"}`}
                items={[
                  { label: "Rename", icon: "pencil", needs: "operator", act: () => (renaming.value = each) },
                  { label: "Export MP4", icon: "download", needs: "operator", href: url.export(row.camera, each.from, each.to, "gop") },
                  { label: "Lift the protection", icon: "close", danger: true, needs: "operator", act: () => (lifting.value = each) },
                ]}
              />
            </li>
          ))}
        </ul>
      ) : null}
      {asked.value === "delete" && first !== null && last !== null ? (
        <Confirm
          title={`Delete all recordings of ${row.camera}?`}
          action="Delete all"
          onClose={() => (asked.value = null)}
          onConfirm={async () => {
            toast(saidRemoved(await api.removeRecordings(row.camera, first - 1, last + 60 * SECOND)));
            changed();
          }}
        >
          {duration(row.seconds * 1000)}, {bytes(row.bytes)}, are deleted for good. Protected ranges stay; recording goes on.
        </Confirm>
      ) : null}
      {naming.value ? (
        <Rename
          name={row.title}
          hint="For people only: the camera keeps its name, and so do the folders. Empty: the camera's name"
          save={(title) => api.renameRecording(row.camera, title || null)}
          onClose={() => (naming.value = false)}
          onDone={changed}
        />
      ) : null}
      {renaming.value ? (
        <Rename
          name={renaming.value.name}
          save={(title) => api.renameProtection(row.camera, renaming.value?.id ?? "", title)}
          onClose={() => (renaming.value = null)}
          onDone={changed}
        />
      ) : null}
      {lifting.value ? (
        <Confirm
          title="Lift the protection?"
          action="Lift"
          onClose={() => (lifting.value = null)}
          onConfirm={async () => {
            if (lifting.value) await api.unprotect(row.camera, lifting.value.id);
            changed();
          }}
        >
          “{lifting.value.name || "This range"}” is then deleted like everything else, when it is old enough or the disk is full.
        </Confirm>
      ) : null}
    </li>
  );
}

function Rename(props: { name: string; hint?: string; save: (title: string) => Promise<unknown>; onClose: () => void; onDone: () => void }): JSX.Element {
  const title = useSignal(props.name);
  return (
    <Dialog title="Rename" onClose={props.onClose}>
      <form
        class="stack"
        onSubmit={(event) => {
          event.preventDefault();
          void attempt("Not renamed", () => props.save(title.value.trim())).then((well) => {
            if (!well) return;
            props.onDone();
            props.onClose();
          });
        }}
      >
        <Field label="Name" hint={props.hint}>
          <input class="input" name="title" maxLength={200} autoFocus value={title.value} onInput={(event) => (title.value = event.currentTarget.value)} />
        </Field>
        <footer>
          <button type="button" class="button" onClick={props.onClose}>
            Cancel
          </button>
          <button type="submit" class="button primary">
            Save
          </button>
        </footer>
      </form>
    </Dialog>
  );
}
