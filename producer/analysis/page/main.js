// The page as a whole: where one is, what is hidden, and who is told when something changes.

class View {
  constructor(data, judgements, pristine) {
    Object.assign(this, { data, judgements, pristine });
    this.place = null;
    this.title = document.title;
    this.blind = remembered("blind", false);
    this.goingOn = remembered("goingOn", false);
    this.unfolded = false;
    this.plain = false;
    this.finding = new Finding(data, judgements);
    this.list = new List(data, judgements, this, this.finding);
    this.question = new QuestionView(data, this);
    this.help = new Help();
    this.topBar = new TopBar(data, this);
    this.sideBar = new SideBar(data, this);
    this.verdictBar = new VerdictBar(data, this);
    this.told = make("div", { class: "told", role: "status" });
    judgements.watchers.push(() => this.drawJudged());
    this.finding.watchers.push(() => this.found());
  }

  /** The name of the tab: those of the sources, unless they are hidden. */
  draw() {
    document.title = this.blind ? this.veiledNames() : this.title;
    this.topBar.draw();
  }

  veiledNames() {
    return `${count(this.data.sources.length, "source")}, names hidden`;
  }

  async open() {
    const app = document.getElementById("app");
    app.replaceChildren(this.topBar.element, this.sideBar.element, this.question.element, this.verdictBar.element, this.told, this.help.dialog);
    document.body.classList.add("opened");
    this.draw();
    await this.finding.find();
    this.go(this.placeInAddress() ?? this.finding.places[0] ?? null);
    window.addEventListener("hashchange", () => { const place = this.placeInAddress(); if (place !== null) this.go(place); });
    listenToKeys(this);
  }

  placeInAddress() {
    const place = Number(/^#(\d+)$/.exec(location.hash)?.[1] ?? NaN) - 1;
    return place >= 0 && place < this.data.length ? place : null;
  }

  go(place) {
    if (place === this.place) return;
    this.place = place;
    if (document.activeElement === this.verdictBar.note) this.verdictBar.note.blur();
    if (place !== null) history.replaceState(null, "", `#${place + 1}`);
    this.list.reveal();
    this.list.draw();
    this.question.element.scrollTop = 0;
    this.verdictBar.draw();
    return this.question.draw();
  }

  found() {
    this.sideBar.draw();
    this.list.draw();
    const { places, progress } = this.finding;
    if (progress === 1 && this.place !== null && !places.includes(this.place) && places.length) this.go(places[0]);
    else if (progress === 1) { this.list.reveal(); highlight(this.question.element, this.finding.wanted.text); }
  }

  step(by) {
    const { places } = this.finding;
    const at = places.indexOf(this.place);
    const next = at < 0 ? 0 : at + by;
    if (next >= 0 && next < places.length) this.go(places[next]);
  }

  nextToJudge() {
    const { places } = this.finding;
    const at = places.indexOf(this.place);
    const next = [...places.slice(at + 1), ...places.slice(0, at + 1)].find((place) => !this.judgements.isJudged(place));
    if (next === undefined) this.say("All that are listed are judged.");
    else this.go(next);
  }

  /** The order in which sources stand. */
  order() {
    return this.blind ? shuffled(this.data.id, this.place, this.data.sources.length) : [...this.data.sources.keys()];
  }

  label(side, position) {
    return this.blind ? `Reply ${String.fromCharCode(65 + position)}` : visible(this.data.sources[side].label);
  }

  sideClass(side, position) {
    return `side-${(this.blind ? position : side) % 6}`;
  }

  /** Key 1 is the one shown first; the key after the last is a tie. The same key again takes the verdict back. */
  choose(digit) {
    if (this.place === null) return;
    const order = this.order();
    if (digit > order.length + 1) return;
    const verdict = digit > order.length ? "tie" : "better";
    const best = verdict === "better" ? order[digit - 1] : null;
    const known = this.judgements.of(this.place);
    if (known.verdict === verdict && known.best === best) {
      this.judge({ verdict: null, best: null });
      return;
    }
    this.judge({ verdict, best });
    if (this.goingOn) this.nextToJudge();
  }

  judge(changes) {
    if (this.place !== null) this.judgements.change(this.place, changes, this.blind);
  }

  drawJudged() {
    this.topBar.draw();
    this.verdictBar.draw();
    this.list.draw();
    const { verdict, best } = this.place === null ? {} : this.judgements.of(this.place);
    this.order().forEach((side, position) => {
      const card = this.question.element.querySelector(`[data-position="${position + 1}"]`);
      if (!card) return;
      const state = verdict === "better" ? (best === side ? "best" : "worse") : verdict === "tie" ? "tied" : "";
      card.classList.remove("best", "worse", "tied");
      card.querySelector(".verdict")?.remove();
      if (!state) return;
      card.classList.add(state);
      card.querySelector("h2").append(make("span", { class: "verdict" }, VERDICT_NAMES[state]));
    });
  }

  setBlind(blind) {
    this.blind = blind;
    remember("blind", blind);
    this.draw();
    this.sideBar.draw();
    this.list.draw();
    this.verdictBar.draw();
    this.question.draw();
  }

  toggle(what) {
    this[what] = !this[what];
    this.question.draw();
  }

  toggleGoingOn() {
    this.goingOn = !this.goingOn;
    remember("goingOn", this.goingOn);
    this.say(this.goingOn ? "After a verdict the next question comes by itself." : "After a verdict the question stays.");
  }

  say(text) {
    this.told.textContent = text;
    this.told.classList.add("shown");
    clearTimeout(this.saying);
    this.saying = setTimeout(() => this.told.classList.remove("shown"), 5000);
  }
}

function remembered(what, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(`kotae.${what}`)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

function remember(what, value) {
  try {
    localStorage.setItem(`kotae.${what}`, JSON.stringify(value));
  } catch {
    // it is a matter of comfort
  }
}

async function main() {
  const app = document.getElementById("app");
  const pristine = { head: document.head.outerHTML, opening: app.outerHTML };
  try {
    const data = await Data.open();
    await new View(data, new Judgements(data, block("judgements")), pristine).open();
  } catch (error) {
    app.replaceChildren(make("p", { class: "opening" }, `This page cannot be shown here: ${error.message}. It needs a browser of 2023 or newer.`));
    throw error;
  }
}

main();
