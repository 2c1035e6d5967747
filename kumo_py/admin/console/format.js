// Numbers, times and sizes as people read them. No state, no document.

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const count = (value) => whole.format(value);

export const compact = (value) => (value < 10_000 ? whole.format(value) : short.format(value));

export function rate(value) {
  if (value === null) return "–";
  if (value >= 10_000) return short.format(value);
  if (value >= 10 || value === 0) return whole.format(Math.round(value));
  return value < 0.1 ? "<0.1" : value.toFixed(1);
}

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value < 10 && unit ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

const UNITS = [
  ["d", 86400],
  ["h", 3600],
  ["m", 60],
  ["s", 1],
];

// The two largest units: "3d 4h", "12s".
export function duration(seconds) {
  let left = Math.max(0, Math.round(seconds));
  const parts = [];
  for (const [name, length] of UNITS) {
    const number = Math.floor(left / length);
    left -= number * length;
    if (number || parts.length || name === "s") parts.push(number || !parts.length ? `${number}${name}` : "");
    if (parts.length === 2) break;
  }
  return parts.filter(Boolean).join(" ");
}

// `when` and `now` are RFC 3339, both by the node's clock.
const passed = (when, now) => (Date.parse(now) - Date.parse(when)) / 1000;

export const age = (when, now) => duration(passed(when, now));

export const ago = (when, now) => (passed(when, now) < 1.5 ? "just now" : `${age(when, now)} ago`);

export function due(when, now) {
  const seconds = -passed(when, now);
  return seconds <= 0 ? "now" : `in ${duration(seconds)}`;
}

export const clock = (when) => new Date(when).toLocaleTimeString("en-GB");

export const moment = (when) => new Date(when).toISOString().replace("T", " ").slice(0, 19) + " UTC";

export const messages = (number) => (number === 1 ? "1 message" : `${count(number)} messages`);
