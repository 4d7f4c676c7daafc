// One question with what its sources reply, side by side.

class QuestionView {
  constructor(data, view) {
    Object.assign(this, { data, view });
    this.element = make("main", { class: "question", tabindex: "-1" });
    this.drawn = 0;
  }

  async draw() {
    const run = ++this.drawn;
    const { place } = this.view;
    if (place === null) {
      this.element.replaceChildren(make("p", { class: "nothing" }, "Choose a question."));
      return;
    }
    const row = await this.data.texts(place);
    if (run !== this.drawn) return;
    const order = this.view.order();
    const sides = order.map((side, position) => this.side(row, side, position));
    const grid = make("div", { class: "sides", "data-sides": order.length }, ...sides);
    grid.style.setProperty("--sides", order.length);
    this.element.replaceChildren(this.head(row, place), grid);
    this.element.dataset.place = place;
    highlight(this.element, this.view.finding.wanted.text);
  }

  head(row, place) {
    const key = this.data.index.keys && this.data.index.keys[place];
    const label = key ? `${this.data.join} ${key}` : `Row ${this.data.rowNumber(place)}`;
    const veiled = this.view.blind ? this.data.veiled : [];
    const cells = this.data.columns.map((header, i) => [header, row.cells[i]]).filter(([, text], i) => text !== "" && !veiled.includes(i));
    return make("header", { class: "asked" },
      make("p", { class: "where" }, label),
      row.question.trim() ? textBlock(row.question, true) : make("p", { class: "aside" }, "This row has no question."),
      cells.length ? make("dl", { class: "cells" }, ...cells.map(([header, text]) => cell(header, text))) : null,
    );
  }

  side(row, side, position) {
    const given = row.sides[side];
    const outcome = this.data.index.sides[side].outcomes[this.view.place];
    const { verdict, best } = this.view.judgements.of(this.view.place);
    const state = verdict === "better" ? (best === side ? " best" : " worse") : verdict === "tie" ? " tied" : "";
    const replies = given ? given.replies : [];
    const card = make("section", { class: `side ${this.view.sideClass(side, position)}${state}`, "data-position": position + 1 });
    const body = make("div", { class: "reply" });
    const tabs = replies.length > 1 && !this.view.blind ? this.samples(given, body) : null;
    card.append(
      make("header", {},
        make("h2", { dir: "auto" }, make("kbd", {}, String(position + 1)), make("span", { class: "name" }, this.view.label(side, position)), state ? make("span", { class: "verdict" }, VERDICT_NAMES[state.trim()]) : null),
        make("p", { class: "facts" }, make("span", { class: `outcome ${outcome}` }, outcomeName(outcome)), ...this.facts(row, side)),
        ...this.bars(row, side),
        tabs,
      ),
      body,
    );
    if (replies.length) body.replaceChildren(...this.reply(replies[0]));
    else body.append(make("p", { class: "missing" }, this.missing(given, outcome)));
    return card;
  }

  /** What stands where no reply is; an error may name the model. */
  missing(given, outcome) {
    if (!given) return "Missing: this source has no such question.";
    if (given.error && !this.view.blind) return visible(given.error);
    return outcome === "missing" ? "Missing: there is no reply to this question." : `No reply: ${outcomeName(outcome)}.`;
  }

  samples({ replies, majority }, body) {
    const buttons = replies.map((reply, i) => make("button", {
      "aria-pressed": String(i === 0),
      onclick: () => {
        buttons.forEach((button, k) => button.setAttribute("aria-pressed", String(k === i)));
        body.replaceChildren(...this.reply(reply));
      },
    }, String(i + 1)));
    const voted = majority && make("span", { class: "voted" }, `${majority.votes} of ${majority.of} say what sample ${majority.sample} does`);
    return make("p", { class: "samples" }, "Sample ", ...buttons, voted);
  }

  reply(reply) {
    const parts = [];
    if (reply.reasoning.trim()) parts.push(this.folded("Reasoning", reply.reasoning, this.view.unfolded));
    parts.push(reply.answer.trim() ? textBlock(reply.answer, this.view.plain) : make("p", { class: "missing" }, "The answer is empty."));
    if (reply.raw && !this.view.blind) parts.push(this.folded("Whole reply, as it came", reply.raw, false, true));
    return parts;
  }

  /** A text that is put into the document when it is opened. */
  folded(title, text, open, plain = this.view.plain) {
    const details = make("details", { class: "reasoning" }, make("summary", {}, title, " ", make("span", {}, count([...text].length, "character"))));
    details.addEventListener("toggle", () => {
      if (!details.open || details.children.length > 1) return;
      details.append(textBlock(text, plain));
      highlight(this.element, this.view.finding.wanted.text);
    });
    details.open = open;
    return details;
  }

  facts(row, side) {
    const given = row.sides[side];
    if (!given || !given.figures) return [];
    const [, , ofAnswer, ofReasoning, longest] = given.figures;
    const { tokens } = given.replies[0];
    return [
      tokens && !this.view.blind ? make("span", {}, count(tokens, "token")) : null,
      repeats("answer", ofAnswer, longest),
      repeats("reasoning", ofReasoning, longest),
    ].filter(Boolean);
  }

  /** Lengths of answer and reasoning against the longest of all sources. */
  bars(row, side) {
    const given = row.sides[side];
    if (!given || !given.figures) return [];
    return ["answer", "reasoning"].map((what, i) => {
      const lengths = row.sides.filter((one) => one && one.figures).map((one) => one.figures[i]);
      const [longest, shortest, length] = [Math.max(...lengths), Math.min(...lengths), given.figures[i]];
      if (!longest) return null;
      const times = shortest > 0 ? length / shortest : 1;
      const more = times >= 10 ? `× ${number.format(Math.round(times))}` : times > 1 ? `+${Math.round((times - 1) * 100)} %` : "";
      return make("p", { class: "length" },
        make("span", { class: "what" }, what),
        make("span", { class: "track" }, bar(`fill of-${what}`, length / longest)),
        make("span", { class: "figure" }, number.format(length)),
        make("span", { class: "more", title: "longer than the shortest" }, more),
      );
    }).filter(Boolean);
  }
}

const VERDICT_NAMES = { best: "better", worse: "worse", tied: "tie" };

function cell(header, text) {
  const shown = visible(text.length > 3000 ? `${text.slice(0, 3000)}…` : text);
  return make("div", {}, make("dt", { dir: "auto", title: header }, visible(header)), make("dd", { lang: languageOf(shown), dir: "auto" }, shown));
}

function repeats(what, share, longest) {
  if (share < 0.05) return null;
  const title = `${percent(share)} of the ${what} repeats what it has said before; the longest span that is said twice has ${count(longest, "character")}`;
  return make("span", { class: share >= REPETITIVE ? "repeats much" : "repeats", title }, `↻ ${what} ${percent(share)}`);
}

/** Mark what is looked for, without touching the text. */
function highlight(element, wanted) {
  if (!window.CSS || !CSS.highlights) return;
  const terms = wanted.toLowerCase().split(/\s+/).filter(Boolean);
  const ranges = [];
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); terms.length && node && ranges.length < 2000; node = walker.nextNode()) {
    const within = node.data.toLowerCase();
    if (within.length !== node.data.length) continue;
    for (const term of terms) {
      for (let at = within.indexOf(term); at >= 0 && ranges.length < 2000; at = within.indexOf(term, at + term.length)) {
        const range = new Range();
        range.setStart(node, at);
        range.setEnd(node, at + term.length);
        ranges.push(range);
      }
    }
  }
  CSS.highlights.set("found", new Highlight(...ranges));
}
