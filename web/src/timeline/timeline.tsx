// What was recorded, its gaps and markers, and where the player is: one line to move along. Wheel or pinch
// zooms, dragging moves, a click goes there; keys do the same.
import type { Signal } from "@preact/signals";
import { useSignal, useSignalEffect } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { type Marker, markerTime } from "../lib/api";
import { hue } from "../lib/format";
import type { Timeline as Data, Span } from "../lib/model";
import { clock, clockExact, dayInWords, duration, parseTime } from "../lib/time";
import { clamp, cluster, pan, ticks, timeAt, type View, xOf, zoom } from "./scale";
import { cellAt, COLUMNS, ROWS, Storyboard, WIDTH } from "./storyboard";

const HEIGHT = 92;
const AXIS = 22;
const LANE = { top: 50, height: 26 };
const PIN = { y: 37, radius: 6 };
const CLICK_PX = 4;

interface Props {
  camera: string;
  data: Signal<Data | null>;
  markers: Signal<Marker[]>;
  view: Signal<View>;
  shown: Signal<number | null>;
  live: Signal<boolean>;
  selection: Signal<Span | null>;
  selecting: Signal<boolean>;
  onSeek: (at: number) => void;
  onMarker: (marker: Marker) => void;
}

interface Hover {
  x: number;
  at: number;
  markers: Marker[];
  width: number;
}

export function Timeline(props: Props): JSX.Element {
  const { data, markers, view, shown, live, selection, selecting } = props;
  const canvas = useRef<HTMLCanvasElement>(null);
  const box = useRef<HTMLDivElement>(null);
  const hover = useSignal<Hover | null>(null);
  const width = useSignal(800);
  const theme = useSignal(0);
  const board = useMemo(() => new Storyboard(props.camera), [props.camera]);
  const limits = (): [number, number] => {
    const now = Date.now();
    const known = data.peek();
    return [Math.min(known?.first ?? now, now), now];
  };
  const show = (next: View): void => {
    view.value = clamp(next, ...limits());
  };

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const observer = new ResizeObserver(() => (width.value = element.clientWidth));
    observer.observe(element);
    // Colours are read when drawing: draw again when they change.
    const redraw = (): void => void (theme.value += 1);
    const media = matchMedia("(prefers-color-scheme: dark)");
    media.addEventListener("change", redraw);
    const attribute = new MutationObserver(redraw);
    attribute.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    return () => {
      observer.disconnect();
      media.removeEventListener("change", redraw);
      attribute.disconnect();
    };
  }, []);

  useSignalEffect(() => {
    const element = canvas.current;
    const context = element?.getContext("2d");
    if (!element || !context) return;
    draw(context, element, width.value, {
      theme: theme.value,
      view: view.value,
      data: data.value,
      markers: markers.value,
      shown: shown.value,
      live: live.value,
      selection: selection.value,
      hover: hover.value?.x ?? null,
    });
  });

  // --- pointer

  const pointers = useRef(new Map<number, number>());
  const drag = useRef<{ x: number; view: View; moved: boolean; what: "pan" | "from" | "to" | "new" | "pinch"; at: number; far: number } | null>(null);
  const place = (event: { clientX: number }): number => event.clientX - (box.current?.getBoundingClientRect().left ?? 0);

  const near = (x: number, y: number): Marker[] => {
    if (y > LANE.top) return [];
    const found = clusters(view.peek(), width.peek(), markers.peek()).find((each) => Math.abs(each.x - x) <= PIN.radius + 4);
    return found?.members ?? [];
  };

  const down = (event: PointerEvent): void => {
    if (event.button !== 0) return;
    box.current?.setPointerCapture(event.pointerId);
    const x = place(event);
    pointers.current.set(event.pointerId, x);
    const at = timeAt(view.peek(), width.peek(), x);
    if (pointers.current.size === 2) {
      const [a = 0, b = 0] = [...pointers.current.values()];
      const middle = timeAt(view.peek(), width.peek(), (a + b) / 2);
      drag.current = { x, view: view.peek(), moved: true, what: "pinch", at: middle, far: Math.abs(a - b) };
      return;
    }
    let what: "pan" | "from" | "to" | "new" = "pan";
    const chosen = selection.peek();
    if (chosen) {
      if (Math.abs(xOf(view.peek(), width.peek(), chosen.from) - x) < 10) what = "from";
      else if (Math.abs(xOf(view.peek(), width.peek(), chosen.to) - x) < 10) what = "to";
    }
    if (what === "pan" && (selecting.peek() || event.shiftKey)) what = "new";
    drag.current = { x, view: view.peek(), moved: false, what, at, far: 0 };
  };

  const move = (event: PointerEvent): void => {
    const x = place(event);
    const y = event.clientY - (box.current?.getBoundingClientRect().top ?? 0);
    const at = timeAt(view.peek(), width.peek(), x);
    if (pointers.current.has(event.pointerId)) pointers.current.set(event.pointerId, x);
    const dragging = drag.current;
    if (dragging) {
      if (dragging.what === "pinch") {
        const [a = 0, b = 0] = [...pointers.current.values()];
        show(zoom(dragging.view, dragging.at, dragging.far / Math.max(10, Math.abs(a - b))));
        return;
      }
      if (Math.abs(x - dragging.x) > CLICK_PX) dragging.moved = true;
      if (!dragging.moved) return;
      const chosen = selection.peek();
      if (dragging.what === "pan") {
        const span = dragging.view.to - dragging.view.from;
        show(pan(dragging.view, ((dragging.x - x) / width.peek()) * span));
      } else if (dragging.what === "new") {
        selection.value = { from: Math.min(dragging.at, at), to: Math.max(dragging.at, at) };
      } else if (chosen) {
        const other = dragging.what === "from" ? chosen.to : chosen.from;
        dragging.what = at < other ? "from" : "to";
        selection.value = { from: Math.min(other, at), to: Math.max(other, at) };
      }
      hover.value = null;
      return;
    }
    if (event.pointerType !== "touch") hover.value = { x, at, markers: near(x, y), width: width.peek() };
  };

  const up = (event: PointerEvent): void => {
    pointers.current.delete(event.pointerId);
    const dragging = drag.current;
    drag.current = null;
    if (!dragging || dragging.moved) return;
    const x = place(event);
    const y = event.clientY - (box.current?.getBoundingClientRect().top ?? 0);
    const found = near(x, y);
    if (found.length === 1 && found[0]) return props.onMarker(found[0]);
    if (found.length > 1) {
      const times = found.map(markerTime);
      const [from, to] = [Math.min(...times), Math.max(...times)];
      if (to - from > 1000) return show({ from: from - (to - from) * 0.5, to: to + (to - from) * 0.5 });
      if (found[0]) return props.onMarker(found[0]);
    }
    props.onSeek(timeAt(view.peek(), width.peek(), x));
  };

  const wheel = (event: WheelEvent): void => {
    event.preventDefault();
    const x = place(event);
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      const span = view.peek().to - view.peek().from;
      show(pan(view.peek(), (event.deltaX / width.peek()) * span));
    } else {
      const amount = Math.min(60, Math.max(-60, event.deltaY));
      show(zoom(view.peek(), timeAt(view.peek(), width.peek(), x), Math.exp(amount / 180)));
    }
  };

  useEffect(() => {
    const element = box.current;
    element?.addEventListener("wheel", wheel, { passive: false });
    return () => element?.removeEventListener("wheel", wheel);
  }, []);

  const at = shown.value;
  const [first, last] = limits();
  return (
    <div class="timeline">
      <div
        ref={box}
        class={`line ${selecting.value ? "selecting" : ""}`}
        role="slider"
        tabIndex={0}
        aria-label="Timeline: time of the picture"
        aria-valuemin={Math.round(first / 1000)}
        aria-valuemax={Math.round(last / 1000)}
        aria-valuenow={Math.round((at ?? last) / 1000)}
        aria-valuetext={live.value ? "live" : at === null ? "nothing yet" : `${dayInWords(at)} ${clock(at)}`}
        onPointerDown={down}
        onPointerMove={move}
        onPointerUp={up}
        onPointerCancel={(event) => {
          pointers.current.delete(event.pointerId);
          drag.current = null;
        }}
        onPointerLeave={() => (hover.value = null)}
      >
        <canvas ref={canvas} height={HEIGHT} aria-hidden="true" />
        {hover.value ? <Peek hover={hover.value} view={view.value} board={board} data={data.value} /> : null}
      </div>
    </div>
  );
}

/** The little picture above the pointer. */
function Peek({ hover, view, board, data }: { hover: Hover; view: View; board: Storyboard; data: Data | null }): JSX.Element {
  const ref = useRef<HTMLCanvasElement>(null);
  const state = useSignal<"none" | "loading" | "ready" | "failed">("none");
  const recorded = data?.recorded.some((each) => each.from <= hover.at && each.to >= hover.at) ?? false;
  const cell = cellAt(view, hover.width, hover.at);
  const marker = hover.markers[0];
  useEffect(() => {
    if (!recorded) {
      state.value = "none";
      return;
    }
    let gone = false;
    const paint = (): void => {
      if (gone) return;
      const sheet = board.sheet(cell, paint);
      state.value = sheet.state;
      const target = ref.current;
      const context = target?.getContext("2d");
      if (sheet.state !== "ready" || !target || !context) return;
      const [w, h] = [sheet.image.naturalWidth / COLUMNS, sheet.image.naturalHeight / ROWS];
      target.width = w;
      target.height = h;
      context.drawImage(sheet.image, (cell.index % COLUMNS) * w, Math.floor(cell.index / COLUMNS) * h, w, h, 0, 0, w, h);
    };
    // Only where the pointer rests: passing by costs the box nothing.
    const rest = setTimeout(paint, 90);
    return () => {
      gone = true;
      clearTimeout(rest);
    };
  }, [recorded, cell.from, cell.to, cell.index]);
  const half = WIDTH / 2 + 6;
  const left = Math.min(Math.max(hover.x, half), Math.max(half, hover.width - half));
  const visible = recorded && state.value !== "failed";
  return (
    <div class="peek" style={{ left: `${left}px` }} aria-hidden="true">
      {visible ? <canvas ref={ref} class={state.value === "ready" ? "" : "loading"} width={WIDTH} height={Math.round((WIDTH * 9) / 16)} /> : null}
      {marker ? (
        <strong>
          {marker.label}
          {hover.markers.length > 1 ? ` and ${hover.markers.length - 1} more` : ""}
        </strong>
      ) : null}
      <span class="number">
        {dayInWords(hover.at)} {view.to - view.from < 120_000 ? clockExact(hover.at) : clock(hover.at)}
      </span>
      {recorded ? null : <span class="nothing">not recorded</span>}
    </div>
  );
}

function clusters(view: View, width: number, markers: Marker[]): { x: number; members: Marker[] }[] {
  const margin = (view.to - view.from) * 0.02;
  const visible = markers.filter((each) => {
    const at = markerTime(each);
    return at >= view.from - margin && at <= view.to + margin;
  });
  return cluster(visible, (each) => xOf(view, width, markerTime(each)), 14);
}

interface Picture {
  /** Only so that a change of theme draws anew. */
  theme: number;
  view: View;
  data: Data | null;
  markers: Marker[];
  shown: number | null;
  live: boolean;
  selection: Span | null;
  hover: number | null;
}

function draw(context: CanvasRenderingContext2D, canvas: HTMLCanvasElement, width: number, at: Picture): void {
  const ratio = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(HEIGHT * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(HEIGHT * ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${HEIGHT}px`;
  }
  const style = getComputedStyle(canvas);
  const colour = (name: string): string => style.getPropertyValue(name).trim();
  const dark = style.colorScheme === "dark" || (style.colorScheme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  const x = (instant: number): number => xOf(at.view, width, instant);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, HEIGHT);
  context.font = `11px ${style.getPropertyValue("--font")}`;
  context.textBaseline = "middle";

  for (const tick of ticks(at.view, width)) {
    const left = Math.round(x(tick.at)) + 0.5;
    context.strokeStyle = colour(tick.major ? "--line-strong" : "--line");
    context.beginPath();
    context.moveTo(left, AXIS - 2);
    context.lineTo(left, HEIGHT);
    context.stroke();
    context.fillStyle = colour(tick.major ? "--text" : "--faint");
    context.textAlign = "center";
    if (left > 18 && left < width - 18) context.fillText(tick.label, left, AXIS / 2);
  }

  context.fillStyle = colour("--sunken");
  round(context, 0, LANE.top, width, LANE.height, 5);
  context.fill();
  context.save();
  round(context, 0, LANE.top, width, LANE.height, 5);
  context.clip();
  context.fillStyle = colour("--recorded");
  for (const span of at.data?.recorded ?? []) {
    if (span.to < at.view.from || span.from > at.view.to) continue;
    const left = x(span.from);
    context.fillRect(left, LANE.top, Math.max(1.5, x(span.to) - left), LANE.height);
  }
  // What has an end is a range on the lane.
  for (const marker of at.markers) {
    const end = parseTime(marker.end);
    if (end === null) continue;
    const from = markerTime(marker);
    if (end < at.view.from || from > at.view.to) continue;
    context.fillStyle = `hsl(${hue(marker.label)} 75% ${dark ? 68 : 38}% / 75%)`;
    context.fillRect(x(from), LANE.top + LANE.height - 5, Math.max(2, x(end) - x(from)), 5);
  }
  context.restore();

  if (at.selection) {
    const [left, right] = [x(at.selection.from), x(at.selection.to)];
    context.fillStyle = `color-mix(in srgb, ${colour("--warn")} 28%, transparent)`;
    context.fillRect(left, LANE.top - 4, right - left, LANE.height + 8);
    context.fillStyle = colour("--warn");
    for (const edge of [left, right]) {
      context.fillRect(edge - 1, LANE.top - 6, 2, LANE.height + 12);
      round(context, edge - 5, LANE.top + LANE.height / 2 - 9, 10, 18, 3);
      context.fill();
    }
    context.fillStyle = colour("--text");
    context.textAlign = "center";
    context.fillText(duration(at.selection.to - at.selection.from), (left + right) / 2, HEIGHT - 6);
  }

  for (const each of clusters(at.view, width, at.markers)) {
    const first = each.members[0];
    if (!first) continue;
    const same = each.members.every((member) => member.label === first.label);
    context.fillStyle = same ? `hsl(${hue(first.label)} 75% ${dark ? 68 : 38}%)` : colour("--soft");
    context.fillRect(each.x - 0.75, PIN.y, 1.5, LANE.top + LANE.height - PIN.y);
    context.beginPath();
    context.arc(each.x, PIN.y, each.members.length > 1 ? PIN.radius + 2 : PIN.radius - 1, 0, 2 * Math.PI);
    context.fill();
    if (each.members.length > 1) {
      context.fillStyle = colour("--surface");
      context.textAlign = "center";
      context.font = `600 9px ${style.getPropertyValue("--font")}`;
      context.fillText(each.members.length > 99 ? "99" : String(each.members.length), each.x, PIN.y + 0.5);
      context.font = `11px ${style.getPropertyValue("--font")}`;
    }
  }

  if (at.hover !== null) {
    context.fillStyle = colour("--faint");
    context.fillRect(Math.round(at.hover), AXIS, 1, HEIGHT - AXIS);
  }
  if (at.shown !== null) {
    const left = x(at.shown);
    context.fillStyle = at.live ? colour("--bad") : colour("--text");
    context.fillRect(left - 1, AXIS, 2, HEIGHT - AXIS);
    context.beginPath();
    context.moveTo(left - 6, AXIS - 3);
    context.lineTo(left + 6, AXIS - 3);
    context.lineTo(left, AXIS + 5);
    context.closePath();
    context.fill();
  }
}

function round(context: CanvasRenderingContext2D, x: number, y: number, w: number, h: number, r: number): void {
  context.beginPath();
  context.roundRect(x, y, w, h, r);
}
