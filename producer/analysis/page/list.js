// The list of questions. Only those in sight are in the document, so that a hundred thousand cost what ten do.

/** Pixels of an item; page.css knows it as well. */
const ITEM = 76;
/** Browsers know no element of more than some 30 million pixels; a longer list is moved by its share instead. */
const TALLEST = 15e6;

class List {
  constructor(data, judgements, view, finding) {
    Object.assign(this, { data, judgements, view, finding });
    this.space = make("div", { class: "space" });
    this.element = make("div", { class: "list", role: "listbox", "aria-label": "Questions", tabindex: "0" }, this.space);
    this.element.addEventListener("scroll", () => this.draw(), { passive: true });
    this.element.addEventListener("click", (event) => {
      const item = event.target.closest("[data-place]");
      if (item) view.go(Number(item.dataset.place));
    });
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  height() {
    return Math.min(this.finding.places.length * ITEM, TALLEST);
  }

  /** Which item stands at the top: a whole number where every item has its room. */
  top() {
    const all = this.finding.places.length * ITEM;
    const room = this.element.clientHeight;
    const scrolled = this.element.scrollTop;
    return all <= TALLEST ? scrolled / ITEM : ((scrolled / Math.max(this.height() - room, 1)) * Math.max(all - room, 0)) / ITEM;
  }

  draw() {
    const { places } = this.finding;
    this.element.dataset.count = places.length;
    this.space.style.height = `${this.height()}px`;
    const top = this.top();
    const first = Math.max(0, Math.floor(top) - 4);
    const last = Math.min(places.length, Math.ceil(top + this.element.clientHeight / ITEM) + 4);
    const items = [];
    for (let at = first; at < last; at += 1) {
      const item = this.item(places[at]);
      item.style.transform = `translateY(${this.element.scrollTop + (at - top) * ITEM}px)`;
      items.push(item);
    }
    this.space.replaceChildren(...items);
    if (!places.length) this.space.replaceChildren(make("p", { class: "nothing" }, this.finding.progress < 1 ? "Searching …" : "No question is like that."));
  }

  item(place) {
    const { data } = this;
    const excerpt = data.index.excerpts[place];
    const current = place === this.view.place;
    const outcomes = [...new Set(data.outcomes(place))].filter((outcome) => outcome !== "answered");
    const repetition = data.repetition(place);
    return make(
      "div",
      { class: `item${current ? " current" : ""}`, role: "option", "aria-selected": String(current), "data-place": place },
      make("div", { class: "line" },
        make("span", { class: "row" }, data.rowNumber(place)),
        ...outcomes.map((outcome) => make("span", { class: `outcome ${outcome}` }, outcomeName(outcome))),
        repetition >= REPETITIVE ? make("span", { class: "outcome repeats", title: "Share of what is said again" }, `↻ ${percent(repetition)}`) : null,
        this.judgements.of(place).note.trim() ? make("span", { class: "noted", title: "Has a note" }, "✎") : null,
        this.mark(place),
      ),
      make("div", { class: "excerpt", lang: languageOf(excerpt), dir: "auto" }, visible(excerpt) || "(no question)"),
    );
  }

  /** What was judged; who won is nobody's business in blind mode. */
  mark(place) {
    const { verdict, best } = this.judgements.of(place);
    if (verdict === null) return make("span", { class: "mark", title: "Not judged" });
    if (this.view.blind) return make("span", { class: "mark done", title: "Judged" }, "✓");
    if (verdict === "tie") return make("span", { class: "mark tie", title: "Tie" }, "=");
    return make("span", { class: `mark best side-${best % 6}`, title: `${this.data.sources[best].label} is better` }, String(best + 1));
  }

  /** Bring the current question into sight, with as little moving as possible. */
  reveal() {
    const at = this.finding.places.indexOf(this.view.place);
    if (at < 0) return;
    const room = this.element.clientHeight;
    const all = this.finding.places.length * ITEM;
    if (all > TALLEST) {
      this.element.scrollTop = ((at * ITEM) / Math.max(all - room, 1)) * (this.height() - room);
    } else if (at * ITEM < this.element.scrollTop) {
      this.element.scrollTop = at * ITEM;
    } else if ((at + 1) * ITEM > this.element.scrollTop + room) {
      this.element.scrollTop = (at + 1) * ITEM - room;
    }
  }
}

/** From this share on repetition is worth a look. */
const REPETITIVE = 0.2;
