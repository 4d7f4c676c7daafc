// Files that go out of the page and come into it.

function save(parts, name, type) {
  const address = URL.createObjectURL(new Blob(parts, { type }));
  const link = make("a", { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

async function exportJudgements(view) {
  const value = await view.judgements.exported();
  save([`${JSON.stringify(value, null, 1)}\n`], `judgements-${view.data.id}.json`, "application/json");
  view.say(`${count(value.judgements.length, "judgement")} exported.`);
}

function importJudgements(view) {
  const input = make("input", { type: "file", accept: "application/json,.json" });
  input.addEventListener("change", async () => {
    try {
      const { taken, older, others } = view.judgements.imported(JSON.parse(await input.files[0].text()));
      const left = [older ? `${number.format(older)} are here already, or newer` : "", others ? `${number.format(others)} are about other replies` : ""].filter(Boolean);
      view.say([`${count(taken, "judgement")} taken in`, ...left].join("; ") + ".");
    } catch (error) {
      view.say(error instanceof SyntaxError ? "This file is not JSON." : error.message);
    }
  });
  input.click();
}

/** The page as it was made, with the judgements in it. */
function savePage(view) {
  const judgements = JSON.stringify(view.judgements.pairs()).replace(/</g, "\\u003c");
  const parts = ["<!doctype html>\n<html lang=\"en\">\n", view.pristine.head, "\n<body>\n", view.pristine.opening, "\n"];
  for (const script of document.querySelectorAll("body > script")) {
    parts.push(script.id === "judgements" ? `\x3cscript type="application/json" id="judgements">${judgements}\x3c/script>` : script.outerHTML, "\n");
  }
  parts.push("</body>\n</html>\n");
  save(parts, `comparison-${view.data.id}.html`, "text/html");
}
