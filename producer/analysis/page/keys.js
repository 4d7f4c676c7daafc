// The keyboard.

function listenToKeys(view) {
  const keys = {
    j: () => view.step(1),
    k: () => view.step(-1),
    ArrowDown: () => view.step(1),
    ArrowUp: () => view.step(-1),
    x: () => view.nextToJudge(),
    t: () => view.choose(view.data.sources.length + 1),
    0: () => view.choose(view.data.sources.length + 1),
    u: () => view.judge({ verdict: null, best: null }),
    n: () => view.verdictBar.note.focus(),
    "/": () => view.sideBar.search.select(),
    r: () => view.toggle("unfolded"),
    m: () => view.toggle("plain"),
    b: () => view.setBlind(!view.blind),
    a: () => view.toggleGoingOn(),
    "?": () => view.help.toggle(),
  };
  document.addEventListener("keydown", (event) => {
    const writing = event.target.closest("input, textarea, select");
    if (event.key === "Escape" && writing) writing.blur();
    if (writing || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (view.help.dialog.open && event.key !== "?") return;
    // Arrows scroll what they are in; in the list they move
    if (event.key.startsWith("Arrow") && event.target !== view.list.element) return;
    const digit = /^[1-9]$/.test(event.key) ? Number(event.key) : 0;
    const act = digit ? () => view.choose(digit) : keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
}
