// Light, dark, or as the system says; kept in this browser.
import { effect, signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";
const KEY = "camring.theme";
const ORDER: Theme[] = ["system", "light", "dark"];

function read(): Theme {
  try {
    const kept = localStorage.getItem(KEY);
    return ORDER.find((theme) => theme === kept) ?? "system";
  } catch {
    return "system"; // storage may be forbidden
  }
}

export const theme = signal<Theme>(read());

effect(() => {
  const chosen = theme.value;
  if (chosen === "system") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.setAttribute("data-theme", chosen);
  try {
    localStorage.setItem(KEY, chosen);
  } catch {
    // only this page then
  }
});

export function nextTheme(): void {
  theme.value = ORDER[(ORDER.indexOf(theme.value) + 1) % ORDER.length] ?? "system";
}
