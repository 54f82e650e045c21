// The wall: nine newsletters, every variant, and at one look what is not ready.
import { h, kilobytes, listen, plural, read, verdictOf } from "./common.js";

const wall = document.getElementById("wall");
const verdict = document.getElementById("verdict");
const cards = new Map();
let asked = 0;

async function refresh() {
  const turn = ++asked;
  const { editions } = await read("/state");
  if (turn !== asked) return; // a slow answer never overwrites a newer one
  const missing = new Set(cards.keys());
  editions.forEach((one, place) => {
    missing.delete(one.newsletter);
    const held = cards.get(one.newsletter);
    if (held && held.version === one.version) return;
    const made = card(one, held);
    cards.set(one.newsletter, { version: one.version, element: made, one });
    if (held) held.element.replaceWith(made);
    else wall.insertBefore(made, wall.children[place] ?? null);
  });
  for (const slug of missing) {
    cards.get(slug).element.remove();
    cards.delete(slug);
  }
  summarise(editions);
}

function summarise(editions) {
  const waiting = editions.filter((one) => verdictOf(one)[1] === "warn" || verdictOf(one)[1] === "bad");
  const ready = editions.length - waiting.length;
  verdict.replaceChildren(
    `${ready} of ${editions.length} ready`,
    ...waiting.flatMap((one, at) => [at ? ", " : ". Not ready: ", h("a", { href: `/${one.newsletter}` }, one.name), ` (${verdictOf(one)[0].toLowerCase()})`]),
    ".",
  );
}

function card(one, held) {
  const [words, kind] = verdictOf(one);
  const frames = new Map(held ? [...held.element.querySelectorAll("iframe")].map((frame) => [frame.dataset.variant, frame]) : []);
  const first = one.variants[0];
  const made = h(
    "article",
    { class: `card${kind === "bad" ? " not-ready broken" : kind === "warn" ? " not-ready" : ""}`, "aria-labelledby": `name-${one.newsletter}` },
    h(
      "div",
      {},
      h("h2", { id: `name-${one.newsletter}` }, h("a", { href: `/${one.newsletter}` }, one.name)),
      h("p", { class: `state ${kind}` }, words),
      one.fault ? h("p", { class: "bad" }, one.fault.message) : null,
      first ? h("p", { class: "subject" }, first.subject) : null,
      first ? h("p", { class: "preheader" }, first.preheader) : null,
      one.shortfalls.length ? h("p", { class: "warn" }, one.shortfalls.join("; ")) : null,
      one.filled.length ? h("p", { class: "warn" }, `Thin day: ${one.filled.join("; ")}`) : null,
      one.reason ? h("p", { class: "facts" }, one.reason) : null,
      h("p", { class: "facts" }, `${one.date} · ${plural(one.stories, "story").replace("storys", "stories")} · ${plural(one.notes, "note")} · ${one.hash.slice(0, 10)}`),
    ),
    h("ul", { class: "thumbs" }, ...one.variants.map((variant) => h("li", {}, thumb(one, variant, frames.get(variant.variant))))),
  );
  if (one.accent) made.style.setProperty("--accent", one.accent);
  return made;
}

function thumb(one, variant, old) {
  const holder = h("span", { class: "thumb" });
  const frame = h("iframe", {
    title: `${one.name}, ${variant.variant}`, src: `/${one.newsletter}/${variant.variant}.html?look=plain&v=${one.version}`,
    sandbox: "allow-same-origin", loading: "lazy", tabindex: "-1", "data-variant": variant.variant, "aria-hidden": "true",
  });
  holder.append(frame);
  const trouble = variant.errors ? plural(variant.errors, "error") : variant.warnings ? plural(variant.warnings, "warning") : "";
  return h(
    "a",
    { href: `/${one.newsletter}?variant=${encodeURIComponent(variant.variant)}` },
    holder,
    h("span", {}, variant.variant, " "),
    h("span", { class: "size" }, kilobytes(variant.bytes)),
    trouble ? h("span", { class: variant.errors ? "bad" : "warn" }, ` · ${trouble}`) : null,
  );
}

listen(refresh, (state) => {
  if (state === EventSource.CLOSED) verdict.textContent = "The preview has ended. Start it again with: newsletter preview";
});
refresh();

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, textarea, select") || event.ctrlKey || event.metaKey || event.altKey) return;
  const links = [...wall.querySelectorAll("h2 a")];
  const at = links.indexOf(document.activeElement);
  if (event.key === "j" || event.key === "ArrowDown") links[Math.min(at + 1, links.length - 1)]?.focus();
  else if (event.key === "k" || event.key === "ArrowUp") links[Math.max(at - 1, 0)]?.focus();
  else return;
  event.preventDefault();
});
