// A small line over time, with the value under the pointer. Gaps in the samples are gaps in the line.
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { clock } from "../lib/time";

export interface Point {
  at: number;
  value: number | null;
}

interface Props {
  title: string;
  points: Point[];
  from: number;
  to: number;
  format: (value: number) => string;
  /** The scale reaches at least this high. */
  least: number;
}

const W = 300;
const H = 64;

export function niceTop(value: number): number {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return ([1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((each) => each * power >= value) ?? 10) * power;
}

export function Chart(props: Props): JSX.Element {
  const hover = useSignal<Point | null>(null);
  const known = props.points.filter((each) => each.value !== null);
  const top = niceTop(Math.max(props.least, ...known.map((each) => each.value ?? 0)));
  const x = (at: number): number => ((at - props.from) / (props.to - props.from)) * W;
  const y = (value: number): number => H - 2 - (value / top) * (H - 6);
  const spacing = typical(props.points);
  let path = "";
  let area = "";
  let before: Point | null = null;
  let began = 0;
  for (const point of props.points) {
    if (point.value === null || (before && point.at - before.at > spacing * 3)) {
      if (before) area += `L${x(before.at).toFixed(1)} ${H}L${began.toFixed(1)} ${H}Z`;
      before = null;
      if (point.value === null) continue;
    }
    const spot = `${x(point.at).toFixed(1)} ${y(point.value).toFixed(1)}`;
    if (!before) began = x(point.at);
    path += `${before ? "L" : "M"}${spot}`;
    area += `${before ? "L" : `M${began.toFixed(1)} ${H}L`}${spot}`;
    before = point;
  }
  if (before) area += `L${x(before.at).toFixed(1)} ${H}L${began.toFixed(1)} ${H}Z`;
  const last = known[known.length - 1];
  const read = hover.value ?? last;
  return (
    <figure class="chart">
      <figcaption>
        <h3>{props.title}</h3>
        <span class="number">
          {read?.value == null ? "no samples" : props.format(read.value)}
          {hover.value ? <span class="faint"> {clock(hover.value.at)}</span> : null}
        </span>
      </figcaption>
      <svg
        viewBox={`0 0 ${W} ${H}`}
        preserveAspectRatio="none"
        role="img"
        aria-label={`${props.title} from ${clock(props.from)} to ${clock(props.to)}, now ${last?.value == null ? "unknown" : props.format(last.value)}, scale to ${props.format(top)}`}
        onPointerMove={(event) => {
          const rect = event.currentTarget.getBoundingClientRect();
          const at = props.from + ((event.clientX - rect.left) / rect.width) * (props.to - props.from);
          let best: Point | null = null;
          for (const each of known) if (!best || Math.abs(each.at - at) < Math.abs(best.at - at)) best = each;
          hover.value = best;
        }}
        onPointerLeave={() => (hover.value = null)}
      >
        <line class="grid" x1="0" x2={W} y1={y(top)} y2={y(top)} />
        <line class="grid" x1="0" x2={W} y1={y(top / 2)} y2={y(top / 2)} />
        <line class="grid" x1="0" x2={W} y1={H - 0.5} y2={H - 0.5} />
        <path class="area" d={area} />
        <path class="stroke" d={path} />
        {hover.value?.value != null ? <line class="at" x1={x(hover.value.at)} x2={x(hover.value.at)} y1="0" y2={H} /> : null}
      </svg>
      <span class="ceiling faint number" aria-hidden="true">
        {props.format(top)}
      </span>
    </figure>
  );
}

function typical(points: Point[]): number {
  const steps = points.slice(1).map((each, i) => each.at - (points[i]?.at ?? each.at));
  steps.sort((a, b) => a - b);
  return Math.max(1000, steps[steps.length >> 1] ?? 10_000);
}
