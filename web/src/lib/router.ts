// Where we are: `/`, `/camera/{name}`, `/recordings`. `serve` answers those paths with the dashboard.
import { signal } from "@preact/signals";

export type Route =
  | { page: "wall" }
  | { page: "camera"; name: string; at: number | null }
  | { page: "recordings" }
  | { page: "nowhere" };

export function parse(path: string, query = ""): Route {
  if (path === "/" || path === "/index.html") return { page: "wall" };
  if (path === "/recordings") return { page: "recordings" };
  const camera = /^\/camera\/([^/]+)$/.exec(path);
  if (camera?.[1]) {
    const at = Number(new URLSearchParams(query).get("at"));
    try {
      return { page: "camera", name: decodeURIComponent(camera[1]), at: at > 0 ? at * 1000 : null };
    } catch {
      return { page: "nowhere" };
    }
  }
  return { page: "nowhere" };
}

export const route = signal<Route>(parse(location.pathname, location.search));

export function cameraPath(name: string, at?: number): string {
  const path = `/camera/${encodeURIComponent(name)}`;
  return at === undefined ? path : `${path}?at=${(at / 1000).toFixed(3)}`;
}

export function go(to: string): void {
  if (to !== location.pathname + location.search) history.pushState(null, "", to);
  route.value = parse(location.pathname, location.search);
  scrollTo(0, 0);
}

/** Clicks on links of our own stay in the page; everything else is the browser's. */
export function catchLinks(): void {
  addEventListener("popstate", () => (route.value = parse(location.pathname, location.search)));
  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    if (!link || event.defaultPrevented || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (parse(link.pathname).page === "nowhere") return;
    event.preventDefault();
    go(link.pathname + link.search);
  });
}
