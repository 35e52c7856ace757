// Numbers, times and names as people read them.

const units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];

// bytes uses decimal units, as -format text does.
export function bytes(n) {
  let unit = 0;
  while (n >= 999.5 && unit < units.length - 1) {
    n /= 1000;
    unit++;
  }
  return `${unit === 0 || n >= 99.95 ? Math.round(n) : n.toFixed(1)} ${units[unit]}`;
}

// room is a size of memory as flags have it.
export const room = n => (n >= 1 << 20 ? `${+(n / (1 << 20)).toFixed(1)} MiB` : `${Math.round(n / 1024)} KiB`);

const whole = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const count = n => whole.format(Math.round(n));
export const short = n => (n < 10000 ? whole.format(Math.round(n)) : compact.format(n));

const two = n => String(n).padStart(2, "0");

// clock is the time of day; with the day before it where that is not today.
export function clock(time) {
  const t = new Date(time);
  if (isNaN(t)) return "–";
  const hours = `${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`;
  return t.toDateString() === new Date().toDateString() ? hours : `${day(t)} ${hours}`;
}

const day = t => `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())}`;

// span is a duration in its two largest units.
export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${two(s % 60)} s`;
  return `${Math.floor(s / 3600)} h ${two(Math.floor(s / 60) % 60)} min`;
}

// endName is how one end of a pair is called.
export const endName = e => (e.namespace ? `${e.namespace}/${e.name}` : e.name || "outside");

// quote writes text as a literal of the filter language, which has Go's escapes.
export const quote = text => JSON.stringify(text);
