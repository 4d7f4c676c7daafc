// The bars: what is compared and how far the judging is, above; what is listed, beside; the verdict, below.

class TopBar {
  constructor(data, view) {
    Object.assign(this, { data, view });
    this.names = make("h1", {});
    this.score = make("p", { class: "score" });
    this.done = make("span", { class: "done" });
    this.track = make("span", { class: "track" });
    this.blind = make("button", { class: "switch", "aria-pressed": "false", onclick: () => view.setBlind(!view.blind), title: "Hide and shuffle the names (b)" }, "Blind");
    this.element = make("header", { class: "top" },
      make("span", { class: "brand", lang: "ja" }, "答え"),
      this.names,
      make("div", { class: "progress" }, this.done, this.track, this.score),
      make("nav", {},
        this.blind,
        make("button", { id: "export", onclick: () => exportJudgements(view) }, "Export"),
        make("button", { id: "import", onclick: () => importJudgements(view) }, "Import"),
        make("button", { id: "save-page", onclick: () => savePage(view), title: "This page, with the judgements in it" }, "Save page"),
        make("button", { id: "help", onclick: () => view.help.toggle(), title: "Keys (?)", "aria-label": "Help" }, "?"),
      ),
    );
  }

  draw() {
    const { data, view } = this;
    const { best, ties, judged } = view.judgements.totals();
    this.names.replaceChildren(...(view.blind
      ? [make("span", { class: "veiled" }, view.veiledNames())]
      : data.sources.map(({ label, name }, i) => make("span", { class: `name side-${i % 6}`, title: name, dir: "auto" }, visible(label)))));
    this.done.textContent = `${number.format(judged)} of ${number.format(data.length)} judged`;
    this.track.replaceChildren(...(view.blind
      ? [bar("fill", judged / data.length)]
      : [...best.map((n, i) => bar(`fill side-${i % 6}`, n / data.length)), bar("fill tie", ties / data.length)]));
    this.score.replaceChildren(...(view.blind || !judged ? [] : [
      ...best.map((n, i) => make("span", { class: `side-${i % 6}`, title: visible(data.sources[i].label) }, number.format(n))),
      make("span", { class: "ties", title: "Ties" }, `= ${number.format(ties)}`),
    ]));
    this.blind.setAttribute("aria-pressed", String(view.blind));
    this.element.classList.toggle("unkept", !view.judgements.kept);
    if (!view.judgements.kept) this.done.textContent += " · this browser keeps nothing: export before you close";
  }
}

class SideBar {
  constructor(data, view) {
    Object.assign(this, { data, view });
    const { finding } = view;
    this.search = make("input", { type: "search", placeholder: "Search questions, columns and replies", "aria-label": "Search", spellcheck: "false", autocomplete: "off" });
    let waiting;
    this.search.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => finding.change({ text: this.search.value }), 160);
    });
    this.count = make("p", { class: "count", role: "status" });
    this.judged = make("select", { "aria-label": "Judgement", onchange: () => finding.change({ judged: this.judged.value }) });
    leaving(this.judged);
    this.columns = data.index.filters.map((filter) => this.column(filter));
    this.telling = this.columns.filter((_, i) => data.veiled.includes(data.index.filters[i].column));
    this.element = make("aside", { class: "aside-bar" },
      make("div", { class: "filters" },
        this.search,
        make("div", { class: "selects" }, this.outcome(), this.judged, this.order()),
        this.columns.length ? make("details", { class: "columns", open: this.columns.length <= 4 && window.innerWidth > 820 }, make("summary", {}, "Columns"), make("div", { class: "selects" }, ...this.columns)) : null,
        this.count,
      ),
      view.list.element,
    );
  }

  outcome() {
    const counts = new Map();
    for (let place = 0; place < this.data.length; place += 1) {
      const outcomes = new Set(this.data.outcomes(place));
      if (outcomes.size > 1) outcomes.add("differ");
      for (const outcome of outcomes) counts.set(outcome, (counts.get(outcome) || 0) + 1);
    }
    const names = [...counts.keys()].filter((outcome) => outcome !== "differ").sort((one, other) => counts.get(other) - counts.get(one));
    const options = names.map((outcome) => option(outcome, `${outcomeName(outcome)} (${number.format(counts.get(outcome))})`));
    if (counts.has("differ")) options.push(option("differ", `outcomes differ (${number.format(counts.get("differ"))})`));
    return this.select("Outcome", [option("", "Any outcome"), ...options], (value) => ({ outcome: value }));
  }

  order() {
    return this.select("Order", Object.entries(ORDERS).map(([value, name]) => option(value, name)), (value) => ({ order: value }));
  }

  column(filter) {
    const header = this.data.columns[filter.column];
    const counts = filter.values.map(() => 0);
    for (const code of filter.codes) counts[code] += 1;
    const values = filter.values.map((value, code) => option(code, `${visible(value) || "(empty)"} (${number.format(counts[code])})`));
    const select = make("select", { "aria-label": header, "data-column": header, dir: "auto" }, option("", `${visible(header)}: any`), ...values);
    select.addEventListener("change", () => {
      const columns = new Map(this.view.finding.wanted.columns);
      if (select.value === "") columns.delete(filter);
      else columns.set(filter, Number(select.value));
      select.classList.toggle("set", select.value !== "");
      this.view.finding.change({ columns });
    });
    return leaving(select);
  }

  /** Hide a column that tells of one source's reply, and list by it no more. */
  veil(select, blind) {
    select.hidden = blind;
    if (!blind || select.value === "") return;
    select.value = "";
    select.dispatchEvent(new Event("change"));
  }

  select(label, options, changes) {
    const [first] = options;
    const select = make("select", { "aria-label": label }, ...options);
    select.addEventListener("change", () => {
      select.classList.toggle("set", select.value !== first.value);
      this.view.finding.change(changes(select.value));
    });
    return leaving(select);
  }

  draw() {
    const { finding, blind } = this.view;
    const { places, progress } = finding;
    for (const select of this.telling) this.veil(select, blind);
    const searching = progress < 1 ? ` · searched ${percent(progress)}` : "";
    this.count.textContent = (places.length === this.data.length ? count(places.length, "question") : `${number.format(places.length)} of ${count(this.data.length, "question")}`) + searching;
    // Who won tells who is who
    const winners = blind ? [] : [...this.data.sources.map(({ label }, i) => option(i, `${visible(label)} better`)), option("tie", "tie")];
    const chosen = this.judged.value;
    this.judged.replaceChildren(option("", "Judged or not"), option("no", "to judge"), option("yes", "judged"), option("note", "with a note"), ...winners);
    this.judged.value = chosen;
    if (this.judged.value !== chosen) {
      this.judged.value = "";
      finding.change({ judged: "" });
    }
    this.judged.classList.toggle("set", this.judged.value !== "");
  }
}

class VerdictBar {
  constructor(data, view) {
    Object.assign(this, { data, view });
    this.note = make("textarea", { rows: "1", placeholder: "Note (n)", "aria-label": "Note", dir: "auto" });
    this.note.addEventListener("input", () => this.view.judge({ note: this.note.value }));
    this.buttons = make("div", { class: "verdicts", role: "group", "aria-label": "Verdict" });
    this.element = make("footer", { class: "verdict-bar" },
      make("button", { class: "step", onclick: () => view.step(-1), title: "Previous (k)", "aria-label": "Previous" }, "↑"),
      make("button", { class: "step", onclick: () => view.step(1), title: "Next (j)", "aria-label": "Next" }, "↓"),
      this.buttons,
      this.note,
    );
  }

  draw() {
    const { view } = this;
    const { place } = view;
    this.element.hidden = place === null;
    if (place === null) return;
    const { verdict, best, note } = view.judgements.of(place);
    const order = view.order();
    const choices = [
      ...order.map((side, position) => this.choice(position + 1, view.label(side, position), view.sideClass(side, position), verdict === "better" && best === side, "better")),
      this.choice(order.length + 1, "Tie", "tie", verdict === "tie", ""),
    ];
    this.buttons.replaceChildren(...choices);
    if (this.note.value !== note && document.activeElement !== this.note) this.note.value = note;
  }

  choice(digit, name, className, pressed, what) {
    const title = what ? `${name} is better` : "No one is better";
    return make("button", { class: `choice ${className}`, "aria-pressed": String(pressed), title, onclick: () => this.view.choose(digit) },
      make("kbd", {}, String(digit)), make("span", { class: "name", dir: "auto" }, name), what ? make("span", { class: "what" }, what) : null);
  }
}

/** Give the keys back to the page after a choice with the mouse; who chooses with the keyboard is not done yet. */
function leaving(select) {
  let pointed = false;
  select.addEventListener("pointerdown", () => { pointed = true; });
  select.addEventListener("keydown", () => { pointed = false; });
  select.addEventListener("change", () => { if (pointed) select.blur(); });
  return select;
}

const option = (value, name) => make("option", { value: String(value) }, name);
