// Icons, drawn here: 24 x 24, lines of 1.75.
import type { JSX } from "preact";

const PATHS = {
  play: "M7 5.2v13.6c0 .8.9 1.3 1.6.8l10-6.8a1 1 0 0 0 0-1.6l-10-6.8A1 1 0 0 0 7 5.2Z",
  pause: "M8 5v14M16 5v14",
  add: "M12 5v14M5 12h14",
  more: "M12 5.5h.01M12 12h.01M12 18.5h.01",
  close: "M6 6l12 12M18 6 6 18",
  check: "M5 12.5 10 17.5 19 7",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8ZM12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M18.7 5.3l-1.4 1.4M6.7 17.3l-1.4 1.4",
  moon: "M20 14.5A8.3 8.3 0 0 1 9.5 4a8.3 8.3 0 1 0 10.5 10.5Z",
  system: "M4 5h16v11H4zM9 20h6M12 16v4",
  grid: "M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z",
  film: "M4 5h16v14H4zM8 5v14M16 5v14M4 9.7h4M4 14.3h4M16 9.7h4M16 14.3h4",
  camera: "M3 8.5A1.5 1.5 0 0 1 4.5 7h9A1.5 1.5 0 0 1 15 8.5v7a1.5 1.5 0 0 1-1.5 1.5h-9A1.5 1.5 0 0 1 3 15.5ZM15 11l6-3v8l-6-3",
  warn: "M12 4 2.8 19.5h18.4ZM12 10v4.5M12 17.2h.01",
  info: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18ZM12 11v5.5M12 7.8h.01",
  offline: "M4 4l16 16M8.5 15.5a5 5 0 0 1 6.6-.3M5.5 12a9.5 9.5 0 0 1 4-2.3M14 9.5a9.5 9.5 0 0 1 4.5 2.5M12 19h.01",
  trash: "M5 7h14M10 7V4.5h4V7M7 7l.8 12.5h8.4L17 7M10.5 10.5v5.5M13.5 10.5v5.5",
  pencil: "M4.5 19.5l1-4L16 5l3 3L8.5 18.5ZM14 7l3 3",
  flag: "M6 20.5V4h11.5l-2.5 4 2.5 4H6",
  lock: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
  download: "M12 4v11M7.5 11l4.5 4.5L16.5 11M5 19.5h14",
  stepBack: "M17 6v12L8.5 12ZM6 6v12",
  stepForward: "M7 6v12l8.5-6ZM18 6v12",
  nextMarker: "M5 6l6 6-6 6M17 5v14M14 5h6",
  previousMarker: "M19 6l-6 6 6 6M7 5v14M4 5h6",
  fullscreen: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  sound: "M4 9.5h3.5L12 6v12l-4.5-3.5H4zM15.5 9.5a4 4 0 0 1 0 5M18 7a7.5 7.5 0 0 1 0 10",
  mute: "M4 9.5h3.5L12 6v12l-4.5-3.5H4zM16 9.5l5 5M21 9.5l-5 5",
  restart: "M19.5 12a7.5 7.5 0 1 1-2.2-5.3L19.5 9M19.5 4v5h-5",
  stop: "M6 6h12v12H6z",
  search: "M10.5 4.5a6 6 0 1 0 0 12 6 6 0 0 0 0-12ZM15 15l5 5",
  range: "M5 5v14M19 5v14M5 12h14M8.5 9 5.5 12l3 3M15.5 9l3 3-3 3",
  zoomIn: "M12 6v12M6 12h12",
  zoomOut: "M6 12h12",
  keyboard: "M3 7h18v10H3zM6.5 10.5h.01M10 10.5h.01M13.5 10.5h.01M17 10.5h.01M8 14h8",
  eye: "M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12ZM12 9.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6Z",
} as const;

export type IconName = keyof typeof PATHS | "busy";

const SOLID = new Set<IconName>(["play"]);

export function Icon({ name }: { name: IconName }): JSX.Element {
  if (name === "busy") {
    return (
      <svg class="icon spin" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2.25" aria-hidden="true">
        <circle cx="12" cy="12" r="8.5" opacity=".25" />
        <path d="M20.5 12A8.5 8.5 0 0 0 12 3.5" stroke-linecap="round" />
      </svg>
    );
  }
  const wide = name === "more" || name === "pause";
  return (
    <svg
      class="icon"
      viewBox="0 0 24 24"
      fill={SOLID.has(name) ? "currentColor" : "none"}
      stroke="currentColor"
      stroke-width={wide ? 2.75 : 1.75}
      stroke-linecap="round"
      stroke-linejoin="round"
      aria-hidden="true"
    >
      <path d={PATHS[name]} />
    </svg>
  );
}

export function Logo(): JSX.Element {
  return (
    <svg viewBox="0 0 32 32" aria-hidden="true">
      <circle
        cx="16" cy="16" r="12" fill="none" stroke="currentColor" stroke-width="5"
        stroke-dasharray="15.5 3.35" transform="rotate(-90 16 16)"
      />
      <circle cx="16" cy="16" r="4" fill="currentColor" />
    </svg>
  );
}
