// Where we are, and how to get elsewhere without loading the page again.
import { signal } from "@preact/signals";
import { parse, type Route } from "./route";

export const route = signal<Route>(parse(location.pathname, location.search));

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
