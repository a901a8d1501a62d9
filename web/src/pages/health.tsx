// How a camera was over time, and what it is now.
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { api, messageOf } from "../lib/api";
import { bitrate, bytes, count } from "../lib/format";
import { type Camera, type History, type Sample, TONE, toHistory } from "../lib/model";
import { ago, clock, DAY, HOUR } from "../lib/time";
import { Chart } from "../ui/chart";
import { Empty, Note, StateChip, useNow } from "../ui/parts";

const SPANS = [
  { label: "1 h", ms: HOUR },
  { label: "6 h", ms: 6 * HOUR },
  { label: "24 h", ms: DAY },
];
const AGAIN_MS = 10_000;

interface Run {
  from: number;
  to: number;
  state: Sample["state"];
}

/** Samples as stretches of one state: what the bar above the charts shows. Where samples are missing, nobody watched. */
export function runs(samples: Sample[], step: number): Run[] {
  const out: Run[] = [];
  for (const sample of samples) {
    const last = out[out.length - 1];
    if (last?.state === sample.state && sample.at - last.to < step) last.to = sample.at + step;
    else out.push({ from: sample.at, to: sample.at + step, state: sample.state });
  }
  return out;
}

export function Health({ camera }: { camera: Camera }): JSX.Element {
  const span = useSignal(HOUR);
  const history = useSignal<History | null>(null);
  const chosen = useSignal("");
  const error = useSignal<string | null>(null);
  const until = useSignal(Date.now());
  useEffect(() => {
    const stop = new AbortController();
    const load = async (): Promise<void> => {
      const to = Date.now();
      try {
        history.value = toHistory(await api.health(camera.name, to - span.value, to, stop.signal));
        until.value = to;
        error.value = null;
      } catch (problem) {
        if (!stop.signal.aborted) error.value = messageOf(problem);
      }
    };
    void load();
    const again = setInterval(() => void load(), AGAIN_MS);
    return () => {
      stop.abort();
      clearInterval(again);
    };
  }, [camera.name, span.value]);
  const [from, to] = [until.value - span.value, until.value];
  const streams = history.value?.streams ?? [];
  const shown = streams.find((each) => each.stream === chosen.value) ?? streams[0];
  const known = shown?.samples ?? [];
  const step = history.value?.step ?? 10_000;
  const line = (pick: (sample: Sample) => number | null) => known.map((each) => ({ at: each.at, value: pick(each) }));
  return (
    <div class="panel health">
      <div class="segmented" role="group" aria-label="How far back">
        {SPANS.map((each) => (
          <button key={each.label} type="button" aria-pressed={span.value === each.ms} onClick={() => (span.value = each.ms)}>
            {each.label}
          </button>
        ))}
      </div>
      {streams.length > 1 ? (
        <select class="input" aria-label="Stream" value={shown?.stream} onChange={(event) => (chosen.value = event.currentTarget.value)}>
          {streams.map((each) => (
            <option key={each.stream}>{each.stream}</option>
          ))}
        </select>
      ) : null}
      {error.value ? <Note tone="warn">{error.value}</Note> : null}
      {history.value === null && !error.value ? <div class="skeleton chart-skeleton" /> : null}
      {history.value && known.length === 0 ? (
        <Empty icon="info" title="No samples yet">
          One is taken every ten seconds.
        </Empty>
      ) : null}
      {known.length ? (
        <>
          <figure class="states">
            <figcaption>
              <h3>State</h3>
              <span class="faint number">
                {clock(from, false)} to {clock(to, false)}
              </span>
            </figcaption>
            <div class="strip" role="img" aria-label={runs(known, step).map((each) => `${each.state} from ${clock(each.from)} to ${clock(each.to)}`).slice(-8).join(", ")}>
              {runs(known, step).map((each) => (
                <i
                  key={each.from}
                  class={TONE[each.state]}
                  title={`${each.state}, ${clock(each.from)} to ${clock(each.to)}`}
                  style={{ left: `${((each.from - from) / (to - from)) * 100}%`, width: `max(2px, ${((each.to - each.from) / (to - from)) * 100}%)` }}
                />
              ))}
            </div>
          </figure>
          <Chart title="Pictures a second" points={line((each) => each.fps)} from={from} to={to} least={5} format={(n) => n.toFixed(n < 10 && n % 1 ? 1 : 0)} />
          <Chart title="Bit rate" points={line((each) => each.kbit)} from={from} to={to} least={100} format={bitrate} />
          <Chart title="Latency to the frame ring" points={line((each) => each.latencyMs)} from={from} to={to} least={10} format={(n) => `${n.toFixed(n < 10 ? 1 : 0)} ms`} />
        </>
      ) : null}
    </div>
  );
}

export function Details({ camera }: { camera: Camera }): JSX.Element {
  const now = useNow(2000);
  return (
    <div class="panel details">
      {camera.streams.map((each) => (
        <section key={each.id}>
          <h2>
            {each.name} <StateChip state={each.state} />
          </h2>
          {each.reason ? <p class="soft">{each.reason}</p> : null}
          <dl class="facts number">
            {each.since ? (
              <>
                <dt>Since</dt>
                <dd>{ago(each.since, now)}</dd>
              </>
            ) : null}
            {each.url ? (
              <>
                <dt>Address</dt>
                <dd class="mono">{each.url}</dd>
              </>
            ) : null}
            {each.codec ? (
              <>
                <dt>Video</dt>
                <dd>
                  {each.codec.toUpperCase()}
                  {each.width ? ` ${each.width} × ${each.height ?? "?"}` : ""}
                  {each.fps === null ? "" : `, ${each.fps.toFixed(1)} fps`}
                </dd>
              </>
            ) : null}
            {each.clock ? (
              <>
                <dt>Clock</dt>
                <dd>{each.clock === "sender-report" ? "the camera's (sender reports)" : "time of arrival"}</dd>
              </>
            ) : null}
            {each.lost === null ? null : (
              <>
                <dt>Lost</dt>
                <dd>{count(each.lost, "packet")}</dd>
              </>
            )}
            {each.reconnects === null ? null : (
              <>
                <dt>Restarts</dt>
                <dd>
                  {count(each.restarts ?? 0, "process", "processes")}, {count(each.reconnects, "session")}
                </dd>
              </>
            )}
            {each.cpu === null ? null : (
              <>
                <dt>Reader</dt>
                <dd>
                  {each.cpu.toFixed(1)} % of a core{each.memory === null ? "" : `, ${bytes(each.memory)}`}
                </dd>
              </>
            )}
            {each.subscribers === null ? null : (
              <>
                <dt>Read by</dt>
                <dd>{count(each.subscribers, "subscription")}</dd>
              </>
            )}
            <dt>Recording</dt>
            <dd>
              {each.recording.mode === "off" ? "off" : `${each.recording.mode}, ${each.recording.state ?? "not known yet"}`}
              {each.recording.bytes === null ? "" : `, ${bytes(each.recording.bytes)}`}
              {each.recording.reason && each.recording.state !== "recording" ? <span class="soft"> ({each.recording.reason})</span> : null}
            </dd>
          </dl>
        </section>
      ))}
    </div>
  );
}
