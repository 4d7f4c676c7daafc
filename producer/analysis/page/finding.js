// Which questions are listed, and in which order.

const ORDERS = {
  sheet: "Order of the sheet",
  length: "Length differs most",
  repetition: "Most repetition",
  longest: "Longest replies",
};

class Finding {
  constructor(data, judgements) {
    this.data = data;
    this.judgements = judgements;
    this.wanted = { text: "", outcome: "", judged: "", order: "sheet", columns: new Map() };
    /** Places that are listed, in order; how far the search has come, from 0 to 1. */
    this.places = [];
    this.progress = 1;
    this.watchers = [];
    this.run = 0;
  }

  change(changes) {
    Object.assign(this.wanted, changes);
    return this.find();
  }

  /** Look for what is wanted; watchers hear of it while it goes on. */
  async find() {
    const run = ++this.run;
    const terms = folded(this.wanted.text).split(/\s+/).filter(Boolean);
    const candidates = this.candidates();
    if (!terms.length) {
      this.tell(candidates, 1);
      return;
    }
    const found = new Set();
    const byChunk = new Map();
    for (const place of candidates) {
      const chunk = this.data.chunkOf(place);
      byChunk.set(chunk, [...(byChunk.get(chunk) || []), place]);
    }
    let done = 0;
    let told = performance.now();
    for (const [chunk, places] of [...byChunk].sort(([one], [other]) => one - other)) {
      const texts = await this.data.chunk(chunk);
      if (run !== this.run) return;
      for (const place of places) if (holds(texts[place - this.data.index.starts[chunk]], terms)) found.add(place);
      done += 1;
      if (performance.now() - told > 150) {
        told = performance.now();
        this.tell(candidates.filter((place) => found.has(place)), done / byChunk.size);
        await new Promise((resume) => { setTimeout(resume); });
        if (run !== this.run) return;
      }
    }
    this.tell(candidates.filter((place) => found.has(place)), 1);
  }

  tell(places, progress) {
    this.places = places;
    this.progress = progress;
    for (const watcher of this.watchers) watcher();
  }

  candidates() {
    const { data, wanted } = this;
    const places = [];
    for (let place = 0; place < data.length; place += 1) if (this.passes(place)) places.push(place);
    const weigh = {
      length: (place) => data.lengthDifference(place),
      repetition: (place) => data.repetition(place),
      longest: (place) => Math.max(...data.index.sides.map((side) => side.answers[place] + side.reasonings[place])),
    }[wanted.order];
    if (!weigh) return places;
    const weights = new Map(places.map((place) => [place, weigh(place)]));
    return places.sort((one, other) => weights.get(other) - weights.get(one) || one - other);
  }

  passes(place) {
    const { outcome, judged, columns } = this.wanted;
    if (outcome) {
      const outcomes = this.data.outcomes(place);
      if (outcome === "differ" ? new Set(outcomes).size < 2 : !outcomes.includes(outcome)) return false;
    }
    if (judged && !this.isJudged(place, judged)) return false;
    for (const [filter, code] of columns) if (filter.codes[place] !== code) return false;
    return true;
  }

  isJudged(place, wanted) {
    const { verdict, best, note } = this.judgements.of(place);
    if (wanted === "no") return verdict === null;
    if (wanted === "yes") return verdict !== null;
    if (wanted === "note") return Boolean(note.trim());
    return wanted === "tie" ? verdict === "tie" : verdict === "better" && String(best) === wanted;
  }
}

/** All terms somewhere in a row: its question, its columns, its replies. */
function holds(row, terms) {
  let left = terms;
  const look = (text) => {
    if (left.length && text) {
      const within = folded(text);
      left = left.filter((term) => !within.includes(term));
    }
  };
  look(row.question);
  row.cells.forEach(look);
  for (const side of row.sides) {
    for (const reply of side ? side.replies : []) {
      look(reply.answer);
      look(reply.reasoning);
    }
    if (side) look(side.error);
  }
  return !left.length;
}
