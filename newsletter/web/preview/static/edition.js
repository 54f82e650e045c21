// One edition: as it is seen everywhere, with its stories, words, findings and orders.
import { h, kilobytes, listen, plural, read, verdictOf, write } from "./common.js";

const slug = document.querySelector('meta[name="newsletter"]').content;
const sender = document.querySelector('meta[name="sender"]').content;
const me = document.querySelector('meta[name="who"]').content;
const own = document.querySelector('meta[name="language"]').content;
const $ = (id) => document.getElementById(id);
const WIDTHS = [
  [375, "Phone, 375 px"],
  [640, "Desktop, 640 px"],
];

const darkScreen = matchMedia("(prefers-color-scheme: dark)");
let state = null;
let version = -1;
let dragged = null;
let late = false;
let asked = 0;
let frameTurn = 0;
const typed = new Map(); // words not saved yet: field → what it says, and what had been seen when it was begun
const open = new Set(); // stories whose reasons are unfolded

// --- what is shown -------------------------------------------------------------------------------

async function refresh() {
  const turn = ++asked;
  let told;
  try {
    told = await read(`/state/${slug}`);
  } catch (error) {
    if (error.status === 503) return;
    say(error.message);
    return;
  }
  if (turn === asked) show(told); // a slow answer never overwrites a newer one
}

function show(told) {
  if (state && told.version < state.version) return;
  if (dragged) return void (late = true); // a panel that is replaced under the hand drops what it holds
  const before = state;
  state = told;
  version = told.version;
  if (before && same(before, told)) return; // nothing is replaced under a hand for nothing
  const [words, kind] = verdictOf(told);
  $("verdict").textContent = words + (told.shortfalls.length ? `: ${told.shortfalls.join("; ")}` : "") + (told.filled.length ? `. Thin day: ${told.filled.join("; ")}` : "") + (told.reason ? `. ${told.reason}` : "");
  $("verdict").className = kind;
  $("facts").textContent = `${told.date} · ${told.status === "none" ? "not made yet" : told.status} · hash ${told.hash.slice(0, 16)}`;
  $("facts").title = told.hash;
  $("fault").hidden = !told.fault;
  $("fault").textContent = told.fault ? faultWords(told.fault) : "";
  const severe = told.errors + told.warnings;
  $("count").textContent = severe ? `(${severe})` : "";
  $("undo").disabled = !told.can_undo;
  $("redo").disabled = !told.can_redo;
  $("approve").disabled = !told.go.can_approve;
  $("hold").disabled = !told.go.can_hold;
  chooseVariants(told);
  keepPlace(() => {
    $("panel-stories").replaceChildren(...storiesPanel(told));
    if (!$("panel-words").contains(document.activeElement)) $("panel-words").replaceChildren(...wordsPanel(told));
    $("panel-findings").replaceChildren(...findingsPanel(told));
    $("panel-orders").replaceChildren(...ordersPanel(told));
  });
  inbox();
  meter();
  if (!before || before.hash !== told.hash) look();
  else pins();
}

function same(one, other) {
  return JSON.stringify({ ...one, version: 0 }) === JSON.stringify({ ...other, version: 0 });
}

function faultWords(fault) {
  const where = fault.template ? `${fault.template}${fault.line ? `, line ${fault.line}` : ""}\n` : "";
  return `${where}${fault.message}\nBelow are the last bytes that could be made.`;
}

/** Replace panels without losing focus, scroll or what was unfolded. */
function keepPlace(change) {
  const key = document.activeElement?.dataset?.key;
  const panel = document.querySelector(".panel");
  const top = panel.scrollTop;
  change();
  panel.scrollTop = top;
  if (key) document.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

function chooseVariants(told) {
  const select = $("variant");
  const names = told.variants.map((one) => one.variant);
  if ([...select.options].map((option) => option.value).join() === names.join()) return;
  const wanted = select.value || new URLSearchParams(location.search).get("variant") || names[0];
  select.replaceChildren(...names.map((name) => h("option", { value: name }, name)));
  select.value = names.includes(wanted) ? wanted : names[0];
}

// --- the mail ------------------------------------------------------------------------------------

function source(part) {
  const asking = new URLSearchParams();
  const look = $("look").value;
  if (part === "html") asking.set("look", look !== "light" || darkScreen.matches ? look : "plain"); // a light screen shows the bytes as they are
  if ($("when").value) asking.set("tomorrow", "1");
  if ($("language").value && $("language").value !== own) asking.set("language", $("language").value);
  if (part === "headers" && $("name").value) asking.set("name", $("name").value);
  asking.set("v", state.hash.slice(0, 12));
  return `/${slug}/${encodeURIComponent($("variant").value)}.${part}?${asking}`;
}

async function look() {
  const stage = $("stage");
  const part = $("part").value;
  const turn = ++frameTurn;
  if ($("when").value || ($("language").value && $("language").value !== own)) {
    const told = await read(source("json")).catch(() => null);
    if (turn !== frameTurn) return;
    asIf = told;
  } else asIf = null;
  inbox();
  meter();
  if (!state.variants.length) {
    stage.replaceChildren(h("p", { class: "pad" }, state.shortfalls.join("; ") || "There is nothing to look at."));
    return;
  }
  if (part !== "html") {
    const answer = await fetch(source(part), { cache: "no-store" });
    const text = await answer.text();
    if (turn === frameTurn) stage.replaceChildren(h("pre", { class: "code", tabindex: "0" }, text));
    return;
  }
  if (!stage.querySelector(".screen")) {
    stage.replaceChildren(...WIDTHS.map(([width, name]) => screen(width, name)));
  }
  for (const holder of stage.querySelectorAll(".holder")) load(holder, source("html"), turn);
}

function screen(width, name) {
  const holder = h("div", { class: "holder", "data-width": width });
  holder.style.width = `${width}px`;
  return h("div", { class: "screen" }, h("h2", { class: "small" }, name), holder);
}

/** A link in the mail opens beside the desk, never in its frame. */
function outside(event) {
  const link = event.target.closest?.("a[href]");
  if (!link) return;
  event.preventDefault();
  window.open(link.href, "_blank", "noopener");
}

/** The next bytes load behind the ones on screen and take their place when they are there. */
function load(holder, address, turn) {
  const coming = h("iframe", { title: `${slug} at ${holder.dataset.width} pixels`, sandbox: "allow-same-origin allow-popups", class: "coming", src: address });
  coming.addEventListener("load", () => {
    if (turn !== frameTurn) {
      coming.remove(); // something newer was asked for meanwhile
      return;
    }
    for (const old of holder.querySelectorAll("iframe:not(.coming)")) old.remove();
    coming.classList.remove("coming");
    coming.dataset.hash = state.hash;
    coming.contentDocument.addEventListener("click", outside);
    fit(coming);
    for (const image of coming.contentDocument.images) image.addEventListener("load", () => fit(coming), { once: true });
  });
  holder.append(coming);
}

function fit(frame) {
  const inner = frame.contentDocument?.documentElement;
  if (!inner || !frame.isConnected) return;
  frame.style.height = "0px";
  frame.style.height = `${Math.max(inner.scrollHeight, 200)}px`;
  pins();
}

/** Each finding stands at the place it concerns, in both widths. */
function pins() {
  for (const holder of document.querySelectorAll(".holder")) {
    for (const old of holder.querySelectorAll(".pin")) old.remove();
    const page = holder.querySelector("iframe:not(.coming)")?.contentDocument;
    if (!page || $("look").value === "no-images") continue;
    concerned().forEach((finding, number) => {
      const place = placeOf(page, finding);
      if (!place) return;
      const pin = h("button", { class: `pin ${finding.severity}`, title: finding.message, "aria-label": `${finding.severity}: ${finding.message}`, onclick: () => openFinding(finding) }, String(number + 1));
      pin.style.top = `${Math.max(0, place.getBoundingClientRect().top + (page.defaultView?.scrollY ?? 0))}px`;
      holder.append(pin);
    });
  }
}

function concerned() {
  return state.findings.filter((one) => !one.variant || one.variant === $("variant").value);
}

function placeOf(page, finding) {
  const where = finding.where || "";
  if (!where) return null;
  for (const element of page.querySelectorAll("a[href], img[src]")) {
    if ((element.getAttribute("href") || element.getAttribute("src")) === where) return element;
  }
  const walker = page.createTreeWalker(page.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    if (where.length > 3 && walker.currentNode.data.includes(where)) return walker.currentNode.parentElement;
  }
  return null;
}

function openFinding(finding) {
  pickTab("findings");
  const element = document.querySelector(`[data-key="finding-${CSS.escape(keyOf(finding))}"]`);
  element?.focus();
  element?.scrollIntoView({ block: "center" });
}

const keyOf = (finding) => `${finding.code}|${finding.variant}|${finding.part}|${finding.where}`;

/** The variant as it is looked at: today's as it stands, or tomorrow's or another language's as it would be. */
let asIf = null;

function inbox() {
  const one = asIf ?? state.variants.find((variant) => variant.variant === $("variant").value) ?? state.variants[0];
  if (!one) return $("inbox").replaceChildren();
  const lines = [
    ["Gmail on a phone", (line) => [h("span", { class: "one" }, h("strong", {}, sender)), h("span", { class: "one" }, one.subject), h("span", { class: "one after" }, one.preheader)], 38, 42],
    ["Apple Mail on a phone", () => [h("span", { class: "one" }, h("strong", {}, sender)), h("span", { class: "one" }, one.subject), h("span", { class: "two after" }, one.preheader)], 0, 0],
    ["Outlook", () => [h("span", { class: "one" }, sender), h("span", { class: "one" }, h("strong", {}, one.subject)), h("span", { class: "one after" }, one.preheader)], 0, 0],
  ];
  const others = one.subjects.slice(1).map((subject, at) => h("p", { class: "line light" }, h("span", { class: "app" }, `Tried beside it: ${"BCDE"[at]}`), h("span", { class: "one", dir: "auto" }, subject)));
  $("inbox").replaceChildren(
    ...["light", "dark"].flatMap((scheme) => lines.map(([app, parts]) => h("div", { class: `line ${scheme}` }, h("span", { class: "app" }, `${app}, ${scheme}`), ...parts()))),
    ...others,
  );
}

function meter() {
  const size = asIf ?? state.sizes[$("variant").value];
  if (!size) return $("meter").replaceChildren();
  const full = Math.max(state.clip * 1.15, size.tracked);
  const share = (bytes) => `${Math.min(100, (bytes / full) * 100)}%`;
  const now = h("span", { class: "now" });
  const grown = h("span", { class: "grown" });
  const clip = h("span", { class: "clip" });
  now.style.width = share(size.bytes);
  grown.style.width = share(size.tracked);
  clip.style.left = share(state.clip);
  const told = `${kilobytes(size.bytes)} of HTML; up to ${kilobytes(size.tracked)} with tracked links; Gmail cuts at ${kilobytes(state.clip)}`;
  $("meter").replaceChildren(h("div", { class: "track", role: "img", "aria-label": told }, grown, now, clip), told);
}

// --- stories -------------------------------------------------------------------------------------

function storiesPanel(told) {
  if (told.stored) return [h("p", { class: "pad" }, `This edition is ${told.status}: its stories stand. Hold it to change them.`), ...told.sections.filter((one) => one.items.length).map(fixedSection)];
  const parts = told.sections.filter((one) => !one.words).map(section);
  const filter = h("input", { id: "filter", type: "search", "aria-label": "Search what was dropped", placeholder: "Search what was dropped", "data-key": "filter", value: $("filter")?.value ?? "" });
  const list = h("ol", { class: "dropped", "aria-label": "Dropped" });
  const fill = () => {
    const wanted = filter.value.toLocaleLowerCase();
    const rows = told.dropped.filter((one) => !wanted || `${one.headline} ${one.source}`.toLocaleLowerCase().includes(wanted));
    list.replaceChildren(...rows.slice(0, 60).map(dropped));
  };
  filter.addEventListener("input", fill);
  fill();
  return [...parts, h("div", { class: "section" }, h("h2", { class: "small" }, `Dropped (${told.dropped.length})`), filter, list)];
}

function fixedSection(one) {
  return h("div", { class: "section" }, h("h2", { class: "small" }, one.heading), h("ol", {}, ...one.items.map((item) => h("li", { class: "story" }, h("p", { class: "headline", dir: "auto" }, item.headline)))));
}

function section(one) {
  const list = h("ol", { "data-section": one.id, "aria-label": one.heading });
  list.append(...one.items.map((item, at) => story(item, one, at)));
  droppable(list, one.id);
  return h("div", { class: "section" }, h("h2", { class: "small" }, `${one.heading} (${one.items.length} of at most ${one.max})`), list);
}

function story(item, its, at) {
  const give = (verb, more = {}) => order({ verb, url: item.url, ...more });
  const move = (step) => its.items[at + step] !== undefined && give("move", { section: its.id, position: at + 1 + step });
  const element = h(
    "li",
    { class: `story${item.pinned ? " pinned" : ""}`, draggable: "true", tabindex: "0", "data-url": item.url, "data-key": `story-${item.url}`, "data-section": its.id, "data-at": at },
    h("p", { class: "headline", dir: "auto", lang: item.language }, item.headline),
    h("p", { class: "meta" }, [item.source, item.pinned ? "placed by an editor" : "", item.score === null ? "" : `${item.score} points`].filter(Boolean).join(" · ")),
    h(
      "div",
      { class: "acts" },
      h("button", { "data-key": `edit-${item.url}`, onclick: () => editStory(item) }, "Edit"),
      h("button", { "data-key": `up-${item.url}`, onclick: () => move(-1), disabled: at === 0 }, "Up"),
      h("button", { "data-key": `down-${item.url}`, onclick: () => move(1), disabled: at === its.items.length - 1 }, "Down"),
      h("button", { "data-key": `move-${item.url}`, onclick: () => moveStory(item, its) }, "Move"),
      h("button", { "data-key": `pin-${item.url}`, onclick: () => give("pin", { section: its.id }) }, "Pin"),
      h("button", { "data-key": `drop-${item.url}`, onclick: () => dropStory(item) }, "Drop"),
    ),
    why(item),
  );
  draggable(element, item);
  element.addEventListener("keydown", (event) => {
    if (event.target !== element || event.ctrlKey || event.metaKey) return;
    const acts = { e: () => editStory(item), p: () => give("pin", { section: its.id }), x: () => dropStory(item), m: () => moveStory(item, its) };
    if (event.altKey && event.key === "ArrowUp") move(-1);
    else if (event.altKey && event.key === "ArrowDown") move(1);
    else if (!event.altKey && acts[event.key]) acts[event.key]();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  return element;
}

function why(item) {
  if (!item.reasons.length) return null;
  const details = h("details", { open: open.has(item.url) }, h("summary", { "data-key": `why-${item.url}` }, "Why"), h("ul", {}, ...item.reasons.map((reason) => h("li", {}, reason))));
  details.addEventListener("toggle", () => (details.open ? open.add(item.url) : open.delete(item.url)));
  return details;
}

function dropped(item) {
  const element = h(
    "li",
    { class: "story", draggable: "true", tabindex: "0", "data-url": item.url, "data-key": `story-${item.url}` },
    h("p", { class: "headline", dir: "auto", lang: item.language }, item.headline),
    h("p", { class: "meta" }, `${item.source} · ${item.reasons[0] ?? ""}`),
    h("div", { class: "acts" }, h("button", { "data-key": `bring-${item.url}`, onclick: () => moveStory(item, null) }, "Bring in")),
    why(item),
  );
  draggable(element, item);
  element.addEventListener("keydown", (event) => {
    if (event.target === element && event.key === "b") {
      event.preventDefault();
      moveStory(item, null);
    }
  });
  return element;
}

function letGo() {
  dragged = null;
  if (late) refresh();
  late = false;
}

function draggable(element, item) {
  element.addEventListener("dragstart", (event) => {
    dragged = item;
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setData("text/plain", item.url);
    element.classList.add("dragging");
  });
  element.addEventListener("dragend", () => {
    element.classList.remove("dragging");
    letGo();
    for (const one of document.querySelectorAll(".before, .over")) one.classList.remove("before", "over");
  });
}

function droppable(list, id) {
  const target = (event) => event.target.closest("li.story");
  list.addEventListener("dragover", (event) => {
    if (!dragged) return;
    event.preventDefault();
    for (const one of document.querySelectorAll(".before, .over")) one.classList.remove("before", "over");
    (target(event) ?? list).classList.add(target(event) ? "before" : "over");
  });
  list.addEventListener("drop", (event) => {
    if (!dragged) return;
    event.preventDefault();
    const before = target(event);
    const others = [...list.children].filter((one) => one.dataset.url !== dragged.url);
    const at = before && before.dataset.url !== dragged.url ? others.indexOf(before) : others.length;
    if (before && before.dataset.url === dragged.url) return;
    const { url } = dragged;
    letGo();
    order({ verb: "move", url, section: id, position: at + 1 });
  });
}

// --- words, findings, orders ---------------------------------------------------------------------

const NAMES = {
  subject: "Subject", preheader: "Preheader", greeting: "Greeting", intro: "Intro", sign_off: "Sign-off",
  number: "Number", quote: "Quote", this_day: "On this day", quiz: "Quiz", front_page: "Front page",
};

function wordsPanel(told) {
  if (told.stored) return [h("p", { class: "pad" }, `This edition is ${told.status}: its words stand. Hold it to change them.`)];
  const rows = [...Object.entries(told.lines).map(([name, value]) => ({ name, value })), ...told.words];
  const form = h("form", { class: "fields" });
  for (const { name, value } of rows) {
    const [block, ...rest] = name.split(".");
    const label = [NAMES[block] ?? block, ...rest].join(", ").replaceAll("_", " ");
    const long = ["intro", "sign_off"].includes(block) || rest.includes("text") || rest.includes("options") || rest.includes("question") || value.length > 60;
    const field = h(long ? "textarea" : "input", { id: `words-${name}`, name, "data-was": value, "data-key": `words-${name}`, value: typed.get(name)?.value ?? value, dir: "auto" });
    field.addEventListener("input", () => {
      if (field.value === value) typed.delete(name);
      else typed.set(name, { value: field.value, seen: typed.get(name)?.seen ?? told.as_of });
    });
    form.append(h("label", { for: `words-${name}` }, label + (rest.includes("options") ? " (one a line)" : "")), field);
  }
  form.append(h("div", { class: "bar" }, h("button", { class: "main", type: "submit", "data-key": "words-save" }, "Save the words")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!typed.size) return say("Nothing has changed.");
    const fields = Object.fromEntries([...typed].map(([name, one]) => [name, one.value]));
    const seen = [...typed.values()].map((one) => one.seen).sort()[0];
    document.activeElement?.blur();
    if (await order({ verb: "words", fields }, seen)) {
      for (const [name, value] of Object.entries(fields)) if (typed.get(name)?.value === value) typed.delete(name);
      $("panel-words").replaceChildren(...wordsPanel(state));
    }
  });
  return [form];
}

function findingsPanel(told) {
  const rows = concerned();
  if (!rows.length) return [h("p", { class: "pad" }, told.proofed ? "No finding." : "The proof is being read…")];
  return rows.map((one, number) =>
    h(
      "div",
      { class: `finding ${one.severity}`, tabindex: "0", "data-key": `finding-${keyOf(one)}` },
      h("p", { class: "code" }, `${number + 1}. ${one.severity}: ${one.code}`),
      h("p", { dir: "auto" }, one.message),
      one.remedy ? h("p", { class: "meta" }, one.remedy) : null,
      one.where ? h("p", { class: "facts", dir: "auto" }, [one.variant, one.part, one.where].filter(Boolean).join(" · ")) : null,
      one.where ? h("button", { "data-key": `show-${keyOf(one)}`, onclick: () => showPlace(one) }, "Show the place") : null,
    ),
  );
}

function showPlace(finding) {
  const frame = document.querySelector('.holder[data-width="640"] iframe:not(.coming)');
  const place = frame?.contentDocument && placeOf(frame.contentDocument, finding);
  if (!place) return say("That place is not in the mail as it is shown.");
  window.scrollTo({ top: frame.getBoundingClientRect().top + window.scrollY + place.getBoundingClientRect().top - 120, behavior: "smooth" });
}

function ordersPanel(told) {
  if (!told.orders.length) return [h("p", { class: "pad" }, "Nobody has given an order for this edition.")];
  const rows = [...told.orders].reverse().map((one) => {
    const about = one.url || Object.keys(one.fields).join(", ");
    const place = one.section ? ` to ${one.section}${one.position ? ` ${one.position}` : ""}` : "";
    const fields = one.url ? Object.entries(one.fields).map(([name, value]) => `; ${name}: ${value}`).join("") : "";
    const undone = one.undone_at ? ` (undone by ${one.undone_by})` : "";
    return h("li", { class: one.undone_at ? "undone" : "" }, `${one.given_at?.slice(11, 16) ?? ""} ${one.actor || "an editor"}: ${one.verb} ${about}${place}${fields}${one.reason ? `: ${one.reason}` : ""}${undone}`);
  });
  return [h("ul", { class: "orders" }, ...rows)];
}

// --- orders --------------------------------------------------------------------------------------

/** Give an order on what was seen *asOf*; null, or why it was not taken. A conflict asks the editor by itself. */
async function give(given, asOf) {
  try {
    show(await write(`/orders/${slug}`, { ...given, as_of: asOf }));
    say("Noted.");
    return null;
  } catch (error) {
    await refresh();
    if (error.status === 409) conflict(given, error.message);
    return error;
  }
}

async function order(given, asOf = state.as_of) {
  const error = await give(given, asOf);
  if (error && error.status !== 409) say(faultOf(error));
  return !error;
}

/** From a dialog: what was typed stays until it is taken. */
async function orderFrom(form, given, asOf) {
  const error = await give(given, asOf);
  if (error && error.status !== 409) {
    form.querySelector(".refused")?.remove();
    form.querySelector(".bar").before(h("p", { class: "refused bad", role: "alert" }, faultOf(error)));
  }
  return !error; // false: the dialog stays, or is the one of the conflict by now
}

function faultOf(error) {
  return error.status ? error.message : "The preview does not answer. What you typed is still here; start it again with: newsletter preview";
}

/** Somebody was quicker: nothing is lost, the editor chooses. */
function conflict(given, message) {
  const forget = () => {
    for (const name of Object.keys(given.fields || {})) typed.delete(name);
    $("panel-words").replaceChildren(...wordsPanel(state));
  };
  dialog("Somebody was quicker", [h("p", {}, message), h("p", {}, `Yours: ${given.verb} ${given.url || Object.entries(given.fields || {}).map(([name, value]) => `${name}: ${value}`).join("; ")}`)], [
    ["Keep theirs", forget],
    ["Give mine again", async (form) => {
      const taken = await orderFrom(form, given, state.as_of);
      if (taken) forget();
      return taken;
    }, "main"],
  ]);
}

async function turn(which) {
  if (!state || $(which).disabled) return;
  const counting = [...state.orders].reverse().find((one) => !one.undone_at);
  const seen = state.as_of;
  const act = async () => {
    try {
      show(await write(`/${which}/${slug}`, { as_of: seen }));
      say(which === "undo" ? "Undone." : "Redone.");
    } catch (error) {
      await refresh();
      say(faultOf(error));
    }
  };
  if (which === "redo" || counting.actor === me) return act();
  dialog("Undo somebody else’s order?", [h("p", { dir: "auto" }, `The newest order is ${counting.actor || "another editor"}’s: ${counting.verb} ${counting.url || Object.entries(counting.fields).map(([name, value]) => `${name}: ${value}`).join("; ")}`)], [
    ["Leave it", () => {}],
    ["Undo it", () => { act(); }, "main"],
  ]);
}

function dialog(title, content, buttons) {
  const box = $("dialog");
  const back = document.activeElement?.dataset?.key;
  const form = h("form", { method: "dialog" }, h("h2", { id: "dialog-title" }, title), ...content);
  const choose = async (act) => {
    if ((await act(form)) === false) return;
    box.close();
    if (back) document.querySelector(`[data-key="${CSS.escape(back)}"]`)?.focus();
  };
  const row = h("div", { class: "bar" });
  for (const [name, act, kind] of buttons) {
    if (kind === "main") form.addEventListener("submit", (event) => (event.preventDefault(), choose(act)));
    row.append(h("button", kind === "main" ? { class: kind, type: "submit" } : { type: "button", onclick: () => choose(act) }, name));
  }
  form.append(row);
  box.replaceChildren(form);
  box.showModal();
}

// --- go or no-go ---------------------------------------------------------------------------------

async function decide(path, body, words) {
  try {
    show(await write(`/${path}/${slug}`, body));
    say(words);
  } catch (error) {
    await refresh();
    dialog("It did not happen", [h("p", {}, error.message)], [["Close", () => {}, "main"]]);
  }
}

async function approve() {
  if (!state?.go.can_approve) return;
  const seen = state; // what is approved is what was on screen when the dialog opened
  const { audience } = await read(`/audience/${slug}`).catch(() => ({ audience: {} }));
  const sizes = Object.entries(audience).map(([variant, readers]) => `${readers.toLocaleString("en")} ${variant}`).join(", ");
  const words = seen.go.warned.map((one, number) => {
    const tick = h("input", { type: "checkbox", id: `despite-${number}`, name: "despite", value: one.code, required: seen.go.required });
    return h("div", { class: "despite" }, tick, h("label", { for: `despite-${number}` }, h("strong", {}, one.code), ` ${one.messages.join(" ")}`));
  });
  dialog("Let it go?", [
    h("p", {}, `${seen.variants[0].subject}`),
    h("p", { class: "facts" }, `${seen.date} · ${sizes || "no reader"} · hash ${seen.hash.slice(0, 16)}`),
    ...(words.length ? [h("p", {}, seen.go.required ? "Each warning wants your word:" : "It goes out with these warnings:"), ...words] : []),
  ], [
    ["Not yet", () => {}],
    ["Approve", (form) => {
      const ticks = [...form.querySelectorAll('[name="despite"]')].filter((one) => one.checked).map((one) => one.value);
      decide("approve", { hash: seen.hash, despite: ticks }, "Approved: it goes at its hour.");
    }, "main"],
  ]);
}

function hold() {
  if (!state?.go.can_hold) return;
  const reason = h("input", { id: "hold-reason", name: "reason" });
  dialog("Hold it?", [h("p", {}, "It will not go out before somebody approves it."), h("div", { class: "fields" }, h("label", { for: "hold-reason" }, "Why (for the others)"), reason)], [
    ["Leave it", () => {}],
    ["Hold", () => { decide("hold", { reason: reason.value }, "Held."); }, "main"],
  ]);
  reason.focus();
}

const EDITED = [
  ["headline", "Headline"], ["standfirst", "Standfirst"], ["kicker", "Kicker"], ["byline", "Byline"],
  ["translator", "Translator"], ["paper", "First published by"],
  ["image_url", "Picture’s address"], ["image_alt", "What the picture shows (alt)"], ["image_caption", "Caption"], ["image_credit", "Credit"],
];

function editStory(item) {
  const seen = state.as_of;
  const names = EDITED.filter(([name]) => !name.startsWith("image_") || item.rights !== "excerpt");
  const fields = h("div", { class: "fields" });
  for (const [name, label] of names) {
    const long = name === "standfirst";
    fields.append(h("label", { for: `edit-${name}` }, label), h(long ? "textarea" : "input", { id: `edit-${name}`, name, value: item[name] ?? "", dir: "auto" }));
  }
  dialog("Edit the story", [fields], [
    ["Leave it", () => {}],
    ["Save", (form) => {
      const changed = {};
      for (const [name] of names) if (form.elements[name].value !== (item[name] ?? "")) changed[name] = form.elements[name].value;
      return !Object.keys(changed).length || orderFrom(form, { verb: "edit", url: item.url, fields: changed }, seen);
    }, "main"],
  ]);
  $("edit-headline").focus();
}

function dropStory(item) {
  const seen = state.as_of;
  const reason = h("input", { id: "reason", name: "reason" });
  dialog("Drop the story", [h("p", { dir: "auto" }, item.headline), h("div", { class: "fields" }, h("label", { for: "reason" }, "Why (for the others)"), reason)], [
    ["Leave it in", () => {}],
    ["Drop", (form) => orderFrom(form, { verb: "drop", url: item.url, reason: reason.value }, seen), "main"],
  ]);
  reason.focus();
}

function moveStory(item, its) {
  const seen = state.as_of;
  const places = state.sections.filter((one) => !one.words);
  const where = h("select", { id: "where" }, ...places.map((one) => h("option", { value: one.id, selected: its?.id === one.id }, one.heading)));
  const position = h("input", { id: "position", type: "number", min: "1", max: "50", value: "1" });
  dialog(its ? "Move the story" : "Bring the story in", [
    h("p", { dir: "auto" }, item.headline),
    h("div", { class: "fields" }, h("label", { for: "where" }, "Section"), where, h("label", { for: "position" }, "Place in it"), position),
  ], [
    ["Leave it", () => {}],
    [its ? "Move" : "Bring in", (form) => orderFrom(form, { verb: its ? "move" : "pin", url: item.url, section: where.value, position: Number(position.value) || 1 }, seen), "main"],
  ]);
  where.focus();
}

function help() {
  const keys = [
    ["1 2 3 4", "stories, words, findings, orders"], ["j k", "next and previous story"], ["Alt ↑ ↓", "move the story"], ["p", "pin it"], ["x", "drop it"], ["e", "edit it"],
    ["m", "move it to another section"], ["b", "bring a dropped one in"], ["/", "search what was dropped"], ["u", "undo"], ["r", "redo"], ["v", "next variant"], ["l", "next look"],
    ["a", "approve"], ["h", "hold"], ["[ ]", "previous and next newsletter"], ["w", "the wall"], ["?", "these keys"],
  ];
  dialog("Keys", [h("dl", { class: "keys" }, ...keys.flatMap(([key, what]) => [h("dt", {}, key), h("dd", {}, what)]))], [["Close", () => {}, "main"]]);
}

// --- tabs, keys, and the stream ------------------------------------------------------------------

const TABS = ["stories", "words", "findings", "orders"];

function pickTab(name) {
  for (const one of TABS) {
    const tab = $(`tab-${one}`);
    tab.setAttribute("aria-selected", String(one === name));
    tab.tabIndex = one === name ? 0 : -1;
    $(`panel-${one}`).hidden = one !== name;
  }
}

for (const [at, name] of TABS.entries()) {
  $(`tab-${name}`).addEventListener("click", () => pickTab(name));
  $(`tab-${name}`).addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = TABS[(at + step + TABS.length) % TABS.length];
    pickTab(next);
    $(`tab-${next}`).focus();
  });
}

function cycle(select) {
  select.selectedIndex = (select.selectedIndex + 1) % select.options.length;
  select.dispatchEvent(new Event("change"));
}

function step(by) {
  const stories = [...document.querySelectorAll("#panel-stories li.story")];
  const at = stories.indexOf(document.activeElement?.closest?.("li.story"));
  stories[Math.min(Math.max(at + by, 0), stories.length - 1)]?.focus();
}

function newsletterBy(by) {
  const select = $("go");
  location.href = `/${select.options[(select.selectedIndex + by + select.options.length) % select.options.length].value}`;
}

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, textarea, select") || event.ctrlKey || event.metaKey || event.altKey || $("dialog").open) return;
  const acts = {
    1: () => pickTab("stories"), 2: () => pickTab("words"), 3: () => pickTab("findings"), 4: () => pickTab("orders"),
    j: () => step(1), k: () => step(-1), u: () => turn("undo"), r: () => turn("redo"), v: () => cycle($("variant")), l: () => cycle($("look")),
    "[": () => newsletterBy(-1), "]": () => newsletterBy(1), w: () => (location.href = "/"), "?": help, a: approve, h: hold,
    "/": () => { pickTab("stories"); $("filter")?.focus(); },
  };
  if (!acts[event.key]) return;
  event.preventDefault();
  acts[event.key]();
});

let saying;

function say(words) {
  $("said").textContent = words;
  clearTimeout(saying);
  saying = setTimeout(() => ($("said").textContent = ""), 6000);
}

$("undo").addEventListener("click", () => turn("undo"));
$("redo").addEventListener("click", () => turn("redo"));
$("help").addEventListener("click", help);
$("approve").addEventListener("click", approve);
$("hold").addEventListener("click", hold);
$("go").addEventListener("change", () => (location.href = `/${$("go").value}`));
for (const name of ["look", "part", "when", "language"]) $(name).addEventListener("change", look);
$("variant").addEventListener("change", () => {
  history.replaceState(null, "", `?variant=${encodeURIComponent($("variant").value)}`);
  inbox();
  meter();
  $("panel-findings").replaceChildren(...findingsPanel(state));
  look();
});
$("name").addEventListener("input", () => $("part").value === "headers" && look());
const languages = [own, "en", "fr", "es", "de", "it", "pt", "ar", "he", "ja", "zh"].filter((one, at, all) => all.indexOf(one) === at);
$("language").replaceChildren(...languages.map((one) => h("option", { value: one }, new Intl.DisplayNames(["en"], { type: "language" }).of(one))));

listen(
  (versions) => {
    if (versions[slug] !== undefined && versions[slug] > version) refresh();
  },
  (readyState) => {
    if (readyState === EventSource.CLOSED) say("The preview has ended. Start it again with: newsletter preview");
  },
);
refresh();
