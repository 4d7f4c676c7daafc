// What is compared. All of it lies packed in the page; texts are unpacked when they are looked at.

/** Characters of packed texts that stay unpacked. */
const KEPT = 12e6;

const block = (id) => JSON.parse(document.getElementById(id).textContent);

async function unpacked(element) {
  const bytes = Uint8Array.from(atob(JSON.parse(element.textContent)), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

class Data {
  static async open() {
    return new Data(block("about"), await unpacked(document.getElementById("index")));
  }

  constructor(about, index) {
    Object.assign(this, about);
    this.length = about.rows;
    this.index = index;
    this.chunks = [...document.querySelectorAll("script.chunk")];
    this.kept = new Map();
  }

  chunkOf(place) {
    const { starts } = this.index;
    let low = 0;
    let high = starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (starts[middle] <= place) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** Texts of the rows of a chunk; those used last stay in memory. */
  chunk(number) {
    const known = this.kept.get(number);
    this.kept.delete(number);
    const texts = known || unpacked(this.chunks[number]);
    this.kept.set(number, texts);
    let size = 0;
    for (const [other] of [...this.kept].reverse()) {
      size += this.chunks[other].textContent.length;
      if (size > KEPT && other !== number) this.kept.delete(other);
    }
    return texts;
  }

  async texts(place) {
    const chunk = this.chunkOf(place);
    return (await this.chunk(chunk))[place - this.index.starts[chunk]];
  }

  outcomes(place) {
    return this.index.sides.map((side) => side.outcomes[place]);
  }

  /** The row as a spreadsheet program numbers it in the first source that has it. */
  rowNumber(place) {
    const row = this.index.sides[0].rows[place];
    return row < 0 ? "–" : number.format(row + this.firstRow);
  }

  /** How much longer the longest reply is than the shortest, answer and reasoning together: 0 if equally long, 1 if one is missing. */
  lengthDifference(place) {
    const lengths = this.index.sides.map((side) => Math.max(side.answers[place], 0) + Math.max(side.reasonings[place], 0));
    const longest = Math.max(...lengths);
    return longest ? 1 - Math.min(...lengths) / longest : 0;
  }

  repetition(place) {
    return Math.max(...this.index.sides.map((side) => side.repetitions[place]));
  }
}

/** The order in which sources are shown in blind mode: shuffled for every question, and always in the same way. */
function shuffled(id, place, sides) {
  let state = 2166136261;
  for (const character of `${id}:${place}`) state = Math.imul(state ^ character.charCodeAt(0), 16777619);
  const random = () => {
    // mulberry32
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
  const order = [...Array(sides).keys()];
  for (let last = sides - 1; last > 0; last -= 1) {
    const other = Math.floor(random() * (last + 1));
    [order[last], order[other]] = [order[other], order[last]];
  }
  return order;
}
