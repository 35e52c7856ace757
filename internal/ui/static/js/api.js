// The API under /api/v1, which is all that the page asks for.

const base = new URL("api/v1/", document.baseURI);

// Refused is an answer that says what is wrong with the question.
export class Refused extends Error {
  constructor(message, position) {
    super(message);
    this.position = position; // of a character in the filter, from 1 on; 0 where another thing is wrong
  }
}

export function address(path, parameters) {
  const url = new URL(path, base);
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== "" && value !== undefined && value !== null) url.searchParams.set(name, value);
  }
  return url;
}

export async function get(path, parameters = {}, signal) {
  const answer = await fetch(address(path, parameters), { signal, headers: { Accept: "application/json" } });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(body.error || `the collector answers with status ${answer.status}`, body.position);
  return body;
}

// follow listens to new records. The browser connects again by itself.
export function follow(parameters, { record, skipped, open, lost }) {
  const source = new EventSource(address("flows", parameters));
  source.addEventListener("flow", e => record(JSON.parse(e.data)));
  source.addEventListener("skipped", e => skipped(Number(e.data)));
  source.onopen = open;
  source.onerror = () => lost(source.readyState === EventSource.CLOSED);
  return () => source.close();
}
