// The console: asks the node how it is every two seconds and shows it. Nobody looking, nothing asked.

import * as actions from "./actions.js";
import { ApiError, get } from "./api.js";
import { Chart, History } from "./charts.js";
import { button, describe, element, find, reconcile, setText } from "./dom.js";
import { bytes, clock, count, duration, messages, moment, rate } from "./format.js";
import { closeDrawer, openReady, openScheduled } from "./messages.js";
import { Growth, showReady, showRules, showScheduled, showSites, showTenants } from "./tables.js";

const INTERVAL = 2000; // milliseconds between two looks
const PATIENCE = 60_000; // between two summaries for screen readers
const OUTCOME = 15_000; // for which the outcome of an action is shown
const LIMIT = 50;

const view = { order: "size", match: "" };
let last = null; // the last overview
let paused = false;
let timer = null;
let looking = false;
let again = false; // something was chosen while a look was under way
let spoken = -Infinity;
let outcome = { text: "", until: -Infinity };

const history = new History();
const readyGrowth = new Growth();
const siteGrowth = new Growth();
const charts = [
  ["received", "Received"],
  ["delivered", "Delivered"],
  ["transfailed", "Deferred"],
  ["failed", "Bounced"],
].map(([name, title]) => new Chart(find("#charts"), name, title));

// -- looking ---------------------------------------------------------------------------------------
async function look() {
  clearTimeout(timer);
  if (looking) {
    again = true;
    return;
  }
  looking = true;
  again = false;
  const asked = { ...view };
  try {
    const overview = await get("/api/kumo-py/overview/v1", { limit: LIMIT, ...asked });
    last = overview;
    show(overview, asked);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    trouble(error);
  } finally {
    looking = false;
    if (again) look();
    else if (!paused && !document.hidden) timer = setTimeout(look, INTERVAL);
  }
}

const TROUBLE = { 0: ["away", "Away"], 503: ["starting", "Starting"] }; // by the status of the answer

function trouble(error) {
  const [state, word] = TROUBLE[error.status] ?? ["away", "Refused"];
  setState(state, word);
  const since = last ? ` What you see is of ${clock(last.now)}.` : "";
  const text = error.status === 503 ? `Not ready: ${error.message}.` : `${error.message}${since} Trying again…`;
  notices([{ key: "away", kind: "error", title: text }]);
  document.body.classList.add("stale");
}

function setState(state, text) {
  const node = find("#state");
  node.dataset.state = state;
  setText(node, text);
}

// -- showing ---------------------------------------------------------------------------------------
function show(overview, asked) {
  const { node, totals, policy } = overview;
  const time = Date.parse(overview.now) / 1000;
  const context = { now: overview.now, time, match: asked.match };
  const { received, delivered, failed, transfailed, cpu_seconds } = totals;
  history.add(node.started, time, { received, delivered, failed, transfailed, cpu_seconds });

  document.body.classList.remove("stale");
  document.body.classList.toggle("with-actions", overview.console === "actions");
  if (!paused) setState("live", "Live");
  setText(find("#hostname"), node.hostname);
  setText(find("#facts"), `up ${duration(node.uptime)} · policy epoch ${policy.epoch}`);
  setText(find("#version"), node.version);
  document.title = `${node.hostname} · kumo-py`;
  for (const chart of charts) chart.show(history, time, totals[chart.name]);
  showTotals(totals);
  showNotices(overview);

  const { scheduled_queues: scheduled, ready_queues: ready, rules } = overview;
  setText(find("#scheduled-count"), counted(scheduled, asked.match));
  setText(find("#ready-count"), counted(ready, asked.match));
  setText(find("#rules-count"), rules.count > rules.shown.length ? `${rules.shown.length} of ${rules.count}` : "");
  showScheduled(find("#scheduled"), scheduled.shown, context, openQueue);
  showReady(find("#ready"), ready.shown, context, readyGrowth, openReadyQueue);
  showTenants(find("#tenants"), overview.tenants, (tenant) => setFilter(`${tenant}@`));
  showSites(find("#sites"), overview.sites, context, siteGrowth, (site) => setFilter(site));
  showRules(find("#rules"), rules.shown, mayAct() ? (rule) => actions.end(rule, look) : null);
  showPolicy(policy);
  speak(totals);
}

const mayAct = () => last?.console === "actions";

function counted({ count: all, shown }, match) {
  const what = match ? `${count(all)} with “${match}”` : count(all);
  return shown.length < all ? `${shown.length} of ${what}` : what;
}

// Key, title, value, and what stands below it.
const TILES = [
  ["scheduled", "Waiting", (totals) => count(totals.scheduled), waitingNote],
  ["ready", "Ready", (totals) => count(totals.ready), () => "in ready queues"],
  ["connections", "Connections", connections, () => "open now"],
  ["memory", "Memory", (totals) => bytes(totals.memory_usage), memoryNote],
  ["cpu", "CPU", cpu, (totals) => `of a core, ${duration(totals.cpu_seconds)} in all`],
];

function waitingNote({ held }) {
  return held ? `in scheduled queues, ${count(held)} held` : "in scheduled queues";
}

function connections(totals) {
  return `${count(totals.connections_in)} in · ${count(totals.connections_out)} out`;
}

function memoryNote({ memory_limit: limit }) {
  return limit === null ? "no limit" : `of ${bytes(limit)}`;
}

function cpu() {
  const share = history.now("cpu_seconds");
  return share === null ? "–" : `${Math.round(share * 100)} %`;
}

function showTotals(totals) {
  const used = totals.memory_limit ? Math.min(1, totals.memory_usage / totals.memory_limit) : 0;
  const tiles = TILES.map(([key, title, value, note]) => ({ key, title, value: value(totals), note: note(totals) }));
  reconcile(find("#totals"), tiles, (tile) => tile.key, ({ key, title }) => {
    const [value, note] = [element("dd", { class: "value", id: `total-${key}` }), element("dd", { class: "muted" })];
    const tile = element("div", { class: "tile" }, element("dt", {}, title), value, note);
    const meter = key === "memory" ? element("dd", { class: "meter", "aria-hidden": "true" }, element("span")) : null;
    if (meter) tile.append(meter);
    tile.show = (now) => {
      setText(value, now.value);
      setText(note, now.note);
      if (meter) meter.firstChild.style.inlineSize = `${100 * now.used}%`;
    };
    return tile;
  }, (tile) => ({ ...tile, used }));
}

function showNotices({ policy, totals }) {
  const found = [];
  if (performance.now() < outcome.until) found.push({ key: outcome.text, kind: "info", title: outcome.text });
  if (policy.error !== null) {
    const when = moment(policy.failed_at * 1000);
    const title = `The edited policy was refused at ${when}. Epoch ${policy.epoch} goes on.`;
    found.push({ key: "policy", kind: "error", title, text: policy.error });
  }
  if (policy.restart_needed.length) {
    const title = "Takes effect at the next start only:";
    found.push({ key: "restart", kind: "warning", title, text: policy.restart_needed.join("\n") });
  }
  if (totals.memory_limit !== null && totals.memory_usage > totals.memory_limit) {
    found.push({ key: "memory", kind: "error", title: "Memory is above its limit: no mail is taken until it falls." });
  }
  notices(found);
}

function notices(found) {
  reconcile(find("#notices"), found, (notice) => notice.key, ({ kind }) => {
    const [title, text] = [element("p"), element("pre", { tabindex: "0" })];
    const made = element("div", { class: `notice ${kind}` }, title, text);
    made.show = (notice) => {
      setText(title, notice.title);
      setText(text, notice.text ?? "");
      text.hidden = !notice.text;
    };
    return made;
  });
}

function showPolicy(policy) {
  const entries = [
    ["Epoch", String(policy.epoch)],
    ["Since", moment(policy.since * 1000)],
    ["File", policy.policy],
    ["Reloads", `${count(policy.reloads)} taken, ${count(policy.failures)} refused`],
    ["Last edit", policy.error === null ? "in effect" : `refused: ${policy.error}`],
  ];
  const text = JSON.stringify(entries);
  const list = find("#policy");
  if (list.dataset.shown === text) return;
  list.dataset.shown = text;
  describe(list, entries);
}

// Once a minute, so that who listens is not interrupted all the time.
function speak(totals) {
  if (performance.now() - spoken < PATIENCE) return;
  spoken = performance.now();
  const delivered = `${rate(history.now("delivered"))} delivered a second`;
  const waiting = `${messages(totals.scheduled)} waiting, ${count(totals.ready)} ready`;
  setText(find("#summary"), `${waiting}, ${delivered}, ${count(totals.failed)} bounced so far.`);
}

// -- what may be chosen ----------------------------------------------------------------------------
function openQueue(queue) {
  openScheduled(queue, last.now, mayAct() ? scheduledActions(queue) : []);
}

function scheduledActions(queue) {
  const change = queue.suspended === null
    ? button("Suspend…", () => actions.suspend(queue, changed))
    : button("Resume…", () => actions.end(ruleOf(queue, "suspend"), changed));
  const operate = (kind, label) => button(label, () => actions.operate(kind, queue, changed));
  return [
    queue.messages > queue.held ? operate("flush", "Try now…") : null,
    queue.messages > queue.held ? operate("hold", "Hold…") : null,
    queue.held ? operate("release", "Release…") : null,
    change,
    button("Bounce…", () => actions.bounce(queue, changed), { class: "danger" }),
  ].filter(Boolean);
}

function openReadyQueue(queue) {
  openReady(queue, last.now, mayAct() ? readyActions(queue) : []);
}

function readyActions(queue) {
  if (queue.suspension_id !== null) {
    return [button("Resume…", () => actions.end(ruleOf(queue, "suspend-ready-q"), changed))];
  }
  return [button("Suspend…", () => actions.suspendReady(queue, changed))];
}

// The rule by which a queue is suspended; it may be about others too.
function ruleOf(queue, kind) {
  const known = last.rules.shown.find((rule) => rule.id === queue.suspension_id);
  return known ?? { kind, id: queue.suspension_id, name: `${queue.name}, and perhaps others`, reason: queue.suspended };
}

// `text` says what has come of it, for a while.
function changed(text = null) {
  if (text !== null) outcome = { text, until: performance.now() + OUTCOME };
  closeDrawer();
  look();
}

function setFilter(text) {
  const box = find("#filter");
  box.value = text;
  box.dispatchEvent(new Event("input"));
  box.focus();
  find("#queues").scrollIntoView({ block: "start" });
}

let typing = null;
find("#filter").addEventListener("input", (event) => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    view.match = event.target.value.trim();
    look();
  }, 250);
});

for (const control of document.querySelectorAll("#scheduled [data-order]")) {
  control.addEventListener("click", () => {
    view.order = control.dataset.order;
    for (const head of document.querySelectorAll("#scheduled th")) head.removeAttribute("aria-sort");
    control.closest("th").setAttribute("aria-sort", "descending");
    look();
  });
}

find("#pause").addEventListener("click", ({ target }) => {
  paused = !paused;
  target.setAttribute("aria-pressed", String(paused));
  setText(target, paused ? "Go on" : "Pause");
  if (paused) {
    clearTimeout(timer);
    setState("paused", "Paused");
  } else {
    look();
  }
});

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !paused) look();
});

look();
