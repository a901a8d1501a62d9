// The frame around every page: where one can go, how the disk is, whether the daemon answers.
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { AddCamera } from "./dialogs/camera-form";
import { bytes } from "./lib/format";
import { route } from "./lib/router";
import { locked, may, session } from "./lib/session";
import { disk, link, logOut, site, troubled } from "./lib/state";
import { nextTheme, theme } from "./lib/theme";
import { CameraPage } from "./pages/camera";
import { Login } from "./pages/login";
import { RecordingsPage } from "./pages/recordings";
import { Wall } from "./pages/wall";
import { Icon, Logo } from "./ui/icons";
import { attempt, Empty, Toasts } from "./ui/parts";

const THEME_ICON = { system: "system", light: "sun", dark: "moon" } as const;

function DiskGauge(): JSX.Element | null {
  const at = disk.value;
  if (at?.free == null) return null;
  const total = at.total ?? (at.used ?? 0) + at.free;
  const share = total > 0 ? 1 - at.free / total : 0;
  const title = at.trouble ?? `${bytes(at.used ?? 0)} of recordings, ${bytes(at.free)} free`;
  return (
    <a class="disk" href="/recordings" title={title} style={{ textDecoration: "none" }}>
      <span class="number">{bytes(at.free)} free</span>
      <span class={`bar ${at.trouble || share > 0.95 ? "warn" : ""}`}>
        <i style={{ width: `${Math.round(share * 100)}%` }} />
      </span>
    </a>
  );
}

export function App(): JSX.Element {
  return locked.value ? (
    <>
      <Login />
      <Toasts />
    </>
  ) : (
    <Pages />
  );
}

/** Who is logged in, and the way out. */
function Who(): JSX.Element | null {
  const name = session.value?.name;
  if (!name) return null;
  return (
    <>
      <span class="who" title={`${name}, ${session.value?.role ?? ""}`}>
        {name}
      </span>
      <button type="button" class="button quiet" onClick={() => void attempt("Still logged in", logOut)}>
        Log out
      </button>
    </>
  );
}

function Pages(): JSX.Element {
  const at = route.value;
  const adding = useSignal(false);
  const title = at.page === "camera" ? at.name : at.page === "recordings" ? "Recordings" : at.page === "wall" ? "Cameras" : "Not found";
  useEffect(() => {
    document.title = `${troubled.value > 0 ? `(${troubled.value}) ` : ""}${title} · ${site.value || "camring"}`;
  }, [title, troubled.value, site.value]);
  return (
    <>
      <a class="skip" href="#main">
        Skip to the page
      </a>
      <header class="top">
        <a class="brand" href="/" aria-label="camring, all cameras">
          <Logo />
          <span>camring{site.value ? <span> {site.value}</span> : null}</span>
        </a>
        <nav aria-label="Pages">
          <a href="/" aria-current={at.page === "wall" ? "page" : undefined}>
            <Icon name="grid" />
            Cameras
          </a>
          <a href="/recordings" aria-current={at.page === "recordings" ? "page" : undefined}>
            <Icon name="film" />
            Recordings
          </a>
        </nav>
        <div class="end">
          <DiskGauge />
          <button
            type="button"
            class="button quiet square"
            aria-label={`Colours: ${theme.value}. Change`}
            title={`Colours: ${theme.value}`}
            onClick={nextTheme}
          >
            <Icon name={THEME_ICON[theme.value]} />
          </button>
          <Who />
          {may("admin") ? (
            <button type="button" class="button primary" onClick={() => (adding.value = true)}>
              <Icon name="add" />
              <span>
                Add<span class="wide"> camera</span>
              </span>
            </button>
          ) : null}
        </div>
      </header>
      {link.value === "gone" ? (
        <div class="gone" role="alert">
          <Icon name="offline" />
          camring does not answer. What you see is from before; trying again.
        </div>
      ) : null}
      <main id="main" tabIndex={-1} class={link.value === "gone" ? "stale" : ""}>
        {at.page === "wall" ? (
          <Wall onAdd={() => (adding.value = true)} />
        ) : at.page === "camera" ? (
          <CameraPage key={at.name} name={at.name} at={at.at} />
        ) : at.page === "recordings" ? (
          <RecordingsPage />
        ) : (
          <Empty icon="search" title="There is no such page" action={<a class="button" href="/">All cameras</a>} />
        )}
      </main>
      {adding.value ? <AddCamera onClose={() => (adding.value = false)} /> : null}
      <Toasts />
    </>
  );
}
