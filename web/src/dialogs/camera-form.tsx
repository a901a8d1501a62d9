// Adding a camera, with a probe first, and changing one.
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { api, messageOf } from "../lib/api";
import type { Camera } from "../lib/model";
import { nameProblem, type Probed, readProbe, recordModeFor, splitLogin, urlProblem } from "../lib/camera-input";
import { cameraPath } from "../lib/route";
import { go } from "../lib/router";
import { cameras, refresh } from "../lib/state";
import { Icon } from "../ui/icons";
import { Dialog, Field, Note, toast } from "../ui/parts";

interface Values {
  name: string;
  url: string;
  user: string;
  password: string;
  transport: string;
  record: string;
}

function Connection({ values, set, wrong, hint, known }: { values: Values; set: (change: Partial<Values>) => void; wrong: string | null; hint?: string; known?: boolean }): JSX.Element {
  return (
    <>
      <Field label="Address" wrong={wrong} hint={hint ?? "As in the camera's manual, such as rtsp://192.0.2.10/stream1"}>
        <input
          class="input mono"
          name="url"
          inputMode="url"
          autoComplete="off"
          spellcheck={false}
          aria-invalid={wrong !== null}
          value={values.url}
          onInput={(event) => set({ url: event.currentTarget.value.trim() })}
          onBlur={() => {
            const parts = splitLogin(values.url);
            if (parts.user) set(parts);
          }}
        />
      </Field>
      <div class="pair">
        <Field label="User" hint="If the camera asks for one">
          <input class="input" name="user" autoComplete="off" value={values.user} onInput={(event) => set({ user: event.currentTarget.value })} />
        </Field>
        <Field label="Password" hint={known ? "Empty: it stays as it is" : undefined}>
          <input
            class="input"
            name="password"
            type="password"
            autoComplete="new-password"
            value={values.password}
            onInput={(event) => set({ password: event.currentTarget.value })}
          />
        </Field>
      </div>
    </>
  );
}

export function AddCamera({ onClose }: { onClose: () => void }): JSX.Element {
  const [values, setValues] = useState<Values>({ name: "", url: "", user: "", password: "", transport: "tcp", record: "copy" });
  const [tried, setTried] = useState(false);
  const [probing, setProbing] = useState(false);
  const [found, setFound] = useState<Partial<Probed> & { wrong: string | null } | null>(null);
  const [saving, setSaving] = useState(false);
  const [wrong, setWrong] = useState<string | null>(null);
  const stop = useRef(new AbortController());
  useEffect(() => () => stop.current.abort(), []);
  const set = (change: Partial<Values>): void => {
    setValues((before) => ({ ...before, ...change }));
    if ("url" in change || "user" in change || "password" in change || "transport" in change) setFound(null);
  };
  const taken = (cameras.value ?? []).map((each) => each.name);
  const badName = tried ? nameProblem(values.name, taken) : null;
  const badUrl = tried ? urlProblem(values.url) : null;
  const settings = (): Record<string, unknown> => ({
    url: values.url,
    ...(values.user ? { username: values.user, password: values.password } : {}),
    ...(values.transport === "tcp" ? {} : { transport: values.transport }),
  });

  const probe = async (): Promise<void> => {
    if (urlProblem(values.url)) { setTried(true); return; }
    setProbing(true);
    setFound(null);
    setWrong(null);
    stop.current = new AbortController();
    try {
      const probed = readProbe(await api.probe(settings(), stop.current.signal));
      setFound({ ...probed, wrong: null });
      setValues((before) => (before.record === "off" ? before : { ...before, record: recordModeFor(probed.codec) }));
    } catch (error) {
      if (!stop.current.signal.aborted) setFound({ wrong: messageOf(error) });
    } finally {
      setProbing(false);
    }
  };

  const add = async (): Promise<void> => {
    setTried(true);
    if (nameProblem(values.name, taken) ?? urlProblem(values.url)) return;
    setSaving(true);
    setWrong(null);
    try {
      await api.addCamera({ name: values.name, ...settings(), record: { mode: values.record } });
      toast(`${values.name} was added`);
      await refresh();
      onClose();
      go(cameraPath(values.name));
    } catch (error) {
      setWrong(messageOf(error));
      setSaving(false);
    }
  };

  return (
    <Dialog title="Add a camera" onClose={onClose}>
      <form
        class="stack"
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          void add();
        }}
      >
        <Connection values={values} set={set} wrong={badUrl} />
        <div class="pair">
          <Field label="Transport" hint="TCP suits nearly every camera">
            <select class="input" name="transport" value={values.transport} onChange={(event) => set({ transport: event.currentTarget.value })}>
              <option value="tcp">TCP</option>
              <option value="udp">UDP</option>
              <option value="multicast">Multicast</option>
              <option value="http">HTTP</option>
            </select>
          </Field>
          <div class="field">
            <span>What does it send?</span>
            <button type="button" class="button" disabled={probing} onClick={() => void probe()}>
              <Icon name={probing ? "busy" : "eye"} />
              {probing ? "Probing…" : "Probe"}
            </button>
          </div>
        </div>
        {found ? (
          found.wrong ? (
            <Note tone="bad">{found.wrong}</Note>
          ) : (
            <div class="note good" role="status" data-probe="ok">
              <Icon name="check" />
              <dl class="facts">
                {found.lines?.length ? (
                  found.lines.map((line) => (
                    <>
                      <dt>{line.label}</dt>
                      <dd class="number">{line.value}</dd>
                    </>
                  ))
                ) : (
                  <dd>The camera answers.</dd>
                )}
              </dl>
            </div>
          )
        ) : null}
        <div class="pair">
          <Field label="Name" wrong={badName} hint="Such as front-door">
            <input
              class="input"
              name="name"
              autoComplete="off"
              spellcheck={false}
              aria-invalid={badName !== null}
              value={values.name}
              onInput={(event) => set({ name: event.currentTarget.value.trim() })}
            />
          </Field>
          <Field
            label="Recording"
            hint={
              values.record === "copy" && found?.codec && recordModeFor(found.codec) === "encode"
                ? `Not every browser can play ${found.codec}: encoded anew, all can`
                : "Needed for video and going back in time"
            }
          >
            <select class="input" name="record" value={values.record} onChange={(event) => set({ record: event.currentTarget.value })}>
              <option value="copy">As the camera sends it</option>
              <option value="encode">Encoded anew (MJPEG, H.265)</option>
              <option value="off">Off</option>
            </select>
          </Field>
        </div>
        {wrong ? <Note tone="bad">{wrong}</Note> : null}
        <footer>
          <button type="button" class="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" class="button primary" disabled={saving}>
            {saving ? <Icon name="busy" /> : null}
            Add camera
          </button>
        </footer>
      </form>
    </Dialog>
  );
}

/** Changes an existing camera: only what was touched is sent. */
export function EditCamera({ camera, onClose }: { camera: Camera; onClose: () => void }): JSX.Element {
  const first = camera.streams[0];
  const single = camera.streams.length === 1;
  const before: Values = { name: camera.name, url: first?.url ?? "", user: first?.user ?? "", password: "", transport: "", record: first?.recording.mode ?? "off" };
  const [values, setValues] = useState(before);
  const [saving, setSaving] = useState(false);
  const [wrong, setWrong] = useState<string | null>(null);
  const set = (change: Partial<Values>): void => setValues((now) => ({ ...now, ...change }));
  const taken = (cameras.value ?? []).map((each) => each.name).filter((each) => each !== camera.name);
  const badName = nameProblem(values.name, taken);
  const changedUrl = values.url !== before.url;
  const badUrl = changedUrl ? (values.url.includes("***") ? "The whole address is needed: what is hidden here cannot be sent back" : urlProblem(values.url)) : null;
  const save = async (): Promise<void> => {
    if (badName ?? badUrl) return;
    const change: Record<string, unknown> = {};
    if (values.name !== camera.name) change.name = values.name;
    if (single && changedUrl) change.url = values.url;
    if (single && values.user !== before.user) change.username = values.user || null;
    if (single && values.password) change.password = values.password;
    if (values.record !== before.record) change.record = { mode: values.record };
    if (Object.keys(change).length === 0) { onClose(); return; }
    setSaving(true);
    setWrong(null);
    try {
      await api.changeCamera(camera.name, change);
      toast(`${values.name} was changed`);
      await refresh();
      onClose();
      if (values.name !== camera.name) go(cameraPath(values.name));
    } catch (error) {
      setWrong(messageOf(error));
      setSaving(false);
    }
  };
  return (
    <Dialog title={`Settings of ${camera.name}`} onClose={onClose}>
      <form
        class="stack"
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          void save();
        }}
      >
        <Field label="Name" wrong={badName} hint={values.name === camera.name ? undefined : "Recordings stay under the old name"}>
          <input class="input" name="name" autoComplete="off" value={values.name} onInput={(event) => set({ name: event.currentTarget.value.trim() })} />
        </Field>
        {single ? (
          <Connection values={values} set={set} wrong={badUrl} hint="With another host or port, the password is needed again" known />
        ) : (
          <Note>This camera has several streams; their addresses are in config.toml.</Note>
        )}
        <Field label="Recording">
          <select class="input" name="record" value={values.record} onChange={(event) => set({ record: event.currentTarget.value })}>
            <option value="copy">As the camera sends it</option>
            <option value="encode">Encoded anew (MJPEG, H.265)</option>
            <option value="off">Off</option>
          </select>
        </Field>
        {wrong ? <Note tone="bad">{wrong}</Note> : null}
        <footer>
          <button type="button" class="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" class="button primary" disabled={saving || (badName ?? badUrl) !== null}>
            {saving ? <Icon name="busy" /> : null}
            Save
          </button>
        </footer>
      </form>
    </Dialog>
  );
}
