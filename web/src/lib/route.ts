// Paths of pages: `/`, `/camera/{name}`, `/recordings`. `serve` answers all of them with the dashboard.

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

export function cameraPath(name: string, at?: number): string {
  const path = `/camera/${encodeURIComponent(name)}`;
  return at === undefined ? path : `${path}?at=${(at / 1000).toFixed(3)}`;
}
