// Numbers and times as people read them. What is not known is a dash, never a zero.

export const UNKNOWN = "\u2013";

export function usd(value) {
  if (value === null || value === undefined) return UNKNOWN;
  const size = Math.abs(value);
  const sign = value < 0 ? "\u2212" : "";
  if (size === 0) return "$0";
  if (size >= 1000) return `${sign}$${Math.round(size).toLocaleString("en")}`;
  if (size >= 1) return `${sign}$${size.toFixed(2)}`;
  const digits = Math.min(8, 2 - Math.floor(Math.log10(size)));
  return `${sign}$${size.toFixed(digits).replace(/(\.\d\d\d*?)0+$/, "$1")}`;
}

export function percent(share) {
  if (share === null || share === undefined) return UNKNOWN;
  const value = share * 100;
  const text = Math.abs(value) < 9.95 && value !== 0 ? value.toFixed(1) : value.toFixed(0);
  return `${text.replace("-", "\u2212")} %`;
}

export function count(value) {
  return value === null || value === undefined ? UNKNOWN : Number(value).toLocaleString("en");
}

export function counted(value, one, many = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : many}`;
}

export function seconds(value) {
  if (value === null || value === undefined) return UNKNOWN;
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  return value < 100 ? `${value.toFixed(1)} s` : `${Math.round(value / 60)} min`;
}

export function clock(moment) {
  if (!moment) return UNKNOWN;
  const at = new Date(moment);
  if (Number.isNaN(at.getTime())) return UNKNOWN;
  const today = at.toDateString() === new Date().toDateString();
  const time = at.toLocaleTimeString("en-GB");
  return today ? time : `${at.toLocaleDateString("en-CA")} ${time}`;
}

// An interval at 95 %, in words; nothing where there is none.
export function between(low, high, format) {
  if (low === null || low === undefined) return "";
  return high === null || high === undefined ? `95 %: ${format(low)} or more` : `95 %: ${format(low)} to ${format(high)}`;
}

export function outcome(success) {
  return success === true ? "succeeded" : success === false ? "failed" : "not known";
}
