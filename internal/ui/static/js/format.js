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

// volume is a dash where all packets are counted elsewhere.
export const volume = n => (n > 0 ? bytes(n) : "–");

// room is a size of memory as flags have it.
export const room = n => (n >= 1 << 20 ? `${+(n / (1 << 20)).toFixed(1)} MiB` : `${Math.round(n / 1024)} KiB`);

const whole = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const count = n => whole.format(Math.round(n));
export const short = n => (n < 10000 ? whole.format(Math.round(n)) : compact.format(n));

// many is a number of things, one thing or several.
export const many = (n, thing, things = `${thing}s`) => `${count(n)} ${Math.round(n) === 1 ? thing : things}`;

const two = n => String(n).padStart(2, "0");
const today = () => new Date().toDateString();
let usual = ""; // the day that goes without saying: that of the newest record

export function setDay(newest) {
  usual = newest ? new Date(newest).toDateString() : "";
}

// clock is the time of day, for lists: with the day before it where that is not the newest
// record's. moment, where it stands alone, has the day unless that is today.
export const clock = time => at(time, usual || today());
export const isDated = time => clock(time).length > 8; // with the day
export const moment = time => at(time, today());

function at(time, known) {
  const t = new Date(time);
  if (isNaN(t)) return "–";
  const hours = `${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`;
  return t.toDateString() === known ? hours : `${day(t)} ${hours}`;
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
