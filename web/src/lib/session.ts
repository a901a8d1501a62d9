// Who one is, as the server says, and what one may do. The server decides; this only hides what it would refuse.
import { computed, signal } from "@preact/signals";

export type Role = "viewer" | "operator" | "admin";

export interface Session {
  /** Whether one must log in to see anything. */
  required: boolean;
  name?: string;
  kind?: string;
  role?: Role;
}

const RANK: Record<Role, number> = { viewer: 0, operator: 1, admin: 2 };

/** Null: not known yet. */
export const session = signal<Session | null>(null);

/** Somebody must log in before anything can be shown. */
export const locked = computed(() => session.value !== null && session.value.required && session.value.role === undefined);

export function may(role: Role): boolean {
  const has = session.value?.role;
  return has !== undefined && RANK[has] >= RANK[role];
}

/** What the server says of a session, whatever it is. */
export function toSession(answer: unknown): Session {
  const raw = (answer ?? {}) as { required?: unknown; name?: unknown; kind?: unknown; role?: unknown };
  const role = typeof raw.role === "string" && raw.role in RANK ? (raw.role as Role) : null;
  return {
    required: raw.required === true,
    ...(typeof raw.name === "string" ? { name: raw.name } : {}),
    ...(typeof raw.kind === "string" ? { kind: raw.kind } : {}),
    ...(role ? { role } : {}),
  };
}

/** An answer was 401: the session is over. The address stays, so one comes back to where one was. */
export function expired(): void {
  session.value = { required: true };
}
