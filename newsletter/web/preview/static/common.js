// What both pages share: elements, requests that answer in order, and the stream of versions.

export const token = document.querySelector('meta[name="desk-token"]').content;

/** An element: h("p", {class: "x", onclick: f}, "text", child …). Text is always text. */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "value") element.value = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Read JSON; the sentence of a refusal becomes the error's message. */
export async function read(path) {
  return answered(await fetch(path, { cache: "no-store" }));
}

/** Write, with this start's token. */
export async function write(path, body = {}) {
  return answered(
    await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Desk-Token": token },
      body: JSON.stringify(body),
    }),
  );
}

async function answered(response) {
  const told = await response.json().catch(() => ({}));
  if (!response.ok) throw Object.assign(new Error(told.error || `HTTP ${response.status}`), { status: response.status });
  return told;
}

/** Call heard(editions by slug → version) for every change; says when the preview itself is gone. */
export function listen(heard, gone) {
  const source = new EventSource("/events");
  source.onmessage = (event) => heard(JSON.parse(event.data).editions);
  source.onerror = () => gone(source.readyState);
}

export const kilobytes = (bytes) => `${Math.round(bytes / 1024)} KB`;

export function plural(number, word) {
  return `${number} ${word}${number === 1 ? "" : "s"}`;
}

/** Ready, or why not: [words, class]. */
export function verdictOf(one) {
  if (one.fault) return ["Cannot be made", "bad"];
  if (!one.variants.length) return ["No story fits it", "warn"];
  if (one.errors) return [`${plural(one.errors, "error")} in its proof`, "bad"];
  if (one.status === "submitted" || one.status === "submitting") return [one.status, "good"];
  if (one.status === "held" || one.status === "spiked" || one.status === "skipped") return [one.status, "warn"];
  if (one.shortfalls.length) return ["Thin", "warn"];
  if (!one.proofed) return ["Being proofed", ""];
  if (one.status === "approved") return ["approved", "good"];
  if (one.approval === "required") return [one.warnings ? `Waits for an approval, ${plural(one.warnings, "warning")}` : "Waits for an approval", "warn"];
  return one.warnings ? [plural(one.warnings, "warning"), "warn"] : ["Ready", "good"];
}
