// The parts that pages are made of.
import { signal } from "@preact/signals";
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { messageOf } from "../lib/api";
import { type State, TONE, type Tone } from "../lib/model";
import { may, type Role } from "../lib/session";
import { Icon, type IconName } from "./icons";

export function StateChip({ state, label }: { state: State; label?: string }): JSX.Element {
  return <span class={`chip ${TONE[state]}`}>{label ?? state}</span>;
}

export function Note({ tone = "info", children }: { tone?: Tone | "info"; children: ComponentChildren }): JSX.Element {
  const icon: IconName = tone === "good" ? "check" : tone === "info" || tone === "busy" ? "info" : "warn";
  return (
    <div class={`note ${tone}`} role={tone === "bad" ? "alert" : "status"}>
      <Icon name={icon} />
      <div>{children}</div>
    </div>
  );
}

export function Empty(props: { icon: IconName; title: string; children?: ComponentChildren; action?: ComponentChildren }): JSX.Element {
  return (
    <div class="empty">
      <Icon name={props.icon} />
      <h2>{props.title}</h2>
      {props.children ? <p>{props.children}</p> : null}
      {props.action}
    </div>
  );
}

// --- short messages at the bottom

interface Toast {
  id: number;
  text: string;
  bad: boolean;
}

const toasts = signal<Toast[]>([]);
let nextToast = 1;

export function toast(text: string, bad = false): void {
  const id = nextToast++;
  toasts.value = [...toasts.value.slice(-2), { id, text, bad }];
  setTimeout(() => (toasts.value = toasts.value.filter((each) => each.id !== id)), bad ? 9000 : 4000);
}

/** Does something that can fail; says so when it does. Returns whether it went well. */
export async function attempt(what: string, act: () => Promise<unknown>, done?: string): Promise<boolean> {
  try {
    await act();
    if (done) toast(done);
    return true;
  } catch (error) {
    toast(`${what}: ${messageOf(error)}`, true);
    return false;
  }
}

export function Toasts(): JSX.Element {
  return (
    <div class="toasts" aria-live="polite">
      {toasts.value.map((each) => (
        <div key={each.id} class={`toast ${each.bad ? "bad" : ""}`} role={each.bad ? "alert" : "status"}>
          <Icon name={each.bad ? "warn" : "check"} />
          <span>{each.text}</span>
        </div>
      ))}
    </div>
  );
}

// --- dialogues

export function Dialog(props: { title: string; onClose: () => void; children: ComponentChildren; class?: string }): JSX.Element {
  const ref = useRef<HTMLDialogElement>(null);
  const title = useId();
  useEffect(() => {
    const dialog = ref.current;
    dialog?.showModal();
    return () => dialog?.close();
  }, []);
  return (
    <dialog
      ref={ref}
      class={props.class}
      aria-labelledby={title}
      onCancel={(event) => {
        event.preventDefault();
        props.onClose();
      }}
      onClick={(event) => {
        if (event.target === event.currentTarget) props.onClose();
      }}
    >
      <div class="body">
        <header>
          <h2 id={title}>{props.title}</h2>
          <button type="button" class="button quiet square" aria-label="Close" onClick={props.onClose}>
            <Icon name="close" />
          </button>
        </header>
        {props.children}
      </div>
    </dialog>
  );
}

/** Asks before something that cannot be undone. */
export function Confirm(props: {
  title: string;
  children: ComponentChildren;
  action: string;
  onConfirm: () => Promise<unknown>;
  onClose: () => void;
}): JSX.Element {
  const [busy, setBusy] = useState(false);
  const [wrong, setWrong] = useState<string | null>(null);
  const confirm = async (): Promise<void> => {
    setBusy(true);
    setWrong(null);
    try {
      await props.onConfirm();
      props.onClose();
    } catch (error) {
      setWrong(messageOf(error));
      setBusy(false);
    }
  };
  return (
    <Dialog title={props.title} onClose={props.onClose}>
      <div class="soft">{props.children}</div>
      {wrong ? <Note tone="bad">{wrong}</Note> : null}
      <footer>
        <button type="button" class="button" onClick={props.onClose}>
          Cancel
        </button>
        <button type="button" class="button danger primary" disabled={busy} onClick={() => void confirm()}>
          {busy ? <Icon name="busy" /> : null}
          {props.action}
        </button>
      </footer>
    </Dialog>
  );
}

export function Field(props: { label: string; hint?: ComponentChildren | undefined; wrong?: string | null; children: JSX.Element }): JSX.Element {
  return (
    <label class="field">
      <span>{props.label}</span>
      {props.children}
      {props.wrong ? <small class="wrong">{props.wrong}</small> : props.hint ? <small>{props.hint}</small> : null}
    </label>
  );
}

export interface MenuItem {
  label: string;
  icon: IconName;
  danger?: boolean;
  disabled?: boolean;
  /** Who may have it; others do not see it. */
  needs?: Role;
  href?: string;
  act?: () => void;
}

export function Menu({ label, items: all }: { label: string; items: MenuItem[] }): JSX.Element | null {
  const items = all.filter((each) => !each.needs || may(each.needs));
  const [open, setOpen] = useState(false);
  const ref = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!open) return;
    ref.current?.querySelector<HTMLElement>("[role=menuitem]:not(:disabled)")?.focus();
    const away = (event: Event): void => {
      if (event.target instanceof Node && !ref.current?.contains(event.target)) setOpen(false);
    };
    document.addEventListener("pointerdown", away);
    return () => document.removeEventListener("pointerdown", away);
  }, [open]);
  const keys = (event: KeyboardEvent): void => {
    if (!open) return;
    const all = [...(ref.current?.querySelectorAll<HTMLElement>("[role=menuitem]:not(:disabled)") ?? [])];
    const at = all.indexOf(document.activeElement as HTMLElement);
    if (event.key === "Escape") {
      setOpen(false);
      ref.current?.querySelector("button")?.focus();
    } else if (event.key === "ArrowDown") all[(at + 1) % all.length]?.focus();
    else if (event.key === "ArrowUp") all[(at - 1 + all.length) % all.length]?.focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  if (items.length === 0) return null;
  return (
    <div class="menu" ref={ref} onKeyDown={keys}>
      <button
        type="button"
        class="button square"
        aria-haspopup="menu"
        aria-expanded={open}
        aria-label={label}
        onClick={() => setOpen(!open)}
      >
        <Icon name="more" />
      </button>
      {open ? (
        <div role="menu" aria-label={label}>
          {items.map((item) =>
            item.href ? (
              <a key={item.label} role="menuitem" href={item.href} download onClick={() => setOpen(false)}>
                <Icon name={item.icon} />
                {item.label}
              </a>
            ) : (
              <button
                key={item.label}
                type="button"
                role="menuitem"
                class={item.danger ? "danger" : ""}
                disabled={item.disabled ?? false}
                onClick={() => {
                  setOpen(false);
                  item.act?.();
                }}
              >
                <Icon name={item.icon} />
                {item.label}
              </button>
            ),
          )}
        </div>
      ) : null}
    </div>
  );
}

/** The time, again every so often, for texts like "3 s ago". */
export function useNow(every = 1000): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const tick = setInterval(() => setNow(Date.now()), every);
    return () => clearInterval(tick);
  }, [every]);
  return now;
}
