// In the place of every page while nobody is logged in; the address stays.
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { api, messageOf } from "../lib/api";
import { session, toSession } from "../lib/session";
import { Logo } from "../ui/icons";
import { Field, Note } from "../ui/parts";

export function Login(): JSX.Element {
  const name = useSignal("");
  const password = useSignal("");
  const error = useSignal<string | null>(null);
  const busy = useSignal(false);
  const first = useRef<HTMLInputElement>(null);
  const second = useRef<HTMLInputElement>(null);
  useEffect(() => {
    document.title = "Log in · camring";
    first.current?.focus();
  }, []);
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    if (busy.value) return;
    busy.value = true;
    error.value = null;
    try {
      session.value = toSession(await api.logIn(name.value, password.value));
    } catch (problem) {
      error.value = messageOf(problem);
      password.value = "";
      second.current?.focus();
    } finally {
      busy.value = false;
    }
  };
  return (
    <main id="main" class="login" tabIndex={-1}>
      <form class="card" aria-labelledby="log-in" onSubmit={(event) => void submit(event)}>
        <h1 id="log-in">
          <Logo /> Log in
        </h1>
        <Field label="Name">
          <input
            ref={first}
            class="input"
            name="username"
            autoComplete="username"
            autoCapitalize="none"
            spellcheck={false}
            required
            value={name.value}
            onInput={(event) => (name.value = event.currentTarget.value)}
          />
        </Field>
        <Field label="Password">
          <input
            ref={second}
            class="input"
            type="password"
            name="password"
            autoComplete="current-password"
            required
            value={password.value}
            onInput={(event) => (password.value = event.currentTarget.value)}
          />
        </Field>
        {error.value ? <Note tone="bad">{error.value}</Note> : null}
        <button type="submit" class="button primary" disabled={busy.value}>
          Log in
        </button>
      </form>
    </main>
  );
}
