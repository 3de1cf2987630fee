// The admin API, asked with the admin key as a bearer.
//
// The key lies in this tab's session storage: it survives a reload, no other tab or site sees it, and it is gone with the
// tab. It is never a cookie. A browser adds cookies to requests that other sites make it send; it adds this header to
// none, so there is nothing to forge.

const PLACE = "potstill-admin-key";
let key = null;

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function asked(method, path, body, signal) {
  const headers = key === null ? {} : { authorization: `Bearer ${key}` };
  if (body !== undefined) headers["content-type"] = "application/json";
  const answer = await fetch(`/v1/potstill/${path}`, {
    method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body),
    credentials: "omit", redirect: "error", cache: "no-store",
  });
  let value = null;
  try {
    value = await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
  }
  if (!answer.ok) throw new Refused(answer.status, value?.error?.message ?? `The gateway answered ${answer.status}.`);
  if (value === null) throw new Refused(answer.status, "The gateway's answer cannot be read.");
  return value;
}

export const get = (path, signal) => asked("GET", path, undefined, signal);
export const post = (path, body = {}) => asked("POST", path, body);
export const remove = (path) => asked("DELETE", path);

// Path segments and queries, whatever they hold.
export const part = (text) => encodeURIComponent(wellFormed(text));
export function query(values) {
  const held = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return held.length ? `?${new URLSearchParams(held.map(([name, value]) => [name, wellFormed(value)]))}` : "";
}

// Half a surrogate pair cannot be sent.
function wellFormed(text) {
  return String(text).replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, "\ufffd");
}

function stored(act) {
  try {
    return act(sessionStorage);
  } catch {
    return null; // storage is off: the key stays in memory only
  }
}

// With the key of before this tab was loaded again; false where there is none. Throws Refused where it opens nothing.
export async function resume() {
  key = stored((storage) => storage.getItem(PLACE));
  if (key !== null) await get("status");
  return key !== null;
}

export async function logIn(typed) {
  const key_ = typed.trim();
  if (!/^[\x21-\x7e]+$/.test(key_)) throw new Refused(401, "An admin key has only printable characters and no spaces.");
  key = key_;
  try {
    await get("status");
  } catch (error) {
    key = null;
    throw error;
  }
  stored((storage) => storage.setItem(PLACE, key_));
}

export function logOut() {
  key = null;
  stored((storage) => storage.removeItem(PLACE));
}
