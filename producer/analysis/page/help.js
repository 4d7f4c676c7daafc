// The keys, on a sheet that ? opens.

const KEYS = [
  ["j  k", "next, previous question"],
  ["x", "next question that is not judged"],
  ["1  2  …", "this one is better"],
  ["one more", "tie: with two sources it is 3; t or 0 as well"],
  ["u", "take the verdict back"],
  ["n", "write a note; Esc leaves it"],
  ["/", "search; Esc leaves it"],
  ["r", "unfold and fold the reasoning"],
  ["m", "Markdown, or the text as it came"],
  ["b", "blind: names hidden, order shuffled"],
  ["a", "go on by itself after a verdict"],
  ["?", "this help"],
];

class Help {
  constructor() {
    this.dialog = make("dialog", { class: "help" },
      make("h2", {}, "Keys"),
      make("dl", {}, ...KEYS.map(([keys, what]) => make("div", {}, make("dt", {}, ...keys.split("  ").map((key) => make("kbd", {}, key))), make("dd", {}, what)))),
      make("p", {}, "Judgements stay in this browser. Export gives them as a file; Save page gives this page with them inside. Nothing leaves this page by itself."),
      make("form", { method: "dialog" }, make("button", { autofocus: true, onclick: (event) => { event.preventDefault(); this.dialog.close(); } }, "Close")),
    );
  }

  toggle() {
    if (this.dialog.open) this.dialog.close();
    else this.dialog.showModal();
  }
}
