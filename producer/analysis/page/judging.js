// Judgements: kept in the browser by the name of the comparison, in the page itself if it was saved with them, and in files.

const VERDICTS = ["better", "tie", null];

/** A time as it is compared with others: one that is none, or still to come, is older than all. */
function moment(given) {
  const time = Date.parse(given);
  return time <= Date.now() + 86400000 ? new Date(time).toISOString() : "";
}

class Judgements {
  constructor(data, embedded) {
    this.data = data;
    this.name = `kotae:${data.id}`;
    this.byPlace = new Map();
    this.watchers = [];
    this.kept = true;
    this.take(embedded);
    this.read();
    window.addEventListener("storage", (event) => {
      if (event.key === this.name) { this.read(); this.tell(); }
    });
  }

  of(place) {
    return this.byPlace.get(place) || { verdict: null, best: null, note: "" };
  }

  isJudged(place) {
    return this.of(place).verdict !== null;
  }

  /** Change what is judged of a question; what is taken back is kept as nothing, so that an older page does not bring it back. */
  change(place, changes, blind) {
    this.byPlace.set(place, { ...this.of(place), ...changes, blind, judged_at: new Date().toISOString() });
    this.write();
    this.tell();
  }

  tell() {
    for (const watcher of this.watchers) watcher();
  }

  /** Verdicts by source, ties, and how many questions are judged. */
  totals() {
    const best = this.data.sources.map(() => 0);
    let ties = 0;
    for (const { verdict, best: winner } of this.byPlace.values()) {
      if (verdict === "better") best[winner] += 1;
      else if (verdict === "tie") ties += 1;
    }
    return { best, ties, judged: ties + best.reduce((sum, n) => sum + n, 0) };
  }

  read() {
    try {
      this.take(JSON.parse(localStorage.getItem(this.name)));
    } catch {
      this.kept = false;
    }
  }

  write() {
    try {
      localStorage.setItem(this.name, JSON.stringify([...this.byPlace]));
      this.kept = true;
    } catch {
      this.kept = false;
    }
  }

  /** Take pairs of place and judgement in, unless a newer one is there; return how many were taken. */
  take(pairs) {
    let taken = 0;
    for (const pair of Array.isArray(pairs) ? pairs : []) {
      if (!Array.isArray(pair)) continue;
      const [place, given] = pair;
      const judgement = this.checked(place, given);
      if (!judgement) continue;
      const known = this.byPlace.get(place);
      if (known && known.judged_at >= judgement.judged_at) continue;
      this.byPlace.set(place, judgement);
      taken += 1;
    }
    return taken;
  }

  checked(place, given) {
    if (!Number.isInteger(place) || place < 0 || place >= this.data.length || !given || typeof given !== "object") return null;
    const verdict = given.verdict ?? null;
    const best = verdict === "better" ? given.best : null;
    const known = verdict !== "better" || (Number.isInteger(best) && best >= 0 && best < this.data.sources.length);
    if (!VERDICTS.includes(verdict) || !known) return null;
    return { verdict, best, note: String(given.note ?? ""), blind: Boolean(given.blind), judged_at: moment(given.judged_at) };
  }

  pairs() {
    return [...this.byPlace].sort(([one], [other]) => one - other);
  }

  /** What is exported; docs/analysis.md describes it. */
  async exported() {
    const judgements = [];
    for (const [place, { verdict, best, note, blind, judged_at }] of this.pairs()) {
      if (verdict === null && !note.trim()) continue;
      const { question } = await this.data.texts(place);
      const { keys, digests, sides } = this.data.index;
      const rows = sides.map((side) => (side.rows[place] < 0 ? null : side.rows[place]));
      const order = blind ? shuffled(this.data.id, place, sides.length) : [...sides.keys()];
      judgements.push({ place, key: keys ? keys[place] : "", rows, question, digest: digests[place], verdict, best, note, blind, order, judged_at });
    }
    const { id, sources, join } = this.data;
    return { format: "kotae-judgements", version: 1, comparison: id, sources, join, exported_at: new Date().toISOString(), judgements };
  }

  /** Take an export in; return how many judgements were taken, older than ours, and about other replies. Throws Error in plain words. */
  imported(value) {
    if (!value || value.format !== "kotae-judgements" || !Array.isArray(value.judgements)) throw new Error("This is no file of judgements that this page, or another one, has exported.");
    if (value.version !== 1) throw new Error(`These judgements are of version ${value.version}; this page knows version 1.`);
    const { digests } = this.data.index;
    const same = value.judgements.filter((one) => one && typeof one.digest === "string" && digests[one.place] === one.digest);
    const taken = this.take(same.map((one) => [one.place, one]));
    this.write();
    this.tell();
    return { taken, older: same.length - taken, others: value.judgements.length - same.length };
  }
}
