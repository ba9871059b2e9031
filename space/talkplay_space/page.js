// The page's own behaviour. Runs once, as `js_on_load` of the hidden component #tp-bridge, with
// `props` and `trigger` and `watch` of gradio in scope.
//
// The bridge: page -> server `trigger("turn" | "act" | "open", data)`, one at a time; server -> page
// the bridge's value, an object with `n` (which event it ends), and where needed `say` (for screen
// readers), `tell` (for all), `code`, `turns`, `problem`, `restore` (text back into the box), `focus`, `file`,
// `forgotten` (the server has the conversation no longer: send the code, and the event again).
// All listening is delegated on `data-act`; gradio may draw anew below it at any time.

const $ = (id) => document.getElementById(id);
const asked = (name) => new URLSearchParams(location.search).get(name);
const KEPT = "talkplay-conversation", THEME = "talkplay-theme";
const HEARS = { say: "turn", retry: "turn", edit: "turn", load: "open", restore: "open", choose: "open" };
const queue = [];
let running = null, hinted = false, patience = 0, count = 0, editing = null, code = "", note = "", dragged = null;
// how many turns are shown, of which model and catalogue where they were chosen, and whose reasons
let shown = 0, shows = null, explained = null;

function send(act, data = {}) {
  const event = HEARS[act] || "act";
  // a second request for the same answer is a slip of the finger; moves may come fast
  if (event === "turn" && (running || queue.length)) return false;
  queue.push([event, { ...data, act, n: ++count }]);
  pump();
  return true;
}

function pump() {
  if (running || !queue.length) return;
  running = queue.shift();
  running[1] = { ...running[1], shown, shows };
  if (running[1].act === "why") explained = running[1];
  document.body.classList.toggle("tp-busy", running[0] === "turn");
  if (running[0] !== "act" || running[1].act === "new") tell("");
  trigger(running[0], running[1]);
  clearTimeout(patience);
  patience = setTimeout(giveUp, running[0] === "turn" ? 300000 : 30000);
}

// The server has gone: the page is usable again once it is back.
function giveUp() {
  if (!running) return;
  const [event, { text }] = running;
  running = null;
  queue.length = 0;
  document.body.classList.remove("tp-busy");
  tell("No answer came. Please try again.");
  if (event === "turn" && text && !$("tp-input").value) fill(text);
}

watch("value", () => {
  const told = props.value || {};
  if (!running || told.n !== running[1].n) return;
  const [event, data] = running;
  running = null;
  document.body.classList.remove("tp-busy");
  if (told.turns !== undefined) shown = told.turns;
  if (told.shows) shows = told.shows;
  if (told.forgotten) return bringBack(event, data);
  if (data.act === "restore" && told.problem) told.restore ??= queue.splice(0).find(([, one]) => one.text)?.[1].text;
  if (data.act === "choose") setTimeout(() => chosen(data, told.problem), 60);
  if (told.code !== undefined) keep(told.code, told.note);
  if (told.say) announce(told.say);
  if (told.tell) tell(told.tell);
  if (told.file) save(told.file);
  // the turn that is being edited may be gone
  if (editing !== null && (editing >= shown || (data.act === "load" && !told.problem))) endEdit();
  if (told.restore !== undefined && told.restore !== null && !$("tp-input").value) fill(told.restore);
  else if (data.act === "edit") endEdit(false);
  if (told.problem && $("tp-share").open) $("tp-share-note").textContent = told.problem;
  else if (data.act === "load" && !told.problem && $("tp-share").open) $("tp-share").close();
  if (told.show) setTimeout(() => document.querySelector(told.show)?.scrollIntoView({ behavior: pace(), block: "nearest" }), 60);
  if (data.act === "retry" && document.activeElement === document.body) told.focus = { act: "retry" };
  if (told.focus) setTimeout(() => refocus(told.focus), 60);
  if (told.next) queue.push(["act", { ...told.next, n: ++count }]);
  setTimeout(() => data.act === "why" || follow(), 60);
  pump();
});

// The server has forgotten the conversation, as after a long time or a restart: it is given back,
// then what was pressed is sent again.
function bringBack(event, data) {
  queue.unshift([event, { ...data, again: true, n: ++count }]);
  if (code && data.act.startsWith("swap") && explained) queue.unshift(["act", { ...explained, again: true, n: ++count }]);
  if (code) queue.unshift(["open", { act: "restore", code, n: ++count }]);
  pump();
}

function announce(words) {
  const status = $("tp-status");
  status.textContent = "";
  setTimeout(() => { status.textContent = words; }, 50);
}

// Says it above the box to type in, until the next message.
function tell(words) {
  const line = $("tp-told");
  line.textContent = words;
  line.hidden = !words;
  if (words) announce(words);
}

// Says it until something is typed.
function hint(words) {
  tell(words);
  hinted = Boolean(words);
}

// The menus are drawn anew, or say again what the server says.
function chosen(data, problem) {
  if (problem) for (const menu of menus()) menu.selectedIndex = [...menu.options].findIndex((one) => one.defaultSelected);
  $(data.from)?.focus({ preventScroll: true });
}

const menus = () => ["tp-model", "tp-catalog"].map($);

// The conversation of this tab outlives a reload of the page.
function keep(latest, problem = "") {
  code = latest;
  note = problem;
  if ($("tp-share").open) showLink();
  if (!latest && asked("c")) {
    const clean = new URL(location.href);
    clean.searchParams.delete("c");
    history.replaceState(null, "", clean);
  }
  // with the link that the page was opened with: another link in the same tab comes first
  try { sessionStorage.setItem(KEPT, JSON.stringify({ opened: asked("c"), code })); } catch {}
}

function kept() {
  try {
    const { opened, code } = JSON.parse(sessionStorage.getItem(KEPT) || "{}");
    if (opened === asked("c") && code) return code;
  } catch {}
  return asked("c");
}

function link() {
  const address = new URL(location.href);
  address.search = "";
  address.hash = "";
  address.searchParams.set("c", code);
  return address.href;
}

function showLink() {
  $("tp-link").value = code ? link() : "";
  $("tp-link").placeholder = note ? "Too long for a link" : "Say something first";
  $("tp-share-note").textContent = note;
  document.querySelector('#tp-share [data-act="copy"]').disabled = !code;
  document.querySelector('#tp-share [data-format="json"]').disabled = !code && !note;
}

function save({ name, type, text }) {
  const anchor = document.createElement("a");
  anchor.href = URL.createObjectURL(new Blob([text], { type }));
  anchor.download = name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 10000);
}

function fill(words) {
  const box = $("tp-input");
  box.value = words;
  grow();
  box.focus();
  box.setSelectionRange(box.value.length, box.value.length);
}

function grow() {
  const box = $("tp-input");
  box.style.height = "auto";
  box.style.height = `${Math.min(box.scrollHeight, 168)}px`;
}

function submit() {
  const box = $("tp-input"), text = box.value.trim();
  if (!text) {
    hint("Say what you would like to hear: a genre, a feeling, a decade, an artist.");
    return box.focus();
  }
  if (!(editing === null ? send("say", { text }) : send("edit", { text, turn: editing }))) return;
  box.value = "";
  grow();
  follow(true);
}

function edit(turn, text) {
  editing = Number(turn);
  document.querySelector(".tp-editing").hidden = false;
  fill(text);
}

function endEdit(clear = true) {
  if (clear) $("tp-input").value = "";
  editing = null;
  document.querySelector(".tp-editing").hidden = true;
  grow();
}

// Keeps the newest answer in sight, unless the listener has scrolled up to read.
let following = true;
const scroller = () => {
  const feed = $("tp-feed");
  return getComputedStyle(feed).overflowY === "auto" ? feed : document.scrollingElement;
};
function follow(always = false) {
  if (always) following = true;
  if (!following) return;
  const turns = document.querySelectorAll("#tp-feed .tp-turn, #tp-feed .tp-problem");
  const end = document.querySelector("#tp-feed .tp-end");
  const box = scroller();
  if (!turns.length || !end) { box.scrollTop = 0; return; }
  if (box === $("tp-feed")) { box.scrollTop = box.scrollHeight; return; }
  const below = end.getBoundingClientRect().bottom - ($("tp-composer").getBoundingClientRect().top - 12);
  const room = window.innerHeight - $("tp-composer").offsetHeight - 20;
  const hidden = end.getBoundingClientRect().bottom - room;
  if (Math.max(below, hidden) > 0) window.scrollBy(0, hidden);
}
const atEnd = (box) => box.scrollHeight - box.scrollTop - box.clientHeight < 120;

function refocus({ act, track, by, turn, reaction }) {
  const found = [...document.querySelectorAll(`[data-act="${act}"]`)].filter((one) =>
    (track === undefined || one.dataset.track === String(track)) && (by === undefined || one.dataset.by === String(by)) &&
    (turn === undefined || one.dataset.turn === String(turn)) && (reaction === undefined || one.dataset.reaction === reaction));
  let target = found.find((one) => getComputedStyle(one).visibility !== "hidden");
  if (!target && found[0]) target = found[0].closest(".tp-row")?.querySelector('[data-act="move"][data-by="1"], [data-act="remove"]');
  if (target && getComputedStyle(target).visibility === "hidden") target = target.closest(".tp-row")?.querySelector('[data-act="move"][data-by="-1"]');
  (target || document.querySelector("#tp-playlist .tp-row button") || $("tp-input")).focus({ preventScroll: !target });
}

const hasMouse = () => matchMedia("(pointer: fine)").matches;
const pace = () => (matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth");
const jump = (id) => $(id)?.scrollIntoView({ behavior: pace(), block: "start" });

const here = {
  send: submit,
  say: (data) => {
    if (!send("say", { text: data.text })) return;
    follow(true);
    // the button goes with the answer; on a phone the keyboard would come up
    if (hasMouse()) $("tp-input").focus({ preventScroll: true });
  },
  edit: (data, button) => edit(data.turn, button.parentElement.querySelector("p").textContent),
  "cancel-edit": () => { endEdit(); $("tp-input").focus(); },
  jump: (data) => jump(data.target),
  theme: () => {
    const dark = document.body.classList.toggle("dark");
    try { localStorage.setItem(THEME, dark ? "dark" : "light"); } catch {}
  },
  share: () => {
    showLink();
    $("tp-share").showModal();
    send("link"); // the settings may have changed since
  },
  close: () => $("tp-share").close(),
  copy: async () => {
    const box = $("tp-link");
    box.select();
    let done = true;
    try { await navigator.clipboard.writeText(box.value); } catch { done = document.execCommand("copy"); }
    $("tp-share-note").textContent = done ? "Copied." : "Please copy the link from the box.";
  },
  new: () => { send("new"); $("tp-input").focus(); },
  play: (data) => {
    const sound = [...document.querySelectorAll("#tp-feed audio")].findLast((one) => one.dataset.track === data.track);
    if (sound) sound.paused ? sound.play() : sound.pause();
  },
  code: (data, button) => {
    const opens = button.getAttribute("aria-expanded") !== "true";
    for (const chip of document.querySelectorAll('[data-act="code"]')) {
      const open = opens && chip === button;
      chip.setAttribute("aria-expanded", String(open));
      chip.classList.toggle("is-open", open);
      const details = $(chip.getAttribute("aria-controls"));
      if (details) details.hidden = !open;
    }
  },
  swap: (data, button) => {
    send("swap", { modality: data.modality, code: button.closest(".tp-swap").querySelector("select").value });
  },
  why: (data) => {
    send("why", data);
    if (getComputedStyle($("tp-feed")).overflowY !== "auto") jump("tp-why");
  },
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-act]");
  if (!button) return;
  const { act, ...data } = button.dataset;
  if (here[act]) here[act](data, button);
  else send(act, data);
});

document.addEventListener("keydown", (event) => {
  if (event.target.id === "tp-input") {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      submit();
    } else if (event.key === "Escape" && editing !== null) here["cancel-edit"]();
    else if (event.key === "ArrowUp" && !event.target.value) document.querySelector('#tp-feed [data-act="edit"]')?.click();
  }
});
document.addEventListener("input", ({ target }) => {
  if (target.id !== "tp-input") return;
  grow();
  // what is pasted beyond that is left out without a word by the browser
  if (target.value.length >= target.maxLength) hint(`This is as long as a message can be: ${target.maxLength.toLocaleString("en")} characters.`);
  else if (hinted) hint("");
});

// One sound at a time.
document.addEventListener("play", (event) => {
  for (const sound of document.querySelectorAll("#tp-feed audio")) if (sound !== event.target) sound.pause();
}, true);

document.addEventListener("change", (event) => {
  if (!event.target.matches(".tp-menu")) return;
  const [model, catalog] = menus().map((menu) => menu.value);
  send("choose", { model, catalog, from: event.target.id });
});

document.addEventListener("change", async (event) => {
  if (event.target.id !== "tp-file" || !event.target.files.length) return;
  const [file] = event.target.files;
  const text = file.size < 2e6 ? await file.text() : null;
  event.target.value = "";
  if (text === null) $("tp-share-note").textContent = "This file is too large to be a conversation.";
  else send("load", { text });
});

// Reorder by drag; the buttons do the same for those who do not drag.
const rows = () => [...document.querySelectorAll("#tp-playlist .tp-row")];
const unmark = () => rows().forEach((row) => row.classList.remove("tp-above", "tp-below", "tp-dragged"));
document.addEventListener("dragstart", (event) => {
  const row = event.target.closest?.(".tp-row");
  if (!row) return;
  dragged = row.dataset.track;
  event.dataTransfer.effectAllowed = "move";
  event.dataTransfer.setData("text/plain", row.querySelector(".tp-name").innerText);
  row.classList.add("tp-dragged");
});
document.addEventListener("dragover", (event) => {
  const row = event.target.closest?.(".tp-row");
  if (!dragged || !row) return;
  event.preventDefault();
  const order = rows(), from = order.findIndex((one) => one.dataset.track === dragged), to = order.indexOf(row);
  order.forEach((one) => one.classList.remove("tp-above", "tp-below"));
  if (from !== to) row.classList.add(to < from ? "tp-above" : "tp-below");
});
document.addEventListener("drop", (event) => {
  const row = event.target.closest?.(".tp-row");
  if (!dragged || !row) return;
  event.preventDefault();
  const order = rows(), by = order.indexOf(row) - order.findIndex((one) => one.dataset.track === dragged);
  if (by) send("move", { track: dragged, by });
});
document.addEventListener("dragend", () => { dragged = null; unmark(); });

// What gradio's components cannot be told from Python. It draws them one by one, so this waits.
function start() {
  if (!["tp-feed", "tp-input", "tp-share", "tp-playlist", "tp-why"].every($)) return requestAnimationFrame(start);
  const feed = $("tp-feed");
  for (const [id, label] of [["tp-feed", "Conversation"], ["tp-playlist", "Playlist"]]) {
    $(id).setAttribute("role", "region");
    $(id).setAttribute("aria-label", label);
  }
  feed.tabIndex = 0;
  feed.addEventListener("scroll", () => { following = atEnd(feed); }, { passive: true });
  new MutationObserver(() => { if (running && running[0] === "turn") follow(); })
    .observe(feed, { childList: true, subtree: true, characterData: true });
  $("tp-share").addEventListener("click", (event) => { if (event.target === $("tp-share")) $("tp-share").close(); });
  try {
    const theme = localStorage.getItem(THEME);
    if (theme && !asked("__theme")) document.body.classList.toggle("dark", theme === "dark");
  } catch {}
  const given = kept();
  if (given) send("load", { code: given });
  if (hasMouse()) $("tp-input").focus();
}
start();
