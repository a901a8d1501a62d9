// A camera's newest picture, asked for again and again: only while it can be seen, only a few at once.
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { url } from "../lib/api";

/** Decoding pictures costs the box: no more than this many requests at once, whatever the wall's size. */
const AT_ONCE = 4;
let running = 0;
const queue: (() => void)[] = [];

async function turn(): Promise<() => void> {
  if (running >= AT_ONCE) await new Promise<void>((resolve) => queue.push(resolve));
  running += 1;
  return () => {
    running -= 1;
    queue.shift()?.();
  };
}

interface Props {
  camera: string;
  /** Milliseconds between two pictures. */
  every: number;
  width: number;
  active: boolean;
  onPicture?: (shown: boolean) => void;
}

export function Picture(props: Props): JSX.Element {
  const ref = useRef<HTMLImageElement>(null);
  const [shown, setShown] = useState(false);
  const { camera, every, width, active, onPicture } = props;
  useEffect(() => {
    const image = ref.current;
    if (!image || !active) return;
    let visible = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let busy = false;
    let kept: string | null = null;
    const stop = new AbortController();
    const next = async (): Promise<void> => {
      if (busy || !visible || document.visibilityState !== "visible") return;
      busy = true;
      const release = await turn();
      const began = Date.now();
      let ok = false;
      try {
        if (!stop.signal.aborted) {
          const answer = await fetch(url.snapshot(camera, undefined, width), { signal: stop.signal, cache: "no-store" });
          if (answer.ok) {
            const made = URL.createObjectURL(await answer.blob());
            image.src = made;
            await image.decode().catch(() => undefined);
            if (kept) URL.revokeObjectURL(kept);
            kept = made;
            ok = true;
          } else await answer.body?.cancel();
        }
      } catch {
        // the wall says how the camera is; the picture that was there stays
      } finally {
        release();
        busy = false;
      }
      if (stop.signal.aborted) return;
      if (ok) setShown(true);
      onPicture?.(ok);
      timer = setTimeout(() => void next(), Math.max(100, (ok ? every : Math.max(every, 3000)) - (Date.now() - began)));
    };
    const observer = new IntersectionObserver((entries) => {
      visible = entries.some((entry) => entry.isIntersecting);
      if (visible) void next();
    });
    observer.observe(image);
    const back = (): void => void next();
    document.addEventListener("visibilitychange", back);
    return () => {
      stop.abort();
      clearTimeout(timer);
      observer.disconnect();
      document.removeEventListener("visibilitychange", back);
      if (kept) URL.revokeObjectURL(kept);
    };
  }, [camera, every, width, active]);
  return <img ref={ref} alt="" style={{ visibility: shown ? "visible" : "hidden" }} />;
}
