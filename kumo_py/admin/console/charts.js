// Rates over the last five minutes, made of the counters that the node tells, and small charts of them.

import { element, setAttribute, setText } from "./dom.js";
import { count, rate } from "./format.js";

const WINDOW = 300; // seconds
const GAP = 15; // seconds without an answer after which a line is broken
const STORE = "kumo-py.history";
const WIDTH = 300;
const HEIGHT = 64;

// Samples of counters. A reload of the page keeps them.
export class History {
  #started = null;
  #samples = [];

  constructor() {
    try {
      const stored = JSON.parse(sessionStorage.getItem(STORE) ?? "{}");
      this.#started = stored.started ?? null;
      this.#samples = stored.samples ?? [];
    } catch {
      // Not ours, or not allowed: it begins empty.
    }
  }

  // `values` are counters by name; `time` is the node's, in seconds.
  add(started, time, values) {
    const last = this.#samples.at(-1);
    if (this.#started !== started || (last && last.time > time)) this.#samples = [];
    this.#started = started;
    if (last && last.time === time) return;
    this.#samples.push({ time, values });
    this.#samples = this.#samples.filter((sample) => sample.time >= time - WINDOW - GAP);
    try {
      sessionStorage.setItem(STORE, JSON.stringify({ started, samples: this.#samples }));
    } catch {
      // Then a reload begins anew.
    }
  }

  // How fast a counter grows: [{ time, value }], value per second, null after a gap.
  rates(name) {
    const found = [];
    for (let index = 1; index < this.#samples.length; index += 1) {
      const before = this.#samples[index - 1];
      const after = this.#samples[index];
      const seconds = after.time - before.time;
      const grown = after.values[name] - before.values[name];
      found.push({ time: after.time, value: seconds > GAP || seconds <= 0 ? null : Math.max(0, grown) / seconds });
    }
    return found;
  }

  // The rate now: over the last few seconds, so that it does not flicker. Null if it is not known yet.
  now(name, seconds = 6) {
    const last = this.#samples.at(-1);
    const first = last && this.#samples.find((sample) => sample.time >= last.time - seconds);
    if (!first || first === last) return null;
    return Math.max(0, last.values[name] - first.values[name]) / (last.time - first.time);
  }
}

const svg = (tag, attributes) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
};

// A card with a name, the rate now, and its chart.
export class Chart {
  #title;
  #value = element("output", { class: "value" }, "–");
  #total = element("span");
  #peak = element("span");
  #picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  #area = svg("path", { class: "area" });
  #line = svg("path", { class: "line" });

  constructor(parent, name, title) {
    this.name = name;
    this.#title = title;
    this.#total.id = `total-${name}`;
    const aside = element("span", { class: "aside muted" }, this.#peak, this.#total);
    const baseline = svg("path", { class: "baseline", d: `M0 ${HEIGHT - 0.5}H${WIDTH}` });
    this.#picture.append(baseline, this.#area, this.#line);
    parent.append(
      element(
        "figure",
        { class: `card chart ${name}`, id: `chart-${name}` },
        element("figcaption", {}, element("span", { class: "dot" }), title),
        element("div", { class: "row" }, this.#value, aside),
        this.#picture,
      ),
    );
  }

  // `total` is the counter itself.
  show(history, time, total) {
    const points = history.rates(this.name);
    const peak = Math.max(0, ...points.map((point) => point.value ?? 0));
    const scale = Math.max(1, peak) * 1.08;
    const x = (at) => (((at - time + WINDOW) / WINDOW) * WIDTH).toFixed(1);
    const y = (value) => (HEIGHT - 1 - (value / scale) * (HEIGHT - 4)).toFixed(1);
    let line = "";
    let area = "";
    let begun = null;
    let last = null;
    const end = () => {
      if (begun !== null) area += `L${x(last)} ${HEIGHT}L${x(begun)} ${HEIGHT}Z`;
      begun = null;
    };
    for (const { time: at, value } of points) {
      if (value === null) {
        end();
        continue;
      }
      const step = `${begun === null ? "M" : "L"}${x(at)} ${y(value)}`;
      line += step;
      area += step;
      begun ??= at;
      last = at;
    }
    end();
    setAttribute(this.#line, "d", line);
    setAttribute(this.#area, "d", area);
    const now = rate(history.now(this.name));
    setText(this.#value, now);
    setText(this.#peak, peak > 0 ? `peak ${rate(peak)}` : "");
    setText(this.#total, `${count(total)} in all`);
    setAttribute(this.#picture, "aria-label", `${this.#title}: ${now} per second now, at most ${rate(peak)}`);
  }
}
