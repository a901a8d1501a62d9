// What can be done with a chosen range: preview, export, protect, delete.
import type { Signal } from "@preact/signals";
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { api, type Removed, url } from "../lib/api";
import { bytes, count } from "../lib/format";
import type { Span } from "../lib/model";
import { may } from "../lib/session";
import { clock, DAY, day, duration, fromInput, toInput } from "../lib/time";
import { Icon } from "../ui/icons";
import { attempt, Confirm, Dialog, Field, Note, toast } from "../ui/parts";

/** The server makes previews of up to a day. */
const PREVIEW_MAX = DAY;

/** What a deletion did, and why the rest is still there. */
export function saidRemoved(done: Removed): string {
  const kept = [
    done.kept_protected ? count(done.kept_protected, "protected minute") : "",
    done.kept_writing ? "the minute being written" : "",
    done.kept_edges ? `${count(done.kept_edges, "minute")} reaching beyond the range` : "",
  ].filter(Boolean);
  const gone = done.files ? `${count(done.files, "minute")} deleted, ${bytes(done.bytes)} freed` : "Nothing was deleted";
  return kept.length ? `${gone}. Kept: ${kept.join(", ")}` : gone;
}

export function RangeBar({ camera, selection, onChanged }: { camera: string; selection: Signal<Span | null>; onChanged: () => void }): JSX.Element | null {
  const asked = useSignal<"preview" | "delete" | "protect" | null>(null);
  const exact = useSignal(false);
  const title = useSignal("");
  const span = selection.value;
  if (!span) return null;
  const set = (which: "from" | "to", text: string): void => {
    const at = fromInput(text);
    if (at === null) return;
    const next = { ...span, [which]: at };
    if (next.to > next.from) selection.value = next;
  };
  return (
    <section class="range card" aria-label="Chosen range">
      <Field label="From">
        <input class="input number" type="datetime-local" step="1" value={toInput(span.from)} onChange={(event) => set("from", event.currentTarget.value)} />
      </Field>
      <Field label="To">
        <input class="input number" type="datetime-local" step="1" value={toInput(span.to)} onChange={(event) => set("to", event.currentTarget.value)} />
      </Field>
      <span class="length number">{duration(span.to - span.from)}</span>
      <div class="acts">
        <button type="button" class="button" disabled={span.to - span.from > PREVIEW_MAX} title={span.to - span.from > PREVIEW_MAX ? "Previews are for up to a day" : undefined} onClick={() => (asked.value = "preview")}>
          <Icon name="eye" />
          Preview
        </button>
        {may("operator") ? (
          <>
            <label class="check" title="Re-encodes the first and last group of pictures; otherwise the file begins at a key frame">
              <input type="checkbox" checked={exact.value} onChange={(event) => (exact.value = event.currentTarget.checked)} />
              to the frame
            </label>
            <a
              class="button primary"
              href={url.export(camera, span.from, span.to, exact.value ? "frame" : "gop")}
              download
              data-act="export"
            >
              <Icon name="download" />
              Export MP4
            </a>
            <button type="button" class="button" onClick={() => (asked.value = "protect")}>
              <Icon name="lock" />
              Protect
            </button>
          </>
        ) : null}
        {may("admin") ? (
          <button type="button" class="button danger" onClick={() => (asked.value = "delete")}>
            <Icon name="trash" />
            Delete
          </button>
        ) : null}
        <button type="button" class="button quiet square" aria-label="Choose no range" onClick={() => (selection.value = null)}>
          <Icon name="close" />
        </button>
      </div>
      {asked.value === "preview" ? (
        <Dialog title={`${camera}, ${clock(span.from)} to ${clock(span.to)}`} class="preview" onClose={() => (asked.value = null)}>
          <Preview camera={camera} span={span} />
        </Dialog>
      ) : asked.value === "delete" ? (
        <Confirm
          title="Delete this recording?"
          action="Delete"
          onClose={() => (asked.value = null)}
          onConfirm={async () => {
            toast(saidRemoved(await api.removeRecordings(camera, span.from, span.to)));
            selection.value = null;
            onChanged();
          }}
        >
          {duration(span.to - span.from)} of {camera}, {day(span.from)} {clock(span.from)} to {clock(span.to)}, are deleted for good. Recordings are
          kept in files of a minute: one that reaches beyond the range stays, and so do protected ones.
        </Confirm>
      ) : asked.value === "protect" ? (
        <Dialog title="Protect this recording" onClose={() => (asked.value = null)}>
          <form
            class="stack"
            onSubmit={(event) => {
              event.preventDefault();
              void attempt("Not protected", () => api.protect(camera, span.from, span.to, title.value), "Protected: it is kept until you say otherwise").then((well) => {
                if (!well) return;
                asked.value = null;
                selection.value = null;
                onChanged();
              });
            }}
          >
            <p class="soft">It is kept whatever its age and however full the disk is, until you lift the protection.</p>
            <Field label="Name" hint="What it is, for the list of recordings">
              <input class="input" name="protection" value={title.value} onInput={(event) => (title.value = event.currentTarget.value)} />
            </Field>
            <footer>
              <button type="button" class="button" onClick={() => (asked.value = null)}>
                Cancel
              </button>
              <button type="submit" class="button primary">
                Protect
              </button>
            </footer>
          </form>
        </Dialog>
      ) : null}
    </section>
  );
}

function Preview({ camera, span }: { camera: string; span: Span }): JSX.Element {
  const state = useSignal<"loading" | "ready" | "failed">("loading");
  return (
    <>
      <div class="screen">
        <video
          src={url.preview(camera, span.from, span.to, "mp4")}
          autoPlay
          loop
          muted
          controls
          playsInline
          aria-label="Preview"
          onLoadedData={() => (state.value = "ready")}
          onError={() => (state.value = "failed")}
        />
        {state.value === "loading" ? (
          <span class="over">
            <Icon name="busy" /> Making the preview…
          </span>
        ) : null}
      </div>
      {state.value === "failed" ? <Note tone="bad">The preview could not be made. Is all of the range recorded?</Note> : null}
      <footer>
        <a class="button" href={url.preview(camera, span.from, span.to, "gif")} download>
          <Icon name="download" />
          GIF
        </a>
        <a class="button" href={url.preview(camera, span.from, span.to, "mp4")} download>
          <Icon name="download" />
          Small MP4
        </a>
      </footer>
    </>
  );
}
